"""Powers, roots, logarithms and hyperbolic functions of the device library.

Largest error in units in the last place of the exact result, f32 and f64: 2, and none where the result of a power, a
root or a logarithm is a number; ``tests/arithmetic/test_library.py`` holds
the bound.
"""

from __future__ import annotations

import math

from mlutriton.arithmetic.formats import Format, V
from mlutriton.arithmetic.functions import EXP_RANGE, clamp, logarithm_limits, times_power_of_two
from mlutriton.arithmetic.library.double_word import (
    LN2,
    LN10,
    LOG10_E,
    Pair,
    constant,
    logarithm,
    plus,
    product_of,
    sum_of,
    sum_of_ordered,
    terms,
    times,
)
from mlutriton.dtypes import I32


def _pair(f: Format[V], a: V) -> Pair[V]:
    return Pair(a, f.constant(0.0))


def exponential_of(f: Format[V], a: Pair[V]) -> V:
    """Return e to the power of a sum, with less than 0.6 units of error: a result that is a number is exact.

    e**a = 2**k * e**r with abs(r) <= ln(2) / 2, where both r and the sum 1 + r keep what their rounding loses.
    """
    limited = clamp(f, a.high, EXP_RANGE[f.dtype])
    low = f.select(f.compare("foeq", limited, a.high), a.low, 0.0)
    shifted = f.fma(limited, 1 / LN2[0], f.integer_shift)
    k = f.negate(f.sub(shifted, f.integer_shift))
    ln2 = constant(f, *LN2)
    # The difference is exact, for ln(2) has as many digits as it has.
    r = sum_of(f, f.fma(k, ln2.high, limited), f.fma(k, ln2.low, low))
    count = terms(f.dtype, 8, 13)
    series = f.polynomial(r.high, tuple(1 / math.factorial(n + 2) for n in range(count)))
    total = sum_of_ordered(f, 1.0, r.high)
    tail = f.fma(f.mul(r.high, r.high), series, r.low)
    return times_power_of_two(f, f.add(total.high, f.add(total.low, tail)), shifted)


def exp10(f: Format[V], x: V) -> V:
    """Return 10**x."""
    product = times(f, _pair(f, x), constant(f, *LN10))
    # Far outside the range, where the product's second part is not a number, the first decides.
    high = f.select(f.is_finite(product.high), product.high, f.mul(x, 4.0))
    return exponential_of(f, Pair(high, product.low))


def log10(f: Format[V], x: V) -> V:
    """Return the logarithm to base 10."""
    product = times(f, logarithm(f, x), constant(f, *LOG10_E))
    return logarithm_limits(f, x, f.add(product.high, product.low))


def _logarithm_of_one_plus(f: Format[V], a: Pair[V]) -> Pair[V]:
    """ln(1 + a): the logarithm of the rounded sum, and what the rounding lost divided by it."""
    total = sum_of(f, 1.0, a.high)
    lost = f.add(total.low, a.low)
    return plus(f, logarithm(f, total.high), _pair(f, f.div(lost, total.high)))


def log1p(f: Format[V], x: V) -> V:
    """Return ln(1 + x)."""
    result = _logarithm_of_one_plus(f, _pair(f, x))
    result_of_small = f.fma(f.mul(x, x), -0.5, x)
    is_small = f.compare("folt", f.absolute(x), 2.0 ** -(f.dtype.mantissa_bits + 2))
    value = f.select(is_small, result_of_small, f.add(result.high, result.low))
    return f.select(f.compare("foeq", x, 0.0), x, logarithm_limits(f, f.add(x, 1.0), value))


