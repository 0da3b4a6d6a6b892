"""Embedding: loads whose addresses are data.

A program loads the identifiers of its tokens, and they become the row addresses of the next load. Nothing about them is
known when the kernel is compiled, but each row is still a contiguous run of bytes.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def embedding(output, weight, identifiers, tokens, width, TOKENS: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    column = tl.arange(0, BLOCK)[None, :]
    identifier = tl.load(identifiers + token, mask=token < tokens, other=0)
    mask = (token[:, None] < tokens) & (column < width)
    rows = tl.load(weight + identifier[:, None] * width + column, mask=mask)
    tl.store(output + token[:, None] * width + column, rows, mask=mask)


def reference(weight, identifiers, **_):
    return {"output": weight[identifiers]}


def cases():
    return [case(4096, 32_000, 512), case(777, 1000, 300)]


def case(tokens, vocabulary, width):
    def arguments():
        rng = np.random.default_rng(0)
        return {
            "output": np.empty((tokens, width), np.float16),
            "weight": rng.random((vocabulary, width), np.float32).astype(np.float16),
            "identifiers": rng.integers(0, vocabulary, tokens, np.int32),
            "tokens": tokens,
            "width": width,
        }

    return Case(
        name="embedding",
        shape=f"{tokens} of {vocabulary}x{width} fp16",
        kernel=embedding,
        arguments=arguments,
        constants={"TOKENS": 32, "BLOCK": triton.next_power_of_2(width)},
        grid=lambda meta: (triton.cdiv(tokens, meta["TOKENS"]),),
        outputs=("output",),
        reference=reference,
    )


if __name__ == "__main__":
    show(cases())
