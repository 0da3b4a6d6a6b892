"""Arrays of truth values, which Triton reaches as bytes, and of numbers that are read as others of their size."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def chosen(out, x, truth, rows, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_chosen = tl.load(truth + i, mask=i < n, other=0) != 0
    tl.store(out + i, tl.where(is_chosen, tl.load(x + i, mask=i < n), -1), mask=i < n)


@mlu.jit
def compared(out, x, truth, rows, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(truth + i, tl.load(x + i, mask=i < n) > 0, mask=i < n)


@mlu.jit
def counted(out, x, truth, rows, n, BLOCK: tl.constexpr):
    """Pointers to truth values that a loop advances."""
    i = tl.arange(0, BLOCK)
    place = truth + tl.program_id(0) * BLOCK + i
    total = tl.zeros((BLOCK,), tl.int32)
    for _ in range(0, n, BLOCK):
        total += tl.load(place).to(tl.int32)
        place += BLOCK
    tl.store(out + tl.program_id(0) * BLOCK + i, total)


@mlu.jit
def of_rows(out, x, truth, rows, n, BLOCK: tl.constexpr):
    """Rows that are looked up, of one and of two dimensions."""
    i = tl.arange(0, BLOCK)
    first = truth + tl.load(rows + tl.program_id(0)) * BLOCK
    several = truth + tl.load(rows + tl.arange(0, 4))[:, None] * BLOCK + i[None, :]
    total = tl.load(first + i).to(tl.int32) + tl.sum(tl.load(several).to(tl.int32), 0)
    tl.store(out + tl.program_id(0) * BLOCK + i, total)


@mlu.jit
def turned(out, x, truth, rows, n, BLOCK: tl.constexpr):
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, 16)[None, :]
    value = tl.load(truth + tl.program_id(0) * BLOCK * 16 + j * BLOCK + i)
    tl.store(out + tl.program_id(0) * BLOCK * 16 + i * 16 + j, value.to(tl.int32))


PROGRAMS, BLOCK = 8, 128


def arrays(kernel, dtype):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 40 * BLOCK * 16).astype(dtype)
    x = rng.integers(-5, 5, truth.size, np.int32)
    return np.zeros(truth.size, np.int32), x, truth, rng.integers(0, 16, 64, np.int32), 7 * BLOCK + 5


def expected(kernel, out, x, truth, rows, n):
    count = PROGRAMS * BLOCK
    if kernel is chosen:
        out[:n] = np.where(truth[:n], x[:n], -1)
    elif kernel is compared:
        truth[:n] = x[:n] > 0
    elif kernel is counted:
        for k in range(-(-n // BLOCK)):
            out[:count] += truth[k * BLOCK : k * BLOCK + count]
    elif kernel is of_rows:
        lines = truth.reshape(-1, BLOCK).astype(np.int32)
        out[:count] = (lines[rows[:PROGRAMS]] + lines[rows[:4]].sum(0)).ravel()
    else:
        tiles = truth[: 16 * count].reshape(PROGRAMS, 16, BLOCK).transpose(0, 2, 1)
        out[: 16 * count] = tiles.ravel()


@pytest.mark.parametrize("kernel", [chosen, compared, counted, of_rows, turned])
def test_truth_values_are_bytes(kernel):
    made = arrays(kernel, np.bool_)
    wanted = [np.copy(each) for each in made]
    expected(kernel, *wanted)
    on_both_engines(lambda: kernel[(PROGRAMS,)](*made, BLOCK=BLOCK), made[0], made[2])
    for array, other in zip(made[:3], wanted, strict=False):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("kernel", [chosen, compared, counted, of_rows, turned])
def test_truth_values_take_no_longer_than_bytes(kernel):
    def cycles(dtype):
        *arguments, n = arrays(kernel, dtype)
        return mlu.estimate(kernel, (PROGRAMS,), *arguments, n, BLOCK=BLOCK).cycles

    assert cycles(np.bool_) <= 1.05 * cycles(np.int8)


@mlu.jit
def bits_of_rows(out, x, rows, BLOCK: tl.constexpr):
    """Rows of floats that are looked up, as the integers that their bits are."""
    i = tl.arange(0, BLOCK)
    first = x + tl.load(rows + tl.program_id(0)) * BLOCK
    bits = tl.load((first + i).to(tl.pointer_type(tl.int32), bitcast=True))
    tl.store(out + tl.program_id(0) * BLOCK + i, bits)


@mlu.jit
def halves_of_rows(out, x, rows, BLOCK: tl.constexpr):
    """Every second half of such floats: pointers to what is as long as half of an element."""
    i = tl.arange(0, BLOCK)
    first = x + tl.load(rows + tl.program_id(0)) * BLOCK
    bits = tl.load((first + i).to(tl.pointer_type(tl.int16), bitcast=True) + 1)
    tl.store(out + tl.program_id(0) * BLOCK + i, bits)


@pytest.mark.parametrize("kernel", [bits_of_rows, halves_of_rows])
def test_pointers_become_those_to_another_type(kernel):
    rng = np.random.default_rng(0)
    x, rows = rng.standard_normal((16, BLOCK)).astype(np.float32), rng.integers(0, 16, PROGRAMS, np.int32)
    out = np.zeros((PROGRAMS, BLOCK), np.int32)
    on_both_engines(lambda: kernel[(PROGRAMS,)](out, x, rows, BLOCK=BLOCK), out)
    bits = x[rows].view(np.int32)
    np.testing.assert_array_equal(out, bits if kernel is bits_of_rows else bits >> 16)
