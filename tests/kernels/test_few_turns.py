"""Loops over a few heads, groups or channels: all turns at once where none touches what another one stores."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

RANDOM = np.random.default_rng(0)


@mlu.jit
def rotated(x, cosine, sine, tokens, HEADS: tl.constexpr, SIZE: tl.constexpr, GROUP: tl.constexpr, HALF: tl.constexpr):
    """Pairs of halves of heads rotated in place, a few heads a program."""
    token, group = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, HALF)
    mask = column < SIZE // 2
    cos = tl.load(cosine + token % tokens * (SIZE // 2) + column, mask=mask, other=0.0)
    sin = tl.load(sine + token % tokens * (SIZE // 2) + column, mask=mask, other=0.0)
    for head in range(group * GROUP, min(group * GROUP + GROUP, HEADS)):
        left = x + (token * HEADS + head) * SIZE + column
        one = tl.load(left, mask=mask, other=0.0)
        other = tl.load(left + SIZE // 2, mask=mask, other=0.0)
        tl.store(left, one * cos - other * sin, mask=mask)
        tl.store(left + SIZE // 2, other * cos + one * sin, mask=mask)


@mlu.jit
def running(x, y, begin, stride, shift, TURNS: tl.constexpr, BLOCK: tl.constexpr):
    """Each turn adds to what lies at its place, a shift further on."""
    column = tl.arange(0, BLOCK)
    for turn in range(TURNS):
        value = tl.load(x + begin + turn * stride + shift + column) + tl.load(y + column)
        tl.store(x + begin + turn * stride + column, value)


@mlu.jit
def normalized(out, x, first, last, columns, BLOCK: tl.constexpr):
    """Rows from the first one to the last, four at most, less their sums."""
    column = tl.arange(0, BLOCK)
    for row in range(first, tl.minimum(last, first + 4)):
        value = tl.load(x + row * BLOCK + column, mask=column < columns, other=0)
        tl.store(out + row * BLOCK + column, value - tl.sum(value, axis=0), mask=column < columns)


def launch_rotated(x, cosine, sine, size, heads, group):
    tokens = len(x)
    half = 1 << (size // 2 - 1).bit_length()
    return rotated[(tokens, -(-heads // group))](x, cosine, sine, len(cosine), heads, size, group, half)


@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4"], indirect=True)
@pytest.mark.parametrize(("size", "heads", "group"), [(64, 8, 4), (80, 6, 4), (16, 3, 3)])
def test_heads_are_rotated_in_place(size, heads, group, machine):
    x = RANDOM.integers(-8, 9, (14, heads, size)).astype(np.float32)
    cosine, sine = RANDOM.integers(-8, 9, (2, 7, size // 2)).astype(np.float32)
    half, cos, sin = size // 2, np.tile(cosine, (2, 1))[:, None], np.tile(sine, (2, 1))[:, None]
    one, other = x[..., :half], x[..., half:]
    expected = np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)
    on_both_engines(lambda: launch_rotated(x, cosine, sine, size, heads, group), x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("stride", "shift"),
    [(64, 0), (100, 0), (40, 0), (0, 0), (-64, 0), (64, 64), (64, -64), (64, 1), (200, 64)],
)
def test_turns_that_meet_are_done_in_order(stride, shift):
    memory, y = RANDOM.integers(-9, 9, 2000, np.int32), np.arange(64, dtype=np.int32)
    expected = memory.copy()
    for turn in range(5):
        begin = 500 + turn * stride
        expected[begin : begin + 64] = expected[begin + shift : begin + shift + 64] + y
    on_both_engines(lambda: running[(1,)](memory, y, 500, stride, shift, 5, 64), memory)
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 3), (1, 9), (3, 3), (5, 2)])
def test_there_may_be_fewer_turns_or_none(first, last):
    x, out = RANDOM.integers(-9, 9, (6, 32), np.int32), np.full((6, 32), 7, np.int32)
    expected = out.copy()
    for row in range(first, min(last, first + 4)):
        expected[row, :30] = x[row, :30] - x[row, :30].sum()
    on_both_engines(lambda: normalized[(1,)](out, x, first, last, 30, 32), out)
    np.testing.assert_array_equal(out, expected)


def test_a_row_of_a_turn_that_is_not_there_is_a_fault():
    x = np.zeros((6, 32), np.int32)
    with pytest.raises(mlu.KernelFault, match="E0301"):
        normalized[(1,)](np.zeros_like(x), x, 4, 8, 32, 32)


def test_no_turn_waits_for_the_one_before():
    x = np.zeros((480, 8, 64), np.float16)
    cosine = np.ones((480, 32), np.float16)
    run = launch_rotated(x, cosine, cosine.copy(), 64, 8, 4)
    # Ten tokens a core, two programs each, of four turns that load and store.
    latency = run.machine.dram_bulk_latency_ns * run.machine.clock_mhz / 1000
    assert run.cycles < 10 * 2 * 4 * latency
