"""What a transfer costs once it starts: set-up, bytes, DRAM traffic, and the class of flows that it will be in.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.alike_cores import part
from mlutriton.simulator.replay.cache_directory import use_tile
from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import ReplayState

LOW_WORD = (1 << 32) - 1


@inlined
def address_of(state: ReplayState, core: int, record: int) -> int:
    """The address of a core's record."""
    address = state.words[record * trace.RECORD_WORDS + 2] & trace.MAX_ADDRESS
    if state.shared[at.HAS_RUNS]:
        address += state.moves[core * state.shared[at.MOVES_PER_CORE] + state.groups[record]]
    return address


@inlined
def cycles_at(size: int, rate: int) -> int:
    """How long bytes take at a rate."""
    return ((size << 16) + rate - 1) // rate


@inlined
def price_block(state: ReplayState, lane: int, record: int, kind: int, amount: int, now: int, since: int) -> None:
    """Setup, size, DRAM cost and latency of a LOAD or STORE, whose lines enter the L2, and of those that are alike."""
    word = record * trace.RECORD_WORDS
    store = kind == Kind.STORE
    segment = amount
    count1 = 1
    stride1 = 0
    count2 = 1
    stride2 = 0
    cost = 1 << 16
    flags = state.words[word + 1] >> trace.FLAGS_SHIFT
    if flags & (trace.FLAG_STRIDED | trace.FLAG_EXTENT):
        if flags & trace.FLAG_STRIDED:
            count1 = state.words[word + 1] & trace.MAX_STRIDED
            stride1 = state.words[word] >> trace.STRIDE_SHIFT
            segment = amount // count1
        else:
            extent = word + trace.RECORD_WORDS
            segment = state.words[extent] & LOW_WORD
            count1 = state.words[extent] >> 32 & LOW_WORD
            stride1 = state.words[extent + 1]
            count2 = state.words[extent + 2] & 0xFFFF
            stride2 = state.words[extent + 2] >> 16
        if stride1 == segment:
            segment *= count1
            count1 = 1
        if count1 == 1 and stride2 == segment:
            segment *= count2
            count2 = 1
        if count1 * count2 > 1:
            cost = state.timing[timing.STRIDED_WRITE_COST if store else timing.STRIDED_READ_COST]
    setup = state.timing[timing.DMA_SETUP_CYCLES] + (count1 * count2 - 1) * state.timing[timing.DMA_SEGMENT_CYCLES]
    leader = lane // at.LANES_PER_CORE
    latency = -1
    uses_dram = 0
    for core in range(leader, leader + state.cores[leader * at.CORE_WORDS + at.ALIKE]):
        own = record
        if core != leader:
            own += state.cores[core * at.CORE_WORDS + at.RECORD]
        address = address_of(state, core, own)
        if address >= trace.LOCAL_START:
            address += core * trace.LOCAL_STRIDE_BYTES
        missing = 0
        traffic = 0
        if segment > 0:
            missing = use_tile(state, address, segment, count1, stride1, count2, stride2, store)
            traffic = state.shared[at.L2_READ_BYTES] + state.shared[at.L2_WRITTEN_BYTES]
        state.shared[at.HIT_BYTES] += amount - missing
        # The tests spare most transfers a division.
        weight = 0
        if traffic:
            state.shared[at.READ_BYTES] += state.shared[at.L2_READ_BYTES]
            state.shared[at.WRITTEN_BYTES] += state.shared[at.L2_WRITTEN_BYTES]
            weight = cost
            if traffic != amount:
                weight = (traffic * cost + amount - 1) // amount
        own_latency = state.timing[timing.BULK_LATENCY_CYCLES if missing else timing.L2_LATENCY_CYCLES]
        if own_latency == latency and (weight > 0) == uses_dram:
            state.lanes[lane * at.LANE_WORDS + at.WEIGHT] += weight
            continue
        if core != leader:
            prepare(state, lane, now, since, latency)
            part(state, leader, core)
            leader = core
            lane = core * at.LANES_PER_CORE  # of its IO queue
            record = own
        latency = own_latency
        uses_dram = weight > 0
        state.lanes[lane * at.LANE_WORDS + at.SETUP] = setup
        open_memory(state, lane, amount, weight)
    prepare(state, lane, now, since, latency)


