"""Batched transpose: turn the tile on chip, and touch memory in rows both times.

Reading rows and writing columns straight through would store four bytes at a time. Each program loads a square tile
along the rows of the input, transposes it on chip, and stores it along the rows of the output. The batch is the third
dimension of the grid.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def transpose(output, x, rows, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(2) * rows * columns
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    tile = tl.load(x + batch + row[:, None] * columns + column[None, :], mask=mask)
    turned = (column[:, None] < columns) & (row[None, :] < rows)
    tl.store(output + batch + column[:, None] * rows + row[None, :], tl.trans(tile), mask=turned)


def reference(x, **_):
    return {"output": np.ascontiguousarray(x.transpose(0, 2, 1))}


def cases():
    return [case(8, 1024, 768, np.float32, "fp32"), case(3, 500, 333, np.float16, "fp16")]


def case(batch, rows, columns, dtype, dtype_name):
    def arguments():
        x = np.random.default_rng(0).standard_normal((batch, rows, columns), np.float32).astype(dtype)
        return {"output": np.empty((batch, columns, rows), dtype), "x": x, "rows": rows, "columns": columns}

    return Case(
        name="transpose",
        shape=f"{batch}x{rows}x{columns} {dtype_name}",
        kernel=transpose,
        arguments=arguments,
        constants={"BLOCK": 128},
        grid=lambda meta: (
            triton.cdiv(rows, meta["BLOCK"]),
            triton.cdiv(columns, meta["BLOCK"]),
            batch,
        ),
        outputs=("output",),
        reference=reference,
    )


if __name__ == "__main__":
    show(cases())
