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


@mlu.jit
def sum_in_nested_loops(
    output, values, chosen, heads, TAKEN: tl.constexpr, DEPTH: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    column = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for group in range(TAKEN):
        for each in range(DEPTH):
            place = tl.load(chosen + ((row * heads + head) * TAKEN + group) * DEPTH + each)
            total += tl.load(values + (place * heads + head)[:, None] * WIDTH + column[None, :])
    tl.store(output + (row[:, None] * heads + head) * WIDTH + column[None, :], total)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_each_neighbour_has_its_own_sum_in_loops_within_loops(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    random = np.random.default_rng(3)
    values = random.integers(0, 100, (256, 4, 32)).astype(np.float32)
    chosen = random.integers(0, 256, (512, 4, 2, 4), np.int32)
    output = np.zeros((512, 4, 32), np.float32)
    sum_in_nested_loops[(16, 4)](output, values, chosen, 4, TAKEN=2, DEPTH=4, ROWS=32, WIDTH=32)
    np.testing.assert_array_equal(output, values[chosen, np.arange(4)[None, :, None, None]].sum((2, 3)))


@mlu.jit
def multiply_in_nested_loops(output, x, weights, columns, TAPS: tl.constexpr, STEPS: tl.constexpr, SIDE: tl.constexpr):
    row = tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    side, column = tl.program_id(1), tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    total = tl.zeros((SIDE, SIDE), tl.float32)
    for tap in range(TAPS):
        for step in range(STEPS):
            depth = (tap * STEPS + step) * SIDE + tl.arange(0, SIDE)
            left = tl.load(x + side * 7 + row[:, None] * (TAPS * STEPS * SIDE) + depth[None, :])
            total += tl.dot(left, tl.load(weights + depth[:, None] * columns + column[None, :]))
    tl.store(output + row[:, None] * columns + column[None, :], total)


def test_each_neighbour_has_its_own_product_in_loops_within_loops():
    random = np.random.default_rng(4)
    rows, depth, columns = 512, 3 * 2 * 32, 256
    x = random.integers(-3, 4, rows * depth + 64).astype(np.float16)
    weights = random.integers(-3, 4, (depth, columns)).astype(np.float16)
    output = np.zeros((rows, columns), np.float32)
    multiply_in_nested_loops[(rows // 32, columns // 32)](output, x, weights, columns, TAPS=3, STEPS=2, SIDE=32)
    lefts = [x[7 * side :][: rows * depth].reshape(rows, depth).astype(np.float32) for side in range(columns // 32)]
    parts = np.split(weights.astype(np.float32), columns // 32, axis=1)
    np.testing.assert_array_equal(output, np.hstack([left @ part for left, part in zip(lefts, parts, strict=True)]))
