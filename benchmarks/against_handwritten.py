"""Cycles of compiled kernels against those of programs in assembly that do the same, written as well as we can.

The programs stand in ``benchmarks/handwritten``. Each is launched once a core, or once a cluster if its cores work
together, and walks over a share of the work. Both sides are launched for their cycles alone, on the default machine and
on ones with half and twice its DMA latency, bandwidth and rate of products: what is better on one of them should be so
on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

import mlutriton as mlu
from benchmarks import kernels
from benchmarks.cycles import NEEDS
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.machine_limit import NOTHING_KNOWN, machine_limit
from examples import cumsum, flash_attention, layer_norm, matmul, paged_attention, softmax, transpose, vector_add
from mlutriton.testing import Case

DIRECTORY = Path(__file__).parent / "handwritten"


@dataclass(frozen=True)
class Pair:
    """A kernel and the program that does the same.

    Attributes:
        case: makes the case of the kernel.
        program: name of the assembly file.
        more: parameters that the program has beyond those of the kernel.
        by_values: what either does depends on values that it loads, so that both are launched with arrays.
    """

    case: Callable[[], Case]
    program: str
    more: dict[str, int] = field(default_factory=dict[str, int])
    by_values: bool = False

    def compiled(self) -> Any:
        """The run of the kernel."""
        case = self.case()
        return self._run(case.kernel, case.grid, case.arguments() | dict(case.constants))

    def written(self) -> Any:
        """The run of the program."""
        kernel, arguments = mlu.load(DIRECTORY / f"{self.program}.s"), self.case().arguments() | self.more
        values = {each.name: arguments[each.name] for each in kernel.program.parameters}
        return self._run(kernel, _once_everywhere(kernel), values)

    def _run(self, kernel: Any, grid: Any, arguments: dict[str, Any]) -> Any:
        return kernel[grid](**arguments) if self.by_values else mlu.estimate(kernel, grid, **arguments)

    def values(self) -> tuple[Case, dict[str, Any]]:
        """The case, and its arguments as the program leaves them."""
        case = self.case()
        kernel, arguments = mlu.load(DIRECTORY / f"{self.program}.s"), case.arguments()
        every = arguments | self.more
        kernel[_once_everywhere(kernel)](**{each.name: every[each.name] for each in kernel.program.parameters})
        return case, arguments


def _once_everywhere(kernel: Any) -> tuple[int]:
    """The grid that has a program for each core, or for each cluster if one takes all of its cores."""
    return (mlu.current_machine().cores // kernel.program.cores_per_program,)


PAIRS: dict[str, Pair] = {
    "vector add 2**24 fp32": Pair(partial(vector_add.case, 2**24, 16_384), "vector_add"),
    "GELU 4096x4096 fp32": Pair(partial(kernels.gelu_case, 4096, 4096), "gelu"),
    "softmax 1823x781 fp32": Pair(partial(softmax.case, 1823, 781, 8), "softmax"),
    "layer norm 1151x8192 fp32": Pair(partial(layer_norm.case, 1151, 8192), "layer_norm"),
    "row sum 4096x4096 fp32": Pair(partial(kernels.row_sum_case, 4096, 4096), "row_sum"),
    "cumsum 768x4096 fp32": Pair(partial(cumsum.case, 768, 4096), "cumsum"),
    "transpose 8x1024x768 fp32": Pair(
        partial(transpose.case, 8, 1024, 768, np.float32, "fp32"), "transpose", {"batch": 8}
    ),
    "embedding bag 2048x32 of 32000x512 fp32": Pair(
        partial(kernels.embedding_bag_case, 2048, 32, 32_000, 512), "embedding_bag", {"count": 32, "width": 512}
    ),
    "GEMM 4096 fp16": Pair(
        partial(matmul.case, 4096, 4096, 4096, np.float16, "fp16", on_cluster=True),
        "gemm_f16",
        {"rows": 128, "columns": 256, "depth": 384},
    ),
    "GEMM 1024 fp16": Pair(
        partial(matmul.case, 1024, 1024, 1024, np.float16, "fp16", on_cluster=True),
        "gemm_f16",
        {"rows": 128, "columns": 192, "depth": 384},
    ),
    "GEMM 4096 int8": Pair(
        partial(matmul.case, 4096, 4096, 4096, np.int8, "int8", on_cluster=True),
        "gemm_i8",
        {"rows": 128, "columns": 256, "depth": 1024},
    ),
    "attention 1x12x4096x128 fp16": Pair(
        partial(flash_attention.case, 1, 12, 4096, 128, causal=False, on_cluster=True),
        "flash_attention",
        {"batches": 1},
    ),
    "paged decode attention 24x8x8x128 of up to 2000 fp16": Pair(
        partial(paged_attention.case, 24, 8, 8, 2000), "paged_attention", {"sequences": 24}, by_values=True
    ),
}

Change = dict[str, float]


def machines() -> dict[str, Change]:
    """What is changed on the default machine, by a name for it."""
    machine = mlu.current_machine()
    rates = [name for name in machine.values if name.startswith("mac_per_cycle_")]
    changed = {"latency": ["dram_bulk_latency_ns"], "bandwidth": ["dram_gb_per_s"], "products": rates}
    changes: dict[str, Change] = {"as it is": {}}
    for what, names in changed.items():
        for label, factor in (("half the", 0.5), ("twice the", 2)):
            values = {name: machine.values[name] for name in names}
            changes[f"{label} {what}"] = {name: type(value)(value * factor) for name, value in values.items()}
    return changes


@contextmanager
def _on(change: Change) -> Iterator[None]:
    before = mlu.current_machine()
    mlu.set_machine(before.replace(**change) if change else before)
    try:
        yield
    finally:
        mlu.set_machine(before)


@cache
def runs(name: str, machine: str) -> tuple[Any, Any]:
    """The runs of the kernel and of the program."""
    with _on(machines()[machine]):
        return PAIRS[name].compiled(), PAIRS[name].written()


def measure(name: str, quick: bool) -> Measured:
    """Cycles of the kernel over those of the program."""
    compiled, written = runs(name, "as it is")
    # What the kernel asks for: a program may do less where arrays are padded to powers of two.
    bound = min(compiled.work_bound_cycles, written.work_bound_cycles)
    needs = NEEDS.get(name, NOTHING_KNOWN)
    limit = min(machine_limit(compiled, needs).cycles, machine_limit(written, needs).cycles)
    numbers = {
        "compiled": compiled.cycles,
        "handwritten": written.cycles,
        "work_bound": bound,
        "machine_limit": limit,
    }
    text = (
        f"compiled {compiled.cycles:,}, by hand {written.cycles:,}, bound {bound:,}, machine limit {limit:,};"
        f" by hand {written.cycles / bound:.2f}x, compiled {compiled.cycles / bound:.2f}x of it"
    )
    return Measured(compiled.cycles / written.cycles, text, numbers)


def measure_all(machine: str, quick: bool) -> Measured:
    """The geometric mean over all pairs on one machine."""
    names = list(PAIRS)[:2] if quick else list(PAIRS)
    ratios: dict[str, float] = {}
    for name in names:
        compiled, written = runs(name, machine)
        ratios[name] = compiled.cycles / written.cycles
    worst = max(ratios, key=ratios.__getitem__)
    return Measured(geometric_mean(ratios.values()), f"worst {worst} {ratios[worst]:.2f}x", ratios)


FIGURES = (
    *(
        Figure(f"compiled over handwritten, {name}", Unit.TIMES, partial(measure, name), less_is_better=True)
        for name in PAIRS
    ),
    *(
        Figure(
            f"compiled over handwritten, geometric mean, {machine}",
            Unit.TIMES,
            partial(measure_all, machine),
            goal=1.05,
            less_is_better=True,
        )
        for machine in machines()
    ),
)
