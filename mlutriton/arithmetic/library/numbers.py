"""Functions that look at a number as a number: its parts, its neighbours, its remainders and nearest integers."""

from __future__ import annotations

import math

from mlutriton.arithmetic.formats import Format, V
from mlutriton.arithmetic.library.integers import truth
from mlutriton.arithmetic.library.rounding import exponent_of, scale_by_power
from mlutriton.dtypes import F64, I32, I64


def as_i32(f: Format[V], a: V) -> V:
    """An integer of the format's width in 32 bits."""
    return a if f.dtype is not F64 else f.primitives.apply("trunc_int", a, dtype=I64, to=I32)


def scaled(f: Format[V], x: V, exponent: V) -> V:
    """Return x * 2**exponent for a 32-bit exponent."""
    if f.dtype is F64:
        exponent = f.primitives.apply("sext", exponent, dtype=I32, to=I64)
    limit = 4 * f.exponent_bias
    exponent = f.on_integers("smax", f.on_integers("smin", exponent, limit), -limit)
    return scale_by_power(f, x, exponent)


def exponent(f: Format[V], x: V) -> V:
    """Return the exponent as a 32-bit integer; the least one for zero and NaN, the greatest for infinities."""
    result = f.select_integer(f.is_finite(x), exponent_of(f, x), (1 << 31) - 1)
    is_none = f.either(f.compare("foeq", x, 0.0), f.compare("funo", x, x))
    return as_i32(f, f.select_integer(is_none, -(1 << 31), result))


def exponent_as_float(f: Format[V], x: V) -> V:
    """Return the exponent; -inf for zero, +inf for infinities."""
    result = f.select(f.is_finite(x), f.from_integer(exponent_of(f, x)), f.absolute(x))
    return f.select(f.compare("foeq", x, 0.0), -math.inf, result)


def next_after(f: Format[V], x: V, y: V) -> V:
    """Return the neighbour of x in the direction of y."""
    bits = f.bits(x)
    outward = f.on_masks("eq", f.compare("fogt", y, x), f.compare("fogt", x, 0.0))
    moved = f.select_integer(outward, f.integer_add(bits, 1), f.integer_sub(bits, 1))
    least = f.copysign(f.from_bits(f.on_integers("or", 0, 1)), y)
    result = f.select(f.compare("foeq", x, 0.0), least, f.from_bits(moved))
    result = f.select(f.compare("foeq", x, y), y, result)
    return f.select(f.either(f.compare("funo", x, x), f.compare("funo", y, y)), math.nan, result)


def positive_difference(f: Format[V], x: V, y: V) -> V:
    """Return x - y where that is positive, else 0."""
    return f.select(f.compare("fole", x, y), 0.0, f.sub(x, y))


def remainder(f: Format[V], x: V, y: V) -> V:
    """Return the exact remainder of the quotient rounded to nearest, ties to even."""
    a, b = f.absolute(x), f.absolute(y)
    double = f.add(b, b)
    # Below twice the divisor, which keeps whether the quotient is even; all differences are exact.
    rest = f.select(f.is_finite(double), f("frem", a, double), a)
    once = f.sub(rest, b)
    twice = f.sub(once, b)
    beyond = f.select(f.compare("fult", f.add(once, once), b), once, twice)
    result = f.select(f.compare("fole", f.add(rest, rest), b), rest, beyond)
    result = f.select(f.is_infinite(y), a, result)
    is_undefined = f.either(f.invert(f.is_finite(x)), f.either(f.compare("funo", y, y), f.compare("foeq", y, 0.0)))
    result = f.select(is_undefined, math.nan, result)
    negated = f.negate(result)
    return f.select(f.compare("folt", f.copysign(f.constant(1.0), x), 0.0), negated, result)


def rounded_away(f: Format[V], x: V) -> V:
    """Return the nearest integer, ties away from zero."""
    whole = f("trunc", x)
    away = f.add(whole, f.copysign(f.constant(1.0), x))
    result = f.select(f.compare("foge", f.absolute(f.sub(x, whole)), 0.5), away, whole)
    return f.copysign(result, x)


def integer_rounded_away(f: Format[V], x: V) -> V:
    """Return the nearest 64-bit integer, ties away from zero."""
    return f.cast("fptosi", rounded_away(f, x), I64)


def integer_rounded_to_even(f: Format[V], x: V) -> V:
    """Return the nearest 64-bit integer, ties to even."""
    return f.cast("fptosi", f.round(x), I64)


def saturated(f: Format[V], x: V) -> V:
    """Return the value limited to 0 to 1; 0 for NaN."""
    return f("fmin", f("fmax", x, 0.0), 1.0)


def is_nan(f: Format[V], x: V) -> V:
    """Return 1 for NaN."""
    return truth(f.primitives, f.compare("funo", x, x))


def is_infinite(f: Format[V], x: V) -> V:
    """Return 1 for infinities."""
    return truth(f.primitives, f.is_infinite(x))


def is_finite(f: Format[V], x: V) -> V:
    """Return 1 for all but infinities and NaN."""
    return truth(f.primitives, f.is_finite(x))


def sign_bit(f: Format[V], x: V) -> V:
    """Return 1 if the sign bit is set."""
    return truth(f.primitives, f.on_integers("slt", f.bits(x), 0))


def upper_half(f: Format[V], x: V) -> V:
    """Return the upper 32 bits of an f64 number."""
    return as_i32(f, f.on_integers("lshr", f.bits(x), 32))


def lower_half(f: Format[V], x: V) -> V:
    """Return the lower 32 bits of an f64 number."""
    return as_i32(f, f.bits(x))


def from_halves(f: Format[V], high: V, low: V) -> V:
    """Return the f64 number of two 32-bit halves."""
    high, low = (f.primitives.apply("zext", half, dtype=I32, to=I64) for half in (high, low))
    return f.from_bits(f.on_integers("or", f.shift_left(high, 32), low))


def reciprocal_upper_half(f: Format[V], x: V) -> V:
    """Return 1 / x with the lower 32 bits of the result cleared."""
    return f.from_bits(f.integer_and(f.bits(f.div(1.0, x)), -(1 << 32)))
