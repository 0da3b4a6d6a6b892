"""All that a report says of one launch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mlutriton.isa.native_interface import Counter
from mlutriton.isa.trace_format import RECORD_WORDS, Kind
from mlutriton.profile import alterations
from mlutriton.profile.advice import Advice, Limit, advice, limits
from mlutriton.profile.breakdown import QueueUse, core_cycles, queue_uses
from mlutriton.profile.sensitivity import Gain, sensitivity
from mlutriton.profile.source import SourcePart, annotated
from mlutriton.simulator import trace_columns
from mlutriton.simulator.report import Run
from mlutriton.simulator.work_bound import VECTOR_COUNTERS

# Operations of the vector unit are counted in lanes of so many bytes, whatever the type.
LANE_BYTES = 4


@dataclass(frozen=True)
class MemoryUse:
    """How far an on-chip memory is filled, or what a level of memory moved.

    Units: bytes; ``limit`` is None for what has none.
    """

    name: str
    used: int
    limit: int | None = None


@dataclass(frozen=True)
class Examination:
    """What is to be said of a launch, computed when it is asked for."""

    run: Run

    @cached_property
    def core_cycles(self) -> dict[str, int]:
        """Cycles of all cores by category, see :mod:`mlutriton.profile.breakdown`."""
        return core_cycles(self.run)

    @cached_property
    def queues(self) -> list[QueueUse]:
        """How busy the queues were."""
        return queue_uses(self.run)

    @cached_property
    def limits(self) -> list[Limit]:
        """What would be saved without each limit of the machine; the first is what bounds the launch."""
        return limits(self.run)

    @property
    def bounded_by(self) -> Limit:
        """The limit whose absence would save most."""
        return self.limits[0]

    @cached_property
    def advice(self) -> list[Advice]:
        """What changes would save, the best first."""
        return advice(self.run, self.run.lines())

    @cached_property
    def gains(self) -> list[Gain]:
        """What the launch would gain from each machine parameter."""
        return sensitivity(self.run)

    @cached_property
    def source(self) -> list[SourcePart]:
        """The kernel's text with its costs."""
        return annotated(self.run, self.run.lines())

    @property
    def traffic(self) -> list[MemoryUse]:
        """Bytes moved at each level of the memory."""
        run = self.run
        moves = alterations.rows_of(run.trace, [Kind.MOVE])
        within = int(trace_columns.amounts(run.trace.words.reshape(len(moves), RECORD_WORDS)[moves]).sum())
        moved = sum(cost.bytes for cost in run.lines().values())
        return [
            MemoryUse("read from DRAM", run.dram_read_bytes, run.work_bound.loaded_bytes),
            MemoryUse("written to DRAM", run.dram_write_bytes, run.work_bound.stored_bytes),
            MemoryUse("found in the L2", run.l2_hit_bytes),
            MemoryUse("moved by DMA", moved - within),
            MemoryUse("moved within the chip", within),
        ]

    @property
    def on_chip(self) -> list[MemoryUse]:
        """High water of the on-chip memories, of what programs may use."""
        run, machine = self.run, self.run.machine
        return [
            MemoryUse("NRAM", run.nram_used_bytes, machine.usable_nram_bytes),
            MemoryUse("WRAM", run.wram_used_bytes, machine.usable_wram_bytes),
            MemoryUse("SRAM", run.sram_used_bytes, machine.usable_sram_bytes),
        ]

    @property
    def operations(self) -> int:
        """Operations done: two a multiply-accumulate, and one a 32-bit lane that the vector unit takes."""
        counters = self.run.counters
        if counters is None:
            return 0
        return 2 * counters[Counter.MACS] + sum(counters[each] for each in VECTOR_COUNTERS) // LANE_BYTES


def examine(run: Run) -> Examination:
    """What there is to say of a launch."""
    return Examination(run)
