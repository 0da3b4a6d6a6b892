"""Transfers of neighbouring iterations that a block makes as one.

The tiles of U iterations stand one behind the other in their buffer. In global memory they may

* lie at addresses that grow by the same step, whatever it is, with extents that stay: then one transfer has a dimension
  more, which counts iterations;
* go on where the one before ends, along their last dimension: then one transfer has U times that extent. A limit on it,
  as a mask gives, may shrink from tile to tile by what a tile has: it is that of the first tile, for all of them.

Index arithmetic is taken not to overflow, as where tiles are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlutriton.codegen.pipeline_plan import Definitions
from mlutriton.codegen.tile_code import Loop, Node, TileCode, instructions, registers_read, written_register
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction

_TRANSFERS = ("dma.load", "dma.load_pad", "dma.store")


@dataclass(frozen=True)
class NewDimension:
    """The iterations of a block are counted by a dimension of the transfer, 1 or 2, that it has no use for."""

    dimension: int


@dataclass(frozen=True)
class LongerDimension:
    """The tiles of a block follow each other along a dimension of the transfer.

    Attributes:
        dimension: which.
        extent: elements that a tile has along it.
        rest: elements from a tile's begin to the limit; None if there is no limit.
    """

    dimension: int
    extent: int
    rest: Register | None


Merge = NewDimension | LongerDimension

# How much a number grows from one iteration to the next: coefficients of products of registers that stay the same.
_Step = dict[tuple[Register, ...], int]


class Merging:
    """Which transfers of a loop can be merged."""

    def __init__(self, code: TileCode, loop: Loop, definitions: Definitions) -> None:
        self.code, self.loop, self.definitions = code, loop, definitions
        self.varying: dict[Register, bool] = {}
        self.copies = {
            register: each.operands[1]
            for each in instructions(code.nodes)
            if each.row.name in ("mov", "sext") and (register := written_register(each)) is not None
        }

    def merge(self, node: Node) -> Merge | None:
        """How a transfer can be merged with those of the next iterations."""
        if not isinstance(node, Instruction) or node.row.name not in _TRANSFERS:
            return None
        is_store = node.row.name == "dma.store"
        local, place = node.operand("src" if is_store else "dst"), node.operand("dst" if is_store else "src")
        assert isinstance(local, Address)
        assert isinstance(place, GlobalAddress)
        step = self._step(place.register)
        if local.register is not None or local.offset_bytes or step is None:
            return None
        return self._longer(node, local, step) or self._new(node, local, step)

    def _longer(self, node: Instruction, local: Address, step: _Step) -> LongerDimension | None:
        last = max((d for d in range(3) if node.operand(f"n{d}") != Immediate(1)), default=0)
        extent = self._tile_extent(node, local, last)
        stride = _Step({(): 1}) if last == 0 else self._form(node.operand(f"global{last}"))
        size = node.dtypes[0].bytes
        if extent is None or step != {registers: size * extent * factor for registers, factor in stride.items()}:
            return None
        name = f"valid{last}" if node.row.name == "dma.load_pad" else f"n{last}"
        limit = node.operand(name)
        if self._others_vary(node, limit):
            return None
        if limit == Immediate(extent):
            return LongerDimension(last, extent, None)
        rest = self._rest(limit, extent)
        return None if rest is None else LongerDimension(last, extent, rest)

    def _tile_extent(self, node: Instruction, local: Address, dimension: int) -> int | None:
        """Elements along the last dimension of a whole tile, if the next one follows it in the buffer."""
        elements = self.code.buffers[local.buffer].bytes // node.dtypes[0].bytes
        if node.row.name == "dma.load_pad":
            extents = [node.operand(f"n{k}") for k in range(dimension + 1)]
            known = [int(each.value) for each in extents if isinstance(each, Immediate)]
            return known[-1] if len(known) == dimension + 1 and math.prod(known) == elements else None
        stride = node.operand(f"local{dimension}") if dimension else Immediate(1)
        if not isinstance(stride, Immediate) or not int(stride.value) or elements % int(stride.value):
            return None
        return elements // int(stride.value)

    def _rest(self, limit: Operand, extent: int) -> Register | None:
        """What is left, in a limit that is the least of this and of the extent but not negative."""
        bounds = {"smax": Immediate(0), "smin": Immediate(extent)}
        while bounds:
            definition = self.definitions.scalar.get(limit) if isinstance(limit, Register) else None
            if definition is None or bounds.pop(definition.row.name, None) != definition.operands[2]:
                return None
            limit = definition.operands[1]
        return limit if isinstance(limit, Register) and self._step(limit) == {(): -extent} else None

    def _new(self, node: Instruction, local: Address, step: _Step) -> NewDimension | None:
        dimension = next((d for d in (1, 2) if all(node.operand(f"n{k}") == Immediate(1) for k in range(d, 3))), None)
        if dimension is None or self._others_vary(node):
            return None
        if node.row.name == "dma.load_pad" and self._tile_extent(node, local, dimension - 1) is None:
            return None
        return NewDimension(dimension) if math.gcd(*step.values()) % node.dtypes[0].bytes == 0 else None

    def _others_vary(self, node: Instruction, but: Operand | None = None) -> bool:
        """True if anything but the place and one operand differs by iteration."""
        return any(isinstance(each, Register) and each != but and self._varies(each) for each in node.operands)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _varies(self, register: Register) -> bool:
        if register == self.loop.index:
            return True
        if register not in self.varying:
            definition = self.definitions.scalar.get(register)
            self.varying[register] = definition is not None and any(map(self._varies, registers_read(definition)))
        return self.varying[register]

    def _form(self, operand: Operand) -> _Step:
        """An operand that stays the same."""
        while isinstance(operand, Register) and operand in self.copies:
            operand = self.copies[operand]
        if isinstance(operand, Register):
            return {(operand,): 1}
        assert isinstance(operand, Immediate)
        return {(): int(operand.value)} if operand.value else {}

    def _step(self, operand: Operand) -> _Step | None:
        """By how much an operand grows from one iteration to the next; None if that differs or is not known."""
        if operand == self.loop.index:
            return {(): 1} if self.loop.independent else self._form(self.loop.step)
        if not isinstance(operand, Register) or not self._varies(operand):
            return {}
        definition = self.definitions.scalar[operand]
        sources = definition.operands[1:]
        steps = [self._step(each) for each in sources]
        match definition.row.name, steps:
            case "add", [dict(a), dict(b)]:
                return _sum(a, b, 1)
            case "sub", [dict(a), dict(b)]:
                return _sum(a, b, -1)
            case "mov" | "sext", [step]:
                return step
            case "mul", [dict(a), dict(b)] if not b:
                return _product(a, self._form(sources[1]))
            case "mul", [dict(a), dict(b)] if not a:
                return _product(b, self._form(sources[0]))
            case _:
                return None


def _sum(a: _Step, b: _Step, sign: int) -> _Step:
    total = {key: a.get(key, 0) + sign * b.get(key, 0) for key in {*a, *b}}
    return {key: factor for key, factor in total.items() if factor}


def _product(a: _Step, b: _Step) -> _Step:
    total: _Step = {}
    for one, factor in a.items():
        for other, times in b.items():
            key = tuple(sorted((*one, *other), key=lambda register: register.index))
            total[key] = total.get(key, 0) + factor * times
    return {key: factor for key, factor in total.items() if factor}
