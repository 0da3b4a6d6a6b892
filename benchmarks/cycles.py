"""Cycles of compiled kernels: over the work bound where memory binds, and as a share of the peak where products do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import mlutriton as mlu
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.machine_limit import NOTHING_KNOWN, Needs, machine_limit
from examples import flash_attention, layer_norm, matmul, rms_norm, softmax, transpose, vector_add
from mlutriton.configuration import current_machine
from mlutriton.testing import Case

MakeCase = Callable[[], Case]

MEMORY_BOUND: dict[str, MakeCase] = {
    "vector add 2**24 fp32": partial(vector_add.case, 2**24, 16_384),
    "transpose 8x1024x768 fp32": partial(transpose.case, 8, 1024, 768, np.float32, "fp32"),
    "RMS norm 2048x4096 bf16": partial(rms_norm.case, 2048, 4096, ml_dtypes.bfloat16, "bf16"),
    "softmax 1823x781 fp32": partial(softmax.case, 1823, 781, 8),
    "layer norm 1151x8192 fp32": partial(layer_norm.case, 1151, 8192),
}


def _attention(scores: int) -> Needs:
    """What so many scores need: their maxima; the powers of what they lack, the sum of these, these in halves."""
    return Needs(4 * scores, connected=(1, 1), reductions=2, specials=1)


# What kernels say of the work that counters do not tell.
NEEDS: dict[str, Needs] = {
    # The maximum; x - maximum, its power, the sum of these; the quotients.
    "softmax 1823x781 fp32": Needs(4 * 1823 * 781, connected=(1,), reductions=2, specials=1, divisions=1),
    # v = x + bias; 0.04 v v v + v, scaled; 1 + its power; the quotients.
    "GELU 4096x4096 fp32": Needs(4 * 4096 * 4096, connected=(5, 1), specials=1, divisions=1),
    "transpose 8x1024x768 fp32": Needs(rearranges=True),
    "attention 4x48x1024x64 fp16": _attention(4 * 48 * 1024**2),
    "attention 4x48x1024x64 fp16, num_warps=4": _attention(4 * 48 * 1024**2),
    "attention 4x48x1024x64 fp16 causal": _attention(4 * 48 * 1024**2 // 2),
    "attention 1x12x4096x128 fp16": _attention(12 * 4096**2),
    "attention 1x12x4096x128 fp16, num_warps=4": _attention(12 * 4096**2),
}
_LARGE = partial(matmul.case, 4096, 4096, 4096, np.float16, "fp16", on_cluster=True)
TENSOR_BOUND: dict[str, tuple[MakeCase, float]] = {
    "GEMM 2048 fp16": (partial(matmul.case, 2048, 2048, 2048, np.float16, "fp16"), 85),
    "GEMM 4096 fp16": (partial(matmul.case, 4096, 4096, 4096, np.float16, "fp16"), 85),
    "GEMM 4096 fp16, num_warps=4": (_LARGE, 85),
    "GEMM 2048 fp32": (partial(matmul.case, 2048, 2048, 2048, np.float32, "fp32"), 85),
    "attention 4x48x1024x64 fp16": (partial(flash_attention.case, 4, 48, 1024, 64, causal=False), 70),
    "attention 4x48x1024x64 fp16, num_warps=4": (
        partial(flash_attention.case, 4, 48, 1024, 64, causal=False, on_cluster=True),
        70,
    ),
    "attention 4x48x1024x64 fp16 causal": (partial(flash_attention.case, 4, 48, 1024, 64, causal=True), 70),
    "attention 1x12x4096x128 fp16": (partial(flash_attention.case, 1, 12, 4096, 128, causal=False), 70),
    "attention 1x12x4096x128 fp16, num_warps=4": (
        partial(flash_attention.case, 1, 12, 4096, 128, causal=False, on_cluster=True),
        70,
    ),
}
# The same on another machine.
ELSEWHERE: dict[str, tuple[MakeCase, str, float]] = {
    # There is less bandwidth there, and more room: larger tiles.
    "GEMM 4096 fp16, num_warps=4": (partial(_LARGE, blocks=(512, 512, 256)), "mlu370-x4", 85),
}


def _estimate(make_case: MakeCase) -> Any:
    case = make_case()
    return mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)


def measure_over_work_bound(make_case: MakeCase, quick: bool) -> Measured:
    """Cycles over the least that the work needs."""
    run = _estimate(make_case)
    bound = run.work_bound_cycles
    text = f"{run.cycles:,} cycles, bound {bound:,}"
    return Measured(run.cycles / bound, text, {"cycles": run.cycles, "work_bound_cycles": bound})


def measure_over_machine_limit(make_case: MakeCase, needs: Needs, quick: bool) -> Measured:
    """Cycles over the least that any program takes for the work on the machine."""
    run = _estimate(make_case)
    limit = machine_limit(run, needs)
    numbers = {"cycles": run.cycles, "machine_limit_cycles": limit.cycles, **limit.parts}
    return Measured(run.cycles / limit.cycles, f"{run.cycles:,} cycles, {limit.text()}", numbers)


def measure_share_of_peak(make_case: MakeCase, needs: Needs, quick: bool) -> Measured:
    """Cycles that the multiply-accumulates need at the tensor units' peak rate, over the cycles of the launch."""
    run = _estimate(make_case)
    peak, limit = run.work_bound.tensor_cycles, machine_limit(run, needs)
    text = f"{run.cycles:,} cycles, at peak {peak:,}; at best {100 * peak / limit.cycles:.1f} %, {limit.text()}"
    numbers = {"cycles": run.cycles, "peak_cycles": peak, "machine_limit_cycles": limit.cycles}
    return Measured(100 * peak / run.cycles, text, numbers)


def measure_elsewhere(make_case: MakeCase, machine: str, quick: bool) -> Measured:
    """As ``measure_share_of_peak``, on a machine of that name."""
    before = current_machine()
    try:
        mlu.set_machine(machine)
        return measure_share_of_peak(make_case, NOTHING_KNOWN, quick)
    finally:
        mlu.set_machine(before)


FIGURES = (
    *(
        Figure(
            f"cycles over work bound, {name}",
            Unit.TIMES,
            partial(measure_over_work_bound, make_case),
            goal=1.15,
            aim=1.4,
            less_is_better=True,
        )
        for name, make_case in MEMORY_BOUND.items()
    ),
    *(
        Figure(
            f"cycles over machine limit, {name}",
            Unit.TIMES,
            partial(measure_over_machine_limit, make_case, NEEDS.get(name, NOTHING_KNOWN)),
            less_is_better=True,
        )
        for name, make_case in MEMORY_BOUND.items()
    ),
    *(
        Figure(
            f"share of peak MACs, {name}",
            Unit.PERCENT,
            partial(measure_share_of_peak, make_case, NEEDS.get(name, NOTHING_KNOWN)),
            goal,
        )
        for name, (make_case, goal) in TENSOR_BOUND.items()
    ),
    *(
        Figure(
            f"share of peak MACs, {name}, {machine}", Unit.PERCENT, partial(measure_elsewhere, make_case, machine), goal
        )
        for name, (make_case, machine, goal) in ELSEWHERE.items()
    ),
)
