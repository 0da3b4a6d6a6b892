"""The report of a launch: what it computed is in its arrays; this says what it cost, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlutriton.configuration import find_machine
from mlutriton.diagnostics import ArgumentError
from mlutriton.immutables import remembered
from mlutriton.isa.expression import names, parse
from mlutriton.isa.machine import PARAMETERS, SCALAR, TENSOR, VECTOR, Machine
from mlutriton.isa.native_interface import Counter, InstructionWork
from mlutriton.isa.program import ONE_CORE_REASON, Program
from mlutriton.isa.table import TABLE
from mlutriton.simulator.line_costs import LineCost, line_costs
from mlutriton.simulator.recording import Recording, read_recording, sources_of, write_recording
from mlutriton.simulator.replay import Timing, Trace, replay, schedule_bound
from mlutriton.simulator.replay.timing import Cause
from mlutriton.simulator.report_html import LEAST_SHARE, report_html
from mlutriton.simulator.timeline import MAXIMUM_SLICES, write_timeline
from mlutriton.simulator.touched_memory import TouchedMemory
from mlutriton.simulator.work_bound import WorkBound, work_bound


class CoreCycles(NamedTuple):
    """What the cores spent the cycles of a launch on, all cores together; each cycle of a core stands in one field.

    Units: core cycles. A wait is for the queue that was done last.
    """

    launch: int
    dispatch: int
    issue: int
    wait_io_setup: int
    wait_io_latency: int
    wait_io_transfer: int
    wait_io_contention: int
    wait_move: int
    wait_compute: int
    sync: int
    scalar_memory: int
    atomic: int
    barrier: int
    tail_idle: int

    @property
    def wait_io(self) -> int:
        """Waiting for the IO queue, for whatever reason."""
        return self.wait_io_setup + self.wait_io_latency + self.wait_io_transfer + self.wait_io_contention


assert CoreCycles._fields == tuple(cause.name.lower() for cause in sorted(Cause))

_CAUSE_TEXTS = {
    "launch": "launch",
    "dispatch": "dispatch",
    "issue": "scalar work and issue",
    "wait_io_setup": "DMA setup",
    "wait_io_latency": "DMA latency",
    "wait_io_transfer": "DMA transfer",
    "wait_io_contention": "DMA contention",
    "wait_move": "moves",
    "wait_compute": "compute",
    "sync": "synchronization",
    "scalar_memory": "scalar loads and stores",
    "atomic": "atomics",
    "barrier": "barriers",
    "tail_idle": "idle cores",
}
assert tuple(_CAUSE_TEXTS) == CoreCycles._fields


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """One launch. Values are final when it exists; cycles are simulated when they are first asked for.

    Attributes:
        program: what ran.
        machine: where.
        grid: extents of the launch.
        trace: what its programs left behind.
        counters: work that was done, by ``Counter``; None if it was not counted, as by the interpreter.
        prints: what the kernel printed, in program order.
        with_values: False if only the cycles were asked for.
        touched: DRAM that gathers, scatters and vector atomics touched, if known.
        count_work: gives ``instruction_work``; None if that is not known.
        variant: what tells the program from others of its kernel: constants and options; empty if not known.
        recorded_sources: text of source files by name, if this run comes from a recording.
    """

    program: Program
    machine: Machine
    grid: tuple[int, int, int]
    trace: Trace
    counters: Sequence[int] | None
    prints: tuple[Any, ...] = ()
    with_values: bool = True
    count_work: Callable[[], NDArray[np.int64]] | None = None
    touched: TouchedMemory | None = None
    variant: str = ""
    recorded_sources: Mapping[str, str] | None = None

    @property
    def _work(self) -> Sequence[int]:
        return self.counters if self.counters is not None else (0,) * len(Counter)

    @cached_property
    def instruction_work(self) -> NDArray[np.int64] | None:
        """Executions and COMPUTE cycles of each instruction, [len(InstructionWork), instructions], if known."""
        return None if self.count_work is None else self.count_work()

    @property
    def kernel(self) -> str:
        """Name of the kernel."""
        return self.program.name

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        return prod(self.grid)

    @remembered
    def timing(self) -> Timing:
        """The replay of the launch, from which all cycles derive."""
        return self.trace.timing(self.machine)

    @property
    def cycles(self) -> int:
        """Simulated cycles from the launch on the device to the end of the last program."""
        return self.timing.cycles

    @property
    def time_us(self) -> float:
        """Simulated time in microseconds."""
        return self.machine.time_us(self.cycles)

    @cached_property
    def schedule_bound_cycles(self) -> int:
        """Cycles of this program if its cores had all shared resources to themselves."""
        return schedule_bound(self.trace, self.machine)

    @cached_property
    def work_bound(self) -> WorkBound:
        """The parts of ``work_bound_cycles``."""
        return work_bound(self.trace.pieces(), self._work, self.program, self.machine, self.touched)

    @property
    def work_bound_cycles(self) -> int:
        """Least cycles that the work needs on this machine, however it is compiled."""
        return self.work_bound.cycles

    @property
    def dram_read_bytes(self) -> int:
        """Bytes read from DRAM."""
        return self.timing.dram_read_bytes

    @property
    def dram_write_bytes(self) -> int:
        """Bytes written to DRAM."""
        return self.timing.dram_write_bytes

    @property
    def l2_hit_bytes(self) -> int:
        """Bytes that DMA found in the L2."""
        return self.timing.l2_hit_bytes

    @property
    def gb_per_s(self) -> float:
        """DRAM traffic over the whole time, in 10^9 bytes a second."""
        return (self.dram_read_bytes + self.dram_write_bytes) / (self.time_us * 1e3)

    @property
    def tflop_per_s(self) -> float:
        """Operations of the tensor units, two a multiply-accumulate, over the whole time, in 10^12 a second."""
        return 2 * self._work[Counter.MACS] / (self.time_us * 1e6)

    @property
    def vector_utilization(self) -> float:
        """Share of the cycles of all cores in which a vector unit works on elements."""
        busy = self._work[Counter.BUSY_CYCLES] - self._work[Counter.TENSOR_CYCLES]
        return busy / (self.cycles * self.machine.cores)

    @property
    def tensor_utilization(self) -> float:
        """Share of the cycles of all cores in which a tensor unit works."""
        return self._work[Counter.TENSOR_CYCLES] / (self.cycles * self.machine.cores)

    @cached_property
    def core_cycles(self) -> CoreCycles:
        """What the cores spent their cycles on."""
        return CoreCycles(*(self.timing.cycles_of(cause) for cause in sorted(Cause)))

    @property
    def assumed_share(self) -> float:
        """Share of the cycles of working cores that rests on assumed machine parameters, from 0 to 1."""
        return self.timing.assumed_share(self.machine)

    @property
    def nram_used_bytes(self) -> int:
        """NRAM of a core that the program's tiles fill."""
        return self.program.memory_used_bytes("nram")

    @property
    def wram_used_bytes(self) -> int:
        """WRAM of a core that the program's tiles fill."""
        return self.program.memory_used_bytes("wram")

    @property
    def sram_used_bytes(self) -> int:
        """SRAM of a cluster that the program's tiles fill."""
        return self.program.memory_used_bytes("sram")

    def what_if(self, machine: Machine | str | Path) -> Run:
        """The same launch on another machine: nothing is run again, the trace is replayed.

        Args:
            machine: a machine, a preset's name, or the path of a machine file.

        Raises:
            ArgumentError: E0105 or E0106, there is no such machine.
            ArgumentError: E0107, the machines differ in what a trace has already counted: another ISA, or other cycles
                of scalar, vector or tensor instructions.
        """
        machine = machine if isinstance(machine, Machine) else find_machine(machine)
        differing, reason = self._fixed_by_the_trace(machine)
        if differing:
            raise ArgumentError(
                "E0107",
                f"what_if cannot change {', '.join(differing)}",
                note=reason,
                help=f"set_machine({machine.name!r}) and launch the kernel again",
            )
        return replace(self, machine=machine)

    def _fixed_by_the_trace(self, machine: Machine) -> tuple[list[str], str]:
        """The parameters that differ on another machine although the trace depends on them, and why it does."""
        old, new = self.machine.values, machine.values
        differing = [name for name in ("isa", *_folded_parameters()) if old[name] != new[name]]
        if differing:
            return differing, "cycles of instructions that stay within a core are counted while the program runs"
        cores = [name for name in ("clusters", "cores_per_cluster") if old[name] != new[name]]
        if cores and self.program.is_resident:
            return cores, "each core has served its share of the programs in one task"
        if self.trace.cores_per_program > 1 and "cores_per_cluster" in cores:
            return ["cores_per_cluster"], "each program has run on the cores of a cluster"
        if self.trace.cores_per_program > machine.cores:
            return cores, f"a task takes {self.trace.cores_per_program} cores"
        return [], ""

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """Text of the source files that the program names, by name, of those that can be read."""
        return sources_of(self.program) if self.recorded_sources is None else self.recorded_sources

    def save(self, path: str | Path) -> Path:
        """Write the launch as a recording, without its arrays, and return its path; ``load`` reads it.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        write_recording(
            path,
            Recording(
                self.program,
                self.machine,
                self.grid,
                self.trace,
                self.counters,
                self.with_values,
                self.instruction_work,
                self.touched,
                self.variant,
                self.sources,
            ),
        )
        return path

    @staticmethod
    def load(path: str | Path) -> Run:
        """The launch of a recording, as it was but for what it printed.

        Raises:
            OSError: the file cannot be read.
            ProgramError: E0405, it is no whole recording, or one of another version.
        """
        recording = read_recording(Path(path))
        work = recording.instruction_work
        return Run(
            recording.program,
            recording.machine,
            recording.grid,
            recording.trace,
            recording.counters,
            with_values=recording.with_values,
            count_work=None if work is None else lambda: work,
            touched=recording.touched,
            variant=recording.variant,
            recorded_sources=recording.sources,
        )

    def lines(self) -> dict[tuple[str, int], LineCost]:
        """What each line of the source, (file, line), cost: cycles of the queues, stalls by cause, bytes.

        The launch is replayed once more to find them.
        """
        work = self.instruction_work
        if work is None:
            work = np.zeros((len(InstructionWork), len(self.program.instructions)), np.int64)
        return line_costs(self.program, self.machine, self.trace, self.timing_with_events, work)

    def timeline(self, path: str | Path, *, maximum_slices: int = MAXIMUM_SLICES) -> Path:
        """Write the launch as a file that Perfetto opens, and return its path.

        Raises:
            OSError: the file cannot be written.
        """
        timing = self.timing_with_events
        return write_timeline(
            path, self.program, self.grid, self.trace, timing, self.machine, maximum_slices=maximum_slices
        )

    @cached_property
    def timing_with_events(self) -> Timing:
        """The replay again, with what each record took and what stalled at each instruction."""
        return replay(self.trace, self.machine, keep_events=True)

    def to_json(self) -> str:
        """All figures of the report as a JSON object."""
        figures = {name: getattr(self, name) for name in _FIGURES}
        return json.dumps(
            {"simulated": True, "machine": self.machine.name, "machine_hash": self.machine.content_hash}
            | figures
            | {"core_cycles": self.core_cycles._asdict()},
            indent=2,
        )

    def __repr__(self) -> str:
        return f"<Run of {self.kernel} {self.grid} on {self.machine.name}>"

    def _repr_html_(self) -> str:
        """The report as notebooks show it."""
        return report_html(self._title, self._rows(), self._cause_shares())

    @property
    def _title(self) -> str:
        values = "" if self.with_values else ", cycles only"
        return f"{self.kernel} {self.grid} on {self.machine.name}: simulated{values}"

    def __str__(self) -> str:
        lines = [self._title]
        lines += [f"  {label:<15}{text}" for label, text in self._rows()]
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, str]]:
        machine, work = self.machine, self.work_bound
        rows = [
            ("cycles", f"{self.cycles:>14,}   {self.time_us:,.2f} us at {machine.clock_mhz} MHz"),
            ("schedule bound", f"{self.schedule_bound_cycles:>14,}   {self._ratio(self.schedule_bound_cycles)}"),
            (
                "work bound",
                f"{work.cycles:>14,}   {self._ratio(work.cycles)}: launch {work.launch_cycles:,} + the greatest of"
                f" DRAM {work.dram_cycles:,}, tensor {work.tensor_cycles:,}, vector {work.vector_cycles:,}",
            ),
            (
                "DRAM",
                f"{self.gb_per_s:>9,.1f} GB/s   of {machine.dram_gb_per_s:,.0f}: read {_size(self.dram_read_bytes)},"
                f" written {_size(self.dram_write_bytes)}, L2 hits {_size(self.l2_hit_bytes)}",
            ),
            ("arithmetic", self._arithmetic()),
            ("spent on", self._spent_on()),
            ("on-chip memory", self._memory()),
            *self._cores(),
            (
                "assumptions",
                f"{self.assumed_share:.0%} of the cycles rest on assumed machine parameters",
            ),
        ]
        return rows + ([("prints", f"{len(self.prints)}")] if self.prints else [])

    def _ratio(self, bound_cycles: int) -> str:
        return f"{self.cycles / max(bound_cycles, 1):.2f}x above"

    def _arithmetic(self) -> str:
        if self.counters is None:
            return "not counted by the interpreter"
        return (
            f"{self.tflop_per_s:>6,.2f} TFLOP/s   tensor units busy {self.tensor_utilization:.1%},"
            f" vector units {self.vector_utilization:.1%}"
        )

    def _cores(self) -> list[tuple[str, str]]:
        """What there is to say of programs that run on several cores or were meant to."""
        cores, reason = self.program.cores_per_program, self.program.metadata.get(ONE_CORE_REASON)
        if cores > 1:
            return [("cores", f"each program runs on the {cores} cores of a cluster")]
        return [("cores", f"each program runs on one: {reason}")] if reason else []

    def _spent_on(self) -> str:
        """The causes of cycles, the largest first, without those that do not matter."""
        return ", ".join(f"{text} {share:.0%}" for text, share in self._cause_shares() if share >= LEAST_SHARE)

    def _cause_shares(self) -> list[tuple[str, float]]:
        total = max(sum(self.core_cycles), 1)
        shares = zip(_CAUSE_TEXTS.values(), (cycles / total for cycles in self.core_cycles), strict=True)
        return sorted(shares, key=lambda pair: -pair[1])

    def _memory(self) -> str:
        spaces = [
            (space, self.program.memory_used_bytes(space), self.machine.values[f"{space}_bytes"])
            for space in ("nram", "wram", "sram")
        ]
        return ", ".join(f"{space.upper()} {_size(used)} of {_size(int(size))}" for space, used, size in spaces)


# The figures of ``to_json``.
_FIGURES = (
    "kernel", "grid", "programs", "with_values", "cycles", "time_us", "schedule_bound_cycles", "work_bound_cycles",
    "dram_read_bytes", "dram_write_bytes", "l2_hit_bytes", "gb_per_s", "tflop_per_s", "vector_utilization",
    "tensor_utilization", "assumed_share", "nram_used_bytes", "wram_used_bytes", "sram_used_bytes",
)  # fmt: skip


@cache
def _folded_parameters() -> tuple[str, ...]:
    """The machine parameters whose cycles a trace has folded in."""
    named = {
        name for row in TABLE.values() for cost in (row.issue, row.occupancy) if cost for name in names(parse(cost))
    }
    sections = (SCALAR, TENSOR, VECTOR)
    return tuple(key for key, parameter in PARAMETERS.items() if key in named or parameter.section in sections)


def _size(count: int) -> str:
    if count < 10_000:
        return f"{count:,} B"
    if count < 10_000_000:
        return f"{count / 1024:,.0f} KiB"
    return f"{count / (1 << 20):,.1f} MiB"
