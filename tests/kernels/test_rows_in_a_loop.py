"""Programs that go over rows, or tiles of rows, in a loop: dealt out one by one where nobody can tell."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def over_rows(
    y, sums, x, w, rows, columns, stride,
    STEP: tl.constexpr, ROWS: tl.constexpr, FLAT: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """KIND tells what makes a difference to plain rows; FLAT rows are tiles of one dimension."""
    first = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    weight = tl.load(w + column, mask=column < columns, other=0)
    step = tl.num_programs(0) if STEP == 0 else STEP
    behind = first - step
    total = 0
    for begin in tl.range(first * ROWS, rows, step * ROWS):
        behind += step
        number = begin
        if KIND == "carried":
            number = behind * ROWS
        if FLAT:
            mask = column < columns
            value = tl.load(x + number * columns + column, mask=mask, other=0) * weight
            if KIND == "of the program":
                value += first
            if KIND == "summed":
                total += 1
                value += total
            if KIND == "added":
                value += tl.load(y + number * stride + column, mask=mask)
            tl.store(y + number * stride + column, value, mask=mask)
            if KIND == "twice":
                tl.store(y + (number + 3) * stride + column, -value, mask=mask & (number + 3 < rows))
            tl.store(sums + number, tl.sum(tl.where(mask, value, 0), axis=0))
        else:
            row = number + tl.arange(0, ROWS)[:, None]
            mask = (row < rows) & (column < columns)[None, :]
            value = tl.load(x + row * columns + column[None, :], mask=mask, other=0) * weight[None, :]
            if KIND == "of the program":
                value += first
            if KIND == "summed":
                total += 1
                value += total
            if KIND == "added":
                value += tl.load(y + row * stride + column[None, :], mask=mask)
            tl.store(y + row * stride + column[None, :], value, mask=mask)
            if KIND == "twice":
                tl.store(y + (row + 3 * ROWS) * stride + column[None, :], -value, mask=mask & (row + 3 * ROWS < rows))
            place = number + tl.arange(0, ROWS)
            tl.store(sums + place, tl.sum(tl.where(mask, value, 0), axis=1), mask=place < rows)


def expected(y, sums, x, w, grid, step, rows_of_tile, kind, rows, columns, stride):
    """What programs leave that run one behind the other."""
    flat = y.reshape(-1)
    for program in range(grid):
        begins = range(program * rows_of_tile, rows, step * rows_of_tile)
        for total, begin in enumerate(begins, start=1):
            tile = range(begin, min(begin + rows_of_tile, rows))
            values = {}
            for row in tile:
                value = x[row] * w
                value = value + program if kind == "of the program" else value
                value = value + total if kind == "summed" else value
                to = flat[row * stride : row * stride + columns]
                values[row] = value + to if kind == "added" else value
            for row in tile:
                flat[row * stride : row * stride + columns] = values[row]
                sums[row] = values[row].sum()
            if kind == "twice":
                for row in tile:
                    if (behind := row + 3 * rows_of_tile) < rows:
                        flat[behind * stride : behind * stride + columns] = -values[row]


TILES = [(1, True), (1, False), (4, False)]
KINDS = ["plain", "carried", "added", "of the program", "summed", "twice"]


@pairs_of(
    ("kind", KINDS),
    (("rows_of_tile", "flat"), TILES),
    (
        ("grid", "step", "lines", "rows", "columns", "pitch"),
        [
            (5, 0, 1, 50, 20, 23),
            (3, 3, 1, 37, 32, 32),
            (1, 0, 1, 37, 32, 32),
            (60, 0, 1, 200, 20, 23),
            (2, 3, 1, 37, 32, 32),  # a third of the tiles is nobody's
            (4, 3, 1, 37, 32, 32),  # some are done twice
            (3, 0, 2, 50, 20, 23),
            (5, 0, 1, 0, 32, 32),
            (5, 0, 1, 1, 32, 32),
        ],
    ),
)
def test_each_program_does_its_rows_in_turn(grid, step, lines, rows, columns, pitch, rows_of_tile, flat, kind):
    if kind == "twice":
        grid = step = 1  # of several programs, which one comes last is not known
    if kind in ("of the program", "summed", "added"):
        grid, lines = min(grid, step or grid), 1
    rng = np.random.default_rng(rows + grid)
    x = rng.integers(-4, 5, (rows, columns), np.int32)
    w = rng.integers(1, 4, columns, np.int32)
    y, sums = rng.integers(-9, 9, (rows + 2, pitch), np.int32), np.full(rows + 2, 7, np.int32)
    wanted, wanted_sums = y.copy(), sums.copy()
    expected(wanted, wanted_sums, x, w, grid, step or grid, rows_of_tile, kind, rows, columns, pitch)

    def launch():
        return over_rows[(grid, lines)](
            y, sums, x, w, rows, columns, pitch, STEP=step, ROWS=rows_of_tile, FLAT=flat, KIND=kind, BLOCK=32
        )  # fmt: skip

    on_both_engines(launch, y, sums)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(sums, wanted_sums)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("pitch", [5, 0])
def test_rows_of_one_program_that_overlap_are_stored_in_turn(pitch, flat):
    rows, columns = 40, 32
    x, w = np.random.default_rng(0).integers(-4, 5, (rows, columns), np.int32), np.ones(columns, np.int32)
    y, sums = np.zeros(rows * pitch + columns, np.int32), np.zeros(rows, np.int32)
    wanted, wanted_sums = y.copy(), sums.copy()
    expected(wanted, wanted_sums, x, w, 1, 1, 1, "plain", rows, columns, pitch)

    def launch():
        return over_rows[(1,)](y, sums, x, w, rows, columns, pitch, STEP=0, ROWS=1, FLAT=flat, KIND="plain", BLOCK=32)

    on_both_engines(launch, y, sums)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(("rows_of_tile", "flat"), TILES)
def test_rows_that_are_stored_where_others_are_loaded_go_in_turn(rows_of_tile, flat):
    rows, columns = 48, 32
    memory = np.random.default_rng(0).integers(-4, 5, (rows + 9, columns), np.int32)
    w, sums = np.ones(columns, np.int32) * 2, np.zeros(rows, np.int32)
    wanted, wanted_sums = memory.copy(), sums.copy()
    # A row comes to where the ninth from it is still to be loaded.
    expected(wanted[9:], wanted_sums, wanted[:rows], w, 1, 1, rows_of_tile, "plain", rows, columns, columns)

    def launch():
        y, x = memory[9:], memory[:rows]
        return over_rows[(1,)](
            y, sums, x, w, rows, columns, columns, STEP=0, ROWS=rows_of_tile, FLAT=flat, KIND="plain", BLOCK=32
        )  # fmt: skip

    on_both_engines(launch, memory, sums)
    np.testing.assert_array_equal(memory, wanted)


@pytest.mark.parametrize(("rows_of_tile", "flat"), TILES)
def test_it_does_not_matter_how_many_programs_go_over_rows(rows_of_tile, flat):
    rows, columns = 4096, 2048

    def cycles(grid):
        y, x = (mlu.spec((rows, columns), np.int32) for _ in range(2))
        sums, w = mlu.spec((rows,), np.int32), mlu.spec((columns,), np.int32)
        constants = {"STEP": 0, "ROWS": rows_of_tile, "FLAT": flat, "KIND": "plain", "BLOCK": columns}
        return mlu.estimate(over_rows, (grid,), y, sums, x, w, rows, columns, columns, **constants).cycles

    assert len({cycles(grid) for grid in (48, 64, 108, 132, 264)}) == 1
    assert cycles(132) < 1.2 * (4 * rows * columns * 2 / 1451 + 4200)
