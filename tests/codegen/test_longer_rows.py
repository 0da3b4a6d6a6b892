"""Neighbours with short rows go together, along the axes along which their tiles lie side by side."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def transpose(output, x, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    batch = tl.program_id(2) * rows * columns
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    tile = tl.load(x + batch + row[:, None] * columns + column[None, :], mask=mask)
    turned = (column[:, None] < columns) & (row[None, :] < rows)
    tl.store(output + batch + column[:, None] * rows + row[None, :], tl.trans(tile), mask=turned)


@mlu.jit
def add_to_rows(output, x, weights, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    tiles = tl.cdiv(columns, COLUMNS)
    row = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * columns + column, mask=mask) + tl.load(weights + column, mask=column < columns)
    tl.store(output + row * columns + column, values, mask=mask)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(("rows", "columns"), [(128, 256), (127, 250), (90, 200), (16, 128), (1, 1)])
def test_any_number_of_programs_along_either_axis(engine, rows, columns, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x = np.random.default_rng(rows).standard_normal((3, rows, columns), np.float32)
    output = np.zeros((3, columns, rows), np.float32)
    transpose[(-(-columns // 32), -(-rows // 16), 3)](output, x, rows, columns, ROWS=16, COLUMNS=32)
    np.testing.assert_array_equal(output, x.transpose(0, 2, 1))


@pytest.mark.parametrize("warps", [1, 4])
def test_a_transpose_in_small_tiles_takes_as_long_as_one_in_large_tiles(warps):
    x = np.random.default_rng(0).standard_normal((4, 1024, 768), np.float32)
    outputs = [np.zeros((4, 768, 1024), np.float32) for _ in range(2)]
    small, large = (
        transpose[(768 // side, 1024 // side, 4)](output, x, 1024, 768, ROWS=side, COLUMNS=side, num_warps=warps)
        for output, side in zip(outputs, (32, 128), strict=True)
    )
    for output in outputs:
        np.testing.assert_array_equal(output, x.transpose(0, 2, 1))
    assert small.cycles < 1.1 * large.cycles


@pytest.mark.parametrize("columns", [1024, 992, 1000])
def test_tiles_may_be_numbered_along_one_axis(columns):
    x, weights = np.random.default_rng(1).random((2048, columns), np.float32), np.arange(columns, dtype=np.float32)
    output, single = np.zeros_like(x), np.zeros_like(x)
    grid = (2048 // 64 * -(-columns // 32),)
    run = add_to_rows[grid](output, x, weights, 2048, columns, ROWS=64, COLUMNS=32)
    alone = add_to_rows[grid](single, x, weights, 2048, columns, ROWS=64, COLUMNS=32, num_stages=1)
    np.testing.assert_array_equal(output, x + weights)
    np.testing.assert_array_equal(single, output)
    assert run.cycles < (0.4 if columns == 1024 else 1.0) * alone.cycles


@mlu.jit
def sum_columns(x, sums, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        total += tl.sum(tl.load(x + row[:, None] * columns + column[None, :]), axis=0)
    tl.store(sums + column[None, :] + tl.zeros((1, 1), tl.int32), total[None, :])


def test_sums_keep_their_order():
    x = np.random.default_rng(2).standard_normal((128, 2048), np.float32)
    sums, single = np.zeros(2048, np.float32), np.zeros(2048, np.float32)
    sum_columns[(128,)](x, sums, 128, 2048, ROWS=32, COLUMNS=16)
    sum_columns[(128,)](x, single, 128, 2048, ROWS=32, COLUMNS=16, num_stages=1)
    np.testing.assert_array_equal(sums, single)
    np.testing.assert_allclose(sums, x.sum(0), atol=1e-4)
