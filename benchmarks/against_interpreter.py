"""Values against Triton's own interpreter, in a process of its own, as ``TRITON_INTERPRET`` is read at import."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import geometric_mean, median
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.figure import Figure, Measured, NotMeasurableError, Unit
from benchmarks.fresh_process import REPOSITORY, run_module
from benchmarks.stopwatch import comparison, medians, seconds_of
from examples import matmul, softmax
from mlutriton.testing import Case
from mlutriton.testing.example import load_examples

# The interpreter pays for each operation on a tile: the more rows a tile has, the better it does.
CASES: dict[str, Callable[[], Case]] = {
    "softmax 1823x781 fp32": partial(softmax.case, 1823, 781, rows_per_tile=1),
    "softmax 1823x781 fp32, 8 rows a tile": partial(softmax.case, 1823, 781, rows_per_tile=8),
    "GEMM 512 fp32": partial(matmul.case, 512, 512, 512, np.float32, "fp32"),
}


def example_cases() -> dict[str, Case]:
    """The first case of every example, by the name of its file."""
    return {example.name: example.cases[0] for example in load_examples(REPOSITORY / "examples")}


def measure(name: str, quick: bool) -> Measured:
    """A warm launch with values alone against the interpreter's; the interpreter runs between two halves of ours."""
    launch = _launch(CASES[name]())
    (before,) = medians([launch], quick=quick, settle=False)
    theirs = _interpreter_seconds("1" if quick else "3", name)["seconds"]
    (after,) = medians([launch], quick=quick, settle=False)
    return comparison((before + after) / 2, theirs, "interpreter")


def measure_examples(quick: bool) -> Measured:
    """The geometric mean over the examples of how many times faster than the interpreter a warm launch is."""
    theirs = _interpreter_seconds("1")
    ours = {name: medians([_launch(case)], quick=True, settle=False)[0] for name, case in example_cases().items()}
    ratios = {name: theirs[name] / seconds for name, seconds in ours.items()}
    ordered = sorted(ratios, key=ratios.__getitem__)
    text = ", ".join(f"{name} {ratios[name]:.3g}x" for name in ordered)
    return Measured(geometric_mean(ratios.values()), text, ratios)


def _launch(case: Case) -> Callable[[], object]:
    arguments = case.arguments()
    launcher = case.kernel[case.grid]
    return lambda: launcher(**arguments, **case.constants)


def _interpreter_seconds(*arguments: str) -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        raise NotMeasurableError("needs torch: pip install '.[bench]'")
    return run_module(__name__, *arguments, environment={"TRITON_INTERPRET": "1"})


def interpret(case: Case, launches: int) -> float:
    """Median time of launches in a process whose ``mlu.jit`` is Triton's interpreter."""
    arguments = {name: _tensor(value) for name, value in case.arguments().items()}
    return median(seconds_of(lambda: case.kernel[case.grid](**arguments, **case.constants)) for _ in range(launches))


def _tensor(value: object) -> object:
    """An array as the interpreter takes it, which is a tensor of torch."""
    import torch

    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def _figure(name: str, goal: float | None, aim: float | None) -> Figure:
    return Figure(f"{name} against Triton's interpreter", Unit.TIMES, partial(measure, name), goal, aim)


FIGURES = (
    _figure("softmax 1823x781 fp32", goal=500, aim=200),
    _figure("softmax 1823x781 fp32, 8 rows a tile", goal=None, aim=None),
    _figure("GEMM 512 fp32", goal=80, aim=None),
    Figure("examples, geometric mean, against Triton's interpreter", Unit.TIMES, measure_examples, goal=100),
)

if __name__ == "__main__":
    repetitions, *names = sys.argv[1:]
    if names:
        print(json.dumps({"seconds": interpret(CASES[names[0]](), int(repetitions))}))
    else:
        print(json.dumps({name: interpret(case, int(repetitions)) for name, case in example_cases().items()}))
