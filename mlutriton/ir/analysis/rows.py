"""Row analysis: accesses of whole rows of consecutive elements that begin anywhere.

A tensor of integers or pointers *splits* along an axis if it is

    row + linear

where ``row`` is the same all along the axis, and else any data, and ``linear`` depends on nothing but the position
along the axis. A mask splits if it is ``row and position < limit``. An access whose pointers split with a stride of 1
is a gather or scatter of rows, one for every element of ``row``.

As in :mod:`~mlutriton.ir.analysis.access`, index arithmetic is taken not to overflow its type.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from mlutriton.dtypes import I32, I64
from mlutriton.immutables import replace
from mlutriton.ir.analysis.access import FREE, AccessAnalysis
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.digits import digit_of, inner_axis, units
from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.linear_forms import Linear, linear_sum, scaled
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import AddPtr, Broadcast, Constant, Elementwise, ExpandDims, Reshape, Splat, Transpose
from mlutriton.ir.types import PointerType, TensorType, element_type, is_index, shape_of

_NOTHING = Linear(None, (), (None,))

_Place = tuple[Value, int]
"""A tensor and an axis of it."""


@dataclass(frozen=True, slots=True)
class Split:
    """A tensor that splits along an axis (module docstring).

    Attributes:
        row: a tensor without the axis; None for 0.
        linear: of rank 1, that of the axis.
    """

    row: Value | None
    linear: Linear

    @property
    def stride(self) -> int | None:
        """How far each element is from the one before it; None if that is not known, or not the same for all."""
        (term,) = self.linear.terms
        if term is None or term.wrap is not None or term.repeats > 1:
            return None
        return term.stride if isinstance(term.stride, int) else None

    def plus(self, addend: Scalar) -> Split:
        """This form with one more addend."""
        return replace(self, linear=self.linear.plus(addend))


@dataclass(frozen=True, slots=True)
class MaskSplit:
    """A mask that splits along an axis; ``row`` None is true everywhere, and all ``limits`` hold."""

    row: Value | None
    limits: tuple[Scalar, ...]


class RowAnalysis:
    """Splits tensors; what it computes of rows goes to the given :class:`Scalars`.

    Attributes:
        known: forms, by value and axis, of loop-carried values and loop results that the caller has established.
    """

    def __init__(self, analysis: AccessAnalysis, known: dict[tuple[Value, int], Split], scalars: Scalars) -> None:
        self.analysis = analysis
        self.known = known
        self.scalars = scalars
        self._splits: dict[_Place, Split | None] = {}
        self._dropped: dict[_Place, Value | None] = {}
        self._firsts: dict[_Place, Value | None] = {}

    def split(self, value: Value, axis: int) -> Split | None:
        """The form of an integer or pointer tensor along an axis, or None."""
        return depth_first(self._search_split, (value, axis))

    def _search_split(self, place: _Place) -> Search[_Place, Split | None]:
        if place in self.known:
            return self.known[place]
        if place not in self._splits:
            self._splits[place] = yield from self._split(*place)
        return self._splits[place]

    def _split(self, value: Value, axis: int) -> Search[_Place, Split | None]:
        form = self.analysis.linear(value, self.scalars)
        if form is not None and all(term is None for d, term in enumerate(form.terms) if d != axis):
            return Split(None, replace(form, terms=(form.terms[axis],)))
        # The base of pointers is found in their parts, even where they are the same along the axis.
        is_pointer = isinstance(element_type(value.type), PointerType)
        if is_pointer and (parts := (yield from self._parts(value, axis))) is not None:
            return parts
        row = self.drop(value, axis)
        if row is not None:
            return Split(row, _NOTHING)
        return None if is_pointer else (yield from self._parts(value, axis))

    def _parts(self, value: Value, axis: int) -> Search[_Place, Split | None]:
        operation = value.defining_op
        match operation:
            case AddPtr():
                return (yield from self._sum(operation, axis))
            case Elementwise() if operation.name == "add":
                return (yield from self._sum(operation, axis))
            case Elementwise() if operation.name == "mul":
                return (yield from self._product(operation, axis))
            case Elementwise() if (digit := digit_of(operation)) is not None and not digit.is_quotient:
                yield operation.operands[0], axis
                return self._remainder(operation, axis)
            case Elementwise() if operation.name in ("sext", "zext"):
                if not self._keeps_value(operation):
                    return None
                source = yield operation.operands[0], axis
                if source is None or source.row is None:
                    return source
                return replace(source, row=self._cast(source.row, operation))
            case Broadcast() | ExpandDims() | Transpose():
                inner = inner_axis(operation, axis)
                source = None if inner is None else (yield operation.operands[0], inner)
                if source is None or inner is None:
                    return None
                if _extent(operation.operands[0], inner) != _extent(value, axis):
                    source = replace(source, linear=replace(source.linear, terms=(None,)))
                return source if source.row is None else replace(source, row=self._moved(operation, source.row, axis))
            case _:
                return None

    def _product(self, operation: Elementwise, axis: int) -> Search[_Place, Split | None]:
        """A multiple, by a known number, of what splits."""
        for number, other in (operation.operands, operation.operands[::-1]):
            times = self.drop(other, axis)
            constant = times.defining_op if times is not None else None
            split = (yield number, axis) if isinstance(constant, Constant) else None
            if times is not None and split is not None and isinstance(constant, Constant):
                assert isinstance(constant.value, int)
                row = split.row and self.scalars.add(Elementwise.of("mul", split.row, times))
                return Split(row, scaled(split.linear, constant.value, self.scalars))
        return None

    def _remainder(self, operation: Elementwise, axis: int) -> Split | None:
        """A remainder that advances along the axis as the number does."""
        if not self._keeps_digits(operation, axis):
            return None
        number = self.split(operation.operands[0], axis)
        row = self.first(operation.result, axis)
        return number and row and Split(row, replace(number.linear, base=None, offset=()))

    def _keeps_digits(self, operation: Elementwise, axis: int) -> bool:
        """True if the quotient is the same all along the axis (see :mod:`~mlutriton.ir.analysis.digits`).

        Or, of a comparison, the verdict.
        """
        number, other = operation.operands
        divisor = self.drop(other, axis)
        split = None if divisor is None else self.split(number, axis)
        (term,) = split.linear.terms if split else (None,)
        if divisor is None or term is None or term.wrap or term.repeats > 1 or not isinstance(term.stride, int):
            return False
        reach = term.stride * (shape_of(number.type)[axis] - 1)
        row = self.first(number, axis) if reach >= 0 else None
        if row is None or not is_never_negative(row, self.analysis.least):
            return False
        multiples, constant, digit = self.analysis.multiples, divisor.defining_op, digit_of(operation)
        number = constant.value if isinstance(constant, Constant) else None
        if digit is not None and isinstance(digit.divisor, int):
            number = digit.divisor
        if isinstance(number, int) and number > 0:
            return any(multiples.divides(unit, row) for unit in units(number, reach))
        unit = 1 << reach.bit_length()
        return multiples.divides(unit, divisor) and multiples.divides(unit, row)

    def is_prefix(self, mask: Value, axis: int) -> bool:
        """True if a mask is false from some position along the axis on, and true before it."""
        operation = mask.defining_op
        match operation:
            case Elementwise(name="and", operands=operands):
                return all(self.is_prefix(each, axis) for each in operands)
            case Elementwise(name="slt" | "sle", operands=[number, end]):
                split = self.split(number, axis)
                (term,) = split.linear.terms if split else (None,)
                advances = term is not None and isinstance(term.stride, int) and term.stride >= 0 and not term.wrap
                return (advances and self.drop(end, axis) is not None) or self.drop(mask, axis) is not None
            case Broadcast() | ExpandDims() | Transpose():
                inner = inner_axis(operation, axis)
                return inner is None or self.is_prefix(operation.operands[0], inner)
            case _:
                return self.drop(mask, axis) is not None

    def first(self, value: Value, axis: int) -> Value | None:
        """What a tensor is at position 0 of an axis, without the axis; None if that takes more than arithmetic."""
        return depth_first(self._search_first, (value, axis))

    def _search_first(self, place: _Place) -> Search[_Place, Value | None]:
        if place not in self._firsts:
            self._firsts[place] = yield from self._first(*place)
        return self._firsts[place]

    def _first(self, value: Value, axis: int) -> Search[_Place, Value | None]:
        operation = value.defining_op
        match operation:
            case Constant() | Splat():
                return self.drop(value, axis)
            case Broadcast() | ExpandDims() | Transpose():
                form = self.analysis.linear(value, self.scalars) if is_index(value.type) else None
                start = self._only_along(form, axis)
                if start is not None:
                    type = TensorType(without(shape_of(value.type), axis), element_type(value.type))
                    return self.scalars.add(Constant.of(start, type))
                inner = inner_axis(operation, axis)
                row = self.drop(value, axis) if inner is None else (yield operation.operands[0], inner)
                return row and (row if inner is None else self._moved(operation, row, axis))
            case Elementwise():
                known = yield from _of_operands(operation, axis)
                is_known = len(known) == len(operation.operands)
                return self.scalars.add(Elementwise(known, operation.attributes)) if is_known else None
            case _:
                return self.drop(value, axis)

    @staticmethod
    def _only_along(form: Linear | None, axis: int) -> int | None:
        """What a number that depends on nothing but the position along an axis begins with."""
        if form is None or form.base is not None or not all(isinstance(each, int) for each in form.offset):
            return None
        if any(term is not None for d, term in enumerate(form.terms) if d != axis):
            return None
        term = form.terms[axis]
        if term is not None and term.wrap is not None:
            return None
        return sum(each for each in form.offset if isinstance(each, int))

    def _keeps_value(self, cast: Elementwise) -> bool:
        """True if a sum is extended to the sum of what its parts are extended to."""
        (source,) = cast.operands
        is_signed = cast.name == "sext" or is_never_negative(source, self.analysis.least)
        return is_signed and is_index(source.type)

    def _cast(self, row: Value, cast: Elementwise) -> Value:
        return self.scalars.add(Elementwise([row], cast.attributes))

    def _sum(self, operation: AddPtr | Elementwise, axis: int) -> Search[_Place, Split | None]:
        a = yield operation.operands[0], axis
        b = a and (yield operation.operands[1], axis)
        linear = a and b and linear_sum(a.linear, b.linear, self.scalars)
        if a is None or b is None or linear is None:
            return None
        if a.row is None or b.row is None:
            return Split(a.row or b.row, linear)
        if isinstance(element_type(a.row.type), PointerType):
            return Split(self.scalars.add(AddPtr([a.row, b.row])), linear)
        # Offsets of a pointer add up in its 64 bits, integers in their own type.
        pair = (a.row, b.row) if isinstance(operation, Elementwise) else (self._wide(a.row), self._wide(b.row))
        return Split(self.scalars.add(Elementwise.of("add", *pair)), linear)

    def _wide(self, row: Value) -> Value:
        return row if element_type(row.type) == I64 else self.scalars.add(Elementwise.of("sext", row, to=I64))

    def split_mask(self, mask: Value, axis: int) -> MaskSplit | None:
        """The form of a mask along an axis, or None."""
        bounds = self.analysis.bounds(mask, self.scalars)
        if bounds is not None and all(each == FREE for d, each in enumerate(bounds) if d != axis):
            return None if bounds[axis].first else MaskSplit(None, bounds[axis].limit)
        row = self.drop(mask, axis)
        if row is not None:
            return MaskSplit(row, ())
        operation = mask.defining_op
        match operation:
            case Elementwise() if operation.name == "and":
                a = self.split_mask(operation.operands[0], axis)
                b = a and self.split_mask(operation.operands[1], axis)
                if a is None or b is None:
                    return None
                both = a.row and b.row and self.scalars.add(Elementwise.of("and", a.row, b.row))
                return MaskSplit(both or a.row or b.row, a.limits + b.limits)
            case Broadcast() | ExpandDims() | Transpose():
                inner = inner_axis(operation, axis)
                if inner is None or _extent(operation.operands[0], inner) != _extent(mask, axis):
                    return None
                source = self.split_mask(operation.operands[0], inner)
                if source is None or source.row is None:
                    return source
                return replace(source, row=self._moved(operation, source.row, axis))
            case _:
                return None

    def drop(self, value: Value, axis: int) -> Value | None:
        """A tensor without an axis along which it certainly does not change; None if it may."""
        return depth_first(self._search_drop, (value, axis))

    def _search_drop(self, place: _Place) -> Search[_Place, Value | None]:
        if place not in self._dropped:
            self._dropped[place] = yield from self._drop(*place)
        return self._dropped[place]

    def _drop(self, value: Value, axis: int) -> Search[_Place, Value | None]:
        operation = value.defining_op
        shape = without(shape_of(value.type), axis)
        if not shape:
            return None
        type = TensorType(shape, element_type(value.type))
        match operation:
            case ExpandDims() if operation.integer("axis") == axis:
                return operation.operands[0]
            case _ if shape_of(value.type)[axis] == 1:
                return self.scalars.add(Reshape([value], result_types=[type]))
            case Constant():
                return self.scalars.add(Constant.of(operation.value, type))
            case Splat():
                return self.scalars.add(Splat(operation.operands, result_types=[type]))
            case Broadcast() | ExpandDims() | Transpose():
                inner = inner_axis(operation, axis)
                row = None if inner is None else (yield operation.operands[0], inner)
                return self._uniform(value, type) if row is None else self._moved(operation, row, axis)
            case Elementwise() | AddPtr():
                known = yield from _of_operands(operation, axis)
                if len(known) == len(operation.operands):
                    return self.scalars.add(operation.__class__(known, operation.attributes))
                if not isinstance(operation, Elementwise):
                    return None
                digit = digit_of(operation)
                may_stay = digit.is_quotient if digit is not None else operation.name in ("slt", "sge")
                return self.first(value, axis) if may_stay and self._keeps_digits(operation, axis) else None
            case _:
                return None

    def _uniform(self, value: Value, type: TensorType) -> Value | None:
        """A tensor of a type that is what all elements of a value are: quotients in a tensor of one axis, say."""
        form = self.analysis.linear(value, self.scalars) if is_index(value.type) else None
        if form is None or form.base is not None or not form.is_uniform:
            return None
        number = self.scalars.value(self.scalars.sum(form.offset))
        if type.element != I64:
            number = self.scalars.add(Elementwise.of("trunc_int", number, to=I32))
        return self.scalars.add(Splat([number], result_types=[type]))

    def _moved(self, operation: Broadcast | ExpandDims | Transpose, row: Value, axis: int) -> Value:
        """A row of the operand's as the operation leaves it."""
        match operation:
            case Broadcast():
                shape = without(shape_of(operation.result.type), axis)
                moved: Operation = Broadcast([row], result_types=[TensorType(shape, element_type(row.type))])
            case ExpandDims():
                added = operation.integer("axis")
                moved = ExpandDims([row], {"axis": added - (axis < added)})
            case Transpose():
                gone = operation.order[axis]
                order = tuple(d - (d > gone) for d in without(operation.order, axis))
                moved = Transpose([row], {"order": order})
        return self.scalars.add(moved)


def _of_operands(operation: Operation, axis: int) -> Generator[_Place, Value | None, list[Value]]:
    """Rows of the operands that have any, of what works element by element."""
    rows = list[Value]()
    for each in operation.operands:
        row = yield each, axis
        if row is not None:
            rows.append(row)
    return rows


def _extent(value: Value, axis: int) -> int:
    return shape_of(value.type)[axis]


def without(sequence: tuple[int, ...], place: int) -> tuple[int, ...]:
    """The others of a sequence."""
    return sequence[:place] + sequence[place + 1 :]
