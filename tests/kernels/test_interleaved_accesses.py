"""Accesses to every second, third or fourth element: together they are one, and values are what NumPy says."""

import random

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def rotate(out, x, heads, HALF: tl.constexpr):
    """Pairs of neighbours as complex numbers, times i."""
    base = (tl.program_id(1) * heads + tl.program_id(0)) * 2 * HALF
    i = tl.arange(0, HALF)
    real, imaginary = tl.load(x + base + 2 * i), tl.load(x + base + 2 * i + 1)
    tl.store(out + base + 2 * i, -imaginary)
    tl.store(out + base + 2 * i + 1, real)


@mlu.jit
def permute(out, x, n, STEP: tl.constexpr, FROM: tl.constexpr, B: tl.constexpr):
    """The elements of each group of STEP in another order."""
    i = tl.program_id(0) * B + tl.arange(0, B)
    for k in tl.static_range(STEP):
        value = tl.load(x + i * STEP + FROM[k], mask=i < n, other=7)
        tl.store(out + i * STEP + k, value, mask=i < n)


@mlu.jit
def blend(out, x, rows, columns, STEP: tl.constexpr, TAKEN: tl.constexpr, STORED: tl.constexpr, B0: tl.constexpr,
          B1: tl.constexpr):  # fmt: skip
    """Of pixels under a mask, some channels are read, some of those of the result written, some of them twice."""
    i = tl.program_id(1) * B0 + tl.arange(0, B0)[:, None]
    j = tl.program_id(0) * B1 + tl.arange(0, B1)[None, :]
    mask = (i < rows) & (j < columns)
    pixel = (i * columns + j) * STEP
    total = tl.zeros((B0, B1), tl.float32)
    for k in tl.static_range(len(TAKEN)):
        total = total * 2 + tl.load(x + pixel + TAKEN[k], mask=mask, other=1).to(tl.float32)
    for k in tl.static_range(len(STORED)):
        tl.store(out + pixel + STORED[k], total + k, mask=mask)


@mlu.jit
def crossing(out, n, B: tl.constexpr):
    """Stores of which the later ones overwrite some of the earlier."""
    i = tl.arange(0, B)
    tl.store(out + 2 * i, i, mask=i < n)
    tl.store(out + 2 * i, i + 100, mask=i < n - 5)
    tl.store(out + 2 * i + 1, i + 200, mask=i < n)
    tl.store(out + i, i + 300, mask=i < 3)
    tl.store(out + 2 * i + 1, i + 400, mask=i < n)


@mlu.jit
def overlapping(out, far, PLACES: tl.constexpr, B: tl.constexpr):
    """Stores of every second element that overlap: the last one counts."""
    i = tl.arange(0, B)
    for k in tl.static_range(len(PLACES)):
        place = far if PLACES[k] < 0 else PLACES[k]
        tl.store(out + 2 * i + place, i + 1000 * k)


@mlu.jit
def in_place(x, n, B: tl.constexpr):
    """What is stored first is loaded next."""
    i = tl.arange(0, B)
    mask = i < n
    tl.store(x + 2 * i + 1, tl.load(x + 2 * i, mask=mask) + 1, mask=mask)
    tl.store(x + 2 * i, tl.load(x + 2 * i + 1, mask=mask) + 1, mask=mask)


