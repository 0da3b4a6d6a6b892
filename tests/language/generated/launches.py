"""Launches of generated kernels on the engines, and what is asked of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import mlutriton as mlu
from mlutriton import configuration
from mlutriton.codegen.llvm.control_flow import basic_blocks, register_life
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from tests.language.generated import texts
from tests.language.generated.fitted import FittedCase
from tests.language.generated.kernels import Case, jitted
from tests.language.generated.texts import TextCase

EXAMPLES = int(os.environ.get("MLUTRITON_GENERATED", "0"))


def examples(count: int) -> settings:
    """So many examples, the same each time; or as many new ones as the environment says."""
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=bool(EXAMPLES),
        report_multiple_bugs=False,
    )


@contextmanager
def running_on(engine: str, machine: str | Machine, threads: int | None = None) -> Iterator[None]:
    """Launch with an engine on a machine, and on so many threads of the host if that is said."""
    before = configuration.current_machine()
    chosen = {"MLUTRITON_ENGINE": engine} | ({} if threads is None else {"MLUTRITON_THREADS": str(threads)})
    with patch.dict(os.environ, chosen):
        configuration.set_machine(machine)
        try:
            yield
        finally:
            configuration.set_machine(before)


def ways(engines: Sequence[str], threads: Sequence[int]) -> list[tuple[str, int | None]]:
    """Engines, native code on each of the numbers of threads if there are any."""
    return [(engine, count) for engine in engines for count in (threads if engine == "native" and threads else [None])]


def check(case: Case, threads: Sequence[int] = ()) -> None:
    """Launch the kernel on both engines; compare memory with NumPy's and cycles with each other's."""
    expected, frame, kernel, cycles = case.expected(), case.statements.frame, jitted(case.text), set()
    for engine, count in ways(("native", "interpreter"), threads):
        memory = case.memory()
        with running_on(engine, case.machine, count):
            run = kernel[frame.grid](*memory.values(), frame.n, enable_fp_fusion=False, **case.options)
        cycles.add(run.cycles)
        for name, array in memory.items():
            same = (array == expected[name]) | ((array != array) & (expected[name] != expected[name]))
            assert same.all(), (engine, name, np.argwhere(~same)[0], array[~same][0], expected[name][~same][0])
    assert len(cycles) == 1, cycles


def read_before_set(program: Program) -> int:
    """The registers, as bits, that some way through a program reads before it sets them."""
    return register_life(program, basic_blocks(program)).live[0][0]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """True if arrays are the same to the bit, but for the signs and payloads of NaN."""
    is_number = (a == a) | (b == b)
    return np.array_equal(a[is_number].view(np.uint8), b[is_number].view(np.uint8))


def judged(case: TextCase, threads: Sequence[int] = ()) -> None:
    """Launch the kernel on its engines; compare memory with NumPy's, to the bit with each other's, and cycles."""
    expected, cycles, first = case.expected(), set(), None
    for engine, count in ways(case.engines, threads):
        with running_on(engine, case.machine, count):
            written, run = case.written()
        cycles.add(run.cycles)
        assert not read_before_set(run.program)
        for name, array in written.items():
            x, y = (each.astype(np.float64) for each in (array, expected[name]))
            same = (x == y) | ((x != x) & (y != y))
            if case.tolerance:
                same |= np.abs(x - y) <= case.tolerance * (1 + np.abs(y))
            assert same.all(), (
                engine,
                name,
                np.argwhere(~same)[:3],
                len(np.argwhere(~same)),
                x[~same][:3],
                y[~same][:3],
            )
            assert first is None or same_bits(first[name], array), (name, "engines")
        first = written
    assert len(cycles) == 1, cycles


def faulting(case: FittedCase, choice: int) -> None:
    """Launch the kernel with an array that ends before what a program touches: a fault of one that is there."""
    ended = case.ended()
    if not ended:
        return
    name, at_end = ended[choice // 2 % len(ended)], choice % 2 == 1
    memory = case.beyond(name, at_end)
    array = memory[name]
    assert isinstance(array, np.ndarray)
    # A program stands for others whose rows are moved together.
    told = {f"generated, program {program}" for program, *_ in case.reached[name]}
    for engine in case.engines if array.size else ():
        with running_on(engine, case.machine), pytest.raises(mlu.KernelFault, match="E0301") as caught:
            texts.jitted(case.text)[case.grid](*memory.values(), enable_fp_fusion=False, **case.options)
        context = str(caught.value.context).split(", core")[0]  # of its cluster
        assert context in told, (engine, name, at_end, caught.value.context)
