"""Fused softmax: keep a row on chip, and give each transfer enough to carry.

Written naively, softmax reads its input three times: for the maximum, for the sum, for the result. Here a row is
loaded once, reduced twice while it is on chip, and stored once. The width is padded to the next power of two, and
the padding is filled with minus infinity, which is neutral for the maximum and vanishes in the sum.

The programs stay: each walks over the rows with a stride of the whole grid, and ``num_stages`` lets the next tiles
load while these are computed. The two cases differ in ``ROWS`` alone. Where a row is a tile, the compiler loads,
computes and stores several of them at a time by itself, so that they share the start-up of transfers and instructions;
with ``STAGES=1`` every 3 KB pays it.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show

PROGRAMS = 48  # as many as the default machine has cores; any number gives the same values


@mlu.jit
def softmax(
    output, x, rows, columns, output_stride, x_stride, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    column = tl.arange(0, BLOCK)[None, :]
    first = tl.program_id(0) * ROWS
    for start in tl.range(first, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)[:, None]
        mask = (row < rows) & (column < columns)
        tile = tl.load(x + row * x_stride + column, mask=mask, other=-float("inf"))
        # Subtracting the maximum changes nothing but the range: exp cannot overflow.
        numerator = tl.exp(tile - tl.max(tile, axis=1, keep_dims=True))
        result = numerator / tl.sum(numerator, axis=1, keep_dims=True)
        tl.store(output + row * output_stride + column, result, mask=mask)


def launch_softmax(rows, columns, PROGRAMS=PROGRAMS):
    """How ``mlutriton tune`` launches it: a grid, and arguments of which no array is allocated."""
    output, x = (mlu.spec((rows, columns), "float32") for _ in range(2))
    return (PROGRAMS,), {
        "output": output,
        "x": x,
        "rows": rows,
        "columns": columns,
        "output_stride": columns,
        "x_stride": columns,
        "BLOCK": triton.next_power_of_2(columns),
    }


def reference(x, **_):
    numerator = np.exp(x - x.max(axis=1, keepdims=True))
    return {"output": numerator / numerator.sum(axis=1, keepdims=True)}


def cases():
    return [case(1823, 781, rows_per_tile=1), case(1823, 781, rows_per_tile=8)]


def case(rows, columns, rows_per_tile):
    def arguments():
        x = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
        return {
            "output": np.empty_like(x),
            "x": x,
            "rows": rows,
            "columns": columns,
            "output_stride": columns,
            "x_stride": columns,
        }

    return Case(
        name="softmax",
        shape=f"{rows}x{columns} fp32 ROWS={rows_per_tile}",
        kernel=softmax,
        arguments=arguments,
        constants={"ROWS": rows_per_tile, "BLOCK": triton.next_power_of_2(columns), "STAGES": 2},
        grid=(PROGRAMS,),
        outputs=("output",),
        reference=reference,
        tolerance=(1e-5, 1e-8),
    )


if __name__ == "__main__":
    show(cases())
