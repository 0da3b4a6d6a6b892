"""Programs with a version for launches of which more is known: both compute the same, and the right one runs."""

import numpy as np
import pytest
import triton

from benchmarks.kernels import tutorial_matmul


def launch(m, n, k, blocks, **options):
    rng = np.random.default_rng(0)
    # Small whole numbers, so that sums are exact in any order.
    a, b = (rng.integers(-3, 4, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, np.float16)
    block_m, block_n, block_k = blocks
    grid = (triton.cdiv(m, block_m) * triton.cdiv(n, block_n),)
    run = tutorial_matmul[grid](
        a, b, c, m, n, k, k, 1, n, 1, n, 1, BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, GROUP_M=8, **options
    )
    expected = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(c, expected)
    return run


@pytest.mark.parametrize("num_warps", [1, 4])
@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (128, 128, 64),
        (192, 128, 80),
        # Tiles wrap: along the rows, the columns, both.
        (100, 128, 64),
        (128, 90, 64),
        (100, 90, 33),
    ],
)
def test_every_version_computes_the_product(m, n, k, num_warps, engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    launch(m, n, k, (64, 64, 32), num_warps=num_warps)


def test_tiles_that_do_not_wrap_are_single_transfers():
    # Of 512 rows and columns none wraps, of 510 the last ones do: much less would be gained by that alone.
    assert launch(512, 512, 512, (64, 64, 32)).cycles < 0.6 * launch(510, 510, 512, (64, 64, 32)).cycles