@pytest.mark.parametrize("half", [16, 64, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pairs_of_neighbours(half, dtype):
    x = np.random.default_rng(0).standard_normal((9, 5, half, 2)).astype(dtype)
    out = np.empty_like(x)
    run = on_both_engines(lambda: rotate[5, 9](out, x, 5, HALF=half), out)
    np.testing.assert_array_equal(out[..., 0], -x[..., 1])
    np.testing.assert_array_equal(out[..., 1], x[..., 0])
    assert run.dram_read_bytes + run.timing.l2_hit_bytes <= x.nbytes


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1), (2, 0, 1), (3, 1, 0, 2), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("n", [64, 301])
def test_groups_in_another_order(order, n):
    x = np.random.default_rng(0).integers(-99, 99, (n, len(order)), np.int32)
    out = np.full_like(x, -1)
    on_both_engines(lambda: permute[-(-n // 64),](out, x, n, STEP=len(order), FROM=order, B=64), out)
    np.testing.assert_array_equal(out, x[:, order])


@pytest.mark.parametrize("seed", range(16))
def test_any_channels(seed):
    choose = random.Random(seed)
    step = choose.choice([2, 3, 4])
    taken = choose.choices(range(step), k=choose.randint(1, 5)) if choose.random() < 0.5 else list(range(step))
    stored = choose.choices(range(step), k=choose.randint(1, 5)) if choose.random() < 0.5 else list(range(step))
    choose.shuffle(taken)
    choose.shuffle(stored)
    rows, columns = choose.choice([3, 8, 20]), choose.choice([16, 33, 100])
    x = np.random.default_rng(seed).integers(-9, 9, (rows, columns, step)).astype(np.float16)
    out = np.full((rows, columns, step), -1, np.float32)
    grid = -(-columns // 32), -(-rows // 8)
    launch = blend[grid]
    on_both_engines(
        lambda: launch(out, x, rows, columns, STEP=step, TAKEN=tuple(taken), STORED=tuple(stored), B0=8, B1=32), out
    )
    total = np.zeros((rows, columns), np.float32)
    for channel in taken:
        total = total * 2 + x[..., channel]
    want = np.full_like(out, -1)
    for k, channel in enumerate(stored):
        want[..., channel] = total + k
    np.testing.assert_array_equal(out, want)


def test_stores_keep_their_order():
    out = np.full(128, -1, np.int32)
    on_both_engines(lambda: crossing[1,](out, 60, B=64), out)
    i, want = np.arange(60), np.full(128, -1, np.int32)
    want[0:120:2] = i
    want[0:110:2] = i[:55] + 100
    want[:3] = np.arange(3) + 300
    want[1:120:2] = i + 400
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("places", [(0, 2, 1), (2, 1, 3, 0), (0, 1, 2, 3), (2, 3, 0, 1), (0, 1, 0), (0, -1, 1)])
@pytest.mark.parametrize("far", [0, 2, 4])
def test_the_last_of_stores_that_overlap_counts(places, far):
    out, want = np.full(140, -1, np.int32), np.full(140, -1, np.int32)
    on_both_engines(lambda: overlapping[1,](out, far, PLACES=places, B=64), out)
    for k, place in enumerate(places):
        want[2 * np.arange(64) + (far if place < 0 else place)] = np.arange(64) + 1000 * k
    np.testing.assert_array_equal(out, want)


def test_loads_behind_stores():
    x = np.arange(128, dtype=np.float32)
    on_both_engines(lambda: in_place[1,](x, 64, B=64), x)
    np.testing.assert_array_equal(x[1::2], np.arange(0, 128, 2) + 1)
    np.testing.assert_array_equal(x[::2], np.arange(0, 128, 2) + 2)


@mlu.jit
def overlapping_rows(out, PITCH: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Stores of every STEP-th element of rows, of which those of one store lie amid those of the others."""
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    for k in tl.static_range(STEP):
        tl.store(out + i * PITCH + j * STEP + k, (k * ROWS + i) * COLUMNS + j)


@mlu.jit
def overlapping_rows_of_any_pitch(out, pitch, STEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The same where only the launch knows how far rows are apart, from the first or back from the last."""
    i, j = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    if pitch < 0:
        out += (1 - ROWS) * pitch
    for k in tl.static_range(STEP):
        tl.store(out + i * pitch + j * STEP + k, (k * ROWS + i) * COLUMNS + j)


@pytest.mark.parametrize("pitch", [-19, 2, 19, 31, 32, 47, 48, 50, -48])
@pytest.mark.parametrize("step", [2, 3])
def test_the_last_of_stores_to_rows_of_any_pitch_counts(pitch, step):
    rows, columns = 8, 16
    out = np.full(rows * abs(pitch) + columns * step, -1, np.int32)
    wanted = out.copy()
    begin = max(0, (1 - rows) * pitch)
    for k in range(step):
        for i in range(rows):
            first = begin + i * pitch + k
            wanted[first : first + columns * step : step] = (k * rows + i) * columns + np.arange(columns)
    on_both_engines(lambda: overlapping_rows_of_any_pitch[(1,)](out, pitch, STEP=step, ROWS=rows, COLUMNS=columns), out)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("pitch", [0, 19, 31, 32, 47, 48, 50])
def test_the_last_of_stores_to_rows_that_overlap_counts(pitch, step):
    rows, columns = 8, 16
    out = np.full(rows * pitch + columns * step, -1, np.int32)
    wanted, numbers = out.copy(), np.arange(step * rows * columns, dtype=np.int32).reshape(step, rows, columns)
    for k in range(step):
        for i in range(rows):
            wanted[i * pitch + k : i * pitch + k + columns * step : step] = numbers[k, i]
    constants = {"PITCH": pitch, "STEP": step, "ROWS": rows, "COLUMNS": columns}
    on_both_engines(lambda: overlapping_rows[(1,)](out, **constants), out)
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def overlapping_planes(
    out, far, near, LAUNCHED: tl.constexpr, FAR: tl.constexpr, NEAR: tl.constexpr,
    PLANES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Stores of every second element of the rows of planes, of which the launch or the kernel knows the pitches."""
    h, i, j = tl.arange(0, PLANES)[:, None, None], tl.arange(0, ROWS)[None, :, None], tl.arange(0, COLUMNS)
    places = h * (far if LAUNCHED else FAR) + i * (near if LAUNCHED else NEAR) + j[None, None, :] * 2
    for k in tl.static_range(2):
        tl.store(out + places + k, ((k * PLANES + h) * ROWS + i) * COLUMNS + j[None, None, :])


@pytest.mark.parametrize("launched", [False, True])
@pytest.mark.parametrize(("far", "near"), [(64, 16), (63, 16), (50, 15), (16, 64), (16, 63), (16, 48), (9, 80), (5, 3)])
def test_the_last_of_stores_to_planes_of_any_pitches_counts(far, near, launched):
    planes, rows, columns = 4, 4, 8
    out = np.full((planes - 1) * far + (rows - 1) * near + 2 * columns, -1, np.int32)
    wanted, numbers = out.copy(), np.arange(2 * planes * rows * columns, dtype=np.int32).reshape(2, planes, rows, -1)
    for k, h, i in np.ndindex(2, planes, rows):
        first = h * far + i * near + k
        wanted[first : first + 2 * columns : 2] = numbers[k, h, i]
    launch = overlapping_planes[(1,)]
    on_both_engines(lambda: launch(out, far, near, launched, far, near, planes, rows, columns), out)
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def rotate_heads(x, cosine, sine, tokens, heads, far, near, BT: tl.constexpr, BH: tl.constexpr, HALF: tl.constexpr):
    """A rotary embedding of pairs of neighbours in place, of several heads of several tokens."""
    token = tl.program_id(0) * BT + tl.arange(0, BT)[:, None, None]
    head = tl.program_id(1) * BH + tl.arange(0, BH)[None, :, None]
    pair = tl.arange(0, HALF)[None, None, :]
    mask = (token < tokens) & (head < heads)
    places = x + token * far + head * near + 2 * pair
    real, imaginary = tl.load(places, mask=mask, other=0.0), tl.load(places + 1, mask=mask, other=0.0)
    c = tl.load(cosine + token * HALF + pair, mask=token < tokens, other=0.0)
    s = tl.load(sine + token * HALF + pair, mask=token < tokens, other=0.0)
    tl.store(places, real * c - imaginary * s, mask=mask)
    tl.store(places + 1, real * s + imaginary * c, mask=mask)


@pytest.mark.parametrize("heads_first", [False, True])
@pytest.mark.parametrize(("tokens", "heads", "half"), [(13, 8, 16), (37, 6, 8), (16, 2, 32), (5, 1, 64)])
def test_heads_of_tokens(tokens, heads, half, heads_first):
    rng = np.random.default_rng(tokens)
    x = rng.integers(-9, 9, (heads, tokens, 2 * half) if heads_first else (tokens, heads, 2 * half)).astype(np.float32)
    c, s = rng.integers(-9, 9, (2, tokens, half)).astype(np.float32)
    by_token = x.swapaxes(0, 1) if heads_first else x
    real, imaginary = by_token[..., ::2], by_token[..., 1::2]
    parts = [real * c[:, None] - imaginary * s[:, None], real * s[:, None] + imaginary * c[:, None]]
    wanted = np.stack(parts, -1).reshape(by_token.shape)
    far, near = (each // 4 for each in by_token.strides[:2])
    launch = rotate_heads[(-(-tokens // 8), -(-heads // 4))]
    on_both_engines(lambda: launch(x, c, s, tokens, heads, far, near, BT=8, BH=4, HALF=half), x)
    np.testing.assert_array_equal(x.swapaxes(0, 1) if heads_first else x, wanted)


def test_heads_of_tokens_move_whole():
    x, (c, s) = np.ones((64, 8, 128), np.float32), np.ones((2, 64, 64), np.float32)
    run = rotate_heads[(4, 2)](x, c, s, 64, 8, 1024, 128, BT=16, BH=4, HALF=64)
    # Each of 8 cores has 64 rows of 64 pairs; each number by itself would take 28 cycles.
    assert run.cycles < 64 * 64 * 28
