"""Segmented sum: rows that say where they belong.

Each row of the input carries the number of the segment it is added to, as in the backward pass of an embedding or in
the aggregation of a graph's messages. Two programs may meet in one segment, so the rows are added atomically; in which
order is open, and the last bits of the sums with it.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show


@mlu.jit
def segmented_sum(sums, x, segments, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    segment = tl.load(segments + row, mask=row < rows, other=0)
    mask = (row[:, None] < rows) & (column < width)
    values = tl.load(x + row[:, None] * width + column, mask=mask)
    tl.atomic_add(sums + segment[:, None] * width + column, values, mask=mask)


def reference(sums, x, segments, **_):
    totals = sums.astype(np.float64)
    np.add.at(totals, segments, x)
    return {"sums": totals.astype(np.float32)}


def cases():
    return [case(4096, 64, 100), case(999, 48, 7)]


def case(rows, width, segments):
    def arguments():
        rng = np.random.default_rng(0)
        return {
            "sums": np.zeros((segments, width), np.float32),
            "x": rng.random((rows, width), np.float32),
            "segments": rng.integers(0, segments, rows, np.int32),
            "rows": rows,
            "width": width,
        }

    return Case(
        name="segmented_sum",
        shape=f"{rows}x{width} fp32 into {segments}",
        kernel=segmented_sum,
        arguments=arguments,
        constants={"ROWS": 32, "BLOCK": triton.next_power_of_2(width)},
        grid=lambda meta: (triton.cdiv(rows, meta["ROWS"]),),
        outputs=("sums",),
        reference=reference,
        tolerance=(2e-5, 0.0),
    )


if __name__ == "__main__":
    show(cases())
