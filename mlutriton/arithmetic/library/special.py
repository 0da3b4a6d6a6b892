"""Error functions, gamma functions and Bessel functions of the device library, in f64; those of f32 go through f64.

Largest error over all arguments, in units in the last place of f64 or absolutely where the function has zeros; f32
results are those rounded, hence within 0.51 units unless an absolute bound is stated:

=============================== ==============================================================
erfc, erfcx, normcdf            8 units
erfinv, erfcinv, normcdfinv     8 units
tgamma                          24 units; results below 1e-307 are 0
lgamma                          1e-14 absolutely or 8 units, the greater
i0, i1                          8 units
j0, j1, y0, y1                  2e-15 absolutely (y: times 1 + abs(value))
jn, yn, abs(n) <= 32            1e-11 absolutely (y: times 1 + abs(value)); NaN for other orders
=============================== ==============================================================

Sources: Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x**2) erfc(x) (1981); Winitzki, A handy
approximation for the error function and its inverse (2008), with Halley's iteration; Abramowitz and Stegun 6.1.40
(Stirling's series), 9.1.10 and 9.1.27 (Bessel functions), 9.2.5 and 9.2.6 (amplitude and phase).
"""

from __future__ import annotations

import math

from mlutriton.arithmetic.formats import Format, V
from mlutriton.arithmetic.library import coefficients as table
from mlutriton.arithmetic.library.double_word import Pair, constant, logarithm, plus, product_of, times
from mlutriton.arithmetic.library.elementary import exponential_of
from mlutriton.arithmetic.library.trigonometric import sinpi
from mlutriton.dtypes import I32, I64

_ROOT_HALF = (0.7071067811865476, -4.833646656726457e-17)
_TWO_OVER_ROOT_PI = 1.1283791670955126
_HALF_LOG_TWO_PI = (0.9189385332046728, -3.8782941580672414e-17)


def _negative(f: Format[V], x: V) -> V:
    return f.compare("folt", x, 0.0)


# ---- error functions ------------------------------------------------------------------------------------------------


def _scaled_complement(f: Format[V], magnitude: V) -> V:
    """e**(x**2) erfc(x) of a number that is not negative."""
    limited = f("fminimum", magnitude, 1e300)
    t = f.div(f.sub(limited, 3.75), f.add(limited, 3.75))
    return f.div(f.polynomial(t, table.ERFCX), f.fma(limited, 2.0, 1.0))


def _gaussian(f: Format[V], x: V, sign: float, scale: float = 1.0) -> V:
    """e**(sign * scale * x**2), where the scale is a power of two."""
    limited = f("fminimum", f.absolute(x), 1e3)
    square = product_of(f, limited, limited)
    return exponential_of(f, Pair(f.mul(square.high, sign * scale), f.mul(square.low, sign * scale)))


def erfcx(f: Format[V], x: V) -> V:
    """Return e**(x**2) erfc(x)."""
    value = _scaled_complement(f, f.absolute(x))
    reflected = f.sub(f.mul(_gaussian(f, x, 1.0), 2.0), value)
    return f.select(f.compare("foeq", x, math.inf), 0.0, f.select(_negative(f, x), reflected, value))


def erfc(f: Format[V], x: V) -> V:
    """Return the complementary error function."""
    magnitude = f.absolute(x)
    value = f.mul(_scaled_complement(f, magnitude), _gaussian(f, magnitude, -1.0))
    return f.select(_negative(f, x), f.sub(2.0, value), value)


def normcdf(f: Format[V], x: V) -> V:
    """Return the distribution function of the standard normal distribution."""
    magnitude = f.absolute(x)
    scaled = _scaled_complement(f, f.mul(magnitude, _ROOT_HALF[0]))
    value = f.mul(f.mul(scaled, 0.5), _gaussian(f, magnitude, -1.0, 0.5))
    return f.select(_negative(f, x), value, f.sub(1.0, value))


def _inverse_guess(f: Format[V], q: V) -> V:
    """erfcinv(q) for q up to 1, to about three digits."""
    log = f("log", f.mul(q, f.sub(2.0, q)))
    a = 0.147
    half = f.fma(log, 0.5, 2 / (math.pi * a))
    return f.sqrt(f("fmaximum", f.sub(f.sqrt(f.sub(f.mul(half, half), f.mul(log, 1 / a))), half), 0.0))


