"""Paged attention, decoding: one new token a sequence attends to keys and values that lie in pages all over the cache.

What a sequence has seen so far stands in pages of ``PAGE`` tokens, which its row of ``table`` names in order; sequences
have lengths of their own, and the last page is partly filled. A program serves a sequence and one head of keys and
values, with all ``GROUP`` heads of queries that share it: so each page is loaded once, and the products have rows.

The number of a page is a load, and the address of the tile depends on it; but within a page all is contiguous, so that
a tile is still one transfer. The compiler loads some pages while it computes with others, and the numbers of those that
come after. The softmax is the online one of flash_attention.py.

Source: W. Kwon et al., "Efficient memory management for large language model serving with PagedAttention", 2023.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def paged_attention(
    output, q, k, v, table, lengths, scale, heads, pages,
    GROUP: tl.constexpr, HEAD: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    sequence, head = tl.program_id(0), tl.program_id(1)
    row, token, d = tl.arange(0, GROUP), tl.arange(0, PAGE), tl.arange(0, HEAD)
    queries = ((sequence * heads + head) * GROUP + row[:, None]) * HEAD + d[None, :]
    query = tl.load(q + queries)
    length = tl.load(lengths + sequence)

    result = tl.zeros((GROUP, HEAD), dtype=tl.float32)
    total = tl.zeros((GROUP,), dtype=tl.float32)
    maximum = tl.full((GROUP,), -float("inf"), dtype=tl.float32)
    scale_log2 = scale * 1.4426950408889634
    for page in range(tl.cdiv(length, PAGE)):
        first = (tl.load(table + sequence * pages + page).to(tl.int64) * heads + head) * PAGE * HEAD
        key = tl.load(k + first + d[:, None] + token[None, :] * HEAD)
        scores = tl.dot(query, key)
        scores = tl.where(page * PAGE + token[None, :] < length, scores, -float("inf"))
        larger = tl.maximum(maximum, tl.max(scores, axis=1) * scale_log2)
        weights = tl.exp2(scores * scale_log2 - larger[:, None])
        shrink = tl.exp2(maximum - larger)
        total = total * shrink + tl.sum(weights, axis=1)
        value = tl.load(v + first + token[:, None] * HEAD + d[None, :])
        result = tl.dot(weights.to(value.dtype), value, result * shrink[:, None])
        maximum = larger
    tl.store(output + queries, (result / total[:, None]).to(output.dtype.element_ty))


def reference(q, k, v, table, lengths, scale, **_):
    output = np.empty_like(q)
    for sequence, length in enumerate(lengths):
        # [pages, heads, tokens, width] -> [heads, tokens, width]
        key, value = (
            np.concatenate(list(cache[table[sequence]]), axis=1)[:, :length].astype(np.float32) for cache in (k, v)
        )
        scores = np.einsum("hgd,htd->hgt", q[sequence].astype(np.float32), key) * np.float32(scale)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        output[sequence] = np.einsum("hgt,htd->hgd", weights, value)
    return {"output": output}


def cases():
    return [case(4, 2, 8, 300), case(16, 8, 8, 1000)]


def case(sequences, heads, group, longest, width=128, page=64):
    """Sequences of up to ``longest`` tokens, each with ``heads`` of keys and values for ``group`` heads of queries."""

    def arguments():
        rng = np.random.default_rng(0)
        pages = triton.cdiv(longest, page)
        shape = (sequences * pages, heads, page, width)
        k, v = (rng.standard_normal(shape, np.float32).astype(np.float16) for _ in range(2))
        q = rng.standard_normal((sequences, heads, group, width), np.float32).astype(np.float16)
        table = rng.permutation(sequences * pages).astype(np.int32).reshape(sequences, pages)
        lengths = rng.integers(longest // 2, longest + 1, sequences).astype(np.int32)
        scale = width**-0.5
        return {
            "output": np.empty_like(q), "q": q, "k": k, "v": v, "table": table, "lengths": lengths,
            "scale": scale, "heads": heads, "pages": pages,
        }  # fmt: skip

    return Case(
        name="paged_attention",
        shape=f"{sequences}x{heads}x{group}x{width} of up to {longest} in pages of {page} fp16",
        kernel=paged_attention,
        arguments=arguments,
        constants={"GROUP": group, "HEAD": width, "PAGE": page},
        grid=(sequences, heads),
        outputs=("output",),
        reference=reference,
        tolerance=(2e-3, 2e-3),
    )


if __name__ == "__main__":
    show(cases())
