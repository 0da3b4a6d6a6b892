"""The timing replay: from the traces of a launch to its cycles, deterministic and in integers.

``replay`` runs :mod:`mlutriton.simulator.event_loop`, mostly as machine code; what it computes is said in plain Python
by :mod:`mlutriton.simulator.replay_reference`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import host_address
from mlutriton.isa.machine import Machine
from mlutriton.isa.trace_format import MAX_INSTRUCTION, RECORD_WORDS
from mlutriton.simulator import (
    cache_directory,
    event_loop,
    replay_code,
    replay_state,
    schedule_alone,
    sector_map,
    tile_families,
    timing,
)
from mlutriton.simulator.event_tree import event_tree
from mlutriton.simulator.replay_state import ReplayState
from mlutriton.simulator.timing import Cause, timing_parameters

Words = np.ndarray[tuple[int], np.dtype[np.int64]]
Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]

_FIRST_RING_ENTRIES = 64
# Of the tables of the L2; that of blocks of pages grows if they are too few.
_FIRST_TILE_BUCKETS = 1 << 9
_LEAST_USE_BITS = 8
_MOST_REGIONS = 1 << 17
_FIRST_BLOCKS = 1 << 7
_MOST_FIRST_BLOCKS = 1 << 14
_CACHE_LINE_WORDS = 8
_ARRAYS = tuple(field.name for field in fields(ReplayState))
# Those of a replay's trace and of its result: not of the memory that all replays use.
_OWN = ("words", "starts", "groups", "runs", "distances", "moves", "statistics", "programs", "events", "stalls")
_ARRAYS_OF_ITS_OWN = tuple((place, name) for place, name in enumerate(_ARRAYS) if name in _OWN)


# In the place of an array that is not needed.
_NOTHING: Words = np.zeros(1, np.int64)
_NOTHING_ADDRESS = host_address(_NOTHING)


@dataclass(frozen=True)
class StoredTrace:
    """What is kept of a trace; programs may share records.

    Attributes:
        words: of the records.
        rows: cores of all programs.
        starts: for each core of each program, the number of its first record; not used if there are runs.
        groups: for each record, which distance its address moves by; empty if there are no runs.
        runs: of programs that have records in common, see :mod:`mlutriton.simulator.replay_state`, and behind the last
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

    @property
    def stored(self) -> StoredTrace:
        """What is kept of it: here, all."""
        return StoredTrace.of(self.words, self.starts)

    def altered(self, words: Words, starts: Words | None = None) -> Trace:
        """The same tasks with other records, at the same places unless it says otherwise."""
        return Trace(words, self.starts if starts is None else starts, self.cores_per_program)

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


@dataclass(frozen=True)
class Timing:
    """What a launch took and why.

    Shapes: ``cause_cycles`` is [cores, len(Cause)], its rows sum to ``cycles``; ``programs`` is [programs, 3] (first
    core, start, end), or has no row if programs share records and events are not kept. If kept, ``events`` is [records,
    2]: start and end on the record's queue, or, for a record that the core waits at, of the wait; else 0. If kept,
    ``stalls`` is [instructions, len(Cause)]: what waits at an instruction's records took, all cores together.
    Units: cycles from the launch on the device, and bytes.
    """

    cycles: int
    cause_cycles: Table
    compute_busy_cycles: Words
    io_busy_cycles: Words
    move_busy_cycles: Words
    dram_read_bytes: int
    dram_write_bytes: int
    l2_hit_bytes: int
    programs: Table
    events: Table | None = None
    stalls: Table | None = None

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
    stored = trace.stored
    _check(stored, trace.cores_per_program, machine)
    if keep_events:  # they are of each record of each program
        stored = StoredTrace.of(trace.words, trace.starts)
    state = _replay(stored, trace.cores_per_program, machine, keep_events=keep_events)
    return _result(state, machine, stored)


