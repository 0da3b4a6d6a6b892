"""Short tiles at remainders and quotients of the program's number: those of a block go together within a period."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def scaled(out, x, scale, shift, period, ahead, columns, BLOCK: tl.constexpr):
    """Rows times those of a period, plus one for each period, from some row on."""
    row = tl.program_id(0) + ahead
    column = tl.arange(0, BLOCK)
    mask = column < columns
    factor = tl.load(scale + row % period * columns + column, mask=mask)
    addend = tl.load(shift + row // period * columns + column, mask=mask)
    value = tl.load(x + tl.program_id(0) * columns + column, mask=mask)
    tl.store(out + tl.program_id(0) * columns + column, value * factor + addend, mask=mask)


def launch(rows, period, ahead, columns, grid=None):
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, (rows, columns)).astype(np.float32)
    scale = rng.integers(-8, 9, (period, columns)).astype(np.float32)
    shift = rng.integers(-8, 9, ((rows + ahead) // period + 1, columns)).astype(np.float32)
    out = np.full_like(x, 77)
    block = 1 << (columns - 1).bit_length()
    run = on_both_engines(lambda: scaled[grid or (rows,)](out, x, scale, shift, period, ahead, columns, block), out)
    number = np.arange(rows) + ahead
    np.testing.assert_array_equal(out, x * scale[number % period] + shift[number // period])
    return run


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4"], indirect=True)
@pytest.mark.parametrize(("period", "ahead"), [(1, 0), (3, 1), (50, 0), (64, 13), (333, 332), (1000, 7)])
def test_rows_of_a_period(period, ahead, machine):
    launch(480, period, ahead, 60)


def test_rows_of_a_period_on_a_wide_grid():
    """Each row is computed as often as the grid has lines: the same is stored."""
    launch(100, 40, 3, 64, grid=(100, 3))


def test_rows_within_a_period_come_together():
    assert launch(960, 1000, 7, 64).cycles * 2 < launch(960, 2, 7, 64).cycles


@mlu.jit
def differences(out, x, period, height, ahead, columns, BLOCK: tl.constexpr):
    """Rows less the one before them in their period, of which there is none before the first."""
    number = tl.program_id(0) + ahead
    row = number % period
    column = tl.arange(0, BLOCK)
    mask = column < columns
    begin = number // period * height * columns
    value = tl.load(x + begin + row * columns + column, mask=mask)
    before = tl.load(x + begin + (row - 1) * columns + column, mask=mask & (row >= 1), other=0.0)
    tl.store(out + tl.program_id(0) * columns + column, value - before, mask=mask)


def launch_differences(rows, period, ahead, columns):
    x = np.random.default_rng(0).integers(-8, 9, (rows + ahead, columns)).astype(np.float32)
    out = np.full((rows, columns), 77, np.float32)
    block = 1 << (columns - 1).bit_length()
    run = on_both_engines(lambda: differences[(rows,)](out, x, period, period, ahead, columns, block), out)
    number = np.arange(rows) + ahead
    before = np.where(number[:, None] % period > 0, x[number - 1], 0)
    np.testing.assert_array_equal(out, x[number] - before)
    return run


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4"], indirect=True)
@pytest.mark.parametrize(("period", "ahead"), [(1, 0), (3, 1), (50, 0), (64, 13), (333, 332), (1000, 7)])
def test_masks_of_a_period(period, ahead, machine):
    launch_differences(480, period, ahead, 60)


def test_rows_under_masks_of_a_period_come_together():
    assert launch_differences(960, 1000, 7, 64).cycles * 2 < launch_differences(960, 2, 7, 64).cycles
