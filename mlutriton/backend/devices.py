"""The machines of this process, numbered as Triton's devices.

Triton keeps compiled kernels per device number, so every machine that was ever made current has its own: a kernel that
was compiled for one machine is never launched on another.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

from mlutriton.configuration import current_machine, set_machine, warp_size
from mlutriton.isa.machine import Machine

_machines: list[Machine] = []
_numbers: dict[str, int] = {}


def current_device() -> int:
    """The device number of the current machine."""
    machine = current_machine()
    number = _numbers.get(machine.content_hash)
    if number is None:
        number = _numbers[machine.content_hash] = len(_machines)
        _machines.append(machine)
    return number


def set_device(number: int) -> None:
    """Makes the machine with a device number current."""
    set_machine(machine_of(number))


def machine_of(number: int | None) -> Machine:
    """The machine with a device number; of None, which is what torch's CPU has in its place, the current one."""
    current = current_device()  # numbers the first machine of the process
    return _machines[current if number is None else number]


def device_properties(number: int | None) -> dict[str, int]:
    """What kernels and Triton's libraries ask a device for: Triton's names first, then Cambricon's.

    Units: bytes; clocks in kHz; bus width in bits, such that two transfers a clock
    give the bandwidth, as Triton counts.
    """
    return _properties(machine_of(number))


@cache
def _properties(machine: Machine) -> dict[str, int]:
    clock_khz = round(machine.clock_mhz * 1000)
    bus_bits = round(machine.dram_gb_per_s * 4e6 / clock_khz)
    # fmt: off
    return {
        "max_shared_mem":       machine.usable_nram_bytes,
        "multiprocessor_count": machine.cores,
        "max_num_regs":         65536,
        "warpSize":             warp_size(),
        "sm_clock_rate":        clock_khz,
        "mem_clock_rate":       clock_khz,
        "mem_bus_width":        bus_bits,
        "cluster_num":          machine.clusters,
        "core_num_per_cluster": machine.cores_per_cluster,
        "max_nram_size":        machine.usable_nram_bytes,
        "max_wram_size":        machine.usable_wram_bytes,
        "max_cluster_shared_mem": machine.usable_sram_bytes,
        "max_l2_cache_size":    machine.l2_bytes,
        "total_memory":         machine.dram_bytes,
        "cluster_clock_rate":   clock_khz,
        "memory_clock_rate":    clock_khz,
        "memory_bus_width":     bus_bits,
        "isa_version":          machine.isa,
        "max_block_task_dim_x": 2**31 - 1,
        "max_block_task_dim_y": 2**31 - 1,
        "max_block_task_dim_z": 2**31 - 1,
    }
    # fmt: on


def torch_properties(device: object = None) -> SimpleNamespace:
    """The current machine as ``torch.cuda.get_device_properties`` tells of a device, as far as kernels' hosts ask.

    Args:
        device: whichever; there is one.
    """
    machine, properties = current_machine(), device_properties(current_device())
    return SimpleNamespace(
        name=machine.name,
        major=0,  # no version of CUDA describes it
        minor=0,
        multi_processor_count=properties["multiprocessor_count"],
        total_memory=properties["total_memory"],
        shared_memory_per_block=properties["max_shared_mem"],
        shared_memory_per_block_optin=properties["max_shared_mem"],
        L2_cache_size=properties["max_l2_cache_size"],
        warp_size=properties["warpSize"],
    )
