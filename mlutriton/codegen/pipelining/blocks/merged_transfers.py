"""Transfers of neighbouring iterations that a block makes as one.

The tiles of U iterations stand one behind the other in their buffer. In global memory they may

* lie at addresses that grow by the same step, whatever it is: then one transfer has a dimension more, which counts
  iterations. All have the same extents; where masks cut some of the tiles, those go together that are cut alike;
* go on where the one before ends, along their last dimension: then one transfer has U times that extent. A limit on it,
  as a mask gives, may shrink from tile to tile by what a tile has: it is that of the first tile, for all of them;
* lie anywhere if they are items of gathers and scatters from one place, whose offsets follow each other like the tiles.

Programs of a grid with several axes are neighbours if they lie on one line along its first axis: what differs from line
to line is the same for them.

Index arithmetic is taken not to overflow, as where tiles are found.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.whole_tiles import NONE, SameNumber, SameQuotient, Test, Tests, WholeTiles
from mlutriton.codegen.pipelining.pipeline_plan import Definitions
from mlutriton.codegen.tile_code import (
    Emitter,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    instructions,
    registers_set,
)
from mlutriton.immutables import replace
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.isa.expression import evaluate, parse
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction

_TRANSFERS = ("dma.load", "dma.load_pad", "dma.store")
_ITEMS = ("GATHER", "SCATTER", "ATOMIC_VECTOR")


@dataclass(frozen=True)
class Limit:
    """What a mask leaves of a tile along a dimension.

    Attributes:
        extent: elements of a tile that it does not touch.
        rest: elements from the tile's begin to the limit, linear in the iteration.
    """

    extent: int
    rest: Register


@dataclass(frozen=True)
class NewDimension:
    """The iterations of a block are counted by a dimension of the transfer, 1 or 2, that it has no use for.

    Attributes:
        dimension: which.
        whole: what has to hold in the first and the last iteration for masks to leave the same of all tiles, and for
            their places to be evenly spaced; only then they go together.
        is_local: they are evenly spaced within such a block alone.
    """

    dimension: int
    whole: Tests = NONE
    is_local: bool = False


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


@dataclass(frozen=True)
class MoreItems:
    """A gather, a scatter or atomics take the items of all iterations of a block.

    Attributes:
        items: of one iteration.
    """

    items: int


Merge = NewDimension | LongerDimension | MoreItems


def joined(
    emitter: Emitter,
    node: Instruction,
    merge: Merge,
    members: ScalarOperand,
    tile_bytes: Mapping[str, int],
    step: ScalarOperand | None,
    rest: ScalarOperand | None,
) -> Instruction:
    """A transfer for several iterations, as that of the first of them.

    Args:
        emitter: takes the scalar arithmetic that is needed before it.
        node: the transfer of one.
        merge: how theirs are merged.
        members: how many they are.
        tile_bytes: of one, by the name of a buffer.
        step: for a new dimension, elements from one place in global memory to the next.
        rest: for a longer dimension with a limit, the first one's elements to the limit.
    """
    if isinstance(merge, MoreItems):
        return with_operands(node, {"n": emitter.integer("mul", members, Immediate(merge.items))})
    dimension, changed = merge.dimension, dict[str, Operand]()
    if isinstance(merge, NewDimension):
        assert step is not None
        changed |= {f"n{dimension}": members, f"global{dimension}": step}
        if node.row.name == "dma.load_pad":
            changed[f"valid{dimension}"] = members
        else:
            ((buffer, _),) = node.buffers
            changed[f"local{dimension}"] = Immediate(tile_bytes[buffer] // node.dtypes[0].bytes)
        return with_operands(node, changed)
    extent = valid = emitter.integer("mul", members, Immediate(merge.extent))
    if rest is not None:
        valid = emitter.integer("smax", emitter.integer("smin", rest, extent), Immediate(0))
    return with_operands(node, {f"n{dimension}": extent, limiting(node, dimension): valid})


def with_operands(instruction: Instruction, changed: Mapping[str, Operand]) -> Instruction:
    """The instruction with some of its operands changed, by their names."""
    operands = list(instruction.operands)
    for name, operand in changed.items():
        operands[instruction.row.slot_index[name]] = operand
    return instruction.taking(operands)


def limiting(node: Instruction, dimension: int) -> str:
    """The name of the operand that says how many elements along a dimension are transferred."""
    return f"valid{dimension}" if node.row.name == "dma.load_pad" else f"n{dimension}"


def _limits(node: Instruction) -> frozenset[str]:
    """The names of all operands that say how many elements are transferred."""
    return frozenset(limiting(node, dimension) for dimension in range(3))


Step = dict[tuple[Register, ...], int]
"""How much a number grows from one iteration to the next: coefficients of products of registers that stay the same."""


def linear_definitions(nodes: Sequence[Node]) -> dict[Register, Instruction]:
    """By register, what sets it, where that is a copy or a multiple of another register wherever it is set."""
    found: dict[Register, Instruction] = {}
    others: set[Register] = set()
    for each in instructions(nodes):
        register = each.written_register
        if register is None:
            continue
        known = found.setdefault(register, each)
        # The sides of a branch may set one to different numbers.
        if each.row.name not in ("mov", "sext", "mul") or (known.row, known.operands) != (each.row, each.operands):
            others.add(register)
    return {register: each for register, each in found.items() if register not in others}


class Merging:
    """Which transfers of a loop can be merged."""

    def __init__(
        self,
        code: TileCode,
        loop: Loop,
        definitions: Definitions,
        members: Collection[str],
        linear: Mapping[Register, Instruction],
    ) -> None:
        self.code, self.loop, self.definitions, self.members = code, loop, definitions, members
        self.linear = linear
        self.set_inside = registers_set(loop.body)
        # What the loop carries, or finds out otherwise than by arithmetic, may be anything in its next iteration.
        self.unknown = {*definitions.opaque, *(register for register, _ in loop.carried)}
        self.varying: dict[Register, bool] = {}
        # By result, what has to hold for it to grow evenly; None if nothing may be asked.
        self.conditions: dict[Register, Test] | None = None

    def merge(self, node: Node, *, in_places: bool = False) -> Merge | None:
        """How a transfer can be merged with those of the next iterations.

        Args:
            node: the transfer.
            in_places: it may be that this can be done only where quotients of numbers are the same, or the same one of
                two numbers is the least.
        """
        if isinstance(node, Instruction) and node.row.trace in _ITEMS:
            return self._more_items(node)
        found = self._even(node)
        if found is not None:
            return self._longer(*found) or self._new(*found)
        if not in_places:
            return None
        # What masks leave of a tile may be made of such numbers as well as its place.
        self.conditions = {}
        found = self._even(node)
        new = self._new(*found) if found else None
        conditions, self.conditions = self.conditions, None
        return new and replace(new, whole=new.whole | {*conditions.values()}, is_local=True)

    def longer(self, node: Node) -> LongerDimension | None:
        """How the tiles of a transfer continue each other, if they do."""
        found = self._even(node)
        return self._longer(*found) if found else None

    def _even(self, node: Node) -> tuple[Instruction, Address, Step] | None:
        """A transfer with its place on chip and the step of its place in global memory, if that is always the same."""
        if not isinstance(node, Instruction) or node.row.name not in _TRANSFERS:
            return None
        is_store = node.row.name == "dma.store"
        local, place = node.operand("src" if is_store else "dst"), node.operand("dst" if is_store else "src")
        assert isinstance(local, Address)
        assert isinstance(place, GlobalAddress)
        step = self.step(place.register)
        if not local.is_at_begin or step is None:
            return None
        if any(register in self.set_inside for registers in step for register in registers):
            return None  # The step differs from line to line, or from one iteration of a loop within to the next.
        return node, local, step

    def _same(self, operand: Operand) -> Tests | None:
        """What has to hold at the ends for a number to be the same in all iterations; None if that cannot be told."""
        # Kept, it and this would hold each other, and all of the code with them.
        return WholeTiles(self.definitions.scalar, lambda one: self.step(one) is not None, self._varies).same(operand)

    def _more_items(self, node: Instruction) -> MoreItems | None:
        counts = node.known_counts
        if self._others_vary(node) or "n" not in counts or "length" not in counts:
            return None
        if any(isinstance(each, GlobalAddress) and self._varies(each.register) for each in node.operands):
            return None  # Offsets of other iterations count from other places.
        for slot, operand in zip(node.row.slots, node.operands, strict=True):
            if isinstance(operand, Address):
                span = evaluate(parse(slot.span), counts) * node.dtype_of(slot).bytes
                is_whole = operand.is_at_begin and operand.mode is Mode.FULL
                if (
                    not is_whole
                    or operand.buffer not in self.members
                    or span != self.code.buffers[operand.buffer].bytes
                ):
                    return None
        return MoreItems(counts["n"])

    def _longer(self, node: Instruction, local: Address, step: Step) -> LongerDimension | None:
        last = max((d for d in range(3) if node.operand(f"n{d}") != Immediate(1)), default=0)
        found = self._along(node, local, step, last)
        # A tile of one row has a dimension for others.
        return found or (self._along(node, local, step, last + 1) if last < 2 else None)

    def _along(self, node: Instruction, local: Address, step: Step, last: int) -> LongerDimension | None:
        extent = self._tile_extent(node, local, last)
        stride = Step({(): 1}) if last == 0 else self._form(node.operand(f"global{last}"))
        size = node.dtypes[0].bytes
        if extent is None or step != {registers: size * extent * factor for registers, factor in stride.items()}:
            return None
        operand = node.operand(limiting(node, last))
        if self._others_vary(node, operand):
            return None
        if operand == Immediate(extent):
            return LongerDimension(last, extent, None)
        limit = self._limit(node, local, last)
        if limit is None or limit.extent != extent or self.step(limit.rest) != {(): -extent}:
            return None
        return LongerDimension(last, extent, limit.rest)

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

    def _limit(self, node: Instruction, local: Address, dimension: int) -> Limit | None:
        """The limit along a dimension, if it is the least of the extent and of what is left, but not negative."""
        extent, operand = self._tile_extent(node, local, dimension), node.operand(limiting(node, dimension))
        bounds = {"smax": Immediate(0), "smin": Immediate(-1 if extent is None else extent)}
        while bounds:
            definition = self.definitions.scalar.get(operand) if isinstance(operand, Register) else None
            if definition is None or bounds.pop(definition.row.name, None) != definition.operands[2]:
                return None
            operand = definition.operands[1]
        if extent is None or not isinstance(operand, Register) or self.step(operand) is None:
            return None
        return Limit(extent, operand)

    def _new(self, node: Instruction, local: Address, step: Step) -> NewDimension | None:
        dimension = next((d for d in (1, 2) if all(node.operand(f"n{k}") == Immediate(1) for k in range(d, 3))), None)
        if dimension is None or math.gcd(*step.values()) % node.dtypes[0].bytes:
            return None
        if node.row.name == "dma.load_pad" and self._tile_extent(node, local, dimension - 1) is None:
            return None
        if not self._others_vary(node):
            return NewDimension(dimension)
        tests = NONE
        for slot, operand in zip(node.row.slots, node.operands, strict=True):
            if not isinstance(operand, Register) or not self._varies(operand):
                continue
            same = self._same(operand) if slot.name in _limits(node) else None
            if same is None:
                return None
            tests |= same
        return NewDimension(dimension, tests)

    def _others_vary(self, node: Instruction, but: Operand | None = None) -> bool:
        """True if anything but the place and one operand differs by iteration."""
        return any(isinstance(each, Register) and each != but and self._varies(each) for each in node.operands)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _varies(self, register: Register) -> bool:
        return depth_first(self._variation, register)

    def _variation(self, register: Register) -> Search[Register, bool]:
        if register == self.loop.index:
            return True
        if register not in self.varying:
            definition = self.definitions.scalar.get(register)
            varies = definition is None and register in self.unknown
            if definition is not None and not self._is_of_line(definition, "udiv"):
                for each in definition.registers_read:
                    varies = varies or (yield each)
            self.varying[register] = varies
        return self.varying[register]

    def _is_of_line(self, definition: Instruction, name: str) -> bool:
        """True for the index divided by the length of a line, or the remainder."""
        line = self.loop.line
        return line is not None and definition.row.name == name and definition.operands[1:] == (self.loop.index, line)

    def _form(self, operand: Operand) -> Step:
        """An operand that stays the same."""
        if isinstance(operand, Immediate):
            return {(): int(operand.value)} if operand.value else {}
        assert isinstance(operand, Register)
        match self.linear.get(operand):
            case Instruction(row=row, operands=(_, source, Immediate(value=int(factor)))) if row.name == "mul":
                return self.scaled(source, factor)
            case Instruction(row=row, operands=(_, source)) if row.name != "mul":
                return self._form(source)
            case _:
                return {(operand,): 1}

    def scaled(self, operand: Operand, factor: int) -> Step:
        """So many times an operand that stays the same."""
        return {registers: factor * times for registers, times in self._form(operand).items()}

    def step(self, operand: Operand) -> Step | None:
        """By how much an operand grows from one iteration to its neighbour; None if that differs or is not known."""
        known: dict[Operand, Step | None] = {}
        return depth_first(lambda each: self._search_step(each, known), operand)

    def _search_step(self, operand: Operand, known: dict[Operand, Step | None]) -> Search[Operand, Step | None]:
        if operand not in known:
            known[operand] = yield from self._find_step(operand)
        return known[operand]

    def _find_step(self, operand: Operand) -> Search[Operand, Step | None]:
        if operand == self.loop.index:
            return {(): 1} if self.loop.independent else self._form(self.loop.step)
        if not isinstance(operand, Register) or not self._varies(operand):
            return {}
        definition = self.definitions.scalar.get(operand)
        if definition is None:
            return None
        if self._is_of_line(definition, "urem"):
            return {(): 1}
        sources = definition.operands[1:]
        steps = list[Step | None]()
        for each in sources:
            step = yield each
            steps.append(step)
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
            case "srem" | "urem" | "sdiv" | "udiv" as name, [dict(a), dict(b)] if not b and self.conditions is not None:
                self.conditions[operand] = SameQuotient(definition)
                return a if name.endswith("rem") else {}
            case "smin" | "smax", [dict(a), dict(b)] if not (a and b) and self.conditions is not None:
                number = sources[0] if a else sources[1]
                if (a or b) and isinstance(number, Register):
                    self.conditions[operand] = SameNumber(definition, number)
                return a or b
            case _:
                return None


def _sum(a: Step, b: Step, sign: int) -> Step:
    total = {key: a.get(key, 0) + sign * b.get(key, 0) for key in {*a, *b}}
    return {key: factor for key, factor in total.items() if factor}


def _product(a: Step, b: Step) -> Step:
    total: Step = {}
    for one, factor in a.items():
        for other, times in b.items():
            key = tuple(sorted((*one, *other), key=lambda register: register.index))
            total[key] = total.get(key, 0) + factor * times
    return {key: factor for key, factor in total.items() if factor}
