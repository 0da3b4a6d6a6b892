"""A stable sort that carries where elements were: exchanges of values and of places, one between the other's steps."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

RNG = np.random.default_rng(8)


@mlu.jit
def sides(x, SHAPE: tl.constexpr):
    y = tl.reshape(x, SHAPE)
    is_right = tl.arange(0, 2)[None, :, None].to(y.dtype)
    left = tl.broadcast_to(tl.sum(y * (1 - is_right), 1)[:, None, :], SHAPE)
    right = tl.broadcast_to(tl.sum(y * is_right, 1)[:, None, :], SHAPE)
    return tl.reshape(left, x.shape), tl.reshape(right, x.shape)


@mlu.jit
def exchange(x, places, flip, STEP: tl.constexpr):
    shape: tl.constexpr = [x.numel // (2 * STEP), 2, STEP]
    left, right = sides(x, shape)
    left_place, right_place = sides(places, shape)
    swaps = ((left > right) | ((left == right) & (left_place > right_place))) ^ flip
    x = x ^ tl.where(swaps, left ^ right, tl.zeros_like(x))
    places = places ^ tl.where(swaps, left_place ^ right_place, tl.zeros_like(places))
    return x, places


@mlu.jit
def argsort(values, order, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    at = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x = tl.load(x + at)
    places = tl.broadcast_to(tl.arange(0, COLUMNS)[None, :], (ROWS, COLUMNS)).to(tl.int16)
    for length in tl.static_range(1, DEPTH + 1):
        column = tl.broadcast_to(tl.arange(0, COLUMNS)[None, :], (ROWS, COLUMNS))
        flip = (column >> length) % 2 == 1
        for step in tl.static_range(length):
            x, places = exchange(x, places, flip, 1 << (length - 1 - step))
    tl.store(values + at, x)
    tl.store(order + at, places)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16])
@pytest.mark.parametrize(("rows", "depth"), [(1, 6), (8, 6), (2, 9)])
def test_places_follow_their_values(dtype, rows, depth):
    columns = 1 << depth
    x = RNG.integers(0, 30, (4 * rows, columns)).astype(dtype)
    values, order = np.empty_like(x), np.empty(x.shape, dtype=np.int16)
    argsort[(4,)](values, order, x, rows, columns, depth)
    expected = np.argsort(x, axis=1, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, axis=1))