def expm1(f: Format[V], x: V) -> V:
    """Return e**x - 1 = (2**k - 1) + 2**k (e**r - 1), where abs(r) <= ln(2) / 2."""
    limited = f("fminimum", f("fmaximum", x, -100.0), 60.0)
    k = f.round(f.mul(limited, 1 / LN2[0]))
    ln2 = constant(f, *LN2)
    remainder = f.fma(f.negate(k), ln2.high, limited)
    r = sum_of(f, remainder, f.mul(f.negate(k), ln2.low))
    count = terms(f.dtype, 9, 15)
    series = f.polynomial(r.high, tuple(1 / math.factorial(n + 2) for n in range(count)))
    tail = f.fma(f.mul(r.high, r.high), series, r.low)
    power = f("exp2", k)
    # The first two summands are exact, or far apart.
    base = sum_of(f, f.sub(power, 1.0), f.mul(power, r.high))
    value = f.add(base.high, f.fma(power, tail, base.low))
    value = f.select(f.compare("fogt", x, 60.0), f("exp", x), value)
    return f.select(f.compare("foeq", x, 0.0), x, value)


def _half_exponential(f: Format[V], x: V) -> V:
    """e**x / 2, which is finite a little longer than e**x."""
    ln2 = constant(f, *LN2)
    moved = sum_of(f, x, f.negate(ln2.high))
    return exponential_of(f, Pair(moved.high, f.sub(moved.low, ln2.low)))


def cosh(f: Format[V], x: V) -> V:
    """Return the hyperbolic cosine."""
    half = _half_exponential(f, f.absolute(x))
    return f.add(half, f.div(0.25, half))


def sinh(f: Format[V], x: V) -> V:
    """Return the hyperbolic sine: its series up to 1, a difference of exponentials beyond."""
    magnitude = f.absolute(x)
    z = f.mul(x, x)
    count = terms(f.dtype, 6, 10)
    series = f.polynomial(z, tuple(1 / math.factorial(2 * n + 3) for n in range(count)))
    near = f.fma(f.mul(z, magnitude), series, magnitude)
    half = _half_exponential(f, magnitude)
    far = f.sub(half, f.div(0.25, half))
    return f.copysign(f.select(f.compare("folt", magnitude, 1.0), near, far), x)


