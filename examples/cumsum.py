"""Running sums along rows: a scan in the block, a carry between blocks.

``tl.cumsum`` scans within a tile. A row that is longer than a tile goes by in blocks, and the sum so far is carried
from one to the next, for a few rows at once.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def cumsum(output, x, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    carry = tl.zeros((ROWS, 1), dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = (row < rows) & (column < columns)
        tile = tl.load(x + row * columns + column, mask=mask, other=0.0)
        tl.store(output + row * columns + column, tl.cumsum(tile, axis=1) + carry, mask=mask)
        carry += tl.sum(tile, axis=1, keep_dims=True)


def reference(x, **_):
    return {"output": np.cumsum(x, axis=1, dtype=np.float64).astype(np.float32)}


def cases():
    return [case(768, 4096), case(100, 3000)]


def case(rows, columns):
    def arguments():
        x = np.random.default_rng(0).random((rows, columns), dtype=np.float32)
        return {"output": np.empty_like(x), "x": x, "rows": rows, "columns": columns}

    return Case(
        name="cumsum",
        shape=f"{rows}x{columns} fp32",
        kernel=cumsum,
        arguments=arguments,
        constants={"ROWS": 8, "BLOCK": 1024},
        grid=lambda meta: (triton.cdiv(rows, meta["ROWS"]),),
        outputs=("output",),
        reference=reference,
        tolerance=(2e-5, 0.0),
    )


if __name__ == "__main__":
    show(cases())
