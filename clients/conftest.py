"""FlagGems on CPU tensors: it asks a vendor's module of torch for its device, and torch's module of the CPU lacks some.

FlagGems knows vendors by name. The device of the one that is chosen here is renamed to torch's ``cpu``, and
``torch.cpu`` is given what the hosts of its kernels ask of every device.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from pathlib import Path

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


def _prepare() -> None:
    torch.cpu.device = _device  # type: ignore[attr-defined]
    torch.cpu._DeviceGuard = _device  # type: ignore[attr-defined]
    torch.cpu.get_device_properties = _properties  # type: ignore[attr-defined]
    torch.cpu.get_device_capability = lambda device=None: (0, 0)  # type: ignore[attr-defined]
    torch.cpu.get_device_name = lambda device=None: "mlu"  # type: ignore[attr-defined]
    torch.cpu.current_device = lambda: 0
    torch.cpu.default_generators = (torch.default_generator,)  # type: ignore[attr-defined]
    backends = next(
        Path(folder, "flag_gems/runtime/backend") for folder in sys.path if Path(folder, "flag_gems").is_dir()
    )
    sys.path.append(str(backends))
    import _nvidia

    _nvidia.vendor_info.device_name = "cpu"
    _nvidia.vendor_info.triton_extra_name = "cuda"


_prepare()
