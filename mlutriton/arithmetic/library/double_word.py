"""Numbers as the unevaluated sum of two, and the logarithm that is exact enough to be multiplied and raised.

Source: Dekker, A floating-point technique for extending the available precision (1971); Knuth, TAOCP 2, 4.2.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

from mlutriton.arithmetic.formats import Format, V
from mlutriton.dtypes import F32, DType


@dataclass(frozen=True, slots=True)
class Pair(Generic[V]):
    """The exact sum of two numbers; ``low`` is at most half a unit in the last place of ``high``."""

    high: V
    low: V


def sum_of(f: Format[V], a: V | float, b: V | float) -> Pair[V]:
    """The sum of two numbers without error."""
    high = f.add(a, b)
    part = f.sub(high, a)
    return Pair(high, f.add(f.sub(a, f.sub(high, part)), f.sub(b, part)))


def sum_of_ordered(f: Format[V], a: V | float, b: V) -> Pair[V]:
    """The sum without error, if the first number is not the lesser in magnitude."""
    high = f.add(a, b)
    return Pair(high, f.sub(b, f.sub(high, a)))


def product_of(f: Format[V], a: V, b: V | float) -> Pair[V]:
    """The product without error."""
    high = f.mul(a, b)
    return Pair(high, f.fma(a, b, f.negate(high)))


def quotient_of(f: Format[V], a: Pair[V], b: Pair[V]) -> Pair[V]:
    """The quotient to about twice the precision."""
    high = f.div(a.high, b.high)
    rest = f.add(f.fma(f.negate(high), b.high, a.high), f.fma(f.negate(high), b.low, a.low))
    return Pair(high, f.div(rest, b.high))


def times(f: Format[V], a: Pair[V], b: Pair[V]) -> Pair[V]:
    """The product of two pairs to about twice the precision."""
    high = f.mul(a.high, b.high)
    low = f.fma(a.high, b.high, f.negate(high))
    return sum_of_ordered(f, high, f.fma(a.high, b.low, f.fma(a.low, b.high, low)))


def plus(f: Format[V], a: Pair[V], b: Pair[V]) -> Pair[V]:
    """The sum of two pairs to about twice the precision."""
    total = sum_of(f, a.high, b.high)
    return sum_of_ordered(f, total.high, f.add(total.low, f.add(a.low, b.low)))


def constant(f: Format[V], value: float, rest: float = 0.0) -> Pair[V]:
    """A constant that is given as a double and what that lacks."""
    high = float(f.dtype.numpy.type(value))
    low = rest if f.dtype is not F32 else value - high
    return Pair(f.constant(high), f.constant(low))


LN2 = (math.log(2), 2.3190468138462996e-17)
LOG10_E = (math.log10(math.e), 1.098319650216765e-17)
LN10 = (math.log(10), -2.1707562233822494e-16)
HALF_PI = (math.pi / 2, 6.123233995736766e-17)
TWO_THIRDS = (2 / 3, 3.700743415417188e-17)
PI = (math.pi, 1.2246467991473532e-16)


def terms(dtype: DType, f32: int, f64: int) -> int:
    """A number of terms that depends on the format."""
    return f32 if dtype is F32 else f64


def logarithm(f: Format[V], x: V) -> Pair[V]:
    """The natural logarithm of a positive, finite number, with a relative error below 2**-(p + 8) for p digits.

    x = 2**k * m with m from sqrt(1/2) to sqrt(2), and ln(m) = 2 artanh(s) with s = (m - 1) / (m + 1).
    """
    mantissa_bits = f.dtype.mantissa_bits
    subnormal = f.compare("folt", x, 2.0 ** (1 - f.exponent_bias))
    bits = f.bits(f.select(subnormal, f.mul(x, 2.0 ** (mantissa_bits + 2)), x))
    root_half_bits = int.from_bytes(f.dtype.numpy.type(math.sqrt(0.5)).tobytes(), "little")
    exponent = f.shift_right(f.integer_sub(bits, root_half_bits), mantissa_bits)
    m = f.from_bits(f.integer_sub(bits, f.shift_left(exponent, mantissa_bits)))
    k = f.from_integer(f.integer_sub(exponent, f.select_integer(subnormal, mantissa_bits + 2, 0)))
    fraction = f.sub(m, 1.0)
    s = quotient_of(f, Pair(fraction, f.constant(0.0)), sum_of(f, fraction, 2.0))
    z = times(f, s, s)
    cube = times(f, times(f, z, s), constant(f, *TWO_THIRDS))
    count = terms(f.dtype, 5, 12)
    series = f.polynomial(z.high, tuple(2 / (2 * n + 5) for n in range(count)))
    rest = f.mul(f.mul(f.mul(z.high, z.high), s.high), series)
    mantissa = plus(f, Pair(f.mul(s.high, 2.0), f.mul(s.low, 2.0)), plus(f, cube, Pair(rest, f.constant(0.0))))
    return plus(f, times(f, Pair(k, f.constant(0.0)), constant(f, *LN2)), mantissa)
