"""What a launch costs: warm, first in a process, and of a large kernel of which only the cycles are wanted."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import mlutriton as mlu
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.fresh_process import empty_caches, run_module
from benchmarks.stopwatch import duration, medians, seconds_of
from examples import matmul, vector_add

_SIZE = 8192
_PROGRAMS = 10_000_000
_WARM_LAUNCHES = 200


def measure_warm(with_cycles: bool, quick: bool) -> Measured:
    """A launch of one program that adds 1,024 numbers; a launch alone leaves its cycles for later."""
    case = vector_add.case(1024, block=1024)
    arguments = case.arguments()
    launcher = case.kernel[1,]

    def launches() -> None:
        for _ in range(_WARM_LAUNCHES):
            run = launcher(**arguments, **case.constants)
            if with_cycles:
                _ = run.cycles

    (seconds,) = medians([launches], quick=quick, settle=False)
    return Measured(seconds / _WARM_LAUNCHES * 1e6)


def measure_first(warm_cache: bool, quick: bool) -> Measured:
    """The first launch of a process, imports apart, with its cycles."""
    samples: list[dict[str, float]] = []
    for _ in range(1 if quick else 3):
        with empty_caches() as environment:
            for _ in range(1 + warm_cache):
                sample: dict[str, float] = run_module(__name__, str(time.time()), environment=environment)
            samples.append(sample)
    launch = median(sample["launch"] for sample in samples)
    imports = median(sample["imports"] for sample in samples)
    return Measured(launch, f"after {duration(imports)} of imports", {"import_seconds": imports})


def measure_timing_only(quick: bool) -> Measured:
    """Cycles of a product of 8192 x 8192 matrices, warm; the first estimate compiles as well."""
    case = matmul.case(_SIZE, _SIZE, _SIZE, np.float16, "fp16")
    matrix = mlu.spec((_SIZE, _SIZE), np.float16)
    arguments = (matrix, matrix, matrix, *(_SIZE,) * 3, *(_SIZE, 1) * 3)

    def estimate() -> Any:
        return mlu.estimate(case.kernel, case.grid, *arguments, **case.constants).cycles

    first = seconds_of(estimate)
    (seconds,) = medians([estimate], quick=quick, settle=False)
    return Measured(seconds, f"first {duration(first)}", {"first_seconds": first})


def measure_many_programs(quick: bool) -> Measured:
    """Cycles of a grid of ten million programs that each add 16 numbers."""
    programs = _PROGRAMS // (10 if quick else 1)
    vector, size = mlu.spec((16 * programs,), np.float32), 16 * programs
    case = vector_add.case(16, block=16)

    def estimate() -> Any:
        return mlu.estimate(case.kernel, (programs,), vector, vector, vector, size, **case.constants).cycles

    mlu.estimate(case.kernel, (1,), vector, vector, vector, size, **case.constants)
    seconds = seconds_of(estimate) * _PROGRAMS / programs
    return Measured(seconds, f"{programs:,} programs measured")


FIGURES = (
    Figure("warm launch", Unit.MICROSECONDS, partial(measure_warm, False), goal=50, less_is_better=True),
    Figure("warm launch with cycles", Unit.MICROSECONDS, partial(measure_warm, True)),
    Figure("first launch of a process, empty caches", Unit.SECONDS, partial(measure_first, False)),
    Figure("first launch of a process, warm caches", Unit.SECONDS, partial(measure_first, True)),
    Figure("cycles alone, 10 M small programs", Unit.SECONDS, measure_many_programs, goal=10, less_is_better=True),
    Figure("cycles alone, GEMM 8192 fp16", Unit.SECONDS, measure_timing_only, goal=1, less_is_better=True),
)


def first_launch(process_start: float) -> dict[str, float]:
    """Wall time of the imports of this process, which was started at a time of the clock, and of its first launch."""
    imports = time.time() - process_start
    case = vector_add.case(98_432, block=1024)
    arguments = case.arguments()
    launch = seconds_of(lambda: case.kernel[case.grid](**arguments, **case.constants).cycles)
    return {"imports": imports, "launch": launch}


if __name__ == "__main__":
    print(json.dumps(first_launch(float(sys.argv[1]))))
