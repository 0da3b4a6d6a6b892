"""The smallest case of every example on machines of every instruction set, large and small."""

import pytest

import mlutriton as mlu
from tests.kernels.smallest import EXAMPLES, smallest

MACHINES = ["mlu-tiny", "mlu220", "mlu290", "mlu370-x4", "mlu590-h8"]


@pytest.fixture
def chosen():
    yield mlu.set_machine
    mlu.set_machine("mlu590-m9")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_right_on_every_machine(name, machine, chosen):
    chosen(machine)
    run = smallest(name).check().run
    assert run.machine.name == machine
    assert run.cycles >= run.work_bound_cycles > 0
