"""Loads that overlap are one load; what kernels compute from its parts is what NumPy says, on both engines."""

import random

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

MARGIN = 4


@mlu.jit
def stencil(
    out, x, rows, columns, channels, pitch, plane,
    SHIFTS: tl.constexpr, MASKS: tl.constexpr, STORED: tl.constexpr, OTHER: tl.constexpr, B0: tl.constexpr,
    B1: tl.constexpr,
):  # fmt: skip
    """A sum over shifted tiles of all channels: each shift under a mask of its own kind."""
    i = tl.program_id(1) * B0 + tl.arange(0, B0)[:, None]
    j = tl.program_id(0) * B1 + tl.arange(0, B1)[None, :]
    total = tl.zeros((B0, B1), tl.float32)
    for channel in range(channels):
        for k in tl.static_range(len(SHIFTS)):
            row, column = i + SHIFTS[k][0], j + SHIFTS[k][1]
            place = x + channel * plane + row * pitch + column
            if MASKS[k] == "array":
                value = tl.load(place, (row >= 0) & (row < rows) & (column >= 0) & (column < columns), other=OTHER)
            elif MASKS[k] == "tile":
                value = tl.load(place, (i < rows) & (j < columns), other=OTHER)
            elif MASKS[k] == "causal":
                value = tl.load(place, (row >= 0) & (column >= 0) & (i < rows) & (j < columns), other=OTHER)
            elif MASKS[k] == "short":
                value = tl.load(place, (i < rows) & (j < columns - 2), other=OTHER)
            elif MASKS[k] == "inner":
                value = tl.load(place, (i >= 1) & (i < rows - 1) & (j >= 1) & (j < columns - 1), other=OTHER)
            else:
                value = tl.load(place)
            total = total * 0.5 + value.to(tl.float32) * (k + 1)
    mask = (i < rows) & (j < columns)
    if STORED == "inner":
        mask = (i >= 1) & (i < rows - 1) & (j >= 1) & (j < columns - 1)
    tl.store(out + i * columns + j, total, mask)


def expected(x, rows, columns, shifts, masks, stored, other):
    i, j = np.mgrid[:rows, :columns]
    inner = (i >= 1) & (i < rows - 1) & (j >= 1) & (j < columns - 1)
    total = np.zeros((rows, columns), np.float32)
    for channel in x:
        for k, ((down, right), kind) in enumerate(zip(shifts, masks, strict=True)):
            row, column = i + down, j + right
            mask = {
                "array": (row >= 0) & (row < rows) & (column >= 0) & (column < columns),
                "causal": (row >= 0) & (column >= 0),
                "short": j < columns - 2,
                "inner": inner,
            }.get(kind, np.ones_like(inner))
            value = channel[row + MARGIN, column + MARGIN].astype(np.float32)
            total = total * np.float32(0.5) + np.where(mask, value, np.float32(other)) * np.float32(k + 1)
    return np.where(inner, total, -1) if stored == "inner" else total


