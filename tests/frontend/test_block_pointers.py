"""Block pointers, Triton's own or else ours: offsets and boundary checks on every side, in loops and functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triton.compiler.errors import CompilationError

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.frontend.block_pointers import install_block_pointers
from mlutriton.frontend.triton_versions import HAS_BLOCK_POINTERS

pytestmark = pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    install_block_pointers()


@mlu.jit
def copy_block(out, x, rows, columns, row, column, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, PADDING: tl.constexpr):
    block = tl.make_block_ptr(x, (rows, columns), (columns, 1), (row, column), (HEIGHT, WIDTH), (1, 0))
    value = tl.load(block, boundary_check=(0, 1), padding_option=PADDING)
    places = tl.arange(0, HEIGHT)[:, None] * WIDTH + tl.arange(0, WIDTH)
    tl.store(out + places, value.to(block.dtype.element_ty))


@given(rows=st.integers(1, 20), columns=st.integers(1, 20), row=st.integers(-9, 21), column=st.integers(-9, 21))
def test_what_is_outside_is_padded(rows: int, columns: int, row: int, column: int) -> None:
    x = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    padded = np.full((60, 60), np.nan, np.float32)
    padded[20 : 20 + rows, 20 : 20 + columns] = x
    expected = padded[20 + row : 28 + row, 20 + column : 36 + column]
    out = np.zeros((8, 16), np.float32)
    copy_block[(1,)](out, x, rows, columns, row, column, HEIGHT=8, WIDTH=16, PADDING="nan")
    np.testing.assert_array_equal(out, expected)
    copy_block[(1,)](out, x, rows, columns, row, column, HEIGHT=8, WIDTH=16, PADDING="zero")
    np.testing.assert_array_equal(out, np.nan_to_num(expected))


@mlu.jit
def next_block(block, STEP: tl.constexpr):
    return tl.advance(block, (0, STEP))


@mlu.jit
def scale_rows(out, x, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    # Both arrays transposed: the axis of consecutive elements is the first.
    source = tl.make_block_ptr(x, (rows, columns), (1, rows), (0, 0), (HEIGHT, WIDTH), (0, 1))
    target = tl.make_block_ptr(out, (rows, columns), (1, rows), (0, 0), (HEIGHT, WIDTH), (0, 1))
    for _ in range(0, columns, WIDTH):
        tl.store(target, tl.load(source, boundary_check=(0, 1)) * 2, boundary_check=(0, 1))
        source = next_block(source, WIDTH)
        target = tl.advance(target, (0, WIDTH))


@given(rows=st.integers(1, 16), columns=st.integers(1, 40))
def test_blocks_advance_through_loops_and_functions(rows: int, columns: int) -> None:
    x = np.random.default_rng(0).standard_normal((columns, rows), np.float32)
    out = np.zeros_like(x)
    scale_rows[(1,)](out, x, rows, columns, HEIGHT=16, WIDTH=8)
    np.testing.assert_array_equal(out, x * 2)


@mlu.jit
def read_unknown_axis(x, BLOCK: tl.constexpr):
    tl.load(tl.make_block_ptr(x, (8,), (1,), (0,), (BLOCK,), (0,)), boundary_check=(1,))


def test_an_axis_that_is_none_is_refused_at_its_line() -> None:
    with pytest.raises(CompilationError) as caught:
        read_unknown_axis[(1,)](np.zeros(8, np.float32), BLOCK=8)
    line = read_unknown_axis.fn.__code__.co_firstlineno + 2
    assert any(f"test_block_pointers.py:{line}:" in note for note in caught.value.__notes__)
    assert HAS_BLOCK_POINTERS or "boundary_check: the axes are 0 to 0" in str(caught.value)
