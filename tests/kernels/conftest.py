"""Gives each test of this directory that asks for a ``case`` the cases of the examples its module names."""

from pathlib import Path

from mlutriton.testing import load_examples

EXAMPLES = Path(__file__).parents[2] / "examples"


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        names = metafunc.module.EXAMPLES
        cases = [case for name in names for example in load_examples(EXAMPLES / f"{name}.py") for case in example.cases]
        metafunc.parametrize("case", cases, ids=[case.label.replace(" ", "-") for case in cases])
