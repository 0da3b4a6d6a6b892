"""Scalars of tile code as expressions of what does not change while a program runs, or a task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mlutriton.codegen.tile_code import Emitter, TileCode, instructions
from mlutriton.dtypes import DType
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.isa.operands import Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

# Instructions of an expression.
_LONGEST = 24


@dataclass(frozen=True)
class Expression:
    """A scalar instruction without its result; what would be registers are expressions."""

    name: str
    dtypes: tuple[DType, ...]
    operands: tuple[Expression | Operand, ...]

    @property
    def length(self) -> int:
        """How many instructions compute it."""
        return 1 + sum(operand.length for operand in self.operands if isinstance(operand, Expression))

    def emit(self, emitter: Emitter) -> Register:
        """Compute it."""
        operands = [each.emit(emitter) if isinstance(each, Expression) else each for each in self.operands]
        return emitter.scalar(self.name, self.dtypes, *operands)


class Invariants:
    """The scalars of a kernel that do not change."""

    def __init__(self, code: TileCode) -> None:
        every = list(instructions(code.nodes))
        writes = Counter(register for each in every if (register := each.written_register) is not None)
        self.definitions = {
            register: each
            for each in every
            if (register := each.written_register) is not None and writes[register] == 1 and _is_plain(each)
        }
        self.known: dict[Register, Expression | None] = {}

    def expression(self, register: Register) -> Expression | None:
        """The expression of a register; None if it may differ from time to time, or if it is long."""
        return depth_first(self._search, register)

    def _search(self, register: Register) -> Search[Register, Expression | None]:
        if register not in self.known:
            self.known[register] = None
            self.known[register] = yield from self._expression(register)
        return self.known[register]

    def _expression(self, register: Register) -> Search[Register, Expression | None]:
        definition = self.definitions.get(register)
        if definition is None:
            return None
        operands: list[Expression | Operand] = []
        for operand in definition.operands[1:]:
            inner = (yield operand) if isinstance(operand, Register) else operand
            if inner is None:
                return None
            operands.append(inner)
        found = Expression(definition.row.name, definition.dtypes, tuple(operands))
        match found:
            case Expression("smin" | "smax", _, (Expression() as inner, *bound)):
                # The same bound twice is that bound once.
                if (inner.name, inner.operands[1:]) == (found.name, tuple(bound)):
                    return inner
            case _:
                pass
        return found if found.length <= _LONGEST else None


def _is_plain(instruction: Instruction) -> bool:
    """True for scalar arithmetic and what it starts from."""
    return instruction.row.queue is Queue.SCALAR and not instruction.row.trace and not any(instruction.accesses)
