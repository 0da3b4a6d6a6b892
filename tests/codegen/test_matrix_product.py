"""The matrix product by itself: edges of zeros, which it need not multiply, do not show in a bit of the result.

Nor does the block of registers that a host has for it.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.codegen.llvm.host import MicroKernel
from mlutriton.codegen.llvm.runtime import matrix, special_module
from mlutriton.dtypes import BY_NAME
from mlutriton.isa.table import WRAM_STRIP_COLUMNS
from mlutriton.simulator.interpreter.orders import matrix_product
from mlutriton.simulator.native import compile_llvm

SLACK_BYTES = 4096
STALE = 0x11
SPECIAL = [np.inf, -np.inf, np.nan, -0.0, 1e-30, -1e30]


@cache
def product(dtype):
    module = compile_llvm(special_module(f"mm_{dtype}"), cache_key=None)
    return module.function(f"mm_{dtype}", [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 5)


def image(array):
    """The bytes of an array as on the chip, where something stands behind them."""
    data = np.full(array.nbytes + SLACK_BYTES, STALE, np.uint8)
    data[: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    return data


def strips(w):
    depth, columns = w.shape
    count = -(-columns // WRAM_STRIP_COLUMNS)
    padded = np.zeros((depth, count * WRAM_STRIP_COLUMNS), np.float32)
    padded[:, :columns] = w
    return padded.reshape(depth, count, WRAM_STRIP_COLUMNS).transpose(1, 0, 2).copy()


def assert_native_equals_interpreter(dtype, c, a, w, accumulate, native=product):
    (rows, lda), (depth, columns) = a.shape, w.shape
    images = [image(c), image(a), image(strips(w)), np.zeros(4 * rows * depth + SLACK_BYTES, np.uint8)]
    native(dtype)(*(each.ctypes.data for each in images), rows, columns, depth, lda, accumulate)
    found = images[0][: c.nbytes].view(c.dtype).reshape(c.shape)
    assert (images[0][c.nbytes :] == STALE).all()
    with np.errstate(all="ignore"):
        expected = matrix_product(a[:, :depth], w.astype(a.dtype), c if accumulate else np.zeros_like(c))
    # Which NaN it is, nobody says.
    same = (found.view(np.int32) == expected.view(np.int32)) | (np.isnan(found) & np.isnan(expected))
    assert same.all(), np.argwhere(~same)[:3]


def operands(dtype, rows, columns, depth, seed):
    generator = np.random.default_rng(seed)
    if dtype == "i8":
        a, w = (generator.integers(-128, 128, shape).astype(np.int8) for shape in ((rows, depth + 3), (depth, columns)))
        c = generator.integers(-(2**31), 2**31, (rows, columns)).astype(np.int32)
    else:
        shapes = (rows, depth + 3), (depth, columns), (rows, columns)
        a, w, c = (generator.standard_normal(shape, np.float32) for shape in shapes)
        a, w = (each.astype(BY_NAME[dtype].numpy) for each in (a, w))
    return c, a, w


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("depth", [1, 40, 1030])
def test_a_tile_that_reaches_past_a_matrix(dtype, accumulate, depth):
    c, a, w = operands(dtype, 45, 150, depth, seed=depth)
    a[30:], w[:, 70:], c[30:], c[:, 70:] = 0, 0, 0, 0
    a[:, depth * 3 // 4 :], w[depth * 3 // 4 :] = 0, 0
    assert_native_equals_interpreter(dtype, c, a, w, accumulate)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("where", ["a", "w", "c"])
def test_what_zeros_are_multiplied_with_shows_if_it_may(special, where):
    """Zero times infinity is NaN, and -0 plus 0 is 0."""
    for place in ((0, 0), (-1, 0), (0, -1), (-1, -1), (20, 20)):
        c, a, w = operands("f32", 45, 150, 40, seed=1)
        a[30:], w[:, 70:], c[30:], c[:, 70:] = 0, 0, 0, 0
        {"a": a[:, :40], "w": w, "c": c}[where][place] = special
        assert_native_equals_interpreter("f32", c, a, w, 1)


def test_zeros_along_the_depth_take_the_sign_from_a_zero():
    c, a, w = operands("f32", 9, 70, 20, seed=2)
    a[:], w[:] = 0, 0
    c[:] = -0.0
    assert_native_equals_interpreter("f32", c, a, w, 1)
    assert_native_equals_interpreter("f32", c, -a, w, 1)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_edges_of_zeros(data):
    dtype = data.draw(st.sampled_from(["f32", "f16", "i8"]))
    rows, columns, depth = (data.draw(st.integers(1, most)) for most in (40, 140, 60))
    c, a, w = operands(dtype, rows, columns, depth, data.draw(st.integers(0, 1000)))
    # Numbers of rows and columns that are zero, or all of them.
    some = st.one_of(st.just(0), st.integers(0, 150))
    first_row, first_column = (max(0, extent - data.draw(some)) for extent in (rows, columns))
    a[first_row:], w[:, first_column:] = 0, 0
    a[:, max(0, depth - data.draw(some)) :], w[max(0, depth - data.draw(some)) :] = 0, 0
    if data.draw(st.booleans()):
        c[first_row:], c[:, first_column:] = 0, 0
    if dtype != "i8":
        for array in data.draw(st.lists(st.sampled_from([a, w, c]), max_size=2)):
            array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(SPECIAL[:4]))
    assert_native_equals_interpreter(dtype, c, a, w, data.draw(st.integers(0, 1)))


@pytest.mark.parametrize("block", [MicroKernel(8, 32), MicroKernel(6, 16), MicroKernel(4, 8)], ids=str)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "i8"])
def test_every_host_makes_the_same(dtype, block, monkeypatch):
    """One without long vectors, too: the blocks of registers are those of host.py."""
    monkeypatch.setattr(matrix, "micro_kernel", lambda: block)
    native = cache(product.__wrapped__)
    for rows, columns, depth in ((1, 1, 1), (45, 150, 40), (13, 41, 1030), (8, 64, 7), (21, 16, 9), (3, 15, 150)):
        c, a, w = operands(dtype, rows, columns, depth, seed=3)
        assert_native_equals_interpreter(dtype, c, a, w, 1, native)
        assert_native_equals_interpreter(dtype, c, a, w, 0, native)


def test_few_columns_have_a_kernel_of_their_own(monkeypatch):
    monkeypatch.setattr(matrix, "micro_kernel", lambda: MicroKernel(8, 32))
    assert "@kernel_8x16_float" in special_module("mm_f32")
