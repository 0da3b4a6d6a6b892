"""When the tiles of all iterations of a block go together, told from the first of them and the last.

How many elements of a tile are valid is made of numbers that grow by the same from iteration to iteration, by least and
greatest of two, differences and choices under a condition. A number that so grows is nowhere below what it is at both
ends of a block, nor above; and a comparison of two that holds at both ends holds between them. So for each count there
is something that, if it holds at the ends, makes the count the same all along.

The remainder of a number that grows evenly does so as long as the quotient is the same, which it is wherever it is the
same at both ends. The least or the greatest of it and of a number that stays the same, as a row kept within an image,
grows as long as it is the one that grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import Emitter, ScalarOperand
from mlutriton.dtypes import I1, I64
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.isa.operands import Immediate, Operand, Register
from mlutriton.isa.program import Instruction

_COMPARISONS = ("slt", "sle", "sgt", "sge", "eq")


@dataclass(frozen=True)
class AtEnds:
    """What has to hold in the first and the last iteration.

    Attributes:
        register: a number, or a condition, which must hold.
        least: of a number, what it must be at least; None if there is no such bound.
        most: of a number, what it must be at most; None if there is no such bound.
    """

    register: Register
    least: ScalarOperand | None = None
    most: ScalarOperand | None = None

    @property
    def operands(self) -> Sequence[Operand]:
        """All that it is about."""
        return [each for each in (self.register, self.least, self.most) if each is not None]


@dataclass(frozen=True)
class SameQuotient:
    """A quotient that has to be the same in the first and the last iteration.

    Attributes:
        division: computes it, or the remainder.
    """

    division: Instruction

    @property
    def operands(self) -> Sequence[Operand]:
        """All that it is about."""
        return self.division.operands[1:]


@dataclass(frozen=True)
class SameNumber:
    """The extreme of a number and another has to be the former in the first and the last iteration.

    Attributes:
        extreme: computes it.
        number: one of its operands.
    """

    extreme: Instruction
    number: Register

    @property
    def operands(self) -> Sequence[Operand]:
        """All that it is about."""
        return self.extreme.operands

    @property
    def result(self) -> Register:
        """The extreme."""
        result = self.extreme.written_register
        assert result is not None
        return result


Test = AtEnds | SameQuotient | SameNumber
Tests = frozenset[Test]
NONE: Tests = frozenset()

# By the name of a division, the one that gives the quotient.
_QUOTIENTS = {"srem": "sdiv", "sdiv": "sdiv", "urem": "udiv", "udiv": "udiv"}


def are_whole(emitter: Emitter, tests: Iterable[Test], ends: Sequence[Renamer]) -> Register:
    """Whether tests of a block hold.

    Args:
        emitter: takes the arithmetic.
        tests: what has to hold; at least one.
        ends: the names under which scalars are known in the first iteration and in the last one.
    """
    holds: list[Register] = []
    for test in tests:
        if isinstance(test, SameQuotient):
            first, last = (_quotient(emitter, test.division, end) for end in ends)
            holds.append(emitter.scalar("eq", test.division.dtypes, first, last))
            continue
        if isinstance(test, SameNumber):
            for end in ends:
                operands = map(end.operand, (test.result, test.number))
                holds.append(emitter.scalar("eq", test.extreme.dtypes, *operands))
            continue
        for end in ends:
            number = end.operand(test.register)
            for name, bound in (("sge", test.least), ("sle", test.most)):
                if bound is not None:
                    holds.append(emitter.scalar(name, (I64,), number, end.operand(bound)))
            if test.least is test.most is None:
                assert isinstance(number, Register)
                holds.append(number)
    whole = holds[0]
    for each in holds[1:]:
        whole = emitter.scalar("and", (I1,), whole, each)
    return whole


def _quotient(emitter: Emitter, division: Instruction, end: Renamer) -> Register:
    scalars = [each for each in division.operands[1:] if isinstance(each, Register | Immediate)]
    return emitter.scalar(_QUOTIENTS[division.row.name], division.dtypes, *map(end.operand, scalars))


class WholeTiles:
    """Finds when counts are the same, by the instructions that make them.

    Attributes:
        definitions: by register, what sets it.
        grows_evenly: whether an operand grows by the same from one iteration to the next; 0 counts.
        varies: whether it differs by iteration at all.
    """

    def __init__(
        self,
        definitions: Mapping[Register, Instruction],
        grows_evenly: Callable[[Operand], bool],
        varies: Callable[[Register], bool],
    ) -> None:
        self.definitions, self.grows_evenly, self.varies = definitions, grows_evenly, varies
        self._found: dict[Operand, Tests | None] = {}

    def same(self, operand: Operand) -> Tests | None:
        """What has to hold at the ends for a number to be the same in all iterations; None if that cannot be told."""
        return depth_first(self._search, operand)

    def _search(self, operand: Operand) -> Search[Operand, Tests | None]:
        if operand not in self._found:
            self._found[operand] = yield from self._same(operand)
        return self._found[operand]

    def _same(self, operand: Operand) -> Search[Operand, Tests | None]:
        if not isinstance(operand, Register) or not self.varies(operand):
            return NONE
        match self._definition(operand):
            case ("smin" | "smax" as name, (a, b)):
                first = yield a
                second = yield b
                if first is not None and second is not None:
                    return first | second
                bounded, bound, of_bound = (a, b, second) if second == NONE else (b, a, first)
                return self._beyond(bounded, bound, up=name == "smin") if of_bound == NONE else None
            case ("select", (condition, a, _)):
                return _all(self._holds(condition), (yield a))
            case ("add" | "sub" | "mul", (a, b)):
                first = yield a
                return _all(first, (yield b))
            case ("mov" | "sext" | "zext", (source,)):
                return (yield source)
            case _:
                return None

    def _definition(self, operand: Operand) -> tuple[str, tuple[Operand, ...]] | None:
        made = self.definitions.get(operand) if isinstance(operand, Register) else None
        return None if made is None else (made.row.name, tuple(made.operands[1:]))

    def _beyond(self, operand: Operand, bound: Operand, *, up: bool) -> Tests | None:
        """What has to hold at the ends for a number to be at least, or else at most, a bound in all iterations."""
        nearer, farther = ("smin", "smax") if up else ("smax", "smin")
        match self._definition(operand), bound:
            case (name, (a, b)), _ if name == nearer:
                return _all(self._beyond(a, bound, up=up), self._beyond(b, bound, up=up))
            case (name, (a, _)), _ if name == farther:
                return self._beyond(a, bound, up=up)
            case ("select", (condition, a, _)), _:
                return _all(self._holds(condition), self._beyond(a, bound, up=up))
            case ("sub", (Immediate() as a, b)), Immediate():
                return self._beyond(b, Immediate(int(a.value) - int(bound.value)), up=not up)
            case ("sub", (a, Immediate() as b)), Immediate():
                return self._beyond(a, Immediate(int(bound.value) + int(b.value)), up=up)
            case _:
                pass
        if isinstance(operand, Immediate) and isinstance(bound, Immediate):
            return NONE if (operand.value >= bound.value if up else operand.value <= bound.value) else None
        if not isinstance(operand, Register) or not isinstance(bound, Register | Immediate):
            return None
        if not self.grows_evenly(operand):
            return None
        return frozenset({AtEnds(operand, bound, None) if up else AtEnds(operand, None, bound)})

    def _holds(self, condition: Operand) -> Tests | None:
        """What has to hold at the ends for a condition to hold in all iterations."""
        match self._definition(condition):
            case ("and", (a, b)):
                return _all(self._holds(a), self._holds(b))
            case (name, (a, b)) if name in _COMPARISONS and self.grows_evenly(a) and self.grows_evenly(b):
                assert isinstance(condition, Register)
                return frozenset({AtEnds(condition)})
            case _:
                return None


def _all(first: Tests | None, second: Tests | None) -> Tests | None:
    return None if first is None or second is None else first | second
