"""Indices by way of types that do not hold them, unsigned ones and ones that overflow."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

BLOCK = 512
PLACES = np.arange(BLOCK, dtype=np.int32)
X = np.arange(4096, dtype=np.int32) * 3 + 1


@mlu.jit
def of_bytes(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + 128 + i.to(tl.int8)))


@mlu.jit
def of_unsigned_bytes(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i.to(tl.uint8)))


@mlu.jit
def where_bytes_are_positive(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i.to(tl.int8) >= 0, other=-1))


@mlu.jit
def where_short_products_are_small(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i.to(tl.int16) * 100 < n, other=-1))


@mlu.jit
def of_unsigned_remainders(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + (i - n).to(tl.uint32) % 24))


@mlu.jit
def of_unsigned_quotients(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + (i - n).to(tl.uint32) // 64 % 1000))


@mlu.jit
def where_unsigned_are_small(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=(i - n).to(tl.uint32).to(tl.int64) < 100, other=-1))


@mlu.jit
def where_hashes_are_positive(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i * 1103515245 + n >= 0, other=-1))


@mlu.jit
def where_hashes_of_hashes_are_positive(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i * 1664525 + n * 1013904223 >= 0, other=-1))


@mlu.jit
def where_short_hashes_are_positive(out, x, n, BLOCK: tl.constexpr):
    i = n * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i - n * BLOCK, tl.load(x + i - n * BLOCK, mask=i * 40503 >= 0, other=-1))


@mlu.jit
def where_lower_bits_are_small(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK) + (n.to(tl.int64) << 32)
    tl.store(out + i.to(tl.int32), tl.load(x + i.to(tl.int32), mask=i.to(tl.int32) < 100, other=-1))


@mlu.jit
def of_remainders_of_negative_numbers(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + 200 + (i - 100) % n))


@mlu.jit
def of_bytes_that_advance(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = tl.zeros((BLOCK,), tl.int8)
    total = tl.zeros((BLOCK,), tl.int32)
    for _ in range(n):
        total += tl.load(x + 128 + i + at)
        at += 1
    tl.store(out + i, total)


@mlu.jit
def beside_bytes_of_rows(out, x, n, BLOCK: tl.constexpr):
    r, c = tl.arange(0, 32)[:, None], tl.arange(0, BLOCK // 32)[None, :]
    row = (r * 9).to(tl.int8)
    tl.store(out + r * (BLOCK // 32) + c, tl.load(x + 256 + (row + n.to(tl.int8)) + c))


def bytes_that_advance(n):
    return sum(X[128 + PLACES + np.int64(np.int8(k % 256 - 256 * (k % 256 > 127)))] for k in range(n))


def bytes_of_rows(n):
    rows = (np.arange(32) * 9 + n).astype(np.int8).astype(np.int64)
    return X[256 + rows[:, None] + np.arange(BLOCK // 32)].ravel()


UNSIGNED = (PLACES.astype(np.int64) - 5) % (1 << 32)
CASES = [
    (of_bytes, 0, lambda n: X[128 + PLACES.astype(np.int8).astype(np.int64)]),
    (of_unsigned_bytes, 0, lambda n: X[PLACES.astype(np.uint8)]),
    (where_bytes_are_positive, 0, lambda n: np.where(PLACES.astype(np.int8) >= 0, X[PLACES], -1)),
    (
        where_short_products_are_small,
        30_000,
        lambda n: np.where(PLACES.astype(np.int16) * np.int16(100) < n, X[PLACES], -1),
    ),
    (of_unsigned_remainders, 5, lambda n: X[UNSIGNED % 24]),
    (of_unsigned_quotients, 5, lambda n: X[UNSIGNED // 64 % 1000]),
    (where_unsigned_are_small, 5, lambda n: np.where(UNSIGNED < 100, X[PLACES], -1)),
    (
        where_hashes_are_positive,
        7,
        lambda n: np.where(PLACES * np.int32(1_103_515_245) + np.int32(n) >= 0, X[PLACES], -1),
    ),
    (
        where_hashes_of_hashes_are_positive,
        2,
        lambda n: np.where(PLACES * np.int32(1_664_525) + np.int32(n) * np.int32(1_013_904_223) >= 0, X[PLACES], -1),
    ),
    (
        where_short_hashes_are_positive,
        103,
        lambda n: np.where((PLACES + np.int32(n * BLOCK)) * np.int32(40_503) >= 0, X[PLACES], -1),
    ),
    (where_lower_bits_are_small, 5, lambda n: np.where(PLACES < 100, X[PLACES], -1)),
    (of_remainders_of_negative_numbers, 7, lambda n: X[200 + np.fmod(PLACES - 100, n)]),
    (of_bytes_that_advance, 200, bytes_that_advance),
    (beside_bytes_of_rows, 100, bytes_of_rows),
]


@pytest.mark.parametrize(("kernel", "n", "expected"), CASES, ids=[kernel.fn.__name__ for kernel, _, _ in CASES])
def test_integers_wrap_as_their_types_do(kernel, n, expected):
    out = np.full(BLOCK, -3, np.int32)
    on_both_engines(lambda: kernel[(1,)](out, X, n, BLOCK=BLOCK), out)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, expected(n))


@mlu.jit
def turned(out, x, start, period, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + 300 + (start + i) % period))


@pytest.mark.parametrize("start", [-200, -71, -70, -1, 0, 69, 140])
@pytest.mark.parametrize("period", [70, 64, 7, 1, 0, -7, -64])
def test_remainders_have_the_sign_of_what_is_divided(start, period):
    x = np.arange(1000).astype(np.float32)
    out = np.zeros(64, np.float32)
    turned[(1,)](out, x, start, period, BLOCK=64)
    i = start + np.arange(64)
    np.testing.assert_array_equal(out, x[300 + (np.fmod(i, period) if period else i)])


@mlu.jit
def begun_again(out, x, period, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i % period))


@pytest.mark.parametrize("period", [70, 64, 7, 1, 0, -7, -64])
def test_tiles_begin_again_after_any_period(period):
    x, out = np.arange(1000).astype(np.float32), np.zeros(128, np.float32)
    begun_again[(2,)](out, x, period, BLOCK=64)
    i = np.arange(128)
    np.testing.assert_array_equal(out, x[np.fmod(i, period) if period else i])