def _inverse_of_complement(f: Format[V], q: V) -> V:
    """erfcinv(q) for 0 < q <= 1/2, in the tail: Halley's iteration on the logarithm of erfc."""
    y = _inverse_guess(f, q)
    goal = f("log", q)
    for _ in range(3):
        scaled = _scaled_complement(f, y)
        residue = f.sub(f.sub(f("log", scaled), f.mul(y, y)), goal)
        slope = f.div(-_TWO_OVER_ROOT_PI, scaled)
        # With g = ln erfc: g'' = -g' (2y + g').
        step = f.div(residue, slope)
        curvature = f.negate(f.add(f.add(y, y), slope))
        y = f.sub(y, f.div(step, f.fma(f.mul(step, curvature), -0.5, 1.0)))
    # The last correction is relative to q itself, in which nothing has cancelled.
    value = f.mul(_scaled_complement(f, y), _gaussian(f, y, -1.0))
    ratio = f.sub(f.div(value, q), 1.0)
    last = f.add(y, f.mul(ratio, f.mul(_scaled_complement(f, y), 1 / _TWO_OVER_ROOT_PI)))
    return f.select(f.compare("fogt", q, 1e-290), last, y)


def _inverse_near_zero(f: Format[V], x: V) -> V:
    """erfinv(x) for x up to 1/2: Halley's iteration on the error function."""
    y = _inverse_guess(f, f.sub(1.0, x))
    y = f.select(f.compare("folt", x, 1e-3), f.mul(x, 1 / _TWO_OVER_ROOT_PI), y)
    for _ in range(2):
        residue = f.mul(f.sub(f("erf", y), x), f.mul(_gaussian(f, y, 1.0), 1 / _TWO_OVER_ROOT_PI))
        y = f.sub(y, f.div(residue, f.fma(residue, y, 1.0)))
    return y


def _inverse(f: Format[V], x: V, complement: V) -> V:
    """Erfinv of a magnitude x, for whichever of x and 1 - x is the lesser."""
    is_tail = f.compare("folt", complement, 0.5)
    tail = _inverse_of_complement(f, f.select(is_tail, complement, 0.25))
    value = f.select(is_tail, tail, _inverse_near_zero(f, f.select(is_tail, 0.25, x)))
    value = f.select(f.compare("foeq", complement, 0.0), math.inf, value)
    return f.select(f.compare("fult", complement, 0.0), math.nan, value)


def erfinv(f: Format[V], x: V) -> V:
    """Return the inverse of the error function."""
    magnitude = f.absolute(x)
    return f.copysign(_inverse(f, magnitude, f.sub(1.0, magnitude)), x)


def erfcinv(f: Format[V], q: V) -> V:
    """Return the inverse of the complementary error function."""
    is_upper = f.compare("fogt", q, 1.0)
    complement = f.select(is_upper, f.sub(2.0, q), q)
    value = _inverse(f, f.absolute(f.sub(1.0, q)), complement)
    return f.select(is_upper, f.negate(value), value)


def normcdfinv(f: Format[V], p: V) -> V:
    """Return the inverse of the distribution function of the standard normal distribution."""
    root = erfcinv(f, f.mul(p, 2.0))
    return f.sub(0.0, f.mul(root, 2 * _ROOT_HALF[0]))


# ---- gamma functions ------------------------------------------------------------------------------------------------

# B(2k) / (2k (2k - 1)) of Stirling's series.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)


def _shifted(f: Format[V], x: V) -> tuple[V, V]:
    """The argument raised to at least 10, and the product of the factors left behind."""
    factors = f.constant(1.0)
    for _ in range(10):
        is_small = f.compare("folt", x, 10.0)
        factors = f.mul(factors, f.select(is_small, x, 1.0))
        x = f.add(x, f.select(is_small, 1.0, 0.0))
    return x, factors


def _stirling(f: Format[V], y: V) -> Pair[V]:
    """ln(gamma(y)) for y of at least 10."""
    log = logarithm(f, y)
    main = times(f, Pair(f.sub(y, 0.5), f.constant(0.0)), log)
    inverse = f.div(1.0, y)
    correction = f.mul(f.polynomial(f.mul(inverse, inverse), _STIRLING), inverse)
    main = plus(f, main, Pair(f.negate(y), f.constant(0.0)))
    return plus(f, main, plus(f, constant(f, *_HALF_LOG_TWO_PI), Pair(correction, f.constant(0.0))))


def tgamma(f: Format[V], x: V) -> V:
    """Return the gamma function; gamma(-a) = -pi / (a sin(pi a) gamma(a))."""
    a = f.absolute(x)
    y, factors = _shifted(f, f("fminimum", a, 200.0))
    value = f.div(exponential_of(f, _stirling(f, y)), factors)
    reflected = f.div(-math.pi, f.mul(f.mul(sinpi(f, a), a), value))
    is_pole = f.both(_negative(f, x), f.compare("foeq", f("floor", x), x))
    value = f.select(_negative(f, x), reflected, value)
    value = f.select(f.compare("foeq", x, 0.0), f.div(1.0, x), value)
    return f.select(is_pole, math.nan, value)


