"""What Triton's tools know of GPUs alone: answered for the simulated machine, or refused in words."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from mlutriton.isa.machine import Machine

_OPERATIONS_OF_A_MAC = 2
_BYTES_OF_A_LANE = 4


def answer_peaks(testing: ModuleType, is_simulated: Callable[[], bool]) -> None:
    """Lets ``triton.testing`` know the peaks of the machine: the original asks torch for a CUDA device."""
    for name, rate in (("get_max_tensorcore_tflops", _of_tensor_units), ("get_max_simd_tflops", _of_vector_units)):
        setattr(testing, name, _peak_or(getattr(testing, name), rate, is_simulated))


def _of_tensor_units(machine: Machine, dtype: object) -> int:
    """Operations of a whole machine in a cycle."""
    from mlutriton.dtypes import ALL  # these load NumPy
    from mlutriton.frontend.arguments import dtype_named

    array_dtype = dtype_named(str(dtype).removeprefix("torch."))
    rate = sum(machine.peak_mac_per_cycle(each) for each in ALL if each.numpy == array_dtype)
    if not rate:
        raise RuntimeError(f"dtype not supported: the tensor units of {machine.name} do not take {dtype}")
    return _OPERATIONS_OF_A_MAC * rate


def _of_vector_units(machine: Machine, dtype: object) -> int:
    """Operations of a whole machine in a cycle: lanes are of 32 bits, whatever the type."""
    return machine.cores * machine.vector_bytes_per_cycle // _BYTES_OF_A_LANE


def _peak_or(
    original: Callable[..., float], rate: Callable[[Machine, object], int], is_simulated: Callable[[], bool]
) -> Callable[..., float]:
    @functools.wraps(original)
    def peak(dtype: object, clock_rate: float, device: int | None = None) -> float:
        """The peak in 10^12 operations a second at a clock in kHz.

        Raises:
            RuntimeError: as the original, the tensor units do not take such a type.
        """
        if not is_simulated():
            return original(dtype, clock_rate, device)
        from mlutriton.backend.devices import current_device, machine_of  # loads NumPy

        return rate(machine_of(current_device() if device is None else device), dtype) * clock_rate * 1e-9

    return peak


def refuse_profilers(profile: ModuleType, is_simulated: Callable[[], bool]) -> None:
    """Says what to use in the place of Proton, whose profilers are those of GPUs."""
    for name in ("_select_backend", "_check_env"):  # with and without a profiler's name
        setattr(profile, name, _refusing_or(getattr(profile, name), is_simulated))


def _refusing_or(original: Callable[..., Any], is_simulated: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(original)
    def ask(*args: Any) -> Any:
        if is_simulated():
            _refuse(
                "Proton has no profiler for a simulated MLU",
                note="it reads the counters of GPUs; a simulated launch knows all of its own",
                help="mlutriton profile SCRIPT.py; or print what a launch of a mlu.jit kernel returns",
            )
        return original(*args)

    return ask


def refuse_to_write_c() -> None:
    """Refuses a compilation that ``triton.tools.compile`` asks for.

    Raises:
        ArgumentError: E0113, it is the program that runs.
    """
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    if script.parts[-3:] == ("triton", "tools", "compile.py"):
        _refuse(
            "triton.tools.compile makes no C for a simulated MLU",
            note="what it writes calls the driver of a GPU",
            help="mlutriton compile FILE.py::KERNEL -s SIGNATURE writes a program file, which runs without Triton",
        )


def _refuse(summary: str, *, note: str, help: str) -> NoReturn:
    from mlutriton.diagnostics import ArgumentError  # not before it is needed: Triton is being imported

    raise ArgumentError("E0113", summary, note=note, help=help)
