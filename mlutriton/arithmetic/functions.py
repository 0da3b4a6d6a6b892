"""The transcendental functions: architectural algorithms, written once over primitive operations.

Each function is a straight line of operations of ``OPERATIONS``, all of them exactly defined, so that every evaluator
of the text (NumPy arrays, LLVM vectors of any width) gives the same bits. There are versions in ``f32`` and ``f64``,
which share the text; narrower formats are computed in ``f32`` and rounded.

Largest error found, in units in the last place of the exact result, over all exponents, subnormal numbers and huge
arguments (f32: 2**26 arguments, 2**21 for erf; f64: 2**17); ``tests/arithmetic/test_functions.py`` holds the bounds:

======= ==== ====    ======= ==== ====
name    f32  f64     name    f32  f64
======= ==== ====    ======= ==== ====
rsqrt   1.49 1.45    sin     1.27 1.25
exp     1.00 0.95    cos     1.27 1.28
exp2    0.94 0.87    tan     1.25 1.19
log     0.82 0.80    tanh    1.31 1.27
log2    0.97 0.92    erf     1.10 1.00
======= ==== ====    ======= ==== ====
"""

from __future__ import annotations

import math
from typing import Protocol

from mlutriton.arithmetic.formats import Format, Primitives, V
from mlutriton.arithmetic.operations import OPERATIONS
from mlutriton.dtypes import F32, F64, DType


class Function(Protocol):
    """A function of one value of type ``f32`` or ``f64``."""

    def __call__(self, primitives: Primitives[V], x: V, dtype: DType) -> V:
        """Return the function of every lane of ``x``."""
        ...


def _rounded(value: float, dtype: DType) -> float:
    return float(dtype.numpy.type(value))


def _split(dtype: DType, value: float, rest: float) -> tuple[float, float]:
    """Return a constant, given in two float64 parts, as the sum of two numbers of a format."""
    if dtype is F64:
        return value, rest
    high = _rounded(value, dtype)
    return high, _rounded(value - high, dtype)


# The second number of each pair is what the first lacks, to float64 precision.
_LN2 = {dtype: _split(dtype, math.log(2), 2.3190468138462996e-17) for dtype in (F32, F64)}
_LOG2_E = {dtype: _split(dtype, math.log2(math.e), 2.0355273740931033e-17) for dtype in (F32, F64)}
_ROOT_HALF_BITS = {F32: 0x3F3504F3, F64: 0x3FE6A09E667F3BCD}

# Arguments beyond which a result is certainly zero or infinite.
EXP_RANGE = {F32: (-104.0, 89.0), F64: (-746.0, 710.0)}
_EXP2_RANGE = {F32: (-151.0, 128.0), F64: (-1076.0, 1024.0)}


