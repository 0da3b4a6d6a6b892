"""Exchanges of elements a power of two apart, of which sorts are made, as arithmetic on the two halves of a tensor.

What stands on the other side of an axis of two elements is written as what both come to, less oneself:

    partner = x ^ broadcast(reduce xor x)                 axis k of x has two elements

For the vector unit that is a reduction and a repetition of short lines, the more so the farther back the axis. With the
axis in front, both sides are halves of the tensor, one behind the other, and nothing has to be computed to exchange
them:

    a, b = halves of x                                    a, b of the partner are b, a of x
    a', b' = select(a > b, b, a), select(b > a, a, b)

So values that come from a partner are computed by halves, and a tensor has the axis in front that the next exchange
needs there. Elements are never permuted freely for that, but *turned*: the axes behind some place go before the others.
From any such order to any other it is one transpose, also back to the order in which the elements stand in memory. A
reduction of an axis of two elements is the combination of its halves, and leaves the others turned.

Masks of such exchanges are arithmetic on positions, which is done for the positions of a half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.dtypes import I1
from mlutriton.ir.analysis.combine import combine_kind
from mlutriton.ir.core import Block, Function, Operation, Value, use_counts
from mlutriton.ir.ops import (
    Broadcast,
    Concatenate,
    Constant,
    Elementwise,
    ExpandDims,
    Range,
    Reduce,
    Reshape,
    Splat,
    Transpose,
    Window,
)
from mlutriton.ir.passes import simplify
from mlutriton.ir.types import TensorType, Type, element_type, shape_of, storage_dtype

_SIDES = 2

# Places of a tensor, by digits of which the last grows fastest: how many values each has, and what one more adds.
_Digits = Sequence[tuple[int, int]]


def are_in(function: Function) -> bool:
    """True if elements of a tensor change places with others."""
    return bool(_partners(function))


def run(function: Function) -> None:
    """Compute exchanges by halves."""
    partners = _partners(function)
    if not partners:
        return
    _Exchanges(partners, use_counts(function.body)).block(function.body)
    simplify.run(function)


def room_bytes(function: Function) -> int:
    """What exchanges by halves take on chip: a tensor twice, and for each place of an axis two masks of half its size.

    In strips there are no halves: each exchange would bring all of the tensor from memory in another order.
    """
    tensors = {each.source: _count(each.source) for each in _partners(function).values()}
    return max(
        (
            2 * count * storage_dtype(element_type(value.type)).bytes + count * (count.bit_length() - 1) * I1.bytes
            for value, count in tensors.items()
        ),
        default=0,
    )


@dataclass(frozen=True)
class _Partner:
    """The other sides of an axis of two elements.

    Attributes:
        result: the tensor of them.
        source: the tensor of which they are.
        distance: how far apart the sides are.
        both: what makes the tensor of what both sides come to.
    """

    result: Value
    source: Value
    distance: int
    both: list[Operation]


def _partners(function: Function) -> dict[Value, _Partner]:
    """All tensors of other sides."""
    found = [_partner(each) for each in function.walk() if isinstance(each, Elementwise)]
    return {each.result: each for each in found if each is not None}


def _partner(operation: Elementwise) -> _Partner | None:
    """What an operation does, if it takes what is on this side from what both sides come to."""
    if operation.name != "xor" or not shape_of(operation.result.type):
        return None
    for source, both in (operation.operands, operation.operands[::-1]):
        repeated = both.defining_op
        kept = repeated.operands[0].defining_op if isinstance(repeated, Broadcast) else None
        reduced = kept.operands[0].defining_op if isinstance(kept, ExpandDims | Reshape) else None
        if not isinstance(reduced, Reduce) or reduced.operands != [source] or combine_kind(reduced) != "xor":
            continue
        shape, axis = shape_of(source.type), reduced.axis
        assert repeated is not None
        assert kept is not None
        if shape[axis] == _SIDES and shape_of(kept.result.type) == (*shape[:axis], 1, *shape[axis + 1 :]):
            distance = math.prod(shape[axis + 1 :])
            return _Partner(operation.result, source, distance, [repeated, kept, reduced])
    return None


class _Exchanges:
    """The walk.

    Attributes:
        partners: by tensor of other sides.
        apart: of tensors that are computed by halves, how far apart these are.
        halves: by tensor, how far apart they are, and side: its halves.
        turned: of tensors that are turned, the elements in a row, and how many of the last ones go first.
        known: tensors whose elements follow from their positions.
    """

    def __init__(self, partners: Mapping[Value, _Partner], uses: Mapping[Value, int]) -> None:
        self.partners = partners
        self.apart: dict[Value, int] = {}
        self.halves: dict[tuple[Value, int, int], Value] = {}
        self.turned: dict[Value, dict[int, Value]] = {}
        self.known: set[Value] = set()
        self.code: list[Operation] = []
        self._same: dict[Value, Value] = {}
        self._orders: dict[Value, int] = {}
        # What serves partners alone is not needed any more.
        self._dropped = {
            each
            for found in partners.values()
            if all(uses[each.result] == 1 for each in found.both)
            for each in found.both
        }

    def block(self, block: Block) -> None:
        """Rewrite a block; what is made in it serves nothing outside."""
        saved = self.code, self.halves, self.turned
        self.code, self.halves = [], dict(self.halves)
        self.turned = {value: dict(rows) for value, rows in self.turned.items()}
        for operation in block.operations:
            begin = len(self.code)
            self._operation(operation)
            for made in self.code[begin:]:
                made.location = operation.location
        block.operations = self.code
        self.code, self.halves, self.turned = saved

    def _operation(self, operation: Operation) -> None:
        if operation in self._dropped:
            return
        if operation.results and operation.results[0] in self.partners:
            found = self.partners[operation.result]
            for side in range(_SIDES):
                self._half(found.source, found.distance, side)
            self._by_halves(operation.result, found.distance, len(self._orders))
            return
        match operation:
            case Elementwise() if found := [each for each in operation.operands if each in self.apart]:
                last = max(found, key=self._orders.__getitem__)
                self._by_halves(operation.result, self.apart[last], self._orders[last])
                return
            case Reduce() if self._is_of_halves(operation):
                self._combine(operation)
                return
            case Reshape() | ExpandDims() if operation.operands[0].type != operation.result.type:
                if shape_of(operation.operands[0].type) and shape_of(operation.result.type):
                    self._same[operation.result] = self._root(operation.operands[0])
            case _:
                pass
        self._note_known(operation)
        within = {each for region in operation.regions for inner in region.walk() for each in inner.operands}
        for value in sorted(within, key=lambda each: each.age):
            if self._is_turned(value):
                self._turned(value, _count(value))
        operation.operands = [self._as_it_was(each) for each in operation.operands]
        for region in operation.regions:
            self.block(region)
        self.code.append(operation)

    def _note_known(self, operation: Operation) -> None:
        match operation:
            case Constant() | Range() | Splat():
                self.known.update(operation.results)
            case Elementwise() | Broadcast() | Reshape() | ExpandDims() if self.known.issuperset(operation.operands):
                self.known.update(operation.results)
            case _:
                pass

    def _root(self, value: Value) -> Value:
        return self._same.get(value, value)

    def _is_turned(self, value: Value) -> bool:
        root = self._root(value)
        return root in self.apart or root in self.turned

    def _as_it_was(self, value: Value) -> Value:
        """A value in the order of its elements, to be used by what does not go by halves."""
        if not self._is_turned(value):
            return value
        return self._add(Reshape([self._turned(value, _count(value))], result_types=[value.type]))

    # ---- halves ----------------------------------------------------------------------------------------------------

    def _by_halves(self, value: Value, distance: int, order: int) -> None:
        """Let a value be computed by halves that are so far apart, where they are needed."""
        self.apart[value], self._orders[value] = distance, order

    def _half(self, value: Value, distance: int, side: int) -> Value:
        """The elements on one side of those that are so far apart; those of the other side are in the same order."""
        root = self._root(value)
        key = root, distance, side
        if key not in self.halves:
            made = self._found_half(root, distance, side)
            made.name = made.name or value.name
            self.halves[key] = made
        return self.halves[key]

    def _found_half(self, value: Value, distance: int, side: int) -> Value:
        operation, half = value.defining_op, _count(value) // _SIDES
        is_here = self.apart.get(value) == distance
        if value in self.partners and is_here:
            return self._half(self.partners[value].source, distance, 1 - side)
        if isinstance(operation, Elementwise) and value not in self.partners and (is_here or _is_bitcast(operation)):
            return self._elementwise(operation, [self._half(each, distance, side) for each in operation.operands])
        if value in self.known:
            known = self._known(value, [(distance, 1), (half // distance, _SIDES * distance)], side * distance)
            if known is not None:
                return known
        row = self._turned(value, _SIDES * distance)
        return self._add(Window([row], {"axis": 0, "first": side * half, "count": half}))

    def _elementwise(self, operation: Elementwise, operands: Sequence[Value]) -> Value:
        return self._add(Elementwise(operands, operation.attributes))

    def _is_of_halves(self, operation: Reduce) -> bool:
        shape = shape_of(operation.operands[0].type)
        return shape[operation.axis] == _SIDES and len(shape) > 1 and any(map(self._is_turned, operation.operands))

    def _combine(self, operation: Reduce) -> None:
        """Combine the halves of what is reduced along an axis of two elements."""
        distance = math.prod(shape_of(operation.operands[0].type)[operation.axis + 1 :])
        sides = [self._half(each, distance, side) for side in range(_SIDES) for each in operation.operands]
        values = dict(zip(operation.region.arguments, sides, strict=True))
        count = _count(operation.results[0])
        for inner in operation.region.operations[:-1]:
            if isinstance(inner, Constant):
                values[inner.result] = self._add(Constant.of(inner.value, _row_of(inner.result.type, count)))
            else:
                assert isinstance(inner, Elementwise)
                values[inner.result] = self._elementwise(inner, [values[each] for each in inner.operands])
        for result, yielded in zip(operation.results, operation.region.terminator.operands, strict=True):
            self.turned[result] = {distance: values[yielded]}

    # ---- order -----------------------------------------------------------------------------------------------------

    def _turned(self, value: Value, period: int) -> Value:
        """The elements of a value in a row, so many of the last axes' first.

        Of elements [others, period] in the order of the value, it is [period, others].
        """
        root, count = self._root(value), _count(value)
        forms = self.turned.setdefault(root, {})
        if not forms:
            if root in self.apart:
                distance = self.apart[root]
                halves = [self._half(root, distance, side) for side in range(_SIDES)]
                forms[_SIDES * distance] = self._add(Concatenate(halves))
            else:
                forms[count] = self._in_shape(root, (count,))
        if period not in forms:
            now, row = next(iter(forms.items()))
            if max(now, period) % min(now, period):
                now, row = count, self._turned(root, count)
            columns = period * (count // now) if period < now else period // now
            table = self._in_shape(row, (count // columns, columns))
            moved = self._add(Transpose([table], {"order": (1, 0)}))
            forms[period] = self._in_shape(moved, (count,))
        return forms[period]

    # ---- arithmetic on positions -----------------------------------------------------------------------------------

    def _known(self, value: Value, digits: _Digits, first: int) -> Value | None:
        """The elements of a known value at some places, in a row; None if the places are no digits of its own.

        Args:
            value: whose elements follow from their positions.
            digits: of the places.
            first: of the places.
        """
        operation = value.defining_op
        count = math.prod(extent for extent, _ in digits)
        match operation:
            case Constant():
                return self._add(Constant.of(operation.value, _row_of(value.type, count)))
            case Splat():
                return self._add(Splat(operation.operands, result_types=[_row_of(value.type, count)]))
            case Range():
                return self._positions(digits, operation.integer("start") + first)
            case Reshape() | ExpandDims():
                return self._known(operation.operands[0], digits, first)
            case Broadcast():
                (source,) = operation.operands
                inside = _before_repetition(shape_of(source.type), shape_of(value.type), digits, first)
                return None if inside is None else self._known(source, *inside)
            case Elementwise():
                operands = [self._known(each, digits, first) for each in operation.operands]
                there = [each for each in operands if each is not None]
                return self._elementwise(operation, there) if len(there) == len(operands) else None
            case _:
                return None

    def _positions(self, digits: _Digits, first: int) -> Value:
        """A row of integers by digits, from a first one."""
        count = math.prod(extent for extent, _ in digits)
        places = self._add(Range((), {"start": 0, "end": count}))
        total, after = self._add(Constant.of(first, places.type)), count
        for extent, step in digits:
            after //= extent
            if step:
                digit = self._by(self._by(places, "udiv", after), "urem", extent if extent * after < count else 0)
                total = self._add(Elementwise.of("add", self._by(digit, "mul", step), total))
        return total

    def _by(self, value: Value, name: str, number: int) -> Value:
        """An operation with a number, by shifts and masks where it can be; 0 stands for nothing to be done."""
        if number == 0 or (number == 1 and name != "urem"):
            return value
        if number.bit_count() == 1 and name != "mul":
            name, number = ("lshr", number.bit_length() - 1) if name == "udiv" else ("and", number - 1)
        return self._add(Elementwise.of(name, value, self._add(Constant.of(number, value.type))))

    # ---- code ------------------------------------------------------------------------------------------------------

    def _in_shape(self, value: Value, shape: tuple[int, ...]) -> Value:
        if shape_of(value.type) == shape:
            return value
        return self._add(Reshape([value], result_types=[TensorType(shape, element_type(value.type))]))

    def _add(self, operation: Operation) -> Value:
        self.code.append(operation)
        return operation.result


def _is_bitcast(operation: Elementwise) -> bool:
    return operation.name == "bitcast"


def _count(value: Value) -> int:
    return math.prod(shape_of(value.type))


def _row_of(type: Type, count: int) -> TensorType:
    return TensorType((count,), element_type(type))


def _before_repetition(
    source: Sequence[int], target: Sequence[int], digits: _Digits, first: int
) -> tuple[_Digits, int] | None:
    """Places of a repeated tensor as places of what is repeated; None if they are no digits of that."""
    axes: list[tuple[int, int, int]] = []
    place = step = 1
    for extent, wide in zip(reversed(source), reversed(target), strict=True):
        axes.append((place, wide, step if extent > 1 else 0))
        place, step = place * wide, step * extent
    found: list[tuple[int, int]] = []
    for extent, begin in digits:
        parts: list[tuple[int, int]] = []
        rest, at = extent, begin
        for place, wide, step in axes:
            if rest == 1 or at >= place * wide or at == 0:
                continue
            taken = min(rest, place * wide // at)
            if at % place or place * wide % at or rest % taken:
                return None
            parts.append((taken, at // place * step))
            rest, at = rest // taken, at * taken
        found += [(rest, 0)] if at == 0 else reversed(parts)
    return _joined(found), sum(first // place % wide * step for place, wide, step in axes)


def _joined(digits: _Digits) -> _Digits:
    """The same places by as few digits as there may be."""
    joined: list[tuple[int, int]] = []
    for extent, step in digits:
        if extent == 1:
            continue
        if joined and joined[-1][1] == extent * step:
            joined[-1] = joined[-1][0] * extent, step
        else:
            joined.append((extent, step))
    return joined or [(1, 0)]
