"""The driver half of the plug-in: device, launcher and benchmarker for Triton."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from mlutriton.backend.early_adaptations import BACKEND_NAME, adapt_early
from mlutriton.backend.simulated_time import SimulatedEvent, benchmark, clock
from mlutriton.backend.vendor_names import install_vendor_names

if TYPE_CHECKING:
    from mlutriton.launch import Launch, LoadedKernel, Run

TARGET_VARIABLE = "MLUTRITON_TARGET"

# A GPU that a process can use has one of these (NVIDIA, AMD, either under WSL).
GPU_DEVICE_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")

_CPP_TYPES = {
    "i1": "int8_t",
    "u1": "int8_t",
    **{f"{sign}{bits}": f"{'u' * (sign == 'u')}int{bits}_t" for sign in "iu" for bits in (8, 16, 32, 64)},
    "fp16": "double",
    "bf16": "double",
    "fp32": "double",
    "fp64": "double",
}

_runs = threading.local()


def run_launch(launch: Launch) -> Run:
    """Makes a launch, keeps its run for whoever launched it, and advances the clock."""
    _runs.last = run = launch.run()
    if clock.running:
        clock.advance(run.time_us / 1e3)
    return run


def last_run() -> Run | None:
    """The run of the last launch that this thread made, also of a plain ``triton.jit`` kernel; None before the first.

    It is kept until the next launch.
    """
    return getattr(_runs, "last", None)


class DeviceInterface:
    """What benchmarks use of ``torch.cuda``."""

    Event = SimulatedEvent

    @staticmethod
    def synchronize(device: object = None) -> None:
        """Does nothing: launches are synchronous."""

    @staticmethod
    def current_device() -> int:
        """The device number of the current machine."""
        from mlutriton.backend.devices import current_device  # loads NumPy

        return current_device()

    @staticmethod
    def is_available() -> bool:
        """True: a simulator is always there."""
        return True


class DeviceUtilities:
    """The driver functions that Triton calls through ``driver.utils``."""

    @staticmethod
    def get_device_properties(device: int | None) -> dict[str, int]:
        """Sizes, clocks and counts of a device's machine; of the current one for None, the index of torch's CPU."""
        from mlutriton.backend.devices import device_properties  # loads NumPy

        return device_properties(device)

    @staticmethod
    def load_binary(
        name: str, program: bytes, shared: int, device: int
    ) -> tuple[LoadedKernel, LoadedKernel, int, int, int]:
        """Loads a program file.

        Returns:
            Module and function, both the loaded kernel; registers and spills, which ported kernels divide by; and the
            most warps of a program.
        """
        from mlutriton.backend.devices import machine_of  # these load NumPy and LLVM
        from mlutriton.launch import load

        kernel = load(program, machine_of(device))
        return kernel, kernel, 1, 0, 1024

    @staticmethod
    def unload_module(module: LoadedKernel) -> None:
        """Does nothing: the kernel goes with its last reference."""

    @staticmethod
    def set_printf_fifo_size(size_bytes: int) -> None:
        """Does nothing: ``device_print`` has no limit."""


BangUtils = DeviceUtilities
"""The name in Cambricon's driver, of which their libraries ask the sizes of the device."""

install_vendor_names()
adapt_early()


class MLUDriver(DriverBase):
    """Presents the simulated MLU to Triton."""

    def __init__(self) -> None:
        from mlutriton.backend import devices  # these load NumPy and LLVM
        from mlutriton.backend.launcher import Launcher

        self.prepare_triton()
        self.utils = DeviceUtilities()
        self.launcher_cls = Launcher
        self.get_current_device = devices.current_device
        self.set_current_device = devices.set_device
        super().__init__()

    @staticmethod
    def prepare_triton() -> None:
        """Replaces parts of Triton, see ``adaptations``: before the first launch, better before the first benchmark."""
        from mlutriton.backend.adaptations import adapt_triton  # needs Triton whole

        adapt_triton()

    @classmethod
    def is_active(cls) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """True where no GPU is, or where ``TRITON_DEFAULT_BACKEND`` asks for the MLU."""
        if os.environ.get("TRITON_DEFAULT_BACKEND") == BACKEND_NAME:
            return True
        if not any(Path(node).exists() for node in GPU_DEVICE_NODES):
            return True
        # There is a device, but Triton may not be able to use it: then this driver must be, or none is active.
        backends = sys.modules["triton.backends"].backends
        return not any(backend.driver.is_active() for backend in backends.values() if backend.driver is not cls)

    @staticmethod
    def run(launch: Launch) -> Run:
        """Makes a launch."""
        return run_launch(launch)

    @staticmethod
    def last_run() -> Run | None:
        """The run of the last launch that this thread made."""
        return last_run()

    @staticmethod
    def get_current_stream(device: int = 0) -> int:
        """The only stream."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """The current machine as Triton names targets; ``MLUTRITON_TARGET=cpu`` names it after torch's CPU device.

        Raises:
            ArgumentError: E0109, ``MLUTRITON_WARP_SIZE`` is no number of threads.
        """
        from mlutriton.configuration import current_machine, warp_size  # loads NumPy

        return GPUTarget(os.environ.get(TARGET_VARIABLE, BACKEND_NAME), current_machine().isa, warp_size())

    def get_active_torch_device(self) -> Any:
        """The torch device whose tensors kernels take."""
        import torch  # pyright: ignore[reportMissingImports]  # optional, and only its users get here

        return torch.device("cpu")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]

    def map_python_to_cpp_type(self, ty: str) -> str:
        """The C++ type of an argument of Triton type ``ty``."""
        return "void*" if ty.startswith("*") else _CPP_TYPES[ty]

    def get_benchmarker(self) -> Any:
        """The function that ``triton.autotune`` times with."""
        return benchmark

    def get_device_interface(self) -> type[DeviceInterface]:
        """The events that ``triton.testing`` times with."""
        return DeviceInterface

    def get_empty_cache_for_benchmark(self) -> None:
        """Nothing: every launch begins with cold caches."""

    def clear_cache(self, cache: object) -> None:
        """Does nothing, see above."""