def rsqrt(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the reciprocal of the square root: a root and a division, both correctly rounded."""
    f = Format(primitives, dtype)
    return f.div(1.0, f.sqrt(x))


def clamp(f: Format[V], x: V, bounds: tuple[float, float]) -> V:
    """Return ``x`` limited to the bounds; NaN stays NaN."""
    low, high = bounds
    x = f.select(f.compare("folt", x, low), low, x)
    return f.select(f.compare("fogt", x, high), high, x)


def times_power_of_two(f: Format[V], a: V, shifted: V) -> V:
    """Return ``a * 2**k``, rounded once, where ``shifted`` is ``k + f.integer_shift``.

    Two factors, because neither the least nor the greatest result is a number near 1 times one power of two. The first
    product is exact, so that whoever can scale at once gets the same.
    """
    exponent_bits = f.bits(shifted)
    at_once = f.primitives.scaled(a, lambda: f.integer_sub(exponent_bits, f.integer_shift_bits), f.dtype)
    if at_once is not None:
        return at_once
    mantissa_bits = f.dtype.mantissa_bits
    half = f.shift_right(exponent_bits, 1)
    for part in (half, f.integer_sub(exponent_bits, half)):
        biased = f.integer_add(f.shift_left(part, mantissa_bits), f.exponent_bias << mantissa_bits)
        a = f.mul(a, f.from_bits(biased))
    return a


def exp(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Evaluate e**x = 2**k * e**r with integer k and abs(r) <= ln(2)/2."""
    f = Format(primitives, dtype)
    x = clamp(f, x, EXP_RANGE[dtype])
    shifted = f.fma(x, _LOG2_E[dtype][0], f.integer_shift)
    k = f.sub(shifted, f.integer_shift)
    ln2_high, ln2_low = _LN2[dtype]
    r = f.fma(k, -ln2_low, f.fma(k, -ln2_high, x))
    tail = f.fma(f.mul(r, r), f.polynomial(r, f.coefficients.exp), r)
    return times_power_of_two(f, f.add(tail, 1.0), shifted)


def exp2(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Evaluate 2**x = 2**k * 2**r with integer k and abs(r) <= 1/2."""
    f = Format(primitives, dtype)
    x = clamp(f, x, _EXP2_RANGE[dtype])
    shifted = f.add(x, f.integer_shift)
    r = f.sub(x, f.sub(shifted, f.integer_shift))
    return times_power_of_two(f, f.fma(r, f.polynomial(r, f.coefficients.exp2), 1.0), shifted)


def _logarithm_parts(f: Format[V], x: V) -> tuple[V, V, V]:
    """Return k, m - 1 and t with x = 2**k * m, m from sqrt(1/2) to sqrt(2), and ln(m) = (m - 1) + t."""
    mantissa_bits = f.dtype.mantissa_bits
    subnormal = f.compare("folt", x, 2.0 ** (1 - f.exponent_bias))
    bits = f.bits(f.select(subnormal, f.mul(x, 2.0 ** (mantissa_bits + 2)), x))
    exponent = f.shift_right(f.integer_sub(bits, _ROOT_HALF_BITS[f.dtype]), mantissa_bits)
    fraction = f.sub(f.from_bits(f.integer_sub(bits, f.shift_left(exponent, mantissa_bits))), 1.0)
    k = f.from_integer(f.integer_sub(exponent, f.select_integer(subnormal, mantissa_bits + 2, 0)))
    # ln(m) = 2 artanh(s) = 2s + s**3 P(s**2), where 2s = (m - 1) - h + s*h: the leading term is exact.
    s = f.div(fraction, f.add(fraction, 2.0))
    z = f.mul(s, s)
    h = f.mul(f.mul(fraction, 0.5), fraction)
    tail = f.fma(s, f.fma(z, f.polynomial(z, f.coefficients.log), h), f.mul(h, -1.0))
    return k, fraction, tail


def logarithm_limits(f: Format[V], x: V, result: V) -> V:
    """Return ``result`` with the values of a logarithm at zeros, infinities, negative numbers and NaN."""
    result = f.select(f.compare("foeq", x, math.inf), math.inf, result)
    result = f.select(f.compare("foeq", x, 0.0), -math.inf, result)
    return f.select(f.compare("fult", x, 0.0), math.nan, result)


def log(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Evaluate ln(x) = k * ln(2) + ln(m)."""
    f = Format(primitives, dtype)
    k, fraction, tail = _logarithm_parts(f, x)
    ln2_high, ln2_low = _LN2[dtype]
    result = f.fma(k, ln2_high, f.add(fraction, f.fma(k, ln2_low, tail)))
    return logarithm_limits(f, x, result)


def log2(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the logarithm to base 2, the sum of k and the scaled ln(m)."""
    f = Format(primitives, dtype)
    k, fraction, tail = _logarithm_parts(f, x)
    log2_e_high, log2_e_low = _LOG2_E[dtype]
    rest = f.fma(tail, log2_e_high, f.mul(fraction, log2_e_low))
    return logarithm_limits(f, x, f.add(k, f.fma(fraction, log2_e_high, rest)))


# pi/2 as a sum of three numbers, each but the last cut off, not rounded, so that all are positive.
_HALF_PI = {
    F32: (1.570796251296997, 7.549789415861596e-08, 5.390302953474238e-15),
    F64: (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32),
}
# Largest argument for which three parts of pi/2 are enough.
_REDUCTION_LIMIT = {F32: 1e5, F64: 1e9}

# The first 1196 bits of 2/pi, in 46 chunks of 26 bits: a product with 27 bits of an argument is exact in f64.
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb1"
    "29a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d36"
    "7ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7",
    16,
)
_CHUNK_BITS, _CHUNKS = 26, 46
# Chunks needed for the greatest argument: its exponent, the bits of a result, and those lost near a multiple of pi/2.
_CHUNKS_NEEDED = {F32: 8, F64: 46}
# Arguments are scaled down and chunks up, so that the lowest chunk is a normal number.
_CHUNK_SCALE = 2.0**200


def _reduce(f: Format[V], x: V) -> tuple[V, V, V]:
    """Return r, a small e and q with x = q * pi/2 + (r + e), abs(r) <= pi/4; of q only the two lowest bits count.

    ``x`` is not negative.
    """
    shifted = f.fma(x, 2 / math.pi, f.integer_shift)
    n = f.sub(shifted, f.integer_shift)
    first, second, third = _HALF_PI[f.dtype]
    exact = f.fma(n, -first, x)
    product = f.mul(n, second)
    r = f.sub(exact, product)
    # What the difference lost (exactly, when it cancels), what the product lost, and the last part.
    lost = f.sub(f.sub(exact, r), product)
    error = f.sub(lost, f.fma(n, third, f.fma(n, second, f.mul(product, -1.0))))
    huge = f.compare("fogt", x, _REDUCTION_LIMIT[f.dtype])
    r, error, quadrant = f.primitives.when_any(huge, lambda: _reduce_huge(f, x), (r, error, f.bits(shifted)))
    return r, error, quadrant


def _reduce_huge(f: Format[V], x: V) -> tuple[V, V, V]:
    """Do as ``_reduce`` in f64 for any finite x above the limit: sum the products with the chunks of 2/pi modulo 4."""
    primitives = f.primitives
    g: Format[V] = Format(primitives, F64)
    if f.dtype is F64:
        upper = f.from_bits(f.integer_and(f.bits(x), -(1 << 26)))
        parts = [upper, f.sub(x, upper)]
    else:
        parts = [primitives.apply("fpcast", x, dtype=f.dtype, to=F64)]
    parts = [g.mul(part, 1 / _CHUNK_SCALE) for part in parts]
    total = error = primitives.constant(0.0, F64)
    for index in range(_CHUNKS_NEEDED[f.dtype]):
        chunk = _TWO_OVER_PI >> (_CHUNK_BITS * (_CHUNKS - 1 - index)) & ((1 << _CHUNK_BITS) - 1)
        weight = math.ldexp(chunk * _CHUNK_SCALE, -_CHUNK_BITS * (index + 1))
        for part in parts:
            product = g.mul(part, weight)
            turn = g.sub(product, g.mul(g.round(g.mul(product, 0.25)), 4.0))
            # The rounding error of the sum is exact, and kept: the sum may nearly cancel.
            previous, total = total, g.add(total, turn)
            added = g.sub(total, previous)
            lost = g.add(g.sub(previous, g.sub(total, added)), g.sub(turn, added))
            error = g.add(error, lost)
    n = g.round(total)
    exact = g.sub(total, n)
    fraction = g.add(exact, error)
    rest = g.add(g.sub(exact, fraction), error)
    half_pi, half_pi_low, _ = _HALF_PI[F64]
    r = g.mul(fraction, half_pi)
    r_error = g.fma(fraction, half_pi, g.mul(r, -1.0))
    r_error = g.fma(rest, half_pi, g.fma(fraction, half_pi_low, r_error))
    quadrant = primitives.apply("fptosi", n, dtype=F64, to=f.integer)
    if f.dtype is F64:
        return r, r_error, quadrant
    r_narrow = primitives.apply("fpcast", r, dtype=F64, to=f.dtype)
    r_error = g.sub(r, primitives.apply("fpcast", r_narrow, dtype=f.dtype, to=F64))
    return r_narrow, primitives.apply("fpcast", r_error, dtype=F64, to=f.dtype), quadrant


def _sine_or_cosine(f: Format[V], r: V, error: V, quadrant: V) -> V:
    """Return the sine of ``q * pi/2 + (r + e)``."""
    z = f.mul(r, r)
    sine = f.add(r, f.fma(f.mul(z, r), f.polynomial(z, f.coefficients.sin), error))
    tail = f.fma(f.mul(z, z), f.polynomial(z, f.coefficients.cos), f.mul(f.mul(r, error), -1.0))
    cosine = f.add(f.fma(z, -0.5, 1.0), tail)
    # Bit 1 of the quadrant becomes the sign.
    sign = f.integer_and(f.shift_left(quadrant, f.dtype.bits - 2), f.sign_mask)
    value = f.select(f.is_odd(quadrant), cosine, sine)
    return f.from_bits(f.exclusive_or(f.bits(value), sign))


def _with_sign_changed_by(f: Format[V], a: V, b: V) -> V:
    """Return ``a``, negated where ``b`` is negative."""
    return f.from_bits(f.exclusive_or(f.bits(a), f.integer_and(f.bits(b), f.sign_mask)))


def sin(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the sine: the argument is reduced modulo pi/2, sine or cosine of the remainder is a polynomial."""
    f = Format(primitives, dtype)
    # Reducing abs(x) keeps the sign of a zero.
    r, error, quadrant = _reduce(f, f.absolute(x))
    return _with_sign_changed_by(f, _sine_or_cosine(f, r, error, quadrant), x)


def cos(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the cosine, as the sine a quarter turn ahead."""
    f = Format(primitives, dtype)
    r, error, quadrant = _reduce(f, f.absolute(x))
    return _sine_or_cosine(f, r, error, f.integer_add(quadrant, 1))


def tan(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the tangent: a polynomial of the remainder, in odd quadrants its negative reciprocal."""
    f = Format(primitives, dtype)
    r, error, quadrant = _reduce(f, f.absolute(x))
    z = f.mul(r, r)
    tail = f.fma(f.mul(z, r), f.polynomial(z, f.coefficients.tan), f.fma(error, z, error))
    tangent = f.add(r, tail)
    # One Newton step against the unrounded sum r + tail.
    reciprocal = f.div(-1.0, tangent)
    defect = f.fma(reciprocal, tail, f.fma(reciprocal, r, 1.0))
    reciprocal = f.fma(reciprocal, defect, reciprocal)
    value = f.select(f.is_odd(quadrant), reciprocal, tangent)
    return _with_sign_changed_by(f, value, x)


def tanh(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the hyperbolic tangent: an odd polynomial near zero, 1 - 2 / (e**(2 abs(x)) + 1) elsewhere."""
    f = Format(primitives, dtype)
    z = f.mul(x, x)
    near = f.fma(f.mul(z, x), f.polynomial(z, f.coefficients.tanh), x)
    magnitude = f.absolute(x)
    power = exp(primitives, f.add(magnitude, magnitude), dtype)
    far = f.sub(1.0, f.div(2.0, f.add(power, 1.0)))
    # The sign is set last: near loses that of -0.
    return f.copysign(f.select(f.compare("folt", magnitude, 0.625), near, far), x)


def erf(primitives: Primitives[V], x: V, dtype: DType) -> V:
    """Return the error function: an odd polynomial up to 1, one minus the exponential of a polynomial beyond."""
    f = Format(primitives, dtype)
    z = f.mul(x, x)
    near = f.fma(x, f.polynomial(z, f.coefficients.erf), x)
    magnitude = f.absolute(x)
    # From 6 on erf is 1 to the precision of f64.
    limited = f.select(f.compare("fogt", magnitude, 6.0), 6.0, magnitude)
    far = f.sub(1.0, exp(primitives, f.polynomial(limited, f.coefficients.log_erfc), dtype))
    return f.select(f.compare("folt", magnitude, 1.0), near, f.copysign(far, x))


FUNCTIONS: dict[str, Function] = {
    "rsqrt": rsqrt,
    "exp": exp,
    "exp2": exp2,
    "log": log,
    "log2": log2,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "tanh": tanh,
    "erf": erf,
}
_SPECIAL = {name for name, operation in OPERATIONS.items() if operation.cost_class == "special"}
assert FUNCTIONS.keys() == _SPECIAL - {"sqrt"}, "every special operation but the square root is a function"


def apply_function(primitives: Primitives[V], name: str, x: V, dtype: DType) -> V:
    """Return a function of ``x`` in any float type: formats narrower than ``f32`` go through ``f32``."""
    if dtype in (F32, F64):
        return FUNCTIONS[name](primitives, x, dtype)
    wide = primitives.apply("fpcast", x, dtype=dtype, to=F32)
    result = FUNCTIONS[name](primitives, wide, F32)
    return primitives.apply("fpcast", result, dtype=F32, to=dtype)
