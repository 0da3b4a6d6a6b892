"""Settings that every test shares."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

import mlutriton as mlu

REPOSITORY = Path(__file__).parents[1]

# The same examples in every run, and no deadline: how fast the host is today says nothing about the code.
settings.register_profile("mlutriton", deadline=None, derandomize=True)
settings.load_profile("mlutriton")


def pytest_configure(config):
    # What a script starts in the background ignores interrupts, and hands that down to all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests neither see nor leave compiled kernels outside their own directory; the workers inherit the choice.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    directory = Path(tempfile.mkdtemp(prefix="mlutriton-tests-"))
    os.environ["MLUTRITON_VERIFY"] = "1"
    # Without byte code, each process that a test starts would compile the same sources anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    os.environ["MLUTRITON_CACHE_DIR"] = str(directory / "mlutriton")
    os.environ["TRITON_CACHE_DIR"] = str(directory / "triton")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def machine_before():
    """Whichever machine a test chooses, the next one has the one before."""
    before = mlu.current_machine()
    yield before
    mlu.set_machine(before)


@pytest.fixture
def machine(request, machine_before):
    """The machine that a test names as its parameter, as the current one."""
    return mlu.set_machine(request.param)
