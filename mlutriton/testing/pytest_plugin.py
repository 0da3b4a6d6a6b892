"""Runs tests that were written for Triton on GPUs: ``pytest -p mlutriton.testing.pytest_plugin --device cpu``.

The simulator becomes Triton's device for the session, its xdist workers and every process that tests start. There are
no fixtures and no options here, so the plug-in goes with whatever conftest files the tests have. A tensor's storage of
less than 16 bytes may be touched up to there, as on devices, whose allocators round up: some tests do.

=======================  ============================================================================================
``MLUTRITON_TARGET``     ``cpu`` unless set: tests pass the target's name on to torch, whose tensors are the host's
``MLUTRITON_WARP_SIZE``  32 unless set: tests choose ``num_warps`` by it, and count what each thread of a program prints
``MLUTRITON_THREADS``    1 in an xdist worker unless set: the workers share the cores already
``--device``             where a conftest has this option, ``cpu`` instead of its default ``cuda``
=======================  ============================================================================================
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from mlutriton.backend.devices import current_device, torch_properties
from mlutriton.backend.driver import BACKEND_NAME, TARGET_VARIABLE, MLUDriver
from mlutriton.configuration import THREADS_VARIABLE, WARP_SIZE_VARIABLE, current_machine
from mlutriton.frontend.arguments import round_small_storages


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Chooses the device before any conftest can import Triton, which asks for it at once."""
    os.environ["TRITON_DEFAULT_BACKEND"] = BACKEND_NAME
    os.environ.setdefault(TARGET_VARIABLE, "cpu")
    os.environ.setdefault(WARP_SIZE_VARIABLE, "32")
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault(THREADS_VARIABLE, "1")
    MLUDriver.prepare_triton()
    round_small_storages()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps tests from torch's CUDA tensors."""
    if getattr(config.option, "device", None) == "cuda":
        config.option.device = "cpu"


def pytest_collection_finish() -> None:
    """Numbers torch's CPU as Triton does: tests ask torch for the device whose compiled kernels they look at.

    Hosts of kernels ask it how many cores there are to share the work.
    """
    if "torch" in sys.modules:
        torch: Any = sys.modules["torch"]
        torch.cpu.current_device = current_device
        if not hasattr(torch.cpu, "get_device_properties"):
            torch.cpu.get_device_properties = torch_properties


def pytest_report_header() -> str:
    """Names the machine above the results."""
    return f"mlutriton: simulated {current_machine().name}"
