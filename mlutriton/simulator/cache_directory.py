"""The L2: which lines of which blocks it holds, and which block leaves a full set, the least recently used.

Programs of a grid use the same tiles over and over, and a tile has many blocks. So a table remembers tiles: as long as
no block has left the L2 since a tile was used block by block, all of it is still there. Then only the tile is marked as
used, and its blocks are when a block has to leave, which alone asks how recently they were used.

In the subset of :mod:`mlutriton.simulator.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.machine_code import inlined
from mlutriton.simulator.replay_state import (
    L2_EVICTIONS,
    L2_USES,
    TILE_ADDRESS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_EVICTIONS,
    TILE_SEGMENT,
    TILE_SETS,
    TILE_STORE,
    TILE_STRIDE1,
    TILE_STRIDE2,
    TILE_USE,
    TILE_WAITS,
    TILE_WAYS,
    TILE_WORDS,
    WAITING_TILES,
    ReplayState,
)
from mlutriton.simulator.timing import L2_SETS, L2_WAYS, LINE_BYTES, LINES_PER_BLOCK

# An entry of the directory holds a tag, which lines are dirty, and which are valid.
TAG_SHIFT = 32
DIRTY_SHIFT = 16
# Tags keep 31 bits of a block's number, so that blocks 4 TiB apart look alike.
TAG_MASK = (1 << 31) - 1
# Recency numbers the uses, and below that the blocks of a tile in their order.
USE_SHIFT = 26


@inlined
def use_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """Use the lines of a tile; returns how many of its bytes were not there.

    A store finds the lines that are dirty already: each line costs one write to DRAM, whenever it is written back.
    """
    state.shared[L2_USES] += 1
    use = state.shared[L2_USES]
    line_bytes = state.timing[LINE_BYTES]
    block_bytes = line_bytes * state.timing[LINES_PER_BLOCK]
    if count1 * count2 == 1 and segment <= state.timing[LINE_BYTES]:
        block = address // block_bytes
        return use_lines(state, block, address - block * block_bytes, segment, store, use << USE_SHIFT)
    place = find_tile(state, address, segment, count1, stride1, count2, stride2, store)
    if state.tiles[place + TILE_USE] and state.tiles[place + TILE_EVICTIONS] == state.shared[L2_EVICTIONS]:
        mark_tile(state, place, use)
        return 0
    state.tiles[place + TILE_USE] = use
    state.tiles[place + TILE_ADDRESS] = address
    state.tiles[place + TILE_SEGMENT] = segment
    state.tiles[place + TILE_COUNT1] = count1
    state.tiles[place + TILE_STRIDE1] = stride1
    state.tiles[place + TILE_COUNT2] = count2
    state.tiles[place + TILE_STRIDE2] = stride2
    state.tiles[place + TILE_STORE] = store
    state.tiles[place + TILE_EVICTIONS] = state.shared[L2_EVICTIONS]
    blocks = segment_blocks(state, segment)
    missing = 0
    stamp = use << USE_SHIFT
    step = stride1 // block_bytes
    rest = stride1 - step * block_bytes
    for plane in range(count2):
        block = (address + plane * stride2) // block_bytes
        start = address + plane * stride2 - block * block_bytes
        stop = start + segment
        if not rest and stop <= block_bytes:
            # Each segment is the same part of a block of its own.
            low = start // line_bytes
            high = (stop - 1) // line_bytes
            for _ in range(count1):
                missing += use_part(state, block, low, high, start, stop, store, stamp)
                stamp += blocks
                block += step
        else:
            for _ in range(count1):
                missing += use_lines(state, block, start, segment, store, stamp)
                stamp += blocks
                block += step
                start += rest
                if start >= block_bytes:
                    start -= block_bytes
                    block += 1
    return missing


@inlined
def find_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """The place of a tile in the table; of one that is not there, a place that was free or has been freed."""
    key = (address >> 5 & 0xFFFFFFF) ^ address >> 33
    first = (key * 0x9E3779B1 >> 24 & state.shared[TILE_SETS] - 1) * TILE_WAYS * TILE_WORDS
    oldest = first
    for place in range(first, first + TILE_WAYS * TILE_WORDS, TILE_WORDS):
        if (
            state.tiles[place + TILE_ADDRESS] == address
            and state.tiles[place + TILE_SEGMENT] == segment
            and state.tiles[place + TILE_COUNT1] == count1
            and state.tiles[place + TILE_STRIDE1] == stride1
            and state.tiles[place + TILE_COUNT2] == count2
            and state.tiles[place + TILE_STRIDE2] == stride2
            and state.tiles[place + TILE_STORE] == store
        ):
            return place
        if state.tiles[place + TILE_USE] < state.tiles[oldest + TILE_USE]:
            oldest = place
    settle_tile(state, oldest)
    state.tiles[oldest + TILE_USE] = 0
    return oldest


@inlined
def mark_tile(state: ReplayState, place: int, use: int) -> None:
    """Note that a tile is used, all of which is there; its blocks are to show it later."""
    state.tiles[place + TILE_USE] = use
    if state.tiles[place + TILE_WAITS]:
        return
    if state.shared[WAITING_TILES] == state.shared[TILE_SETS] * TILE_WAYS:
        settle_tiles(state)
    state.waiting_tiles[state.shared[WAITING_TILES]] = place
    state.shared[WAITING_TILES] += 1
    state.tiles[place + TILE_WAITS] = 1


@inlined
def segment_blocks(state: ReplayState, segment: int) -> int:
    """The most blocks that a segment of this size touches."""
    return segment // (state.timing[LINE_BYTES] * state.timing[LINES_PER_BLOCK]) + 2


def settle_tiles(state: ReplayState) -> None:
    """Let all blocks show when they were used last."""
    for number in range(state.shared[WAITING_TILES]):
        settle_tile(state, state.waiting_tiles[number])
    state.shared[WAITING_TILES] = 0


def settle_tile(state: ReplayState, place: int) -> None:
    """Let the blocks of a tile show its latest use, if they do not yet."""
    if not state.tiles[place + TILE_WAITS]:
        return
    state.tiles[place + TILE_WAITS] = 0
    segment = state.tiles[place + TILE_SEGMENT]
    block_bytes = state.timing[LINE_BYTES] * state.timing[LINES_PER_BLOCK]
    blocks = segment_blocks(state, segment)
    stamp = state.tiles[place + TILE_USE] << USE_SHIFT
    step = state.tiles[place + TILE_STRIDE1] // block_bytes
    rest = state.tiles[place + TILE_STRIDE1] - step * block_bytes
    for plane in range(state.tiles[place + TILE_COUNT2]):
        address = state.tiles[place + TILE_ADDRESS] + plane * state.tiles[place + TILE_STRIDE2]
        first = address // block_bytes
        start = address - first * block_bytes
        for _ in range(state.tiles[place + TILE_COUNT1]):
            block = first
            end = start + segment
            while end > 0:
                entry = find_block(state, block)
                state.recency[entry] = max(state.recency[entry], stamp + block - first)
                block += 1
                end -= block_bytes
            stamp += blocks
            first += step
            start += rest
            if start >= block_bytes:
                start -= block_bytes
                first += 1


@inlined
def use_lines(state: ReplayState, block: int, start: int, size: int, store: int, stamp: int) -> int:
    """Use a range of addresses that begins in a block; returns how many of its bytes were not there."""
    line_bytes = state.timing[LINE_BYTES]
    block_bytes = line_bytes * state.timing[LINES_PER_BLOCK]
    missing = 0
    end = start + size
    while end > 0:
        # Of this block, from start to stop; the rest of the range lies in the blocks behind it.
        stop = min(end, block_bytes)
        low = start // line_bytes
        high = (stop - 1) // line_bytes
        missing += use_part(state, block, low, high, start, stop, store, stamp)
        block += 1
        stamp += 1
        start = 0
        end -= block_bytes
    return missing


@inlined
def use_part(state: ReplayState, block: int, low: int, high: int, start: int, stop: int, store: int, stamp: int) -> int:
    """Use the lines from low to high of a block, for its bytes from start to stop; returns how many were not there."""
    line_bytes = state.timing[LINE_BYTES]
    wanted = (2 << high) - (1 << low)
    absent = wanted & ~use_block(state, block, wanted, store, stamp)
    missing = 0
    if absent:
        if absent >> low & 1:
            missing -= start - low * line_bytes
        if absent >> high & 1:
            missing -= (high + 1) * line_bytes - stop
        if absent == wanted:
            missing += (high - low + 1) * line_bytes
            absent = 0
        while absent:
            absent &= absent - 1
            missing += line_bytes
    return missing


@inlined
def use_block(state: ReplayState, block: int, wanted: int, store: int, stamp: int) -> int:
    """Use lines of a block, which enters the L2 if it is not there; returns the lines that were there."""
    place = find_block(state, block)
    tag = (block + 1) & TAG_MASK
    entry = state.directory[place]
    if entry >> TAG_SHIFT != tag:
        if entry:
            place = evict(state, place)
        entry = tag << TAG_SHIFT
    state.recency[place] = stamp
    present = entry >> DIRTY_SHIFT if store else entry
    state.directory[place] = entry | wanted | (wanted << DIRTY_SHIFT if store else 0)
    return present & wanted


@inlined
def find_block(state: ReplayState, block: int) -> int:
    """The entry of a block; if it is not there, the first free one of its set, or the set's last."""
    tag = (block + 1) & TAG_MASK
    place = block % state.timing[L2_SETS] * state.timing[L2_WAYS]
    last = place + state.timing[L2_WAYS] - 1
    while place < last and state.directory[place] and state.directory[place] >> TAG_SHIFT != tag:
        place += 1
    return place


def evict(state: ReplayState, last: int) -> int:
    """Make room in the full set that ends with this entry; returns the entry of the block that leaves."""
    settle_tiles(state)
    state.shared[L2_EVICTIONS] += 1
    oldest = last
    for place in range(last - state.timing[L2_WAYS] + 1, last):
        if state.recency[place] < state.recency[oldest]:
            oldest = place
    return oldest
