"""Reductions of the language along every axis; map_elementwise and histogram."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import call

SHAPES = [(1,), (16,), (4, 8), (2, 4, 8), (2, 2, 4, 2), (2, 2, 2, 2, 4)]


@mlu.jit
def total(x):
    return tl.sum(x)


@mlu.jit
def total_0(x):
    return tl.sum(x, 0)


@mlu.jit
def total_last(x):
    return tl.sum(x, -1, keep_dims=True)


@mlu.jit
def greatest(x):
    return tl.max(x)


@mlu.jit
def least_0(x):
    return tl.min(x, 0)


@mlu.jit
def parity(x):
    return tl.xor_sum(x, 0)


@mlu.jit
def union(x):
    return tl.reduce_or(x, 0)


@mlu.jit
def multiply(a, b):
    return a * b


@mlu.jit
def product(x):
    return tl.reduce(x, 0, multiply)


def widened(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        return np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
    return dtype


def sample(dtype, shape):
    return np.random.default_rng(0).integers(0, 5, shape).astype(dtype)


# Sums of small integers are exact in every type, in whatever order they are made.
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float16, ml_dtypes.bfloat16, np.float64])
def test_sums(dtype, shape):
    x, to = sample(dtype, shape), widened(dtype)
    for function, axis, keeps in ((total, None, False), (total_0, 0, False), (total_last, -1, True)):
        want = np.asarray(x.astype(np.float64).sum(axis, keepdims=keeps)).astype(to)
        np.testing.assert_array_equal(call(function, x, result=want), want)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sums_of_narrow_floats_round_once(dtype):
    x = np.random.default_rng(0).integers(-128, 129, (64, 128)).astype(dtype)
    for function, axis in ((total_0, 0), (total_last, 1)):
        want = x.astype(np.float32).sum(axis, keepdims=axis == 1).astype(dtype)
        np.testing.assert_array_equal(call(function, x, result=want), want)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_extremes_and_combinations(dtype, shape):
    x = sample(dtype, shape) + dtype(1)
    cases = [(greatest, np.asarray(x.max())), (least_0, x.min(0)), (product, np.prod(x, axis=0, dtype=dtype))]
    if dtype is np.int32:
        cases += [(parity, np.bitwise_xor.reduce(x, axis=0)), (union, np.bitwise_or.reduce(x, axis=0))]
    for function, want in cases:
        np.testing.assert_array_equal(call(function, x, result=np.asarray(want)), want)


@mlu.jit
def wide_total(x):
    return tl.sum(x, 1, dtype=tl.int64)


def test_the_type_of_a_sum_can_be_given():
    x = np.full((4, 64), 2**31 - 1, np.int32)
    want = x.astype(np.int64).sum(1)
    np.testing.assert_array_equal(call(wide_total, x, result=want), want)


@mlu.jit
def places(x):
    return tl.argmax(x, 1), tl.argmin(x, 1)


@mlu.jit
def greatest_and_place(x):
    return tl.max(x, 1, return_indices=True)


@mlu.jit
def least_and_any_place(x):
    return tl.min(x, 1, return_indices=True, return_indices_tie_break_left=False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.float32, np.float64])
def test_places_of_extremes_are_the_first_of_equals(dtype):
    x = sample(dtype, (16, 32))
    want = x.argmax(1).astype(np.int32), x.argmin(1).astype(np.int32)
    for got, expected in zip(call(places, x, result=want), want, strict=True):
        np.testing.assert_array_equal(got, expected)
    value, place = call(greatest_and_place, x, result=(x[:, 0], want[0]))
    np.testing.assert_array_equal(value, x.max(1))
    np.testing.assert_array_equal(place, want[0])
    value, place = call(least_and_any_place, x, result=(x[:, 0], want[0]))
    np.testing.assert_array_equal(value, x.min(1))
    np.testing.assert_array_equal(np.take_along_axis(x, place[:, None], 1)[:, 0], x.min(1))


@mlu.jit
def greater(value, place, other_value, other_place):
    is_first = (value > other_value) | ((value == other_value) & (place < other_place))
    return tl.where(is_first, value, other_value), tl.where(is_first, place, other_place)


@mlu.jit
def places_from(out, values, x, first, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr, AXIS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    tile = tl.load(x + rows * COLUMNS + columns)
    numbers = tl.broadcast_to((columns if AXIS else rows) + first - 7, (ROWS, COLUMNS)) + stride * 3
    value, place = tl.reduce((tile, numbers), AXIS, greater)
    tl.store(values + tl.arange(0, COLUMNS if AXIS == 0 else ROWS), value)
    tl.store(out + tl.arange(0, COLUMNS if AXIS == 0 else ROWS), place)


@pytest.mark.parametrize("axis", [0, 1])
def test_numbers_that_follow_each_other_are_places_and_an_offset(axis):
    x = sample(np.float32, (16, 32)).round()
    values, out = np.zeros(x.max(axis).shape, np.float32), np.zeros(x.max(axis).shape, np.int32)
    run = places_from[(1,)](out, values, x, -1000, 11, ROWS=16, COLUMNS=32, AXIS=axis)
    np.testing.assert_array_equal(values, x.max(axis))
    np.testing.assert_array_equal(out, x.argmax(axis) - 1000 - 7 + 33)
    assert [each.row.name for each in run.program.instructions if each.row.name.startswith("red.")] == ["red.argmax"]


@mlu.jit
def three(a, b, c, d, e, f):
    return a + d, tl.maximum(b, e), tl.where(c > f, c, f * 1)


@mlu.jit
def reduce_three(x, y, z):
    a, b, c = tl.reduce((x, y, z), 1, three)
    return a + b * 100, c


def test_several_operands_are_reduced_together():
    x, y, z = sample(np.int32, (3, 4, 8))
    sums, greatest_values = call(reduce_three, x, y, z, result=(x[:, 0], z[:, 0]))
    np.testing.assert_array_equal(sums, x.sum(1) + 100 * y.max(1))
    np.testing.assert_array_equal(greatest_values, z.max(1))


@mlu.jit
def greater_by_branch(a, b):
    if a > b:
        return a
    return b


@mlu.jit
def reduce_by_branch(x):
    return tl.reduce(x, 0, greater_by_branch)


def test_combine_functions_may_branch():
    x = np.random.default_rng(1).standard_normal(32).astype(np.float32)
    assert call(reduce_by_branch, x, result=x[0]) == x.max()


@mlu.jit
def counts(x, mask):
    return tl.histogram(x, 8, mask=mask)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_histogram_counts_what_the_mask_shows(dtype):
    x = np.random.default_rng(2).integers(0, 8, 64).astype(dtype)
    mask = np.random.default_rng(3).integers(0, 2, 64).astype(bool)
    want = np.bincount(x[mask].astype(int), minlength=8).astype(np.int32)
    np.testing.assert_array_equal(call(counts, x, mask, result=want), want)


@mlu.jit
def ordered(a, b):
    if a < b:
        return a, b
    return b * 2, a


@mlu.jit
def map_ordered(x, y):
    return tl.map_elementwise(ordered, x, y)


@mlu.jit
def crossed(a0, a1, b0, b1):
    return a0 + b1, a1 * b0


@mlu.jit
def map_crossed(x, y):
    return tl.map_elementwise(crossed, x, y, pack=2)[0]


@mlu.jit
def backward(a0, a1, a2, a3):
    return a3, a2, a1, a0


@mlu.jit
def map_backward(x):
    return tl.map_elementwise(backward, x, pack=4)[0]


@pytest.mark.parametrize("shape", [(8,), (4, 8), (2, 2, 4)])
def test_map_elementwise_one_by_one_and_in_packs(shape):
    x, y = sample(np.int32, (2, *shape))
    low, high = call(map_ordered, x, y, result=(x, y))
    np.testing.assert_array_equal(low, np.where(x < y, x, 2 * y))
    np.testing.assert_array_equal(high, np.where(x < y, y, x))
    pairs = np.stack([x[..., ::2] + y[..., 1::2], x[..., 1::2] * y[..., ::2]], -1).reshape(shape)
    np.testing.assert_array_equal(call(map_crossed, x, y, result=x), pairs)
    fours = x.reshape(-1, 4)[:, ::-1].reshape(shape)
    np.testing.assert_array_equal(call(map_backward, x, result=x), fours)


@mlu.jit
def common_divisor(a, b):
    result = -1
    if a > 0 and b > 0:
        while b != 0:
            a, b = b, a % b
        result = a
    return result


@mlu.jit
def map_common_divisor(x, y):
    return tl.map_elementwise(common_divisor, x, y)


@mlu.jit
def ones_below(count, factor):
    total = 0
    for number in range(count):
        while number > 0:
            if number % 2 == 1:
                total += factor
            number = number // 2
    return total


@mlu.jit
def map_ones_below(x, y):
    return tl.map_elementwise(ones_below, x, y)


@mlu.jit
def larger_after_turns(a, b):
    turns = 0
    while turns < b % 3:
        turns += 1
    return tl.maximum(a, b + turns - b % 3)


@mlu.jit
def reduced_in_turns(x):
    return tl.reduce(x, 0, larger_after_turns)


@pytest.mark.parametrize("shape", [(16,), (4, 8), (1, 1)])
def test_loops_of_single_elements_run_as_often_as_each_asks(shape):
    """Elements in the other branch, which have no end there, do not run a loop; nor do those that have left it."""
    x, y = np.random.default_rng(4).integers(-3, 20, (2, *shape)).astype(np.int32)
    divisors = np.where((x > 0) & (y > 0), np.gcd(x, y), -1)
    np.testing.assert_array_equal(call(map_common_divisor, x, y, result=x), divisors)
    ones = np.array([sum(number.bit_count() for number in range(count)) for count in x.ravel().tolist()])
    np.testing.assert_array_equal(call(map_ones_below, x, y, result=x), ones.reshape(shape) * y)


def test_reductions_by_functions_with_loops():
    x = np.random.default_rng(5).integers(0, 1000, 32).astype(np.int32)
    assert call(reduced_in_turns, x, result=x[0]) == x.max()


@mlu.jit
def reading(a, array):
    total = 0
    while total < a:
        total += tl.load(array)
    return total


@mlu.jit
def map_reading(out, x, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.map_elementwise(reading, tl.load(x + place), x + place))


def test_functions_of_single_elements_that_read_memory_are_refused_at_their_line():
    x = np.zeros(16, np.int32)
    with pytest.raises(mlu.CompileError, match="holds load") as caught:
        map_reading[(1,)](x, x, BLOCK=16)
    assert caught.value.location.line == reading.fn.__code__.co_firstlineno + 4
