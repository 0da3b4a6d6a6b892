"""Changes of shape of the language: the same elements elsewhere, so that results are equal to the bit."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import call

DTYPES = [np.int8, np.float32, np.int64, bool, ml_dtypes.bfloat16]


@mlu.jit
def in_pairs(x):
    return tl.reshape(x, (x.numel // 2, 2))


@mlu.jit
def raveled(x):
    return tl.ravel(x)


@mlu.jit
def transposed(x):
    return tl.trans(x)


@mlu.jit
def permuted(x):
    return tl.permute(x, (2, 0, 1))


@mlu.jit
def permuted_4(x):
    return tl.permute(x, (3, 1, 0, 2))


@mlu.jit
def permuted_5(x):
    return tl.trans(x, 4, 1, 3, 0, 2)


@mlu.jit
def first_expanded(x):
    return tl.expand_dims(x, (0, 2))


@mlu.jit
def indexed(x):
    return x[:, None, :]


@mlu.jit
def spread(x):
    return tl.broadcast_to(x, (4, 2, 8))


@mlu.jit
def spread_5(x):
    return x.broadcast_to((2, 4, 2, 8, 2))


@mlu.jit
def flipped(x):
    return tl.flip(x, 0)


@mlu.jit
def flipped_last(x):
    return tl.flip(x, len(x.shape) - 1)


@mlu.jit
def flattened_transpose(x):
    return tl.trans(x).reshape((x.numel,))


ONE_TENSOR = [
    (in_pairs, lambda x: x.reshape(-1, 2), [(8,), (4, 4), (2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 2, 2)]),
    (raveled, np.ravel, [(8,), (2, 4, 2), (2, 2, 2, 2, 2)]),
    (transposed, lambda x: x.T, [(4, 8), (8, 1), (1, 8)]),
    (permuted, lambda x: x.transpose(2, 0, 1), [(2, 4, 8), (1, 4, 2)]),
    (permuted_4, lambda x: x.transpose(3, 1, 0, 2), [(2, 4, 8, 2)]),
    (permuted_5, lambda x: x.transpose(4, 1, 3, 0, 2), [(2, 4, 2, 2, 8)]),
    (first_expanded, lambda x: np.expand_dims(x, (0, 2)), [(8,), (4, 2)]),
    (indexed, lambda x: x[:, None, :], [(4, 2)]),
    (spread, lambda x: np.broadcast_to(x, (4, 2, 8)), [(), (4, 1, 8), (1, 2, 1), (1, 1, 8), (4, 1, 1)]),
    (spread_5, lambda x: np.broadcast_to(x, (2, 4, 2, 8, 2)), [(2, 1, 2, 1, 2), (1, 4, 1, 8, 1), (1, 4, 2, 1, 1)]),
    (flipped, lambda x: np.flip(x, 0), [(8,), (4, 2), (2, 4, 2)]),
    (flipped_last, lambda x: np.flip(x, -1), [(8,), (2, 2, 2, 4)]),
    (flattened_transpose, lambda x: x.T.ravel(), [(4, 8)]),
]
CASES = [(function, expected, shape) for function, expected, shapes in ONE_TENSOR for shape in shapes]


def sample(dtype, shape):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize(("function", "expected", "shape"), CASES)
def test_one_tensor(function, expected, shape):
    dtype = DTYPES[CASES.index((function, expected, shape)) % len(DTYPES)]
    x = sample(dtype, shape)
    np.testing.assert_array_equal(call(function, x, result=expected(x)), expected(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype):
    x = sample(dtype, (4, 8))
    np.testing.assert_array_equal(call(transposed, x, result=x.T), x.T)
    np.testing.assert_array_equal(call(in_pairs, x, result=x.reshape(-1, 2)), x.reshape(-1, 2))


@mlu.jit
def halves(x):
    return tl.split(x)


@mlu.jit
def swapped(x):
    even, odd = tl.split(tl.reshape(x, (x.numel // 2, 2)))
    return tl.interleave(odd, even)


@pytest.mark.parametrize("shape", [(), (8,), (4, 2), (2, 2, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_join_split_and_interleave(dtype, shape):
    x, y = sample(dtype, (2, *shape))
    joined = np.stack([x, y], -1)
    np.testing.assert_array_equal(call(tl.join, x, y, result=joined), joined)
    for got, want in zip(call(halves, joined, result=(x, y)), (x, y), strict=True):
        np.testing.assert_array_equal(got, want)
    if shape:
        mixed = joined.reshape(*shape[:-1], -1)
        np.testing.assert_array_equal(call(tl.interleave, x, y, result=mixed), mixed)


def test_split_of_what_was_reshaped():
    x = sample(np.int32, 16)
    np.testing.assert_array_equal(call(swapped, x, result=x), x.reshape(-1, 2)[:, ::-1].ravel())


@mlu.jit
def joined_rows(x, y):
    return tl.cat(x, y, dim=0)


@mlu.jit
def joined_columns(x, y):
    return tl.cat(x, y, dim=-1)


@pytest.mark.parametrize("shape", [(8,), (4, 8), (2, 4, 2)])
def test_cat(shape):
    x, y = sample(np.int16, (2, *shape))
    for function, axis in ((joined_rows, 0), (joined_columns, -1)):
        want = np.concatenate([x, y], axis)
        np.testing.assert_array_equal(call(function, x, y, result=want), want)


@mlu.jit
def broadcast_pair(x, y):
    return tl.broadcast(x, y)


@pytest.mark.parametrize(
    ("first", "second"), [((4, 1), (1, 8)), ((1, 2, 1), (4, 2, 2)), ((2, 1, 2, 1), (1, 4, 1, 8)), ((), (4, 2))]
)
def test_broadcast(first, second):
    x, y = sample(np.int32, first), sample(np.int32, second)
    want = tuple(np.broadcast_arrays(x, y))
    for got, expected in zip(call(broadcast_pair, x, y, result=want), want, strict=True):
        np.testing.assert_array_equal(got, expected)


@mlu.jit
def gathered_first(x, index):
    return tl.gather(x, index, 0)


@mlu.jit
def gathered_last(x, index):
    return tl.gather(x, index, -1)


@pytest.mark.parametrize("index_type", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32])
def test_gather_by_any_integers(index_type):
    x = sample(np.float32, (256, 4))
    index = np.random.default_rng(1).integers(0, min(256, np.iinfo(index_type).max), (16, 4)).astype(index_type)
    want = np.take_along_axis(x, index.astype(np.int64), 0)
    np.testing.assert_array_equal(call(gathered_first, x, index, result=want), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_along_the_last_of_three_axes(dtype):
    x = sample(dtype, (2, 8, 4))
    index = np.random.default_rng(2).integers(0, 4, (2, 8, 16)).astype(np.int32)
    want = np.take_along_axis(x, index, 2)
    np.testing.assert_array_equal(call(gathered_last, x, index, result=want), want)


@mlu.jit
def filled(x):
    return tl.full(x.shape, 3, x.dtype) + tl.zeros(x.shape, x.dtype) + tl.zeros_like(x)


@pytest.mark.parametrize("shape", [(8,), (4, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.uint64])
def test_full_and_zeros(dtype, shape):
    want = np.full(shape, 3, dtype)
    np.testing.assert_array_equal(call(filled, sample(dtype, shape), result=want), want)


@mlu.jit
def swizzle(rows, columns, height, width, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    row, column = tl.swizzle2d(place // width, place % width, height, width, 2)
    tl.store(rows + place, row)
    tl.store(columns + place, column)


def test_swizzle2d_goes_through_all_places_by_groups_of_rows():
    rows, columns = np.zeros((2, 32), np.int32)
    swizzle[(1,)](rows, columns, 4, 8, COUNT=32)
    assert [tuple(place) for place in zip(rows[:4], columns[:4], strict=True)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert sorted(zip(rows, columns, strict=True)) == [(i, j) for i in range(4) for j in range(8)]
