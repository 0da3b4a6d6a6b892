"""Digits of positions: quotients and remainders of linear forms.

Kernels that treat tensors as flat take positions apart again: ``channel = index // (H * W) % C``. Along the neighbours
that a tile has, such digits are either the same for all or advance as the index does, provided that no tile begins
amid them: for a number ``x`` that is a multiple of ``m``, and a divisor that is one too,

    (x + r) // divisor = x // divisor        and        (x + r) % divisor = x % divisor + r        for 0 <= r < m.

Shifts and masks of bits take digits too: if ``x`` is not negative, ``x >> 6`` is ``x // 64``, and ``x & 63`` is
``x % 64``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    Range,
    Splat,
    Transpose,
)
from mlutriton.ir.types import is_index, shape_of

Parts = tuple[tuple[int, ...], ...]
"""The extents that the positions along each axis are digits of, outermost first."""

_DIVISIONS = ("sdiv", "udiv")
_REMAINDERS = ("srem", "urem")
_SHIFTS = ("lshr", "ashr")
# Digits of so many bits fit into every index.
_MOST_BITS = 31


@dataclass(frozen=True, slots=True)
class Digit:
    """A quotient or remainder of an integer.

    Attributes:
        divisor: a number, or a value of the shape of the integer.
        is_quotient: whether it is a quotient.
        is_signed: whether it is so for negative integers, too.
    """

    divisor: Value | int
    is_quotient: bool
    is_signed: bool


def digit_of(operation: Operation | None) -> Digit | None:
    """What an operation takes of its first operand, if that is a digit."""
    match operation:
        case Elementwise(name=name, operands=[_, divisor]) if name in _DIVISIONS or name in _REMAINDERS:
            return Digit(divisor, name in _DIVISIONS, name in ("sdiv", "srem"))
        case Elementwise(name="lshr" | "ashr" | "and" as name, operands=[_, Value(defining_op=Constant(value=number))]):
            bits = int(number) if name in _SHIFTS else int(number + 1).bit_length() - 1
            if (
                is_index(operation.result.type)
                and 0 < bits < _MOST_BITS
                and (name in _SHIFTS or number + 1 == 1 << bits)
            ):
                return Digit(1 << bits, name in _SHIFTS, is_signed=False)
            return None
        case _:
            return None


def units(divisor: int, reach: int) -> Iterator[int]:
    """The numbers above ``reach`` of which a divisor is a multiple, the least first."""
    small = [each for each in range(1, math.isqrt(divisor) + 1) if divisor % each == 0]
    found = [*small, *(divisor // each for each in reversed(small))]
    return (each for each in dict.fromkeys(found) if each > reach)


def inner_axis(operation: Broadcast | ExpandDims | Transpose, axis: int) -> int | None:
    """The operand's axis that becomes an axis of the result; None if it is new."""
    match operation:
        case Broadcast():
            return axis
        case ExpandDims():
            added = operation.integer("axis")
            return None if added == axis else axis - (added < axis)
        case Transpose():
            return operation.order[axis]


