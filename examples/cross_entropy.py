"""Cross entropy over a large vocabulary: a reduction in one pass over rows that do not fit.

The logits of one token fill 128 KB, too much to hold twice, so the row goes by in blocks. The sum of exponentials needs
the maximum, which is known only at the end; instead the running sum is rescaled whenever the maximum grows. The same
step carries flash attention. Tokens marked ``ignore`` cost nothing and count nothing: the program returns early.
"""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def cross_entropy(loss, logits, targets, vocabulary, stride, ignore, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + token)
    if target == ignore:
        tl.store(loss + token, 0.0)
        return
    row = logits + token * stride
    maximum = -float("inf")
    total = 0.0
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        values = tl.load(row + column, mask=column < vocabulary, other=-float("inf"))
        larger = tl.maximum(maximum, tl.max(values, axis=0))
        total = total * tl.exp(maximum - larger) + tl.sum(tl.exp(values - larger), axis=0)
        maximum = larger
    tl.store(loss + token, maximum + tl.log(total) - tl.load(row + target))


def reference(logits, targets, ignore, **_):
    maximum = logits.max(axis=1)
    total = np.exp(logits - maximum[:, None]).sum(axis=1)
    chosen = logits[np.arange(len(targets)), np.where(targets == ignore, 0, targets)]
    return {"loss": np.where(targets == ignore, np.float32(0), maximum + np.log(total) - chosen)}


def cases():
    return [case(512, 32_000)]


def case(tokens, vocabulary):
    def arguments():
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((tokens, vocabulary), dtype=np.float32) * 3
        targets = rng.integers(0, vocabulary, tokens, np.int32)
        targets[:: tokens // 8] = -100
        return {
            "loss": np.empty(tokens, np.float32),
            "logits": logits,
            "targets": targets,
            "vocabulary": vocabulary,
            "stride": vocabulary,
            "ignore": -100,
        }

    return Case(
        name="cross_entropy",
        shape=f"{tokens}x{vocabulary} fp32",
        kernel=cross_entropy,
        arguments=arguments,
        constants={"BLOCK": 8192},
        grid=(tokens,),
        outputs=("loss",),
        reference=reference,
        tolerance=(1e-5, 1e-5),
    )


if __name__ == "__main__":
    show(cases())
