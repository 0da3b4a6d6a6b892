"""Cores that do the same at the same time: one of them acts for all.

Neighbouring cores whose programs begin together and have the same records but for addresses are *alike*: the first of
them leads, the others follow. What differs between them is what a transfer finds in the L2, which each looks up itself,
in the order of cores. Where that makes one wait longer than the one before, or leaves it to another class of flows, it
leads those behind it from then on. At the end of a program each stands for itself again.

That changes no cycle: of the event sources of a core, only its IO queue looks for what is shared, at most once in a
cycle, and no other core's stands between those of neighbours. It holds of programs of one core each without scalar
atomics and barriers, whose flows are of classes that all cores have in common.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.memory_traffic import schedule_lane
from mlutriton.simulator.replay.state import ReplayState


@inlined
def may_be_alike(state: ReplayState) -> int:
    """Whether cores of this replay may be alike: events are not kept, programs take a core each and some time."""
    if state.shared[at.CORES_PER_PROGRAM] > 1 or state.shared[at.KEEP_EVENTS] or state.timing[timing.PORT_GROUPS] > 1:
        return 0
    return state.timing[timing.DISPATCH_CYCLES] > 0


def find_alike(state: ReplayState, first: int, stop: int) -> None:
    """Find which cores are alike, of neighbours that stood alike when their programs began."""
    leader = first
    for core in range(first + 1, stop):
        base = core * at.CORE_WORDS
        record = state.cores[leader * at.CORE_WORDS + at.RECORD]
        other = state.cores[base + at.RECORD]
        # Where programs share records, those of the core before have been looked at.
        is_known = record == other if state.cores[leader * at.CORE_WORDS + at.ALIKE] > 1 else 0
        if is_known or have_same_records(state, record, other):
            state.cores[leader * at.CORE_WORDS + at.ALIKE] += 1
            state.cores[base + at.ALIKE] = 0
            state.cores[base + at.RECORD] = other - record
        else:
            leader = core


def have_same_records(state: ReplayState, record: int, other: int) -> int:
    """Whether two programs have the same records but for addresses, and only such of which cores may be alike."""
    while max(record, other) < state.shared[at.RECORDS]:
        word = record * trace.RECORD_WORDS
        own = other * trace.RECORD_WORDS
        middle = state.words[word + 1]
        if state.words[own] != state.words[word] or state.words[own + 1] != middle:
            return 0
        kind = middle >> trace.KIND_SHIFT & trace.KIND_MASK
        flags = middle >> trace.FLAGS_SHIFT
        if kind == Kind.END:
            return 1
        record += 1
        other += 1
        if kind <= Kind.STORE:
            if flags & trace.FLAG_EXTENT:
                if max(record, other) >= state.shared[at.RECORDS]:
                    return 0
                for place in range(trace.RECORD_WORDS):
                    if state.words[own + trace.RECORD_WORDS + place] != state.words[word + trace.RECORD_WORDS + place]:
                        return 0
                record += 1
                other += 1
        elif kind <= Kind.ATOMIC_VECTOR:
            # In the place of an address, the bytes of an item.
            if (state.words[own + 2] ^ state.words[word + 2]) & trace.MAX_ADDRESS:
                return 0
        elif kind == Kind.MOVE:
            if flags & trace.FLAG_SRAM:
                return 0
        elif kind != Kind.SYNC and kind != Kind.SCALAR_LOAD and kind != Kind.SCALAR_STORE and kind != Kind.LOCAL:
            return 0
    return 0


def part(state: ReplayState, leader: int, core: int) -> None:
    """Let a core that has followed another one lead those behind it; its IO queue is about to take a transfer up."""
    base = leader * at.CORE_WORDS
    own = core * at.CORE_WORDS
    stop = leader + state.cores[base + at.ALIKE]
    behind = state.cores[own + at.RECORD]
    program = state.cores[own + at.PROGRAM]
    for word in range(at.CORE_WORDS):
        state.cores[own + word] = state.cores[base + word]
    state.cores[own + at.PROGRAM] = program
    state.cores[own + at.RECORD] += behind
    state.cores[own + at.ALIKE] = stop - core
    state.cores[base + at.ALIKE] = core - leader
    for other in range(core + 1, stop):
        state.cores[other * at.CORE_WORDS + at.RECORD] -= behind
    copy_statistics(state, leader, core)
    for queue in range(at.LANES_PER_CORE):
        copy_lane(state, leader * at.LANES_PER_CORE + queue, core * at.LANES_PER_CORE + queue, behind)
    # What its MOVE queue has under way has no flow.
    lane = core * at.LANES_PER_CORE + 1
    row = lane * at.LANE_WORDS
    if state.lanes[row + at.PHASE] == at.STARTING:
        entries = state.shared[at.RING_ENTRIES]
        place = (lane * entries + (state.lanes[row + at.HEAD] & entries - 1)) * 2
        schedule_lane(state, lane, max(state.rings[place + 1], state.lanes[row + at.FREE]))
    elif state.lanes[row + at.PHASE] != at.IDLE:
        schedule_lane(state, lane, state.lanes[row + at.FLOWING])


def copy_lane(state: ReplayState, lane: int, other: int, behind: int) -> None:
    """Let a queue stand as another one does, with transfers whose records are so far behind those of that one."""
    row = other * at.LANE_WORDS
    entries = state.shared[at.RING_ENTRIES]
    for word in range(at.LANE_WORDS):
        state.lanes[row + word] = state.lanes[lane * at.LANE_WORDS + word]
    state.lanes[row + at.CURRENT] += behind
    for entry in range(state.lanes[row + at.HEAD], state.lanes[row + at.TAIL]):
        place = (entry & entries - 1) * 2
        state.rings[other * entries * 2 + place] = state.rings[lane * entries * 2 + place] + behind
        state.rings[other * entries * 2 + place + 1] = state.rings[lane * entries * 2 + place + 1]


@inlined
def copy_statistics(state: ReplayState, leader: int, core: int) -> None:
    """What a core has done so far is what the one that it follows has."""
    for word in range(at.STATISTIC_WORDS):
        place = leader * at.STATISTIC_WORDS + word
        state.statistics[core * at.STATISTIC_WORDS + word] = state.statistics[place]
