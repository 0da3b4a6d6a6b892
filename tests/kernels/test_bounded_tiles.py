"""Tiles that stick out of an array on any side: each is one bounded transfer, and what is outside is never touched."""

import math
from functools import partial

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines

EXTENTS = (5, 7, 11)
BLOCKS = (4, 8, 16)
FAR = 2**30


@mlu.jit
def inside(place, extent, FORM: tl.constexpr):
    """The same question in several ways."""
    if FORM == 0:
        return (place >= 0) & (place < extent)
    if FORM == 1:
        return (extent > place) & (place > -1)
    if FORM == 2:
        return (place >= 0) & (place <= extent - 1)
    if FORM == 3:
        return (extent - 1 - place >= 0) & (place * 2 > -1)
    if FORM == 4:
        return tl.where(place >= 0, 1, 0).to(tl.int1) & (tl.where(place < extent, 0, 3) == 0)
    return ((place >= 0).to(tl.int32) == 1) & ((place < extent).to(tl.float32) > 0.5)


@mlu.jit
def copy_1d(out, back, x, n0, at0, FORM: tl.constexpr, WIDE: tl.constexpr, B0: tl.constexpr):
    i = tl.arange(0, B0)
    place = at0 + (i.to(tl.int64) if WIDE else i)
    mask = inside(place, n0, FORM)
    values = tl.load(x + place, mask, other=-7)
    tl.store(out + i, values)
    tl.store(back + place, values + 100, mask)


@mlu.jit
def copy_2d(out, back, x, n0, n1, at0, at1, FORM: tl.constexpr, WIDE: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    i, j = tl.arange(0, B0)[:, None], tl.arange(0, B1)[None, :]
    row, column = at0 + (i.to(tl.int64) if WIDE else i), at1 + (j.to(tl.int64) if WIDE else j)
    mask = inside(row, n0, FORM) & inside(column, n1, FORM)
    values = tl.load(x + row * n1 + column, mask, other=-7)
    tl.store(out + i * B1 + j, values)
    tl.store(back + row * n1 + column, values + 100, mask)


@mlu.jit
def copy_3d(
    out, back, x, n0, n1, n2, at0, at1, at2,
    FORM: tl.constexpr, WIDE: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr,
):  # fmt: skip
    i, j, k = tl.arange(0, B0)[:, None, None], tl.arange(0, B1)[None, :, None], tl.arange(0, B2)[None, None, :]
    plane, row = at0 + (i.to(tl.int64) if WIDE else i), at1 + (j.to(tl.int64) if WIDE else j)
    column = at2 + (k.to(tl.int64) if WIDE else k)
    mask = inside(plane, n0, FORM) & inside(row, n1, FORM) & inside(column, n2, FORM)
    places = (plane * n1 + row) * n2 + column
    values = tl.load(x + places, mask, other=-7)
    tl.store(out + (i * B1 + j) * B2 + k, values)
    tl.store(back + places, values + 100, mask)


KERNELS = {1: copy_1d, 2: copy_2d, 3: copy_3d}


def expected(x: np.ndarray, offsets: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The tile, and the array after the tile plus 100 was stored."""
    tile, back = np.full(blocks, -7, x.dtype), np.zeros_like(x)
    here = tuple(slice(max(at, 0), max(at + b, 0)) for at, b in zip(offsets, blocks, strict=True))
    there = tuple(
        slice(min(max(-at, 0), b), min(max(n - at, 0), b)) for at, b, n in zip(offsets, blocks, x.shape, strict=True)
    )
    tile[there] = x[here]
    back[here] = tile[there] + 100
    return tile, back


def offsets(rank: int) -> list[tuple[int, ...]]:
    """Offsets to the left, within, to the right and beyond, on one axis at a time and on all at random."""
    generator = np.random.default_rng(rank)
    found = [tuple(map(int, generator.integers(-9, 12, rank))) for _ in range(8)]
    for axis, (extent, block) in enumerate(zip(EXTENTS[-rank:], BLOCKS[-rank:], strict=True)):
        # Indices of elements beyond are those of Triton's own arithmetic, in 32 bits.
        far = FAR if axis == rank - 1 else FAR // EXTENTS[-1] // EXTENTS[-2]
        places = (-far, -block, -block + 1, -1, 0, 1, extent - 1, extent, far)
        found += [tuple(at if d == axis else 0 for d in range(rank)) for at in places]
    return found


def mnemonics(run):
    """The instructions of a run's program."""
    return {each.row.name for each in run.program.instructions}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("form", "wide"), [(0, True), (1, False), (2, True), (3, False), (4, True), (5, False)])
def test_a_tile_anywhere(form, wide, rank):
    shape, blocks = EXTENTS[-rank:], BLOCKS[-rank:]
    x = np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)
    named = {f"B{d}": block for d, block in enumerate(blocks)}
    for at in offsets(rank):
        tile, back = np.empty(blocks, np.int32), np.zeros(shape, np.int32)
        launch = partial(KERNELS[rank][(1,)], tile, back, x, *shape, *at, FORM=form, WIDE=wide, **named)
        run = on_both_engines(launch, tile, back)
        for found, wanted in zip((tile, back), expected(x, at, blocks), strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=str(at))
        assert not {"gather", "scatter"} & mnemonics(run)


