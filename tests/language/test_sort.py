"""Sorting networks of the language."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import call


@mlu.jit
def descending(x):
    return tl.sort(x, descending=True)


@mlu.jit
def four_greatest(x):
    return tl.topk(x, 4)


@mlu.jit
def merged(x):
    return tl.bitonic_merge(x)


@pytest.mark.parametrize("shape", [(2,), (32,), (4, 8), (2, 2, 16)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.int64, np.float16, np.float32])
def test_sort_along_the_last_axis(dtype, shape):
    x = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    np.testing.assert_array_equal(call(tl.sort, x, result=x), np.sort(x))
    if len(shape) == 1:
        np.testing.assert_array_equal(call(descending, x, result=x), np.sort(x)[::-1])


@pytest.mark.parametrize("shape", [(16,), (4, 16)])
def test_topk(shape):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    want = np.flip(np.sort(x), -1)[..., :4]
    np.testing.assert_array_equal(call(four_greatest, x, result=want), want)


def test_bitonic_merge_of_rise_and_fall():
    x = np.sort(np.random.default_rng(2).integers(0, 99, (2, 8)).astype(np.int32))
    rise_and_fall = np.concatenate([x[0], x[1][::-1]])
    np.testing.assert_array_equal(call(merged, rise_and_fall, result=rise_and_fall), np.sort(rise_and_fall))


@mlu.jit
def sort_rows(out, x, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out + i, tl.sort(tl.load(x + i)))


@mlu.jit
def sort_table(out, x, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    program, row = tl.program_id(0), tl.arange(0, M)[:, None]
    values = tl.load(x + program * M * N + row * N + tl.arange(0, N)[None, :])
    tl.store(out + program * M * K + row * K + tl.arange(0, K)[None, :], tl.topk(values, K))


@pytest.mark.parametrize("warps", [1, 4])
@pytest.mark.parametrize("machine", ["mlu590-m9", "mlu370-x4", "mlu-tiny"])
def test_tables_of_rows(machine, warps):
    """Halves of a tile are those of all of its rows; what is left of them is reduced along the way."""
    mlu.set_machine(machine)
    x = np.random.default_rng(3).integers(-99, 99, (11, 4, 32)).astype(np.float32)
    out = np.empty((11, 4, 8), np.float32)
    sort_table[(11,)](out, x, 4, 32, 8, num_warps=warps)
    np.testing.assert_array_equal(out, np.sort(x)[..., ::-1][..., :8])


def test_an_exchange_takes_a_transpose_and_a_pass_of_comparisons():
    """The other side of each element is its other half, which nothing has to be computed for."""
    x = np.random.default_rng(4).standard_normal((192, 1024)).astype(np.float32)
    out = np.empty_like(x)
    run = sort_rows[(192,)](out, x, 1024)
    np.testing.assert_array_equal(out, np.sort(x))
    assert not any(each.row.name.startswith("red.") for each in run.program.instructions)
    exchanges, transpose_cycles, pass_cycles = 55 * 192 // 48, 64, 32
    assert run.cycles < 3 * exchanges * (transpose_cycles + pass_cycles)


@pytest.mark.parametrize(("length", "is_by_halves"), [(1024, True), (4096, False)])
def test_what_is_not_on_chip_at_once_is_exchanged_as_it_is_written(length, is_by_halves):
    mlu.set_machine("mlu-tiny")
    x = np.random.default_rng(5).standard_normal((2, length)).astype(np.float32)
    out = np.empty_like(x)
    run = sort_rows[(2,)](out, x, length)
    np.testing.assert_array_equal(out, np.sort(x))
    assert is_by_halves == (not any(each.row.name.startswith("red.") for each in run.program.instructions))
