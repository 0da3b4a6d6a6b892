"""Rows that are kept within an image by the least of two numbers, and are evenly spaced but for that."""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def neighbouring_rows(out, x, rows, columns, KEPT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    there = tl.minimum(row + 1, rows - 1) if KEPT else row + 1
    column = tl.arange(0, BLOCK)
    mask = column < columns
    tl.store(out + row * columns + column, tl.load(x + there * columns + column, mask=mask), mask=mask)


def test_rows_that_are_kept_within_an_image_come_together():
    """All but the last are those behind, evenly spaced: a block of programs has them in one transfer."""
    x = np.random.default_rng(0).standard_normal((2001, 100), np.float32)
    out = np.empty((2000, 100), np.float32)
    free = neighbouring_rows[(2000,)](out, x, 2000, 100, False, 128)
    np.testing.assert_array_equal(out, x[1:])
    kept = neighbouring_rows[(2000,)](out, x, 2000, 100, True, 128)
    np.testing.assert_array_equal(out, np.concatenate([x[1:2000], x[1999:2000]]))
    assert kept.cycles < 1.3 * free.cycles
