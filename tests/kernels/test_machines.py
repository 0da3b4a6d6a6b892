"""The smallest case of every example on machines of every instruction set, large and small."""

import numpy as np
import pytest

import mlutriton as mlu
from mlutriton.testing import load_examples
from tests.conftest import REPOSITORY

MACHINES = ["mlu-tiny", "mlu220", "mlu290", "mlu370-x4", "mlu590-h8"]


def size(case):
    """Bytes of a case's arrays."""
    return sum(value.nbytes for value in case.arguments().values() if isinstance(value, np.ndarray))


CASES = {example.name: min(example.cases, key=size) for example in load_examples(REPOSITORY / "examples")}


@pytest.fixture
def chosen():
    yield mlu.set_machine
    mlu.set_machine("mlu590-m9")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_an_example_is_right_on_every_machine(name, machine, chosen):
    chosen(machine)
    run = CASES[name].check().run
    assert run.machine.name == machine
    assert run.cycles >= run.work_bound_cycles > 0
