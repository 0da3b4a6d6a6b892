"""Compile time, from Python source to code that can run, against Triton's own CUDA compiler on the same kernel.

Triton's goes to a cubin, for which it needs no GPU. Ours goes through the program file to the host's machine code, of
those versions of the kernel that the launch takes. The runtime library, which every kernel shares, is compiled before
the clock starts: CUDA's comes with the wheel.
Cold is the first compilation of a process, after its imports; warm is a later one that no cache serves.

The front end and LLVM alone are what would be left of a cold compilation if all between them took no time: Triton's own
code generator and passes, and LLVM's work on the text that it is given. Where that misses the goal, no quicker pass of
ours can reach it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

# These are imported when they are first needed; here they shall not count.
import llvmlite.binding  # noqa: F401
import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

import mlutriton as mlu
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.fresh_process import empty_caches, run_module
from benchmarks.stopwatch import comparison, seconds_of
from examples import flash_attention, matmul, softmax, vector_add
from mlutriton import launch, pipeline  # noqa: F401
from mlutriton.backend import compiler
from mlutriton.codegen.llvm import runtime, translate  # noqa: F401
from mlutriton.frontend.arguments import checked_grid, launch_argument
from mlutriton.simulator import native
from mlutriton.testing import Case

CUDA_TARGET = GPUTarget("cuda", 80, 32)


def _in_blocks(case: Case, **blocks: int) -> Case:
    """A case in blocks that suit both targets; with larger ones, ptxas has to spill, which takes it seconds."""
    return replace(case, constants={**case.constants, **blocks})


CASES: dict[str, Callable[[], Case]] = {
    "vector add": lambda: vector_add.case(98_432, block=1024),
    "softmax": lambda: softmax.case(1823, 781, rows_per_tile=1),
    "matmul": lambda: _in_blocks(
        matmul.case(1024, 1024, 1024, np.float16, "fp16"), BLOCK_M=128, BLOCK_N=128, BLOCK_K=64
    ),
    "flash attention": lambda: _in_blocks(flash_attention.case(1, 4, 1024, 64, causal=True), BLOCK_N=64),
}

_TYPE_NAMES = {"float16": "*fp16", "float32": "*fp32"}


@dataclass(frozen=True)
class Compilation:
    """What is compiled when a case is launched.

    Attributes:
        source: what Triton compiles.
        grid: programs along x, y and z.
        values: of the parameters.
    """

    source: ASTSource
    grid: tuple[int, int, int]
    values: list[Any]


def compilation_of(case: Case) -> Compilation:
    """What is compiled when the case is launched."""
    values = [launch_argument(value) for name, value in case.arguments().items() if name not in case.constants]
    grid = case.grid(case.constants) if callable(case.grid) else case.grid
    return Compilation(_source_of(case), checked_grid(grid), values)


def _source_of(case: Case) -> ASTSource:
    kernel: Any = case.kernel
    values = {**case.arguments(), **case.constants}
    signature: dict[str, str] = {}
    divisible: dict[tuple[int], Any] = {}
    for index, name in enumerate(kernel.arg_names):
        value = values[name]
        if name in case.constants:
            signature[name] = "constexpr"
        elif isinstance(value, np.ndarray):
            signature[name] = _TYPE_NAMES[str(value.dtype)]
            divisible[index,] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % 16 == 0:
                divisible[index,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    # Launch options, which stand among the constants, are the defaults of each target.
    constants = {
        (place,): case.constants[name] for place, name in enumerate(kernel.arg_names) if name in case.constants
    }
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=divisible)


def compile_for_mlu(wanted: Compilation) -> None:
    """Compile to machine code of the host."""
    machine = mlu.current_machine()
    compiled: Any = triton.compile(wanted.source, target=GPUTarget("mlu", machine.isa, 1))
    launch.Launch(launch.load(compiled.kernel, machine), wanted.grid, wanted.values).native()


def compile_for_cuda(wanted: Compilation) -> CompiledKernel:
    """Compile to a cubin."""
    return triton.compile(wanted.source, target=CUDA_TARGET)


COMPILERS = {"mlu": compile_for_mlu, "cuda": compile_for_cuda}


def seconds_without_ours(wanted: Compilation) -> float:
    """Time that a compilation spends in Triton's front end and in LLVM."""
    in_llvm: list[float] = []

    def timed(text: Any, *, cache_key: str | None) -> Any:
        made = text() if callable(text) else text
        started = time.perf_counter()
        module = native.compile_llvm(made, cache_key=cache_key)
        in_llvm.append(time.perf_counter() - started)
        return module

    with patch.object(launch, "compile_llvm", timed):
        return front_end_seconds(wanted, compile_for_mlu) + sum(in_llvm)


