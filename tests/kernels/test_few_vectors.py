"""Products of a few vectors and a matrix, as of decoding: cut over the clusters, whose cores share rows of weights."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.covering import pairs_of
from tests.kernels.engines import on_both_engines


@mlu.jit
def grouped(c, a, b, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tiles in groups of rows, which wrap, as in Triton's tutorial."""
    number, rows, columns = tl.program_id(0), tl.cdiv(m, BM), tl.cdiv(n, BN)
    span = 8 * columns
    first = number // span * 8
    height = min(rows - first, 8)
    place_m, place_n = first + number % span % height, number % span // height
    row, column, depth = place_m * BM + tl.arange(0, BM), place_n * BN + tl.arange(0, BN), tl.arange(0, BK)
    from_a = a + (row % m)[:, None] * k + depth[None, :]
    from_b = b + depth[:, None] * n + (column % n)[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(k, BK)):
        x = tl.load(from_a, mask=depth[None, :] < k - step * BK, other=0)
        total = tl.dot(x, tl.load(from_b, mask=depth[:, None] < k - step * BK, other=0).to(x.dtype), total)
        from_a += BK
        from_b += BK * n
    tl.store(c + row[:, None] * n + column[None, :], total, mask=(row[:, None] < m) & (column[None, :] < n))


@mlu.jit
def columns_alone(c, a, b, scale, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """A grid over the columns, and nothing that masks columns."""
    row, column = tl.arange(0, BM), tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, k, BK):
        depth = begin + tl.arange(0, BK)
        x = tl.load(a + row[:, None] * k + depth[None, :], mask=row[:, None] < m, other=0)
        total += tl.dot(x, tl.load(b + depth[:, None] * n + column[None, :]).to(x.dtype))
    total *= tl.load(scale + column)[None, :]
    tl.store(c + row[:, None] * n + column[None, :], total, mask=row[:, None] < m)


def arrays(m, n, k, dtype):
    rng = np.random.default_rng(m + n)
    a, b = rng.integers(-4, 5, (m, k)).astype(np.float16), rng.integers(-4, 5, (k, n)).astype(dtype)
    return np.full((m, n), -1, np.float32), a, b


@pairs_of(
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("dtype", [np.float16, np.int8]),
    ("size", [(1, 1111, 70), (40, 500, 96)]),
    indirect=["machine"],
)
def test_groups_of_few_rows(machine, dtype, size):
    m, n, k = size
    for num_warps, rows in ((1, 16), (4, 32), (4, 64)):
        c, a, b = arrays(m, n, k, dtype)
        grid = (-(-m // rows) * -(-n // 64),)
        on_both_engines(lambda c=c, a=a, b=b, grid=grid, rows=rows, num_warps=num_warps: grouped[grid](
            c, a, b, m, n, k, BM=rows, BN=64, BK=32, num_warps=num_warps), c)  # fmt: skip
        np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))


@pairs_of(
    ("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"]),
    ("dtype", [np.float16, np.int8]),
    ("size", [(1, 1152, 128), (16, 1664, 64)]),
    indirect=["machine"],
)
def test_a_grid_over_columns_alone(machine, dtype, size):
    m, n, k = size
    for num_warps in (1, 4):
        c, a, b = arrays(m, n, k, dtype)
        scale = (np.arange(n) % 3).astype(np.float32)
        on_both_engines(lambda c=c, a=a, b=b, scale=scale, num_warps=num_warps: columns_alone[(n // 128,)](
            c, a, b, scale, m, n, k, BM=16, BN=128, BK=64, num_warps=num_warps), c)  # fmt: skip
        np.testing.assert_array_equal(c, (a.astype(np.float32) @ b.astype(np.float32)) * scale)


@pytest.mark.parametrize("machine", ["mlu590-m9"], indirect=True)
@pytest.mark.parametrize(("kernel", "rows"), [(grouped, 1), (grouped, 16), (columns_alone, 16)])
def test_rows_of_weights_take_no_longer_to_begin_than_to_load(machine, kernel, rows):
    c, a, b = (mlu.spec(shape, dtype) for shape, dtype in (
        ((rows, 4096), "float32"), ((rows, 4096), "float16"), ((4096, 4096), "float16")))  # fmt: skip
    scale = [mlu.spec((4096,), "float32")] if kernel is columns_alone else []
    run = mlu.estimate(kernel, (64,), c, a, b, *scale, rows, 4096, 4096, BM=16, BN=64, BK=64)
    assert run.cycles < 2.1 * run.work_bound_cycles