def check(rows, columns, channels, shifts, masks, stored="all", other=0.0, dtype=np.float32, block=(16, 64)):
    """Run the stencil over an array with a margin; returns the run and the bytes of the array proper."""
    grid = -(-columns // block[1]), -(-rows // block[0])
    shape = channels, grid[1] * block[0] + 2 * MARGIN, grid[0] * block[1] + 2 * MARGIN
    x = np.random.default_rng(0).integers(-4, 5, shape).astype(dtype)
    out = np.full((rows, columns), -1, np.float32)
    inside = x.reshape(-1)[MARGIN * shape[2] + MARGIN :] if set(masks) == {"array"} else x
    origin = 0 if set(masks) == {"array"} else MARGIN * shape[2] + MARGIN
    run = on_both_engines(
        lambda: shifted[grid](
            out, inside, origin, rows, columns, channels, shape[2], shape[1] * shape[2],
            SHIFTS=tuple(shifts), MASKS=tuple(masks), STORED=stored, OTHER=other, B0=block[0], B1=block[1],
        ),
        out,
    )  # fmt: skip
    np.testing.assert_allclose(out, expected(x, rows, columns, shifts, masks, stored, other), rtol=1e-5)
    return run, channels * rows * columns * np.dtype(dtype).itemsize


@mlu.jit
def shifted(
    out, x, origin, rows, columns, channels, pitch, plane,
    SHIFTS: tl.constexpr, MASKS: tl.constexpr, STORED: tl.constexpr, OTHER: tl.constexpr, B0: tl.constexpr,
    B1: tl.constexpr,
):  # fmt: skip
    """The stencil over an array whose element 0 stands somewhere in another."""
    stencil(out, x + origin, rows, columns, channels, pitch, plane, SHIFTS, MASKS, STORED, OTHER, B0, B1)


SQUARE = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
STAR = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
RING = [shift for shift in SQUARE if shift != (0, 0)]
CAUSAL = [(down, 0) for down in (-3, -2, -1, 0)]
LINE = [(0, right) for right in (-2, -1, 0, 1, 2)]


@pytest.mark.parametrize(
    ("shifts", "kind", "stored", "most_read"),
    [
        (SQUARE, "array", "all", 1.6),
        (SQUARE, "tile", "all", 1.6),
        (STAR, "inner", "inner", 3),
        (RING, "tile", "all", 1.6),
        (CAUSAL, "causal", "all", 1.6),
        (LINE, "none", "all", 1.6),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_overlapping_loads_read_an_array_about_once(shifts, kind, stored, most_read, dtype):
    run, size = check(128, 512, 1, shifts, [kind] * len(shifts), stored, dtype=dtype, block=(32, 128))
    assert run.dram_read_bytes + run.timing.l2_hit_bytes < most_read * size


@pytest.mark.parametrize("seed", range(24))
def test_any_shifts_under_any_masks(seed):
    choose = random.Random(seed)
    shifts = [(choose.randint(-2, 2), choose.randint(-2, 2)) for _ in range(choose.randint(2, 7))]
    kinds = ["array", "tile", "causal", "short", "inner", "none"]
    masks = [choose.choice(kinds)] * len(shifts) if choose.random() < 0.6 else choose.choices(kinds, k=len(shifts))
    check(
        choose.choice([5, 31, 64]), choose.choice([40, 127, 130]), choose.choice([1, 3]), shifts, masks,
        choose.choice(["all", "inner"]), choose.choice([0.0, 3.0]), choose.choice([np.float32, np.float16, np.int32]),
        choose.choice([(16, 64), (32, 64), (8, 128)]),
    )  # fmt: skip


@mlu.jit
def one_iteration_later(out, x, m, count, N: tl.constexpr):
    """Sums of neighbours are stored under the mask of the next iteration, which leaves out fewer of them."""
    i = tl.arange(0, N)
    total = tl.zeros((N,), tl.float32)
    for k in range(2 * count):
        place = (count - 1 - k % count) * N + i
        tl.store(out + k * N + i, total, mask=place < m)
        total = tl.load(x + place, mask=place < m, other=7.0) + tl.load(x + place + 1, mask=place < m, other=7.0) * 3


def test_what_a_loop_hands_on_keeps_what_masks_left_out():
    m, count, block = 5000, 4, 2048
    x = np.random.default_rng(0).integers(-9, 10, count * block + 1).astype(np.float32)
    out, wanted = np.zeros((2 * count, block), np.float32), np.zeros((2 * count, block), np.float32)
    on_both_engines(lambda: one_iteration_later[(1,)](out, x, m, count, N=block), out)
    total = np.zeros(block, np.float32)
    for k in range(2 * count):
        place = (count - 1 - k % count) * block + np.arange(block)
        wanted[k][place < m] = total[place < m]
        total = np.where(place < m, x[place] + x[place + 1] * 3, np.float32(28))
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def sums_and_a_neighbour(total, above, x, rows, columns, pitch, FAR: tl.constexpr, B0: tl.constexpr, B1: tl.constexpr):
    """Of what is loaded with one of the summands, one row above it, nothing is computed: it is stored as it is."""
    i = tl.program_id(1) * B0 + tl.arange(0, B0)[:, None]
    j = tl.program_id(0) * B1 + tl.arange(0, B1)[None, :]
    mask = (i < rows) & (j < columns)
    here = tl.load(x + i * pitch + j, mask)
    left = tl.load(x + i * pitch + j - 3, mask & (j >= 3), other=0)
    higher = tl.load(x + (i - FAR) * pitch + j, mask & (i >= FAR), other=0)
    tl.store(above + i * pitch + j, tl.load(x + (i - FAR - 1) * pitch + j, mask & (i > FAR), other=0), mask)
    tl.store(total + i * pitch + j, here + left * 2 + higher * 3, mask)


@pytest.mark.parametrize("far", [2, 20])
def test_a_box_has_parts_that_are_computed_with_another_box(far):
    rows, columns = 50, 200
    x = np.random.default_rng(0).integers(-9, 10, (rows, columns)).astype(np.int32)
    out = np.zeros((2, rows, columns), np.int32)
    on_both_engines(
        lambda: sums_and_a_neighbour[2, 4](out[0], out[1], x, rows, columns, columns, FAR=far, B0=16, B1=128), out
    )
    padded = np.pad(x, ((far + 1, 0), (3, 0)))
    total = x + padded[far + 1 :, :columns] * 2 + padded[1 : rows + 1, 3:] * 3
    np.testing.assert_array_equal(out, np.stack([total, padded[:rows, 3:]]))
