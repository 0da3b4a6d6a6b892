"""Functions, tuples, aggregates and compile-time values."""

from typing import NamedTuple

import numpy as np
import pytest
import triton

import mlutriton as mlu
import mlutriton.language as tl

pytestmark = pytest.mark.usefixtures("each_engine")


@mlu.jit
def inlined(x, y):
    return x + y, x * y


@mlu.jit(noinline=True)
def called(x, y):
    if y > 2:
        total, product = inlined(x, y)
        return total - 1, product
    return x, y * x


@mlu.jit(noinline=True)
def stores(out, value, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), value + tl.arange(0, BLOCK))


@mlu.jit(noinline=True)
def nested(out, x, y, BLOCK: tl.constexpr):
    a, b = called(x, y)
    c, d = called(a, y)
    stores(out, a + b + c + d, BLOCK)
    return a


@mlu.jit
def calls(out, x, y, BLOCK: tl.constexpr):
    first = nested(out, tl.load(x), y, BLOCK)
    for k in range(3):
        first, _ = called(first, k + 1)
    stores(out + BLOCK, first, BLOCK)


@pytest.mark.parametrize("y", [1, 5])
def test_functions_with_several_results(y):
    x, out = np.array([7], np.float32), np.zeros((2, 8), np.float32)
    calls[(1,)](out, x, y, BLOCK=8)

    def function(x, y):
        return (x + y - 1, x * y) if y > 2 else (x, y * x)

    a, b = function(x, y)
    c, d = function(a, y)
    np.testing.assert_array_equal(out[0], a + b + c + d + np.arange(8))
    for k in range(3):
        a, _ = function(a, k + 1)
    np.testing.assert_array_equal(out[1], a + np.arange(8))


@mlu.jit
def early(x):
    if x > 3:
        return x * 2
    return x + 100


@mlu.jit
def early_in_function(out):
    k = tl.program_id(0)
    tl.store(out + k, early(k))


def test_early_return_from_a_function():
    out = np.zeros(6, np.int32)
    early_in_function[(6,)](out)
    assert out.tolist() == [100, 101, 102, 103, 8, 10]


@mlu.jit(noinline=True)
def itself(x):
    return itself(x - 1) + 1


@mlu.jit
def recursive(out, n):
    tl.store(out, itself(n))


def test_recursion_is_refused():
    with pytest.raises(mlu.CompileError) as caught:
        recursive[(1,)](np.zeros(1, np.int32), 3)
    assert caught.value.code == "E0201"


@mlu.jit
def power(x, N: tl.constexpr):
    if N == 0:
        return x * 0 + 1
    else:  # noqa: RET505 - Triton compiles what stands behind a constant condition
        return x * power(x, N - 1)


@mlu.jit
def constant_recursion(out, x):
    tl.store(out, power(tl.load(x), 4))


def test_recursion_that_a_constant_ends():
    out = np.zeros(1, np.float32)
    constant_recursion[(1,)](out, np.array([3], np.float32))
    assert out[0] == 81


@mlu.jit
def endless(x):
    return endless(x - 1) + 1


@mlu.jit
def endless_recursion(out, n):
    tl.store(out, endless(n))


def test_recursion_without_end_is_refused():
    with pytest.raises(mlu.CompileError) as caught:
        endless_recursion[(1,)](np.zeros(1, np.int32), 3)
    assert caught.value.code == "E0201"


class Bounds(NamedTuple):
    low: object
    high: object


@mlu.jit
def clipped(values, bounds):
    return Bounds(tl.maximum(values, bounds.low), tl.minimum(values, bounds.high))


