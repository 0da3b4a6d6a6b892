"""Flash attention, forward: two products and a softmax whose matrix never exists.

A program owns ``BLOCK_M`` queries of one head and walks over the keys. Scores, probabilities and the running result of
a block live on chip; the softmax is the online one of cross_entropy.py, with a row of maxima and a row of sums, and
the result is rescaled along with the sums. The exponent is taken to base two, with log2(e) folded into the scale,
which has to be positive.

Under a causal mask, blocks of keys before the queries need no mask, the blocks on the diagonal do, and those after it
are never visited: the walk is split in two, and half the work disappears.

Source: T. Dao, "FlashAttention-2: Faster attention with better parallelism and work partitioning", 2023.
"""

from functools import partial

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def attend(
    result, total, maximum, query, keys, values, row, scale, start, stop, stride_k, stride_v,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, BLOCK_N)
    for first in tl.range(start, stop, BLOCK_N):
        key = tl.load(keys + first * stride_k)
        scores = tl.dot(query, key)
        if MASKED:
            scores = tl.where(row[:, None] >= first + column[None, :], scores, -float("inf"))
        # The maxima are scaled by themselves, the scores where they are taken off: one pass over them less.
        larger = tl.maximum(maximum, tl.max(scores, axis=1) * scale)
        weights = tl.exp2(scores * scale - larger[:, None])
        shrink = tl.exp2(maximum - larger)
        total = total * shrink + tl.sum(weights, axis=1)
        value = tl.load(values + first * stride_v)
        result = tl.dot(weights.to(value.dtype), value, result * shrink[:, None])
        maximum = larger
    return result, total, maximum


@mlu.jit
def flash_attention(
    output, q, k, v, scale, heads, length,
    q_stride_z, q_stride_h, q_stride_n, k_stride_z, k_stride_h, k_stride_n,
    v_stride_z, v_stride_h, v_stride_n, output_stride_z, output_stride_h, output_stride_n,
    HEAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    tl.static_assert(BLOCK_M % BLOCK_N == 0, "the diagonal must begin at a block of keys")
    first_row = tl.program_id(0) * BLOCK_M
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    row = first_row + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    d = tl.arange(0, HEAD)
    q_rows = q + batch * q_stride_z + head * q_stride_h + row[:, None] * q_stride_n + d[None, :]
    # Keys are read as the transposed tile that the product needs; blocks of keys and values are addressed in attend.
    keys = k + batch * k_stride_z + head * k_stride_h + d[:, None] + column[None, :] * k_stride_n
    values = v + batch * v_stride_z + head * v_stride_h + column[:, None] * v_stride_n + d[None, :]
    query = tl.load(q_rows)

    result = tl.zeros((BLOCK_M, HEAD), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    scale_log2 = scale * 1.4426950408889634
    unmasked = first_row if CAUSAL else length
    result, total, maximum = attend(
        result, total, maximum, query, keys, values, row, scale_log2, 0, unmasked, k_stride_n, v_stride_n,
        BLOCK_N, MASKED=False,
    )  # fmt: skip
    if CAUSAL:
        result, total, maximum = attend(
            result, total, maximum, query, keys, values, row, scale_log2, first_row, first_row + BLOCK_M,
            k_stride_n, v_stride_n, BLOCK_N, MASKED=True,
        )  # fmt: skip
    result = result / total[:, None]
    rows = output + batch * output_stride_z + head * output_stride_h + row[:, None] * output_stride_n + d[None, :]
    tl.store(rows, result.to(output.dtype.element_ty))


def reference(q, k, v, scale, causal, **_):
    output = np.empty_like(q)
    length = q.shape[2]
    future = np.triu(np.ones((length, length), bool), 1)
    for index in np.ndindex(q.shape[:2]):
        query, key, value = (tensor[index].astype(np.float32) for tensor in (q, k, v))
        scores = (query @ key.T) * np.float32(scale)
        if causal:
            scores[future] = -np.inf
        scores -= scores.max(axis=1, keepdims=True)
        weights = np.exp(scores, out=scores)
        output[index] = (weights @ value) / weights.sum(axis=1, keepdims=True)
    return {"output": output}


def cases():
    return [
        case(1, 2, 1024, 64, causal=False),
        case(1, 2, 1024, 64, causal=True),
        case(2, 8, 1024, 128, causal=False),
        case(2, 8, 1024, 128, causal=True),
        case(4, 48, 1024, 64, causal=False),
        case(4, 48, 1024, 64, causal=True),
    ]


def case(batches, heads, length, width, causal, on_cluster=False):
    def arguments():
        rng = np.random.default_rng(0)
        shape = (batches, heads, length, width)
        q, k, v = (rng.standard_normal(shape, np.float32).astype(np.float16) for _ in range(3))
        output = np.empty_like(q)
        strides = {
            f"{name}_stride_{axis}": array.strides[i] // array.itemsize
            for name, array in [("q", q), ("k", k), ("v", v), ("output", output)]
            for i, axis in enumerate("zhn")
        }
        scale = width**-0.5
        return {"output": output, "q": q, "k": k, "v": v, "scale": scale, "heads": heads, "length": length, **strides}

    return Case(
        name="flash_attention",
        shape=f"{batches}x{heads}x{length}x{width} fp16" + " causal" * causal + " on clusters" * on_cluster,
        kernel=flash_attention,
        arguments=arguments,
        constants={
            "HEAD": width,
            "BLOCK_M": 512 if on_cluster else 128,
            "BLOCK_N": 512 if on_cluster else 128,
            "CAUSAL": causal,
            "num_warps": 4 if on_cluster else 1,
        },
        grid=lambda meta: (triton.cdiv(length, meta["BLOCK_M"]), batches * heads),
        outputs=("output",),
        reference=partial(reference, causal=causal),
        # Probabilities are rounded to half precision before the second product, the result once more after it.
        tolerance=(2e-3, 2e-3),
        flops=4 * batches * heads * length * length * width // (2 if causal else 1),
    )


if __name__ == "__main__":
    show(cases())
