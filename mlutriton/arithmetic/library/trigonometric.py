"""Inverse trigonometric functions, and the sine and cosine of multiples of pi.

Largest error in units in the last place of the exact result, f32 and f64: 2.
"""

from __future__ import annotations

import math

from mlutriton.arithmetic.formats import Format, V
from mlutriton.arithmetic.library.double_word import (
    HALF_PI,
    PI,
    Pair,
    constant,
    plus,
    quotient_of,
    sum_of,
    terms,
    times,
)

_ATAN_HALF = (math.atan(0.5), 2.2698777452961687e-17)
_QUARTER_PI = (math.pi / 4, 3.061616997868383e-17)


def _arctangent(f: Format[V], numerator: V, denominator: V) -> Pair[V]:
    """The arctangent of a quotient from 0 to 1: that of 0, 1/2 or 1, and the series of what is left."""
    half, whole = (
        f.compare("fogt", numerator, f.mul(denominator, bound)) for bound in (0.25, 0.75)
    )  # fmt: skip
    point = f.select(whole, 1.0, f.select(half, 0.5, 0.0))
    # (t - c) / (1 + c t) with t = n / d is (n - c d) / (d + c n); products with c are exact.
    above = sum_of(f, numerator, f.negate(f.mul(point, denominator)))
    below = sum_of(f, denominator, f.mul(point, numerator))
    t = quotient_of(f, above, below)
    z = f.mul(t.high, t.high)
    series = f.polynomial(z, tuple((-1) ** (n + 1) / (2 * n + 3) for n in range(terms(f.dtype, 7, 15))))
    rest = f.fma(f.mul(z, t.high), series, t.low)
    steps = (constant(f, *_ATAN_HALF), constant(f, *_QUARTER_PI))
    high = f.select(whole, steps[1].high, f.select(half, steps[0].high, 0.0))
    low = f.select(whole, steps[1].low, f.select(half, steps[0].low, 0.0))
    total = sum_of(f, high, t.high)
    return Pair(total.high, f.add(total.low, f.add(low, rest)))


def _subtracted(f: Format[V], angle: tuple[float, float], a: Pair[V]) -> Pair[V]:
    return plus(f, constant(f, *angle), Pair(f.negate(a.high), f.negate(a.low)))


def atan(f: Format[V], x: V) -> V:
    """Return the arctangent."""
    return atan2(f, x, f.constant(1.0))


