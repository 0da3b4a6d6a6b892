"""Values and cycles against NumPy: the same work, the same threads, taking turns.

NumPy's side is written as one writes NumPy for speed: in float32 whatever the kernel's types are, converted before the
clock starts, and into arrays that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import kernels
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.stopwatch import comparison, medians
from examples import (
    cross_entropy,
    cumsum,
    embedding,
    flash_attention,
    layer_norm,
    matmul,
    rms_norm,
    softmax,
    vector_add,
)
from mlutriton.dtypes import BY_NAME
from mlutriton.testing import Case

BF16 = BY_NAME["bf16"].numpy
NumpyWork = Callable[..., Callable[[], object]]


def vector_add_work(x: Any, y: Any, **_: Any) -> Callable[[], object]:
    return partial(np.add, x, y, out=np.empty_like(x))


def softmax_work(x: Any, **_: Any) -> Callable[[], object]:
    output = np.empty_like(x)

    def work() -> None:
        np.subtract(x, x.max(axis=1, keepdims=True), out=output)
        np.exp(output, out=output)
        np.divide(output, output.sum(axis=1, keepdims=True), out=output)

    return work


def layer_norm_work(x: Any, weight: Any, bias: Any, eps: float, **_: Any) -> Callable[[], object]:
    output = np.empty_like(x)

    def work() -> tuple[Any, Any]:
        mean = x.mean(axis=1, keepdims=True)
        np.subtract(x, mean, out=output)
        variance = np.einsum("rc,rc->r", output, output)[:, None] / np.float32(x.shape[1])
        rstd = 1 / np.sqrt(variance + np.float32(eps))
        np.multiply(output, rstd, out=output)
        np.multiply(output, weight, out=output)
        np.add(output, bias, out=output)
        return mean, rstd

    return work


def rms_norm_work(x: Any, weight: Any, eps: float, **_: Any) -> Callable[[], object]:
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    output = np.empty_like(x)

    def work() -> None:
        mean_square = np.einsum("rc,rc->r", x, x)[:, None] / np.float32(x.shape[1])
        np.multiply(x, 1 / np.sqrt(mean_square + np.float32(eps)), out=output)
        np.multiply(output, weight, out=output)

    return work


def gelu_work(x: Any, bias: Any, **_: Any) -> Callable[[], object]:
    values, output = np.empty_like(x), np.empty_like(x)

    def work() -> None:
        np.add(x, bias, out=values)
        np.multiply(values, values, out=output)
        np.multiply(output, np.float32(0.044715), out=output)
        np.add(output, np.float32(1), out=output)
        np.multiply(output, values, out=output)
        np.multiply(output, np.float32(0.7978845608028654), out=output)
        np.tanh(output, out=output)
        np.add(output, np.float32(1), out=output)
        np.multiply(output, values, out=output)
        np.multiply(output, np.float32(0.5), out=output)

    return work


def cross_entropy_work(logits: Any, targets: Any, ignore: int, **_: Any) -> Callable[[], object]:
    powers, tokens = np.empty_like(logits), np.arange(len(targets))
    ignored = targets == ignore
    chosen = np.where(ignored, 0, targets)

    def work() -> Any:
        maximum = logits.max(axis=1, keepdims=True)
        np.subtract(logits, maximum, out=powers)
        np.exp(powers, out=powers)
        loss = maximum[:, 0] + np.log(powers.sum(axis=1)) - logits[tokens, chosen]
        return np.where(ignored, np.float32(0), loss)

    return work


def embedding_work(weight: Any, identifiers: Any, **_: Any) -> Callable[[], object]:
    return lambda: weight[identifiers]


def gather_work(x: Any, indices: Any, **_: Any) -> Callable[[], object]:
    return lambda: x[indices]


def row_sum_work(output: Any, x: Any, **_: Any) -> Callable[[], object]:
    return partial(np.sum, x, axis=1, out=output.copy())


def row_maximum_work(output: Any, x: Any, **_: Any) -> Callable[[], object]:
    return partial(np.max, x, axis=1, out=output.copy())


def cumsum_work(x: Any, **_: Any) -> Callable[[], object]:
    return partial(np.cumsum, x, axis=1, out=np.empty_like(x))


def sort_work(x: Any, **_: Any) -> Callable[[], object]:
    return partial(np.sort, x, axis=1)


def matmul_work(a: Any, b: Any, **_: Any) -> Callable[[], object]:
    a, b = a.astype(np.float32), b.astype(np.float32)
    return partial(np.matmul, a, b, out=np.empty((a.shape[0], b.shape[1]), np.float32))


def attention_work(q: Any, k: Any, v: Any, scale: float, *, causal: bool, **_: Any) -> Callable[[], object]:
    q, k, v = (each.astype(np.float32) for each in (q, k, v))
    keys = np.ascontiguousarray(k.swapaxes(2, 3))
    scores = np.empty((*q.shape[:3], k.shape[2]), np.float32)
    mask = np.triu(np.full(scores.shape[2:], -np.inf, np.float32), 1)

    def work() -> Any:
        np.matmul(q, keys, out=scores)
        np.multiply(scores, np.float32(scale), out=scores)
        if causal:
            np.add(scores, mask, out=scores)
        np.subtract(scores, scores.max(axis=3, keepdims=True), out=scores)
        np.exp(scores, out=scores)
        return (scores @ v) / scores.sum(axis=3, keepdims=True)

    return work


def measure(make_case: Callable[[], Case], work: NumpyWork, quick: bool) -> Measured:
    """A warm launch with values and cycles against NumPy, after a check of the values.

    It leaves the records of the launch before, of which the cycles are known; what replays take is measured apart.
    """
    case = make_case()
    case.check()
    arguments = case.arguments()
    launcher = case.kernel[case.grid]
    ours, theirs = medians(
        [lambda: launcher(**arguments, **case.constants).cycles, work(**arguments)],
        quick=quick,
    )
    return comparison(ours, theirs, "NumPy")


def _figure(name: str, make_case: Callable[[], Case], work: NumpyWork, goal: float | None, aim: float | None) -> Figure:
    return Figure(f"{name} against NumPy", Unit.TIMES, partial(measure, make_case, work), goal, aim)


def _gemm(shape: tuple[int, int, int], dtype: Any, dtype_name: str) -> Figure:
    make_case = partial(matmul.case, *shape, dtype, dtype_name)
    name = f"GEMM {'x'.join(map(str, dict.fromkeys(shape)))} {dtype_name}"
    name += "" if dtype_name == "fp32" else " (NumPy in fp32)"
    return _figure(name, make_case, matmul_work, goal=0.8 if dtype_name == "fp32" else None, aim=0.5)


def _attention(causal: bool) -> Figure:
    make_case = partial(flash_attention.case, 1, 4, 1024, 64, causal)
    work = partial(attention_work, causal=causal)
    return _figure("attention 1x4x1024x64 fp16" + " causal" * causal, make_case, work, goal=3, aim=None)


FIGURES = (
    _figure("softmax 1823x781 fp32", partial(softmax.case, 1823, 781, 8), softmax_work, goal=1.5, aim=1),
    _figure("layer norm 1151x8192 fp32", partial(layer_norm.case, 1151, 8192), layer_norm_work, goal=1.5, aim=None),
    _figure(
        "RMS norm 2048x4096 fp32",
        partial(rms_norm.case, 2048, 4096, np.float32, "fp32"),
        rms_norm_work,
        goal=1.5,
        aim=None,
    ),
    _figure("GELU 4096x4096 fp32", partial(kernels.gelu_case, 4096, 4096), gelu_work, goal=1.5, aim=None),
    _figure(
        "cross entropy 512x32000 fp32", partial(cross_entropy.case, 512, 32_000), cross_entropy_work, goal=1.5, aim=None
    ),
    _figure("vector add 2**24 fp32", partial(vector_add.case, 2**24, 16_384), vector_add_work, goal=None, aim=None),
    _figure(
        "embedding 16384 of 32000x1024 fp16",
        partial(embedding.case, 16_384, 32_000, 1024),
        embedding_work,
        goal=1,
        aim=None,
    ),
    _figure("gather 2**22 of 2**20 fp32", partial(kernels.gather_case, 2**22, 2**20), gather_work, goal=1, aim=None),
    _figure("row sum 4096x4096 fp32", partial(kernels.row_sum_case, 4096, 4096), row_sum_work, goal=0.5, aim=None),
    _figure(
        "row maximum 4096x4096 fp32",
        partial(kernels.row_maximum_case, 4096, 4096),
        row_maximum_work,
        goal=0.5,
        aim=None,
    ),
    _figure("cumsum 768x4096 fp32", partial(cumsum.case, 768, 4096), cumsum_work, goal=0.5, aim=None),
    _figure("sort 1024x1024 fp32", partial(kernels.sort_case, 1024, 1024), sort_work, goal=0.5, aim=None),
    *(_gemm((size, size, size), np.float32, "fp32") for size in (512, 1024, 2048, 4096)),
    _gemm((1000, 1111, 777), np.float32, "fp32"),
    *(_gemm((1024, 1024, 1024), *dtype) for dtype in ((np.float16, "fp16"), (BF16, "bf16"), (np.int8, "int8"))),
    _attention(causal=False),
    _attention(causal=True),
)