@mlu.jit
def turned(out, back, x, n0, n1, at0, at1, lowest, B0: tl.constexpr, B1: tl.constexpr):
    """Columns along the first axis; the place in a row comes round again."""
    i, j = tl.arange(0, B0)[None, :], tl.arange(0, B1)[:, None]
    row, column = at0 + i, at1 + j
    mask = (row >= 0) & (row < n0) & (column >= lowest)
    values = tl.load(x + row * n1 + column % n1, mask, other=-7)
    tl.store(out + i * B1 + j, values)
    tl.store(back + row * n1 + column, values, mask & (column < n1))


@pytest.mark.parametrize("at", [(0, 0), (-2, 3), (3, 0), (2, 8), (-9, 1)])
@pytest.mark.parametrize("lowest", [-1, 2, 5, 99])
def test_a_transposed_tile_that_comes_round(at, lowest):
    x = np.arange(1, 56, dtype=np.int32).reshape(5, 11)
    tile, back = np.empty((4, 16), np.int32), np.zeros((5, 11), np.int32)
    on_both_engines(lambda: turned[(1,)](tile, back, x, *x.shape, *at, lowest, B0=4, B1=16), tile, back)
    wanted, wanted_back = np.full((4, 16), -7, np.int32), np.zeros((5, 11), np.int32)
    for i, j in np.ndindex(4, 16):
        row, column = at[0] + i, at[1] + j
        if 0 <= row < 5 and column >= lowest:
            wanted[i, j] = x[row, column % 11]
            if column < 11:
                wanted_back[row, column] = wanted[i, j]
    np.testing.assert_array_equal(tile, wanted)
    np.testing.assert_array_equal(back, wanted_back)


@mlu.jit
def product(out, x, weight, n, at, BLOCK: tl.constexpr, SHIFTED: tl.constexpr):
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    sum = tl.zeros((BLOCK, BLOCK), tl.float32)
    first = at if SHIFTED else 0
    for k in range(0, n, BLOCK):
        row = first + i
        left = tl.load(x + i * n + (k + j), mask=(k + j >= 0) & (k + j < n), other=0.0)
        right = tl.load(weight + row * BLOCK + j, mask=(row >= 0) & (row < n), other=0.0)
        sum += tl.dot(left, right, input_precision="ieee")
        first += BLOCK
    tl.store(out + i * BLOCK + j, sum)


@pytest.mark.parametrize("at", [None, -5, 0, 7])
def test_weights_within_bounds(at):
    n, block = 40, 16
    x = np.arange(block * n, dtype=np.float32).reshape(block, n) % 7
    weight = np.arange(n * block, dtype=np.float32).reshape(n, block) % 5
    out = np.empty((block, block), np.float32)
    launch = partial(product[(1,)], out, x, weight, n, at or 0, BLOCK=block, SHIFTED=at is not None)
    run = on_both_engines(launch, out)
    shifted = np.zeros_like(weight)
    for row in range(n):
        if 0 <= row + (at or 0) < n:
            shifted[row] = weight[row + (at or 0)]
    np.testing.assert_array_equal(out, x @ shifted)
    # Positions that only grow from 0 need no lower bound; others go through NRAM.
    assert ("dma.weight" in mnemonics(run)) == (at is None)
    assert "gather" not in mnemonics(run)


