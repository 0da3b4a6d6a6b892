"""The device library in kernels: every way to name it, and equality with its definition to the bit."""

import numpy as np
import pytest
import triton.language.extra.libdevice as portable
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.arithmetic.evaluate import _NUMPY
from mlutriton.arithmetic.library import LIBRARY
from tests.language.launching import call

mlu_libdevice = tl.extra.mlu.libdevice
F4, F8, I4, I8 = np.float32, np.float64, np.int32, np.int64

# Function, symbol, types of the operands, type of the result: at least one of every kind.
# fmt: off
FUNCTIONS = [
    ("pow", "powf", [F4, F4], F4),         ("pow", "powi", [F8, I4], F8),         ("tanh", "tanhf", [F4], F4),
    ("exp10", "exp10f", [F4], F4),         ("expm1", "expm1", [F8], F8),          ("log1p", "log1pf", [F4], F4),
    ("atan2", "atan2f", [F4, F4], F4),     ("asin", "asin", [F8], F8),            ("sinpi", "sinpif", [F4], F4),
    ("sinh", "sinhf", [F4], F4),           ("acosh", "acoshf", [F4], F4),         ("cbrt", "cbrtf", [F4], F4),
    ("hypot", "hypotf", [F4, F4], F4),     ("erfc", "erfcf", [F4], F4),           ("tgamma", "tgammaf", [F4], F4),
    ("fma_rz", "fmaf_rz", [F4] * 3, F4),   ("div_ru", "ddiv_ru", [F8, F8], F8),   ("add_rd", "fadd_rd", [F4, F4], F4),
    ("ldexp", "ldexpf", [F4, I4], F4),     ("ilogb", "ilogbf", [F4], I4),         ("fdim", "fdimf", [F4] * 2, F4),
    ("float2int_rn", "float2int_rn", [F4], I4),  ("ll2float_rd", "ll2float_rd", [I8], F4),
    ("double2float_ru", "double2float_ru", [F8], F4),  ("isnan", "isnanf", [F4], I4),  ("round", "roundf", [F4], F4),
    ("llround", "llround", [F8], I8),      ("popc", "popcll", [I8], I4),          ("clz", "clz", [I4], I4),
    ("byte_perm", "byte_perm", [I4] * 3, I4),  ("mulhi", "mul64hi", [I8, I8], I8),  ("abs", "abs", [I4], I4),
    ("float_as_int", "float_as_int", [F4], I4),  ("hiloint2double", "hiloint2double", [I4, I4], F8),
]
# fmt: on


@pytest.mark.parametrize(("name", "symbol", "operands", "result"), FUNCTIONS, ids=[row[1] for row in FUNCTIONS])
def test_kernels_compute_what_the_library_defines(name, symbol, operands, result):
    values = (np.random.default_rng(0).standard_normal((len(operands), 64)) * 4).astype(F4)
    arguments = [value.astype(dtype) for value, dtype in zip(values, operands, strict=True)]
    with np.errstate(all="ignore"):
        want = np.asarray(LIBRARY[f"__nv_{symbol}"](_NUMPY, *arguments))
    # Contraction would round some of the steps less.
    got = call(getattr(cuda, name), *arguments, result=want, enable_fp_fusion=False)
    assert got.dtype == result
    np.testing.assert_array_equal(got, want)


@mlu.jit
def named_in_five_ways(x):
    return (
        libdevice.exp(x)
        + portable.exp(x)
        + tl.extra.cuda.libdevice.exp(x)
        + mlu_libdevice.exp(x)
        + tl.extra.mlu.libdevice.fast_exp(x)
    )


@mlu.jit
def square_by_scalar(x):
    return libdevice.pow(x, 2.0)


@pytest.mark.parametrize("shape", [(), (16,), (2, 4, 2)])
def test_every_way_to_name_it_and_scalars_beside_tensors(shape):
    x = np.abs(np.random.default_rng(1).standard_normal(shape)).astype(F4)
    np.testing.assert_allclose(call(named_in_five_ways, x, result=x), 5 * np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(call(square_by_scalar, x, result=x), x * x, rtol=2e-7)


@mlu.jit
def activations(x):
    tl.extra.mlu.perf_begin()
    value = mlu_libdevice.fast_silu(x) + mlu_libdevice.ultra_gelu(x) + mlu_libdevice.relu(x)
    tl.extra.mlu.perf_end()
    return value


def test_activations_of_the_vendor():
    x = np.linspace(-3, 3, 64, dtype=F4)
    gelu = x * np.asarray(LIBRARY["__nv_normcdf"](_NUMPY, x.astype(F8)))
    want = x / (1 + np.exp(-x)) + gelu + np.maximum(x, 0)
    np.testing.assert_allclose(call(activations, x, result=x), want, rtol=1e-5, atol=1e-6)


@mlu.jit
def random_words(out, out_plain, seed_low, seed_high, first, n: tl.constexpr):
    rows, columns = tl.arange(0, n)[:, None], tl.arange(0, 4)[None, :]
    tl.store(out + rows * 4 + columns, mlu_libdevice.philox(n, seed_low, seed_high, first, 0, 7, 0, 10))
    seed = (seed_high.to(tl.uint64) << 32) | seed_low.to(tl.uint32)
    words = tl.philox(seed, first + tl.arange(0, n).to(tl.uint32), 0, 7, 0)
    for place in tl.static_range(4):
        tl.store(out_plain + tl.arange(0, n) * 4 + place, words[place])


def test_random_words_are_those_of_tritons_generator():
    out, plain = np.zeros((32, 4), np.uint32), np.ones((32, 4), np.uint32)
    random_words[(1,)](out, plain, 12345, 678, 1_000_000, 32)
    np.testing.assert_array_equal(out, plain)
    assert len(np.unique(out)) == 128


@mlu.jit
def rounded_products(out, x):
    i = tl.arange(0, 64)
    a = tl.load(x + i)
    tl.store(out + i, cuda.mul_rn(a, a) - 1.0)


def test_products_that_are_rounded_are_in_no_sum():
    """As CUDA promises of __fmul_rn; whoever writes it compares numbers bit by bit."""
    out = np.zeros(64, np.float32)
    x = np.random.default_rng(0).standard_normal(64, np.float32)
    rounded_products[(1,)](out, x)
    np.testing.assert_array_equal(out, x * x - np.float32(1))
