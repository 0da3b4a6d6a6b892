"""Short results of several blocks are stored at once: values stay, and their latencies show once in several turns."""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.trace_format import Kind, unpack
from tests.covering import pairs_of

CORES = mlu.machine("mlu590-m9").cores
COLUMNS = 2048


@mlu.jit
def statistics(x, centred, low, high, mean, rows, columns, BLOCK: tl.constexpr, OUTPUTS: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * columns + column, mask=mask, other=0.0)
        average = tl.sum(values, axis=0) / columns
        if OUTPUTS > 1:
            tl.store(low + row, tl.min(values, axis=0))
        if OUTPUTS > 2:
            tl.store(high + row * 2, tl.max(values, axis=0))
        tl.store(mean + row, average)
        tl.store(centred + row * columns + column, values - average, mask=mask)


def run(rows, programs, outputs, columns=COLUMNS):
    """The arrays that a launch leaves, each with elements behind its end that must stay, and the run."""
    x = np.random.default_rng(rows).integers(-8, 8, (rows, columns)).astype(np.float32)
    centred = np.full((rows + 3, columns), 7, np.float32)
    low, mean, high = np.full(rows + 3, 7, np.float32), np.full(rows + 3, 7, np.float32), np.full((rows + 3, 2), 7.0)
    high = high.astype(np.float32)
    done = statistics[(programs,)](x, centred, low, high, mean, rows, columns, BLOCK=2048, OUTPUTS=outputs)
    return x, centred, low, high, mean, done


@pairs_of(("rows", [0, 1, 2, 15, 64, 129, 300]), ("programs", [1, 3]), ("engine", ["native", "interpreter"]))
def test_groups_that_are_full_and_the_last_one_are_stored(rows, programs, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    x, centred, low, high, mean, _ = run(rows, programs, outputs=3)
    expected = x.sum(axis=1) / np.float32(COLUMNS)
    np.testing.assert_array_equal(mean[:rows], expected)
    np.testing.assert_array_equal(low[:rows], x.min(axis=1, initial=8))
    np.testing.assert_array_equal(high[:rows, 0], x.max(axis=1, initial=-9))
    np.testing.assert_array_equal(centred[:rows], x - expected[:, None])
    for array in (mean, low, high, centred):
        assert (array[rows:] == 7).all()
    assert (high[:, 1] == 7).all()


def transfers(done):
    """Bytes of the transfers of a launch of one program, by whether they store."""
    records = unpack(done.trace.words.tolist())
    return [(each.kind is Kind.STORE, each.amount) for each in records if each.kind in (Kind.LOAD, Kind.STORE)]


def test_more_short_results_are_stored_for_several_blocks_at_a_time():
    rows = 300
    moved = transfers(run(rows, 1, outputs=3)[-1])
    loads = [size for is_store, size in moved if not is_store]
    short = [size for is_store, size in moved if is_store and size <= 4 * rows]
    # Of three arrays, for eight blocks at a time.
    assert len(short) == 3 * -(-len(loads) // 8)
    assert sum(short) == 3 * 4 * rows


def test_results_that_are_the_only_short_ones_are_stored_with_their_block():
    moved = transfers(run(300, 1, outputs=1)[-1])
    short = [size for is_store, size in moved if is_store and size <= 4 * 300]
    assert len(short) == len([size for is_store, size in moved if not is_store])


@mlu.jit
def written_over(x, out, low, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    values = tl.load(x + tl.program_id(0) * columns + column)
    tl.store(low + tl.program_id(0), tl.min(values, axis=0))
    tl.store(out + tl.program_id(0) * columns, tl.max(values, axis=0))
    tl.store(out + tl.program_id(0) * columns + column, values + 1)


def test_what_another_store_writes_over_is_not_stored_later():
    rows = 500
    x = np.random.default_rng(0).integers(-8, 8, (rows, COLUMNS)).astype(np.float32)
    out, low = np.zeros_like(x), np.zeros(rows, np.float32)
    written_over[(rows,)](x, out, low, COLUMNS, BLOCK=COLUMNS)
    np.testing.assert_array_equal(out, x + 1)
    np.testing.assert_array_equal(low, x.min(axis=1))
