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
