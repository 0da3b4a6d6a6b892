"""Transcendental functions of the language: the compiled kernel equals the architectural definition to the bit."""

import math

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.arithmetic import evaluate
from mlutriton.dtypes import F32, F64
from mlutriton.frontend.triton_versions import RELEASE
from tests.language.launching import call

FUNCTIONS = [tl.exp, tl.exp2, tl.log, tl.log2, tl.sin, tl.cos, tl.sqrt, tl.rsqrt, tl.erf, tl.floor, tl.ceil]
VALUES = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, 88.7, -103.9, 1e30, 0.5, 2.5, -2.5, 3e5, 7.0]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions(function, dtype):
    x = np.random.default_rng(0).standard_normal(64).astype(dtype.numpy) * 4
    x[:16] = VALUES
    name = function.__name__
    np.testing.assert_array_equal(call(function, x, result=x), evaluate(name, x, dtype=dtype))
    np.testing.assert_array_equal(call(function, x[40], result=x[40]), evaluate(name, x[40], dtype=dtype))


@mlu.jit
def exact_root(x):
    return tl.sqrt_rn(x)


@mlu.jit
def exact_quotient(x, y):
    return tl.div_rn(x, y)


def test_rounded_roots_and_quotients_are_ieee():
    x, y = np.abs(np.random.default_rng(1).standard_normal((2, 256), np.float32))
    np.testing.assert_array_equal(call(exact_root, x, result=x), np.sqrt(x))
    np.testing.assert_array_equal(call(exact_quotient, x, y, result=x), x / y)


# Before Triton 3.9 this takes tensors of more dimensions if it is told to keep them, which is what it is told here.
KEEP_DIMENSIONS = tl.constexpr(True if RELEASE < (3, 9) else None)


@mlu.jit
def softmax_of_columns(x):
    return tl.softmax(x, 0, keep_dims=KEEP_DIMENSIONS)


@mlu.jit
def softmax_of_rows(x):
    return tl.softmax(x, 1, keep_dims=KEEP_DIMENSIONS)


def softmax(x, axis):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@pytest.mark.parametrize("shape", [(8,), (4, 8), (2, 4, 8)])
def test_sigmoid_and_softmax(shape):
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32) * 3
    np.testing.assert_allclose(call(tl.sigmoid, x, result=x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(call(softmax_of_columns, x, result=x), softmax(x, 0), rtol=1e-5)
    if len(shape) > 1:
        np.testing.assert_allclose(call(softmax_of_rows, x, result=x), softmax(x, 1), rtol=1e-5)