class Cuts:
    """Where digits of positions begin along the axes of a tensor.

    Args:
        known_factor: the greatest number of which a scalar is known to be a multiple.
    """

    def __init__(self, known_factor: Callable[[Value], int]) -> None:
        self._known_factor = known_factor
        self._found: dict[tuple[Value, int], tuple[frozenset[int], int]] = {}

    def parts(self, value: Value) -> Parts:
        """For each axis of a tensor the extents of its digits, outermost first."""
        return tuple(_chain(extent, self._of(value, axis)[0]) for axis, extent in enumerate(shape_of(value.type)))

    def ends(self, mask: Value) -> int:
        """A number of which the ends are multiples that a mask compares positions to; 0 of none."""
        return math.gcd(*(self._divisor(end) for _, end in compared_ends(mask)))

    def wanted(self, pointer: Value, mask: Value) -> dict[Value, int]:
        """By argument of the function, of what it has to be a multiple so that a mask cuts no digits of positions."""
        found: dict[Value, int] = {}
        for axis, (_, *inner) in enumerate(self.parts(pointer)):
            for number, end in compared_ends(mask) if inner else ():
                argument = _repeated_argument(end)
                if argument is not None and self._of(number, axis)[1]:
                    found[argument] = math.lcm(found.get(argument, 1), math.prod(inner))
        return {argument: factor for argument, factor in found.items() if self._known_factor(argument) % factor}

    def short_divisor(self, division: Elementwise, usual: int) -> Value | None:
        """The argument that divides positions themselves, if by what is known of it rows are shorter than usual."""
        number, other = division.operands
        argument = _repeated_argument(other)
        known = 1 if argument is None else self._known_factor(argument)
        shape = shape_of(number.type)
        is_cut = any(self._of(number, axis)[1] == 1 and known < extent for axis, extent in enumerate(shape))
        return argument if is_cut and known < usual else None

    def _of(self, value: Value, axis: int) -> tuple[frozenset[int], int]:
        """The lengths of digits along an axis, and by what positions have been divided; 0 if there are none."""
        return depth_first(self._search, (value, axis))

    def _search(self, place: tuple[Value, int]) -> Search[tuple[Value, int], tuple[frozenset[int], int]]:
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = yield from self._find(*place)
        return found

    def _find(self, value: Value, axis: int) -> Search[tuple[Value, int], tuple[frozenset[int], int]]:
        operation, nothing = value.defining_op, (frozenset[int](), 0)
        match operation:
            case Range():
                return frozenset(), 1
            case Broadcast() | ExpandDims() | Transpose():
                inner = inner_axis(operation, axis)
                return nothing if inner is None else (yield operation.operands[0], inner)
            case Elementwise() | AddPtr():
                cuts, scales = frozenset[int](), list[int]()
                for each in operation.operands:
                    lengths, scale = yield each, axis
                    cuts |= lengths
                    scales.append(scale)
                digit = digit_of(operation)
                if digit is not None and scales[0]:
                    length = scales[0] * self._divisor(digit.divisor)
                    return cuts | {length}, length if digit.is_quotient else max(scales)
                return cuts, max(scales)
            case _:
                return nothing

    def _divisor(self, value: Value | int) -> int:
        if isinstance(value, int):
            return value
        operation = value.defining_op
        match operation:
            case Constant(value=int(number)) if number > 0:
                return number
            case Splat():
                return self._known_factor(operation.operands[0])
            case Broadcast() | ExpandDims():
                return self._divisor(operation.operands[0])
            case _:
                return 1


def _repeated_argument(value: Value) -> Value | None:
    """The argument of a function, or carried value, of which a tensor has copies."""
    while isinstance(operation := value.defining_op, Splat | Broadcast | ExpandDims):
        (value,) = operation.operands
    return value if operation is None else None


def compared_ends(mask: Value) -> Iterator[tuple[Value, Value]]:
    """The positions that a mask compares, and what it wants them to be below."""
    operation = mask.defining_op
    match operation:
        case Elementwise(name="and", operands=operands):
            for each in operands:
                yield from compared_ends(each)
        case Elementwise(name="slt", operands=[number, end]):
            yield number, end
        case Broadcast() | ExpandDims():
            yield from compared_ends(operation.operands[0])
        case _:
            return


def _chain(extent: int, lengths: frozenset[int]) -> tuple[int, ...]:
    """The extents of digits that begin at multiples of all lengths, so far as they divide each other."""
    parts: list[int] = []
    done = 1
    for length in sorted({math.gcd(extent, each) for each in lengths}):
        if length % done == 0 and length > done:
            parts.append(length // done)
            done = length
    if extent > done or not parts:
        parts.append(extent // done)
    return tuple(reversed(parts))
