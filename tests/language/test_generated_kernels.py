"""Kernels generated at random, as text of Triton's language: native code and interpreter must write what NumPy says.

``MLUTRITON_GENERATED=5000 pytest tests/language/test_generated_kernels.py`` draws so many new ones.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from mlutriton import configuration
from mlutriton.codegen.llvm.control_flow import basic_blocks, register_life
from mlutriton.frontend.block_pointers import install_block_pointers
from mlutriton.isa.program import Program
from tests.language.generated.blocks import block_kernel
from tests.language.generated.forms import form_kernel
from tests.language.generated.kernels import Case, cases, jitted
from tests.language.generated.meetings import meeting_kernel
from tests.language.generated.places import place_kernel
from tests.language.generated.products import product
from tests.language.generated.rows import row_kernel
from tests.language.generated.tensors import tensor_kernel
from tests.language.generated.texts import TextCase, drawn, seeded
from tests.language.generated.walks import walk

EXAMPLES = int(os.environ.get("MLUTRITON_GENERATED", "0"))
SMALL = cases(
    sizes=[(4, 8), (8, 8), (1, 16), (16, 32), (2, 512)],
    grids=[(3, 1), (2, 2), (1, 1), (37, 1), (5, 20)],
    machines=["mlu590-m9", "mlu-tiny"],
)
# Tensors of 32-bit numbers fill the memory of a core.
LARGE = cases(sizes=[(128, 128), (64, 128), (32, 256)], grids=[(1, 1), (2, 1), (3, 2)], machines=["mlu-tiny"])


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
def running_on(engine: str, machine: str) -> Iterator[None]:
    """Launch with an engine on a machine."""
    before = configuration.current_machine()
    with patch.dict(os.environ, {"MLUTRITON_ENGINE": engine}):
        configuration.set_machine(machine)
        try:
            yield
        finally:
            configuration.set_machine(before)


def check(case: Case) -> None:
    """Launch the kernel on both engines; compare memory with NumPy's and cycles with each other's."""
    expected, frame, kernel, cycles = case.expected(), case.statements.frame, jitted(case.text), set()
    for engine in ("native", "interpreter"):
        memory = case.memory()
        with running_on(engine, case.machine):
            run = kernel[frame.grid](*memory.values(), frame.n, enable_fp_fusion=False, **case.options)
        cycles.add(run.cycles)
        for name, array in memory.items():
            same = (array == expected[name]) | ((array != array) & (expected[name] != expected[name]))
            assert same.all(), (engine, name, np.argwhere(~same)[0], array[~same][0], expected[name][~same][0])
    assert len(cycles) == 1, cycles


def read_before_set(program: Program) -> int:
    """The registers, as bits, that some way through a program reads before it sets them."""
    return register_life(program, basic_blocks(program)).live[0][0]


def judged(case: TextCase) -> None:
    """Launch the kernel on its engines; compare memory with NumPy's, to the bit with each other's, and cycles."""
    expected, cycles, first = case.expected(), set(), None
    for engine in case.engines:
        with running_on(engine, case.machine):
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
            assert first is None or np.array_equal(first[name].view(np.uint8), array.view(np.uint8)), (name, "engines")
        first = written
    assert len(cycles) == 1, cycles


@given(case=SMALL)
@examples(80)
def test_kernels_write_what_numpy_says(case: Case) -> None:
    check(case)


@given(case=LARGE)
@examples(25)
def test_kernels_whose_tensors_do_not_fit_write_what_numpy_says(case: Case) -> None:
    check(case)


BOTH = ["mlu590-m9", "mlu-tiny"]
kernels = seeded if EXAMPLES else drawn


@given(case=kernels(walk, BOTH))
@examples(20)
def test_loops_along_rows_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(place_kernel, BOTH))
@examples(30)
def test_places_of_many_forms_are_those_that_numpy_says(case: TextCase) -> None:
    judged(case)


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
@given(case=kernels(block_kernel, BOTH))
@examples(20)
def test_block_pointers_reach_what_numpy_says(case: TextCase) -> None:
    install_block_pointers()
    judged(case)


@given(case=kernels(product, BOTH))
@examples(20)
def test_products_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(row_kernel, BOTH, [1, 2, 7, 40]))
@examples(25)
def test_rows_of_any_type_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(row_kernel, BOTH, [200, 1000, 3000]))
@examples(5)
def test_rows_of_large_grids_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(form_kernel, BOTH))
@examples(15)
def test_tiles_of_any_form_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(form_kernel, ["mlu-tiny"], True))
@examples(3)
def test_large_tiles_of_any_form_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(meeting_kernel, BOTH))
@examples(15)
def test_accesses_that_meet_happen_in_the_order_of_the_text(case: TextCase) -> None:
    judged(case)


@given(case=kernels(meeting_kernel, ["mlu370-x4", "mlu-tiny"], (4096, 8192, 16_384)))
@examples(4)
def test_accesses_of_large_tensors_that_meet_happen_in_the_order_of_the_text(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, BOTH))
@examples(20)
def test_tensors_of_many_dimensions_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, BOTH, (16, 64, 512), True))
@examples(15)
def test_tensors_of_any_size_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, ["mlu-tiny"], (8192, 16_384), True))
@examples(4)
def test_large_tensors_of_any_size_write_what_numpy_says(case: TextCase) -> None:
    judged(case)
