"""Operators and element-wise arithmetic of the language, on every type and rank."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.diagnostics import KernelFault
from mlutriton.frontend.triton_versions import RELEASE
from tests.language.launching import call

INTEGERS = [np.int8, np.int32, np.int64, np.uint16, np.uint32]
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
SHAPES = [(), (1,), (16,), (4, 8), (1, 8, 2), (2, 1, 4, 2), (2, 2, 2, 2, 2)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.5, -3.5, 1e-3, 300.0]


@mlu.jit
def add(x, y):
    return x + y


@mlu.jit
def subtract(x, y):
    return x - y


@mlu.jit
def multiply(x, y):
    return x * y


@mlu.jit
def quotient(x, y):
    return x // y


@mlu.jit
def remainder(x, y):
    return x % y


@mlu.jit
def bit_and(x, y):
    return x & y


@mlu.jit
def bit_or(x, y):
    return x | y


@mlu.jit
def bit_xor(x, y):
    return x ^ y


@mlu.jit
def shift_left(x, y):
    return x << y


@mlu.jit
def shift_right(x, y):
    return x >> y


@mlu.jit
def less(x, y):
    return x < y


@mlu.jit
def not_equal(x, y):
    return x != y


@mlu.jit
def divide(x, y):
    return x / y


@mlu.jit
def divide_rounded(x, y):
    return tl.fdiv(x, y, ieee_rounding=True)


@mlu.jit
def minimum_of_numbers(x, y):
    return tl.minimum(x, y)


@mlu.jit
def maximum_of_numbers(x, y):
    return tl.maximum(x, y)


@mlu.jit
def minimum_or_nan(x, y):
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@mlu.jit
def maximum_or_nan(x, y):
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


def width(x):
    return 8 * x.dtype.itemsize


def shifted_left(x, y):
    counts = y.astype(np.uint64)
    return np.where(counts < width(x), x << (y & y.dtype.type(width(x) - 1)), x.dtype.type(0))


def shifted_right(x, y):
    counts = np.minimum(y.astype(np.uint64), width(x) - 1).astype(x.dtype)
    gone = x.dtype.type(0) if x.dtype.kind == "u" else x >> x.dtype.type(width(x) - 1)
    return np.where(y.astype(np.uint64) < width(x), x >> counts, gone)


def truncated_quotient(x, y):
    y = np.where(y == 0, y.dtype.type(1), y)
    return (x - np.fmod(x, y)) // y


ON_INTEGERS = [
    (add, np.add),
    (subtract, np.subtract),
    (multiply, np.multiply),
    (bit_and, np.bitwise_and),
    (bit_or, np.bitwise_or),
    (bit_xor, np.bitwise_xor),
    (shift_left, shifted_left),
    (shift_right, shifted_right),
    (less, np.less),
    (not_equal, np.not_equal),
    (minimum_of_numbers, np.minimum),
    (maximum_of_numbers, np.maximum),
]
ON_FLOATS = [
    (add, np.add),
    (subtract, np.subtract),
    (multiply, np.multiply),
    (divide, np.divide),
    (divide_rounded, np.divide),
    (remainder, np.fmod),
    (less, np.less),
    (not_equal, np.not_equal),
    (minimum_of_numbers, np.fmin),
    (maximum_of_numbers, np.fmax),
    (minimum_or_nan, np.minimum),
    (maximum_or_nan, np.maximum),
]


def reference(function, *arrays):
    """The function in the type's own precision; narrow floats are computed in float32 and rounded."""
    with np.errstate(all="ignore"):
        if arrays[0].dtype.kind in "iu" or arrays[0].dtype.itemsize > 2:
            return np.asarray(function(*arrays))
        result = np.asarray(function(*(array.astype(np.float32) for array in arrays)))
        return result if result.dtype == bool else result.astype(arrays[0].dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(("function", "expected"), ON_INTEGERS)
@settings(max_examples=5)
@given(data=st.data())
def test_integers(function, expected, dtype, data):
    x, y = (data.draw(arrays(dtype, 16)) for _ in range(2))
    want = reference(expected, x, y)
    np.testing.assert_array_equal(call(function, x, y, result=want), want)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_quotient_and_remainder_are_those_of_truncation(dtype):
    generator = np.random.default_rng(0)
    information = np.iinfo(dtype)
    x, y = generator.integers(information.min, information.max, (2, 64), dtype=dtype, endpoint=True)
    y[:32] = y[:32] % dtype(7) + dtype(1)
    y[y == 0] = 3
    np.testing.assert_array_equal(call(quotient, x, y, result=x), truncated_quotient(x, y))
    np.testing.assert_array_equal(call(remainder, x, y, result=x), np.fmod(x, y))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("function", "expected"), ON_FLOATS)
