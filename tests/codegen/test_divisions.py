"""Quotients and remainders of whole vectors of integers, which are divided as floats: next to where they change."""

import random

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.arithmetic import evaluate
from mlutriton.dtypes import BY_NAME
from tests.kernels.engines import on_both_engines

PAIRS = 4096


@mlu.jit
def divided(quotients, remainders, a, b, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dividend, divisor = tl.load(a + i), tl.load(b + i)
    tl.store(quotients + i, dividend // divisor)
    tl.store(remainders + i, dividend % divisor)


def operands(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of extremes; and multiples of divisors of any magnitude, one less and one more."""
    rng = random.Random(0)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    extremes = [low, low + 1, max(low, -1), 0, 1, 2, high - 1, high]
    pairs = [(a, b) for a in extremes for b in extremes]
    while len(pairs) < PAIRS:
        divisor = rng.randint(low, high) >> rng.randrange(8 * dtype.itemsize)
        multiple = divisor * (high // max(abs(divisor), 1) - rng.randrange(3))
        pairs.append((min(max(low, multiple + rng.randint(-1, 1)), high), divisor))
    a, b = np.array(pairs, dtype).T
    return a.copy(), b.copy()


@pytest.mark.parametrize("name", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_quotients_and_remainders_next_to_multiples(name: str) -> None:
    a, b = operands(np.dtype(name))
    quotients, remainders = np.empty_like(a), np.empty_like(a)
    on_both_engines(lambda: divided[(PAIRS // 1024,)](quotients, remainders, a, b, 1024), quotients, remainders)
    sign, dtype = name[0].replace("i", "s"), BY_NAME[f"i{8 * a.dtype.itemsize}"]
    signed = np.dtype(name.removeprefix("u"))
    for operation, found in (("div", quotients), ("rem", remainders)):
        expected = evaluate(sign + operation, a.view(signed), b.view(signed), dtype=dtype)
        np.testing.assert_array_equal(found.view(signed), expected)
    exact = [(int(x), int(y), int(q), int(r)) for x, y, q, r in zip(a, b, quotients, remainders, strict=True) if y]
    least = np.iinfo(a.dtype).min
    assert all(x == y * q + r and abs(r) < abs(y) for x, y, q, r in exact if (x, y) != (least, -1))
