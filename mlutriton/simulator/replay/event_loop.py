"""The event loop of the replay: cores read their traces ahead, queues and shared resources act in the order of time.

Events are ordered by (time, class or core, queue). A core's own time may be ahead of the event that moves it, because
between two waits nothing that other cores do can change it; only queue transfers, scalar atomics and the end of a
program, which touch what is shared, are events of their own.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.alike_cores import copy_statistics, find_alike, may_be_alike
from mlutriton.simulator.replay.machine_code import inlined, prefetch
from mlutriton.simulator.replay.memory_traffic import (
    add_opening,
    first_due,
    first_opening,
    lane_slot,
    make_due,
    schedule,
    schedule_lane,
    settle,
    share_memory,
    take_due,
    take_opening,
)
from mlutriton.simulator.replay.program_units import find_records, unit_clusters, unit_core, unit_of, units
from mlutriton.simulator.replay.state import ReplayState
from mlutriton.simulator.replay.tile_families import BROKEN
from mlutriton.simulator.replay.timing import Cause
from mlutriton.simulator.replay.transfer_costs import LOW_WORD, address_of
from mlutriton.simulator.replay.transfer_queues import (
    enqueue,
    members_of,
    move_members,
    open_flow,
    share_sram,
    start_transfer,
)

# Each core reads records of its own: the host does not see them coming.
RECORDS_AHEAD = 16


def run_replay(state: ReplayState) -> None:
    """Replay all programs; ``shared[STATUS]`` says how it ended."""
    begin(state)
    launch = state.timing[timing.LAUNCH_CYCLES]
    for core in range(state.timing[timing.CORES]):
        state.cores[core * at.CORE_WORDS + at.IDLE_SINCE] = launch
        state.cores[core * at.CORE_WORDS + at.REASON] = at.RUNNING
        state.cores[core * at.CORE_WORDS + at.ALIKE] = 1
        state.statistics[core * at.STATISTIC_WORDS + Cause.LAUNCH] = launch
    state.shared[at.MAKESPAN] = launch
    for number in range(state.shared[at.CLASSES]):
        state.classes[number * at.CLASS_WORDS + at.FIRST] = members_of(state, number)
    dispatch(state, 0, units(state), launch)
    now = launch
    while not state.shared[at.STATUS]:
        key = min(state.tree[1], state.shared[at.MEMORY_KEY], first_opening(state))
        if state.shared[at.DUE_SOURCES]:
            due = now << at.SLOT_BITS | first_due(state)
            if due < key:
                take_due(state)
                key = due
        elif state.shared[at.MEMORY_CHANGED] and key >> at.SLOT_BITS > now:
            share_memory(state, now)
            continue
        if key >= at.NEVER:
            break
        if key == first_opening(state):
            take_opening(state)
        now = key >> at.SLOT_BITS
        act_on(state, key & ((1 << at.SLOT_BITS) - 1), now)
    makespan = state.shared[at.MAKESPAN]
    for core in range(state.timing[timing.CORES]):
        idle = makespan - state.cores[core * at.CORE_WORDS + at.IDLE_SINCE]
        state.statistics[core * at.STATISTIC_WORDS + Cause.TAIL_IDLE] += idle
        if state.cores[core * at.CORE_WORDS + at.REASON] != at.RUNNING and not state.shared[at.STATUS]:
            state.shared[at.STATUS] = at.DEADLOCK


@inlined
def begin(state: ReplayState) -> None:
    """Bring what is not zero before a replay to how it begins."""
    for node in range(state.shared[at.TREE_NODES]):
        state.tree[node] = at.NEVER
    state.openings[0] = at.NEVER
    state.shared[at.MEMORY_KEY] = at.NEVER
    state.shared[at.NEXT_BLOCK] = at.BLOCK_WORDS
    state.shared[at.FRESH_TILES] = 1
    for word in range(at.TILE_WORDS):
        state.tiles[word] = 0
    state.families[BROKEN] = 0


@inlined
def act_on(state: ReplayState, slot: int, now: int) -> None:
    """Let an event source act: the memory classes, another class, a core or one of its queues."""
    if slot < state.shared[at.CLASSES]:
        if slot:
            finish_flows(state, slot, now)
            return
        # They share anew once, before time goes on, whatever else happens until then.
        state.shared[at.MEMORY_KEY] = at.NEVER
        state.shared[at.MEMORY_CHANGED] = 1
        for number in range(2 * state.timing[timing.PORT_GROUPS]):
            if state.classes[number * at.CLASS_WORDS + at.COUNT]:
                finish_flows(state, number, now)
        return
    source = slot - state.shared[at.CLASSES]
    core = source // at.SOURCES_PER_CORE
    if source % at.SOURCES_PER_CORE == 0:
        schedule(state, slot, at.FOREVER)
        act(state, core, now)
    else:
        step_lane(state, core * at.LANES_PER_CORE + source % at.SOURCES_PER_CORE - 1, now)


# Programs and cores.


def dispatch(state: ReplayState, first: int, stop: int, now: int) -> None:
    """Start the next programs on units that fell free; if they are several, their cores stand alike."""
    started = first
    while started < stop and start_program(state, started, now):
        started += 1
    if started > first + 1 and may_be_alike(state):
        find_alike(state, first, started)
    for unit in range(first, started):
        for member in range(state.shared[at.CORES_PER_PROGRAM]):
            core = unit_core(state, unit, member)
            if state.cores[core * at.CORE_WORDS + at.ALIKE]:
                advance(state, core)


@inlined
def start_program(state: ReplayState, unit: int, now: int) -> int:
    """Let a unit have the next program; returns whether there was one."""
    members = state.shared[at.CORES_PER_PROGRAM]
    program = state.shared[at.NEXT_PROGRAM]
    if program * members >= state.shared[at.TRACES]:
        return 0
    state.shared[at.NEXT_PROGRAM] = program + 1
    wave = state.timing[timing.LAUNCH_WAVE_CYCLES] if program >= units(state) else 0
    start = now + wave + state.timing[timing.DISPATCH_CYCLES]
    if state.shared[at.KEEP_PROGRAMS]:
        state.programs[program * at.PROGRAM_WORDS + at.PROGRAM_CORE] = unit_core(state, unit, 0)
        state.programs[program * at.PROGRAM_WORDS + at.PROGRAM_START] = start
    for member in range(members):
        core = unit_core(state, unit, member)
        base = core * at.CORE_WORDS
        row = core * at.STATISTIC_WORDS
        state.statistics[row + Cause.TAIL_IDLE] += now - state.cores[base + at.IDLE_SINCE]
        state.statistics[row + Cause.LAUNCH] += wave
        state.statistics[row + Cause.DISPATCH] += start - now - wave
        find_records(state, program, member, core)
        state.cores[base + at.SCALAR] = start
        state.cores[base + at.COMPUTE_FREE] = start
        state.cores[base + at.PROGRAM] = program
    return 1


def advance(state: ReplayState, core: int) -> None:
    """Run a core up to the first record at which it must wait for an event."""
    while read_records(state, core):
        if state.cores[core * at.CORE_WORDS + at.REASON] == Kind.ATOMIC_SCALAR:
            schedule_core(state, core, state.cores[core * at.CORE_WORDS + at.SCALAR])
            return
        if waits_for_lane(state, core) or not end_wait(state, core):
            return


def read_records(state: ReplayState, core: int) -> int:
    """Read a core's records through the first that waits; sets REASON and WAIT_MASK, and returns 0 if that failed."""
    base = core * at.CORE_WORDS
    row = core * at.STATISTIC_WORDS
    record = state.cores[base + at.RECORD]
    scalar = state.cores[base + at.SCALAR]
    free = state.cores[base + at.COMPUTE_FREE]
    state.cores[base + at.REASON] = at.RUNNING
    issue = 0
    compute = 0
    reason = at.RUNNING
    while True:
        if record >= state.shared[at.RECORDS]:
            state.shared[at.STATUS] = at.MALFORMED
            return 0
        prefetch(state.words, (record + RECORDS_AHEAD) * trace.RECORD_WORDS)
        local = state.words[record * trace.RECORD_WORDS]
        middle = state.words[record * trace.RECORD_WORDS + 1]
        kind = middle >> trace.KIND_SHIFT & trace.KIND_MASK
        amount = middle >> trace.AMOUNT_SHIFT & trace.MAX_AMOUNT
        spent = local & LOW_WORD
        if middle >> trace.FLAGS_SHIFT & trace.FLAG_STRIDED:
            spent = local & trace.MAX_STRIDED
            head = local >> trace.STRIDED_HEAD_SHIFT & trace.MAX_STRIDED
            if head:
                busy = middle >> trace.STRIDED_COMPUTE_SHIFT & trace.MAX_STRIDED
                free = max(free + busy, scalar + head)
                compute += busy
        else:
            head = ((middle & LOW_WORD) ^ (1 << 31)) - (1 << 31)
            if head != trace.NO_COMPUTE:
                free = max(free + (local >> 32 & LOW_WORD), scalar + head)
                compute += local >> 32 & LOW_WORD
        issue += spent
        scalar += spent
        record += 1
        if kind <= Kind.MOVE:
            lane = core * at.LANES_PER_CORE
            if kind == Kind.MOVE and state.timing[timing.HAS_MOVE_QUEUE]:
                lane += 1
            enqueue(state, lane, record - 1, scalar)
            if kind <= Kind.STORE:
                record += middle >> trace.FLAGS_SHIFT & trace.FLAG_EXTENT
        elif kind == Kind.SYNC and not amount & (trace.WAIT_IO | trace.WAIT_MOVE):
            # The commonest wait needs no event.
            if amount & trace.WAIT_COMPUTE:
                keep_event(state, record - 1, scalar, max(scalar, free))
                book(state, core, record - 1, Cause.WAIT_COMPUTE, max(free - scalar, 0))
                scalar = max(scalar, free)
            scalar += state.timing[timing.SYNC_CYCLES]
            book(state, core, record - 1, Cause.SYNC, state.timing[timing.SYNC_CYCLES])
        elif kind == Kind.SCALAR_LOAD or kind == Kind.SCALAR_STORE:
            keep_event(state, record - 1, scalar, scalar + state.timing[timing.SCALAR_LATENCY_CYCLES])
            scalar += state.timing[timing.SCALAR_LATENCY_CYCLES]
            book(state, core, record - 1, Cause.SCALAR_MEMORY, state.timing[timing.SCALAR_LATENCY_CYCLES])
        elif kind == Kind.LOCAL:
            continue
        else:
            reason = kind
            break
    state.cores[base + at.RECORD] = record
    state.cores[base + at.SCALAR] = scalar
    state.cores[base + at.COMPUTE_FREE] = free
    state.statistics[row + Cause.ISSUE] += issue
    state.statistics[row + at.COMPUTE_BUSY] += compute
    if reason > Kind.LOCAL:
        state.shared[at.STATUS] = at.MALFORMED
    state.cores[base + at.REASON] = reason
    mask = amount if reason == Kind.SYNC else trace.WAIT_ALL
    if mask & trace.WAIT_MOVE and not state.timing[timing.HAS_MOVE_QUEUE]:
        mask |= trace.WAIT_IO
    state.cores[base + at.WAIT_MASK] = 0 if reason == Kind.ATOMIC_SCALAR else mask
    return not state.shared[at.STATUS]