def test_floats_and_their_special_values(function, expected, dtype):
    special = np.array(SPECIAL).astype(dtype)
    drawn = (np.random.default_rng(1).standard_normal((2, 256)) * 8).astype(dtype)
    drawn[:, : len(special) ** 2] = np.repeat(special, len(special)), np.tile(special, len(special))
    x, y = drawn
    want = reference(expected, x, y)
    got = call(function, x, y, result=want)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8, ml_dtypes.bfloat16])
def test_every_rank(dtype, shape):
    x, y = (np.random.default_rng(2).integers(1, 9, (2, *shape))).astype(dtype)
    np.testing.assert_array_equal(call(add, x, y, result=x), x + y)
    np.testing.assert_array_equal(call(less, x, y, result=x < y), x < y)


@mlu.jit
def equal(x, y):
    return x == y


@mlu.jit
def invert(x):
    return ~x


@mlu.jit
def logical_not(x):
    return not x


@pytest.mark.parametrize("function", [bit_and, bit_or, bit_xor, equal, not_equal, less])
def test_truth_values(function):
    x, y = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    operations = {bit_and: x & y, bit_or: x | y, bit_xor: x ^ y, equal: x == y, not_equal: x != y, less: x < y}
    np.testing.assert_array_equal(call(function, x, y, result=x), operations[function])
    np.testing.assert_array_equal(call(invert, x, result=x), ~x)
    assert call(logical_not, x[0], result=x[0]) == (not x[0])


@mlu.jit
def negate(x):
    return -x


@mlu.jit
def absolute(x):
    return tl.abs(x)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, *FLOATS])
def test_negation_and_magnitude_keep_the_least_integer_and_the_sign_of_zero(dtype):
    values = [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 3.0, -3.0]
    x = np.array(values).astype(dtype) if dtype in FLOATS else np.array([np.iinfo(dtype).min, 0, 1, -1], dtype)
    with np.errstate(all="ignore"):
        # Triton 3.7 negates by subtraction from zero, so that it has no negative zero.
        negative = -x if RELEASE >= (3, 8) else np.zeros_like(x) - x
        assert call(negate, x, result=x).tobytes() == negative.tobytes()
        assert call(absolute, x, result=x).tobytes() == np.abs(x).tobytes()


@mlu.jit
def clamp(x, low, high):
    return tl.clamp(x, low, high)


@mlu.jit
def clamp_or_nan(x, low, high):
    return tl.clamp(x, low, high, propagate_nan=tl.PropagateNan.ALL)


def test_clamp_passes_nan_on_if_asked():
    x = np.array([-3, -0.5, 0.5, 3, np.nan, np.inf, -np.inf, 0], np.float32)
    low, high = np.full(8, -1, np.float32), np.full(8, 2, np.float32)
    np.testing.assert_array_equal(call(clamp_or_nan, x, low, high, result=x), np.clip(x, -1, 2))
    np.testing.assert_array_equal(call(clamp, x, low, high, result=x), np.clip(np.where(np.isnan(x), -1, x), -1, 2))


