"""Loops over programs for which a plan is tried and given up: what it made of buffers is undone."""

import numpy as np

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
