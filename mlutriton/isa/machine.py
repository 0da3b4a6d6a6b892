"""The machine model: every number that the compiler plans with and the simulator counts with.

A :class:`Machine` is read from a TOML file (see :mod:`mlutriton.isa.machine_file`) and never changes. Its dataclass
fields are the one list of parameters: the reader, the writer and ``docs/reference/machines.md`` derive from them.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from mlutriton.dtypes import DType
from mlutriton.immutables import remembered
from mlutriton.isa.machine_file import DEFAULT_MACHINE_NAME as DEFAULT_MACHINE_NAME
from mlutriton.isa.machine_file import (
    MachineValues,
    Parameter,
    Provenance,
    Value,
    format_machine_file,
    illegal_value,
    invalid,
    path_of,
    preset_names,
    preset_path,
    read_machine_file,
    unknown_parameter,
)

CHIP = "Chip"
ON_CHIP = "On-chip memory"
CACHE = "Caches"
DRAM = "DRAM"
TRANSFER = "DMA between DRAM and the chip"
MOVE = "Moves within the chip"
VECTOR = "Vector unit"
TENSOR = "Tensor unit"
SCALAR = "Scalar unit"
ATOMIC = "Atomics and synchronization"
LAUNCH = "Launch"
FEATURE = "Features"


def positive(section: str, unit: str, doc: str, at_most: float = math.inf) -> Mapping[str, Any]:
    """What there is to say of a parameter above 0, but for its name and type."""
    return {"section": section, "unit": unit, "doc": doc, "zero_allowed": False, "at_most": at_most}


def natural(section: str, unit: str, doc: str) -> Mapping[str, Any]:
    """The same of a parameter that may be 0."""
    return {"section": section, "unit": unit, "doc": doc, "zero_allowed": True, "at_most": math.inf}


def memory(doc: str) -> Mapping[str, Any]:
    """The same of the size of a memory on the chip, which the host has to hold for each of its threads."""
    return positive(ON_CHIP, "bytes", doc, at_most=2**30)


def share(section: str, doc: str) -> Mapping[str, Any]:
    """The same of a factor above 0 and at most 1."""
    return positive(section, "", doc, at_most=1)


def switch(doc: str) -> Mapping[str, Any]:
    """The same of a yes or no."""
    return natural(FEATURE, "", doc)


@dataclass(frozen=True, repr=False)
class Machine:
    """An MLU: its sizes, rates and latencies, each with its provenance.

    Units: as the names say; rates ``_bytes_per_cycle`` are of this machine's own clock. Passes are trips of an operand
    through the vector datapath of ``vector_bytes_per_cycle``.
    """

    name: str

    # fmt: off
    isa: Annotated[int, positive(CHIP, "", "ISA number: 220, 270, 290, 372 or 592.")]
    clusters: Annotated[int, positive(CHIP, "", "Clusters of the chip.")]
    cores_per_cluster: Annotated[int, positive(CHIP, "", "Cores of a cluster, not counting its memory core.")]
    max_union_clusters: Annotated[int, positive(CHIP, "", "Most clusters that one task may span. Recorded only.")]
    clock_mhz: Annotated[int, positive(CHIP, "MHz", "Clock of the cores.")]

    nram_bytes: Annotated[int, memory("NRAM of a core: the operands of the vector unit.")]
    wram_bytes: Annotated[int, memory("WRAM of a core: the weights of the tensor unit.")]
    sram_bytes: Annotated[int, memory("SRAM of a cluster.")]
    nram_reserve_bytes: Annotated[int, natural(ON_CHIP, "bytes", "NRAM kept from tiles (stack).")]
    wram_reserve_bytes: Annotated[int, natural(ON_CHIP, "bytes", "WRAM kept from tiles.")]
    sram_reserve_bytes: Annotated[int, natural(ON_CHIP, "bytes", "SRAM kept from tiles.")]

    l1_bytes: Annotated[int, natural(CACHE, "bytes", "L1 of a cluster; 0 = none. Recorded only.")]
    l2_bytes: Annotated[int, positive(CACHE, "bytes", "L2 of the chip.")]
    l2_line_bytes: Annotated[int, positive(CACHE, "bytes", "Line of the L2; the lines used longest ago leave.")]
    l2_bytes_per_cycle: Annotated[int, positive(CACHE, "bytes/cycle", "Rate of the L2, all cores together.")]
    l2_latency_ns: Annotated[int, natural(CACHE, "ns", "First byte of a transfer that hits the L2.")]

    dram_bytes: Annotated[int, positive(DRAM, "bytes", "Size of the DRAM.")]
    dram_gb_per_s: Annotated[float, positive(DRAM, "GB/s", "Peak rate of the DRAM (1 GB = 10^9 bytes).")]
    dram_efficiency: Annotated[float, share(DRAM, "Share of the peak that long bursts reach.")]
    dram_granule_bytes: Annotated[int, positive(DRAM, "bytes", "Smallest access; a smaller write costs two.")]
    dram_scalar_latency_ns: Annotated[int, natural(DRAM, "ns", "A blocking scalar load.")]
    dram_bulk_latency_ns: Annotated[int, natural(DRAM, "ns", "First byte of a DMA.")]
    strided_read_efficiency: Annotated[float, share(DRAM, "Factor on the rate of strided reads.")]
    strided_write_efficiency: Annotated[float, share(DRAM, "Factor on the rate of strided writes.")]

    core_dma_bytes_per_cycle: Annotated[int, positive(TRANSFER, "bytes/cycle", "A core's rate in one direction.")]
    core_dma_total_bytes_per_cycle: Annotated[int, positive(TRANSFER, "bytes/cycle", "A core's rate, both directions.")]
    cluster_dma_bytes_per_cycle: Annotated[int, positive(TRANSFER, "bytes/cycle", "A cluster's rate, both directions.")]
    dma_setup_cycles: Annotated[int, natural(TRANSFER, "cycles", "Start of a DMA descriptor.")]
    dma_segment_cycles: Annotated[int, natural(TRANSFER, "cycles", "Each further segment of a 2-D or 3-D DMA.")]
    gather_item_cycles: Annotated[int, positive(TRANSFER, "cycles", "An item gathered from or scattered to DRAM.")]
    gather_local_item_cycles: Annotated[int, positive(TRANSFER, "cycles", "An item gathered or scattered within NRAM.")]

    move_bytes_per_cycle: Annotated[int, positive(MOVE, "bytes/cycle", "A core's rate among NRAM, WRAM and SRAM.")]
    move_setup_cycles: Annotated[int, natural(MOVE, "cycles", "Start of a move.")]
    sram_port_bytes_per_cycle: Annotated[int, positive(MOVE, "bytes/cycle", "A cluster's SRAM, all its cores.")]
    cluster_dma_copy_bytes_per_cycle: Annotated[int, positive(MOVE, "bytes/cycle", "SRAM to SRAM of another cluster.")]
    cluster_dma_copy_setup_cycles: Annotated[int, natural(MOVE, "cycles", "Start of a copy from SRAM to SRAM.")]

    vector_bytes_per_cycle: Annotated[int, positive(VECTOR, "bytes/cycle", "Width of the datapath, each operand.")]
    vector_gap_cycles: Annotated[int, natural(VECTOR, "cycles", "Between two independent instructions.")]
    vector_latency_cycles: Annotated[int, natural(VECTOR, "cycles", "Start-up and write-back before a dependent one.")]
    vector_fma_passes: Annotated[int, positive(VECTOR, "passes", "Fused multiply-add.")]
    vector_divide_passes: Annotated[int, positive(VECTOR, "passes", "Division.")]
    vector_special_passes: Annotated[int, positive(VECTOR, "passes", "Accurate exp, log, sin, sqrt, reciprocal, ...")]
    vector_fast_passes: Annotated[int, positive(VECTOR, "passes", "exp, log, ... by table, inaccurate. Recorded only.")]
    vector_transpose_passes: Annotated[int, positive(VECTOR, "passes", "Transposition.")]
    vector_i64_passes: Annotated[int, positive(VECTOR, "passes", "A one-pass operation on 64-bit integers (emulated).")]
    vector_f64_passes: Annotated[int, positive(VECTOR, "passes", "A one-pass operation on f64 (emulated).")]
    vector_f8_passes: Annotated[int, positive(VECTOR, "passes", "A conversion from or to an 8-bit float (emulated).")]

    tensor_fill_cycles: Annotated[int, natural(TENSOR, "cycles", "Fill and drain of an instruction.")]
    tensor_column_granule: Annotated[int, positive(TENSOR, "", "The number of columns is rounded up to this.")]
    tensor_k_granule_bytes: Annotated[int, positive(TENSOR, "bytes", "The inner extent is rounded up to this.")]
    mac_per_cycle_i4: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for i4; 0 = not there, as below.")]
    mac_per_cycle_i8: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for i8.")]
    mac_per_cycle_i16: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for i16.")]
    mac_per_cycle_f16: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for f16.")]
    mac_per_cycle_bf16: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for bf16.")]
    mac_per_cycle_tf32: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for tf32.")]
    mac_per_cycle_f32: Annotated[int, natural(TENSOR, "MAC/cycle", "Rate of a core for f32.")]

    scalar_integer_cycles: Annotated[int, positive(SCALAR, "cycles", "Integer operation, comparison or selection.")]
    scalar_float_cycles: Annotated[int, positive(SCALAR, "cycles", "Float addition or multiplication.")]
    scalar_divide_cycles: Annotated[int, positive(SCALAR, "cycles", "Division.")]
    scalar_special_cycles: Annotated[int, positive(SCALAR, "cycles", "exp, log, sin, sqrt, ...")]
    scalar_branch_cycles: Annotated[int, positive(SCALAR, "cycles", "Taken branch.")]
    issue_cycles: Annotated[int, natural(SCALAR, "cycles", "Handing an instruction to another queue.")]
    scalar_nram_load_cycles: Annotated[int, positive(SCALAR, "cycles", "Blocking scalar load from NRAM.")]
    scalar_nram_store_cycles: Annotated[int, positive(SCALAR, "cycles", "Scalar store to NRAM.")]

    atomic_latency_cycles: Annotated[int, natural(ATOMIC, "cycles", "An atomic on DRAM, seen by its core.")]
    atomic_interval_cycles: Annotated[int, natural(ATOMIC, "cycles", "Between granules of atomics of a core.")]
    atomic_same_address_cycles: Annotated[int, natural(ATOMIC, "cycles", "Between two atomics on one address.")]
    sync_cycles: Annotated[int, natural(ATOMIC, "cycles", "A core's wait for its own queues, beyond the waiting.")]
    cluster_barrier_cycles: Annotated[int, natural(ATOMIC, "cycles", "A cluster's barrier, after the last arrival.")]
    union_barrier_cycles: Annotated[int, natural(ATOMIC, "cycles", "A union task's barrier, after the last arrival.")]

    launch_device_ns: Annotated[int, natural(LAUNCH, "ns", "Floor of a kernel's time on the device.")]
    launch_host_ns: Annotated[int, natural(LAUNCH, "ns", "Time of a launch on the host. Recorded only.")]
    launch_wave_ns: Annotated[int, natural(LAUNCH, "ns", "Each further wave: each task that finds no core free.")]
    dispatch_cycles: Annotated[int, natural(LAUNCH, "cycles", "Dispatch of a task to a core.")]

    has_move_queue: Annotated[bool, switch("Moves have a queue of their own, apart from DMA.")]
    has_gather: Annotated[bool, switch("There is a gather and scatter unit. Recorded only.")]
    has_tf32: Annotated[bool, switch("tf32 is known.")]
    has_bf16: Annotated[bool, switch("bf16 is known.")]
    has_fp8: Annotated[bool, switch("The 8-bit floats are known.")]
    # fmt: on

    provenances: Mapping[str, Provenance]

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a machine anew: a preset by its name, or a file by its path (with a ``/``, or ending in ``.toml``).

        Raises:
            ArgumentError: E0105 for an unknown name or unreadable file, E0106 for a file that is no legal machine.
        """
        path = path_of(name_or_path)
        return cls._checked(read_machine_file(path, PARAMETERS), path)

    @classmethod
    def _checked(cls, read: MachineValues, path: Path | None) -> Self:
        values: dict[str, Any] = dict(read.values)
        made = cls(name=read.name, provenances=read.provenance, **values)
        for contradiction in _contradictions(made):
            raise invalid(f"machine {read.name!r} contradicts itself: {contradiction}", path=path)
        return made

    def replace(self, **values: Value | str) -> Self:
        """The same machine with other values (or another ``name``), marked as assumed by the user.

        Raises:
            ArgumentError: E0106 for an unknown parameter, an illegal value, or values that contradict each other.
        """
        name = values.pop("name", self.name)
        if not isinstance(name, str) or not name:
            raise invalid(f"name is {name!r}; expected a text")
        replaced: dict[str, Value] = {}
        for key, value in values.items():
            if key not in PARAMETERS:
                raise unknown_parameter(key, PARAMETERS)
            converted = PARAMETERS[key].convert(value)
            if converted is None:
                raise illegal_value(PARAMETERS[key], value)
            replaced[key] = converted
        provenances = dict(self.provenances) | dict.fromkeys(replaced, USER_OVERRIDE)
        return self._checked(MachineValues(name, self.values | replaced, provenances), None)

    def provenance(self, parameter: str) -> Provenance:
        """Where the value of a parameter comes from.

        Raises:
            ArgumentError: E0106 if there is no such parameter.
        """
        if parameter not in self.provenances:
            raise unknown_parameter(parameter, PARAMETERS)
        return self.provenances[parameter]

    def to_toml(self) -> str:
        """This machine as the text of a machine file that extends nothing."""
        return format_machine_file(self.name, self.values, self.provenances, PARAMETERS)

    @property
    def values(self) -> dict[str, Value]:
        """Every parameter's value, by name, in the order of the fields."""
        return {key: getattr(self, key) for key in PARAMETERS}

    @remembered
    def content_hash(self) -> str:
        """SHA-256 of all values, in hexadecimal: equal for machines that behave alike, whatever their names."""
        return hashlib.sha256(repr(self.values).encode()).hexdigest()

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        return f"<Machine {self.name}: {self.clusters}x{self.cores_per_cluster} cores, {self.content_hash[:8]}>"

    @property
    def cores(self) -> int:
        """Cores of the chip, not counting memory cores."""
        return self.clusters * self.cores_per_cluster

    @property
    def usable_nram_bytes(self) -> int:
        """NRAM of a core that tiles may fill."""
        return self.nram_bytes - self.nram_reserve_bytes

    @property
    def usable_wram_bytes(self) -> int:
        """WRAM of a core that tiles may fill."""
        return self.wram_bytes - self.wram_reserve_bytes

    @property
    def core_dma_latency_bytes(self) -> int:
        """What a core's DMA could move while a transfer begins."""
        latency = self.dma_setup_cycles + self.cycles_from_ns(self.dram_bulk_latency_ns)
        return self.core_dma_bytes_per_cycle * latency

    @property
    def usable_sram_bytes(self) -> int:
        """SRAM of a cluster that tiles may fill."""
        return self.sram_bytes - self.sram_reserve_bytes

    @property
    def dram_bytes_per_cycle(self) -> float:
        """What the DRAM sustains in a cycle of the cores: the peak times the efficiency."""
        return self.dram_gb_per_s * 1000 / self.clock_mhz * self.dram_efficiency

    def cycles_from_ns(self, ns: float) -> int:
        """A time in cycles, rounded up; exact for whole nanoseconds."""
        return math.ceil(ns * self.clock_mhz / 1000) if isinstance(ns, float) else -(-ns * self.clock_mhz // 1000)

    def time_us(self, cycles: float) -> float:
        """The time of so many cycles in microseconds."""
        return cycles / self.clock_mhz

    def mac_per_cycle(self, dtype: DType | Literal["i4", "tf32"]) -> int:
        """Multiply-accumulates of one core's tensor unit in a cycle; 0 where it does not take the type."""
        rate: int = getattr(self, f"{MAC_PREFIX}{dtype}", 0)
        return rate

    def peak_mac_per_cycle(self, dtype: DType | Literal["i4", "tf32"]) -> int:
        """Multiply-accumulates of the whole chip in a cycle; 0 where the tensor unit does not take the type."""
        return self.cores * self.mac_per_cycle(dtype)


MAC_PREFIX: Final = "mac_per_cycle_"
# Sectors of a line of the L2 that the replay can tell apart.
MOST_LINE_GRANULES: Final = 8
USER_OVERRIDE: Final = Provenance("assumed", "user override")


def _parameters() -> Iterator[Parameter]:
    for each in fields(Machine):
        # Annotations are evaluated in this module, so a field's type is the Annotated object itself.
        match get_args(each.type):
            case (kind, metadata) if get_origin(each.type) is Annotated:
                yield Parameter(each.name, kind, **metadata)
            case _:  # the name and the provenances
                pass


PARAMETERS: Final[Mapping[str, Parameter]] = {parameter.name: parameter for parameter in _parameters()}


def machine_names() -> tuple[str, ...]:
    """Names of the machines that come with the package, sorted."""
    return preset_names()


@cache
def machine(name: str) -> Machine:
    """A machine that comes with the package; the same object each time.

    Raises:
        ArgumentError: E0105 for an unknown name, with close ones.
    """
    return Machine.load(preset_path(name))


def _contradictions(made: Machine) -> Iterator[str]:
    """What cannot be true at once, although each value alone is legal."""
    if made.max_union_clusters > made.clusters:
        yield f"max_union_clusters is {made.max_union_clusters} but clusters is {made.clusters}"
    for memory in ("nram", "wram", "sram"):
        size, reserve = made.values[f"{memory}_bytes"], made.values[f"{memory}_reserve_bytes"]
        if reserve >= size:
            yield f"{memory}_reserve_bytes is {reserve} but {memory}_bytes is {size}"
    for name, size in (("dram_granule_bytes", made.dram_granule_bytes), ("l2_line_bytes", made.l2_line_bytes)):
        if size.bit_count() > 1:
            yield f"{name} is {size}, no power of two"
    if made.l2_bytes % made.l2_line_bytes:
        yield f"l2_bytes is {made.l2_bytes}, not a whole number of lines of {made.l2_line_bytes}"
    if not made.dram_granule_bytes <= made.l2_line_bytes <= MOST_LINE_GRANULES * made.dram_granule_bytes:
        yield (
            f"l2_line_bytes is {made.l2_line_bytes}, "
            f"not 1 to {MOST_LINE_GRANULES} times dram_granule_bytes, {made.dram_granule_bytes}"
        )
    if made.core_dma_total_bytes_per_cycle < made.core_dma_bytes_per_cycle:
        yield (
            f"core_dma_total_bytes_per_cycle is {made.core_dma_total_bytes_per_cycle} "
            f"but core_dma_bytes_per_cycle is {made.core_dma_bytes_per_cycle}"
        )
    for dtype in ("tf32", "bf16"):
        if made.values[f"{MAC_PREFIX}{dtype}"] and not made.values[f"has_{dtype}"]:
            yield f"{MAC_PREFIX}{dtype} is {made.values[f'{MAC_PREFIX}{dtype}']} but has_{dtype} is false"