@inlined
def schedule_core(state: ReplayState, core: int, time: int) -> None:
    """Set when a core's scalar queue acts next on what is shared."""
    schedule(state, state.shared[at.CLASSES] + core * at.SOURCES_PER_CORE, time)


@inlined
def waits_for_lane(state: ReplayState, core: int) -> int:
    """Whether a queue that a core waits for still has something to do."""
    mask = state.cores[core * at.CORE_WORDS + at.WAIT_MASK]
    lane = core * at.LANES_PER_CORE * at.LANE_WORDS
    if mask & trace.WAIT_IO and state.lanes[lane + at.PHASE]:
        return 1
    if mask & trace.WAIT_MOVE and state.lanes[lane + at.LANE_WORDS + at.PHASE]:
        return 1
    return 0


def end_wait(state: ReplayState, core: int) -> int:
    """The queues that a core waits for are empty: book the wait; returns whether the core can go on at once."""
    base = core * at.CORE_WORDS
    lane = core * at.LANES_PER_CORE * at.LANE_WORDS
    mask = state.cores[base + at.WAIT_MASK]
    scalar = state.cores[base + at.SCALAR]
    io_done = state.lanes[lane + at.FREE] if mask & trace.WAIT_IO else 0
    move_done = state.lanes[lane + at.LANE_WORDS + at.FREE] if mask & trace.WAIT_MOVE else 0
    compute_done = state.cores[base + at.COMPUTE_FREE] if mask & trace.WAIT_COMPUTE else 0
    done = max(scalar, io_done, move_done, compute_done)
    record = state.cores[base + at.RECORD] - 1
    keep_event(state, record, scalar, done)
    if done > scalar:
        # The whole wait counts as one for the queue that was done last.
        if done == io_done:
            book_io_wait(state, core, record, done - scalar)
        elif done == move_done:
            book(state, core, record, Cause.WAIT_MOVE, done - scalar)
        else:
            book(state, core, record, Cause.WAIT_COMPUTE, done - scalar)
    if mask & trace.WAIT_IO:
        for place in range(lane + at.SUM_SETUP, lane + at.SUM_CONTENTION + 1):
            state.lanes[place] = 0
    state.cores[base + at.WAIT_MASK] = 0
    state.cores[base + at.SCALAR] = done
    if state.cores[base + at.REASON] == Kind.SYNC:
        state.cores[base + at.SCALAR] += state.timing[timing.SYNC_CYCLES]
        book(state, core, record, Cause.SYNC, state.timing[timing.SYNC_CYCLES])
        return 1
    if state.cores[base + at.REASON] == Kind.END:
        schedule_core(state, core, done)
    else:
        arrive(state, core)
    return 0