def lgamma(f: Format[V], x: V) -> V:
    """Return the logarithm of the magnitude of the gamma function."""
    a = f.absolute(x)
    is_finite = f.is_finite(a)
    y, factors = _shifted(f, f.select(is_finite, a, 1.0))
    total = plus(f, _stirling(f, y), _negated(f, logarithm(f, factors)))
    value = f.add(total.high, total.low)
    reflection = f.absolute(f.mul(sinpi(f, a), a))
    reflected = f.sub(f("log", f.div(math.pi, reflection)), value)
    value = f.select(_negative(f, x), reflected, value)
    value = f.select(f.compare("foeq", a, 0.0), math.inf, value)
    is_root = f.either(f.compare("foeq", x, 1.0), f.compare("foeq", x, 2.0))
    value = f.select(is_root, 0.0, value)
    return f.select(is_finite, value, f.select(f.compare("funo", x, x), math.nan, math.inf))


def _negated(f: Format[V], a: Pair[V]) -> Pair[V]:
    return Pair(f.negate(a.high), f.negate(a.low))


# ---- Bessel functions -----------------------------------------------------------------------------------------------


def _near(f: Format[V], magnitude: V, coefficients: tuple[float, ...]) -> V:
    limited = f("fminimum", magnitude, 8.0)
    return f.polynomial(f.fma(limited, f.mul(limited, 1 / 32), -1.0), coefficients)


def _amplitudes(f: Format[V], magnitude: V, p: tuple[float, ...], q: tuple[float, ...]) -> tuple[V, V, V, V]:
    """P and Q, both over sqrt(pi x), and sine and cosine of x."""
    far = f("fmaximum", magnitude, 8.0)
    inverse = f.div(8.0, far)
    t = f.fma(inverse, f.mul(inverse, 2.0), -1.0)
    root = f.div(1.0, f.sqrt(f.mul(far, math.pi)))
    return (
        f.mul(f.polynomial(t, p), root),
        f.mul(f.mul(f.polynomial(t, q), inverse), root),
        f("sin", far),
        f("cos", far),
    )


def _joined(f: Format[V], magnitude: V, near: V, far: V) -> V:
    value = f.select(f.compare("fole", magnitude, 8.0), near, far)
    return f.select(f.compare("foeq", magnitude, math.inf), 0.0, value)


def j0(f: Format[V], x: V) -> V:
    """Return the Bessel function of the first kind of order 0."""
    a = f.absolute(x)
    p, q, sine, cosine = _amplitudes(f, a, table.P0, table.Q0)
    far = f.sub(f.mul(p, f.add(cosine, sine)), f.mul(q, f.sub(sine, cosine)))
    return _joined(f, a, _near(f, a, table.J0_NEAR), far)


def j1(f: Format[V], x: V) -> V:
    """Return the Bessel function of the first kind of order 1."""
    a = f.absolute(x)
    p, q, sine, cosine = _amplitudes(f, a, table.P1, table.Q1)
    far = f.add(f.mul(p, f.sub(sine, cosine)), f.mul(q, f.add(sine, cosine)))
    value = _joined(f, a, f.mul(a, _near(f, a, table.J1_NEAR)), far)
    return f.select(_negative(f, x), f.negate(value), value)


def _second_kind_limits(f: Format[V], x: V, value: V) -> V:
    value = f.select(f.compare("foeq", x, 0.0), -math.inf, value)
    return f.select(f.compare("fult", x, 0.0), math.nan, value)


def y0(f: Format[V], x: V) -> V:
    """Return the Bessel function of the second kind of order 0."""
    p, q, sine, cosine = _amplitudes(f, x, table.P0, table.Q0)
    far = f.add(f.mul(p, f.sub(sine, cosine)), f.mul(q, f.add(sine, cosine)))
    first = f.mul(_near(f, x, table.J0_NEAR), f.mul(f("log", x), 2 / math.pi))
    return _second_kind_limits(f, x, _joined(f, x, f.add(_near(f, x, table.Y0_NEAR), first), far))


def y1(f: Format[V], x: V) -> V:
    """Return the Bessel function of the second kind of order 1."""
    p, q, sine, cosine = _amplitudes(f, x, table.P1, table.Q1)
    far = f.sub(f.mul(q, f.sub(sine, cosine)), f.mul(p, f.add(sine, cosine)))
    first = f.mul(f.mul(x, _near(f, x, table.J1_NEAR)), f.mul(f("log", x), 2 / math.pi))
    near = f.sub(f.fma(x, _near(f, x, table.Y1_NEAR), first), f.div(2 / math.pi, x))
    return _second_kind_limits(f, x, _joined(f, x, near, far))


