"""The work bound of kernels: from their work alone, however they say it."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.ir.passes import exchanges

SIZE, BLOCK = 40_000, 512  # more than would be looked up on chip
GRID = (-(-SIZE // BLOCK),)
DENSE_BYTES = -(-4 * SIZE // 64) * 64


@mlu.jit
def copy(out, x, size, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place, mask=place < size), mask=place < size)


@mlu.jit
def copy_in_order(out, x, order, size, BLOCK: tl.constexpr):
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(order + number, mask=number < size, other=0)
    tl.store(out + place, tl.load(x + place, mask=number < size), mask=number < size)


@mlu.jit
def copy_one(out, x):
    place = tl.program_id(0)
    tl.store(out + place, tl.load(x + place))


@mlu.jit
def count(totals, x, size, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(totals + tl.load(x + place, mask=place < size, other=0), 1, mask=place < size)


@pytest.fixture
def arrays():
    x = np.arange(SIZE, dtype=np.float32)
    return np.zeros_like(x), x


def test_tiles_items_and_scalars_are_the_same_work(arrays):
    order = np.random.default_rng(0).permutation(SIZE).astype(np.int32)
    by_tiles = copy[GRID](*arrays, SIZE, BLOCK=BLOCK).work_bound
    by_items = copy_in_order[GRID](*arrays, order, SIZE, BLOCK=BLOCK).work_bound
    by_scalars = copy_one[(SIZE,)](*arrays).work_bound
    assert (by_tiles.loaded_bytes, by_tiles.stored_bytes) == (DENSE_BYTES, DENSE_BYTES)
    assert (by_items.loaded_bytes, by_items.stored_bytes) == (2 * DENSE_BYTES, DENSE_BYTES)
    assert (by_scalars.loaded_bytes, by_scalars.stored_bytes) == (DENSE_BYTES, DENSE_BYTES)


def test_items_that_are_loaded_again_count_once(arrays):
    order = np.full(SIZE, 4096, np.int32)
    bound = copy_in_order[GRID](*arrays, order, SIZE, BLOCK=BLOCK).work_bound
    assert (bound.loaded_bytes, bound.stored_bytes) == (DENSE_BYTES + 64, 64)


def test_atomics_load_and_store():
    totals, x = np.zeros(64, np.int32), np.arange(SIZE, dtype=np.int32) % 48
    bound = count[GRID](totals, x, SIZE, BLOCK=BLOCK).work_bound
    assert totals.sum() == SIZE
    assert (bound.loaded_bytes, bound.stored_bytes) == (DENSE_BYTES + 3 * 64, 3 * 64)


def test_without_values_items_count_for_nothing(arrays):
    order = np.arange(SIZE, dtype=np.int32)
    bound = mlu.estimate(copy_in_order, GRID, *arrays, order, SIZE, BLOCK=BLOCK).work_bound
    assert (bound.loaded_bytes, bound.stored_bytes) == (DENSE_BYTES, 0)


@mlu.jit
def stored_and_loaded(out, scratch, rounds, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for turn in range(rounds):
        tl.store(scratch + place, total + turn)
        total += tl.load(scratch + place)
    tl.store(out + place, total)


@mlu.jit
def halved(x, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + place, tl.load(x + place) / 2)


def test_what_a_launch_has_stored_itself_need_not_come_from_dram():
    size, block = 1 << 16, 1 << 11
    out, scratch = np.zeros(size, np.float32), np.zeros(size, np.float32)
    run = stored_and_loaded[(size // block,)](out, scratch, 3, BLOCK=block)
    np.testing.assert_array_equal(out, 4)
    assert (run.work_bound.loaded_bytes, run.work_bound.stored_bytes) == (0, 8 * size)
    assert run.cycles >= run.work_bound.cycles
    in_place = halved[(size // block,)](out, BLOCK=block).work_bound
    assert (in_place.loaded_bytes, in_place.stored_bytes) == (4 * size, 4 * size)


@mlu.jit
def stored_where_flagged(out, x, flags, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place), mask=tl.load(flags + place) != 0)


@mlu.jit
def halved_where_great(x, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + place)
    tl.store(x + place, values / 2, mask=values > 1)


def test_what_is_loaded_to_be_stored_again_is_no_work():
    size, block = 1 << 16, 1 << 11
    out, x = np.zeros(size, np.float32), np.arange(size, dtype=np.float32)
    flags = (np.arange(size) % 3 == 0).astype(np.int8)
    run = stored_where_flagged[(size // block,)](out, x, flags, BLOCK=block)
    np.testing.assert_array_equal(out, np.where(flags, x, 0))
    assert run.dram_read_bytes == 9 * size
    assert (run.work_bound.loaded_bytes, run.work_bound.stored_bytes) == (5 * size, 4 * size)
    in_place = halved_where_great[(size // block,)](out, BLOCK=block).work_bound
    assert (in_place.loaded_bytes, in_place.stored_bytes) == (4 * size, 4 * size)


@mlu.jit
def sort_rows(out, x, N: tl.constexpr):
    place = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out + place, tl.sort(tl.load(x + place)))


@mlu.jit
def halve_all(out, x, ROWS: tl.constexpr, N: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, N)[None, :]
    place = tl.program_id(0) * ROWS * N + row * N + column
    values = tl.load(x + place)
    for _ in tl.static_range(40):
        values = values * 0.5 + tl.max(values, 1)[:, None]
    tl.store(out + place, values)


def test_exchanges_are_the_same_work_in_either_form(monkeypatch, tmp_path):
    """By halves and many rows in one tile, or as what both sides come to less oneself."""
    x = np.random.default_rng(0).standard_normal((4096, 256)).astype(np.float32)
    out, bounds, names = np.empty_like(x), [], []
    for room in (0, 1 << 40):
        monkeypatch.setattr(exchanges, "room_bytes", lambda function, room=room: room)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / str(room)))
        run = mlu.jit(sort_rows.fn)[(len(x),)](out, x, 256)
        np.testing.assert_array_equal(out, np.sort(x))
        names.append({each.row.name for each in run.program.instructions})
        bounds.append(run.work_bound.vector_cycles)
    assert "red.xor" in names[1] - names[0]
    assert bounds[1] == pytest.approx(bounds[0], rel=0.05)


def test_elements_of_short_rows_are_no_more_work():
    x = np.ones((96, 1024), np.float32)
    long = halve_all[(96,)](np.empty_like(x), x, 2, 512).work_bound.vector_cycles
    short = halve_all[(96,)](np.empty_like(x), x, 128, 8).work_bound.vector_cycles
    assert 0 < short <= long


IN_PLACE = """
.program doubled
.isa 592
.param x ptr f32
.buffer tile nram 0 4096

    param r0, 0
    .loc "doubled.py" 3 5
    dma.load.f32 [tile], g[r0], 1024, 1, 1, 1024, 1024, 0, 0
    sync 1
    v.fadd.f32 [tile], [tile], [tile], 1, 1024
    sync 4
    dma.store.f32 g[r0], [tile], 1024, 1, 1, 1024, 1024, 0, 0
    sync 1
    exit
"""


def test_loads_of_assembly_are_work_wherever_they_stand(tmp_path):
    path = tmp_path / "doubled.s"
    path.write_text(IN_PLACE)
    x = np.arange(1024, dtype=np.float32)
    bound = mlu.load(path)[(1,)](x).work_bound
    np.testing.assert_array_equal(x, 2 * np.arange(1024))
    assert (bound.loaded_bytes, bound.stored_bytes) == (4096, 4096)
