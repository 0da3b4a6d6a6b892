"""Blocks that change places: whole blocks of the native transpose go through registers, what is left one by one."""

import ctypes

import numpy as np
import pytest

from mlutriton.launch import runtime

GUARD_BYTES = 128


@pytest.fixture(scope="module", name="transpose")
def transpose_fixture():
    return runtime("transpose").function("transpose", [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 4)


@pytest.mark.parametrize("inner_bytes", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize(
    ("batch", "rows", "columns"),
    [(1, 16, 16), (1, 128, 32), (2, 32, 48), (3, 17, 33), (2, 15, 16), (2, 16, 15), (1, 7, 80), (1, 1, 40), (2, 0, 16)],
)
def test_rows_become_columns(transpose, inner_bytes, batch, rows, columns):
    source = np.random.default_rng(0).integers(0, 256, (batch, rows, columns, inner_bytes), np.uint8)
    images = [np.full(each.size + GUARD_BYTES, 0x11, np.uint8) for each in (source, source)]
    images[1][: source.size] = source.reshape(-1)
    transpose(*(each.ctypes.data for each in images), batch, rows, columns, inner_bytes)
    found = images[0][: source.size].reshape(batch, columns, rows, inner_bytes)
    np.testing.assert_array_equal(found, source.transpose(0, 2, 1, 3))
    assert (images[0][source.size :] == 0x11).all()
