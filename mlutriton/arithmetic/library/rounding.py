"""Arithmetic and conversions under the directed rounding modes, exactly.

The result rounded to nearest and the sign of what it lacks tell the result of every other mode. Modes: ``rn`` to
nearest, ties to even; ``rz`` toward zero; ``rd`` downward; ``ru`` upward.
"""

from __future__ import annotations

import math
from typing import Literal

from mlutriton.arithmetic.formats import Format, V
from mlutriton.arithmetic.library.double_word import Pair, product_of, sum_of, sum_of_ordered
from mlutriton.dtypes import F32, F64, DType

Mode = Literal["rn", "rz", "rd", "ru"]


def directed(f: Format[V], nearest: V, error: V, mode: Mode) -> V:
    """The result in a mode, from the nearest number and a number with the sign of (exact result - nearest)."""
    if mode == "rn":
        return nearest
    bits = f.bits(nearest)
    # The neighbours of a number by its bits; that of zero is the least number with the error's sign.
    outward, inward = f.from_bits(f.integer_add(bits, 1)), f.from_bits(f.integer_sub(bits, 1))
    least = f.from_bits(f.select_integer(f.compare("folt", error, 0.0), f.sign_mask | 1, 1))
    is_positive = f.compare("fogt", nearest, 0.0)
    up = f.compare("fogt", error, 0.0)
    neighbour = f.select(f.on_masks("eq", is_positive, up), outward, inward)
    neighbour = f.select(f.compare("foeq", nearest, 0.0), least, neighbour)
    down = f.compare("folt", error, 0.0)
    match mode:
        case "rd":
            moves = down
        case "ru":
            moves = up
        case _:
            is_negative = f.compare("folt", nearest, 0.0)
            moves = f.either(f.both(is_positive, down), f.both(is_negative, up))
    return f.select(moves, neighbour, nearest)


def _unless_overflow(f: Format[V], nearest: V, error: V, *operands: V) -> V:
    """The error, or if finite operands overflowed, that the nearest number is too far from zero."""
    is_finite = f.is_finite(operands[0])
    for operand in operands[1:]:
        is_finite = f.both(is_finite, f.is_finite(operand))
    overflows = f.both(is_finite, f.is_infinite(nearest))
    error = f.select(overflows, f.negate(f.copysign(f.constant(1.0), nearest)), error)
    return f.select(is_finite, error, 0.0)


def _zero_sum(f: Format[V], a: V, b: V, result: V, mode: Mode) -> V:
    """Rounded downward, the sum of a number and its negative is -0."""
    if mode != "rd":
        return result
    both_positive = f.on_integers("eq", f.on_integers("or", f.bits(a), f.bits(b)), 0)
    cancels = f.both(f.compare("foeq", f.add(a, b), 0.0), f.invert(both_positive))
    return f.select(cancels, -0.0, result)


def add(f: Format[V], a: V, b: V, mode: Mode) -> V:
    """Return a + b."""
    total = sum_of(f, a, b)
    error = _unless_overflow(f, total.high, total.low, a, b)
    return _zero_sum(f, a, b, directed(f, total.high, error, mode), mode)


def subtract(f: Format[V], a: V, b: V, mode: Mode) -> V:
    """Return a - b."""
    return add(f, a, f.negate(b), mode)


def _scaled_product_error(f: Format[V], a: V, b: V, nearest: V) -> V:
    """A number with the sign of a * b - nearest, also where the product underflows."""
    greater = f.compare("foge", f.absolute(a), f.absolute(b))
    large, small = f.select(greater, a, b), f.select(greater, b, a)
    scale = 2.0 ** (2 * f.dtype.mantissa_bits + 20)
    is_tiny = f.compare("folt", f.absolute(nearest), 2.0 ** (3 * f.dtype.mantissa_bits - f.exponent_bias))
    factor = f.select(is_tiny, scale, 1.0)
    error = f.fma(large, f.mul(small, factor), f.negate(f.mul(nearest, factor)))
    is_zero = f.either(f.compare("foeq", a, 0.0), f.compare("foeq", b, 0.0))
    vanished = f.both(f.compare("foeq", nearest, 0.0), f.invert(is_zero))
    return f.select(vanished, f.copysign(f.constant(1.0), nearest), error)


def multiply(f: Format[V], a: V, b: V, mode: Mode) -> V:
    """Return a * b, which no sum may take in unrounded."""
    if mode == "rn":
        return f.fma(a, b, f.constant(-0.0))
    nearest = f.mul(a, b)
    error = _unless_overflow(f, nearest, _scaled_product_error(f, a, b, nearest), a, b)
    return directed(f, nearest, error, mode)


