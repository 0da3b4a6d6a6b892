"""Kernels with num_warps=4: split among the cores of a cluster they give, bit for bit, what one core gives."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.trace_format import FLAG_SRAM, Kind, unpack
from mlutriton.testing import load_examples
from tests.conftest import REPOSITORY
from tests.kernels.engines import on_both_engines

RNG = np.random.default_rng(0)
CASES = {each.name: each.cases for each in load_examples(REPOSITORY / "examples")}
matmul = CASES["matmul"][0].kernel


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.delenv("MLUTRITON_MACHINE", raising=False)
    yield
    mlu.set_machine("mlu590-m9")


def product(m, n, k, blocks, warps, dtype=np.float16, activation="leaky_relu", transposed=False, engine=None):
    """The product of two matrices and the run that computed it."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((m, k), np.float32).astype(dtype)
    b = rng.standard_normal((n, k) if transposed else (k, n), np.float32).astype(dtype)
    c = np.full((m, n), 7, dtype)
    block_m, block_n, block_k = blocks
    grid = (-(-m // block_m) * -(-n // block_n),)
    run = matmul[grid](
        a, b, c, m, n, k, k, 1, *((1, k) if transposed else (n, 1)), n, 1,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, GROUP_M=4, SUM=tl.float32, ACTIVATION=activation,
        num_warps=warps,
    )  # fmt: skip
    return c, run


# Steps are counted alike whichever way the second matrix lies: what it adds is a step, or a part of one, too many.
@pytest.mark.parametrize(
    ("depth", "transposed"), [*((depth, False) for depth in (5, 64, 65, 128, 190, 256, 333)), (64, True), (333, True)]
)
def test_products_are_the_same_for_any_number_of_steps(depth, transposed):
    one, _ = product(256, 192, depth, (128, 128, 64), 1, transposed=transposed)
    four, run = product(256, 192, depth, (128, 128, 64), 4, transposed=transposed)
    assert run.program.cores_per_program == 4
    assert run.sram_used_bytes
    assert four.tobytes() == one.tobytes()


def test_products_of_odd_sizes_are_the_same():
    for dtype in (np.float16, np.float32):
        one, _ = product(131, 77, 301, (128, 64, 64), 1, dtype)
        four, run = product(131, 77, 301, (128, 64, 64), 4, dtype)
        assert run.program.cores_per_program == 4
        assert four.tobytes() == one.tobytes()


def test_both_engines_agree():
    out = np.zeros((128, 128), np.float16)

    def launch():
        found, run = product(128, 128, 160, (64, 64, 32), 4)
        out[...] = found
        return run

    run = on_both_engines(launch, out)
    assert run.program.cores_per_program == 4
    assert out.any()


def test_shared_tiles_are_loaded_once():
    # With more columns tiles would be cut anew.
    _, run = product(512, 128, 512, (512, 128, 128), 4)
    loads = [r for r in unpack(run.trace.words.tolist()) if r.kind is Kind.LOAD]
    depth_bytes = 2 * 512
    assert sum(r.amount for r in loads) == (512 + 128) * depth_bytes
    assert sum(r.amount for r in loads if r.flags & FLAG_SRAM) == 128 * depth_bytes


def test_large_tiles_keep_the_tensor_units_busy():
    arrays = [mlu.spec((2048, 2048), "float16") for _ in range(3)]
    run = mlu.estimate(
        matmul, (16,), *arrays, 2048, 2048, 2048, 2048, 1, 2048, 1, 2048, 1,
        BLOCK_M=512, BLOCK_N=512, BLOCK_K=128, GROUP_M=4, SUM=tl.float32, ACTIVATION="none", num_warps=4,
    )  # fmt: skip
    # 16 programs on 12 clusters take two rounds.
    assert run.tensor_utilization > 0.7 * 16 / 24


@mlu.jit
def double_and_reverse(out, x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)


def test_elements_are_split_and_keep_their_order_where_arrays_overlap():
    x = RNG.standard_normal(200_000, dtype=np.float32)
    apart, inside, shifted = np.empty_like(x), x.copy(), np.concatenate([x, x[:9]])
    run = double_and_reverse[(4,)](apart, x, x.size, BLOCK=1 << 16, num_warps=4)
    assert run.program.cores_per_program == 4
    assert run.program.is_resident
    np.testing.assert_array_equal(apart, x * 2)
    double_and_reverse[(4,)](inside, inside, x.size, BLOCK=1 << 16, num_warps=4)
    np.testing.assert_array_equal(inside, x * 2)
    # Where each core's part reaches into the next one's, all have to load before any stores.
    double_and_reverse[(1,)](shifted[9:], shifted[:-9], 1 << 16, BLOCK=1 << 16, num_warps=4)
    np.testing.assert_array_equal(shifted[9 : 9 + (1 << 16)], x[: 1 << 16] * 2)


@mlu.jit
def in_turn(x, n, steps, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for step in range(steps):
        tl.store(x + step * 5 + i, tl.load(x + step * 7 + i, mask=i < n, other=0.0) + 1, mask=i < n)


def test_a_loop_that_stores_what_it_loads_keeps_its_order():
    x = RNG.standard_normal(70_000, dtype=np.float32)
    one, four = x.copy(), x.copy()
    in_turn[(1,)](one, 1 << 16, 9, BLOCK=1 << 16)
    run = in_turn[(1,)](four, 1 << 16, 9, BLOCK=1 << 16, num_warps=4)
    assert run.program.cores_per_program == 4
    np.testing.assert_array_equal(four, one)


@mlu.jit
def row_sums(total, out, x, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    mask = column[None, :] < columns
    values = tl.load(x + row[:, None] * columns + column[None, :], mask=mask, other=0.0)
    sums = tl.sum(values, axis=1)
    tl.store(total + row, sums)
    tl.store(out + row[:, None] * columns + column[None, :], values - sums[:, None], mask=mask)


def test_rows_are_split():
    x = RNG.standard_normal((128, 1000), dtype=np.float32)
    found = []
    for warps in (1, 4):
        total, out = np.zeros(128, np.float32), np.zeros_like(x)
        run = row_sums[(2,)](total, out, x, 1000, ROWS=64, BLOCK=1024, num_warps=warps)
        found.append((total.tobytes(), out.tobytes()))
    assert run.program.cores_per_program == 4
    assert found[0] == found[1]


@mlu.jit
def count(out, x, BLOCK: tl.constexpr):
    tl.atomic_add(out + tl.arange(0, BLOCK) % 16, tl.load(x + tl.arange(0, BLOCK)))


@mlu.jit
def softmax(out, x, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    values = tl.load(x + column, mask=column < columns, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + column, powers / tl.sum(powers, axis=0), mask=column < columns)


def test_what_cannot_be_split_runs_on_one_core_and_says_why():
    x = RNG.standard_normal(1024, dtype=np.float32)
    for kernel, arguments, reason in [
        (count, (np.zeros(16, np.float32), x), "atomics are for one core of a program alone"),
        (softmax, (np.zeros_like(x), x, 1024), "every core would do all of reduce"),
    ]:
        run = kernel[(1,)](*arguments, BLOCK=1024, num_warps=4)
        assert run.program.cores_per_program == 1
        assert f"each program runs on one: {reason}" in str(run)
        assert "test_clusters.py" in str(run)


def test_what_does_not_fit_goes_in_strips_where_clusters_have_one_core():
    sizes, blocks = (50, 300, 96), (16, 128, 16)
    expected, _ = product(*sizes, blocks, 1)
    mlu.set_machine(mlu.machine("mlu-tiny").replace(cores_per_cluster=1, wram_bytes=2048))
    found, run = product(*sizes, blocks, 1)
    assert run.program.cores_per_program == 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("index", [0, 1])
def test_attention_is_the_same(index):
    case = CASES["flash_attention"][index]
    found = []
    for warps in (1, 4):
        arguments = case.arguments()
        run = case.kernel[case.grid](*arguments.values(), **{**case.constants, "num_warps": warps})
        found.append(arguments["output"].tobytes())
    assert run.program.cores_per_program == 4
    assert "each program runs on the 4 cores of a cluster" in str(run)
    assert found[0] == found[1]


def test_threads_change_nothing(monkeypatch):
    found = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("MLUTRITON_THREADS", threads)
        values, run = product(512, 256, 128, (128, 128, 64), 4)
        found.append((values.tobytes(), run.cycles))
    assert len(set(found)) == 1


@mlu.jit
def product_and_sums(c, a, b, columns, depth, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M)[:, None], tl.program_id(0) * N + tl.arange(0, N)[None, :], tl.arange(0, K)
    total = tl.zeros((M, N), tl.float32)
    for step in range(0, depth, K):
        rows = tl.load(a + m * depth + step + k[None, :])
        if step > 20:
            rows = (rows.to(tl.float32) * 2).to(tl.float16)
        total = tl.dot(rows, tl.load(b + (step + k[:, None]) * columns + n, mask=n < columns, other=0.0), total)
    total += tl.sum(total, 0)[None, :]
    tl.store(c + m * columns + n, total, mask=n < columns)


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_a_core_may_need_its_part_of_what_is_shared(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    a, b = (RNG.integers(-4, 4, shape).astype(np.float16) for shape in ((16, 256), (256, 300)))
    c = np.zeros((16, 300), np.float32)
    run = product_and_sums[(3,)](c, a, b, 300, 256, M=16, N=128, K=128, num_warps=4, num_stages=1)
    assert run.program.cores_per_program == 4
    product = a.astype(np.float32) @ b + a[:, 128:].astype(np.float32) @ b[128:]
    np.testing.assert_array_equal(c, product + product.sum(0))
