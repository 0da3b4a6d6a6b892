"""Programs that loop and serve a task one after another are one loop: the same values, in less time."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import flash_attention


@mlu.jit
def multiply(
    a, b, c, N, K, length, own, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EQUAL: tl.constexpr
):
    end = length if EQUAL else length - tl.program_id(0) * own
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    k = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, end, BLOCK_K):
        left = tl.load(a + m * K + (start + k)[None, :], mask=(start + k)[None, :] < K, other=0)
        right = tl.load(b + (start + k)[:, None] * N + n, mask=(start + k)[:, None] < K, other=0)
        total = tl.dot(left, right, total)
    total = tl.where(total > 0, total, 0.5 * total)
    tl.store(c + m * N + n, total.to(tl.float16))


SIZE_M, SIZE_N = 512, 256


def launched(depth, *, length=None, own=None, num_warps=4, columns=SIZE_N, block_m=64, block_n=64):
    rng = np.random.default_rng(depth)
    a = rng.standard_normal((SIZE_M, max(depth, 1)), np.float32).astype(np.float16)
    b = rng.standard_normal((max(depth, 1), columns), np.float32).astype(np.float16)
    c = np.full((SIZE_M, columns), np.nan, np.float16)
    blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": 32, "EQUAL": own is None}
    grid = (columns // block_n, SIZE_M // block_m)
    ends = depth if length is None else length, own or 0
    run = multiply[grid](a, b, c, columns, max(depth, 1), *ends, **blocks, num_warps=num_warps)
    return run, a, b, c


def expected(a, b):
    total = a.astype(np.float32) @ b.astype(np.float32)
    return np.where(total > 0, total, 0.5 * total)


@pytest.fixture
def few_cores():
    """A machine whose cores and clusters serve several programs each."""
    before = mlu.current_machine()
    mlu.set_machine(before.replace(clusters=3, max_union_clusters=1))
    yield
    mlu.set_machine(before)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize("depth", [32, 64, 200])
def test_values_are_those_of_the_kernel(engine, depth, few_cores, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    run, a, b, c = launched(depth)
    assert run.program.is_resident
    np.testing.assert_allclose(c, expected(a, b), rtol=2e-3, atol=2e-3)


def test_loops_without_iterations_store_zeros(few_cores, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    run, _, _, c = launched(32, length=0)
    assert run.program.is_resident
    assert not c.any()


def test_loops_of_unequal_length_are_not_merged(few_cores):
    # Tiles with as many rows as a cluster is at its best with: of less, those of one length go together.
    _, a, b, c = launched(256, own=64, block_m=512)
    first = expected(a, b)[:, :64]
    np.testing.assert_allclose(c[:, :64], first, rtol=2e-3, atol=2e-3)


def test_programs_of_one_core_go_in_turn(few_cores):
    # On a cluster of several cores, programs would go together.
    mlu.set_machine(mlu.current_machine().replace(cores_per_cluster=1))
    run, a, b, c = launched(64, num_warps=1, columns=1024, block_n=512)
    assert run.program.is_resident
    np.testing.assert_allclose(c, expected(a, b), rtol=2e-3, atol=2e-3)


def test_the_pipeline_does_not_run_dry(few_cores):
    """The same work takes longer if a program may be shorter than the one before it: then each fills its pipeline."""
    arguments = [mlu.spec(shape, np.float16) for shape in ((1536, 2048), (2048, 1024), (1536, 1024))]
    blocks = {"BLOCK_M": 512, "BLOCK_N": 128, "BLOCK_K": 256, "num_warps": 4}
    merged, apart = (
        mlu.estimate(multiply, (8, 3), *arguments, 1024, 2048, 2048, 0, **blocks, EQUAL=equal)
        for equal in (True, False)
    )
    assert merged.program.is_resident
    assert merged.cycles < 0.9 * apart.cycles


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_what_programs_load_before_their_loop_and_carry_through_it(engine, few_cores, monkeypatch):
    """Running maxima and sums begin anew in each program, its queries come with its first step."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    result = flash_attention.case(1, 5, 512, 64, causal=False, on_cluster=True).check()
    assert result.run.program.is_resident


def test_results_keep_their_place_where_memory_is_reused(few_cores):
    """Scores and results do not fit side by side; a result is stored while the next program computes its scores."""
    result = flash_attention.case(1, 4, 1024, 128, causal=False, on_cluster=True).check()
    assert result.run.program.is_resident


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_programs_of_one_core_whose_arithmetic_hides_all_else(engine, few_cores, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    result = flash_attention.case(1, 5, 512, 64, causal=False).check()
    assert result.run.program.is_resident
    assert result.run.program.cores_per_program == 1


def test_nothing_is_waited_for_between_programs_of_one_core(few_cores):
    """The first tiles of a program come while the one before computes, whose result is stored beside this one's."""
    case = flash_attention.case(1, 12, 1024, 64, causal=False)
    run = mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)
    # Each core waits for its first tiles, and until its last result is stored.
    assert run.core_cycles.wait_io < 0.01 * sum(run.core_cycles)


@mlu.jit
def running_sums(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    carry = tl.full((ROWS, 1), 1, tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = (row < rows) & (column < columns)
        tile = tl.load(x + row * columns + column, mask=mask, other=0.0)
        tl.store(out + row * columns + column, tl.cumsum(tile, axis=1) + carry, mask=mask)
        carry += tl.sum(tile, axis=1, keep_dims=True)


def summed(rows, columns, *, in_place=False):
    x = np.random.default_rng(rows).integers(-9, 9, (rows, columns)).astype(np.float32)
    expected = 1 + np.cumsum(x, axis=1)
    out = x if in_place else np.full_like(x, np.nan)
    run = running_sums[(-(-rows // 8),)](out, x, rows, columns, ROWS=8, BLOCK=1024)
    np.testing.assert_array_equal(out, expected)
    return run


@pytest.mark.parametrize(
    ("engine", "rows", "columns"),
    [
        *(("native", *size) for size in [(768, 1024), (300, 2500), (3, 1), (500, 3072)]),
        # It is asked whether anything is read before it is there: in a row's first chunk, its last, and between.
        ("interpreter", 300, 2500),
        ("interpreter", 3, 1),
    ],
)
def test_programs_that_copy_row_after_row_carry_their_own_sums(engine, rows, columns, few_cores, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    assert summed(rows, columns).program.is_resident


def test_what_a_program_stores_is_not_loaded_before(few_cores):
    assert summed(300, 2500, in_place=True).program.is_resident


def test_loops_without_iterations_store_nothing(few_cores):
    out = np.full((16, 16), 5, np.float32)
    running_sums[(2,)](out, out, 16, 0, ROWS=8, BLOCK=1024)
    assert (out == 5).all()


def test_bursts_at_the_ends_of_programs_do_not_show():
    """Two programs a core, which would take 16,700 cycles each on top of the launch."""
    arrays = [mlu.spec((768, 4096), np.float32) for _ in range(2)]
    run = mlu.estimate(running_sums, (96,), *arrays, 768, 4096, ROWS=8, BLOCK=1024)
    assert run.cycles < 37_000
