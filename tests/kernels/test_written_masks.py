"""Masks are boxes in whatever way a kernel writes them."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines


@mlu.jit
def conjunction(out, x, n, m, WAY: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """One more than what is where ``row < n and column < m``, written in so many ways."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    c = tl.arange(0, BN)[None, :]
    if WAY == "product":
        mask = (r < n) * (c < m)
    elif WAY == "negation":
        mask = ~((r >= n) | (c >= m))
    elif WAY == "scalar":
        mask = tl.where(n > 0, (r < n) & (c < m), False)
    elif WAY == "negated scalar":
        mask = ~((r >= n) | (c >= m) | (n <= 0))
    else:
        mask = (r < n) & (c < m)
    tl.store(out + r * BN + c, tl.load(x + r * BN + c, mask=mask, other=0.0) + 1, mask=mask)


@pytest.mark.parametrize("sizes", [(50, 27), (64, 32), (-3, 8), (7, -1)])
@pytest.mark.parametrize("way", ["product", "negation", "scalar", "negated scalar"])
def test_conjunctions_are_boxes(way, sizes):
    n, m = sizes
    x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    expected = np.zeros_like(x)
    expected[: max(n, 0), : max(m, 0)] = x[: max(n, 0), : max(m, 0)] + 1

    def launch(way):
        out = np.zeros_like(x)
        run = conjunction[(4,)](out, x, n, m, way, BM=16, BN=32)
        np.testing.assert_array_equal(out, expected)
        return run

    plain = launch("plain")
    run = on_both_engines(lambda: launch(way))
    # A number that decides as well takes some scalar arithmetic.
    assert run.cycles < plain.cycles + 300