# How long a compilation takes, by what is to be counted.
SECONDS: dict[str, Callable[[Compilation], float]] = {
    **{name: lambda wanted, run=run: seconds_of(partial(run, wanted)) for name, run in COMPILERS.items()},
    "without ours": seconds_without_ours,
}


def cold_seconds(counted: str, name: str) -> float:
    """Time of the first compilation of this process."""
    wanted = compilation_of(CASES[name]())
    mlu.current_machine()
    # Triton reads its 500 MB library once a process to name it in the cache: no part of compiling, on either side.
    triton.runtime.cache.triton_key()
    return SECONDS[counted](wanted)


def measure_cold(name: str, quick: bool, counted: str = "mlu") -> Measured:
    """Compile in new processes, which find in the caches what another kernel left: for us, the runtime library."""
    other = next(each for each in CASES if each != name)
    samples: dict[str, list[float]] = {target: [] for target in (counted, "cuda")}
    for _ in range(1 if quick else 3):
        for target, seconds in samples.items():
            with empty_caches() as environment:
                run_module(__name__, target, other, environment=environment)
                seconds.append(run_module(__name__, target, name, environment=environment)["seconds"])
    return comparison(median(samples[counted]), median(samples["cuda"]), "CUDA")


def measure_warm(name: str, quick: bool) -> Measured:
    """Compile again and again in this process, in turns, past all caches of kernels."""
    wanted = compilation_of(CASES[name]())
    samples: dict[str, list[float]] = {target: [] for target in COMPILERS}
    for repetition in range(3 if quick else 6):
        for target, seconds in samples.items():
            with empty_caches() as environment, patch.dict(os.environ, environment):
                taken = seconds_of(partial(COMPILERS[target], wanted))
            if repetition:
                seconds.append(taken)
    return comparison(median(samples["mlu"]), median(samples["cuda"]), "CUDA")


def compile_to_program(wanted: Compilation) -> None:
    """Compile to a program file."""
    triton.compile(wanted.source, target=GPUTarget("mlu", mlu.current_machine().isa, 1))


def front_end_seconds(wanted: Compilation, compile_it: Callable[[Compilation], None] = compile_to_program) -> float:
    """Time until Triton hands over its TTIR, which both sides need: from its entry to the end of its own passes."""
    done: list[float] = []
    passes = compiler.run_ttir_passes

    def timed(module: Any, metadata: dict[str, Any]) -> Any:
        module = passes(module, metadata)
        done.append(time.perf_counter())
        return module

    started = time.perf_counter()
    with patch.object(compiler, "run_ttir_passes", timed):
        compile_it(wanted)
    return done[0] - started


def measure_front_end(name: str, quick: bool) -> Measured:
    """The front end alone: no compiler that begins with it can be quicker."""
    wanted = compilation_of(CASES[name]())
    samples: dict[str, list[float]] = {"mlu": [], "cuda": []}
    for repetition in range(3 if quick else 6):
        with empty_caches() as environment, patch.dict(os.environ, environment):
            taken = front_end_seconds(wanted), seconds_of(partial(compile_for_cuda, wanted))
        if repetition:
            for target, seconds in zip(samples, taken, strict=True):
                samples[target].append(seconds)
    return comparison(median(samples["mlu"]), median(samples["cuda"]), "CUDA")


def _figures() -> Iterator[Figure]:
    for name in CASES:
        label = f"compile {name}, {{}}, against CUDA"
        yield Figure(label.format("cold"), Unit.TIMES, partial(measure_cold, name), goal=3)
        yield Figure(label.format("warm"), Unit.TIMES, partial(measure_warm, name))
        yield Figure(f"Triton's front end for {name}, warm, against CUDA", Unit.TIMES, partial(measure_front_end, name))
        alone = partial(measure_cold, name, counted="without ours")
        yield Figure(f"front end and LLVM alone for {name}, cold, against CUDA", Unit.TIMES, alone)


FIGURES = tuple(_figures())

if __name__ == "__main__":
    print(json.dumps({"seconds": cold_seconds(sys.argv[1], sys.argv[2])}))