@inlined
def book(state: ReplayState, core: int, record: int, cause: int, cycles: int) -> None:
    """Put cycles that a core spends at a record down to a cause and, if wanted, to the record's instruction."""
    state.statistics[core * at.STATISTIC_WORDS + cause] += cycles
    if state.shared[at.KEEP_EVENTS]:
        instruction = state.words[record * trace.RECORD_WORDS + 2] >> trace.INSTRUCTION_SHIFT & trace.MAX_INSTRUCTION
        state.stalls[instruction * at.STALL_WORDS + cause] += cycles


@inlined
def keep_event(state: ReplayState, record: int, start: int, end: int) -> None:
    """Note, if wanted, when what a record stands for began and ended."""
    if state.shared[at.KEEP_EVENTS]:
        state.events[record * 2] = start
        state.events[record * 2 + 1] = end


def book_io_wait(state: ReplayState, core: int, record: int, wait: int) -> None:
    """Split a wait for the IO queue in proportion to what its transfers since the last wait spent their time on."""
    lane = core * at.LANES_PER_CORE * at.LANE_WORDS
    total = 0
    for place in range(lane + at.SUM_SETUP, lane + at.SUM_CONTENTION + 1):
        total += state.lanes[place]
    total = max(total, 1)
    setup = wait * state.lanes[lane + at.SUM_SETUP] // total
    latency = wait * state.lanes[lane + at.SUM_LATENCY] // total
    contention = wait * state.lanes[lane + at.SUM_CONTENTION] // total
    book(state, core, record, Cause.WAIT_IO_SETUP, setup)
    book(state, core, record, Cause.WAIT_IO_LATENCY, latency)
    book(state, core, record, Cause.WAIT_IO_CONTENTION, contention)
    book(state, core, record, Cause.WAIT_IO_TRANSFER, wait - setup - latency - contention)


