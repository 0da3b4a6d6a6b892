"""Rows are computed as far as their mask goes, and values are those of whole rows."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

WIDTHS = [1, 31, 32, 33, 100, 127, 128, 200, 255, 256]
CORES = mlu.machine("mlu590-m9").cores


@mlu.jit
def reduce_and_scale(out, totals, x, factors, rows, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    factor = tl.load(factors + column, mask=mask)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * columns + column, mask=mask, other=-float("inf"))
        powers = tl.exp(values - tl.max(values, axis=0))
        tl.store(totals + row, tl.sum(powers, axis=0))
        tl.store(out + row * columns + column, powers * factor, mask=mask)


@mlu.jit
def sum_tiles(out, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row[:, None] < rows) & (column < columns)
    tile = tl.load(x + row[:, None] * columns + column, mask=mask, other=0.0)
    tl.store(out + row, tl.sum(tile, axis=1), mask=row < rows)


@mlu.jit
def spread_of_rows(out, x, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row * columns + column, mask=mask, other=0.0)
    centred = tl.where(mask, values - tl.sum(values, axis=0) / columns, 0.0)
    tl.store(out + row, tl.sum(centred * centred, axis=0))


@mlu.jit
def padded_sum(out, x, columns, BLOCK: tl.constexpr):
    """What stands behind the mask counts."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + column, mask=column < columns, other=1.0)
    tl.store(out + row, tl.sum(values, axis=0))


@mlu.jit
def running_totals(out, x, weights, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x + row * columns + column, mask=mask, other=3.0)
    doubled = (values + values).to(tl.int32) * tl.load(weights + column, mask=mask, other=5)
    tl.store(out + row * columns + column, tl.cumsum(doubled, axis=0) + column, mask=mask)


