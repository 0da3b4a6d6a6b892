"""What bounds a launch, and what a change to it would save: each answer is a replay.

A *limit* is something taken away from the machine: a resource without limit, a cost that is nothing. The limit whose
absence saves most is what bounds the launch. *Advice* is about what the kernel does: its trace is altered as if the
kernel had done otherwise, as far as the trace can show it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from mlutriton.diagnostics import Location
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import InstructionWork
from mlutriton.isa.operands import Address, Mode, Operand
from mlutriton.isa.table import Queue
from mlutriton.isa.trace_format import Kind
from mlutriton.profile import alterations
from mlutriton.profile.replays import Variant, replay_all
from mlutriton.profile.waits import QUEUE_BITS, Reason, waits
from mlutriton.simulator import trace_columns
from mlutriton.simulator.line_costs import LineCost
from mlutriton.simulator.replay import Trace
from mlutriton.simulator.report import Run

# What a limit's absence means for a rate, and for a size: no launch comes near it, and no sum of such overflows.
_WITHOUT_LIMIT = 1000
LEAST_SAVED = 0.02
_MOST_LINES = 6
# How many transfers are taken for one in the replay that asks whether they are too small.
_GROUPED = 4


@dataclass(frozen=True)
class Limit:
    """A launch without one of the limits of its machine.

    Attributes:
        name: of what was taken away.
        cycles: of the launch without it.
        saved: share of the cycles that is saved.
    """

    name: str
    cycles: int
    saved: float


@dataclass(frozen=True)
class Advice:
    """What a change would save.

    Attributes:
        fact: what is the case, with figures.
        change: what was altered in the replay, as a condition.
        remedy: what to try in the kernel.
        cycles: of the altered launch, or of its share of an altered one.
        saved: share of the cycles that is saved.
        location: the line of the kernel that it is about, if it is about one.
    """

    fact: str
    change: str
    remedy: str
    cycles: int
    saved: float
    location: Location | None = None

    def __str__(self) -> str:
        place = f"{Path(self.location.file).name}:{self.location.line}: " if self.location else ""
        return f"{place}{self.fact}; {self.change}, it would take {self.saved:.0%} fewer cycles. {self.remedy}"


_COMPUTE = "vector and tensor units"

_WITHOUT: dict[str, Callable[[Run], Variant]] = {
    "DRAM bandwidth": lambda run: _machine(run, _raised(run.machine, "dram_gb_per_s")),
    "L2 bandwidth": lambda run: _machine(run, _raised(run.machine, "l2_bytes_per_cycle")),
    "the DMA rate of a core or cluster": lambda run: _machine(
        run,
        _raised(
            run.machine,
            "core_dma_bytes_per_cycle",
            "core_dma_total_bytes_per_cycle",
            "cluster_dma_bytes_per_cycle",
        ),
    ),
    "DMA latency": lambda run: _machine(run, run.machine.replace(dram_bulk_latency_ns=0, l2_latency_ns=0)),
    "DMA set-up": lambda run: _machine(
        run, run.machine.replace(dma_setup_cycles=0, dma_segment_cycles=0, gather_item_cycles=1)
    ),
    "moves within the chip": lambda run: _machine(
        run,
        _raised(run.machine, "move_bytes_per_cycle", "sram_port_bytes_per_cycle").replace(move_setup_cycles=0),
    ),
    _COMPUTE: lambda run: Variant(alterations.with_compute(run.trace, 0), run.machine),
    "scalar work and issue": lambda run: Variant(
        alterations.without_issue(run.trace), run.machine.replace(sync_cycles=0)
    ),
    "scalar loads and stores": lambda run: _machine(run, run.machine.replace(dram_scalar_latency_ns=0)),
    "atomics": lambda run: _machine(
        run,
        run.machine.replace(atomic_latency_cycles=0, atomic_interval_cycles=0, atomic_same_address_cycles=0),
    ),
    "barriers": lambda run: _machine(run, run.machine.replace(cluster_barrier_cycles=0, union_barrier_cycles=0)),
    "the launch": lambda run: _machine(
        run, run.machine.replace(launch_device_ns=0, launch_wave_ns=0, dispatch_cycles=0)
    ),
}


def limits(run: Run) -> list[Limit]:
    """What the launch would save without each limit; the first is what bounds it."""
    cycles = replay_all([without(run) for without in _WITHOUT.values()])
    found = [
        Limit(_compute_units(run) if name is _COMPUTE else name, taken, 1 - taken / run.cycles)
        for name, taken in zip(_WITHOUT, cycles, strict=True)
    ]
    return sorted(found, key=lambda each: -each.saved)


def advice(run: Run, lines: dict[tuple[str, int], LineCost], least_saved: float = LEAST_SAVED) -> list[Advice]:
    """What would save at least so large a share of the cycles, the best first."""
    candidates = [*_line_candidates(run, lines), *_launch_candidates(run, lines)]
    cycles = replay_all([each.variant for each in candidates])
    found: list[Advice] = []
    for each, taken in zip(candidates, cycles, strict=True):
        own = ceil(taken * each.share)
        found.append(replace(each.advice, cycles=own, saved=1 - own / run.cycles))
    return sorted((each for each in found if each.saved >= least_saved), key=lambda each: -each.saved)


@dataclass(frozen=True)
class _Candidate:
    """Advice whose worth is not known yet; the launch is a ``share`` of the variant."""

    variant: Variant
    advice: Advice
    share: float = 1.0


def _machine(run: Run, machine: Machine) -> Variant:
    return Variant(run.trace, machine)


def _raised(machine: Machine, *parameters: str) -> Machine:
    return machine.replace(**{name: machine.values[name] * _WITHOUT_LIMIT for name in parameters})


# Changes at a line of the kernel.


def _line_candidates(run: Run, lines: dict[tuple[str, int], LineCost]) -> Iterator[_Candidate]:
    at: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, instruction in enumerate(run.program.instructions):
        if instruction.row.trace:
            at[instruction.location.file, instruction.location.line].append(number)
    ranked = sorted(at, key=lambda place: -(lines[place].io_cycles + lines[place].stalled_cycles))
    for place in ranked[:_MOST_LINES]:
        location = Location(*place)
        for candidate in (_segments, _sizes, _items, _scalar_accesses, _atomics):
            yield from candidate(run, at[place], lines[place], location)


def _segments(run: Run, numbers: Sequence[int], line: LineCost, location: Location) -> Iterator[_Candidate]:
    chosen = alterations.rows_of(run.trace, [Kind.LOAD, Kind.STORE], numbers)
    transfers, pieces = alterations.segments(run.trace, chosen)
    if not transfers:
        return
    moved = _bytes(run.trace, chosen)
    size = moved / max(pieces + int(chosen.sum()) - transfers, 1)
    rate = moved / max(line.io_cycles, 1)
    cap = min(run.machine.core_dma_bytes_per_cycle, run.machine.core_dma_total_bytes_per_cycle)
    fact = (
        f"segments of {size:,.0f} B, {pieces / transfers:,.0f} a transfer: DMA moves {rate:.1f} B/cycle, "
        f"{rate / cap:.0%} of the {cap} that a core could"
    )
    remedy = "Let neighbouring elements of the tile lie next to each other in memory: transpose the array, or the load."
    yield _Candidate(
        Variant(alterations.in_one_piece(run.trace, chosen), run.machine),
        _unrated(fact, "if each tile lay in one piece", remedy, location),
    )


def _sizes(run: Run, numbers: Sequence[int], line: LineCost, location: Location) -> Iterator[_Candidate]:
    chosen = alterations.rows_of(run.trace, [Kind.LOAD, Kind.STORE], numbers)
    transfers = int(chosen.sum())
    if not transfers:
        return
    size = _bytes(run.trace, chosen) / transfers
    cap = min(run.machine.core_dma_bytes_per_cycle, run.machine.core_dma_total_bytes_per_cycle)
    fact = (
        f"transfers of {size:,.0f} B, which flow for {size / cap:,.0f} of the {line.io_cycles / transfers:,.0f} cycles "
        "that each takes"
    )
    yield _Candidate(
        Variant(alterations.grouped(run.trace, chosen, _GROUPED), run.machine),
        _unrated(
            fact,
            f"if {_GROUPED} of them were one",
            "Load more at a time: larger tiles, or several rows a program.",
            location,
        ),
    )


def _items(run: Run, numbers: Sequence[int], line: LineCost, location: Location) -> Iterator[_Candidate]:
    chosen = alterations.rows_of(run.trace, [Kind.GATHER, Kind.SCATTER], numbers)
    if not chosen.any():
        return
    records = run.trace.words.reshape(len(chosen), -1)[chosen]
    items, sizes = trace_columns.amounts(records), trace_columns.payloads(records)
    fact = (
        f"{int(items.sum()):,} items of {int(np.sum(items * sizes) / max(items.sum(), 1))} B go through DRAM "
        f"one by one, {line.io_cycles / max(items.sum(), 1):.1f} cycles of DMA each"
    )
    remedy = "Order the accesses, or load the rows that hold the items, where they can be told from the index alone."
    yield _Candidate(
        Variant(alterations.as_blocks(run.trace, chosen), run.machine),
        _unrated(fact, "if they lay in one piece", remedy, location),
    )


def _scalar_accesses(run: Run, numbers: Sequence[int], line: LineCost, location: Location) -> Iterator[_Candidate]:
    chosen = alterations.rows_of(run.trace, [Kind.SCALAR_LOAD, Kind.SCALAR_STORE], numbers)
    if not chosen.any():
        return
    latency = run.machine.cycles_from_ns(run.machine.dram_scalar_latency_ns)
    fact = f"{int(chosen.sum()):,} scalar accesses to DRAM stop their core for {latency} cycles each"
    yield _Candidate(
        Variant(alterations.free(run.trace, chosen), run.machine),
        _unrated(fact, "without them", "Load them as a tile, earlier, or pass them as arguments.", location),
    )


def _atomics(run: Run, numbers: Sequence[int], line: LineCost, location: Location) -> Iterator[_Candidate]:
    chosen = alterations.rows_of(run.trace, [Kind.ATOMIC_SCALAR, Kind.ATOMIC_VECTOR], numbers)
    if not chosen.any():
        return
    fact = f"{_bytes(run.trace, alterations.rows_of(run.trace, [Kind.ATOMIC_VECTOR], numbers)):,} vector atomics"
    scalar = int(alterations.rows_of(run.trace, [Kind.ATOMIC_SCALAR], numbers).sum())
    fact = f"{scalar:,} scalar atomics" if scalar else fact
    yield _Candidate(
        Variant(alterations.free(run.trace, chosen), run.machine),
        _unrated(fact, "without them", "Reduce within the program first, and do one atomic for the result.", location),
    )


def _bytes(trace: Trace, chosen: alterations.Rows) -> int:
    """The amounts of the records chosen together: bytes, or items of those that go by item."""
    return int(trace_columns.amounts(trace.words.reshape(len(chosen), -1)[chosen]).sum())


# Changes of the launch as a whole.


def _launch_candidates(run: Run, lines: dict[tuple[str, int], LineCost]) -> Iterator[_Candidate]:
    yield from _waits(run)
    yield from _cores(run)
    yield from _cache(run)
    yield from _compute(run, lines)
    yield from _divisions(run)
    launch = run.machine.cycles_from_ns(run.machine.launch_device_ns)
    yield _Candidate(
        Variant(run.trace, run.machine.replace(launch_device_ns=0)),
        _unrated(
            f"the launch alone takes {launch:,} of {run.cycles:,} cycles",
            "as part of another launch",
            "Do more in a launch: fuse it with its neighbours, or let it work on more at once.",
        ),
    )


def _compute(run: Run, lines: dict[tuple[str, int], LineCost]) -> Iterator[_Candidate]:
    place, line = max(lines.items(), key=lambda pair: pair[1].compute_cycles)
    total = sum(each.compute_cycles for each in lines.values())
    if not total:
        return
    yield _Candidate(
        Variant(alterations.with_compute(run.trace, 0.5), run.machine),
        _unrated(
            f"the {_compute_units(run)} of all cores are busy {total / (run.cycles * run.machine.cores):.0%} of the "
            f"time, {line.compute_cycles / total:.0%} of it here",
            "with half of their work",
            "Do less here: narrower types, cheaper functions, work that does not depend on the loop outside it.",
            Location(*place),
        ),
    )


def _divisions(run: Run) -> Iterator[_Candidate]:
    """Divisions of many elements by one number, at the line where they take longest."""
    if run.instruction_work is None:
        return
    cycles = run.instruction_work[InstructionWork.COMPUTE_CYCLES]
    divisions: dict[Location, int] = defaultdict(int)
    for instruction, own in zip(run.program.instructions, cycles.tolist(), strict=True):
        if instruction.row.name == "v.fdiv" and own and _is_single(instruction.operand("b")):
            divisions[Location(instruction.location.file, instruction.location.line)] += own
    if not divisions:
        return
    location, own = max(divisions.items(), key=lambda pair: pair[1])
    total = int(cycles.sum())
    kept = 1 / run.machine.vector_divide_passes
    yield _Candidate(
        Variant(alterations.with_compute(run.trace, 1 - (1 - kept) * own / total), run.machine),
        _unrated(
            f"many elements are divided by one number each time, which is {own / total:.0%} of all arithmetic",
            "if they were multiplied by its reciprocal",
            "Compute 1 / x once and multiply, where the last bit of a result may differ.",
            location,
        ),
    )


def _is_single(operand: Operand) -> bool:
    """True if a row, or all that an instruction works on, sees one element of the operand."""
    return not isinstance(operand, Address) or operand.mode is Mode.ROW


def _compute_units(run: Run) -> str:
    """The units that most of the compute cycles are of."""
    if run.counters is None:
        return _COMPUTE
    return "tensor units" if run.tensor_utilization > run.vector_utilization else "vector units"


def _waits(run: Run) -> Iterator[_Candidate]:
    dma: dict[int, int] = defaultdict(int)
    reuse: dict[int, int] = defaultdict(int)
    for (number, queue), wait in waits(run.program).items():
        if wait.reason is Reason.REUSE:
            reuse[number] |= QUEUE_BITS[queue]
        elif queue is not Queue.COMPUTE:
            dma[number] |= QUEUE_BITS[queue]
    if dma:
        yield _Candidate(
            Variant(alterations.without_waits(run.trace, dma), run.machine),
            _unrated(
                f"cores wait for DMA or moves {_stalled(run, Queue.IO, Queue.MOVE):.0%} of the time",
                "if what they load were there by then",
                "Load earlier: more num_stages, more work between a load and its use, or more tiles at a time.",
            ),
        )
    if reuse:
        yield _Candidate(
            Variant(alterations.without_waits(run.trace, reuse), run.machine),
            _unrated(
                "cores wait for buffers to fall free",
                "with a further buffer for each",
                "Make tiles smaller, so that there is room for more of them, or raise num_stages.",
            ),
        )


def _stalled(run: Run, *queues: Queue) -> float:
    spent = run.core_cycles
    cycles = (spent.wait_io if Queue.IO in queues else 0) + (spent.wait_move if Queue.MOVE in queues else 0)
    return cycles / max(sum(spent), 1)


def _cores(run: Run) -> Iterator[_Candidate]:
    """Cores that have nothing to do: fewer tasks than cores, or a last wave that does not fill them."""
    members = run.trace.cores_per_program
    units, tasks = run.machine.cores // members, run.trace.programs
    places = f"{units} cores" if members == 1 else f"{units} groups of {members} cores"
    if 0 < tasks < units and (times := units // tasks) > 1:
        yield _Candidate(
            Variant(alterations.repeated(run.trace, times), run.machine),
            _unrated(
                f"{tasks} of {places} have work",
                f"with {times} times the programs, of which it is one part",
                "Split the work into more programs: smaller tiles, or a further axis of the grid.",
            ),
            1 / times,
        )
    elif tasks > units and tasks % units:
        whole = tasks - tasks % units
        yield _Candidate(
            Variant(alterations.first_programs(run.trace, whole), run.machine),
            _unrated(
                f"{tasks} programs on {places}: the last wave has {tasks % units}",
                f"in waves that are full, of the {whole} programs before and their share of the rest",
                f"Choose tiles so that the number of programs is a multiple of {units}, or let programs loop.",
            ),
            tasks / whole,
        )


def _cache(run: Run) -> Iterator[_Candidate]:
    work, loaded = run.work_bound, run.dram_read_bytes
    if loaded <= work.loaded_bytes or not work.loaded_bytes:
        return
    yield _Candidate(
        Variant(run.trace, run.machine.replace(l2_bytes=run.machine.l2_bytes * _WITHOUT_LIMIT)),
        _unrated(
            f"{loaded / work.loaded_bytes:.1f} times the bytes that there are to load are read from DRAM",
            "if what was loaded once stayed in the L2",
            "Let programs that run at the same time share what they load: order the grid in groups.",
        ),
    )


def _unrated(fact: str, change: str, remedy: str, location: Location | None = None) -> Advice:
    return Advice(fact, change, remedy, 0, 0.0, location)
