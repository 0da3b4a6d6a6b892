"""Neighbours on a torus, ``(row - 1 + rows) % rows``: tiles that wrap, where sizes make up for what is taken away."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def around(out, x, rows, columns, FAR: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    """The sum of all neighbours that are no further than FAR along either axis."""
    row = tl.program_id(0) * B0 + tl.arange(0, B0)[:, None]
    column = tl.program_id(1) * B1 + tl.arange(0, B1)[None, :]
    mask = (row < rows) & (column < columns)
    total = tl.zeros([B0, B1], tl.int32)
    for down in tl.static_range(-FAR, FAR + 1):
        for right in tl.static_range(-FAR, FAR + 1):
            place = (row + down + rows) % rows * columns + (column + right + columns) % columns
            total += tl.load(x + place, mask=mask, other=0)
    tl.store(out + row * columns + column, total, mask=mask)


def summed(x, far):
    shifts = range(-far, far + 1)
    return sum(np.roll(x, (down, right), (0, 1)) for down in shifts for right in shifts)


@pytest.mark.parametrize(
    ("far", "rows", "columns", "machine"),
    [(1, 48, 64, "mlu590-m9"), (1, 37, 75, "mlu370-x4"), (1, 9, 3, "mlu590-m9"), (2, 5, 40, "mlu590-m9")],
    indirect=["machine"],
)
def test_sums_of_neighbours_on_a_torus(far, rows, columns, machine):
    x = np.random.default_rng(0).integers(-9, 9, (rows, columns), np.int32)
    out = np.full_like(x, 77)
    grid = -(-rows // 8), -(-columns // 32)
    on_both_engines(lambda: around[grid](out, x, rows, columns, far, 8, 32), out)
    np.testing.assert_array_equal(out, summed(x, far))


def test_sizes_that_make_up_for_less_are_gathered():
    """Of a single column, or two, positions are negative before they are divided: remainders are what C says."""
    x = np.arange(7, dtype=np.int32).reshape(7, 1)
    out = np.zeros_like(x)
    on_both_engines(lambda: around[(1, 1)](out, x, 7, 1, 2, 8, 4), out)
    np.testing.assert_array_equal(out, summed(x, 2))


def test_neighbours_on_a_torus_are_no_elements_one_by_one():
    x = np.zeros((16, 64), np.int32)
    run = around[(1, 1)](np.empty_like(x), x, 16, 64, 1, 16, 64)
    assert run.cycles < run.machine.gather_item_cycles * 16 * 64
