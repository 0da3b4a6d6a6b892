"""FlagGems on CPU tensors: it asks a vendor's module of torch for its device, and torch's module of the CPU lacks some.

FlagGems knows vendors by name. The device of the one that is chosen here is renamed to torch's ``cpu``, and
``torch.cpu`` is given what the hosts of its kernels ask of every device.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
import torch
import triton.runtime.driver as triton_driver

os.environ["GEMS_VENDOR"] = "nvidia"
os.environ["MLUTRITON_BLOCK_POINTERS"] = "1"


def _device(device: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _properties(device: object = None) -> types.SimpleNamespace:
    driver = triton_driver.driver.active
    found = driver.utils.get_device_properties(driver.get_current_device())
    return types.SimpleNamespace(
        multi_processor_count=found["multiprocessor_count"], major=0, minor=0, total_memory=1 << 34, name="mlu"
    )


class _Generator:
    """The state of a counter-based generator, as a GPU has one: a seed and an offset."""

    def __init__(self) -> None:
        self.state = torch.tensor([20_231, 0], dtype=torch.int64).view(torch.uint8)

    def get_state(self) -> torch.Tensor:
        return self.state.clone()

    def set_state(self, state: torch.Tensor) -> None:
        self.state = state


def _prepare() -> None:
    torch.cpu.device = _device
    torch.cpu._DeviceGuard = _device
    torch.cpu.get_device_properties = _properties
    torch.cpu.get_device_capability = lambda device=None: (0, 0)
    torch.cpu.get_device_name = lambda device=None: "mlu"
    torch.cpu.current_device = lambda: 0
    torch.cpu.default_generators = (_Generator(),)
    specification = importlib.util.find_spec("flag_gems")
    assert specification is not None
    assert specification.submodule_search_locations
    backends = Path(specification.submodule_search_locations[0], "runtime", "backend")
    sys.path.append(str(backends))
    import _nvidia

    _nvidia.vendor_info.device_name = "cpu"
    _nvidia.vendor_info.triton_extra_name = "cuda"


_prepare()


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of other projects' code are theirs."""
    config.addinivalue_line("filterwarnings", "ignore")
