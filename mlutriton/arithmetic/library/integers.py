"""Integer functions of the device library."""

from __future__ import annotations

from typing import Generic

from mlutriton.arithmetic.formats import Primitives, V
from mlutriton.dtypes import I1, I32, I64, DType


class Integers(Generic[V]):
    """The primitives on one integer type; Python numbers stand for constants."""

    def __init__(self, primitives: Primitives[V], dtype: DType) -> None:
        self.primitives = primitives
        self.dtype = dtype

    def __call__(self, name: str, *operands: V | int) -> V:
        """Return an operation."""
        values = [self.primitives.constant(x, self.dtype) if isinstance(x, int) else x for x in operands]
        return self.primitives.apply(name, *values, dtype=self.dtype)

    def cast(self, name: str, a: V, to: DType) -> V:
        """Return a cast from the type."""
        return self.primitives.apply(name, a, dtype=self.dtype, to=to)

    def select(self, mask: V, a: V | int, b: V | int) -> V:
        """Return the first where the mask is true, else the second."""
        values = [self.primitives.constant(x, self.dtype) if isinstance(x, int) else x for x in (a, b)]
        return self.primitives.apply("select", mask, *values, dtype=self.dtype)

    def as_i32(self, a: V) -> V:
        """Return a small integer of the type in 32 bits."""
        return a if self.dtype is I32 else self.cast("trunc_int", a, I32)

    def every(self, pattern: int) -> int:
        """Return a byte repeated over the width."""
        return int.from_bytes(bytes([pattern]) * self.dtype.bytes, "little")


def popcount(i: Integers[V], x: V) -> V:
    """Return the number of set bits: sums of pairs, of nibbles, of bytes."""
    x = i("sub", x, i("and", i("lshr", x, 1), i.every(0x55)))
    x = i("add", i("and", x, i.every(0x33)), i("and", i("lshr", x, 2), i.every(0x33)))
    x = i("and", i("add", x, i("lshr", x, 4)), i.every(0x0F))
    return i.as_i32(i("lshr", i("mul", x, i.every(0x01)), i.dtype.bits - 8))


def leading_zeros(i: Integers[V], x: V) -> V:
    """Return the number of zeros above the highest set bit."""
    distance = 1
    while distance < i.dtype.bits:
        x = i("or", x, i("lshr", x, distance))
        distance *= 2
    return popcount(i, i("xor", x, -1))


def first_set(i: Integers[V], x: V) -> V:
    """Return the place of the lowest set bit, counted from 1; 0 if there is none."""
    place = popcount(i, i("xor", x, i("sub", x, 1)))
    narrow: Integers[V] = Integers(i.primitives, I32)
    return narrow.select(i("eq", x, 0), 0, place)


def reversed_bits(i: Integers[V], x: V) -> V:
    """Return the bits in the opposite order: neighbours exchanged, then pairs, nibbles, bytes, ..."""
    distance = 1
    while distance < i.dtype.bits:
        # Of every two groups of that many bits, the lower one.
        mask = ((1 << i.dtype.bits) - 1) // ((1 << distance) + 1)
        x = i("or", i("and", i("lshr", x, distance), mask), i("shl", i("and", x, mask), distance))
        distance *= 2
    return x


def byte_permutation(i: Integers[V], low: V, high: V, selector: V) -> V:
    """Return four bytes of eight, each by a nibble of the selector, whose highest bit asks for copies of the sign."""
    wide: Integers[V] = Integers(i.primitives, I64)
    both = wide("or", i.cast("zext", low, I64), wide("shl", i.cast("zext", high, I64), 32))
    chosen = i.cast("zext", selector, I64)
    result: V | int = 0
    for place in range(4):
        nibble = wide("lshr", chosen, 4 * place)
        byte = wide("lshr", both, wide("shl", wide("and", nibble, 7), 3))
        sign = wide("ashr", wide("shl", byte, 56), 63)
        byte = wide.select(wide("ne", wide("and", nibble, 8), 0), sign, byte)
        result = wide("or", result, wide("shl", wide("and", byte, 255), 8 * place))
    return wide.cast("trunc_int", wide("or", result, 0), I32)


def product_of_24_bits(i: Integers[V], a: V, b: V) -> V:
    """Return the lower half of the product of the lower 24 bits, signed."""
    return i("mul", *(i("ashr", i("shl", x, 8), 8) for x in (a, b)))


def unsigned_product_of_24_bits(i: Integers[V], a: V, b: V) -> V:
    """Return the lower half of the product of the lower 24 bits, unsigned."""
    return i("mul", *(i("and", x, (1 << 24) - 1) for x in (a, b)))


def distance_plus(i: Integers[V], a: V, b: V, c: V) -> V:
    """Return abs(a - b) + c, signed."""
    return i("add", i("sub", i("smax", a, b), i("smin", a, b)), c)


def unsigned_distance_plus(i: Integers[V], a: V, b: V, c: V) -> V:
    """Return abs(a - b) + c, unsigned."""
    return i("add", i("sub", i("umax", a, b), i("umin", a, b)), c)


def mean_down(i: Integers[V], a: V, b: V) -> V:
    """Return the mean rounded downward, signed."""
    return i("add", i("and", a, b), i("ashr", i("xor", a, b), 1))


def unsigned_mean_down(i: Integers[V], a: V, b: V) -> V:
    """Return the mean rounded downward, unsigned."""
    return i("add", i("and", a, b), i("lshr", i("xor", a, b), 1))


def mean_up(i: Integers[V], a: V, b: V) -> V:
    """Return the mean rounded upward, signed."""
    return i("sub", i("or", a, b), i("ashr", i("xor", a, b), 1))


def unsigned_mean_up(i: Integers[V], a: V, b: V) -> V:
    """Return the mean rounded upward, unsigned."""
    return i("sub", i("or", a, b), i("lshr", i("xor", a, b), 1))


def truth(primitives: Primitives[V], mask: V) -> V:
    """Return a truth value as a C integer."""
    return primitives.apply("zext", mask, dtype=I1, to=I32)
