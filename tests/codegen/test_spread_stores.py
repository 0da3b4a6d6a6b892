"""What programs of one loop store goes out a few rows in each iteration of the next one, and all of it arrives."""

from itertools import pairwise

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of


@mlu.jit
def multiply(
    a, b, c, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SUM: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    k = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=SUM)
    for start in range(0, K, BLOCK_K):
        left = tl.load(a + m * K + (start + k)[None, :], mask=(m < M) & ((start + k)[None, :] < K), other=0)
        right = tl.load(b + (start + k)[:, None] * N + n, mask=((start + k)[:, None] < K) & (n < N), other=0)
        total = tl.dot(left, right, total, out_dtype=SUM)
    tl.store(c + m * N + n, total.to(c.dtype.element_ty), mask=(m < M) & (n < N))
    if PARTS == 2:
        # Two stores have an order: this one goes one row further down within its tile.
        inside = tl.arange(0, BLOCK_M)[:, None] < BLOCK_M - 1
        tl.store(c + (m + 1) * N + n, (total * 2).to(c.dtype.element_ty), mask=inside & (m + 1 < M) & (n < N))


@pytest.fixture
def few_cores():
    """A machine whose clusters serve several programs each."""
    before = mlu.current_machine()
    mlu.set_machine(before.replace(clusters=3, max_union_clusters=1))
    yield
    mlu.set_machine(before)


def multiplied(shape, dtype, *, parts=1, c=None):
    m, n, k = shape
    rng = np.random.default_rng(k)
    # Small integers, whose products and sums are exact.
    a, b = (rng.integers(-3, 4, size).astype(dtype) for size in ((m, k), (k, n)))
    integer = dtype is np.int8
    if c is None:
        c = np.full((m, n), 77, np.int32 if integer else dtype)
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "SUM": tl.int32 if integer else tl.float32, "PARTS": parts}
    run = multiply[(-(-n // 64), -(-m // 64))](a, b, c, m, n, k, **blocks, num_warps=4)
    return run, c, a.astype(np.float64) @ b.astype(np.float64)


def is_spread(run):
    """Whether the program stores for the one before: then it names what it serves behind that anew."""
    pairs = pairwise(run.program.instructions)
    return any(one.row.trace == "STORE" and other.row.name == "serve" for one, other in pairs)


@pairs_of(
    ("shape", [(256, 256, 64), (250, 130, 128), (70, 400, 1100)]),
    ("dtype", [np.int8, np.float16]),
    ("engine", ["native", "interpreter"]),
)
@pytest.mark.usefixtures("few_cores")
def test_every_row_arrives(engine, dtype, shape, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    run, c, expected = multiplied(shape, dtype)
    assert run.program.is_resident
    np.testing.assert_array_equal(c, expected.astype(c.dtype))


@pytest.mark.usefixtures("few_cores")
def test_stores_in_an_order_stay_together():
    one, two = (multiplied((250, 130, 128), np.float16, parts=parts) for parts in (1, 2))
    assert is_spread(one[0])
    assert not is_spread(two[0])
    expected = two[2].copy()
    within = np.arange(1, len(expected))[np.arange(1, len(expected)) % 64 > 0]
    expected[within] = 2 * two[2][within - 1]
    np.testing.assert_array_equal(two[1], expected.astype(np.float16))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.usefixtures("few_cores")
def test_a_fault_names_the_program_that_made_the_result(engine, monkeypatch):
    """Of the 2 x 4 programs, which are too narrow to be cut anew, those of the last row have nowhere to store."""
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    with pytest.raises(mlu.KernelFault, match=r"program \(\d, 3, 0\)"):
        multiplied((256, 128, 300), np.float16, c=np.zeros((192, 128), np.float16))


def test_results_as_large_as_sums_do_not_hold_up_loads():
    """All at once, they would take as long as nearly two of the eight steps of a program."""
    arguments = [mlu.spec((4096, 4096), dtype) for dtype in (np.int8, np.int8, np.int32)]
    blocks = {"BLOCK_M": 512, "BLOCK_N": 256, "BLOCK_K": 512, "SUM": tl.int32, "PARTS": 1}
    run = mlu.estimate(multiply, (16, 8), *arguments, 4096, 4096, 4096, **blocks, num_warps=4)
    assert run.cycles < 1.33 * run.work_bound_cycles


@mlu.jit
def lowered(a, b, c, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Products from which the greatest of each row so far is taken away again and again."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        left, right = tl.load(a + m * K + k[None, :]), tl.load(b + k[:, None] * N + n)
        total = tl.dot(left, right, total - tl.max(total, 1)[:, None], input_precision="ieee")
    tl.store(c + m * N + n, total)


@pytest.mark.parametrize("machine", ["mlu-tiny", "mlu370-x4"])
@pytest.mark.parametrize("depth", [32, 64, 256])
def test_what_a_loop_reads_in_between_is_stored_before_the_next_program_begins(machine, depth):
    rng = np.random.default_rng(depth)
    a, b = (rng.integers(-2, 3, size).astype(np.float32) for size in ((256, depth), (depth, 512)))
    c, expected = np.empty((256, 512), np.float32), np.zeros((256, 4, 128), np.float32)
    before = mlu.current_machine()
    # The smallest has no room for two results.
    mlu.set_machine(machine)
    try:
        lowered[(8, 4)](a, b, c, 512, depth, BLOCK_M=32, BLOCK_N=128, BLOCK_K=32)
    finally:
        mlu.set_machine(before)
    for k in range(0, depth, 32):
        expected += (a[:, k : k + 32] @ b[k : k + 32]).reshape(expected.shape) - expected.max(-1, keepdims=True)
    np.testing.assert_array_equal(c, expected.reshape(c.shape))


@mlu.jit
def multiply_by_halves(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """The halves of each row go to two arrays, one behind the other."""
    m, n = tl.program_id(1) * BM + tl.arange(0, BM)[:, None], tl.program_id(0) * BN + tl.arange(0, BN)[None, :]
    k = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        total = tl.dot(tl.load(a + m * K + (start + k)[None, :]), tl.load(b + (start + k)[:, None] * N + n), total)
    row = tl.program_id(1) * BM + tl.arange(0, BM)[:, None, None]
    half, column = tl.arange(0, 2)[None, :, None], tl.program_id(0) * BN // 2 + tl.arange(0, BN // 2)[None, None, :]
    tl.store(c + (half * M + row) * (N // 2) + column, total.reshape((BM, 2, BN // 2)).to(tl.float16))


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.usefixtures("few_cores")
def test_halves_of_rows_that_part_are_stored_at_once(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    rng = np.random.default_rng(5)
    a, b = (rng.integers(-3, 4, (256, 256)).astype(np.float16) for _ in range(2))
    c = np.full((2, 256, 128), 77, np.float16)
    run = multiply_by_halves[(4, 4)](a, b, c, 256, 256, 256, BM=64, BN=64, BK=64, num_warps=4)
    assert run.program.is_resident
    assert not is_spread(run)
    expected = (a.astype(np.float32) @ b.astype(np.float32)).reshape(256, 4, 2, 32).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(c, expected.reshape(2, 256, 128).astype(np.float16))