def arrive(state: ReplayState, core: int) -> None:
    """A core is at a barrier; if it is the last, all go on from the latest arrival."""
    reason = state.cores[core * at.CORE_WORDS + at.REASON]
    cores = state.timing[timing.CORES]
    # Those of one cluster are so many numbers apart.
    distance = state.timing[timing.CLUSTERS]
    first = core % distance
    stop = first + 1
    cycles = state.timing[timing.CLUSTER_BARRIER_CYCLES]
    if reason == Kind.BARRIER_UNION:
        first = unit_of(state, core) * unit_clusters(state)
        stop = first + unit_clusters(state)
        cycles = state.timing[timing.UNION_BARRIER_CYCLES]
    if state.shared[at.CORES_PER_PROGRAM] == 1:
        first = core
        stop = core + 1
        distance = cores
    latest = 0
    for number in range(first, stop):
        other = number
        while other < cores:
            base = other * at.CORE_WORDS
            if state.cores[base + at.REASON] != reason or state.cores[base + at.WAIT_MASK]:
                return
            latest = max(latest, state.cores[base + at.SCALAR])
            other += distance
    latest += cycles
    for number in range(first, stop):
        other = number
        while other < cores:
            arrived = state.cores[other * at.CORE_WORDS + at.SCALAR]
            record = state.cores[other * at.CORE_WORDS + at.RECORD] - 1
            keep_event(state, record, arrived, latest)
            book(state, other, record, Cause.BARRIER, latest - arrived)
            state.cores[other * at.CORE_WORDS + at.SCALAR] = latest
            # No longer at the barrier, although it goes on only then.
            state.cores[other * at.CORE_WORDS + at.REASON] = Kind.LOCAL
            schedule_core(state, other, latest)
            other += distance


