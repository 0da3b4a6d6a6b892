"""The machine limit of the benchmarks: no program that there is takes less, and its parts are what the machine says."""

import numpy as np
import pytest

import mlutriton as mlu
from benchmarks import against_handwritten, cycles
from benchmarks.machine_limit import NOTHING_KNOWN, Needs, machine_limit
from examples import transpose, vector_add
from mlutriton.testing import load_examples
from tests.conftest import REPOSITORY

CASES = [example.cases[-1] for example in load_examples(REPOSITORY / "examples")]


@pytest.fixture
def chosen():
    yield mlu.set_machine
    mlu.set_machine("mlu590-m9")


@pytest.mark.parametrize("machine", ["mlu370-x4", "mlu590-m9"])
def test_no_example_is_below_the_limit(machine, chosen):
    chosen(machine)
    for case in CASES:
        run = case.kernel[case.grid](**case.arguments(), **case.constants)
        assert run.work_bound_cycles < machine_limit(run).cycles <= run.cycles, case.label


@pytest.mark.parametrize("machine", ["as it is", "twice the bandwidth"])
@pytest.mark.parametrize("name", against_handwritten.PAIRS)
def test_neither_assembly_nor_compiled_code_is_below_the_limit(name, machine):
    for run in against_handwritten.runs(name, machine):
        limit = machine_limit(run, cycles.NEEDS.get(name, NOTHING_KNOWN))
        assert run.work_bound_cycles < limit.cycles <= run.cycles


def estimate(case):
    return mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)


def test_the_parts_add_up_and_are_those_of_the_machine():
    machine = mlu.current_machine()
    run = estimate(vector_add.case(2**20, 16_384))
    limit = machine_limit(run)
    assert limit.parts == {
        "launch": run.work_bound.launch_cycles,
        "dispatch": machine.dispatch_cycles,
        "first load": machine.cycles_from_ns(machine.dram_scalar_latency_ns),
        "DRAM": run.work_bound.dram_cycles,
    }
    assert limit.cycles == sum(limit.parts.values())


def test_strides_cost_where_they_cost_less():
    run = estimate(transpose.case(8, 1024, 768, np.float32, "fp32"))
    strides = machine_limit(run, Needs(rearranges=True)).parts["strides"]
    reads = run.work_bound.loaded_bytes / run.machine.dram_bytes_per_cycle
    assert strides == int(reads * (1 / run.machine.strided_read_efficiency - 1))


def test_passes_are_those_of_groups_that_are_connected():
    machine = mlu.current_machine()
    one_pass = machine.vector_bytes_per_cycle * machine.cores

    def passes(**needs):
        return Needs(64 * one_pass, **needs).vector_cycles(machine) / 64

    assert passes(connected=(5, 1)) == 3
    assert passes(reductions=2) == 0.5
    assert passes(specials=1, divisions=1) == machine.vector_special_passes + machine.vector_divide_passes


@pytest.mark.parametrize(("machine", "most"), [("as it is", 1.07), ("twice the latency", 1.12)])
def test_arithmetic_that_binds_waits_for_little(machine, most):
    name = "GELU 4096x4096 fp32"
    run, _ = against_handwritten.runs(name, machine)
    assert run.cycles < most * machine_limit(run, cycles.NEEDS[name]).cycles
