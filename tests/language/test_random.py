"""Random numbers of the language: Philox 4x32-10, and the distributions made of it."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

COUNT = 4096


def philox(seed, counters):
    """The four words of Philox 4x32-10. Source: Salmon and others, Parallel random numbers (2011)."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counters.astype(np.uint64), *np.zeros((3, len(counters)), np.uint64)]
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, third = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (third >> np.uint64(32)) ^ c[1] ^ np.uint64(keys[0]),
            third & mask,
            (first >> np.uint64(32)) ^ c[3] ^ np.uint64(keys[1]),
            first & mask,
        ]
        keys = [(keys[0] + 0x9E3779B9) % 2**32, (keys[1] + 0xBB67AE85) % 2**32]
    return [word.astype(np.uint32) for word in c]


@mlu.jit
def words(out, seed, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    a, b, c, d = tl.randint4x(seed, place)
    tl.store(out + place, a)
    tl.store(out + COUNT + place, b)
    tl.store(out + 2 * COUNT + place, c)
    tl.store(out + 3 * COUNT + place, d)


@pytest.mark.parametrize("seed", [0, 12345, 2**40 + 7])
def test_randint4x_is_philox(seed):
    out = np.zeros((4, COUNT), np.uint32)
    words[(1,)](out, seed, COUNT=COUNT)
    np.testing.assert_array_equal(out, philox(seed, np.arange(COUNT)))


def test_reference_generator_gives_the_published_known_answer():
    assert philox(0, np.array([0]))[0] == 0x6627E8D5


@mlu.jit
def distributions(uniform, normal, integers, seed, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    tl.store(uniform + place, tl.rand(seed, place))
    tl.store(normal + place, tl.randn(seed, place))
    tl.store(integers + place, tl.randint(seed, place))


def test_distributions():
    uniform, normal = np.zeros((2, COUNT), np.float32)
    integers = np.zeros(COUNT, np.int32)
    distributions[(1,)](uniform, normal, integers, 7, COUNT=COUNT)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    # Four standard errors of the mean and of the deviation.
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * COUNT)
    assert abs(normal.mean()) < 4 / np.sqrt(COUNT)
    assert abs(normal.std() - 1) < 4 / np.sqrt(2 * COUNT)
    np.testing.assert_array_equal(integers.view(np.uint32), philox(7, np.arange(COUNT))[0])
