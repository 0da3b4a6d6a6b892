"""The queues of the replay: transfers that wait, and their flows, from the first byte to the last.

A queue takes a transfer up when the one before is over, and settles then from when its bytes flow: set-up and latency
are counted from when it was issued or the one before began to flow, the later of the two.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.memory_traffic import add_memory_flow, end_of_flow, schedule, schedule_lane, settle
from mlutriton.simulator.replay.state import ReplayState
from mlutriton.simulator.replay.transfer_costs import prepare, price_block, price_items, price_move


@inlined
def enqueue(state: ReplayState, lane: int, record: int, issued: int) -> None:
    """Hand a transfer to a queue."""
    base = lane * at.LANE_WORDS
    entries = state.shared[at.RING_ENTRIES]
    tail = state.lanes[base + at.TAIL]
    if tail - state.lanes[base + at.HEAD] == entries:
        state.shared[at.STATUS] = at.RING_FULL
        return
    place = (lane * entries + (tail & entries - 1)) * 2
    state.rings[place] = record
    state.rings[place + 1] = issued
    state.lanes[base + at.TAIL] = tail + 1
    if state.lanes[base + at.PHASE] == at.IDLE:
        state.lanes[base + at.PHASE] = at.STARTING
        schedule_lane(state, lane, max(issued, state.lanes[base + at.FREE]))


@inlined
def start_transfer(state: ReplayState, lane: int, now: int) -> None:
    """Take the next transfer of a queue, and settle what it costs."""
    base = lane * at.LANE_WORDS
    entries = state.shared[at.RING_ENTRIES]
    head = state.lanes[base + at.HEAD]
    place = (lane * entries + (head & entries - 1)) * 2
    record = state.rings[place]
    issued = state.rings[place + 1]
    state.lanes[base + at.HEAD] = head + 1
    state.lanes[base + at.CURRENT] = record
    state.lanes[base + at.STARTED] = now
    state.lanes[base + at.BYTES] = 0
    # What it needs before it flows has gone on since the transfer before began to flow.
    since = max(issued, state.lanes[base + at.FLOWING])
    word = record * trace.RECORD_WORDS
    kind = state.words[word + 1] >> trace.KIND_SHIFT & trace.KIND_MASK
    amount = state.words[word + 1] >> trace.AMOUNT_SHIFT & trace.MAX_AMOUNT
    latency = 0
    if not amount:
        state.lanes[base + at.SETUP] = 0
    elif kind <= Kind.STORE:
        price_block(state, lane, record, kind, amount, now, since)
        return
    elif kind == Kind.MOVE:
        price_move(state, lane, word, amount)
    else:
        latency = price_items(state, lane, kind, amount, state.words[word + 2] & trace.MAX_ADDRESS)
    prepare(state, lane, now, since, latency)


@inlined
def open_flow(state: ReplayState, lane: int, now: int) -> None:
    """The first byte of a transfer flows: its class has one flow more."""
    base = lane * at.LANE_WORDS
    number = state.lanes[base + at.CLASS]
    row = number * at.CLASS_WORDS
    state.lanes[base + at.PHASE] = at.STREAMING
    settle(state, number, now)
    add_flow(state, number, lane, state.classes[row + at.PROGRESS] + (state.lanes[base + at.BYTES] << 16))
    state.classes[row + at.COUNT] += state.cores[lane // at.LANES_PER_CORE * at.CORE_WORDS + at.ALIKE]
    state.classes[row + at.WEIGHTS] += state.lanes[base + at.WEIGHT]
    if number < 2 * state.timing[timing.PORT_GROUPS]:
        add_memory_flow(state, now + state.lanes[base + at.LEAST])
    else:
        share_sram(state, number)


@inlined
def add_flow(state: ReplayState, number: int, lane: int, final: int) -> None:
    """Put an entry among those of a class, in the order in which they will be done; mostly it is the last."""
    row = number * at.CLASS_WORDS
    first = state.classes[row + at.FIRST]
    stop = first + state.classes[row + at.ENTRIES] * at.MEMBER_WORDS
    while stop > first and state.members[stop - at.MEMBER_WORDS + at.FINAL] > final:
        state.members[stop + at.MEMBER] = state.members[stop - at.MEMBER_WORDS + at.MEMBER]
        state.members[stop + at.FINAL] = state.members[stop - at.MEMBER_WORDS + at.FINAL]
        stop -= at.MEMBER_WORDS
    state.members[stop + at.MEMBER] = lane
    state.members[stop + at.FINAL] = final
    state.classes[row + at.ENTRIES] += 1


@inlined
def members_of(state: ReplayState, number: int) -> int:
    """Where there is room for the flows of a class."""
    return number * state.timing[timing.CORES] * (at.LANES_PER_CORE * at.MEMBER_SPACE * at.MEMBER_WORDS)


def move_members(state: ReplayState, number: int) -> None:
    """Move the flows of a class to the front of their room."""
    row = number * at.CLASS_WORDS
    first = members_of(state, number)
    distance = state.classes[row + at.FIRST] - first
    for place in range(first, first + state.classes[row + at.ENTRIES] * at.MEMBER_WORDS):
        state.members[place] = state.members[place + distance]
    state.classes[row + at.FIRST] = first


@inlined
def share_sram(state: ReplayState, number: int) -> None:
    """Flows through a cluster's SRAM began or ended: the others need a new rate."""
    row = number * at.CLASS_WORDS
    share = state.timing[timing.SRAM_RATE] // max(state.classes[row + at.COUNT], 1)
    state.classes[row + at.RATE] = max(min(state.timing[timing.MOVE_RATE], share), 1)
    schedule(state, number, end_of_flow(state, number))
