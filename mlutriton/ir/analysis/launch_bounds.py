"""The least and the greatest that integers are in any program of a launch, as arithmetic that the launch can do."""

from __future__ import annotations

from collections.abc import Iterable

from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.launch_facts import Fact, Holds, is_of_the_launch
from mlutriton.ir.analysis.scalar_forms import Form
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Function, Value
from mlutriton.ir.ops import Constant, Elementwise, For, NumPrograms, ProgramId
from mlutriton.ir.types import shape_of


class Bounds:
    """Bounds of a function's integers. Index arithmetic is taken not to overflow.

    Attributes:
        code: the arithmetic that facts and bounds are of, which is no part of the function yet.
    """

    def __init__(self, function: Function) -> None:
        """Look at a function."""
        self.function = function
        self.code = Scalars(function.location)
        self._least: dict[Value, int | None] = {}
        self._loops = {loop.index: loop for loop in function.walk() if isinstance(loop, For)}

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
        if self._is_launched(value):
            return self.code.value(value)
        if value in self._loops:
            start, end, _ = self._loops[value].operands[:3]
            bound = self.of(start if least else end, facts, least=least)
            return bound if least or bound is None else self.code.binary("sub", bound, 1)
        operation = value.defining_op
        match operation:
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
                one, factor = operands if self._is_launched(operands[1]) else operands[::-1]
                return self._scaled(one, factor, facts, least=least)
            case Elementwise(name="sdiv", operands=[one, divisor]) if self._is_launched(divisor):
                bound = self.of(one, facts, least=least)
                facts.append(self.is_at_least(divisor, 1))
                return None if bound is None else self.code.binary("sdiv", bound, self.code.maximum([divisor, 1]))
            case Elementwise(name="srem", operands=[one, divisor]) if self._is_launched(divisor):
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
        if not self._is_launched(factor):
            return None
        facts.append(self.is_at_least(factor, 0))
        bound = self.of(one, facts, least=least)
        return None if bound is None else self.code.binary("mul", bound, factor)

    def _is_launched(self, value: Value) -> bool:
        return not shape_of(value.type) and is_of_the_launch(value, self.function)


def _all(found: Iterable[list[Fact] | None]) -> list[Fact] | None:
    """All facts, if all are known."""
    facts: list[Fact] = []
    for each in found:
        if each is None:
            return None
        facts += each
    return facts
