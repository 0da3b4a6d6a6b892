"""Fused multiply-add on NumPy arrays: ``a * b + c`` with one rounding, which NumPy itself lacks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c`` rounded once to nearest, ties to even, for arrays that are all float32 or all float64.

    Shapes: the operands are broadcast against each other.
    """
    return _fma_float32(a, b, c) if a.dtype == np.float32 else _fma_float64(a, b, c)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded sum and its exact rounding error. Source: Knuth, TAOCP vol. 2, 4.2.2, theorem B."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def add_to_odd(a: Array, b: Array) -> Array:
    """Return the float64 sum, where inexact the neighbour whose last bit is odd.

    Such a sum rounds to any format of two bits less or more as the exact sum does.
    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008.
    """
    total, error = two_sum(a, b)
    bits = np.asarray(total).view(np.int64)
    inexact_even = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    away_from_zero = (error > 0) == (total > 0)
    return np.asarray(bits + np.where(inexact_even, np.where(away_from_zero, 1, -1), 0)).view(np.float64)


def narrow_to_odd(values: Array) -> Array:
    """Return float64 values as float32, inexact ones as the neighbour whose last bit is odd; infinite stays infinite.

    Rounding the result to a format of 22 mantissa bits or fewer gives what rounding ``values`` once would.
    """
    nearest = np.asarray(values.astype(np.float32))
    # A finite value too large for float32 must not look infinite, but as the greatest finite number, which is odd.
    overflowed = np.isinf(nearest) & np.isfinite(values)
    nearest = np.where(overflowed, np.copysign(np.finfo(np.float32).max, nearest), nearest)
    bits = nearest.view(np.int32)
    inexact_even = (nearest != values) & ~np.isnan(values) & (bits & 1 == 0)
    step = np.where(np.abs(values) > np.abs(nearest), np.int32(1), np.int32(-1))
    # Stepping below zero magnitude cannot happen: an inexact zero is always stepped away from.
    return np.asarray(bits + np.where(inexact_even, step, np.int32(0))).view(np.float32)


def _fma_float32(a: Array, b: Array, c: Array) -> Array:
    # The product is exact in float64; only the sum rounds. Rounding it again is wrong at ties of float32 alone, which
    # the lower 29 bits show, and below float32's normal numbers, where ties stand elsewhere.
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = np.asarray(product + addend)
    tie = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    doubtful = tie | (np.abs(total) < 2.0**-126)
    if doubtful.any():
        total = np.where(doubtful, add_to_odd(product, addend), total)
    return np.asarray(total.astype(np.float32))


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded float64 product and its exact error. Source: Dekker, Numerische Mathematik 18, 1971."""

    def halves(x: Array) -> tuple[Array, Array]:
        scaled = x * 134217729.0  # 2**27 + 1
        upper = scaled - (scaled - x)
        return upper, x - upper

    product = a * b
    (a_upper, a_lower), (b_upper, b_lower) = halves(a), halves(b)
    error = a_lower * b_lower - (((product - a_upper * b_upper) - a_lower * b_upper) - a_upper * b_lower)
    return product, error


def _fma_float64(a: Array, b: Array, c: Array) -> Array:
    a, b, c = np.broadcast_arrays(a, b, c)
    plain = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b) | ~np.isfinite(c)
    # Then the product's error is exact, and no addend overflows with such a product; sums never underflow inexactly.
    moderate = _is_moderate(a, 2.0**440) & _is_moderate(b, 2.0**440)
    product, product_error = _two_product(a, b)
    low, low_error = two_sum(c, product_error)
    high, high_error = two_sum(product, low)
    result = np.where(plain, a * b + c, high + add_to_odd(low_error, high_error))
    extreme = ~plain & ~moderate
    if extreme.any():
        lanes = zip(a[extreme].tolist(), b[extreme].tolist(), c[extreme].tolist(), strict=True)
        result[extreme] = [_fma_rational(*lane) for lane in lanes]
    return result


def _is_moderate(x: Array, limit: float) -> Array:
    magnitude = np.abs(x)
    return (magnitude < limit) & (magnitude > 1 / limit)


def _fma_rational(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        # Python's division of integers rounds correctly, to subnormals too; a tiny quotient keeps its sign.
        return exact.numerator / exact.denominator
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