@mlu.jit
def rows_again(out, x, period, lowest, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    row = (tl.program_id(0) * ROWS + i) % period
    tl.store(out + (tl.program_id(0) * ROWS + i) * COLUMNS + j,
             tl.load(x + row * COLUMNS + j, mask=(i >= lowest) & (j >= 2), other=-1))  # fmt: skip


@pytest.mark.parametrize("period", [-40, -7, -1, 0, 1, 7, 40])
@pytest.mark.parametrize("lowest", [0, 3, 99])
def test_bounded_rows_begin_again_after_any_period(period, lowest):
    x, out = np.arange(640, dtype=np.int32).reshape(40, 16), np.zeros((40, 16), np.int32)
    on_both_engines(lambda: rows_again[(5,)](out, x, period, lowest, ROWS=8, COLUMNS=16), out)
    row = np.arange(40)
    wanted = x[np.fmod(row, period) if period else row]
    wanted[row % 8 < lowest] = -1
    wanted[:, :2] = -1
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def product_of_turned_columns(out, x, weight, period, limit, BLOCK: tl.constexpr):
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    column = (tl.program_id(0) * BLOCK + j) % period
    left = tl.load(x + i * BLOCK + j)
    right = tl.load(weight + i * 64 + column, mask=j < limit, other=3.0)
    tl.store(out + (tl.program_id(0) * BLOCK + i) * BLOCK + j, tl.dot(left, right, input_precision="ieee"))


@pytest.mark.parametrize("limit", [0, 5, 31, 32])
@pytest.mark.parametrize("period", [7, 33, 64])
def test_a_mask_fills_weights_whose_columns_begin_again(period, limit):
    generator = np.random.default_rng(period)
    x = generator.integers(-4, 5, (32, 32)).astype(np.float32)
    weight = generator.integers(-4, 5, (32, 64)).astype(np.float32)
    out = np.zeros((3, 32, 32), np.float32)
    on_both_engines(lambda: product_of_turned_columns[(3,)](out, x, weight, period, limit, BLOCK=32), out)
    for program, found in enumerate(out):
        right = weight[:, (program * 32 + np.arange(32)) % period]
        right[:, limit:] = 3
        np.testing.assert_array_equal(found, x @ right)


@mlu.jit
def every_nth(out, x, rows, columns, pitch, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * pitch + column * STEP, mask=mask, other=-1)
    tl.store(out + row * COLUMNS + column, values, mask=row < rows)


@pairs_of(("dtype", [np.int8, np.float16, np.float32, np.int64]), ("step", [2, 3, 7]), ("columns", [0, 1, 13, 16]))
def test_elements_at_a_distance_and_nothing_behind_the_last(dtype, step, columns):
    pitch = max(1, (columns - 1) * step + 1)
    x = np.random.default_rng(step).integers(0, 100, (21, pitch)).astype(dtype)
    out = np.zeros((21, 16), dtype)
    run = on_both_engines(lambda: every_nth[(6,)](out, x, 21, columns, pitch, ROWS=4, COLUMNS=16, STEP=step), out)
    expected = np.full_like(out, -1)
    expected[:, :columns] = x[:, ::step][:, :columns]
    np.testing.assert_array_equal(out, expected)
    assert any(each.row.name == "v.transpose" for each in run.program.instructions)


@mlu.jit
def every_other(
    out, x, height, width, at0, at1, STEP: tl.constexpr, BOUNDED: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr
):
    i, j = tl.arange(0, B0)[:, None], tl.arange(0, B1)[None, :]
    row, column = at0 + i * STEP, at1 + j * STEP
    mask = (row < height) & (column < width)
    if BOUNDED:
        mask &= (row >= 0) & (column >= 0)
    tl.store(out + i * B1 + j, tl.load(x + row * width + column, mask, other=-7))


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"], indirect=True)
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32])
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(
    ("extents", "at"),
    [
        ((9, 40), (-1, -1)),
        ((5, 7), (-2, -3)),
        ((1, 1), (0, -1)),
        ((1, 1), (-1, -2)),
        ((2, 3), (-40, -200)),
        ((3, 2), (9, 9)),
    ],
)
def test_elements_that_are_a_few_apart_from_before_an_array(extents, at, step, dtype, machine):
    block = (8, 64)
    x = np.arange(math.prod(extents)).reshape(extents).astype(dtype)
    places = [first + step * np.arange(count) for first, count in zip(at, block, strict=True)]
    rows, columns = ((place >= 0) & (place < extent) for place, extent in zip(places, extents, strict=True))
    clipped = [np.clip(place, 0, extent - 1) for place, extent in zip(places, extents, strict=True)]
    expected = np.where(rows[:, None] & columns, x[np.ix_(*clipped)], dtype(-7))
    out = np.empty(block, dtype)
    sizes = {"STEP": step, "BOUNDED": True, "B0": block[0], "B1": block[1]}
    on_both_engines(lambda: every_other[(1,)](out, x, *extents, *at, **sizes), out)
    np.testing.assert_array_equal(out, expected)


def test_a_border_before_an_array_costs_little_where_elements_are_a_few_apart():
    """What lies between the elements comes with them, wherever their rows begin."""
    x, out = np.ones((128, 128), np.float32), np.empty((16, 64), np.float32)
    sizes = {"STEP": 2, "B0": 16, "B1": 64}
    inside = every_other[(1,)](out, x, 128, 128, 0, 0, BOUNDED=False, **sizes)
    around = every_other[(1,)](out, x, 128, 128, -1, -1, BOUNDED=True, **sizes)
    assert around.cycles < 1.5 * inside.cycles