def atan2(f: Format[V], y: V, x: V) -> V:
    """Return the angle of the point (x, y), with C99's values on the axes and at infinity."""
    a, b = f.absolute(x), f.absolute(y)
    greater, lesser = f("fmaximum", a, b), f("fminimum", a, b)
    is_regular = f.both(f.compare("fogt", greater, 0.0), f.is_finite(greater))
    both_infinite = f.compare("foeq", lesser, math.inf)
    # Magnitudes near the limits of the format are brought to its middle, both in step.
    bias, digits = f.exponent_bias, f.dtype.mantissa_bits
    scale = f.select(f.compare("fogt", greater, 1.0), 2.0 ** -(bias // 2), 2.0 ** (bias // 2))
    far = f.either(
        f.compare("fogt", greater, 2.0 ** (bias - 4)), f.compare("folt", greater, 2.0 ** (3 * digits - bias))
    )
    scale = f.select(far, scale, 1.0)
    numerator = f.select(is_regular, f.mul(lesser, scale), f.select(both_infinite, 1.0, 0.0))
    denominator = f.select(is_regular, f.mul(greater, scale), 1.0)
    angle = _arctangent(f, numerator, denominator)
    from_vertical = _subtracted(f, HALF_PI, angle)
    is_steep = f.compare("fogt", b, a)
    angle = _chosen(f, is_steep, from_vertical, angle)
    is_left = f.compare("folt", f.copysign(f.constant(1.0), x), 0.0)
    angle = _chosen(f, is_left, _subtracted(f, PI, angle), angle)
    value = f.add(angle.high, angle.low)
    # Quotients too small for the corrections: the angle is the quotient itself.
    tiny = f.both(f.invert(is_left), f.compare("folt", lesser, f.mul(greater, 2.0 ** -(digits + 2))))
    value = f.select(f.both(f.both(tiny, f.invert(is_steep)), is_regular), f.div(lesser, greater), value)
    value = f.select(f.either(f.compare("funo", x, x), f.compare("funo", y, y)), math.nan, value)
    return f.copysign(value, y)


def _chosen(f: Format[V], mask: V, yes: Pair[V], no: Pair[V]) -> Pair[V]:
    return Pair(f.select(mask, yes.high, no.high), f.select(mask, yes.low, no.low))


def _arcsine_series(f: Format[V], z: V) -> V:
    """(arcsin(s) - s) / s**3 for z = s**2 up to 1/4."""
    count = terms(f.dtype, 12, 25)
    return f.polynomial(z, tuple(math.comb(2 * n, n) / (4**n * (2 * n + 1)) for n in range(1, count + 1)))


def _arcsine_near_one(f: Format[V], magnitude: V) -> Pair[V]:
    """2 arcsin(sqrt((1 - a) / 2)) = arccos(a)."""
    z = f.mul(f.sub(1.0, magnitude), 0.5)
    root = f.sqrt(z)
    is_zero = f.compare("foeq", z, 0.0)
    lost = f.select(is_zero, 0.0, f.div(f.fma(f.negate(root), root, z), f.mul(root, 2.0)))
    tail = f.fma(f.mul(z, root), _arcsine_series(f, z), lost)
    return Pair(f.mul(root, 2.0), f.mul(tail, 2.0))


def asin(f: Format[V], x: V) -> V:
    """Return the arcsine; NaN beyond 1."""
    magnitude = f.absolute(x)
    z = f.mul(x, x)
    near = f.fma(f.mul(z, magnitude), _arcsine_series(f, z), magnitude)
    angle = _subtracted(f, HALF_PI, _arcsine_near_one(f, magnitude))
    far = f.add(angle.high, angle.low)
    return f.copysign(f.select(f.compare("folt", magnitude, 0.5), near, far), x)


def acos(f: Format[V], x: V) -> V:
    """Return the arccosine; NaN beyond 1."""
    magnitude = f.absolute(x)
    z = f.mul(x, x)
    near = _subtracted(f, HALF_PI, sum_of(f, x, f.mul(f.mul(z, x), _arcsine_series(f, z))))
    angle = _arcsine_near_one(f, magnitude)
    far = _chosen(f, f.compare("folt", x, 0.0), _subtracted(f, PI, angle), angle)
    chosen = _chosen(f, f.compare("folt", magnitude, 0.5), near, far)
    return f.add(chosen.high, chosen.low)


def _of_half_turns(f: Format[V], x: V) -> tuple[V, V, V]:
    """sin(pi t) and cos(pi t) with x = q / 2 + t, abs(t) <= 1/4, and q modulo 4 as a float from -2 to 2."""
    rest = f.sub(x, f.mul(f.round(f.mul(x, 0.5)), 2.0))
    quadrant = f.round(f.mul(rest, 2.0))
    t = f.fma(quadrant, -0.5, rest)
    u = times(f, Pair(t, f.constant(0.0)), constant(f, *PI))
    z = f.mul(u.high, u.high)
    count = terms(f.dtype, 5, 9)
    sine_series = f.polynomial(z, tuple((-1) ** (n + 1) / math.factorial(2 * n + 3) for n in range(count)))
    sine = f.add(u.high, f.fma(f.mul(z, u.high), sine_series, u.low))
    cosine_series = f.polynomial(z, tuple((-1) ** n / math.factorial(2 * n + 4) for n in range(count)))
    half = f.mul(z, 0.5)
    first = sum_of(f, 1.0, f.negate(half))
    lost = f.mul(f.add(f.fma(u.high, u.high, f.negate(z)), f.mul(f.mul(u.high, u.low), 2.0)), -0.5)
    cosine = f.add(first.high, f.fma(f.mul(z, z), cosine_series, f.add(first.low, lost)))
    return sine, cosine, quadrant


def sinpi(f: Format[V], x: V) -> V:
    """Return sin(pi x)."""
    sine, cosine, quadrant = _of_half_turns(f, x)
    value = f.select(f.compare("foeq", f.absolute(quadrant), 1.0), cosine, sine)
    value = f.select(f.compare("foeq", quadrant, -1.0), f.negate(value), value)
    value = f.select(f.compare("foeq", f.absolute(quadrant), 2.0), f.negate(value), value)
    return f.select(f.compare("foeq", value, 0.0), f.mul(x, 0.0), value)


def cospi(f: Format[V], x: V) -> V:
    """Return cos(pi x)."""
    sine, cosine, quadrant = _of_half_turns(f, x)
    value = f.select(f.compare("foeq", quadrant, 1.0), f.negate(sine), cosine)
    value = f.select(f.compare("foeq", quadrant, -1.0), sine, value)
    value = f.select(f.compare("foeq", f.absolute(quadrant), 2.0), f.negate(cosine), value)
    return f.add(value, 0.0)
