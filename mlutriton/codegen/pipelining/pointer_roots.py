"""Which kernel parameters, or areas of local memory, an address may have been made from."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.codegen.tile_code import Loop, Node, TileCode, While, children
from mlutriton.isa.operands import Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS

_ARRAYS_DISJOINT = Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))


class PointerRoots:
    """Traces registers back to pointer parameters through all arithmetic and control flow."""

    def __init__(self, code: TileCode) -> None:
        self.pointers = code.pointer_parameters
        self.areas = code.local_areas
        self.follows_addresses = code.follows_addresses
        self.sources: dict[Register, set[Register]] = {}
        self.parameters: dict[Register, int] = {}
        self.unknown: set[Register] = set()
        self.disjoint_flags: set[Register] = set()
        self.learn(code.nodes)

    def learn(self, nodes: Sequence[Node]) -> None:
        """Take in more nodes."""
        for node in nodes:
            match node:
                case Instruction():
                    self._instruction(node)
                case Loop():
                    self._derive(node.index, [node.start, node.step])
                    for (register, initial), operand in zip(node.carried, node.yielded, strict=True):
                        self._derive(register, [initial, operand])
                case While():
                    for (register, initial), operand in zip(node.carried, node.yielded, strict=True):
                        self._derive(register, [initial, operand])
                case _:
                    pass
            for nested in children(node):
                self.learn(nested)

    def _instruction(self, instruction: Instruction) -> None:
        written = instruction.written_register
        if written is None:
            return
        if instruction.row.name == "sreg" and instruction.operands[1] == _ARRAYS_DISJOINT:
            self.disjoint_flags.add(written)
        if instruction.row.name == "param":
            index = instruction.operands[1]
            assert isinstance(index, Immediate)
            self.parameters[written] = int(index.value)
        elif instruction.row.trace or instruction.row.name == "lds":
            # A value from memory may be an index or, if that is ever followed, an address, which needs 64 bits.
            if self.follows_addresses and instruction.dtypes[0].bytes == 8:
                self.unknown.add(written)
        else:
            self._derive(written, list(instruction.registers_read))

    def _derive(self, register: Register, operands: Sequence[Operand]) -> None:
        known = self.sources.setdefault(register, set())
        known.update(operand for operand in operands if isinstance(operand, Register))

    def of(self, register: Register) -> frozenset[int] | None:
        """What an address comes from; None if it may come from anywhere.

        Parameters are their indices; areas of local memory are negative, see :func:`area_root`.
        """
        found: set[int] = set()
        seen: set[Register] = set()
        pending = [register]
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            if current in self.unknown:
                return None
            if current in self.areas:
                found.add(area_root(self.areas[current]))
            parameter = self.parameters.get(current)
            if parameter in self.pointers:
                found.add(parameter)
            pending += self.sources.get(current, ())
        return frozenset(found) or None


def area_root(offset_bytes: int) -> int:
    """What stands for an area of local memory among the parameters that an address comes from."""
    return -1 - offset_bytes


def is_area(root: int) -> bool:
    """True for an area of local memory, which no array shares bytes with."""
    return root < 0