@mlu.jit
def tuples(out, x, bounds, pointers, sizes, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    both = clipped(tl.load(x + i), bounds)
    tl.store(out + i, both.low)
    tl.store(out + BLOCK + i, both.high)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(len(pointers)):
        total += tl.load(pointers[k] + i, mask=i < sizes[k], other=k)
    tl.store(out + 2 * BLOCK + i, total)


def test_tuples_of_arguments():
    x, a, b = np.random.default_rng(0).integers(0, 99, (3, 16)).astype(np.float32)
    out = np.zeros((3, 16), np.float32)
    tuples[(1,)](out, x, Bounds(20.0, 60.0), (a, b), (5, 11), BLOCK=16)
    i = np.arange(16)
    np.testing.assert_array_equal(out[0], np.maximum(x, 20))
    np.testing.assert_array_equal(out[1], np.minimum(x, 60))
    np.testing.assert_array_equal(out[2], np.where(i < 5, a, 0) + np.where(i < 11, b, 1))


@tl.core._aggregate
class Tile:
    base: tl.tensor
    rows: tl.tensor
    COLUMNS: tl.constexpr

    @tl.core.builtin
    def __init__(self, base, rows, COLUMNS, _semantic=None):
        self.base = base
        self.rows = rows
        self.COLUMNS = tl.constexpr(COLUMNS)

    @mlu.jit
    def places(self, row):
        return self.base + row * self.COLUMNS + tl.arange(0, self.COLUMNS)

    @mlu.jit
    def load(self, row):
        return tl.load(self.places(row), mask=row < self.rows, other=-1.0)


@mlu.jit
def aggregates(out, x, rows, BLOCK: tl.constexpr):
    source, target = Tile(x, rows, BLOCK), Tile(out, rows, BLOCK)
    for row in range(rows + 2):
        tl.store(target.places(row), source.load(row) + 1)


def test_aggregates():
    x = np.random.default_rng(0).integers(0, 99, (3, 16)).astype(np.float32)
    out = np.zeros((5, 16), np.float32)
    aggregates[(1,)](out, x, 3, BLOCK=16)
    np.testing.assert_array_equal(out, np.vstack([x + 1, np.zeros((2, 16))]))


@triton.constexpr_function
def doubled(n):
    return 2 * n


FACTOR = tl.constexpr(3)


@mlu.jit
def compile_time(out, MODE: tl.constexpr, OPTIONAL: tl.constexpr, BLOCK: tl.constexpr):
    SIZE: tl.constexpr = doubled(BLOCK)
    tl.static_assert(SIZE == 2 * BLOCK, "twice")
    i = tl.arange(0, SIZE)
    tl.assume(BLOCK > 0)
    if MODE == "a":
        value = i * FACTOR
    else:
        value = i + tl.constexpr(5)
    if OPTIONAL is not None:
        value += OPTIONAL
    tl.store(out + i, value)


def test_compile_time_values():
    out = np.zeros(16, np.int32)
    compile_time[(1,)](out, "a", None, BLOCK=8)
    np.testing.assert_array_equal(out, 3 * np.arange(16))
    compile_time[(1,)](out, "b", 7, BLOCK=8)
    np.testing.assert_array_equal(out, 12 + np.arange(16))


@mlu.jit
def higher_order(out, x, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = FUNCTION(tl.load(x), 4)
    tl.store(out + i, a + b + i)


def test_functions_as_arguments():
    x, out = np.array([7], np.float32), np.zeros(8, np.float32)
    higher_order[(1,)](out, x, inlined, BLOCK=8)
    np.testing.assert_array_equal(out, 39 + np.arange(8))
    higher_order[(1,)](out, x, called, BLOCK=8)
    np.testing.assert_array_equal(out, 38 + np.arange(8))


@mlu.jit
def optional_pointer(out, x, bias, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    values = tl.load(x + i)
    if bias is not None:
        values += tl.load(bias + i)
    if n:
        values *= 2
    tl.store(out + i, values)


def test_optional_arguments():
    x, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    optional_pointer[(1,)](out, x, None, True, BLOCK=8)
    np.testing.assert_array_equal(out, 2 * x)
    optional_pointer[(1,)](out, x, x, False, BLOCK=8)
    np.testing.assert_array_equal(out, 2 * x)
