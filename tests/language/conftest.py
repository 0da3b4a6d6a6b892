"""Runs every test that asks for it on both engines: native code and the reference interpreter."""

import pytest


@pytest.fixture(params=["native", "interpreter"])
def each_engine(request, monkeypatch):
    """Computes the values of every launch with the engine that the test is run for."""
    monkeypatch.setenv("MLUTRITON_ENGINE", request.param)
    return request.param
