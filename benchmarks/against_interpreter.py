"""Values against Triton's own interpreter, in a process of its own, as ``TRITON_INTERPRET`` is read at import."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np

from benchmarks.figure import Figure, Measured, NotMeasurableError, Unit
from benchmarks.fresh_process import run_module
from benchmarks.stopwatch import comparison, medians, seconds_of
from examples import matmul, softmax
from mlutriton.testing import Case

# The interpreter pays for each operation on a tile: the more rows a tile has, the better it does.
CASES: dict[str, Callable[[], Case]] = {
    "softmax 1823x781 fp32": partial(softmax.case, 1823, 781, rows_per_tile=1),
    "softmax 1823x781 fp32, 8 rows a tile": partial(softmax.case, 1823, 781, rows_per_tile=8),
    "GEMM 512 fp32": partial(matmul.case, 512, 512, 512, np.float32, "fp32"),
}


def measure(name: str, quick: bool) -> Measured:
    """A warm launch with values alone against the interpreter's; the interpreter runs between two halves of ours."""
    if importlib.util.find_spec("torch") is None:
        raise NotMeasurableError("needs torch: pip install '.[bench]'")
    case = CASES[name]()
    arguments = case.arguments()
    launcher = case.kernel[case.grid]

    def launch() -> object:
        return launcher(**arguments, **case.constants)

    (before,) = medians([launch], quick=quick)
    theirs = run_module(__name__, name, "1" if quick else "3", environment={"TRITON_INTERPRET": "1"})["seconds"]
    (after,) = medians([launch], quick=quick)
    return comparison((before + after) / 2, theirs, "interpreter")


def interpret(name: str, launches: int) -> float:
    """Median time of launches in a process whose ``mlu.jit`` is Triton's interpreter."""
    import torch

    case = CASES[name]()
    arguments = case.arguments()
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()
    }
    return median(seconds_of(lambda: case.kernel[case.grid](**tensors, **case.constants)) for _ in range(launches))


def _figure(name: str, goal: float | None, aim: float | None) -> Figure:
    return Figure(f"{name} against Triton's interpreter", Unit.TIMES, partial(measure, name), goal, aim)


FIGURES = (
    _figure("softmax 1823x781 fp32", goal=500, aim=200),
    _figure("softmax 1823x781 fp32, 8 rows a tile", goal=None, aim=None),
    _figure("GEMM 512 fp32", goal=80, aim=None),
)

if __name__ == "__main__":
    print(json.dumps({"seconds": interpret(sys.argv[1], int(sys.argv[2]))}))
