"""What kernels for GPUs reach as they are: their cycles against those of the best configuration that a search finds.

Each kernel has the configuration that its users on GPUs would have written, ``num_warps`` and ``num_stages`` included,
and a small space of what suits an MLU. The figure is the share of the best configuration's cycles in those of the
ported one: 100 % where tuning gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from triton.compiler.errors import CompilationError

import mlutriton as mlu
from benchmarks import kernels
from benchmarks.figure import Figure, Measured, Unit
from examples import cumsum, dropout, flash_attention, rms_norm, softmax, transpose, vector_add
from mlutriton.diagnostics import CompileError
from mlutriton.testing import Case

GOAL_PERCENT = 60


@dataclass(frozen=True)
class Port:
    """A kernel that was written for another machine.

    Attributes:
        case: makes the case.
        written: constants and options as they are written for a GPU.
        space: values of constants and options that are tried; all combinations are.
    """

    case: Callable[[], Case]
    written: Mapping[str, Any]
    space: Mapping[str, tuple[Any, ...]]

    def cycles(self, constants: Mapping[str, Any]) -> int:
        """Cycles with these constants and options.

        Raises:
            CompileError: tiles do not fit.
        """
        case = self.case()
        every = {**case.constants, **constants}
        grid = case.grid(every) if callable(case.grid) else case.grid
        return mlu.estimate(case.kernel, grid, **case.arguments(), **every).cycles

    def best(self) -> tuple[int, dict[str, Any]]:
        """The least cycles of the space, and where they are."""
        found: list[tuple[int, dict[str, Any]]] = []
        for values in product(*self.space.values()):
            constants = {**self.written, **dict(zip(self.space, values, strict=True))}
            try:
                found.append((self.cycles(constants), constants))
            except (CompileError, CompilationError):  # tiles do not fit, or the kernel refuses them itself
                continue
        return min(found, key=lambda each: each[0])


def _product(size: int, blocks: tuple[int, int, int], warps: int) -> Port:
    names = ("BLOCK_M", "BLOCK_N", "BLOCK_K")
    return Port(
        partial(kernels.tutorial_matmul_case, size, size, size),
        {**dict(zip(names, blocks, strict=True)), "num_warps": warps, "num_stages": 3},
        {
            "BLOCK_M": (128, 256, 512),
            "BLOCK_N": (256,),
            "BLOCK_K": (128, 256),
            "GROUP_M": (4, 8),
            "num_warps": (1, 4),
            "num_stages": (2,),
        },
    )


PORTS: dict[str, Port] = {
    **{
        f"product of {size}, fp16, tiles of {'x'.join(map(str, blocks))}": _product(size, blocks, warps)
        for size in (1024, 4096)
        for blocks, warps in (((128, 256, 64), 8), ((128, 128, 32), 4), ((64, 256, 32), 4), ((64, 64, 32), 2))
    },
    "attention 1x12x4096x128 fp16": Port(
        partial(flash_attention.case, 1, 12, 4096, 128, causal=False),
        {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
        {"BLOCK_M": (128, 256, 512), "BLOCK_N": (128, 256, 512), "num_warps": (1, 4), "num_stages": (2,)},
    ),
    "attention 1x12x4096x128 fp16 causal": Port(
        partial(flash_attention.case, 1, 12, 4096, 128, causal=True),
        {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
        {"BLOCK_M": (128, 256, 512), "BLOCK_N": (128, 256), "num_warps": (1, 4), "num_stages": (2,)},
    ),
    "vector add 2**24 fp32": Port(
        partial(vector_add.case, 2**24, 1024),
        {"BLOCK": 1024, "num_warps": 4},
        {"BLOCK": (1024, 4096, 8192, 16_384), "num_warps": (1, 4)},
    ),
    "dropout 2**21 fp32": Port(
        partial(dropout.case, 2**21, 1024),
        {"BLOCK": 1024, "num_warps": 4},
        {"BLOCK": (1024, 4096, 8192, 16_384), "num_warps": (1, 4)},
    ),
    "softmax 1823x781 fp32": Port(
        partial(softmax.case, 1823, 781, 1),
        {"ROWS": 1, "STAGES": 4, "num_warps": 8},
        {"ROWS": (1, 4, 8, 16), "STAGES": (2,), "num_warps": (1,)},
    ),
    "RMS norm 2048x4096 bf16": Port(
        partial(rms_norm.case, 2048, 4096, ml_dtypes.bfloat16, "bf16"),
        {"ROWS": 1, "num_warps": 8},
        {"ROWS": (1, 2, 4, 8), "num_warps": (1,)},
    ),
    "cumsum 768x4096 fp32": Port(
        partial(cumsum.case, 768, 4096),
        {"ROWS": 1, "BLOCK": 1024, "num_warps": 4},
        {"ROWS": (1, 4, 8, 16), "BLOCK": (512, 1024, 2048, 4096), "num_warps": (1,)},
    ),
    "transpose 8x1024x768 fp32": Port(
        partial(transpose.case, 8, 1024, 768, np.float32, "fp32"),
        {"BLOCK": 32, "num_warps": 4},
        {"BLOCK": (32, 64, 128, 256), "num_warps": (1, 4)},
    ),
}


def measure(name: str, quick: bool) -> Measured:
    """Cycles of the best configuration over those of the ported one, in percent."""
    port = PORTS[name]
    written, (best, constants) = port.cycles(port.written), port.best()
    # The search may well find less than what is there already.
    best = min(best, written)
    chosen = ", ".join(f"{key}={value}" for key, value in constants.items() if key in port.space)
    text = f"{written:,} cycles as written, {best:,} with {chosen}"
    return Measured(100 * best / written, text, {"written": written, "best": best})


FIGURES = tuple(
    Figure(f"untuned over tuned, {name}", Unit.PERCENT, partial(measure, name), goal=GOAL_PERCENT) for name in PORTS
)
