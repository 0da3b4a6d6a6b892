"""Pointers that a kernel moves on in its loop, ``pointer += stride``: those of scalars as well as those of rows."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def decayed_sums(out, x, gate, steps, STRIDE: tl.constexpr, WIDTH: tl.constexpr, BACKWARD: tl.constexpr):
    column = tl.arange(0, WIDTH)
    head = tl.program_id(0)
    gates = gate + head
    rows = x + head * WIDTH + column
    results = out + head * WIDTH + column
    if BACKWARD:
        gates += (steps - 1) * STRIDE
        rows += (steps - 1) * STRIDE * WIDTH
        results += (steps - 1) * STRIDE * WIDTH
    step = -STRIDE if BACKWARD else STRIDE
    total = tl.zeros((WIDTH,), tl.float32)
    for _ in range(steps):
        total = total * tl.load(gates) + tl.load(rows)
        tl.store(results, total.to(tl.float16))
        gates += step
        rows += step * WIDTH
        results += step * WIDTH


@mlu.jit
def decayed_sums_by_index(out, x, gate, steps, STRIDE: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    total = tl.zeros((WIDTH,), tl.float32)
    for step in range(steps):
        head = step * STRIDE + tl.program_id(0)
        total = total * tl.load(gate + head) + tl.load(x + head * WIDTH + column)
        tl.store(out + head * WIDTH + column, total.to(tl.float16))


def drawn(steps, heads, width):
    draw = np.random.default_rng(3)
    return draw.standard_normal((steps, heads, width), dtype=np.float32), draw.random((steps, heads), dtype=np.float32)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("steps", "heads"), [(0, 2), (1, 3), (37, 5)])
def test_recurrences(steps, heads, backward):
    x, gate = drawn(steps, heads, 32)
    out, total = np.zeros(x.shape, np.float16), np.zeros((heads, 32), np.float32)
    constants = {"STRIDE": heads, "WIDTH": 32, "BACKWARD": backward}
    on_both_engines(lambda: decayed_sums[(heads,)](out, x, gate, steps, **constants), out)
    for step in reversed(range(steps)) if backward else range(steps):
        total = total * gate[step][:, None] + x[step]
        np.testing.assert_allclose(out[step], total, rtol=1e-3, atol=1e-3)


def test_they_cost_what_places_by_the_index_do():
    x, gate = drawn(200, 32, 32)
    out = np.empty(x.shape, np.float16)
    moved = decayed_sums[(32,)](out, x, gate, 200, STRIDE=32, WIDTH=32, BACKWARD=False).cycles
    by_index = decayed_sums_by_index[(32,)](out, x, gate, 200, STRIDE=32, WIDTH=32).cycles
    assert moved <= 1.05 * by_index


@mlu.jit
def chained(x, count, stride):
    pointer = x + tl.program_id(0) * count * stride
    for _ in range(count - 1):
        value = tl.load(pointer) * 2 + 1
        tl.store(pointer + stride, value)
        pointer += stride


@pytest.mark.parametrize("stride", [1, 3])
def test_what_the_turn_before_stored_is_loaded(stride):
    x = np.random.default_rng(4).integers(0, 9, (3, 12, stride)).astype(np.int32)
    expected = x.copy()
    for place in range(1, 12):
        expected[:, place, 0] = expected[:, place - 1, 0] * 2 + 1
    on_both_engines(lambda: chained[(3,)](x, 12, stride), x)
    np.testing.assert_array_equal(x, expected)


@mlu.jit
def moved_unevenly(out, x, strides, narrow: tl.int8, count):
    along, back = x, x + 100
    place = out
    for turn in range(count):
        tl.store(place, tl.load(along) + tl.load(back))
        along += tl.load(strides + turn)
        back += narrow
        place += 1
    tl.store(place, tl.load(back))


def test_strides_that_are_loaded_narrow_or_needed_behind_the_loop():
    draw = np.random.default_rng(5)
    x, strides = draw.integers(0, 99, 200).astype(np.int32), draw.integers(0, 4, 30).astype(np.int32)
    out = np.zeros(31, np.int32)
    on_both_engines(lambda: moved_unevenly[(1,)](out, x, strides, -3, 30), out)
    back = x[100 - 3 * np.arange(31)]
    np.testing.assert_array_equal(out[:30], x[np.cumsum(strides) - strides] + back[:30])
    assert out[30] == back[30]
