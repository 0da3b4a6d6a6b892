"""The cycles of the smallest case of every example on two machines, exactly: whoever changes one says so, and why.

To bless what the examples take today: ``.venv/bin/pytest tests/kernels/test_golden_cycles.py --bless-cycles``.
"""

import pytest

import mlutriton as mlu
from tests.kernels.smallest import EXAMPLES, smallest


@pytest.fixture
def chosen():
    yield mlu.set_machine
    mlu.set_machine("mlu590-m9")


@pytest.mark.parametrize("machine", ["mlu370-x4", "mlu590-m9"])
def test_cycles_of_examples_are_those_last_blessed(machine, chosen, cycles):
    chosen(machine)
    for case in map(smallest, EXAMPLES):
        cycles.check(case.run().run, case.label, tolerance=0)
