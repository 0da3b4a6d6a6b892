"""Layer normalisation: several results from one load, and what is loaded once.

Weight and bias are the same for every row, so they are loaded before the loop and stay on chip. Mean and reciprocal
standard deviation, which a backward pass needs, leave as one number a row beside the normalised rows. The variance is
taken of the centred row: E[x^2] - E[x]^2 would cancel.
"""

import numpy as np
import triton

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing import Case, show

PROGRAMS = 48  # as many as the default machine has cores; any number gives the same values


@mlu.jit
def layer_norm(x, output, weight, bias, mean, rstd, rows, columns, stride, eps, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    mask = column < columns
    scale = tl.load(weight + column, mask=mask)
    shift = tl.load(bias + column, mask=mask)
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=2):
        values = tl.load(x + row * stride + column, mask=mask, other=0.0)
        average = tl.sum(values, axis=0) / columns
        centred = tl.where(mask, values - average, 0.0)
        inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + eps)
        tl.store(mean + row, average)
        tl.store(rstd + row, inverse)
        tl.store(output + row * stride + column, centred * inverse * scale + shift, mask=mask)


def reference(x, weight, bias, eps, **_):
    mean = x.mean(axis=1, dtype=np.float64)
    centred = x - mean[:, None]
    rstd = 1 / np.sqrt((centred * centred).mean(axis=1) + eps)
    output = centred * rstd[:, None] * weight + bias
    return {name: value.astype(np.float32) for name, value in [("output", output), ("mean", mean), ("rstd", rstd)]}


def cases():
    return [case(1151, 8192), case(64, 1000)]


def case(rows, columns):
    def arguments():
        rng = np.random.default_rng(0)
        x = rng.standard_normal((rows, columns), dtype=np.float32) * 2 + 0.5
        return {
            "x": x,
            "output": np.empty_like(x),
            "weight": rng.random(columns, dtype=np.float32),
            "bias": rng.random(columns, dtype=np.float32),
            "mean": np.empty(rows, np.float32),
            "rstd": np.empty(rows, np.float32),
            "rows": rows,
            "columns": columns,
            "stride": columns,
            "eps": 1e-5,
        }

    return Case(
        name="layer_norm",
        shape=f"{rows}x{columns} fp32",
        kernel=layer_norm,
        arguments=arguments,
        constants={"BLOCK": triton.next_power_of_2(columns)},
        grid=(PROGRAMS,),
        outputs=("output", "mean", "rstd"),
        reference=reference,
        tolerance=(1e-4, 1e-5),
    )


if __name__ == "__main__":
    show(cases())