@inlined
def prepare(state: ReplayState, lane: int, now: int, since: int, latency: int) -> None:
    """Settle when a transfer flows that is prepared since then, or is done, if it moves nothing."""
    base = lane * at.LANE_WORDS
    if state.lanes[base + at.BYTES]:
        prepared = since + state.lanes[base + at.SETUP] + latency
        state.lanes[base + at.FLOWING] = max(now, prepared)
        # What earlier transfers hide of it takes no time.
        state.lanes[base + at.SETUP] = max(prepared - now - latency, 0)
        state.lanes[base + at.PHASE] = at.OPENING
    else:
        state.lanes[base + at.FLOWING] = now + state.lanes[base + at.SETUP] + latency
        state.lanes[base + at.PHASE] = at.FIXED


def price_items(state: ReplayState, lane: int, kind: int, items: int, item_bytes: int) -> int:
    """Setup, size and DRAM cost of a GATHER, SCATTER or ATOMIC_VECTOR, which passes the L2 by; returns its latency."""
    granule = 1 << state.timing[timing.GRANULE_SHIFT]
    read = (item_bytes + granule - 1) // granule
    written = 0
    setup = items * state.timing[timing.GATHER_ITEM_CYCLES]
    latency = state.timing[timing.BULK_LATENCY_CYCLES]
    if kind == Kind.SCATTER:
        written = read
        read = 0
        if item_bytes < granule:
            written = 2
    elif kind == Kind.ATOMIC_VECTOR:
        # The neighbours in a granule are one atomic to the DRAM, which reads and writes it.
        written = read
        setup = items * read * state.timing[timing.ATOMIC_INTERVAL_CYCLES]
        latency = state.timing[timing.ATOMIC_LATENCY_CYCLES]
    state.lanes[lane * at.LANE_WORDS + at.SETUP] = state.timing[timing.DMA_SETUP_CYCLES] + setup
    open_memory(state, lane, items * item_bytes, ((read + written) * granule << 16) // max(item_bytes, 1))
    cores = state.cores[lane // at.LANES_PER_CORE * at.CORE_WORDS + at.ALIKE]
    state.lanes[lane * at.LANE_WORDS + at.WEIGHT] *= cores
    state.shared[at.READ_BYTES] += read * granule * items * cores
    state.shared[at.WRITTEN_BYTES] += written * granule * items * cores
    return latency


@inlined
def open_memory(state: ReplayState, lane: int, size: int, weight: int) -> None:
    """Make a transfer one of its cluster's DRAM flows, or of its L2 flows if it costs DRAM nothing."""
    base = lane * at.LANE_WORDS
    groups = state.timing[timing.PORT_GROUPS]
    state.lanes[base + at.BYTES] = size
    state.lanes[base + at.WEIGHT] = weight
    state.lanes[base + at.LEAST] = cycles_at(size, state.timing[timing.CORE_RATE])
    state.lanes[base + at.CLASS] = 0 if weight else groups
    if groups > 1:
        state.lanes[base + at.CLASS] += lane // at.LANES_PER_CORE % groups


def price_move(state: ReplayState, lane: int, word: int, size: int) -> None:
    """Setup and size of a MOVE; only one that touches SRAM shares anything."""
    base = lane * at.LANE_WORDS
    flags = state.words[word + 1] >> trace.FLAGS_SHIFT
    setup = state.timing[timing.MOVE_SETUP_CYCLES]
    if flags & trace.FLAG_BETWEEN_CLUSTERS:
        rate = state.timing[timing.CLUSTER_COPY_RATE]
        setup = state.timing[timing.CLUSTER_COPY_SETUP_CYCLES] + cycles_at(size, rate)
    elif flags & trace.FLAG_SRAM:
        cluster = lane // at.LANES_PER_CORE % state.timing[timing.CLUSTERS]
        state.lanes[base + at.BYTES] = size
        state.lanes[base + at.WEIGHT] = 0
        state.lanes[base + at.LEAST] = cycles_at(size, state.timing[timing.MOVE_RATE])
        state.lanes[base + at.CLASS] = 2 * state.timing[timing.PORT_GROUPS] + cluster
    else:
        rate = state.timing[timing.MOVE_RATE]
        setup += cycles_at(size, rate)
    state.lanes[base + at.SETUP] = setup