def divide(f: Format[V], a: V, b: V, mode: Mode) -> V:
    """Return a / b."""
    nearest = f.div(a, b)
    # Both operands are brought near 1, so that no product of the residue underflows or overflows.
    (a_fraction, a_exponent), (b_fraction, b_exponent) = _normalized(f, a), _normalized(f, b)
    quotient = f.div(a_fraction, b_fraction)
    residue = f.fma(f.negate(quotient), b_fraction, a_fraction)
    residue = f.mul(residue, f.copysign(f.constant(1.0), b))
    # The nearest number differs from the scaled quotient if it is subnormal; what that lost comes first.
    exponent = f.integer_sub(a_exponent, b_exponent)
    lost = f.sub(quotient, scale_by_power(f, nearest, f.on_integers("sub", 0, exponent)))
    error = f.select(f.compare("foeq", lost, 0.0), residue, lost)
    vanished = f.both(f.compare("foeq", nearest, 0.0), f.compare("fone", a, 0.0))
    error = f.select(vanished, f.copysign(f.constant(1.0), nearest), error)
    is_zero = f.either(f.compare("foeq", a, 0.0), f.compare("foeq", b, 0.0))
    error = f.select(is_zero, 0.0, _unless_overflow(f, nearest, error, a, b))
    return directed(f, nearest, error, mode)


def reciprocal(f: Format[V], x: V, mode: Mode) -> V:
    """Return 1 / x."""
    return divide(f, f.constant(1.0), x, mode)


def square_root(f: Format[V], x: V, mode: Mode) -> V:
    """Return the square root."""
    nearest = f.sqrt(x)
    is_tiny = f.compare("folt", x, 2.0 ** (3 * f.dtype.mantissa_bits - f.exponent_bias))
    half_scale = 2.0 ** (f.dtype.mantissa_bits + 10)
    root = f.mul(nearest, f.select(is_tiny, half_scale, 1.0))
    square = f.mul(x, f.select(is_tiny, half_scale * half_scale, 1.0))
    residue = f.fma(f.negate(root), root, square)
    is_regular = f.both(f.is_finite(x), f.compare("fogt", x, 0.0))
    return directed(f, nearest, f.select(is_regular, residue, 0.0), mode)


def fused_multiply_add(f: Format[V], a: V, b: V, c: V, mode: Mode) -> V:
    """Return a * b + c with one rounding.

    Source: Boldo and Muller, Exact and approximated error of the FMA (2011).
    """
    nearest = f.fma(a, b, c)
    if mode == "rn":
        return nearest
    (a_fraction, a_exponent), (b_fraction, b_exponent) = _normalized(f, a), _normalized(f, b)
    c_fraction, c_exponent = _normalized(f, c)
    # All is scaled by one power of two that brings the greater of product and addend near 1; of the lesser one only the
    # sign counts if it is that much smaller than all digits of the greater.
    product_exponent = f.integer_add(a_exponent, b_exponent)
    product_is_zero = f.either(f.compare("foeq", a, 0.0), f.compare("foeq", b, 0.0))
    least = -(1 << 14)
    product_exponent = f.select_integer(product_is_zero, least, product_exponent)
    c_exponent = f.select_integer(f.compare("foeq", c, 0.0), least, c_exponent)
    top = f.on_integers("smax", product_exponent, c_exponent)
    lowest = -3 * f.dtype.mantissa_bits - 8
    product_shift = f.on_integers("smax", f.integer_sub(product_exponent, top), lowest)
    c_shift = f.on_integers("smax", f.integer_sub(c_exponent, top), lowest)
    product = product_of(f, f.select(product_is_zero, 0.0, a_fraction), b_fraction)
    power = power_of_two(f, product_shift)
    product = Pair(f.mul(product.high, power), f.mul(product.low, power))
    addend = f.mul(f.select(f.compare("foeq", c, 0.0), c, c_fraction), power_of_two(f, c_shift))
    total = sum_of(f, product.high, addend)
    low = sum_of(f, total.low, product.low)
    upper = sum_of_ordered(f, total.high, low.high)
    # exact = upper.high + upper.low + low.low; the nearest number, scaled likewise, is so close to upper.high that
    # their difference is exact.
    scaled = scale_by_power(f, nearest, f.on_integers("sub", 0, top))
    difference = f.sub(upper.high, scaled)
    rest = sum_of(f, difference, upper.low)
    error = f.select(f.compare("foeq", rest.high, 0.0), low.low, rest.high)
    error = _unless_overflow(f, nearest, error, a, b, c)
    result = directed(f, nearest, error, mode)
    if mode != "rd":
        return result
    # An exact zero is -0 unless product and addend are both +0.
    sign = f.copysign(f.constant(1.0), a)
    product_sign = f.mul(sign, f.copysign(f.constant(1.0), b))
    positive = f.both(f.compare("fogt", product_sign, 0.0), f.compare("fogt", f.copysign(f.constant(1.0), c), 0.0))
    exact_zero = f.both(f.compare("foeq", nearest, 0.0), f.compare("foeq", error, 0.0))
    return f.select(f.both(exact_zero, f.invert(positive)), -0.0, result)