@pytest.fixture(params=["native", "interpreter"])
def engine(request, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", request.param)


def numbers(rows, columns):
    return np.random.default_rng(columns).integers(-8, 8, (rows, columns)).astype(np.float32)


def guarded(shape, dtype=np.float32):
    """An array with elements behind it that must stay."""
    memory = np.full(int(np.prod(shape)) + 300, 7, dtype)
    return memory[:-300].reshape(shape), memory[-300:]


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.usefixtures("engine")
def test_reductions_and_broadcasts(columns):
    rows = 2 * CORES + 7
    x, factors = numbers(rows, columns), numbers(1, columns)[0]
    out, guard = guarded(x.shape)
    totals, other_guard = guarded((rows,))
    reduce_and_scale[(2,)](out, totals, x, factors, rows, columns, BLOCK=256)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(totals, powers.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(out, powers * factors, rtol=1e-6, atol=1e-30)
    assert (guard == 7).all()
    assert (other_guard == 7).all()


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.usefixtures("engine")
def test_tiles_of_rows(columns):
    x = numbers(100, columns)
    out, guard = guarded((100,))
    sum_tiles[(13,)](out, x, 100, columns, ROWS=8, BLOCK=256)
    np.testing.assert_array_equal(out, x.sum(axis=1))
    assert (guard == 7).all()


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.usefixtures("engine")
def test_what_the_kernel_itself_masks(columns):
    x = numbers(20, columns)
    x -= x.mean(axis=1, keepdims=True).round()
    out, _ = guarded((20,))
    spread_of_rows[(20,)](out, x, columns, BLOCK=256)
    np.testing.assert_allclose(out, ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.usefixtures("engine")
def test_padding_that_counts(columns):
    x = numbers(20, columns)
    out, _ = guarded((20,))
    padded_sum[(20,)](out, x, columns, BLOCK=256)
    np.testing.assert_array_equal(out, x.sum(axis=1) + (256 - columns))


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.usefixtures("engine")
def test_scans_of_other_types(columns):
    x, weights = numbers(20, columns), np.arange(columns, dtype=np.int32)
    out, guard = guarded(x.shape, np.int32)
    running_totals[(20,)](out, x, weights, columns, BLOCK=256)
    np.testing.assert_array_equal(out, np.cumsum(2 * x.astype(np.int32) * weights, axis=1) + np.arange(columns))
    assert (guard == 7).all()


@pytest.mark.usefixtures("engine")
def test_rows_of_nothing_and_rows_of_special_values():
    """Sums and maxima are those of a row with padding: of -0.0 and 0.0, of NaN and minus infinity, of nothing."""
    out, _ = guarded((3,))
    sum_tiles[(1,)](out, np.full((3, 96), -0.0, np.float32), 3, 96, ROWS=4, BLOCK=256)
    assert not np.signbit(out).any()
    x = np.full((3, 256), -0.0, np.float32)
    sum_tiles[(1,)](out, x, 3, 256, ROWS=4, BLOCK=256)
    assert np.signbit(out).all()
    sum_tiles[(1,)](out, x, 3, 0, ROWS=4, BLOCK=256)
    assert (out == 0).all()
    x = np.zeros((3, 96), np.float32)
    x[0], x[1, 5], x[2] = -np.inf, np.nan, np.nan
    result, totals, factors = np.zeros_like(x), np.zeros(3, np.float32), np.ones(96, np.float32)
    reduce_and_scale[(1,)](result, totals, x, factors, 3, 96, BLOCK=256)
    assert np.isnan(totals).all()
    assert np.isnan(result[[0, 2]]).all()
    assert np.isnan(result[1, 5])
    assert (result[1, :5] == 1).all()


@pytest.mark.parametrize("kernel", ["softmax", "sums", "spread"])
def test_narrow_rows_take_less_arithmetic(kernel):
    def busy(columns):
        """Cycles of the vector units."""
        x, out, totals = (
            mlu.spec((960, columns), "float32"),
            mlu.spec((960, columns), "float32"),
            mlu.spec((960,), "float32"),
        )
        match kernel:
            case "softmax":
                factors = mlu.spec((columns,), "float32")
                run = mlu.estimate(
                    reduce_and_scale, (CORES,), out=out, totals=totals, x=x, factors=factors, rows=960,
                    columns=columns, BLOCK=1024,
                )  # fmt: skip
            case "sums":
                run = mlu.estimate(sum_tiles, (120,), out=totals, x=x, rows=960, columns=columns, ROWS=8, BLOCK=1024)
            case _:
                run = mlu.estimate(spread_of_rows, (960,), out=totals, x=x, columns=columns, BLOCK=1024)
        return run.vector_utilization * run.cycles

    assert busy(600) < 0.75 * busy(1024)
    assert busy(1023) == pytest.approx(busy(1024), rel=0.02)


@mlu.jit
def share_of_bits(out, totals, x, columns, BLOCK: tl.constexpr):
    """Padding is written as one type and read as another: 1.0 has 7 bits, and the integer 1 is no 1.0."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    values = tl.load(x + row * columns + column, mask=column < columns, other=1.0)
    bits = values.to(tl.int32, bitcast=True)
    counts = (bits >> 23) & 1
    tl.store(totals + row, tl.sum(counts, axis=0) + tl.max(bits & 1, axis=0))
    tiny = counts.to(tl.float32, bitcast=True)
    tl.store(out + row * columns + column, values + tl.sum(tiny, axis=0), mask=column < columns)


@pytest.mark.parametrize("columns", [31, 100, 255])
def test_padding_read_as_another_type(columns, engine):
    x = np.random.default_rng(0).standard_normal((4, columns)).astype(np.float32)
    out, totals = np.zeros_like(x), np.zeros(4, np.int32)
    share_of_bits[(4,)](out, totals, x, columns, BLOCK=256)
    rows = np.ones((4, 256), np.float32)
    rows[:, :columns] = x
    bits = rows.view(np.int32)
    np.testing.assert_array_equal(totals, ((bits >> 23) & 1).sum(1) + (bits & 1).max(1))
    np.testing.assert_array_equal(out, x)


@mlu.jit
def copy_and_double(copied, doubled, x, y, columns, BLOCK: tl.constexpr):
    """Two tiles that have nothing in common but their width."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    place = row * columns + column
    tl.store(copied + place, tl.load(x + place, mask=mask, other=0.5), mask=mask)
    values = tl.load(y + place, mask=mask, other=0.5)
    tl.store(doubled + place, values + values, mask=mask)


@pytest.mark.parametrize("columns", [1, 100, 200])
@pytest.mark.usefixtures("engine")
def test_tiles_apart_of_one_width(columns):
    rng = np.random.default_rng(columns)
    x, y = (rng.random((60, columns), np.float32) for _ in range(2))
    copied, doubled = np.zeros_like(x), np.zeros_like(x)
    copy_and_double[(60,)](copied, doubled, x, y, columns, BLOCK=256)
    np.testing.assert_array_equal(copied, x)
    np.testing.assert_array_equal(doubled, y + y)
