"""Vector addition: programs, blocks and masks.

The smallest kernel there is. The grid has one program a block of ``BLOCK`` elements; the last block reaches past the
end, and the mask keeps loads and stores inside the arrays. The larger case moves enough bytes to show what the
memory delivers; the smaller one shows how much of a short kernel is launch and latency.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def vector_add(x, y, output, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    left = tl.load(x + offsets, mask=mask)
    right = tl.load(y + offsets, mask=mask)
    tl.store(output + offsets, left + right, mask=mask)


def reference(x, y, **_):
    return {"output": x + y}


def cases():
    return [case(98_432, block=1024), case(2**24, block=16_384)]


def case(n, block):
    def arguments():
        rng = np.random.default_rng(0)
        x, y = rng.random(n, dtype=np.float32), rng.random(n, dtype=np.float32)
        return {"x": x, "y": y, "output": np.empty_like(x), "n": n}

    return Case(
        name="vector_add",
        shape=f"{n} fp32",
        kernel=vector_add,
        arguments=arguments,
        constants={"BLOCK": block},
        grid=lambda meta: (triton.cdiv(n, meta["BLOCK"]),),
        outputs=("output",),
        reference=reference,
    )


if __name__ == "__main__":
    show(cases())
