"""Histogram: count on chip first, then meet the others in memory.

Every program adds to the same bins, so the additions are atomic. With ``PRIVATE`` a program counts its block on chip
and adds one number a bin; without, each element is an atomic addition of its own. The counts are the same; the cycles
show what contention costs.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def histogram(counts, x, n, BINS: tl.constexpr, BLOCK: tl.constexpr, PRIVATE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    values = tl.load(x + offsets, mask=mask, other=0)
    if PRIVATE:
        tl.atomic_add(counts + tl.arange(0, BINS), tl.histogram(values, BINS, mask=mask))
    else:
        tl.atomic_add(counts + values, 1, mask=mask)


def reference(counts, x, **_):
    return {"counts": counts + np.bincount(x, minlength=len(counts)).astype(np.int32)}


def cases():
    return [case(1_000_000, private=True), case(100_000, private=False)]


def case(n, private, bins=256):
    def arguments():
        # Not uniform: some bins are more contended than others.
        x = np.minimum(np.random.default_rng(0).geometric(0.02, n) - 1, bins - 1).astype(np.int32)
        return {"counts": np.zeros(bins, np.int32), "x": x, "n": n}

    return Case(
        name="histogram",
        shape=f"{n} int32 into {bins}" + (" private" if private else ""),
        kernel=histogram,
        arguments=arguments,
        constants={"BINS": bins, "BLOCK": 4096, "PRIVATE": private},
        grid=lambda meta: (triton.cdiv(n, meta["BLOCK"]),),
        outputs=("counts",),
        reference=reference,
    )


if __name__ == "__main__":
    show(cases())
