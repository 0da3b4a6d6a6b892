"""The schedule bound's half of the replay: every program as if it ran alone, on resources that no one else uses.

Then nothing that other cores do changes what a transfer takes, and one pass over the records is enough. Times of a
program count from its start. The L2 hits or misses at the lesser of both latencies.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.program_units import find_records, units
from mlutriton.simulator.replay.state import ReplayState
from mlutriton.simulator.replay.transfer_costs import LOW_WORD, cycles_at, price_items, price_move


def run_alone(state: ReplayState) -> None:
    """Find what the longest program takes, and what all do; ``shared[STATUS]`` says how it ended."""
    members = state.shared[at.CORES_PER_PROGRAM]
    for program in range(state.shared[at.TRACES] // members):
        for member in range(members):
            base = member * at.CORE_WORDS
            find_records(state, program, member, member)
            state.cores[base + at.SCALAR] = 0
            state.cores[base + at.COMPUTE_FREE] = 0
            state.cores[base + at.REASON] = at.RUNNING
            for lane in range(member * at.LANES_PER_CORE, (member + 1) * at.LANES_PER_CORE):
                state.lanes[lane * at.LANE_WORDS + at.FREE] = 0
                state.lanes[lane * at.LANE_WORDS + at.FLOWING] = 0
        while run_members(state) and not state.shared[at.STATUS]:
            pass
        if state.shared[at.STATUS]:
            return
        end = 0
        for member in range(members):
            end = max(end, state.cores[member * at.CORE_WORDS + at.SCALAR])
        end += state.timing[timing.DISPATCH_CYCLES]
        if program >= units(state):
            end += state.timing[timing.LAUNCH_WAVE_CYCLES]
        state.shared[at.ALONE_MOST] = max(state.shared[at.ALONE_MOST], end)
        state.shared[at.ALONE_SUM] += end


def run_members(state: ReplayState) -> int:
    """Run the cores of a program up to barriers, and through those that all have reached; 0 if all have ended."""
    members = state.shared[at.CORES_PER_PROGRAM]
    for member in range(members):
        if state.cores[member * at.CORE_WORDS + at.REASON] == at.RUNNING:
            run_to_barrier(state, member)
    ended = 0
    passed = 0
    for member in range(members):
        reason = state.cores[member * at.CORE_WORDS + at.REASON]
        if reason == Kind.END:
            ended += 1
        elif reason != at.RUNNING:
            passed += pass_barrier(state, member)
    if ended < members and not passed:
        state.shared[at.STATUS] = max(state.shared[at.STATUS], at.DEADLOCK)
    return ended < members


def pass_barrier(state: ReplayState, member: int) -> int:
    """Let the cores at a core's barrier go on if it was the last to arrive; returns whether it was."""
    reason = state.cores[member * at.CORE_WORDS + at.REASON]
    first = 0
    peers = state.shared[at.CORES_PER_PROGRAM]
    cost = state.timing[timing.UNION_BARRIER_CYCLES]
    if reason == Kind.BARRIER_CLUSTER:
        peers = min(peers, state.timing[timing.CORES] // state.timing[timing.CLUSTERS])
        first = member // peers * peers
        cost = state.timing[timing.CLUSTER_BARRIER_CYCLES]
    latest = 0
    for peer in range(first, first + peers):
        if state.cores[peer * at.CORE_WORDS + at.REASON] != reason:
            return 0
        latest = max(latest, state.cores[peer * at.CORE_WORDS + at.SCALAR])
    for peer in range(first, first + peers):
        state.cores[peer * at.CORE_WORDS + at.SCALAR] = latest + cost
        state.cores[peer * at.CORE_WORDS + at.REASON] = at.RUNNING
    return 1


def run_to_barrier(state: ReplayState, core: int) -> None:
    """Run a core through its records up to a barrier or its end, which becomes its REASON."""
    base = core * at.CORE_WORDS
    io = core * at.LANES_PER_CORE * at.LANE_WORDS
    move = io
    if state.timing[timing.HAS_MOVE_QUEUE]:
        move += at.LANE_WORDS
    record = state.cores[base + at.RECORD]
    scalar = state.cores[base + at.SCALAR]
    free = state.cores[base + at.COMPUTE_FREE]
    reason = at.RUNNING
    while reason == at.RUNNING:
        if record >= state.shared[at.RECORDS]:
            state.shared[at.STATUS] = at.MALFORMED
            return
        word = record * trace.RECORD_WORDS
        local = state.words[word]
        middle = state.words[word + 1]
        kind = middle >> trace.KIND_SHIFT & trace.KIND_MASK
        flags = middle >> trace.FLAGS_SHIFT
        record += 1
        if flags & trace.FLAG_STRIDED:
            head = local >> trace.STRIDED_HEAD_SHIFT & trace.MAX_STRIDED
            if head:
                free = max(free + (middle >> trace.STRIDED_COMPUTE_SHIFT & trace.MAX_STRIDED), scalar + head)
            scalar += local & trace.MAX_STRIDED
        else:
            head = ((middle & LOW_WORD) ^ (1 << 31)) - (1 << 31)
            if head != trace.NO_COMPUTE:
                free = max(free + (local >> 32 & LOW_WORD), scalar + head)
            scalar += local & LOW_WORD
        if kind <= Kind.MOVE:
            transfer(state, core * at.LANES_PER_CORE, word, scalar, move - io)
            if kind <= Kind.STORE:
                record += flags & trace.FLAG_EXTENT
        elif kind == Kind.SCALAR_LOAD or kind == Kind.SCALAR_STORE:
            scalar += state.timing[timing.SCALAR_LATENCY_CYCLES]
        elif kind == Kind.ATOMIC_SCALAR:
            scalar += state.timing[timing.ATOMIC_LATENCY_CYCLES]
        elif kind != Kind.LOCAL:
            mask = middle >> trace.AMOUNT_SHIFT if kind == Kind.SYNC else trace.WAIT_ALL
            if mask & trace.WAIT_IO:
                scalar = max(scalar, state.lanes[io + at.FREE])
            if mask & trace.WAIT_MOVE:
                scalar = max(scalar, state.lanes[move + at.FREE])
            if mask & trace.WAIT_COMPUTE:
                scalar = max(scalar, free)
            if kind == Kind.SYNC:
                scalar += state.timing[timing.SYNC_CYCLES]
            else:
                reason = kind
    if reason > Kind.LOCAL:
        state.shared[at.STATUS] = at.MALFORMED
    state.cores[base + at.RECORD] = record
    state.cores[base + at.SCALAR] = scalar
    state.cores[base + at.COMPUTE_FREE] = free
    state.cores[base + at.REASON] = reason


def transfer(state: ReplayState, lane: int, word: int, issued: int, to_move_lane: int) -> None:
    """Run a transfer on its queue, as the event loop does where all that it needs is free."""
    middle = state.words[word + 1]
    kind = middle >> trace.KIND_SHIFT & trace.KIND_MASK
    amount = middle >> trace.AMOUNT_SHIFT & trace.MAX_AMOUNT
    if kind == Kind.MOVE and to_move_lane:
        lane += 1
    base = lane * at.LANE_WORDS
    start = max(issued, state.lanes[base + at.FREE])
    state.lanes[base + at.BYTES] = 0
    state.lanes[base + at.SETUP] = 0
    latency = 0
    if not amount:
        pass
    elif kind <= Kind.STORE:
        segments = segment_count(state, word)
        state.lanes[base + at.SETUP] = state.timing[timing.DMA_SETUP_CYCLES]
        state.lanes[base + at.SETUP] += (segments - 1) * state.timing[timing.DMA_SEGMENT_CYCLES]
        state.lanes[base + at.BYTES] = amount
        state.lanes[base + at.LEAST] = cycles_at(amount, state.timing[timing.CORE_RATE])
        latency = min(state.timing[timing.BULK_LATENCY_CYCLES], state.timing[timing.L2_LATENCY_CYCLES])
    elif kind == Kind.MOVE:
        price_move(state, lane, word, amount)
    else:
        latency = price_items(state, lane, kind, amount, state.words[word + 2] & trace.MAX_ADDRESS)
    size = state.lanes[base + at.BYTES]
    preparation = state.lanes[base + at.SETUP] + latency
    if size:
        flowing = max(start, max(issued, state.lanes[base + at.FLOWING]) + preparation)
        state.lanes[base + at.FREE] = flowing + state.lanes[base + at.LEAST]
    else:
        flowing = start + preparation
        state.lanes[base + at.FREE] = flowing
    state.lanes[base + at.FLOWING] = flowing


def segment_count(state: ReplayState, word: int) -> int:
    """Segments of a LOAD or STORE, those that touch counted as one."""
    middle = state.words[word + 1]
    flags = middle >> trace.FLAGS_SHIFT
    if flags & trace.FLAG_STRIDED:
        count1 = middle & trace.MAX_STRIDED
        amount = middle >> trace.AMOUNT_SHIFT & trace.MAX_AMOUNT
        return 1 if (state.words[word] >> trace.STRIDE_SHIFT) * count1 == amount else count1
    if not flags & trace.FLAG_EXTENT:
        return 1
    extent = word + trace.RECORD_WORDS
    segment = state.words[extent] & LOW_WORD
    count1 = state.words[extent] >> 32 & LOW_WORD
    count2 = state.words[extent + 2] & 0xFFFF
    if state.words[extent + 1] == segment:
        segment *= count1
        count1 = 1
    if count1 == 1 and state.words[extent + 2] >> 16 == segment:
        count2 = 1
    return count1 * count2
