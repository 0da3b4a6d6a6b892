"""Loops over the places of a short window are written out: pools and filters, whose programs are straight then.

Those within a loop over channels are written out as well.
"""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.trace_format import Kind, unpack
from tests.kernels.engines import on_both_engines


@mlu.jit
def greatest(out, x, height, width, rows, columns, step, K: tl.constexpr, BLOCK: tl.constexpr, WRITTEN: tl.constexpr):
    """The greatest of K x K places around each, a row of an image a program, in loops or written out by hand."""
    row, image = tl.program_id(0) % rows, tl.program_id(0) // rows
    column = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    if WRITTEN:
        for dy in tl.static_range(K):
            for dx in tl.static_range(K):
                y, z = row * step - K // 2 + dy, column * step - K // 2 + dx
                inside = (y >= 0) & (y < height) & (z >= 0) & (z < width) & (column < columns)
                place = x + image * height * width + y * width + z
                best = tl.maximum(best, tl.load(place, mask=inside, other=float("-inf")))
    else:
        for dy in range(K):
            for dx in range(K):
                y, z = row * step - K // 2 + dy, column * step - K // 2 + dx
                inside = (y >= 0) & (y < height) & (z >= 0) & (z < width) & (column < columns)
                place = x + image * height * width + y * width + z
                best = tl.maximum(best, tl.load(place, mask=inside, other=float("-inf")))
    tl.store(out + tl.program_id(0) * columns + column, best, mask=column < columns)


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4"], indirect=True)
@pytest.mark.parametrize(("step", "size"), [(1, 3), (2, 3), (2, 2), (1, 5)])
def test_pools(step, size, machine):
    images, height, width = 4, 30, 41
    x = np.random.default_rng(0).standard_normal((images, height, width)).astype(np.float32)
    around = np.full((images, height + 2 * size, width + 2 * size), -np.inf, np.float32)
    around[:, size:-size, size:-size] = x
    rows, columns = (height - 1) // step + 1, (width - 1) // step + 1
    expected = np.full((images, rows, columns), -np.inf, np.float32)
    for dy in range(size):
        for dx in range(size):
            first = [size - size // 2 + d for d in (dy, dx)]
            window = around[:, first[0] :: step, first[1] :: step]
            expected = np.maximum(expected, window[:, :rows, :columns])
    out = np.empty_like(expected)

    def launch(written):
        sizes = (height, width, rows, columns, step)
        return greatest[(images * rows,)](out, x, *sizes, K=size, BLOCK=64, WRITTEN=written)

    run = on_both_engines(lambda: launch(written=False), out)
    np.testing.assert_array_equal(out, expected)
    assert run.cycles < 1.01 * launch(written=True).cycles


@mlu.jit
def convolved(
    out, x, weights, channels, height, width, filters,
    K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WRITTEN: tl.constexpr
):  # fmt: skip
    """Filters of K x K over channels, of which nobody knows how many there are; weights are loaded one by one."""
    image, number = tl.program_id(0) // filters, tl.program_id(0) % filters
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for channel in range(channels):
        plane = x + (image * channels + channel) * height * width
        if WRITTEN:
            for dy in tl.static_range(K):
                for dx in tl.static_range(K):
                    y, z = row + dy - K // 2, column + dx - K // 2
                    inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
                    weight = tl.load(weights + ((number * channels + channel) * K + dy) * K + dx)
                    total += tl.load(plane + y * width + z, mask=inside, other=0.0) * weight
        else:
            for dy in range(K):
                for dx in range(K):
                    y, z = row + dy - K // 2, column + dx - K // 2
                    inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
                    weight = tl.load(weights + ((number * channels + channel) * K + dy) * K + dx)
                    total += tl.load(plane + y * width + z, mask=inside, other=0.0) * weight
    place = out + tl.program_id(0) * height * width + row * width + column
    tl.store(place, total, mask=(row < height) & (column < width))


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"], indirect=True)
@pytest.mark.parametrize(
    ("rows", "columns", "channels", "height", "width", "size"),
    [(8, 32, 3, 20, 71, 3), (16, 64, 5, 20, 71, 3), (32, 64, 1, 1, 1, 3), (8, 32, 0, 2, 3, 3), (8, 32, 2, 9, 40, 5)],
)
def test_windows_in_loops_over_channels(rows, columns, channels, height, width, size, machine):
    images, filters = 2, 3
    random = np.random.default_rng(0)
    # Whole numbers, of which all sums are exact.
    x = random.integers(-9, 9, (images, channels, height, width)).astype(np.float32)
    weights = random.integers(-9, 9, (filters, channels, size, size)).astype(np.float32)
    edge = size // 2
    around = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    expected = np.zeros((images, filters, height, width), np.float32)
    for dy in range(size):
        for dx in range(size):
            window = around[:, :, dy : dy + height, dx : dx + width]
            expected += np.einsum("ncyx,fc->nfyx", window, weights[:, :, dy, dx])
    out = np.empty_like(expected)
    # Arrays without elements have no place.
    x, weights = (each if each.size else np.zeros(1, np.float32) for each in (x, weights))

    def launch(written):
        grid = (images * filters, -(-height // rows), -(-width // columns))
        sizes = (channels, height, width, filters)
        return convolved[grid](out, x, weights, *sizes, K=size, ROWS=rows, COLUMNS=columns, WRITTEN=written)

    run = on_both_engines(lambda: launch(written=False), out)
    np.testing.assert_array_equal(out, expected)
    assert run.cycles < 1.01 * launch(written=True).cycles


def test_tiles_of_short_rows_that_overlap_are_loaded_once():
    """Neighbours go together whose loads are one for all taps."""
    x = np.ones((1, 8, 64, 128), np.float32)
    weights, out = np.ones((4, 8, 3, 3), np.float32), np.empty((1, 4, 64, 128), np.float32)
    run = convolved[4, 8, 4](out, x, weights, 8, 64, 128, 4, K=3, ROWS=8, COLUMNS=32, WRITTEN=False)
    assert run.dram_read_bytes + run.l2_hit_bytes < 2 * 4 * x.nbytes


def test_weights_side_by_side_are_one_transfer():
    x = np.ones((1, 2, 16, 64), np.float32)
    weights, out = np.ones((1, 2, 3, 3), np.float32), np.empty((1, 1, 16, 64), np.float32)
    run = convolved[1, 1, 1](out, x, weights, 2, 16, 64, 1, K=3, ROWS=16, COLUMNS=64, WRITTEN=False)
    amounts = [each.amount for each in unpack(run.trace.words) if each.kind is Kind.LOAD]
    # Of two channels at once, or one after the other.
    assert sorted(amounts) in ([72, 2 * 4096], [36, 36, 4096, 4096], [72, 4096, 4096])


@mlu.jit
def weighted(out, x, weights, channels, SHIFTS: tl.constexpr, N: tl.constexpr):
    total = tl.zeros([N], tl.float32)
    for channel in range(channels):
        for k in tl.static_range(len(SHIFTS)):
            weight = tl.load(weights + channel * 8 + SHIFTS[k]).to(tl.float32)
            total += tl.load(x + channel * N + tl.arange(0, N)) * weight
            if SHIFTS[k] == 7:
                tl.store(out + tl.arange(0, N), total)
    tl.store(out + tl.arange(0, N), total)


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"], indirect=True)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("shifts", [(0, 1), (3, 2, 1, 0), (5, 1, 2, 5, 6), (0, 2, 4), (0, 7, 1, 6), (4,)])
def test_weights_in_any_order(shifts, dtype, machine):
    random = np.random.default_rng(0)
    x = random.integers(-9, 9, (5, 128)).astype(np.float32)
    weights = random.integers(-9, 9, (5, 8)).astype(dtype)
    out = np.empty(128, np.float32)
    on_both_engines(lambda: weighted[(1,)](out, x, weights, 5, SHIFTS=shifts, N=128), out)
    np.testing.assert_array_equal(out, sum(weights[:, k].astype(np.float32) @ x for k in shifts))


@mlu.jit
def standing(out, x, STEP: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for dy in range(2):
        for dx in range(0, 2, STEP):
            total += tl.load(x + column + dy + dx)
    tl.store(out + column, total)


def test_a_window_that_is_never_over_is_an_error():
    x, out = np.ones(32, np.float32), np.zeros(16, np.float32)
    standing[(1,)](out, x, STEP=1, BLOCK=16)
    np.testing.assert_array_equal(out, 4)
    with pytest.raises(mlu.KernelFault, match="E0305"):
        standing[(1,)](out, x, STEP=0, BLOCK=16)
