"""What tests of native code share."""

import pytest

from mlutriton.launch import runtime


@pytest.fixture(scope="session", name="runtime")
def runtime_fixture():
    return runtime