MOST_ORDERS = 32


def _order(f: Format[V], n: V) -> tuple[V, V, V]:
    """The magnitude of a 32-bit order as a float, whether it is out of range, and whether it is negative and odd."""
    wide = f.primitives.apply("sext", n, dtype=I32, to=I64)
    order = f.absolute(f.from_integer(wide))
    flips = f.both(f.on_integers("slt", wide, 0), f.is_odd(wide))
    return order, f.compare("fogt", order, float(MOST_ORDERS)), flips


def _recurrence(f: Format[V], order: V, x: V, zeroth: V, first: V) -> V:
    """The function of an order by the recurrence in growing orders, 2k / x times the last less the one before."""
    value = f.select(f.compare("foeq", order, 0.0), zeroth, first)
    inverse = f.div(2.0, x)
    for k in range(1, MOST_ORDERS):
        zeroth, first = first, f.sub(f.mul(f.mul(inverse, float(k)), first), zeroth)
        value = f.select(f.compare("foeq", order, k + 1.0), first, value)
    return value


def jn(f: Format[V], n: V, x: V) -> V:
    """Return the Bessel function of the first kind of order n: by recurrence beyond n, by its power series below."""
    a = f.absolute(x)
    order, is_beyond, flips = _order(f, n)
    upward = _recurrence(f, order, a, j0(f, a), j1(f, a))
    limited = f("fminimum", a, order)
    z = f.mul(f.mul(limited, limited), -0.25)
    term = total = f.constant(1.0)
    for k in range(1, 41):
        term = f.mul(term, f.div(z, f.mul(f.add(order, float(k)), float(k))))
        total = f.add(total, term)
    half = f.mul(limited, 0.5)
    for k in range(1, MOST_ORDERS + 1):
        total = f.mul(total, f.select(f.compare("foge", order, float(k)), f.mul(half, 1 / k), 1.0))
    value = f.select(f.compare("fogt", a, order), upward, total)
    value = f.select(f.compare("funo", x, x), math.nan, value)
    odd_part = f.both(_negative(f, x), f.is_odd(f.primitives.apply("sext", n, dtype=I32, to=I64)))
    value = f.select(f.on_masks("xor", odd_part, flips), f.negate(value), value)
    return f.select(is_beyond, math.nan, value)


def yn(f: Format[V], n: V, x: V) -> V:
    """Return the Bessel function of the second kind of order n, by recurrence."""
    order, is_beyond, flips = _order(f, n)
    value = _recurrence(f, order, x, y0(f, x), y1(f, x))
    # Infinity less infinity: the function had overflowed before.
    overflows = f.both(f.compare("funo", value, value), f.compare("foge", x, 0.0))
    value = f.select(overflows, f.select(f.compare("folt", x, 1.0), -math.inf, 0.0), value)
    value = f.select(flips, f.negate(value), value)
    return f.select(is_beyond, math.nan, value)


def _modified(f: Format[V], x: V, near: tuple[float, ...], far: tuple[float, ...]) -> tuple[V, V, V]:
    """e**-x I(x) near (over x for order 1) and far, and half the power."""
    a = f.absolute(x)
    near_value = f.polynomial(f.fma(f("fminimum", a, 8.0), 0.25, -1.0), near)
    beyond = f("fmaximum", a, 8.0)
    far_value = f.div(f.polynomial(f.sub(f.div(16.0, beyond), 1.0), far), f.sqrt(beyond))
    return near_value, far_value, f("exp", f.mul(a, 0.5))


def _rescaled(f: Format[V], x: V, near: V, far: V, power: V) -> V:
    a = f.absolute(x)
    value = f.mul(f.mul(f.select(f.compare("fole", a, 8.0), near, far), power), power)
    return f.select(f.compare("foeq", a, math.inf), math.inf, value)


def i0(f: Format[V], x: V) -> V:
    """Return the modified Bessel function of the first kind of order 0."""
    near, far, power = _modified(f, x, table.I0_NEAR, table.I0_FAR)
    return _rescaled(f, x, near, far, power)


def i1(f: Format[V], x: V) -> V:
    """Return the modified Bessel function of the first kind of order 1."""
    near, far, power = _modified(f, x, table.I1_NEAR, table.I1_FAR)
    return f.copysign(_rescaled(f, x, f.mul(near, f.absolute(x)), far, power), x)
