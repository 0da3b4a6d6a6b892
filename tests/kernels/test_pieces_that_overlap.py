"""Programs of large tiles, which are taken in pieces, where arrays overlap: a program loads all of a tile first."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

MACHINES = ["mlu370-x4", "mlu590-m9", "mlu-tiny"]
BLOCK, LENGTH, BEGIN = 32_768, 31_948, 20_000


@mlu.jit
def doubled(out, x, length, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < length) * 2, mask=at < length)


@mlu.jit
def doubled_elsewhere(x, length, WAY: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + at + WAY, tl.load(x + at, mask=at < length) * 2, mask=at < length)


@mlu.jit
def stored_twice(x, length, WAY: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < length
    value = tl.load(x + at, mask=mask)
    tl.store(x + at + WAY, value, mask=mask)
    tl.store(x + at, value * 2, mask=mask)


@mlu.jit
def loaded_again(out, other, x, length, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < length
    tl.store(other + at, tl.load(x + at, mask=mask) * -2, mask=mask)
    tl.store(out + at, tl.load(x + at, mask=mask) * 7, mask=mask)


@pytest.fixture
def chosen():
    yield mlu.set_machine
    mlu.set_machine("mlu590-m9")


def memory():
    return np.random.default_rng(0).integers(-99, 99, 80_000).astype(np.int32)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("way", [-9000, 0, 1, 8192, 12_000, 16_384])
def test_what_overlaps_is_loaded_before_it_is_stored(machine, way, chosen):
    chosen(machine)
    here, there = (slice(begin, begin + LENGTH) for begin in (BEGIN, BEGIN + way))
    x = memory()
    wanted = x.copy()
    wanted[there] = 2 * x[here]
    on_both_engines(lambda: doubled[(1,)](x[there], x[here], LENGTH, BLOCK=BLOCK), x)
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("way", [0, 1, 8192, 12_000, 16_384])
def test_what_one_array_has_elsewhere_is_loaded_before_it_is_stored(machine, way, chosen):
    chosen(machine)
    x = memory()
    wanted = x.copy()
    wanted[way : way + LENGTH] = 2 * x[:LENGTH]
    on_both_engines(lambda: doubled_elsewhere[(1,)](x, LENGTH, WAY=way, BLOCK=BLOCK), x)
    np.testing.assert_array_equal(x, wanted)

    x = memory()
    wanted = x.copy()
    wanted[way : way + LENGTH] = x[:LENGTH]
    wanted[:LENGTH] = 2 * x[:LENGTH]
    on_both_engines(lambda: stored_twice[(1,)](x, LENGTH, WAY=way, BLOCK=BLOCK), x)
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("block", [4096, 32_768])
def test_what_was_stored_meanwhile_is_loaded_again(machine, block, chosen):
    chosen(machine)
    x, out = memory()[: block - 100], np.zeros(block, np.int32)
    wanted = x * -14
    before = x.copy()

    def launch():
        x[:] = before
        return loaded_again[(1,)](out, x, x, len(x), BLOCK=block)

    on_both_engines(launch, out)
    np.testing.assert_array_equal(out[: len(x)], wanted)
    np.testing.assert_array_equal(x, before * -2)


@mlu.jit
def normalized(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * columns + column, mask=mask, other=0.0)
    tl.store(out + row * columns + column, values / tl.sum(values, axis=1)[:, None], mask=mask)


# The last tile does not fit on chip as a whole.
@pytest.mark.parametrize("rows_of_tile", [32, 64, 128])
def test_tiles_with_no_room_for_two_are_as_fast_where_arrays_are_apart(rows_of_tile):
    rows, columns = 4096, 1000
    x = np.random.default_rng(0).integers(1, 9, (rows, columns)).astype(np.float32)
    wanted = x / x.sum(axis=1, dtype=np.float32, keepdims=True)
    cycles = {}
    for size in (8, rows_of_tile):
        out = np.empty_like(x)
        cycles[size] = normalized[(rows // size,)](out, x, rows, columns, ROWS=size, BLOCK=1024).cycles
        np.testing.assert_array_equal(out, wanted)
    # Of the largest tiles there are 32, for 48 cores.
    assert cycles[rows_of_tile] < 1.5 * cycles[8]
    both = x.copy()
    normalized[(rows // rows_of_tile,)](both, both, rows, columns, ROWS=rows_of_tile, BLOCK=1024)
    np.testing.assert_array_equal(both, wanted)
