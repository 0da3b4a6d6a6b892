"""Names of kernels, parameters and variables that assembly would read as something else."""

from __future__ import annotations

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def inf(r6, nan, größe, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    x1 = tl.load(r6 + lanes)
    x = tl.load(nan + lanes)
    r = x1 * x
    r2 = r + x
    r1 = tl.cumsum(r2, 0)
    x10 = tl.cumsum(r1 + x1, 0)
    r11 = tl.cumsum(x10, 0)
    tl.store(größe + lanes, r11 + r1)


def test_any_python_name_will_do() -> None:
    a, b = np.random.default_rng(0).integers(0, 9, (2, 64)).astype(np.float32)
    result = np.zeros(64, np.float32)
    inf[(1,)](a, b, result, BLOCK=64)
    sums = np.cumsum(a * b + b)
    np.testing.assert_array_equal(result, np.cumsum(np.cumsum(sums + a)) + sums)
