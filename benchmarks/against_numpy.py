"""Values and cycles against NumPy: the same work, the same threads, taking turns.

NumPy's side is written as one writes NumPy for speed: in float32 whatever the kernel's types are, converted before the
clock starts, and into arrays that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.figure import Figure, Measured, Unit
from benchmarks.stopwatch import comparison, medians
from examples import flash_attention, layer_norm, matmul, softmax, vector_add
from mlutriton.testing import Case

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
    """A warm launch with values and cycles against NumPy, after a check of the values."""
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


def _gemm(size: int, dtype: Any, dtype_name: str) -> Figure:
    make_case = partial(matmul.case, size, size, size, dtype, dtype_name)
    name = f"GEMM {size} {dtype_name}" + ("" if dtype_name == "fp32" else " (NumPy in fp32)")
    return _figure(name, make_case, matmul_work, goal=0.8 if dtype_name == "fp32" else None, aim=0.5)


def _attention(causal: bool) -> Figure:
    make_case = partial(flash_attention.case, 1, 4, 1024, 64, causal)
    work = partial(attention_work, causal=causal)
    return _figure("attention 1x4x1024x64 fp16" + " causal" * causal, make_case, work, goal=3, aim=None)


FIGURES = (
    _figure("softmax 1823x781 fp32", partial(softmax.case, 1823, 781, 8), softmax_work, goal=1.5, aim=1),
    _figure("layer norm 1151x8192 fp32", partial(layer_norm.case, 1151, 8192), layer_norm_work, goal=1.5, aim=None),
    _figure("vector add 2**24 fp32", partial(vector_add.case, 2**24, 16_384), vector_add_work, goal=None, aim=None),
    *(_gemm(size, np.float32, "fp32") for size in (512, 1024, 2048)),
    _gemm(1024, np.float16, "fp16"),
    _gemm(1024, ml_dtypes.bfloat16, "bf16"),
    _gemm(1024, np.int8, "int8"),
    _attention(causal=False),
    _attention(causal=True),
)