@mlu.jit
def multiply_add(x, y, z):
    return tl.fma(x, y, z)


def test_fma_rounds_once():
    x = np.full(4, 1 + 2.0**-12, np.float32)
    z = np.full(4, -1 - 2.0**-11, np.float32)
    np.testing.assert_array_equal(call(multiply_add, x, x, z, result=x), np.full(4, 2.0**-24, np.float32))


@mlu.jit
def where(mask, x, y):
    return tl.where(mask, x, y)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float64, bool])
def test_where_broadcasts_and_takes_scalars(dtype):
    mask = np.array([[1], [0], [0], [1]], bool)
    x, y = np.ones((1, 8), dtype), np.zeros((4, 8), dtype)
    np.testing.assert_array_equal(call(where, mask, x, y, result=y), np.where(mask, x, y))
    np.testing.assert_array_equal(call(where, mask, x[0, 0], y, result=y), np.where(mask, x[0, 0], y))


@mlu.jit
def upper_half(x, y):
    return tl.umulhi(x, y)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64, np.int32])
def test_umulhi(dtype):
    x, y = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (2, 32), dtype=dtype)
    want = [(int(a) * int(b)) >> width(x) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(call(upper_half, x, y, result=x), np.array(want, dtype))


@mlu.jit
def ceiling_quotient(x, y):
    return tl.cdiv(x, y)


def test_cdiv():
    x, y = np.arange(64, dtype=np.int32), np.arange(64, dtype=np.int32) % 7 + 1
    np.testing.assert_array_equal(call(ceiling_quotient, x, y, result=x), -(-x // y))


@mlu.jit
def as_float(x):
    return x.to(tl.float32, bitcast=True)


@mlu.jit
def as_half(x):
    return x.to(tl.float16, bitcast=True)


@mlu.jit
def next_float(x):
    return (x.to(tl.int32, bitcast=True) + 1).to(tl.float32, bitcast=True) * 1.0


def test_bit_casts_keep_every_bit():
    x = np.random.default_rng(4).integers(-(2**31), 2**31, 16, dtype=np.int32)
    assert call(as_float, x, result=x.view(np.float32)).tobytes() == x.tobytes()
    assert call(as_half, x.view(np.uint16), result=x.view(np.float16)).tobytes() == x.tobytes()


def test_arithmetic_goes_on_across_a_bit_cast():
    x = np.linspace(1, 2, 16, dtype=np.float32)
    np.testing.assert_array_equal(call(next_float, x, result=x), np.nextafter(x, np.float32(9)))


@pytest.mark.parametrize(
    ("function", "dtype", "x", "y"),
    [
        (add, np.int32, 2**31 - 1, 1),
        (add, np.uint8, 255, 1),
        (subtract, np.int8, -128, 1),
        (subtract, np.uint32, 0, 1),
        (multiply, np.int16, 2**14, 2),
    ],
)
def test_sanitize_overflow_asserts_on_the_device(function, dtype, x, y):
    a, b = np.full(8, x, dtype), np.full(8, y, dtype)
    call(function, a, b, result=a)
    call(function, b, b, result=a, sanitize_overflow=True, debug=True)
    with pytest.raises(KernelFault, match="overflow detected"):
        call(function, a, b, result=a, sanitize_overflow=True, debug=True)


@mlu.jit
def hinted(x):
    tl.assume(x.numel > 0)
    tl.debug_barrier()
    return tl.max_constancy(tl.max_contiguous(tl.multiple_of(x, 1), 1), 1)


@mlu.jit
def dependent(x):
    tl.extra.cuda.gdc_wait()
    tl.extra.cuda.gdc_launch_dependents()
    return x


@pytest.mark.parametrize("function", [hinted, dependent])
def test_hints_change_nothing(function):
    x = np.arange(16, dtype=np.int32)
    np.testing.assert_array_equal(call(function, x, result=x), x)
