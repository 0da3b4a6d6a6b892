"""The trace and its replay: records a second, bytes a record, and what timing adds to a run with values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import mlutriton as mlu
from benchmarks import kernels
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.stopwatch import duration, medians
from examples import flash_attention, matmul, softmax
from mlutriton.isa.trace_format import RECORD_WORDS
from mlutriton.simulator.replay import replay, schedule_bound
from mlutriton.simulator.trace_columns import extent_records
from mlutriton.testing import Case

CASES: dict[str, Callable[[], Case]] = {
    "GEMM 2048 fp16": partial(matmul.case, 2048, 2048, 2048, np.float16, "fp16"),
    "attention 4x48x1024x64 fp16 causal": partial(flash_attention.case, 4, 48, 1024, 64, causal=True),
    "GEMM 8192 fp16": partial(matmul.case, 8192, 8192, 8192, np.float16, "fp16"),
    # Past the L2: DRAM alone is shared.
    "gather 2**22 of 2**20 fp32": partial(kernels.gather_case, 2**22, 2**20),
}
_TRACED = tuple(CASES)[:2]
OVERHEAD_CASES: dict[str, tuple[Callable[[], Case], float]] = {
    "GEMM 1024 fp32": (partial(matmul.case, 1024, 1024, 1024, np.float32, "fp32"), 5),
    "attention 1x4x1024x64 fp16": (partial(flash_attention.case, 1, 4, 1024, 64, causal=False), 5),
    "softmax 1823x781 fp32": (partial(softmax.case, 1823, 781, 8), 15),
}


@cache
def _run(name: str) -> Any:
    case = CASES[name]()
    return mlu.estimate(case.kernel, case.grid, **_specs(case), **case.constants)


def _specs(case: Case) -> dict[str, Any]:
    arguments = case.arguments()
    return {
        name: mlu.spec(value.shape, value.dtype) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def measure_replay(name: str, quick: bool) -> Measured:
    """Records of a real trace that the replay consumes in a second."""
    run = _run(name)
    (seconds,) = medians([lambda: replay(run.trace, run.machine)], quick=quick, settle=False)
    records = run.trace.records
    numbers = {"records": records, "seconds": seconds}
    return Measured(records / seconds / 1e6, f"{records:,} in {duration(seconds)}", numbers)


def measure_bytes(name: str, quick: bool) -> Measured:
    """Bytes for each operation on a shared resource: of its record, and of the extent of a 2-D or 3-D transfer."""
    words = _run(name).trace.words
    extents = int(np.count_nonzero(extent_records(words.reshape(-1, RECORD_WORDS))))
    operations = len(words) // RECORD_WORDS - extents
    text = f"{operations:,} records, {extents:,} with extent"
    return Measured(words.nbytes / operations, text, {"operations": operations, "extents": extents})


def measure_overhead(name: str, quick: bool) -> Measured:
    """What it takes to trace and replay, over a launch with values.

    Launches without values run the same code without its arithmetic, so that they stand for the tracing. What any
    launch costs, that of a single program whose cycles nobody asks for, is no part of it. Both follow a launch with
    values, which leaves the host's caches to them as it does to its own cycles.
    """
    case = OVERHEAD_CASES[name][0]()
    arguments = case.arguments()
    launcher = case.kernel[case.grid]
    specs = _specs(case)

    def run() -> object:
        return launcher(**arguments, **case.constants)

    def timed() -> object:
        estimated = mlu.estimate(case.kernel, case.grid, **specs, **case.constants)
        return replay(estimated.trace, estimated.machine)

    with_values, with_cycles, _, launch = medians(
        [
            run,
            timed,
            run,
            lambda: mlu.estimate(case.kernel, (1,), **specs, **case.constants),
        ],
        quick=quick,
        settle=False,
    )
    text = f"{duration(with_cycles)} of cycles only, {duration(launch)} to launch, {duration(with_values)} of values"
    numbers = {"seconds": with_values, "cycles_only_seconds": with_cycles, "launch_seconds": launch}
    return Measured(100 * max(with_cycles - launch, 0) / with_values, text, numbers)


def measure_what_if(name: str, quick: bool) -> Measured:
    """The replay of a stored trace on another machine, over the launch with values that left it.

    That launch is replayed, too, although its cycles are those of the launch before. The schedule bound is a pass over
    the same records, without L2 and shared bandwidth: no replay takes less.
    """
    case = OVERHEAD_CASES[name][0]()
    arguments = case.arguments()
    run = case.kernel[case.grid](**arguments, **case.constants)
    other = run.machine.replace(dram_gb_per_s=2 * run.machine.dram_gb_per_s)

    def launch() -> object:
        launched = case.kernel[case.grid](**arguments, **case.constants)
        return replay(launched.trace, launched.machine)

    with_values, replayed, passed = medians(
        [
            launch,
            lambda: replay(run.trace, other),
            lambda: schedule_bound(run.trace, other),
        ],
        quick=quick,
        settle=False,
    )
    text = f"{duration(replayed)} of a run of {duration(with_values)}; {duration(passed)} for a pass over its records"
    numbers = {"seconds": with_values, "replay_seconds": replayed, "pass_seconds": passed}
    return Measured(100 * replayed / with_values, text, numbers)


FIGURES = (
    # The goal is for one shared level; with L2 and ports of clusters beside DRAM, half of it is the aim.
    *(
        Figure(f"replay of {name}", Unit.MILLIONS_PER_SECOND, partial(measure_replay, name), goal=20, aim=10)
        for name in CASES
    ),
    *(
        Figure(f"trace of {name}", Unit.BYTES, partial(measure_bytes, name), goal=24, less_is_better=True)
        for name in _TRACED
    ),
    *(
        Figure(f"timing of {name}", Unit.PERCENT, partial(measure_overhead, name), goal=goal, less_is_better=True)
        for name, (_, goal) in OVERHEAD_CASES.items()
    ),
    *(
        Figure(f"what-if of {name}", Unit.PERCENT, partial(measure_what_if, name), goal=5, less_is_better=True)
        for name in OVERHEAD_CASES
    ),
)