@inlined
def act(state: ReplayState, core: int, now: int) -> None:
    """A core does what it was scheduled for: an atomic, the end of its program, or to go on after a wait."""
    base = core * at.CORE_WORDS
    reason = state.cores[base + at.REASON]
    if reason == Kind.END:
        finish_program(state, core, now)
        return
    if reason == Kind.ATOMIC_SCALAR:
        record = state.cores[base + at.RECORD] - 1
        address = address_of(state, core, record)
        place = address // 8 % at.ATOMIC_ADDRESSES
        state.shared[at.HAS_ATOMICS] = 1
        start = max(now, state.atomics[place])
        state.atomics[place] = start + state.timing[timing.ATOMIC_SAME_ADDRESS_CYCLES]
        state.cores[base + at.SCALAR] = start + state.timing[timing.ATOMIC_LATENCY_CYCLES]
        keep_event(state, record, now, state.cores[base + at.SCALAR])
        book(state, core, record, Cause.ATOMIC, state.cores[base + at.SCALAR] - now)
    advance(state, core)


def finish_program(state: ReplayState, core: int, now: int) -> None:
    """The trace of a core is over, and of those that are alike; the unit takes the next program once all its are."""
    stop = core + state.cores[core * at.CORE_WORDS + at.ALIKE]
    state.shared[at.MAKESPAN] = now
    for other in range(core, stop):
        base = other * at.CORE_WORDS
        state.cores[base + at.REASON] = at.RUNNING
        state.cores[base + at.IDLE_SINCE] = now
        state.cores[base + at.ALIKE] = 1
        if state.shared[at.KEEP_PROGRAMS]:
            state.programs[state.cores[base + at.PROGRAM] * at.PROGRAM_WORDS + at.PROGRAM_END] = now
        if other != core:
            copy_statistics(state, core, other)
    unit = unit_of(state, core)
    for member in range(state.shared[at.CORES_PER_PROGRAM]):
        other = unit_core(state, unit, member)
        if state.cores[other * at.CORE_WORDS + at.REASON] != at.RUNNING:
            return
    dispatch(state, unit, unit + stop - core, now)


# Queues.


