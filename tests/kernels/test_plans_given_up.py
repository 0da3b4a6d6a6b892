"""Loops over programs for which a plan is tried and given up: what it made of buffers is undone."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def scaled_digits(out, x, y, n, LOW: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    at = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[:, None]
    element = tl.arange(0, WIDTH)[None, :]
    mask = (at < n) & (element < WIDTH - 1)
    low, high = at % LOW, at // LOW
    value = tl.load(x + low * WIDTH + element, mask=mask & (low >= 3), other=-3.0)
    value = value * tl.load(y + high, mask=at < n, other=1.0)
    tl.store(out + at * WIDTH + element, value, mask=mask)


def test_offsets_of_gathers_that_get_no_blocks():
    low, width, n = 12, 16, 32
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((low, width), np.float32), rng.standard_normal(4, np.float32)
    out = np.full((48, width), -9, np.float32)
    wanted, at = out.copy(), np.arange(n)
    rows = np.where((at % low >= 3)[:, None], x[at % low], np.float32(-3)) * y[at // low][:, None]
    wanted[:n, : width - 1] = rows[:, :-1]
    mlu.set_machine("mlu-tiny")
    try:
        on_both_engines(lambda: scaled_digits[(1,)](out, x, y, n, LOW=low, BLOCK=1024, WIDTH=width), out)
    finally:
        mlu.set_machine("mlu590-m9")
    np.testing.assert_array_equal(out, wanted)


@mlu.jit
def summed_rows(x, y, bounded, limited, sums, n, rows, BLOCK: tl.constexpr):
    """As it was drawn at random: which buffers met depended on the order of the variables' names."""
    c = tl.arange(0, BLOCK)
    m = c < n
    acc = 0.0
    for row in range(rows):
        t1 = tl.load(x + (tl.program_id(0) * rows + row) * n + c, mask=m, other=0).to(tl.float32)
        t4 = tl.load(y + (tl.program_id(0) * rows + row) * n + c, mask=m, other=0).to(tl.float32)
        t5 = t1 * 4 + 1
        t6 = tl.sum(tl.where(m, t5, 0), 0)
        v0 = tl.minimum(tl.maximum(t5 + t4, -90), 90)
        v1 = tl.minimum(tl.maximum(t5 + 0, -90), 90)
        tl.store(bounded + (tl.program_id(0) * rows + row) * n + c, v0.to(bounded.dtype.element_ty), mask=m)
        tl.store(limited + (tl.program_id(0) * rows + row) * n + c, v1.to(limited.dtype.element_ty), mask=m)
        acc += t6
    tl.store(sums + tl.program_id(0), acc)


@pytest.mark.parametrize("programs", [1, 3])
@pytest.mark.parametrize(("wide", "narrow"), [("float32", "float16"), ("float16", "float32")])
def test_buffers_that_are_given_up_leave_their_names(wide, narrow, programs):
    """Loops of which only one has narrow rows must not meet in one buffer."""
    rows, n = 3, 1948
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-8, 9, (programs, rows, n)).astype(dtype) for dtype in (wide, narrow))
    bounded, limited, sums = np.zeros(x.shape, wide), np.zeros(x.shape, narrow), np.zeros(programs, np.float32)
    mlu.set_machine("mlu370-x4")
    try:
        on_both_engines(
            lambda: summed_rows[(programs,)](x, y, bounded, limited, sums, n, rows, BLOCK=2048), bounded, limited, sums
        )
    finally:
        mlu.set_machine("mlu590-m9")
    value = x.astype(np.float32) * 4 + 1
    np.testing.assert_array_equal(sums, value.sum(axis=(1, 2)))
    np.testing.assert_array_equal(bounded, np.clip(value + y, -90, 90).astype(wide))
    np.testing.assert_array_equal(limited, np.clip(value, -90, 90).astype(narrow))
