"""Rows that a loop looks up, each added to a total: those of many iterations are the items of one gather."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def times_sparse(out, first, column, value, x, width, BLOCK: tl.constexpr):
    """A row of a sparse matrix times a block of a matrix's columns, which begin behind where the row stands."""
    row = tl.program_id(0)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for place in range(tl.load(first + row), tl.load(first + row + 1)):
        source = x + tl.load(column + place) * width
        total += tl.load(value + place) * tl.load(source + n, mask=n < width, other=0.0)
    tl.store(out + row * width + n, total, mask=n < width)


def sparse(rows, columns, dtype):
    rng = np.random.default_rng(0)
    dense = rng.integers(-4, 5, (rows, columns)) * (rng.random((rows, columns)) < 0.4)
    dense[3] = 0
    first = np.cumsum([0, *np.count_nonzero(dense, axis=1)]).astype(np.int32)
    row, column = np.nonzero(dense)
    return dense.astype(np.float32), first, column.astype(dtype), dense[row, column].astype(np.float32)


@pairs_of(
    ("width", [32, 100]),
    ("dtype", [np.int32, np.int64]),
    ("machine", ["mlu590-m9", "mlu370-x4"]),
    indirect=["machine"],
)
def test_rows_are_scaled_and_added(width, dtype, machine):
    dense, first, column, value = sparse(20, 150, dtype)
    x = np.random.default_rng(1).integers(-4, 5, (150, width)).astype(np.float32)
    out = np.full((20, width), 7, np.float32)
    on_both_engines(lambda: times_sparse[(20, -(-width // 64))](out, first, column, value, x, width, 64), out)
    np.testing.assert_array_equal(out, dense @ x)


def test_a_row_that_is_not_there_is_a_fault():
    _, first, column, value = sparse(8, 50, np.int32)
    column[17] = 50
    x, out = np.zeros((50, 64), np.float32), np.zeros((8, 64), np.float32)
    with pytest.raises(mlu.KernelFault, match="E0301"):
        times_sparse[(8, 1)](out, first, column, value, x, 64, 64)


def test_no_row_waits_for_the_one_before():
    count, width = 1000, 128
    first, column = np.array([0, count], np.int32), np.zeros(count, np.int32)
    x, out = np.zeros((4, width), np.float32), np.zeros((1, width), np.float32)
    run = times_sparse[(1, 2)](out, first, column, np.ones(count, np.float32), x, width, 64)
    latency = run.machine.dram_bulk_latency_ns * run.machine.clock_mhz / 1000
    assert run.cycles < count * latency / 3
