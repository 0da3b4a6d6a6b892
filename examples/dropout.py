"""Dropout from a seed: random numbers that need no memory.

``tl.rand`` is a function of seed and offset, so the mask of dropped elements is never stored: whoever needs it again
computes it again. The generator is Philox 4x32 with ten rounds, which the reference spells out in NumPy, and the two
agree in every bit.

Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def dropout(output, x, n, probability, seed, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    values = tl.load(x + offsets, mask=mask)
    keep = tl.rand(seed, offsets) > probability
    tl.store(output + offsets, tl.where(keep, values / (1 - probability), 0.0), mask=mask)


def philox(seed, counters):
    """First word of Philox 4x32-10 for each 32-bit counter, under a 64-bit key."""
    words = [counters.astype(np.uint64)] + [np.zeros(counters.shape, np.uint64)] * 3
    low = np.uint64(0xFFFFFFFF)
    keys = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    for _ in range(10):
        first, second = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        high_first, high_second = first >> np.uint64(32), second >> np.uint64(32)
        words = [high_second ^ words[1] ^ keys[0], second & low, high_first ^ words[3] ^ keys[1], first & low]
        keys = (keys + np.array([0x9E3779B9, 0xBB67AE85], np.uint64)) & low
    return words[0].astype(np.uint32)


def uniform(bits):
    """Map 32 random bits to [0, 1) as ``tl.rand`` does: fold the sign, then scale."""
    signed = bits.view(np.int32)
    return np.where(signed < 0, -signed - 1, signed).astype(np.float32) * np.float32(4.6566127342e-10)


def reference(x, n, probability, seed, **_):
    keep = uniform(philox(seed, np.arange(n))) > np.float32(probability)
    return {"output": np.where(keep, x / (np.float32(1) - np.float32(probability)), np.float32(0))}


def cases():
    return [case(100_000, block=1024), case(2**21, block=4096)]


def case(n, block):
    def arguments():
        x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
        return {"output": np.empty_like(x), "x": x, "n": n, "probability": 0.3, "seed": 123_456_789}

    return Case(
        name="dropout",
        shape=f"{n} fp32",
        kernel=dropout,
        arguments=arguments,
        constants={"BLOCK": block},
        grid=lambda meta: (triton.cdiv(n, meta["BLOCK"]),),
        outputs=("output",),
        reference=reference,
        # The quotient may be rounded by one unit otherwise; which elements survive is exact.
        tolerance=(2e-7, 0.0),
    )


if __name__ == "__main__":
    show(cases())
