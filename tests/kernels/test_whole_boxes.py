"""Loads whose masks are no boxes take whole ones where the array holds them, and touch nothing else elsewhere."""

from pathlib import Path

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton import placement
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def half_plane(
    out, x, rows, columns, stride, bound, A: tl.constexpr, B: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    """What of a matrix lies where ``A * row + B * column < bound``, else -1."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    inside = (r < rows) & (c < columns)
    value = tl.load(x + r * stride + c, mask=inside & (A * r + B * c < bound), other=-1.0)
    tl.store(out + r * columns + c, value, mask=inside)


@mlu.jit
def lower(out, x, n, BM: tl.constexpr, BN: tl.constexpr):
    """The lower triangle of each of some matrices, whose columns only the diagonal bounds, in a loop."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    matrix = tl.program_id(1) * n * n
    for start in range(0, n, BN):
        c = start + tl.arange(0, BN)[None, :]
        value = tl.load(x + matrix + r * n + c, mask=(r < n) & (c <= r), other=0.0)
        tl.store(out + matrix + r * n + c, value, mask=(r < n) & (c < n))


@mlu.jit
def disc(out, x, n, radius, B: tl.constexpr):
    y, z = tl.program_id(0) * B + tl.arange(0, B)[:, None], tl.program_id(1) * B + tl.arange(0, B)[None, :]
    dy, dz = y - n // 2, z - n // 2
    inside = (y < n) & (z < n)
    value = tl.load(x + y * n + z, mask=inside & (dy * dy + dz * dz < radius * radius), other=0.0)
    tl.store(out + y * n + z, value, mask=inside)


@mlu.jit
def chosen(out, x, flags, n, other, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    is_chosen = tl.load(flags + i, mask=i < n, other=0) != 0
    tl.store(out + i, tl.load(x + i, mask=(i < n) & is_chosen, other=other), mask=i < n)


@mlu.jit
def chosen_everywhere(out, x, flags, n, B: tl.constexpr):
    """As `chosen`, with nothing that bounds what is loaded but the flags."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    is_chosen = tl.load(flags + i, mask=i < n, other=0) != 0
    tl.store(out + i, tl.load(x + i, mask=is_chosen, other=0.0), mask=i < n)


def part_of(whole, first, last):
    """An array that begins and ends with these elements, with room for others around it."""
    return whole.reshape(-1)[first : last + 1]


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1), (2, -3), (0, 1)])
@pytest.mark.parametrize("bound", [-30, -3, 0, 5, 47, 300])
def test_only_the_array_is_touched(signs, bound):
    """The array is cut off behind the last element that is chosen, and has no more than its rows' columns."""
    rows, columns, stride = 45, 70, 75
    a, b = signs
    where = a * np.arange(rows)[:, None] + b * np.arange(columns) < bound
    whole = RANDOM.standard_normal((rows, stride)).astype(np.float32)
    last = max((r * stride + c for r, c in np.argwhere(where)), default=0)
    out = np.empty((rows, columns), np.float32)
    for end in (last, whole.size - 1):
        x = part_of(whole, 0, end)

        def launch(x=x):
            return half_plane[(3, 3)](out, x, rows, columns, stride, bound, a, b, 16, 32)

        on_both_engines(launch, out)
        np.testing.assert_array_equal(out, np.where(where, whole[:, :columns], np.float32(-1)))


@pytest.mark.parametrize("n", [1, 31, 64, 100])
def test_a_triangle_bounds_its_columns(n):
    x, out = RANDOM.standard_normal((2, n, n)).astype(np.float32), np.empty((2, n, n), np.float32)
    run = on_both_engines(lambda: lower[(-(-n // 16), 2)](out, x, n, 16, 64), out)
    np.testing.assert_array_equal(out, np.tril(x))
    # Elements one by one take 28 cycles each.
    assert run.cycles < 28 * 16 * 64 * -(-n // 64)


def test_tiles_beyond_the_diagonal_load_nothing():
    n = 256
    x, out = RANDOM.standard_normal((n, n)).astype(np.float32), np.empty((n, n), np.float32)
    run = on_both_engines(lambda: lower[(n // 16, 1)](out, x, n, 16, 16), out)
    np.testing.assert_array_equal(out, np.tril(x))
    assert run.dram_read_bytes < 4 * n * (n + 16) // 2 + 4 * 16 * n


@pytest.mark.parametrize("machine", ["mlu370-x4", "mlu590-m9", "mlu220"])
@pytest.mark.parametrize("n", [64, 90])
def test_a_disc_is_loaded_in_boxes(machine, n):
    x, out = RANDOM.standard_normal((n, n)).astype(np.float32), np.empty((n, n), np.float32)
    mlu.set_machine(machine)
    try:
        run = on_both_engines(lambda: disc[(-(-n // 32), -(-n // 32))](out, x, n, 40, 32), out)
    finally:
        mlu.set_machine("mlu590-m9")
    distance = (np.arange(n) - n // 2) ** 2
    np.testing.assert_array_equal(out, np.where(distance[:, None] + distance < 1600, x, 0))
    assert run.cycles < run.machine.gather_item_cycles * 32 * 32


@pytest.mark.parametrize("other", [0.0, 2.5])
def test_a_mask_that_is_loaded_drops_what_is_not_chosen(other):
    n = 5000
    x, flags, out = RANDOM.standard_normal(n).astype(np.float32), RANDOM.random(n) < 0.5, np.empty(n, np.float32)
    run = on_both_engines(lambda: chosen[(5,)](out, x, flags, n, other, 1024), out)
    np.testing.assert_array_equal(out, np.where(flags, x, np.float32(other)))
    assert run.cycles < 28 * 1024
    # What is not there is not touched: the same of an array without the end that nobody chooses.
    flags[-100:] = False
    shorter = on_both_engines(lambda: chosen[(5,)](out, x[:-100], flags, n, other, 1024), out)
    np.testing.assert_array_equal(out, np.where(flags, x, np.float32(other)))
    assert shorter.cycles > run.cycles


def test_what_is_chosen_outside_of_the_array_is_a_fault(monkeypatch):
    n = 2000
    x, flags, out = np.ones(n, np.float32), np.zeros(n, np.bool_), np.empty(n, np.float32)
    flags[n - 51] = True
    on_both_engines(lambda: chosen[(2,)](out, x[:-50], flags, n, 0.0, 1024), out)
    flags[n - 50] = True
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        with pytest.raises(mlu.KernelFault, match="E0301") as caught:
            chosen[(2,)](out, x[:-50], flags, n, 0.0, 1024)
        assert caught.value.location is not None
        assert "tl.load(x + i" in Path(__file__).read_text().splitlines()[caught.value.location.line - 1]


def test_what_bounds_nothing_is_compared_with_the_array():
    n = 2000
    x, flags, out = np.ones(2048, np.float32), RANDOM.random(n) < 0.5, np.empty(n, np.float32)
    quick = on_both_engines(lambda: chosen_everywhere[(2,)](out, x, flags, n, 1024), out)
    np.testing.assert_array_equal(out, flags)
    slow = on_both_engines(lambda: chosen_everywhere[(2,)](out, x[:2047], flags, n, 1024), out)
    np.testing.assert_array_equal(out, flags)
    assert quick.cycles < slow.cycles


def test_cycles_alone_are_those_of_a_launch():
    n = 300
    x, out = RANDOM.standard_normal((n, n)).astype(np.float32), np.empty((n, n), np.float32)
    run = disc[(10, 10)](out, x, n, 140, 32)
    assert mlu.estimate(disc, (10, 10), out, x, n, 140, 32).cycles == run.cycles


@mlu.jit
def filled(out, x, flags, n, value, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    is_chosen = tl.load(flags + i, mask=i < n, other=0).to(tl.int1)
    tl.store(out + i, tl.load(x + i, mask=(i < n) & (is_chosen == 0), other=0.0), mask=(i < n) & (is_chosen == 0))
    tl.store(out + i, value, mask=(i < n) & is_chosen)


def test_what_is_filled_is_stored_once():
    n = 5000
    x, flags, out = RANDOM.standard_normal(n).astype(np.float32), RANDOM.random(n) < 0.5, np.empty(n, np.float32)
    run = on_both_engines(lambda: filled[(5,)](out, x, flags, n, 7.0, 1024), out)
    np.testing.assert_array_equal(out, np.where(flags, np.float32(7), x))
    assert run.cycles < run.machine.gather_item_cycles * 1024


@mlu.jit
def two_triangles(out, x, n, R: tl.constexpr, C: tl.constexpr):
    r, c = tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
    tl.store(out + r * n + c, tl.load(x + r * n + c, mask=r >= c, other=0.0) * 2, mask=r >= c)


def test_boxes_of_which_the_code_is_too_long_are_left_out(monkeypatch):
    monkeypatch.setattr(placement, "MAXIMUM_STRIP_OPERATIONS", 90)
    mlu.set_machine("mlu-tiny")
    x, out = RANDOM.standard_normal((256, 512), dtype=np.float32), np.zeros((256, 512), np.float32)
    two_triangles[(1,)](out, x, 512, R=256, C=512)
    np.testing.assert_array_equal(out, np.tril(x * 2))
