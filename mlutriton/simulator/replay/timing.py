"""The machine as the replay sees it: an array of integers, and which machine parameters each cause of time rests on.

Rates are in 1/65536 byte per cycle, cost factors in 1/65536.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np

from mlutriton.dtypes import signed
from mlutriton.isa.machine import Machine

ONE = 1 << 16

# Places in the array of timing parameters.
(
    CORES,
    CLUSTERS,
    LAUNCH_CYCLES,
    LAUNCH_WAVE_CYCLES,
    DISPATCH_CYCLES,
    SYNC_CYCLES,
    CLUSTER_BARRIER_CYCLES,
    UNION_BARRIER_CYCLES,
    SCALAR_LATENCY_CYCLES,
    BULK_LATENCY_CYCLES,
    L2_LATENCY_CYCLES,
    DMA_SETUP_CYCLES,
    DMA_SEGMENT_CYCLES,
    GATHER_ITEM_CYCLES,
    ATOMIC_LATENCY_CYCLES,
    ATOMIC_INTERVAL_CYCLES,
    ATOMIC_SAME_ADDRESS_CYCLES,
    GRANULE_SHIFT,
    STRIDED_READ_COST,
    STRIDED_WRITE_COST,
    CORE_RATE,
    CLUSTER_RATE,
    L2_RATE,
    DRAM_RATE,
    PORT_GROUPS,
    PORTS_BIND,
    MOVE_RATE,
    MOVE_SETUP_CYCLES,
    SRAM_RATE,
    CLUSTER_COPY_RATE,
    CLUSTER_COPY_SETUP_CYCLES,
    HAS_MOVE_QUEUE,
    LINE_SHIFT,
    LINE_BITS,
    L2_LINES,
    PARAMETER_COUNT,
) = range(36)


class Cause(IntEnum):
    """What a core spends a cycle of the launch on; every cycle has exactly one cause."""

    LAUNCH = 0
    DISPATCH = 1
    ISSUE = 2
    WAIT_IO_SETUP = 3
    WAIT_IO_LATENCY = 4
    WAIT_IO_TRANSFER = 5
    WAIT_IO_CONTENTION = 6
    WAIT_MOVE = 7
    WAIT_COMPUTE = 8
    SYNC = 9
    SCALAR_MEMORY = 10
    ATOMIC = 11
    BARRIER = 12
    TAIL_IDLE = 13


_SCALAR = (
    "scalar_integer_cycles",
    "scalar_float_cycles",
    "scalar_divide_cycles",
    "scalar_special_cycles",
    "scalar_branch_cycles",
    "issue_cycles",
    "scalar_nram_load_cycles",
    "scalar_nram_store_cycles",
)
_COMPUTE = (
    "vector_bytes_per_cycle",
    "vector_gap_cycles",
    "vector_latency_cycles",
    "vector_special_passes",
    "tensor_fill_cycles",
)

# The machine parameters that a cause's cycles follow from. A cause rests on an assumption if any of them is assumed.
CAUSE_PARAMETERS: dict[Cause, tuple[str, ...]] = {
    Cause.LAUNCH: ("launch_device_ns", "launch_wave_ns"),
    Cause.DISPATCH: ("dispatch_cycles",),
    Cause.ISSUE: _SCALAR,
    Cause.WAIT_IO_SETUP: ("dma_setup_cycles", "dma_segment_cycles", "gather_item_cycles", "atomic_interval_cycles"),
    Cause.WAIT_IO_LATENCY: ("dram_bulk_latency_ns", "l2_latency_ns", "atomic_latency_cycles"),
    Cause.WAIT_IO_TRANSFER: ("core_dma_bytes_per_cycle", "core_dma_total_bytes_per_cycle"),
    Cause.WAIT_IO_CONTENTION: ("dram_gb_per_s", "dram_efficiency"),
    Cause.WAIT_MOVE: ("move_bytes_per_cycle", "move_setup_cycles", "sram_port_bytes_per_cycle"),
    Cause.WAIT_COMPUTE: _COMPUTE,
    Cause.SYNC: ("sync_cycles",),
    Cause.SCALAR_MEMORY: ("dram_scalar_latency_ns",),
    Cause.ATOMIC: ("atomic_latency_cycles", "atomic_same_address_cycles"),
    Cause.BARRIER: ("cluster_barrier_cycles", "union_barrier_cycles"),
    Cause.TAIL_IDLE: (),
}
assert set(CAUSE_PARAMETERS) == set(Cause)


def assumed_causes(machine: Machine) -> frozenset[Cause]:
    """The causes whose cycles rest on an assumed parameter."""
    return frozenset(
        cause
        for cause, parameters in CAUSE_PARAMETERS.items()
        if any(machine.provenance(parameter).confidence == "assumed" for parameter in parameters)
    )


@lru_cache(maxsize=64)
def timing_parameters(machine: Machine) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The timing parameters of a machine, at the places that this module names."""
    # The IO queue is serial, so that a core has one DMA under way, in one direction.
    core_rate = min(machine.core_dma_bytes_per_cycle, machine.core_dma_total_bytes_per_cycle)
    ports_bind = core_rate * machine.cores_per_cluster > machine.cluster_dma_bytes_per_cycle
    values = {
        CORES: machine.cores,
        CLUSTERS: machine.clusters,
        LAUNCH_CYCLES: machine.cycles_from_ns(machine.launch_device_ns),
        LAUNCH_WAVE_CYCLES: machine.cycles_from_ns(machine.launch_wave_ns),
        DISPATCH_CYCLES: machine.dispatch_cycles,
        SYNC_CYCLES: machine.sync_cycles,
        CLUSTER_BARRIER_CYCLES: machine.cluster_barrier_cycles,
        UNION_BARRIER_CYCLES: machine.union_barrier_cycles,
        SCALAR_LATENCY_CYCLES: machine.cycles_from_ns(machine.dram_scalar_latency_ns),
        BULK_LATENCY_CYCLES: machine.cycles_from_ns(machine.dram_bulk_latency_ns),
        L2_LATENCY_CYCLES: machine.cycles_from_ns(machine.l2_latency_ns),
        DMA_SETUP_CYCLES: machine.dma_setup_cycles,
        DMA_SEGMENT_CYCLES: machine.dma_segment_cycles,
        GATHER_ITEM_CYCLES: machine.gather_item_cycles,
        ATOMIC_LATENCY_CYCLES: machine.atomic_latency_cycles,
        ATOMIC_INTERVAL_CYCLES: machine.atomic_interval_cycles,
        ATOMIC_SAME_ADDRESS_CYCLES: machine.atomic_same_address_cycles,
        GRANULE_SHIFT: machine.dram_granule_bytes.bit_length() - 1,
        STRIDED_READ_COST: round(ONE / machine.strided_read_efficiency),
        STRIDED_WRITE_COST: round(ONE / machine.strided_write_efficiency),
        CORE_RATE: core_rate * ONE,
        CLUSTER_RATE: machine.cluster_dma_bytes_per_cycle * ONE,
        L2_RATE: machine.l2_bytes_per_cycle * ONE,
        DRAM_RATE: round(machine.dram_bytes_per_cycle * ONE),
        PORT_GROUPS: machine.clusters if ports_bind else 1,
        PORTS_BIND: int(ports_bind),
        MOVE_RATE: machine.move_bytes_per_cycle * ONE,
        MOVE_SETUP_CYCLES: machine.move_setup_cycles,
        SRAM_RATE: machine.sram_port_bytes_per_cycle * ONE,
        CLUSTER_COPY_RATE: machine.cluster_dma_copy_bytes_per_cycle * ONE,
        CLUSTER_COPY_SETUP_CYCLES: machine.cluster_dma_copy_setup_cycles,
        HAS_MOVE_QUEUE: int(machine.has_move_queue),
        LINE_SHIFT: machine.l2_line_bytes.bit_length() - 1,
        LINE_BITS: _first_sectors(machine.l2_line_bytes // machine.dram_granule_bytes),
        L2_LINES: machine.l2_bytes // machine.l2_line_bytes,
    }
    array = np.array([values[place] for place in range(PARAMETER_COUNT)], dtype=np.int64)
    array.setflags(write=False)
    return array


def _first_sectors(sectors_per_line: int) -> int:
    """A word with a bit for each sector, of which those are set that begin a line; as a signed number."""
    return signed(sum(1 << bit for bit in range(0, 64, sectors_per_line)))
