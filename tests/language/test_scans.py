"""Scans of the language along every axis, in both directions."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import call


@mlu.jit
def sums_0(x):
    return tl.cumsum(x, 0)


@mlu.jit
def sums_back(x):
    return tl.cumsum(x, -1, reverse=True)


@mlu.jit
def products(x):
    return tl.cumprod(x, 0)


@mlu.jit
def greater(a, b):
    return tl.maximum(a, b)


@mlu.jit
def maxima(x):
    return tl.associative_scan(x, 0, greater)


@mlu.jit
def maxima_back(x):
    return tl.associative_scan(x, -1, greater, reverse=True)


def backward(function, x):
    return np.flip(function(np.flip(x, -1), axis=-1), -1)


@pytest.mark.parametrize("shape", [(1,), (16,), (4, 8), (2, 4, 8), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.float32])
def test_scans(dtype, shape):
    x = np.random.default_rng(0).integers(1, 4, shape).astype(dtype)
    cases = [
        (sums_0, np.cumsum(x, 0, dtype)),
        (sums_back, backward(lambda rows, axis: np.cumsum(rows, axis, dtype), x)),
        (maxima, np.maximum.accumulate(x, axis=0)),
        (maxima_back, backward(np.maximum.accumulate, x)),
        (products, np.cumprod(x, 0, dtype)),
    ]
    for function, want in cases:
        np.testing.assert_array_equal(call(function, x, result=want), want)


@mlu.jit
def wide_sums(x):
    return tl.cumsum(x, 0, dtype=tl.float32)


def test_narrow_integers_and_floats_are_summed_wider():
    x = np.full(64, 100, np.int8)
    np.testing.assert_array_equal(call(sums_0, x, result=np.zeros(64, np.int32)), np.cumsum(x, dtype=np.int32))
    y = np.full(4096, 1, np.float16)
    np.testing.assert_array_equal(call(wide_sums, y, result=np.zeros(4096, np.float32)), np.arange(1, 4097))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sums_of_narrow_floats_round_each_result_once(dtype):
    x = (8 * np.random.default_rng(0).integers(-200, 201, (64, 128))).astype(dtype)
    want = np.cumsum(x.astype(np.float32), 0).astype(dtype)
    np.testing.assert_array_equal(call(sums_0, x, result=want), want)
    want = backward(np.cumsum, x.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(call(sums_back, x, result=want), want)


@mlu.jit
def affine(a, b, c, d):
    return a * c, c * b + d


@mlu.jit
def recurrence(x, y):
    return tl.associative_scan((x, y), 0, affine)[1]


@pytest.mark.parametrize("shape", [(16,), (16, 4), (8, 2, 2)])
def test_linear_recurrence(shape):
    generator = np.random.default_rng(1)
    decay, value = generator.uniform(0.5, 1, shape).astype(np.float32), generator.standard_normal(shape, np.float32)
    state, states = np.zeros(shape[1:], np.float64), []
    for factor, term in zip(decay, value, strict=True):
        state = factor * state + term
        states.append(state)
    np.testing.assert_allclose(call(recurrence, decay, value, result=value), np.array(states), rtol=1e-5, atol=1e-5)


@mlu.jit
def product_modulo(a, b):
    return (a.to(tl.int64) * b.to(tl.int64) % 1000003).to(tl.int32)


@mlu.jit
def residues(x):
    return tl.associative_scan(x, 0, product_modulo)


def test_combine_functions_may_change_types():
    x = np.random.default_rng(2).integers(1, 1000003, 32).astype(np.int32)
    want, last = [], 1
    for value in x.tolist():
        last = last * value % 1000003
        want.append(last)
    np.testing.assert_array_equal(call(residues, x, result=x), want)