def asinh(f: Format[V], x: V) -> V:
    """Return the inverse hyperbolic sine, ln(1 + (a + a**2 / (1 + sqrt(1 + a**2)))) of the magnitude a."""
    magnitude = f.absolute(x)
    huge = 2.0 ** (f.dtype.mantissa_bits // 2 + 4)
    is_huge = f.compare("fogt", magnitude, huge)
    a = f.select(is_huge, 1.0, magnitude)
    square = f.mul(a, a)
    sum = sum_of_ordered(f, a, f.div(square, f.add(f.sqrt(f.add(square, 1.0)), 1.0)))
    near = _logarithm_of_one_plus(f, sum)
    far = plus(f, logarithm(f, magnitude), constant(f, *LN2))
    is_small = f.compare("folt", magnitude, 2.0 ** -(f.dtype.mantissa_bits // 2 + 1))
    value = f.select(is_huge, f.add(far.high, far.low), f.add(near.high, near.low))
    value = f.select(is_small, magnitude, value)
    value = f.select(f.is_finite(x), value, magnitude)
    return f.copysign(value, x)


def acosh(f: Format[V], x: V) -> V:
    """Return the inverse hyperbolic cosine, ln(1 + (t + sqrt(2t + t**2))) with t = x - 1."""
    is_huge = f.compare("fogt", x, 2.0 ** (f.dtype.mantissa_bits // 2 + 4))
    t = f.select(is_huge, 1.0, f.sub(x, 1.0))
    root = f.sqrt(f.fma(t, t, f.mul(t, 2.0)))
    near = _logarithm_of_one_plus(f, sum_of(f, t, root))
    far = plus(f, logarithm(f, x), constant(f, *LN2))
    value = f.select(is_huge, f.add(far.high, far.low), f.add(near.high, near.low))
    value = f.select(f.compare("foeq", x, math.inf), math.inf, value)
    return f.select(f.compare("foeq", x, 1.0), 0.0, f.select(f.compare("fult", x, 1.0), math.nan, value))


def atanh(f: Format[V], x: V) -> V:
    """Return the inverse hyperbolic tangent: its series up to 1/4, half a difference of logarithms beyond."""
    magnitude = f.absolute(x)
    z = f.mul(x, x)
    count = terms(f.dtype, 7, 13)
    near = f.fma(f.mul(z, magnitude), f.polynomial(z, tuple(1 / (2 * n + 3) for n in range(count))), magnitude)
    inside = f.select(f.compare("folt", magnitude, 1.0), magnitude, 0.5)
    upper = _logarithm_of_one_plus(f, _pair(f, inside))
    lower = _logarithm_of_one_plus(f, _pair(f, f.negate(inside)))
    difference = plus(f, upper, Pair(f.negate(lower.high), f.negate(lower.low)))
    far = f.mul(f.add(difference.high, difference.low), 0.5)
    value = f.select(f.compare("folt", magnitude, 0.25), near, far)
    value = f.select(f.compare("foeq", magnitude, 1.0), math.inf, value)
    value = f.select(f.compare("fugt", magnitude, 1.0), math.nan, value)
    return f.copysign(value, x)


def power(f: Format[V], x: V, y: V) -> V:
    """Return x**y as C99 has it."""
    half = f.mul(y, 0.5)
    is_integer = f.compare("foeq", f("trunc", y), y)
    is_odd = f.both(is_integer, f.compare("fone", f("trunc", half), half))
    return _power(f, x, _pair(f, y), is_integer, is_odd)


def power_of_integer(f: Format[V], x: V, n: V) -> V:
    """Return x**n for a 32-bit integer n."""
    p = f.primitives
    zero, one = p.constant(0, I32), p.constant(1, I32)
    is_odd = p.apply("ne", p.apply("and", n, one, dtype=I32), zero, dtype=I32)
    high = p.apply("sitofp", n, dtype=I32, to=f.dtype)
    # The number nearest to n may lie beyond the greatest integer, so the rest is taken of the lower half alone.
    upper = p.apply("and", n, p.constant(-(1 << 16), I32), dtype=I32)
    lower = p.apply("sub", n, upper, dtype=I32)
    exact = sum_of(f, p.apply("sitofp", upper, dtype=I32, to=f.dtype), p.apply("sitofp", lower, dtype=I32, to=f.dtype))
    always = f.compare("foeq", high, high)
    return _power(f, x, exact, always, is_odd)


def _power(f: Format[V], x: V, y: Pair[V], is_integer: V, is_odd: V) -> V:
    magnitude = f.absolute(x)
    is_regular = f.both(f.compare("fogt", magnitude, 0.0), f.is_finite(x))
    log = logarithm(f, f.select(is_regular, magnitude, 1.0))
    # The logarithms of zero and infinity; a NaN stays one.
    limit = f.select(f.compare("foeq", magnitude, 0.0), -math.inf, magnitude)
    high = f.select(is_regular, log.high, limit)
    product = product_of(f, high, y.high)
    low = f.fma(high, y.low, f.fma(log.low, y.high, product.low))
    value = exponential_of(f, Pair(product.high, low))
    negative = f.compare("folt", f.copysign(f.constant(1.0), x), 0.0)
    value = f.select(f.both(negative, is_odd), f.negate(value), value)
    is_undefined = f.both(f.both(f.compare("folt", x, 0.0), f.is_finite(x)), f.invert(is_integer))
    value = f.select(is_undefined, math.nan, value)
    is_one = f.either(f.compare("foeq", x, 1.0), f.both(f.compare("foeq", magnitude, 1.0), f.is_infinite(y.high)))
    return f.select(f.either(is_one, f.compare("foeq", y.high, 0.0)), 1.0, value)


def cbrt(f: Format[V], x: V) -> V:
    """Return the cube root: by logarithm and exponential, then one Newton step with an exact residue."""
    magnitude = f.absolute(x)
    third = f.dtype.mantissa_bits // 3 + 1
    is_small = f.compare("folt", magnitude, 2.0 ** (1 - f.exponent_bias + f.dtype.mantissa_bits))
    scaled = f.select(is_small, f.mul(magnitude, 2.0 ** (3 * third)), magnitude)
    is_regular = f.both(f.compare("fogt", scaled, 0.0), f.is_finite(scaled))
    scaled = f.select(is_regular, scaled, 1.0)
    root = f("exp2", f.div(f("log2", scaled), 3.0))
    for _ in range(terms(f.dtype, 1, 2)):
        square = product_of(f, root, root)
        cube = product_of(f, square.high, root)
        residue = f.add(f.sub(cube.high, scaled), f.fma(square.low, root, cube.low))
        root = f.sub(root, f.div(residue, f.mul(square.high, 3.0)))
    root = f.select(is_small, f.mul(root, 2.0**-third), root)
    return f.copysign(f.select(is_regular, root, magnitude), x)


def reciprocal_cbrt(f: Format[V], x: V) -> V:
    """Return the reciprocal of the cube root."""
    return f.div(1.0, cbrt(f, x))


def _norm(f: Format[V], *values: V) -> tuple[Pair[V], V, V]:
    """The norm of the scaled values, the scale to be undone, and the greatest magnitude."""
    magnitudes = [f.absolute(value) for value in values]
    greatest = magnitudes[0]
    for magnitude in magnitudes[1:]:
        greatest = f("fmax", greatest, magnitude)
    bias = f.exponent_bias
    down, up = 2.0 ** -(bias // 2 + 3), 2.0 ** (bias // 2 + f.dtype.mantissa_bits)
    is_large = f.compare("fogt", greatest, 2.0 ** (bias // 2 - 3))
    is_small = f.compare("folt", greatest, 2.0 ** -(bias // 2 - f.dtype.mantissa_bits - 3))
    scale = f.select(is_large, down, f.select(is_small, up, 1.0))
    unscale = f.select(is_large, 1 / down, f.select(is_small, 1 / up, 1.0))
    total: Pair[V] | None = None
    for magnitude in magnitudes:
        scaled = f.mul(magnitude, scale)
        square = product_of(f, scaled, scaled)
        total = square if total is None else plus(f, total, square)
    assert total is not None
    root = f.sqrt(total.high)
    residue = f.add(f.fma(f.negate(root), root, total.high), total.low)
    correction = f.div(residue, f.mul(root, 2.0))
    is_regular = f.both(f.compare("fogt", root, 0.0), f.is_finite(root))
    return sum_of_ordered(f, root, f.select(is_regular, correction, 0.0)), unscale, greatest


def norm(f: Format[V], *values: V) -> V:
    """Return the Euclidean norm, without overflow on the way; infinite if a value is, even beside a NaN."""
    root, unscale, greatest = _norm(f, *values)
    value = f.mul(root.high, unscale)
    return f.select(f.compare("foeq", greatest, math.inf), math.inf, value)


def reciprocal_norm(f: Format[V], *values: V) -> V:
    """Return the reciprocal of the Euclidean norm."""
    root, unscale, greatest = _norm(f, *values)
    quotient = f.div(1.0, root.high)
    residue = f.fma(f.negate(quotient), root.low, f.fma(f.negate(quotient), root.high, 1.0))
    corrected = f.fma(residue, quotient, quotient)
    quotient = f.select(f.both(f.is_finite(quotient), f.is_finite(root.high)), corrected, quotient)
    value = f.div(quotient, unscale)
    return f.select(f.compare("foeq", greatest, math.inf), 0.0, value)


def reciprocal_root(f: Format[V], x: V) -> V:
    """Return the reciprocal of the square root."""
    return f("rsqrt", x)