@inlined
def step_lane(state: ReplayState, lane: int, now: int) -> None:
    """A queue does what it was scheduled for: it starts a transfer, opens its flow, or ends one that has no flow."""
    core = lane // at.LANES_PER_CORE
    stop = core + state.cores[core * at.CORE_WORDS + at.ALIKE]
    if state.lanes[lane * at.LANE_WORDS + at.PHASE] == at.STARTING:
        start_transfer(state, lane, now)
    # Of cores that were alike, some may have become leaders.
    while core < stop:
        core += state.cores[core * at.CORE_WORDS + at.ALIKE]
        flowing = state.lanes[lane * at.LANE_WORDS + at.FLOWING]
        if flowing > now:
            is_in_order = add_opening(state, flowing << at.SLOT_BITS | lane_slot(state, lane))
            schedule_lane(state, lane, at.FOREVER if is_in_order else flowing)
        else:
            # What it was prepared for before its turn flows at once: nothing else comes in between.
            schedule_lane(state, lane, at.FOREVER)
            if state.lanes[lane * at.LANE_WORDS + at.PHASE] == at.OPENING:
                open_flow(state, lane, now)
            else:
                finish_transfer(state, lane, now)
        lane = core * at.LANES_PER_CORE + lane % at.LANES_PER_CORE


def finish_flows(state: ReplayState, number: int, now: int) -> None:
    """Flows of a class are done: take them out, share anew, and let their queues go on."""
    settle(state, number, now)
    row = number * at.CLASS_WORDS
    first = state.classes[row + at.FIRST]
    stop = first + state.classes[row + at.ENTRIES] * at.MEMBER_WORDS
    place = first
    while place < stop and state.members[place + at.FINAL] <= state.classes[row + at.PROGRESS]:
        lane = state.members[place + at.MEMBER]
        state.classes[row + at.WEIGHTS] -= state.lanes[lane * at.LANE_WORDS + at.WEIGHT]
        state.classes[row + at.COUNT] -= state.cores[lane // at.LANES_PER_CORE * at.CORE_WORDS + at.ALIKE]
        place += at.MEMBER_WORDS
    done = (place - first) // at.MEMBER_WORDS
    if not done:
        return
    state.classes[row + at.FIRST] = place
    state.classes[row + at.ENTRIES] -= done
    if number >= 2 * state.timing[timing.PORT_GROUPS]:
        share_sram(state, number)
    for each in range(done):
        finish_transfer(state, state.members[first + each * at.MEMBER_WORDS + at.MEMBER], now)
    # There is room for as many flows as there are lanes behind the first half.
    if 2 * place >= members_of(state, number) + members_of(state, number + 1):
        move_members(state, number)


def finish_transfer(state: ReplayState, lane: int, now: int) -> None:
    """A transfer is over: book it, start the next, and let the core go on if it waited for this."""
    base = lane * at.LANE_WORDS
    core = lane // at.LANES_PER_CORE
    started = state.lanes[base + at.STARTED]
    flowing = state.lanes[base + at.FLOWING]
    if state.lanes[base + at.BYTES]:
        least = state.lanes[base + at.LEAST]
        state.lanes[base + at.SUM_TRANSFER] += least
        state.lanes[base + at.SUM_CONTENTION] += max(now - flowing - least, 0)
    state.lanes[base + at.SUM_SETUP] += state.lanes[base + at.SETUP]
    state.lanes[base + at.SUM_LATENCY] += flowing - started - state.lanes[base + at.SETUP]
    busy = at.IO_BUSY + lane % at.LANES_PER_CORE
    state.statistics[core * at.STATISTIC_WORDS + busy] += now - started
    keep_event(state, state.lanes[base + at.CURRENT], started, now)
    state.lanes[base + at.FREE] = now
    if state.lanes[base + at.HEAD] < state.lanes[base + at.TAIL]:
        entries = state.shared[at.RING_ENTRIES]
        place = (lane * entries + (state.lanes[base + at.HEAD] & entries - 1)) * 2
        state.lanes[base + at.PHASE] = at.STARTING
        if state.rings[place + 1] <= now:
            make_due(state, lane_slot(state, lane))
        else:
            schedule_lane(state, lane, state.rings[place + 1])
        return
    state.lanes[base + at.PHASE] = at.IDLE
    if state.cores[core * at.CORE_WORDS + at.WAIT_MASK] and not waits_for_lane(state, core) and end_wait(state, core):
        advance(state, core)
