"""The least and the greatest that integers are in any program of a launch, as arithmetic that the launch can do.

Of tensors they are those of all elements, or of those that a mask chooses: it compares some of what they are made of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from copy import copy

from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.launch_facts import Fact, Holds, is_of_the_launch
from mlutriton.ir.analysis.scalar_forms import Form
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Function, Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, For, NumPrograms, ProgramId, Range, Splat
from mlutriton.ir.types import shape_of

# Of masks, and what they choose, so many numbers are looked at.
_MOST_NUMBERS = 128

_Limits = Mapping[tuple[Value, bool], Sequence[tuple[Value, int]]]
"""By an integer, and whether the least of it is asked for, numbers that bound it, and what is added to each."""


class Bounds:
    """Bounds of a function's integers. Index arithmetic is taken not to overflow.

    Attributes:
        code: the arithmetic that facts and bounds are of, which is no part of the function yet.
    """

    def __init__(self, function: Function, code: Scalars | None = None) -> None:
        """Look at a function, and have some code get the arithmetic."""
        self.function = function
        self.code = Scalars(function.location) if code is None else code
        self._chosen: _Limits = {}
        self._most = sys.maxsize
        self._least: dict[Value, int | None] = {}
        self._loops = {loop.index: loop for loop in function.walk() if isinstance(loop, For)}

    def under(self, mask: Value) -> Bounds:
        """The same of elements that a mask chooses, as far as little arithmetic tells."""
        bounds = copy(self)
        bounds._chosen = _limits(mask)
        bounds._most = _MOST_NUMBERS
        return bounds

    def at_least(self, value: Value, number: int) -> list[Fact] | None:
        """What has to hold of a launch for an integer never to be less than 0 or 1; None if that is not known."""
        if number == 0 and is_never_negative(value, self._least):
            return []
        operation = value.defining_op
        match operation:
            case Constant():
                return [] if int(operation.value) >= number else None
            case Elementwise(name="sext", operands=[source]):
                return self.at_least(source, number)
            case Elementwise(name="smin", operands=operands):
                return _all(self.at_least(each, number) for each in operands)
            case Elementwise(name="add" | "mul", operands=operands) if number == 0 and not self._is_launched(value):
                return _all(self.at_least(each, 0) for each in operands)
            case Elementwise(name="srem", operands=[dividend, _]) if number == 0:
                return self.at_least(dividend, 0)
            case Elementwise(name="sdiv", operands=operands) if number == 0 and not self._is_launched(value):
                return _all(self.at_least(each, least) for least, each in enumerate(operands))
            case _:
                facts: list[Fact] = []
                bound = self.of(value, facts, least=True)
                return None if bound is None else [*facts, self.is_at_least(bound, number)]

    def is_at_least(self, bound: Scalar, other: Scalar) -> Fact:
        """The fact that a bound is no less than a number of the launch."""
        return Holds(self.code.add(Elementwise.of("sge", self.code.value(bound), self.code.value(other))))

    def of(self, value: Value, facts: list[Fact], *, least: bool) -> Scalar | None:
        """The least or the greatest that an integer is; None if that is not known.

        Args:
            value: the integer.
            facts: what has to hold for that is added.
            least: which of both.
        """
        self._most -= 1
        if self._most < 0:
            return None
        limits: list[Scalar] = []
        for limit, shift in self._chosen.get((value, least), ()):
            if (number := self._launched(limit)) is not None:
                limits.append(self.code.binary("add", number, shift))
        found = self._of(value, facts, least=least)
        limits += [] if found is None else [found]
        if not limits:
            return None
        return self.code.maximum(limits) if least else self.code.minimum(limits)

    def _of(self, value: Value, facts: list[Fact], *, least: bool) -> Scalar | None:
        """The same, whatever a mask chooses of it."""
        one = _repeated(value)
        if isinstance(one, int):
            return one
        if one is not value:
            return self.of(one, facts, least=least)
        if self._is_launched(value):
            return self.code.value(value)
        if value in self._loops:
            start, end, _ = self._loops[value].operands[:3]
            bound = self.of(start if least else end, facts, least=least)
            return bound if least or bound is None else self.code.binary("sub", bound, 1)
        operation = value.defining_op
        match operation:
            case Range():
                return operation.integer("start") if least else operation.integer("end") - 1
            case ProgramId() if least:
                return 0
            case ProgramId():
                programs = self.code.add(NumPrograms((), {"axis": operation.axis}))
                return self.code.binary("sub", programs, 1)
            case Elementwise(name="add" | "sub", operands=[one, other]):
                left = self.of(one, facts, least=least)
                right = self.of(other, facts, least=least if operation.name == "add" else not least)
                return None if left is None or right is None else self.code.binary(operation.name, left, right)
            case Elementwise(name="mul", operands=operands):
                one, factor = operands if self._launched(operands[1]) is not None else operands[::-1]
                return self._scaled(one, factor, facts, least=least)
            case Elementwise(name="sdiv", operands=[one, other]) if (divisor := self._launched(other)) is not None:
                bound = self.of(one, facts, least=least)
                facts.append(self.is_at_least(divisor, 1))
                return None if bound is None else self.code.binary("sdiv", bound, self.code.maximum([divisor, 1]))
            case Elementwise(name="srem", operands=[one, other]) if (divisor := self._launched(other)) is not None:
                lowest = self.of(one, facts, least=True)
                if lowest is None:
                    return None
                facts += [self.is_at_least(lowest, 0), self.is_at_least(divisor, 1)]
                return 0 if least else self.code.binary("sub", divisor, 1)
            case _:
                return None

    def of_form(self, form: Form, facts: list[Fact], *, least: bool) -> Scalar | None:
        """The same of a sum of products, in each of which at most one factor is no number of the launch."""
        moving: dict[Value, Form] = {}
        fixed: Form = {}
        for factors, count in form.items():
            others = [each for each in factors if not self._is_launched(each)]
            if len(others) > 1:
                return None
            rest = tuple(each for each in factors if each not in others)
            (moving.setdefault(others[0], {}) if others else fixed)[rest] = count
        bounds = [self._of_launch(fixed)]
        for value, times in moving.items():
            falls = all(count < 0 for count in times.values())
            bound = self.of(value, facts, least=least != falls)
            if bound is None:
                return None
            factor = self._of_launch({factors: abs(count) if falls else count for factors, count in times.items()})
            if not isinstance(factor, int):
                facts.append(self.is_at_least(factor, 0))
            scaled = self.code.binary("mul", bound, factor)
            bounds.append(self.code.binary("sub", 0, scaled) if falls else scaled)
        return self.code.sum(bounds)

    def varying(self, form: Form) -> int:
        """In how many of the products of a sum there is a factor that is no number of the launch."""
        return sum(not all(map(self._is_launched, factors)) for factors in form)

    def _of_launch(self, form: Form) -> Scalar:
        """The arithmetic of a sum of products of numbers of the launch."""
        products: list[Scalar] = []
        for factors, count in form.items():
            total: Scalar = count
            for factor in factors:
                total = self.code.binary("mul", total, self.code.value(factor))
            products.append(total)
        return self.code.sum(products)

    def _scaled(self, one: Value, factor: Value, facts: list[Fact], *, least: bool) -> Scalar | None:
        times = self._launched(factor)
        if times is None:
            return None
        facts.append(self.is_at_least(times, 0))
        bound = self.of(one, facts, least=least)
        return None if bound is None else self.code.binary("mul", bound, times)

    def _launched(self, value: Value) -> Scalar | None:
        """A number of the launch, of which a tensor may have nothing else."""
        one = _repeated(value)
        return one if isinstance(one, int) or self._is_launched(one) else None

    def _is_launched(self, value: Value) -> bool:
        return not shape_of(value.type) and is_of_the_launch(value, self.function)


def _repeated(value: Value) -> Scalar:
    """What an integer is, or all elements of a tensor are, before it got its type and shape."""
    while True:
        match value.defining_op:
            case Constant(value=int(number)):
                return number
            case Splat() | Broadcast() | ExpandDims() | Elementwise(name="sext"):
                [value] = value.defining_op.operands
            case _:
                return value


def _limits(mask: Value) -> _Limits:
    """What a mask compares."""
    found: dict[tuple[Value, bool], list[tuple[Value, int]]] = {}
    pending, seen = [mask], set[Value]()
    while pending and len(seen) < _MOST_NUMBERS:
        value = pending.pop()
        operation = value.defining_op
        if value in seen or not isinstance(operation, Elementwise):
            continue
        seen.add(value)
        match operation.name:
            case "and":
                pending += operation.operands
            case "slt" | "sle" | "sgt" | "sge":
                less, greater = operation.operands if operation.name in ("slt", "sle") else operation.operands[::-1]
                shift = int(operation.name in ("slt", "sgt"))
                found.setdefault((less, False), []).append((greater, -shift))
                found.setdefault((greater, True), []).append((less, shift))
            case _:
                pass
    return found


def _all(found: Iterable[list[Fact] | None]) -> list[Fact] | None:
    """All facts, if all are known."""
    facts: list[Fact] = []
    for each in found:
        if each is None:
            return None
        facts += each
    return facts
