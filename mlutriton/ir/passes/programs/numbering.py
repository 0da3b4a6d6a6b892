"""The number of a program, taken apart: programs whose grid has an axis for each digit that the kernel makes of it.

Kernels deal with tiles in an order of their own, and find theirs by division:

    group = program / (8 * columns)                       row = 8 * program_id.5 + program_id.3
    row = 8 * group + program % (8 * columns) % 8         column = program_id.4
    column = program % (8 * columns) / 8

On the left, the next program along the columns is the eighth from here; on the right it is a neighbour along an axis.
Which programs there are does not change, only how they are told apart. A number is made of digits where all that is
asked of it are quotients and remainders by one divisor. Each digit but the last has a *radix*, which is known when a
launch begins: so many programs follow each other that differ in nothing but this digit and lesser ones.

That groups have equal sizes is a fact of the launch as well: the least of a size and a constant is the constant if the
size is no less for any program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlutriton.dtypes import I32
from mlutriton.ir.analysis.launch_bounds import Bounds
from mlutriton.ir.analysis.launch_facts import (
    Fact,
    Holds,
    Multiple,
    condition_function,
    is_of_the_launch,
    launch_arithmetic,
)
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_function, copy_operation
from mlutriton.ir.core import Function, Operation, Value, replace_uses
from mlutriton.ir.ops import Constant, Elementwise, NumPrograms, ProgramId
from mlutriton.ir.passes import dce, simplify
from mlutriton.ir.types import shape_of

_GRID_AXES = 3
_QUOTIENTS, _REMAINDERS = ("sdiv", "udiv"), ("srem", "urem")


@dataclass(frozen=True)
class Digit:
    """A part of a program's number.

    Attributes:
        axis: of the queries (:class:`ProgramId`) that stand for it.
        of: the axis of the grid whose number it is a part of.
        radix: how many there are of it, a number of the launch; None of the last digit, which has the rest.
    """

    axis: int
    of: int
    radix: Value | None = None

    def has_blocks_of(self, count: int) -> bool:
        """False if its radix is known to be no multiple of a number."""
        operation = self.radix.defining_op if self.radix is not None else None
        return not isinstance(operation, Constant) or int(operation.value) % count == 0


@dataclass(frozen=True)
class Block:
    """Neighbouring programs as one.

    Attributes:
        function: does what all of them do.
        conditions: functions that say of which launches it is right.
        counts: how many are one along each axis of the grid.
    """

    function: Function
    conditions: list[Function]
    counts: tuple[int, ...]


@dataclass
class Numbering:
    """A function whose programs have their numbers by digits.

    Attributes:
        function: asks for digits; also has the arithmetic on the launch that radices and facts are about.
        digits: the least of each axis of the grid first.
        facts: what has to hold of a launch for the digits to be right.
        conditions: the same as functions, of what only the kernel as it was written has.
    """

    function: Function
    digits: list[Digit]
    facts: list[Fact] = field(default_factory=list[Fact])
    conditions: list[Function] = field(default_factory=list[Function])

    def asked_for(self) -> list[Digit]:
        """The digits that the function asks for; along the others, programs do the same."""
        asked = {each.axis for each in self.function.walk() if isinstance(each, ProgramId)}
        return [each for each in self.digits if each.axis in asked]

    def block(self, function: Function, conditions: Sequence[Function], counts: Mapping[int, int]) -> Block:
        """Neighbouring programs as one.

        Args:
            function: made of this one, does what all of them do; is rewritten.
            conditions: what has to hold of a launch for that.
            counts: by axis of a digit, how many of it are one.
        """
        self._join_digits(function, counts)
        along = (
            math.prod(counts.get(each.axis, 1) for each in self.digits if each.of == axis) for axis in range(_GRID_AXES)
        )
        return Block(function, [*self.conditions, *conditions, self._condition(counts)], tuple(along))

    def _condition(self, counts: Mapping[int, int]) -> Function:
        """What has to hold of a launch for digits to go together in blocks.

        Args:
            counts: by axis of a digit, how many of it are one.
        """
        code, facts = Scalars(self.function.location), list(self.facts)
        for axis in range(_GRID_AXES):
            below: Scalar = 1
            whole: Scalar = 1
            for digit in (each for each in self.digits if each.of == axis):
                count = counts.get(digit.axis, 1)
                if count > 1:
                    whole = code.binary("mul", below, count)
                if digit.radix is not None:
                    facts += [Multiple(digit.radix, count)] if count > 1 else []
                    below = code.binary("mul", below, digit.radix)
            if whole != 1:
                # The launch has whole blocks of the greatest digit of which several are one.
                programs = code.add(NumPrograms((), {"axis": axis}))
                facts.append(_divides(code, whole, programs))
        self.function.body.operations[-1:-1] = code.operations
        return condition_function(self.function, facts)

    def _join_digits(self, function: Function, counts: Mapping[int, int]) -> None:
        """Compute digits from the program's number again, of which there is one for each block.

        Args:
            function: made of this one; is rewritten.
            counts: by axis of a digit, how many of it are one.
        """
        code = Scalars(function.location)
        values = dict(zip(self.function.body.arguments, function.body.arguments, strict=True))
        arithmetic = launch_arithmetic([each.radix for each in self.digits if each.radix is not None], self.function)
        assert arithmetic is not None, "radices are numbers of the launch"
        code.operations = [copy_operation(each, values) for each in arithmetic]
        numbers: dict[int, Value] = {}
        for axis in range(_GRID_AXES):
            rest = code.add(ProgramId((), {"axis": axis}))
            for digit in (each for each in self.digits if each.of == axis):
                numbers[digit.axis] = rest
                if digit.radix is not None:
                    count = code.add(Constant.of(counts.get(digit.axis, 1), I32))
                    blocks = code.add(Elementwise.of("sdiv", values[digit.radix], count))
                    numbers[digit.axis] = code.add(Elementwise.of("srem", rest, blocks))
                    rest = code.add(Elementwise.of("sdiv", rest, blocks))
        queries = (each for each in function.walk() if isinstance(each, ProgramId))
        replace_uses(function.body, {each.result: numbers[each.axis] for each in queries if each.axis in numbers})
        function.body.operations[:0] = code.operations
        # What digits were taken from, and what facts are about, serves nothing any more.
        dce.run(function)


def as_written(function: Function, conditions: Sequence[Function] = ()) -> Numbering:
    """The numbers as the grid has them, of a function that is right where some conditions hold."""
    digits = [Digit(axis, axis) for axis in range(_GRID_AXES)]
    return Numbering(copy_function(function), digits, conditions=[*conditions])


def run(function: Function, conditions: Sequence[Function] = ()) -> Numbering | None:
    """The digits of the numbers that a function asks for; None if they are those of the grid.

    Args:
        function: as it is written, or with other numbers.
        conditions: what has to hold of a launch for these.
    """
    settled, settling = _settled(function)
    found = Numbering(settled, [], conditions=[*conditions, *settling])
    search = _Search(found)
    for axis in range(_GRID_AXES):
        query = next(
            (each for each in settled.body.operations if isinstance(each, ProgramId) and each.axis == axis), None
        )
        if query is None:
            found.digits.append(Digit(axis, axis))
        else:
            search.take_apart(query.result, axis, None)
    replace_uses(settled.body, search.replaced)
    left = [each for each in settled.body.operations if search.replaced.keys().isdisjoint(each.results)]
    settled.body.operations = [*search.queries, *left]
    return found if search.replaced else None


class _Search:
    """Looks for digits."""

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self.replaced: dict[Value, Value] = {}
        self.queries: list[Operation] = []
        self._users: dict[Value, list[Operation]] = {}
        for operation in numbering.function.walk():
            for operand in operation.operands:
                self._users.setdefault(operand, []).append(operation)

    def take_apart(self, value: Value, axis: int, radix: Value | None) -> None:
        """Find the digits of a number that is below a radix."""
        function = self.numbering.function
        self._by_one_divisor(value)
        users = self._users.get(value, [])
        quotients = [each for each in users if _divides_by_launch(each, value, _QUOTIENTS, function)]
        remainders = [each for each in users if _divides_by_launch(each, value, _REMAINDERS, function)]
        divisors = {each.operands[1] for each in users if len(each.operands) > 1}
        if (
            not users
            or len(quotients) + len(remainders) < len(users)
            or len(divisors) > 1
            or max(len(quotients), len(remainders)) > 1
        ):
            self._digit(value, axis, radix)
            return
        (divisor,) = divisors
        code = Scalars(function.location)
        code.operations = function.body.operations[:-1]
        self.numbering.facts.append(Holds(code.add(Elementwise.of("sgt", divisor, code.add(Constant.of(0, I32))))))
        above = None
        if radix is not None:
            self.numbering.facts.append(_divides(code, code.value(divisor), radix))
            above = code.add(Elementwise.of("sdiv", radix, _at_least_one(code, divisor)))
        low = remainders[0].result if remainders else code.add(Elementwise.of("srem", value, divisor))
        high = quotients[0].result if quotients else code.add(Elementwise.of("sdiv", value, divisor))
        function.body.operations[:-1] = code.operations
        self.take_apart(low, axis, divisor)
        self.take_apart(high, axis, above)

    def _by_one_divisor(self, value: Value) -> None:
        """Take remainders by what divides the divisor of quotients from the remainder by that."""
        function = self.numbering.function
        users = self._users.get(value, [])
        quotients = {each.operands[1] for each in users if _divides_by_launch(each, value, _QUOTIENTS, function)}
        remainders = [each for each in users if _divides_by_launch(each, value, _REMAINDERS, function)]
        if len(quotients) != 1:
            return
        (divisor,) = quotients
        low = next((each for each in remainders if each.operands[1] is divisor), None)
        places = function.body.operations
        for each in remainders if low in places else ():
            if each.operands[1] is not divisor and each in places:
                assert low is not None
                code = Scalars(function.location)
                code.operations = function.body.operations[:-1]
                self.numbering.facts.append(_divides(code, each.operands[1], divisor))
                function.body.operations[:-1] = code.operations
                each.operands[0] = low.result
                users.remove(each)
                self._users.setdefault(low.result, []).append(each)

    def _digit(self, value: Value, axis: int, radix: Value | None) -> None:
        operation = value.defining_op
        is_whole = isinstance(operation, ProgramId)
        digit = Digit(axis if is_whole else _GRID_AXES + len(self.numbering.digits), axis, radix)
        self.numbering.digits.append(digit)
        if not is_whole:
            query = ProgramId((), {"axis": digit.axis}, location=self.numbering.function.location)
            self.queries.append(query)
            self.replaced[value] = query.result


def _divides_by_launch(operation: Operation, value: Value, names: tuple[str, ...], function: Function) -> bool:
    if not isinstance(operation, Elementwise) or operation.name not in names or operation.result.type != I32:
        return False
    dividend, divisor = operation.operands
    return dividend is value and divisor is not value and is_of_the_launch(divisor, function)


def _at_least_one(code: Scalars, value: Value) -> Value:
    """A divisor that is none less, so that what is checked can be computed in any launch."""
    return code.add(Elementwise.of("smax", value, code.add(Constant.of(1, I32))))


def _divides(code: Scalars, divisor: Scalar, value: Value) -> Holds:
    """The fact that a positive number divides another."""
    rest = code.value(code.binary("srem", value, code.maximum([divisor, 1])))
    return Holds(code.add(Elementwise.of("eq", rest, code.value(0))))


# ---- the least of a number and a constant ----------------------------------------------------------------------------


def _settled(function: Function) -> tuple[Function, list[Function]]:
    """The function with divisors that are a constant wherever a number is no less, and the condition for that."""
    made = copy_function(function)
    if not any(map(_divides_by_the_least, function.walk())):
        return made, []
    asked = copy_function(function)
    bounds, facts = Bounds(asked), list[Fact]()
    constants: dict[Value, Value] = {}
    fresh: list[Operation] = []
    for source, copied in zip(asked.walk(), made.walk(), strict=True):
        if not _divides_by_the_least(source):
            continue
        least, copy = source.operands[1].defining_op, copied.operands[1]
        assert least is not None
        if copy in constants:
            continue
        constant, other = sorted(least.operands, key=lambda each: not isinstance(each.defining_op, Constant))
        if not isinstance(constant.defining_op, Constant) or is_of_the_launch(other, asked):
            continue
        bound = bounds.of(other, facts, least=True)
        if bound is None:
            continue
        facts.append(bounds.is_at_least(bound, constant))
        number = Constant.of(constant.defining_op.value, copy.type, location=function.location)
        fresh.append(number)
        constants[copy] = number.result
    made.body.operations[:0] = fresh
    if not constants:
        return made, []
    replace_uses(made.body, constants)
    simplify.run(made)
    asked.body.operations[-1:-1] = bounds.code.operations
    return made, [condition_function(asked, facts)]


def _divides_by_the_least(operation: Operation) -> bool:
    if not isinstance(operation, Elementwise) or operation.name not in _QUOTIENTS + _REMAINDERS:
        return False
    divisor = operation.operands[1]
    least = divisor.defining_op
    return isinstance(least, Elementwise) and least.name == "smin" and not shape_of(divisor.type)
