"""Every element type: moved, selected, computed with and reduced, as NumPy does."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

FLOAT8 = ("float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
COUNT = 128


def numpy_type(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def numbers(name, seed):
    generator = np.random.default_rng(seed)
    if name == "bool":
        return generator.integers(0, 2, COUNT).astype(bool)
    return generator.integers(-6 if name[0] != "u" else 0, 7, COUNT).astype(numpy_type(name))


@mlu.jit
def moved(out, x, count, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + (count - 1 - place), mask=place < count), mask=place < count)


@mlu.jit
def computed(sums, products, chosen, x, y, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    a, b = tl.load(x + place), tl.load(y + place)
    tl.store(sums + place, a + b)
    tl.store(products + place, a * b - a)
    tl.store(chosen + place, tl.where(a < b, a, b))


@mlu.jit
def reduced(out, x, BLOCK: tl.constexpr):
    values = tl.load(x + tl.arange(0, BLOCK))
    tl.store(out, tl.max(values, axis=0).to(tl.float64))
    tl.store(out + 1, tl.min(values, axis=0).to(tl.float64))
    tl.store(out + 2, tl.sum(values.to(tl.float32), axis=0).to(tl.float64))


@mlu.jit
def divided(quotients, remainders, roots, x, y, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    a, b = tl.load(x + place), tl.load(y + place)
    tl.store(quotients + place, a / b)
    tl.store(remainders + place, a % b)
    tl.store(roots + place, tl.exp(tl.sqrt(tl.abs(a))) + tl.sin(b))


@pytest.mark.parametrize("name", ["bool", *INTEGERS, *FLOAT8, *FLOATS])
def test_elements_are_moved_bit_for_bit(name):
    dtype = numpy_type(name)
    x = np.random.default_rng(1).integers(0, 256, COUNT * dtype.itemsize, np.uint8).view(dtype)
    x = numbers(name, 1) if name == "bool" else x
    out = numbers(name, 2)
    expected = np.concatenate([x[99::-1], out[100:]])
    moved[(1,)](out, x, 100, COUNT)
    np.testing.assert_array_equal(out.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize("name", [*INTEGERS, *FLOAT8, *FLOATS])
def test_arithmetic_rounds_to_the_type(name):
    x, y = numbers(name, 3), numbers(name, 4)
    sums, products, chosen = (np.zeros_like(x) for _ in range(3))
    computed[(1,)](sums, products, chosen, x, y, COUNT)
    np.testing.assert_array_equal(sums, x + y)
    np.testing.assert_array_equal(products, x * y - x)
    np.testing.assert_array_equal(chosen, np.where(x < y, x, y))


@pytest.mark.parametrize("name", [*INTEGERS, *FLOATS])
def test_reductions(name):
    x, out = numbers(name, 5), np.zeros(3)
    reduced[(1,)](out, x, COUNT)
    wide = x.astype(np.float64)
    assert out.tolist() == [wide.max(), wide.min(), wide.sum()]


def test_float64_keeps_its_digits():
    generator = np.random.default_rng(6)
    x, y = generator.standard_normal(COUNT) * 10, generator.standard_normal(COUNT)
    quotients, remainders, roots = (np.zeros(COUNT) for _ in range(3))
    divided[(1,)](quotients, remainders, roots, x, y, COUNT)
    np.testing.assert_array_equal(quotients, x / y)
    np.testing.assert_array_equal(remainders, np.fmod(x, y))
    np.testing.assert_allclose(roots, np.exp(np.sqrt(np.abs(x))) + np.sin(y), rtol=1e-14)


@pytest.mark.parametrize("name", FLOAT8)
def test_each_eight_bit_type_has_a_kernel_of_its_own(name):
    """NumPy gives several of them one hash, which Triton would take for one type."""
    x, out = numbers(name, 7), np.zeros(COUNT, np.float32)
    moved[(1,)](x, x[::-1].copy(), COUNT, COUNT)
    widened[(1,)](out, x, COUNT)
    np.testing.assert_array_equal(out, x.astype(np.float32))


@mlu.jit
def widened(out, x, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(x + place).to(tl.float32))
