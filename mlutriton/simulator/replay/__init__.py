"""The timing replay: from the traces of a launch to its cycles, deterministic and in integers.

``replay`` runs :mod:`mlutriton.simulator.replay.event_loop`, mostly as machine code; what it computes is said in plain
Python by :mod:`mlutriton.simulator.replay.reference`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import host_address
from mlutriton.immutables import remembered
from mlutriton.isa.machine import Machine
from mlutriton.isa.trace_format import MAX_INSTRUCTION, RECORD_WORDS
from mlutriton.simulator.replay import (
    cache_directory,
    event_loop,
    loops,
    schedule_alone,
    sector_map,
    stretches,
    tile_families,
    timing,
)
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay.event_tree import event_tree
from mlutriton.simulator.replay.state import ReplayState
from mlutriton.simulator.replay.timing import Cause, timing_parameters

Words = np.ndarray[tuple[int], np.dtype[np.int64]]
Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]

_FIRST_RING_ENTRIES = 64
# Of the tables of the L2; that of blocks of pages grows if they are too few.
_FIRST_TILE_BUCKETS = 1 << 9
_LEAST_USE_BITS = 8
_MOST_REGIONS = 1 << 17
_FIRST_BLOCKS = 1 << 7
_MOST_FIRST_BLOCKS = 1 << 14
# Of arrays that a smaller replay may have.
_MOST_SPARE_WORDS = 1 << 24
_CACHE_LINE_WORDS = 8
_WORD_BYTES = 8
_WORD = np.dtype(np.int64)
_ARRAYS = tuple(field.name for field in fields(ReplayState))
_PLACES = {name: place for place, name in enumerate(_ARRAYS)}

# In the place of an array that is not needed.
_NOTHING: Words = np.zeros(1, np.int64)
_NOTHING_ADDRESS = host_address(_NOTHING)


class StoredTrace(NamedTuple):
    """What is kept of a trace; programs may share records.

    Attributes:
        words: of the records.
        rows: cores of all programs.
        starts: for each core of each program, the number of its first record; not used if there are runs.
        groups: for each record, which distance its address moves by; empty if there are no runs.
        runs: of programs that have records in common, see :mod:`mlutriton.simulator.replay.state`, and behind the last
            one the number of programs.
        distances: bytes, of the runs.
        moves: how many distances a program has.
    """

    words: Words
    rows: int
    starts: Words
    groups: Words
    runs: Words
    distances: Words
    moves: int

    @classmethod
    def of(cls, words: Words, starts: Words) -> StoredTrace:
        """A trace of which nothing is shared."""
        return cls(words, len(starts), starts, _NOTHING, _NOTHING, _NOTHING, 0)

    @property
    def records(self) -> int:
        """Records that are kept."""
        return len(self.words) // RECORD_WORDS


@dataclass(frozen=True)
class Trace:
    """The records of a launch.

    Attributes:
        words: the words of all records, see :mod:`mlutriton.isa.trace_format`.
        starts: for each program in order (x fastest), and each of its cores, the number of its first record.
        cores_per_program: 1 for Block tasks; a whole number of clusters for Union tasks.
    """

    words: Words
    starts: Words
    cores_per_program: int = 1

    @remembered
    def stored(self) -> StoredTrace:
        """What is kept of it: here, all."""
        return StoredTrace.of(self.words, self.starts)

    def altered(self, words: Words, starts: Words | None = None) -> Trace:
        """The same tasks with other records, at the same places unless it says otherwise."""
        return Trace(words, self.starts if starts is None else starts, self.cores_per_program)

    def timing(self, machine: Machine) -> Timing:
        """Its replay on a machine; that on the machine asked for last is kept.

        Raises:
            KernelFault: E0306, cores wait for each other at barriers for ever.
        """
        kept: tuple[Machine, Timing] | None = self.__dict__.get("_kept")
        if kept is None or kept[0] is not machine:
            self.__dict__["_kept"] = kept = machine, replay(self, machine)
        return kept[1]

    def pieces(self) -> Iterator[Words]:
        """The words of all records, of some programs at a time."""
        yield self.words

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        return len(self.starts) // self.cores_per_program

    @property
    def records(self) -> int:
        """Records of all programs."""
        return len(self.words) // RECORD_WORDS


class Timing(NamedTuple):
    """What a launch took and why.

    Shapes: ``statistics`` is [cores, STATISTIC_WORDS], see :mod:`mlutriton.simulator.replay.state`; ``programs`` is
    [programs, 3] (first core, start, end), or has no row if programs share records and events are not kept. If kept,
    ``events`` is [records, 2]: start and end on the record's queue, or, for a record that the core waits at, of the
    wait; else 0. If kept, ``stalls`` is [instructions, len(Cause)]: what waits at an instruction's records took, all
    cores together.
    Units: cycles from the launch on the device, and bytes.
    """

    cycles: int
    dram_read_bytes: int
    dram_write_bytes: int
    l2_hit_bytes: int
    statistics: Table
    programs: Table
    events: Table | None = None
    stalls: Table | None = None

    @property
    def cause_cycles(self) -> Table:
        """Cycles of each core by cause, [cores, len(Cause)]: the rows sum to ``cycles``."""
        return self.statistics[:, : len(Cause)]

    @property
    def compute_busy_cycles(self) -> Words:
        """Cycles in which the compute queue of each core was busy."""
        return self.statistics[:, at.COMPUTE_BUSY]

    @property
    def io_busy_cycles(self) -> Words:
        """Cycles in which the IO queue of each core was busy."""
        return self.statistics[:, at.IO_BUSY]

    @property
    def move_busy_cycles(self) -> Words:
        """Cycles in which the MOVE queue of each core was busy."""
        return self.statistics[:, at.MOVE_BUSY]

    def cycles_of(self, cause: Cause) -> int:
        """Cycles of all cores that have this cause."""
        return int(self.cause_cycles[:, cause].sum())

    def assumed_share(self, machine: Machine) -> float:
        """Share of the cycles of working cores that rests on assumed machine parameters.

        Cycles of a core without a program are no claim about the machine; they count on neither side.
        """
        spent = {cause: self.cycles_of(cause) for cause in Cause if cause is not Cause.TAIL_IDLE}
        assumed = sum(spent[cause] for cause in timing.assumed_causes(machine) if cause in spent)
        return assumed / max(sum(spent.values()), 1)


def replay(trace: Trace, machine: Machine, *, keep_events: bool = False) -> Timing:
    """The cycles of a launch on a machine.

    Args:
        trace: what the programs left behind.
        machine: any machine; the trace need not come from it.
        keep_events: also return ``events`` and ``stalls``, for a timeline and for costs by source line.

    Raises:
        KernelFault: E0306, cores wait for each other at barriers for ever.
        ValueError: the trace is not one, or its tasks do not fit the machine.
    """
    stored, members = trace.stored, trace.cores_per_program
    _check(stored, members, machine)
    if keep_events:  # they are of each record of each program
        stored = StoredTrace.of(trace.words, trace.starts)
    ring_entries, blocks = _FIRST_RING_ENTRIES, _first_blocks(stored)
    while True:
        memory = _prepared(stored, members, machine, ring_entries=ring_entries, blocks=blocks, keep_events=keep_events)
        loops.run(event_loop.run_replay, memory.state, memory.pointers)
        status = memory.numbers[at.STATUS]
        # More transfers waited in a queue, or lines were in the L2, than there was room for. Starting again is simple,
        # and rare.
        if status == at.RING_FULL:
            ring_entries *= 8
        elif status == at.PAGES_FULL:
            blocks *= 8
        else:
            _check_status(status)
            return _result(memory, stored, keep_events=keep_events)


def schedule_bound(trace: Trace, machine: Machine) -> int:
    """Cycles that no replay of the trace on the machine falls below: each program as if it ran alone and hit the L2.

    The larger of the longest program and of all programs spread evenly over the cores, after the launch.
    """
    stored, members = trace.stored, trace.cores_per_program
    _check(stored, members, machine)
    blocks = _first_blocks(stored)  # as a replay of it has
    memory = _prepared(stored, members, machine, ring_entries=_FIRST_RING_ENTRIES, blocks=blocks, keep_events=False)
    loops.run(schedule_alone.run_alone, memory.state, memory.pointers)
    _check_status(memory.numbers[at.STATUS])
    most, total = memory.numbers[at.ALONE_MOST], memory.numbers[at.ALONE_SUM]
    units = machine.cores
    if members > 1:
        units = machine.clusters // (members // machine.cores_per_cluster)
    return int(timing_parameters(machine)[timing.LAUNCH_CYCLES]) + max(most, -(-total // units))


def _first_blocks(trace: StoredTrace) -> int:
    """A guess: tiles of a block of pages, each of many programs."""
    blocks = 1 << (trace.records + trace.rows).bit_length()
    return min(max(blocks, _FIRST_BLOCKS), _MOST_FIRST_BLOCKS)


def _check(trace: StoredTrace, members: int, machine: Machine) -> None:
    if members != 1 and (members < 1 or members % machine.cores_per_cluster or members > machine.cores):
        raise ValueError(f"tasks of {members} cores do not fill whole clusters of {machine.cores_per_cluster}")
    if trace.words.dtype != _WORD or trace.starts.dtype != _WORD:
        raise ValueError("a trace is made of int64 arrays")
    if len(trace.words) % RECORD_WORDS or trace.rows % members:
        raise ValueError("a trace has whole records and programs")


def _check_status(status: int) -> None:
    if status == at.DEADLOCK:
        raise KernelFault(
            "E0306",
            "the program can never finish: every core waits at a barrier",
            note="some core of the task ended, or waits at another barrier",
        )
    if status == at.MALFORMED:
        raise ValueError("the trace is malformed: a program without END or records, or a record of unknown kind")


def initial_state(
    trace: StoredTrace,
    cores_per_program: int,
    machine: Machine,
    *,
    ring_entries: int,
    blocks: int,
    keep_events: bool,
) -> Any:
    """A replay's memory before the first event, a ``ReplayState`` of arrays; the thread's next one takes it over."""
    return _prepared(
        trace, cores_per_program, machine, ring_entries=ring_entries, blocks=blocks, keep_events=keep_events
    ).state


def _prepared(
    trace: StoredTrace, members: int, machine: Machine, *, ring_entries: int, blocks: int, keep_events: bool
) -> _Memory:
    """This thread's memory before the first event of a replay.

    Most of what a small replay takes is this and the result, if its caches have gone cold: it does as few different
    things as it can.
    """
    records, moves = len(trace.words) // RECORD_WORDS, trace.moves
    uses = cache_directory.MOST_TILES if moves else records
    memory: _Memory = _of_thread.memory
    memory.lay_out(machine, (max(uses.bit_length(), _LEAST_USE_BITS), ring_entries, blocks))
    # They would be all that grows with the grid.
    keep_programs = keep_events or not moves
    memory.numbers[at.FIRST_OF_REPLAY : at.END_OF_REPLAY] = (
        memory.generation,
        trace.rows,
        members,
        records,
        moves,
        moves > 0,
        at.RUN_CORES + members * at.RUN_CORE_WORDS,
        keep_programs,
        keep_events,
        min(_FIRST_TILE_BUCKETS, memory.numbers[at.MOST_TILE_BUCKETS]),
    )
    if trace is not memory.trace:
        memory.take_trace(trace)
    # What outlives the replay is one array: of statistics, and of programs behind them.
    programs = trace.rows // members if keep_programs else 0
    results = np.zeros(memory.statistic_words + programs * at.PROGRAM_WORDS, np.int64)
    memory.take_results(results)
    if moves or memory.has_runs:
        memory.has_runs = moves > 0
        memory.take("moves", np.empty(machine.cores * moves, np.int64) if moves else _NOTHING)
    if keep_events or memory.has_events:
        memory.has_events = keep_events
        stalls = (MAX_INSTRUCTION + 1) * at.STALL_WORDS
        memory.take("events", np.zeros(records * 2, np.int64) if keep_events else _NOTHING)
        memory.take("stalls", np.zeros(stalls, np.int64) if keep_events else _NOTHING)
    return memory


@dataclass(frozen=True, eq=False)
class _Layout:
    """How many words the arrays take that a replay works in.

    Attributes:
        numbers: the first of the single numbers of a replay.
        leaves: the node of each event source.
        sizes: of the arrays. First come those that are zero before a replay, of which the last one is ``regions``; of
            the others nothing is read before it is written, or they know what is of this replay.
    """

    numbers: tuple[int, ...]
    leaves: Words
    sizes: dict[str, int]


@lru_cache(maxsize=64)
def _layout(
    cores: int, clusters: int, port_groups: int, l2_lines: int, use_bits: int, ring_entries: int, blocks: int
) -> _Layout:
    """The layout for a machine and fewer uses of tiles than two to the power of ``use_bits``."""
    lanes = cores * at.LANES_PER_CORE
    classes = 2 * port_groups + clusters
    leaves, tree_nodes = event_tree(cores, clusters, 2 * port_groups)
    # Each tile in the L2 has a line; one more is on its way, and the first is none.
    tiles = min(1 << use_bits, l2_lines, cache_directory.MOST_TILES - 2) + 2
    sizes = {
        "shared": at.SHARED_WORDS,
        "cores": cores * at.CORE_WORDS,
        "lanes": lanes * at.LANE_WORDS,
        "classes": classes * at.CLASS_WORDS,
        "due": (classes + cores * at.SOURCES_PER_CORE >> at.WORD_SHIFT) + 1,
        "regions": min(2 << use_bits, _MOST_REGIONS) >> tile_families.REGIONS_SHIFT,
        "atomics": at.ATOMIC_ADDRESSES,
        "timing": timing.PARAMETER_COUNT,
        "leaves": len(leaves),
        "tree": tree_nodes,
        "openings": 1 << lanes.bit_length(),
        "rings": lanes * ring_entries * 2,
        "members": classes * lanes * at.MEMBER_SPACE * at.MEMBER_WORDS,
        "tiles": tiles * at.TILE_WORDS,
        "families": (1 + tile_families.MOST_FAMILIES) * tile_families.FAMILY_WORDS,
        "tile_table": 1 << tiles.bit_length(),
        "stretches": (1 + stretches.MOST_STRETCHES) * stretches.STRETCH_WORDS,
        "stretch_regions": min(2 << use_bits, _MOST_REGIONS),
        "block_heads": blocks,
        "pages": (blocks + 1) * at.BLOCK_WORDS,
        "owners": (blocks + 1) * at.BLOCK_PAGES * sector_map.PAGE_SECTORS,
    }
    numbers = {
        at.CLASSES: classes,
        at.RING_ENTRIES: ring_entries,
        at.TREE_NODES: tree_nodes,
        at.OPENINGS: sizes["openings"],
        at.TILE_ROWS: tiles,
        at.MOST_TILE_BUCKETS: sizes["tile_table"],
        at.REGIONS: sizes["regions"],
        at.BLOCK_HEADS: blocks,
        at.BLOCKS_END: sizes["pages"],
    }
    return _Layout(tuple(numbers[place] for place in range(at.FIRST_OF_REPLAY)), leaves, sizes)


@lru_cache(maxsize=64)
def _layout_of(machine: Machine, sizes: tuple[int, int, int]) -> tuple[_Layout, Words, int]:
    """The layout for a machine, its timing parameters, and the words of its statistics: what-ifs go to and fro."""
    parameters = timing_parameters(machine)
    l2_lines, port_groups = int(parameters[timing.L2_LINES]), int(parameters[timing.PORT_GROUPS])
    layout = _layout(machine.cores, machine.clusters, port_groups, l2_lines, *sizes)
    return layout, parameters, machine.cores * at.STATISTIC_WORDS


class _Memory:
    """What replays of a thread work in, one after another: to lay it out takes longer than a small replay.

    Attributes:
        machine: whose replay it is laid out for.
        sizes: and for how large ones: the last arguments of ``_layout``.
        layout: of its arrays.
        state: the arrays, most of them in one piece of memory; those of a replay of its own are filled in.
        pointers: where all of them begin, in the order of ``ReplayState``.
        numbers: ``state.shared``.
        words: all of its own arrays, which have ``room`` for so much and begin at these ``places``.
        zeros: what is zero before a replay.
        statistic_words: of all cores.
        has_runs: whether the last replay was of runs.
        has_events: whether it kept its events.
        generation: number of the replay since there is this memory.
        trace: the last one, if what is replayed are its own arrays: what-ifs replay one on many machines.
    """

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.sizes: tuple[int, int, int] = (0, 0, 0)
        self.layout: _Layout | None = None
        self.state: Any = ReplayState(**dict.fromkeys(_ARRAYS, _NOTHING))
        self.pointers: ctypes.Array[ctypes.c_void_p] = (ctypes.c_void_p * len(_ARRAYS))(
            *[_NOTHING_ADDRESS] * len(_ARRAYS)
        )
        self.numbers: ctypes.Array[ctypes.c_int64] = (ctypes.c_int64 * 0)()
        self.words: Words = np.empty(0, np.int64)
        self.room: dict[str, int] = {}
        self.places: dict[str, int] = {}
        self.zeros: Words = self.words
        self.statistic_words = 0
        self.has_runs = self.has_events = False
        self.generation = 0
        self.trace: StoredTrace | None = None

    def lay_out(self, machine: Machine, sizes: tuple[int, int, int]) -> None:
        """Have arrays for a machine and so large a replay; the last replay of this thread is over with them."""
        if machine is not self.machine or sizes != self.sizes:
            self.machine, self.sizes = machine, sizes
            layout, parameters, self.statistic_words = _layout_of(machine, sizes)
            self._lay_out(layout)
            self.state.timing[:] = parameters
        self.generation += 1
        if self.numbers[at.HAS_ATOMICS]:
            self.state.atomics.fill(0)
        self.zeros.fill(0)

    def _lay_out(self, layout: _Layout) -> None:
        if self.layout is layout:
            return
        if not self._has_room(layout.sizes):
            self._provide(layout.sizes)
        self.layout = layout
        self.numbers[: at.FIRST_OF_REPLAY] = layout.numbers
        self.state.leaves[: len(layout.leaves)] = layout.leaves
        # The first array is that of the numbers, of which those that say what is replayed are written anyway.
        end = self.places["regions"] + layout.sizes["regions"]
        self.zeros = self.words[at.END_OF_REPLAY : end]

    def _has_room(self, sizes: dict[str, int]) -> bool:
        """Whether arrays for a larger replay are there and no waste: fresh memory costs more than a small replay."""
        if len(self.words) > _MOST_SPARE_WORDS:
            return False
        for name, size in sizes.items():  # noqa: SIM110 - replays of several sizes take turns
            if size > self.room.get(name, 0):
                return False
        return True

    def _provide(self, sizes: dict[str, int]) -> None:
        """Have new arrays of so many words, which begin where cache lines of the host do."""
        lines = {name: -(-size // _CACHE_LINE_WORDS) for name, size in sizes.items()}
        words = np.zeros((sum(lines.values()) + 1) * _CACHE_LINE_WORDS, np.int64)
        self.words = words = words[-(host_address(words) // _WORD_BYTES) % _CACHE_LINE_WORDS :]
        self.room, self.generation = sizes, 0
        start, place = host_address(words), 0
        for name, size in sizes.items():
            setattr(self.state, name, words[place : place + size])
            self.places[name] = place
            self.pointers[_PLACES[name]] = start + place * _WORD_BYTES
            place += lines[name] * _CACHE_LINE_WORDS
        self.numbers = (ctypes.c_int64 * at.SHARED_WORDS).from_buffer(self.state.shared)

    def take_trace(self, trace: StoredTrace) -> None:
        """Let a trace be what is replayed."""
        words, starts = np.ascontiguousarray(trace.words), np.ascontiguousarray(trace.starts)
        arrays = {"words": words, "starts": starts, "groups": trace.groups, "runs": trace.runs}
        for name, array in (arrays | {"distances": trace.distances}).items():
            self.take(name, array)
        self.trace = trace if words is trace.words and starts is trace.starts else None

    def take(self, name: str, array: Words) -> None:
        """Let an array be one of the replay."""
        setattr(self.state, name, array)
        self.pointers[_PLACES[name]] = _NOTHING_ADDRESS if array is _NOTHING else host_address(array)

    def take_results(self, results: Words) -> None:
        """Let statistics and programs, which lie behind one another, be those of the replay."""
        words, address = self.statistic_words, host_address(results)
        self.state.statistics, self.state.programs = results[:words], results[words:]
        self.pointers[_PLACES["statistics"]] = address
        self.pointers[_PLACES["programs"]] = address + words * _WORD_BYTES


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.memory = _Memory()


_of_thread = _OfThread()


def _result(memory: _Memory, trace: StoredTrace, *, keep_events: bool) -> Timing:
    state, numbers = memory.state, memory.numbers
    cycles, read_bytes, written_bytes, hit_bytes = numbers[at.MAKESPAN : at.HIT_BYTES + 1]
    return Timing(
        cycles,
        read_bytes,
        written_bytes,
        hit_bytes,
        state.statistics.reshape(-1, at.STATISTIC_WORDS),
        state.programs.reshape(-1, at.PROGRAM_WORDS),
        state.events.reshape(trace.records, 2) if keep_events else None,
        state.stalls.reshape(-1, at.STALL_WORDS) if keep_events else None,
    )
