"""What integers are as sums of products of others, so that two of them can be compared and subtracted.

Index arithmetic is taken not to overflow its type, as Triton's own address analysis does.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Value
from mlutriton.ir.ops import AddPtr, Constant, Elementwise, PtrCast, pointee
from mlutriton.ir.types import is_index

Form = dict[tuple[Value, ...], int]
"""A sum: by its factors, the oldest first, how often each product counts; ``()`` stands for 1. No zeros."""

# Products of longer sums are not multiplied out.
_MOST_TERMS = 16
_age = attrgetter("age")


class ScalarForms:
    """Forms of scalars, each found once."""

    def __init__(self) -> None:
        self._known: dict[Value, Form] = {}
        self._least: dict[Value, int | None] = {}

    def of(self, value: Value) -> Form:
        """The form of an integer."""
        form = self._known.get(value)
        if form is None:
            form = self._known[value] = self._find(value)
        return form

    def place(self, pointer: Value) -> tuple[Value, Form]:
        """The pointer that a scalar pointer was made from by adding, and how many elements were added.

        One to elements of another type that have as many bytes is the same pointer.
        """
        total: Form = {}
        while True:
            match pointer.defining_op:
                case AddPtr(operands=[source, offset]):
                    total = plus(total, self.of(offset))
                case PtrCast(operands=[source], result=cast) if pointee(source).bytes == pointee(cast).bytes:
                    pass
                case _:
                    return pointer, total
            pointer = source

    def is_never_negative(self, form: Form) -> bool:
        """True if a number is zero or more in every run, so far as signs tell."""
        return all(
            count >= 0 and all(is_never_negative(factor, self._least) for factor in factors)
            for factors, count in form.items()
        )

    def _find(self, value: Value) -> Form:
        operation = value.defining_op
        match operation:
            case Constant() if isinstance(operation.value, int):
                return constant(operation.value)
            case Elementwise(name="add" | "sub" | "mul", operands=[a, b]) if is_index(value.type):
                first, second = self.of(a), self.of(b)
                if operation.name != "mul":
                    return plus(first, second, 1 if operation.name == "add" else -1)
                if len(first) * len(second) <= _MOST_TERMS:
                    return product(first, second)
            case Elementwise(name="sext", operands=[source]) if is_index(source.type):
                return self.of(source)
            case _:
                pass
        return {(value,): 1}


def constant(number: int) -> Form:
    """The form of a known number."""
    return {(): number} if number else {}


def plus(a: Form, b: Mapping[tuple[Value, ...], int], times: int = 1) -> Form:
    """``a + times * b``."""
    total = dict(a)
    for factors, count in b.items():
        total[factors] = total.get(factors, 0) + times * count
    return {factors: count for factors, count in total.items() if count}


def product(a: Form, b: Form) -> Form:
    """``a * b``."""
    total: Form = {}
    for one, count in a.items():
        for other, times in b.items():
            factors = tuple(sorted((*one, *other), key=_age))
            total = plus(total, {factors: count * times})
    return total


def form_of(scalar: Scalar, forms: ScalarForms) -> Form:
    """The form of a number, which may be known."""
    return constant(scalar) if isinstance(scalar, int) else forms.of(scalar)


def number_of(form: Form, code: Scalars) -> Scalar:
    """What a form is, computed by arithmetic that goes to ``code``."""
    addends: list[Scalar] = []
    for factors, count in form.items():
        term: Scalar = count
        for each in factors:
            term = code.binary("mul", term, each)
        addends.append(term)
    return code.sum(addends)


def multiples(difference: Form, strides: list[Form]) -> list[int] | None:
    """Whole numbers ``n`` such that the difference is the sum of ``n[d] * strides[d]``; None if none are found.

    Strides that are known numbers take what is left, the greatest first, each as much as comes nearest.
    """
    found = [0] * len(strides)
    known = [d for d, stride in enumerate(strides) if set(stride) == {()}]
    for d, stride in enumerate(strides):
        if d in known or not stride:
            continue
        factors = next(each for each in stride if each)
        found[d], rest = divmod(difference.get(factors, 0), stride[factors])
        if rest:
            return None
        difference = plus(difference, stride, -found[d])
    for d in sorted(known, key=lambda d: -abs(strides[d][()])):
        step = strides[d][()]
        found[d] = (2 * difference.get((), 0) + abs(step)) // (2 * abs(step)) * (1 if step > 0 else -1)
        difference = plus(difference, strides[d], -found[d])
    return None if difference else found
