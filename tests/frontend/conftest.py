import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.verifier import verify


def _load_corpus():
    # Tests are imported by path, so modules beside them are not on Python's own.
    name = "mlutriton_test_corpus"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("corpus.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def make_module():
    return _load_corpus().make_module


@pytest.fixture(scope="session")
def module_of():
    return _load_corpus().module_of


@pytest.fixture(scope="session")
def imported():
    """The function of a text, verified."""

    def imported(text):
        function = import_ttir(parse_ttir(text))
        verify(function, "import")
        return function

    return imported


@pytest.fixture(scope="session")
def evaluated():
    """Runs a function on the evaluator; arrays are written in place. Returns what it printed."""

    def evaluated(function, grid, *arguments):
        memory = ArrayMemory()
        values = [
            memory.register(f"argument {place}", value) if isinstance(value, np.ndarray) else value
            for place, value in enumerate(arguments)
        ]
        return evaluate(function, grid, values, memory)

    return evaluated


@pytest.fixture(scope="session")
def compiled(module_of, imported):
    """The function of a kernel."""

    def compiled(kernel, types, optimize=True, **constants):
        return imported(str(module_of(kernel, types, constants, optimize)))

    return compiled


@pytest.fixture(scope="session")
def run(compiled, evaluated):
    """Runs a kernel as Triton's front end leaves it, and as its passes do: both must write the same."""

    def run(kernel, types, grid, *arguments, **constants):
        arrays = [value for value in arguments if isinstance(value, np.ndarray)]
        plain = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
        evaluated(compiled(kernel, types, False, **constants), grid, *plain)
        evaluated(compiled(kernel, types, True, **constants), grid, *arguments)
        for first, second in zip((value for value in plain if isinstance(value, np.ndarray)), arrays, strict=True):
            np.testing.assert_array_equal(first, second)

    return run


def pytest_generate_tests(metafunc):
    if "kernel_name" in metafunc.fixturenames:
        metafunc.parametrize("kernel_name", list(_load_corpus().KERNELS))
