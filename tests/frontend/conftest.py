import importlib.util
import sys
from pathlib import Path

import pytest


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


def pytest_generate_tests(metafunc):
    if "kernel_name" in metafunc.fixturenames:
        metafunc.parametrize("kernel_name", list(_load_corpus().KERNELS))
