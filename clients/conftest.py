"""Torch's CPU as the device that other projects' kernels ask for, and the record of what came of each test.

FlagGems knows vendors by name; ``GEMS_VENDOR`` is ``nvidia`` for its generic kernels, ``cambricon`` for those that it
has for the MLU. The device of either is renamed to torch's ``cpu``, and ``torch.cpu`` is given what the hosts of
kernels ask of every device.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mlutriton.backend.devices import torch_properties

RECORD = Path(__file__).parents[1] / "docs" / "reference" / "clients.json"
VENDOR = os.environ.setdefault("GEMS_VENDOR", "nvidia")
os.environ["MLUTRITON_BLOCK_POINTERS"] = "1"
if VENDOR == "cambricon":
    os.environ["MLUTRITON_CAMBRICON_LANGUAGE"] = "1"
# What FlagGems generates and tunes: it looks through all of it for every kernel, so it had better not pile up.
_GENERATED = tempfile.TemporaryDirectory(prefix="flag-gems-")
os.environ["FLAGGEMS_CACHE_DIR"] = _GENERATED.name
# The device's name where kernels ask Triton for it; torch has a device of this name.
os.environ["MLUTRITON_TARGET"] = "cpu"


def _device(device: object = None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


class _Generator:
    """The state of a counter-based generator, as a GPU has one: a seed and an offset."""

    def __init__(self) -> None:
        self.state = torch.tensor([20_231, 0], dtype=torch.int64).view(torch.uint8)

    def get_state(self) -> torch.Tensor:
        return self.state.clone()

    def set_state(self, state: torch.Tensor) -> None:
        self.state = state


def _prepare_torch() -> None:
    for module in (torch.cpu, torch.cuda):
        module.device = _device
        module._DeviceGuard = _device
        module.get_device_properties = torch_properties
        module.get_device_capability = lambda device=None: (0, 0)
        module.get_device_name = lambda device=None: "mlu"
        module.current_device = lambda: 0
        module.device_count = lambda: 1
    torch.cpu.default_generators = (_Generator(),)
    # Many hosts refuse a tensor that says it is not on their device.
    torch.Tensor.is_cuda = property(lambda tensor: True)


def _prepare_flag_gems() -> None:
    specification = importlib.util.find_spec("flag_gems")
    assert specification is not None
    assert specification.submodule_search_locations
    sys.path.append(str(Path(specification.submodule_search_locations[0], "runtime", "backend")))
    sys.path.append(str(Path(__file__).parent / "stand_ins"))
    if VENDOR == "nvidia":
        import _nvidia

        _nvidia.vendor_info.device_name = "cpu"
        _nvidia.vendor_info.triton_extra_name = "cuda"


_prepare_torch()
_prepare_flag_gems()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help=f"write what came of every test to {RECORD}")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of other projects' code are theirs."""
    config.addinivalue_line("filterwarnings", "ignore")
    if config.getoption("--record") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(), "recorder")


class _Recorder:
    """Gathers what the tests of this session say of themselves as properties, and writes it at the end.

    A property is (suite, (what was tried, reason)); the reason is empty where results are right.
    """

    def __init__(self) -> None:
        self._suites: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Is called once for each phase of a test, also of those that ran in another process."""
        if report.when != "call":
            return
        for suite, entries in report.user_properties:
            outcomes = self._suites.setdefault(suite, {})
            for tried, why in entries.items():
                outcomes[tried] = outcomes.get(tried) or why

    def pytest_sessionfinish(self) -> None:
        """Replaces the suites of this session in the record."""
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
        versions = {name: version(name) for name in ("triton", "torch", "liger-kernel", "flag-gems", "fla-core")}
        suites = record.get("suites", {}) | {name: dict(sorted(suite.items())) for name, suite in self._suites.items()}
        text = json.dumps({"versions": versions, "suites": dict(sorted(suites.items()))}, indent=1)
        RECORD.write_text(text + "\n", encoding="utf-8")
