"""The timeline of a launch as a file for Perfetto (https://ui.perfetto.dev) or chrome://tracing.

A process is a cluster, a thread one queue of one core; slices are programs, waits, transfers and runs of vector and
tensor work, each named by what it is and the source line of its instruction; a run of work by the lines of those that
have taken part. The bytes per cycle of all DMA queues together are a counter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from mlutriton.files import write_whole
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program
from mlutriton.isa.table import Queue
from mlutriton.isa.trace_format import (
    NO_COMPUTE,
    RECORD_WORDS,
    WAIT_ALL,
    WAIT_COMPUTE,
    WAIT_IO,
    WAIT_MOVE,
    Kind,
    Record,
    unpack,
)
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import Table, Timing, Trace

MAXIMUM_SLICES = 100_000
COUNTER_POINTS = 1000

_QUEUES = tuple(Queue)


@dataclass(frozen=True)
class Slice:
    """Something that a queue of a core did.

    Units: cycles from the launch on the device.
    """

    core: int
    queue: Queue
    start: int
    end: int
    name: str
    arguments: str = ""


@dataclass(frozen=True)
class Source:
    """Where the instructions of a program come from."""

    program: Program

    def of(self, number: int) -> str:
        """The file and line of an instruction; nothing if they are not known."""
        location = self.program.instructions[number].location
        return f" {Path(location.file).name}:{location.line}" if location.line else ""

    def of_compute(self, before: int, end: int) -> str:
        """The file and lines of the COMPUTE instructions between two, where the second was reached from the first.

        A way back leads through instructions that are not between the two; then only the second is named.
        """
        lines = [
            each.location.line
            for each in self.program.instructions[before + 1 : end]
            if each.row.queue is Queue.COMPUTE and each.location.line
        ]
        if not lines:
            return self.of(end)
        file = Path(self.program.instructions[end - 1].location.file).name
        return f" {file}:{min(lines)}" + (f"-{max(lines)}" if max(lines) > min(lines) else "")


def write_timeline(
    path: str | Path,
    program: Program,
    grid: tuple[int, int, int],
    trace: Trace,
    timing: Timing,
    machine: Machine,
    *,
    maximum_slices: int = MAXIMUM_SLICES,
) -> Path:
    """Write the timeline; programs beyond ``maximum_slices`` records are left out, and the file says so.

    Args:
        path: of the file, which is replaced as a whole.
        program: what ran.
        grid: extents of the launch.
        trace: what ran.
        timing: its replay, with events.
        machine: where.
        maximum_slices: how much is drawn.

    Raises:
        ValueError: the replay kept no events.
        OSError: the file cannot be written.
    """
    if timing.events is None:
        raise ValueError("a timeline needs a replay with events")
    path, events, source = Path(path), timing.events, Source(program)
    ends = np.append(trace.starts[trace.cores_per_program :: trace.cores_per_program], trace.records)
    drawn = min(max(int(np.searchsorted(ends, maximum_slices, side="right")), 1), trace.programs)
    note = f"{program.name} {grid} on {machine.name}, simulated"
    if drawn < trace.programs:
        note += f"; drawn are the first {drawn} of {trace.programs} programs, the counter shows all"
    slices = [each for number in range(drawn) for each in program_slices(number, source, grid, trace, timing, machine)]
    parts = [
        *_names(sorted({each.core for each in slices}), note, machine),
        *(_event(each, machine) for each in slices),
        *_counter(trace, timing, events, machine),
    ]
    text = '{"displayTimeUnit":"ns","otherData":' + json.dumps({"note": note}) + ',"traceEvents":[\n'
    write_whole(path, (text + ",\n".join(parts) + "\n]}\n").encode())
    return path


def _cores(trace: Trace, timing: Timing, program: int, machine: Machine) -> list[int]:
    """The cores that a program ran on, in the order of its traces."""
    first = int(timing.programs[program, 0])
    return [
        first + member // machine.cores_per_cluster + member % machine.cores_per_cluster * machine.clusters
        for member in range(trace.cores_per_program)
    ]


def program_slices(
    program: int, source: Source, grid: tuple[int, int, int], trace: Trace, timing: Timing, machine: Machine
) -> Iterator[Slice]:
    """What the queues of its cores did in one program, in the order of its records."""
    assert timing.events is not None
    _, start, end = (int(each) for each in timing.programs[program])
    identity = (program % grid[0], program // grid[0] % grid[1], program // (grid[0] * grid[1]))
    for member, core in enumerate(_cores(trace, timing, program, machine)):
        served = f"program {identity}" if trace.programs == prod(grid) else f"task {program}"
        yield Slice(core, Queue.SCALAR, start, end, served)
        number = program * trace.cores_per_program + member
        first, last = int(trace.starts[number]), int((*trace.starts[number + 1 : number + 2], trace.records)[0])
        records = unpack(trace.words[first * RECORD_WORDS : last * RECORD_WORDS].tolist())
        yield from _slices(core, start, source, records, timing.events[first:last], machine)


def _slices(
    core: int, start: int, source: Source, records: Iterable[Record], events: Table, machine: Machine
) -> Iterator[Slice]:
    """What the queues of a core did in one program; ``events`` has a row for each record and extent."""
    scalar = free = start
    done = {Queue.IO: start, Queue.MOVE: start}
    place, before = 0, -1
    for record in records:
        line = source.of(record.instruction)
        began, ended = (int(each) for each in events[place])
        if record.compute_head != NO_COMPUTE:
            free = max(free + record.compute_cycles, scalar + record.compute_head)
            if record.compute_cycles:
                work = source.of_compute(before, record.instruction)
                yield Slice(core, Queue.COMPUTE, free - record.compute_cycles, free, "compute" + work)
        scalar += record.scalar_cycles
        if record.kind <= Kind.MOVE:
            queue = Queue.MOVE if record.kind is Kind.MOVE and machine.has_move_queue else Queue.IO
            done[queue] = ended
            yield Slice(core, queue, began, ended, record.kind.name.lower() + line, _arguments(record))
        elif record.kind in (Kind.SYNC, Kind.END):
            mask = record.amount if record.kind is Kind.SYNC else WAIT_ALL
            if ended > began:
                _, name = max(_awaited(mask, done, free, machine))
                yield Slice(core, Queue.SCALAR, began, ended, f"wait for {name}{line}")
            scalar = max(scalar, ended) + machine.sync_cycles
        elif record.kind is not Kind.LOCAL:
            yield Slice(core, Queue.SCALAR, began, ended, record.kind.name.lower().replace("_", " ") + line)
            scalar = ended
        before = record.instruction
        place += len(record.words()) // RECORD_WORDS


def _awaited(mask: int, done: dict[Queue, int], free: int, machine: Machine) -> Iterator[tuple[int, str]]:
    """When the queues that a mask names are empty."""
    if mask & WAIT_COMPUTE:
        yield free, Queue.COMPUTE.value
    if mask & WAIT_MOVE and machine.has_move_queue:
        yield done[Queue.MOVE], Queue.MOVE.value
    elif mask & (WAIT_IO | WAIT_MOVE):
        yield done[Queue.IO], Queue.IO.value
    if mask & WAIT_IO:
        yield done[Queue.IO], Queue.IO.value


def _arguments(record: Record) -> str:
    if record.kind is Kind.MOVE:
        return f'"bytes":{record.amount}'
    if record.kind in (Kind.LOAD, Kind.STORE):
        return f'"bytes":{record.amount},"address":"{record.address:#x}"'
    return f'"items":{record.amount}'


def _event(each: Slice, machine: Machine) -> str:
    # Both ends are rounded to nanoseconds, rather than the duration, so that slices stay inside those that hold them.
    start, end = (round(1000 * machine.time_us(cycles)) for cycles in (each.start, each.end))
    cluster, thread = _place(each.core, each.queue, machine)
    arguments = f'"cycles":{each.end - each.start}' + (f",{each.arguments}" if each.arguments else "")
    return (
        f'{{"ph":"X","pid":{cluster},"tid":{thread},"ts":{start / 1000},"dur":{(end - start) / 1000},'
        f'"name":"{each.name}","args":{{{arguments}}}}}'
    )


def _place(core: int, queue: Queue, machine: Machine) -> tuple[int, int]:
    """Process and thread of a queue; process 0 is the chip."""
    return 1 + core % machine.clusters, 1 + core // machine.clusters * len(_QUEUES) + _QUEUES.index(queue)


def _names(cores: Iterable[int], note: str, machine: Machine) -> Iterator[str]:
    def metadata(kind: str, process: int, thread: int, name: str) -> str:
        arguments = json.dumps({"name": name})
        return f'{{"ph":"M","pid":{process},"tid":{thread},"name":"{kind}","args":{arguments}}}'

    yield metadata("process_name", 0, 0, note)
    for core in cores:
        for queue in _QUEUES:
            cluster, thread = _place(core, queue, machine)
            yield metadata("process_name", cluster, 0, f"cluster {cluster - 1}")
            yield metadata("thread_name", cluster, thread, f"core {core // machine.clusters} {queue.value}")


def _counter(trace: Trace, timing: Timing, events: Table, machine: Machine) -> Iterator[str]:
    """Bytes per cycle that all DMA queues move, L2 hits included, averaged over equal spans of the launch."""
    records = trace.words.reshape(-1, RECORD_WORDS)
    moved = trace_columns.kinds(records) <= Kind.STORE
    moved &= ~trace_columns.extent_records(records) & (events[:, 1] > events[:, 0])
    sizes = trace_columns.amounts(records[moved])
    begins, ends = events[moved].T
    rates = sizes / (ends - begins)
    times = np.concatenate((begins, ends))
    order = np.argsort(times, kind="stable")
    times = np.concatenate(([0], times[order]))
    rate = np.concatenate(([0.0], np.cumsum(np.concatenate((rates, -rates))[order])))
    total_bytes = np.concatenate(([0.0], np.cumsum(rate[:-1] * np.diff(times))))
    edges = np.linspace(0, timing.cycles, COUNTER_POINTS + 1)
    averages = np.diff(np.interp(edges, times, total_bytes)) / max(timing.cycles / COUNTER_POINTS, 1e-9)
    for start, average in zip(edges.tolist(), averages.tolist(), strict=False):
        yield (
            f'{{"ph":"C","pid":0,"tid":0,"ts":{machine.time_us(start):.3f},"name":"DMA bytes/cycle",'
            f'"args":{{"bytes":{abs(average):.1f}}}}}'
        )
