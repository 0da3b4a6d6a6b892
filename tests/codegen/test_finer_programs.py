"""Programs of large tiles are taken in pieces: values stay, memory is used, and cores get even shares."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

CORES = mlu.machine("mlu590-m9").cores


@mlu.jit
def add(out, x, y, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < n
    tl.store(out + place, tl.load(x + place, mask=mask) + tl.load(y + place, mask=mask), mask=mask)


@mlu.jit
def normalize(out, largest, x, rows, columns, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row[:, None] < rows) & (column < columns)
    tile = tl.load(x + row[:, None] * stride + column, mask=mask, other=-float("inf"))
    top = tl.max(tile, axis=1)
    tl.store(largest + row, top, mask=row < rows)
    tl.store(out + row[:, None] * stride + column, tile - top[:, None], mask=mask)


@mlu.jit
def by_columns(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The tiles of neighbours stand side by side, not below each other."""
    row, column = tl.arange(0, ROWS)[:, None], tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    tile = tl.load(x + row * columns + column, mask=mask)
    tl.store(out + row * columns + column, tile * 2, mask=mask)


@mlu.jit
def numbered(out, x, SIZE: tl.constexpr):
    number = tl.program_id(0)
    place = number * SIZE + tl.arange(0, SIZE)
    tl.store(out + place, tl.load(x + place) + number)


@pytest.fixture(params=["native", "interpreter"])
def engine(request, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", request.param)


@pytest.mark.parametrize("n", [1, 16_383, 16_384, 16_385, 50_000, 16_384 * 7])
@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.usefixtures("engine")
def test_elements(n, grid):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n), dtype=np.float32)
    out = np.full(n + 100, 7, np.float32)
    add[(-(-n // 16_384), grid)](out, x, y, n, BLOCK=16_384)
    np.testing.assert_array_equal(out[:n], x + y)
    assert (out[n:] == 7).all()


@pytest.mark.parametrize("rows", [1, 8, 13, 8 * CORES + 3])
@pytest.mark.parametrize(("columns", "stride"), [(1024, 1024), (1000, 1003), (700, 700)])
@pytest.mark.usefixtures("engine")
def test_rows(rows, columns, stride):
    x = np.random.default_rng(rows).integers(-99, 99, (rows, stride)).astype(np.float32)
    out, largest = np.full((rows + 1, stride), 7, np.float32), np.full(rows + 9, 7, np.float32)
    normalize[(-(-rows // 8),)](out, largest, x, rows, columns, stride, ROWS=8, BLOCK=1024)
    top = x[:, :columns].max(axis=1)
    np.testing.assert_array_equal(largest[:rows], top)
    np.testing.assert_array_equal(out[:rows, :columns], x[:, :columns] - top[:, None])
    assert (out[rows:] == 7).all()
    assert (out[:, columns:] == 7).all()
    assert (largest[rows:] == 7).all()


@pytest.mark.usefixtures("engine")
def test_what_is_not_to_be_taken_in_pieces():
    x = np.random.default_rng(0).integers(-9, 9, (30, 3000)).astype(np.float32)
    out = np.zeros_like(x)
    by_columns[(12,)](out, x, 30, 3000, ROWS=32, BLOCK=256)
    np.testing.assert_array_equal(out, 2 * x)
    out = np.zeros((9, 16_384), np.float32)
    numbered[(9,)](out, np.ones_like(out), SIZE=16_384)
    np.testing.assert_array_equal(out, np.broadcast_to(np.arange(1, 10)[:, None], out.shape))


def test_results_in_place_of_operands():
    x = np.arange(16_384 * 5, dtype=np.float32)
    add[(5,)](x, x, x, len(x), BLOCK=16_384)
    np.testing.assert_array_equal(x, 2 * np.arange(len(x)))


def test_cores_get_even_shares():
    """One and a half large programs a core take little longer than what the transfers take."""
    n = 16_384 * CORES * 3 // 2
    x, y, out = (mlu.spec((n,), "float32") for _ in range(3))
    run = mlu.estimate(add, (n // 16_384,), out=out, x=x, y=y, n=n, BLOCK=16_384)
    assert run.cycles < 1.4 * run.work_bound_cycles
    assert run.nram_used_bytes > 300_000


def test_a_fault_names_the_program(monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    x, short = np.zeros(16_384 * 3, np.float32), np.zeros(16_384 * 2, np.float32)
    with pytest.raises(mlu.KernelFault, match=r"program \(2, 0, 0\)"):
        add[(3,)](x, x, short, len(x), BLOCK=16_384)
