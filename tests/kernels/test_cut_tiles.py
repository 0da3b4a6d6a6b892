"""Programs of a row each, of which masks cut some: those that are whole go together, and values are what NumPy says."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def patches(out, x, rows, columns, SIZE: tl.constexpr, B: tl.constexpr):
    """Row by row, the image shifted by each place of a window; 7 stands where there is no image."""
    row, image, j = tl.program_id(0), tl.program_id(1), tl.arange(0, B)
    for a in tl.static_range(SIZE):
        for b in tl.static_range(SIZE):
            i, k = row + a - SIZE // 2, j + b - SIZE // 2
            inside = (i >= 0) & (i < rows) & (k >= 0) & (k < columns)
            value = tl.load(x + (image * rows + i) * columns + k, mask=inside, other=7)
            tl.store(out + ((image * SIZE * SIZE + a * SIZE + b) * rows + row) * columns + j, value, mask=j < columns)


@mlu.jit
def band(out, x, first, end, columns, B: tl.constexpr):
    """Rows of a band are doubled, and no others written; rows grow shorter with their number."""
    row, j = tl.program_id(0), tl.arange(0, B)
    mask = (j < columns - row) & (row >= first) & (row < end)
    tl.store(out + row * columns + j, 2 * tl.load(x + row * columns + j, mask=mask, other=0), mask=mask)


@mlu.jit
def clipped(out, x, rows, columns, shift, step, B: tl.constexpr):
    """Rows that begin where an earlier or a later one does, from left to right."""
    row, j = tl.program_id(0), tl.arange(0, B)
    place = j + row * step + shift
    value = tl.load(x + row * columns + place, mask=(place >= 0) & (place < columns) & (row < rows), other=-1)
    tl.store(out + row * B + j, value + 1)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("images", "rows", "columns"), [(1, 1, 16), (2, 2, 20), (7, 3, 64), (5, 70, 33), (1, 200, 64)])
def test_windows_of_images(size, images, rows, columns):
    x = np.random.default_rng(0).integers(-99, 99, (images, rows, columns)).astype(np.float16)
    out = np.full((images, size * size, rows, columns), -5, np.float16)
    on_both_engines(lambda: patches[rows, images](out, x, rows, columns, SIZE=size, B=64), out)
    around = np.pad(x, ((0, 0), (size, size), (size, size)), constant_values=7)
    for a in range(size):
        for b in range(size):
            down, right = size + a - size // 2, size + b - size // 2
            np.testing.assert_array_equal(out[:, a * size + b], around[:, down : down + rows, right : right + columns])


@pytest.mark.parametrize(("first", "end"), [(0, 300), (1, 299), (100, 101), (50, 250), (200, 100), (-5, 999)])
def test_rows_of_a_band(first, end):
    rows, columns = 300, 320
    x = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    out = np.full_like(x, -5)
    on_both_engines(lambda: band[rows,](out, x, first, end, columns, B=512), out)
    i, j = np.mgrid[:rows, :columns]
    mask = (j < columns - i) & (i >= first) & (i < end)
    np.testing.assert_array_equal(out, np.where(mask, 2 * x, -5))


@pytest.mark.parametrize(("shift", "step"), [(0, 0), (0, 1), (-3, 0), (-150, 1), (100, -1), (-500, 2), (40, 0)])
def test_rows_cut_at_either_side(shift, step):
    rows, columns, wide = 300, 100, 128
    x = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    out = np.empty((rows + 5, wide), np.float32)
    on_both_engines(lambda: clipped[rows + 5,](out, x, rows, columns, shift, step, B=wide), out)
    i, j = np.mgrid[: rows + 5, :wide]
    place = j + i * step + shift
    inside = (place >= 0) & (place < columns) & (i < rows)
    want = np.where(inside, x[np.minimum(i, rows - 1), np.clip(place, 0, columns - 1)], np.float32(-1)) + 1
    np.testing.assert_array_equal(out, want)