def power_of_two(f: Format[V], exponent: V) -> V:
    """2**exponent, for exponents of normal numbers."""
    return f.from_bits(f.shift_left(f.integer_add(exponent, f.exponent_bias), f.dtype.mantissa_bits))


def _normalized(f: Format[V], x: V) -> tuple[V, V]:
    """(m, e) with x = m * 2**e and abs(m) from 1 to 2; zero, infinities and NaN give nothing of use."""
    digits = f.dtype.mantissa_bits
    is_tiny = f.compare("folt", f.absolute(x), 2.0 ** (1 - f.exponent_bias))
    scaled = f.select(is_tiny, f.mul(x, 2.0 ** (digits + 2)), x)
    bits = f.bits(scaled)
    field = f.integer_and(f.shift_right(bits, digits), 2 * f.exponent_bias + 1)
    exponent = f.integer_sub(field, f.exponent_bias)
    mantissa = f.from_bits(f.integer_sub(bits, f.shift_left(exponent, digits)))
    return mantissa, f.integer_sub(exponent, f.select_integer(is_tiny, digits + 2, 0))


def exponent_of(f: Format[V], x: V) -> V:
    """The exponent of a finite number other than zero, as an integer of the format's width."""
    return _normalized(f, x)[1]


def scale_by_power(f: Format[V], x: V, exponent: V) -> V:
    """X * 2**exponent with one rounding, for any exponent.

    Only the last of three products can be subnormal: those before it leave room for all digits.
    """
    bias, digits = f.exponent_bias, f.dtype.mantissa_bits
    for _ in range(2):
        step = f.on_integers("smax", f.on_integers("smin", exponent, bias), digits + 2 - bias)
        rest = f.integer_sub(exponent, step)
        is_far = f.on_integers("ne", rest, 0)
        # A step whose product would be subnormal already is not taken before the last.
        x = f.select(is_far, f.mul(x, power_of_two(f, step)), x)
        exponent = f.select_integer(is_far, rest, exponent)
    exponent = f.on_integers("smax", f.on_integers("smin", exponent, bias), 2 * (digits + 2 - bias))
    is_low = f.on_integers("slt", exponent, 1 - bias)
    first = f.select_integer(is_low, f.integer_add(exponent, bias - 1), exponent)
    x = f.mul(x, power_of_two(f, first))
    return f.select(is_low, f.mul(x, 2.0 ** (1 - bias)), x)


def narrowed(f: Format[V], x: V, mode: Mode) -> V:
    """Return an f64 number as f32; ``f`` is the format of f32."""
    wide: Format[V] = Format(f.primitives, F64)
    nearest = wide.cast("fpcast", x, F32)
    back = f.cast("fpcast", nearest, F64)
    error = wide.select(wide.is_finite(x), wide.sub(x, back), 0.0)
    sign = wide.copysign(wide.select(wide.compare("foeq", error, 0.0), 0.0, 1.0), error)
    return directed(f, nearest, wide.cast("fpcast", sign, F32), mode)


_TO_INTEGRAL: dict[Mode, str] = {"rn": "round_even", "rz": "trunc", "rd": "floor", "ru": "ceil"}


def to_integer(f: Format[V], x: V, mode: Mode, to: DType, *, signed: bool) -> V:
    """Return a float as the nearest integer in the mode, limited to the range of the type; NaN gives 0."""
    return f.cast("fptosi" if signed else "fptoui", f(_TO_INTEGRAL[mode], x), to)


def from_integer(f: Format[V], x: V, mode: Mode, source: DType, *, signed: bool) -> V:
    """Return an integer of type ``source`` as a float."""
    p = f.primitives
    nearest = p.apply("sitofp" if signed else "uitofp", x, dtype=source, to=f.dtype)
    if mode == "rn":
        return nearest
    back = f.cast("fptosi" if signed else "fptoui", nearest, source)
    limit = math.ldexp(1.0, source.bits - signed)
    prefix = "s" if signed else "u"
    below = p.apply(f"{prefix}lt", x, back, dtype=source)
    above = p.apply(f"{prefix}gt", x, back, dtype=source)
    # The conversion back stops at the greatest integer, which is less than the float.
    below = f.either(below, f.compare("foeq", nearest, limit))
    error = f.select(below, -1.0, f.select(above, 1.0, 0.0))
    return directed(f, nearest, error, mode)
