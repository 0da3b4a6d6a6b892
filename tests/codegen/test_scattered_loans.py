"""What a product reads where the host has it is copied before it is scattered, or added to what is there."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def scattered_rows(out, sums, x, w, places, DEPTH: tl.constexpr, ADDS: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    place = tl.load(places + row * BLOCK + column)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for k in range(0, DEPTH, BLOCK):
        tile = tl.load(x + row * DEPTH + k + column)
        total += tl.dot(tile, tl.load(w + (k + row) * BLOCK + column))
        if ADDS:
            tl.atomic_add(sums + place, tile)
        else:
            tl.store(sums + k * BLOCK + place, tile)
    tl.store(out + row * BLOCK + column, total)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("block", [32, 64])
def test_rows_of_a_product_are_scattered(adds, block):
    rng = np.random.default_rng(0)
    depth = 4 * block
    x = rng.integers(-8, 8, (block, depth)).astype(np.float32)
    w = rng.integers(-8, 8, (depth, block)).astype(np.float32)
    places = rng.permutation(block * block).astype(np.int32)
    out, sums = np.zeros((block, block), np.float32), np.zeros((4, block * block), np.float32)
    on_both_engines(lambda: scattered_rows[(1,)](out, sums, x, w, places, depth, adds, block), out, sums)
    np.testing.assert_array_equal(out, x @ w)
    tiles = x.reshape(block, 4, block).transpose(1, 0, 2).reshape(4, -1)
    expected = np.zeros_like(sums)
    expected[:, places] = tiles
    if adds:
        expected = np.concatenate([expected.sum(0, keepdims=True), np.zeros_like(expected[1:])])
    np.testing.assert_array_equal(sums, expected)