def schedule_bound(trace: Trace, machine: Machine) -> int:
    """Cycles that no replay of the trace on the machine falls below: each program as if it ran alone and hit the L2.

    The larger of the longest program and of all programs spread evenly over the cores, after the launch.
    """
    stored, members = trace.stored, trace.cores_per_program
    _check(stored, members, machine)
    parameters = timing_parameters(machine)
    state = initial_state(stored, members, machine, parameters, ring_entries=1, blocks=1, keep_events=False)
    _run(schedule_alone.run_alone, state)
    _check_status(state)
    most, total = (int(state.shared[place]) for place in (replay_state.ALONE_MOST, replay_state.ALONE_SUM))
    units = machine.cores
    if members > 1:
        units = machine.clusters // (members // machine.cores_per_cluster)
    return int(parameters[timing.LAUNCH_CYCLES]) + max(most, -(-total // units))


def _check(trace: StoredTrace, members: int, machine: Machine) -> None:
    if members != 1 and (members < 1 or members % machine.cores_per_cluster or members > machine.cores):
        raise ValueError(f"tasks of {members} cores do not fill whole clusters of {machine.cores_per_cluster}")
    if trace.words.dtype != np.int64 or trace.starts.dtype != np.int64:
        raise ValueError("a trace is made of int64 arrays")
    if len(trace.words) % RECORD_WORDS or trace.rows % members:
        raise ValueError("a trace has whole records and programs")


def _replay(trace: StoredTrace, members: int, machine: Machine, *, keep_events: bool) -> Any:
    parameters, ring_entries = timing_parameters(machine), _FIRST_RING_ENTRIES
    # A guess: tiles of a block of pages, each of many programs.
    blocks = 1 << (trace.records + trace.rows).bit_length()
    blocks = min(max(blocks, _FIRST_BLOCKS), _MOST_FIRST_BLOCKS)
    while True:
        state = initial_state(
            trace, members, machine, parameters, ring_entries=ring_entries, blocks=blocks, keep_events=keep_events
        )
        _run(event_loop.run_replay, state)
        # More transfers waited in a queue, or lines were in the L2, than there was room for. Starting again is simple,
        # and rare.
        match int(state.shared[replay_state.STATUS]):
            case replay_state.RING_FULL:
                ring_entries *= 8
            case replay_state.PAGES_FULL:
                blocks *= 8
            case _:
                break
    _check_status(state)
    return state


def _check_status(state: Any) -> None:
    status = int(state.shared[replay_state.STATUS])
    if status == replay_state.DEADLOCK:
        raise KernelFault(
            "E0306",
            "the program can never finish: every core waits at a barrier",
            note="some core of the task ended, or waits at another barrier",
        )
    if status == replay_state.MALFORMED:
        raise ValueError("the trace is malformed: a program without END or records, or a record of unknown kind")


def initial_state(
    trace: StoredTrace,
    cores_per_program: int,
    machine: Machine,
    parameters: Words,
    *,
    ring_entries: int,
    blocks: int,
    keep_events: bool,
) -> Any:
    """A replay's memory before the first event, a ``ReplayState`` of arrays; the thread's next one takes it over."""
    cores, records, moves = machine.cores, trace.records, trace.moves
    uses = cache_directory.MOST_TILES if moves else records
    l2_lines, port_groups = int(parameters[timing.L2_LINES]), int(parameters[timing.PORT_GROUPS])
    layout = _layout(
        cores, machine.clusters, port_groups, l2_lines, max(uses.bit_length(), _LEAST_USE_BITS), ring_entries, blocks
    )
    state = _memory.lay_out(layout)
    state.timing[:] = parameters
    # They would be all that grows with the grid.
    keep_programs = keep_events or not moves
    _memory.numbers[: replay_state.END_OF_REPLAY] = (
        *layout.numbers,
        # From here on in the order of the numbers from GENERATION on.
        _memory.generation,
        trace.rows,
        cores_per_program,
        records,
        moves,
        moves > 0,
        replay_state.RUN_CORES + cores_per_program * replay_state.RUN_CORE_WORDS,
        keep_programs,
        keep_events,
        min(_FIRST_TILE_BUCKETS, layout.numbers[replay_state.MOST_TILE_BUCKETS]),
    )
    state.words, state.starts = np.ascontiguousarray(trace.words), np.ascontiguousarray(trace.starts)
    state.groups, state.runs, state.distances = trace.groups, trace.runs, trace.distances
    state.moves = np.empty(cores * moves, np.int64) if moves else _NOTHING
    # These outlive the replay.
    state.statistics = _zeros(cores * replay_state.STATISTIC_WORDS)
    state.programs = _zeros((trace.rows // cores_per_program if keep_programs else 0) * replay_state.PROGRAM_WORDS)
    state.events = _zeros(records * 2) if keep_events else _NOTHING
    state.stalls = _zeros((MAX_INSTRUCTION + 1) * replay_state.STALL_WORDS) if keep_events else _NOTHING
    return state


@dataclass(frozen=True, eq=False)
class _Layout:
    """How many words the arrays take that a replay works in.

    Attributes:
        numbers: the first of the single numbers of a replay.
        leaves: the node of each event source.
        cleared: arrays that are zero before a replay.
        uncleared: those of which nothing is read before it is written, or that know what is of this replay.
    """

    numbers: tuple[int, ...]
    leaves: Words
    cleared: dict[str, int]
    uncleared: dict[str, int]


@lru_cache(maxsize=64)
def _layout(
    cores: int, clusters: int, port_groups: int, l2_lines: int, use_bits: int, ring_entries: int, blocks: int
) -> _Layout:
    """The layout for a machine and fewer uses of tiles than two to the power of ``use_bits``."""
    lanes = cores * replay_state.LANES_PER_CORE
    classes = 2 * port_groups + clusters
    leaves, tree_nodes = event_tree(cores, clusters, 2 * port_groups)
    # Each tile in the L2 has a line; one more is on its way, and the first is none.
    tiles = min(1 << use_bits, l2_lines, cache_directory.MOST_TILES - 2) + 2
    cleared = {
        "shared": replay_state.SHARED_WORDS,
        "cores": cores * replay_state.CORE_WORDS,
        "lanes": lanes * replay_state.LANE_WORDS,
        "classes": classes * replay_state.CLASS_WORDS,
        "regions": min(2 << use_bits, _MOST_REGIONS) >> tile_families.REGIONS_SHIFT,
        "due": (classes + cores * replay_state.SOURCES_PER_CORE >> replay_state.WORD_SHIFT) + 1,
    }
    uncleared = {
        "atomics": replay_state.ATOMIC_ADDRESSES,
        "timing": timing.PARAMETER_COUNT,
        "leaves": len(leaves),
        "tree": tree_nodes,
        "openings": 1 << lanes.bit_length(),
        "rings": lanes * ring_entries * 2,
        "members": classes * lanes * replay_state.MEMBER_SPACE * replay_state.MEMBER_WORDS,
        "tiles": tiles * replay_state.TILE_WORDS,
        "families": (1 + tile_families.MOST_FAMILIES) * tile_families.FAMILY_WORDS,
        "tile_table": 1 << tiles.bit_length(),
        "block_heads": blocks,
        "pages": (blocks + 1) * replay_state.BLOCK_WORDS,
        "owners": (blocks + 1) * replay_state.BLOCK_PAGES * sector_map.PAGE_SECTORS,
    }
    numbers = {
        replay_state.CLASSES: classes,
        replay_state.RING_ENTRIES: ring_entries,
        replay_state.TREE_NODES: tree_nodes,
        replay_state.OPENINGS: uncleared["openings"],
        replay_state.TILE_ROWS: tiles,
        replay_state.MOST_TILE_BUCKETS: uncleared["tile_table"],
        replay_state.REGIONS: cleared["regions"],
        replay_state.BLOCK_HEADS: blocks,
        replay_state.BLOCKS_END: uncleared["pages"],
    }
    return _Layout(tuple(numbers[place] for place in range(replay_state.FIRST_OF_REPLAY)), leaves, cleared, uncleared)


class _Memory(threading.local):
    """What replays of a thread work in, one after another: to lay it out takes longer than a small replay.

    Attributes:
        layout: of its arrays.
        state: the arrays, most of them in one piece of memory; those of a replay of its own are filled in.
        pointers: where all of them begin, in the order of ``ReplayState``.
        numbers: ``state.shared``.
        zeros: what is zero before a replay.
        generation: number of the replay since there is this memory.
    """

    def __init__(self) -> None:
        self.layout: _Layout | None = None
        self.state: Any = ReplayState(**dict.fromkeys(_ARRAYS, _NOTHING))
        self.pointers: ctypes.Array[ctypes.c_void_p] = (ctypes.c_void_p * len(_ARRAYS))()
        self.numbers: ctypes.Array[ctypes.c_int64] = (ctypes.c_int64 * 0)()
        self.zeros: Words = np.empty(0, np.int64)
        self.generation = 0

    def lay_out(self, layout: _Layout) -> Any:
        """Arrays as a layout says; the last replay of this thread is over with them."""
        if self.layout is not layout:
            sizes = layout.cleared | layout.uncleared
            # Arrays begin where cache lines of the host do.
            lines = {name: -(-size // _CACHE_LINE_WORDS) for name, size in sizes.items()}
            words = np.zeros((sum(lines.values()) + 1) * _CACHE_LINE_WORDS, np.int64)
            words = words[-(host_address(words) // words.itemsize) % _CACHE_LINE_WORDS :]
            start, place = host_address(words), 0
            for name, size in sizes.items():
                setattr(self.state, name, words[place : place + size])
                self.pointers[_ARRAYS.index(name)] = start + place * words.itemsize
                place += lines[name] * _CACHE_LINE_WORDS
            self.zeros = words[: sum(lines[name] for name in layout.cleared) * _CACHE_LINE_WORDS]
            self.numbers = (ctypes.c_int64 * replay_state.SHARED_WORDS).from_buffer(self.state.shared)
            self.state.leaves[:] = layout.leaves
            self.layout = layout
            self.generation = 0
        self.generation += 1
        if self.numbers[replay_state.HAS_ATOMICS]:
            self.state.atomics.fill(0)
        self.zeros.fill(0)
        return self.state


_memory = _Memory()


def _zeros(count: int) -> Words:
    return np.zeros(count, dtype=np.int64)


def _run(loop: Callable[[Any], None], state: Any) -> None:
    pointers = _memory.pointers
    for place, name in _ARRAYS_OF_ITS_OWN:
        array = getattr(state, name)
        pointers[place] = _NOTHING_ADDRESS if array is _NOTHING else host_address(array)
    replay_code.run(loop, state, pointers)


def _result(state: Any, machine: Machine, trace: StoredTrace) -> Timing:
    numbers = _memory.numbers
    rows: Table = state.statistics.reshape(machine.cores, replay_state.STATISTIC_WORDS)
    kept = bool(numbers[replay_state.KEEP_EVENTS])
    return Timing(
        cycles=numbers[replay_state.MAKESPAN],
        cause_cycles=rows[:, : len(Cause)],
        compute_busy_cycles=rows[:, replay_state.COMPUTE_BUSY],
        io_busy_cycles=rows[:, replay_state.IO_BUSY],
        move_busy_cycles=rows[:, replay_state.MOVE_BUSY],
        dram_read_bytes=numbers[replay_state.READ_BYTES],
        dram_write_bytes=numbers[replay_state.WRITTEN_BYTES],
        l2_hit_bytes=numbers[replay_state.HIT_BYTES],
        programs=state.programs.reshape(-1, replay_state.PROGRAM_WORDS),
        events=state.events.reshape(trace.records, 2) if kept else None,
        stalls=state.stalls.reshape(-1, replay_state.STALL_WORDS) if kept else None,
    )
