"""Kernels that go along rows which they look up do all turns at once where rows are short enough for that."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def taken(out, x, index, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    source = tl.load(index + row)
    for begin in range(0, columns, BLOCK):
        c = begin + tl.arange(0, BLOCK)
        tl.store(out + row * columns + c, tl.load(x + source * columns + c, mask=c < columns), mask=c < columns)


@mlu.jit
def put(out, x, index, scale, columns, BLOCK: tl.constexpr):
    """Rows to where they belong, each times a number."""
    row = tl.program_id(0)
    for begin in range(0, columns, BLOCK):
        target = tl.load(index + row)
        c = begin + tl.arange(0, BLOCK)
        value = tl.load(x + row * columns + c, mask=c < columns, other=0.0) * tl.load(scale + row)
        tl.store(out + target * columns + c, value, mask=c < columns)


@mlu.jit
def unmasked(out, x, index, columns, BLOCK: tl.constexpr):
    """As `taken`, for rows that blocks fill."""
    row = tl.program_id(0)
    source = tl.load(index + row)
    for begin in range(0, columns, BLOCK):
        c = begin + tl.arange(0, BLOCK)
        tl.store(out + row * columns + c, tl.load(x + source * columns + c))


@mlu.jit
def by_block(out, x, scale, columns, BLOCK: tl.constexpr):
    """Each block times a number of its own: blocks are no neighbours."""
    row = tl.program_id(0)
    for begin in range(0, columns, BLOCK):
        factor = tl.load(scale + begin // BLOCK)
        c = begin + tl.arange(0, BLOCK)
        tl.store(out + row * columns + c, tl.load(x + row * columns + c, mask=c < columns) * factor, mask=c < columns)


@mlu.jit
def to_one_place(out, x, scale, columns, BLOCK: tl.constexpr):
    """Each block to where the one before was stored."""
    row = tl.program_id(0)
    factor = tl.load(scale + row)
    for begin in range(0, columns, BLOCK):
        c = begin + tl.arange(0, BLOCK)
        value = tl.load(x + row * columns + c, mask=c < columns) * factor
        tl.store(out + row * columns + tl.arange(0, BLOCK), value, mask=c < columns)


def test_blocks_that_differ_stay_apart():
    x, out = RANDOM.standard_normal((48, 200)).astype(np.float32), np.zeros((48, 200), np.float32)
    scale = RANDOM.standard_normal(48).astype(np.float32)
    on_both_engines(lambda: by_block[(48,)](out, x, scale, 200, 64), out)
    np.testing.assert_array_equal(out, x * scale[np.arange(200) // 64])
    out[:] = 0
    on_both_engines(lambda: to_one_place[(48,)](out, x, scale, 200, 64), out)
    wanted = np.zeros_like(x)
    wanted[:, :64] = x[:, 128:192] * scale[:, None]
    wanted[:, :8] = x[:, 192:] * scale[:, None]
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 1000, 4096, 4097, 5000])
@pytest.mark.parametrize("kernel", [taken, put])
def test_rows_of_any_length(kernel, columns):
    rows = 60
    x, out = RANDOM.standard_normal((rows, columns)).astype(np.float32), np.zeros((rows, columns), np.float32)
    index, scale = RANDOM.permutation(rows).astype(np.int32), RANDOM.standard_normal(rows).astype(np.float32)
    if kernel is taken:
        on_both_engines(lambda: taken[(rows,)](out, x, index, columns, 64), out)
        np.testing.assert_array_equal(out, x[index])
    else:
        on_both_engines(lambda: put[(rows,)](out, x, index, scale, columns, 64), out)
        wanted = np.empty_like(x)
        wanted[index] = x * scale[:, None]
        np.testing.assert_array_equal(out, wanted)


def test_a_loop_that_does_not_begin_looks_nothing_up():
    x, out = np.zeros((4, 64), np.float32), np.zeros((4, 64), np.float32)
    index, scale = np.zeros(1, np.int32), np.ones(1, np.float32)
    for columns in (0, -5):
        on_both_engines(lambda columns=columns: put[(4,)](out, x, index, scale, columns, 64), out)
    with pytest.raises(mlu.KernelFault, match="E0301"):
        put[(4,)](out, x, index, scale, 1, 64)


def test_rows_without_a_mask_are_whole():
    x, out = RANDOM.standard_normal((50, 256)).astype(np.float32), np.zeros((40, 256), np.float32)
    index = RANDOM.integers(0, 50, 40).astype(np.int32)
    on_both_engines(lambda: unmasked[(40,)](out, x, index, 256, 64), out)
    np.testing.assert_array_equal(out, x[index])


def test_rows_are_looked_up_for_many_programs_at_a_time():
    rows, columns = 960, 512
    x, out = RANDOM.standard_normal((rows, columns)).astype(np.float32), np.zeros((rows, columns), np.float32)
    index = RANDOM.integers(0, rows, rows).astype(np.int32)
    run = on_both_engines(lambda: taken[(rows,)](out, x, index, columns, 128), out)
    np.testing.assert_array_equal(out, x[index])
    # Twenty programs a core, none of which waits for its number, and then for its row.
    latency = run.machine.dram_bulk_latency_ns * run.machine.clock_mhz / 1000
    assert run.cycles - run.work_bound_cycles < 20 * latency


def test_arrays_that_overlap_are_gone_along_in_turn():
    """Each block is stored before the next one is loaded, which may be the same."""
    columns, shift = 200, 64
    for engine in ("native", "interpreter"):
        memory = np.arange(columns + shift, dtype=np.float32)
        x, out, index = memory[:columns], memory[shift:], np.zeros(1, np.int32)
        wanted = memory.copy()
        for begin in range(0, columns, 64):
            end = min(begin + 64, columns)
            wanted[shift + begin : shift + end] = wanted[begin:end].copy()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLUTRITON_ENGINE", engine)
            taken[(1,)](out, x, index, columns, 64)
        np.testing.assert_array_equal(memory, wanted)


def test_estimates_of_rows_that_go_at_once_need_no_values():
    """The loop reads its numbers on the scalar unit; the version that is taken leaves them to the gather."""

    def estimate(columns):
        out, x = (mlu.spec((40, columns), "float32") for _ in range(2))
        return mlu.estimate(taken, (40,), out, x, mlu.spec((40,), "int32"), columns, 64)

    x, index = np.zeros((40, 200), np.float32), np.zeros(40, np.int32)
    run = taken[(40,)](np.zeros_like(x), x, index, 200, 64)
    # Also where so many launches were different that others have all versions.
    for columns in range(220, 199, -1):
        estimated = estimate(columns)
    np.testing.assert_array_equal(estimated.trace.words, run.trace.words)
    with pytest.raises(mlu.CompileError, match="E0108"):
        estimate(5000)
