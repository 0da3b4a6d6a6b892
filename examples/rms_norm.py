"""RMS normalisation: narrow in memory, wide in arithmetic.

The tensors are bfloat16, which halves the bytes to move; the sum of squares would lose everything in eight bits of
mantissa, so a tile is widened to float32 right after the load and rounded once, in the store.
"""

import ml_dtypes
import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show

PROGRAMS = 48  # as many as the default machine has cores; any number gives the same values


@mlu.jit
def rms_norm(output, x, weight, rows, columns, stride, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)[None, :]
    inside = column < columns
    scale = tl.load(weight + column, mask=inside).to(tl.float32)
    for start in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=2):
        row = start + tl.arange(0, ROWS)[:, None]
        mask = (row < rows) & inside
        values = tl.load(x + row * stride + column, mask=mask, other=0.0).to(tl.float32)
        mean_square = tl.sum(values * values, axis=1, keep_dims=True) / columns
        result = values * tl.rsqrt(mean_square + eps) * scale
        tl.store(output + row * stride + column, result.to(output.dtype.element_ty), mask=mask)


def reference(x, weight, eps, **_):
    wide = x.astype(np.float32)
    rms = np.sqrt((wide * wide).mean(axis=1, keepdims=True) + np.float32(eps))
    return {"output": (wide / rms * weight.astype(np.float32)).astype(x.dtype)}


def cases():
    return [case(2048, 4096, ml_dtypes.bfloat16, "bf16"), case(333, 1500, np.float16, "fp16")]


def case(rows, columns, dtype, dtype_name):
    def arguments():
        rng = np.random.default_rng(0)
        x = rng.standard_normal((rows, columns), dtype=np.float32).astype(dtype)
        weight = rng.random(columns, dtype=np.float32).astype(dtype)
        return {
            "output": np.empty_like(x),
            "x": x,
            "weight": weight,
            "rows": rows,
            "columns": columns,
            "stride": columns,
            "eps": 1e-6,
        }

    return Case(
        name="rms_norm",
        shape=f"{rows}x{columns} {dtype_name}",
        kernel=rms_norm,
        arguments=arguments,
        constants={"ROWS": 4, "BLOCK": triton.next_power_of_2(columns)},
        grid=(PROGRAMS,),
        outputs=("output",),
        reference=reference,
        # One unit in the last place: two roundings of values that differ in float32's last bits.
        tolerance=(float(ml_dtypes.finfo(dtype).eps), 1e-6),
    )


if __name__ == "__main__":
    show(cases())
