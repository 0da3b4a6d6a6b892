"""Stretches of memory in the L2: what is transferred in order, tile after tile, needs no more than where it ends.

A *stretch* is of sectors in one piece that are all valid, and all dirty or none. A tile that begins where a stretch
ends makes it longer, whatever its size; tiles of rows that are no whole lines are like that, and have no family. A
region of memory (:mod:`mlutriton.simulator.replay.tile_families`) knows the stretches that have sectors there, if they
are no more than two.

Stretches say nothing of the order in which lines were used. So there are some only of launches from which nothing ever
has to leave the L2, and only as long as they say all that is there beside families: what does not fit in is their end,
and :mod:`mlutriton.simulator.replay.sector_map` has what they had from then on.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.isa import trace_format as trace
from mlutriton.isa.trace_format import Kind
from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.sector_map import enter_sectors
from mlutriton.simulator.replay.state import (
    HAS_RUNS,
    L2_READ_BYTES,
    L2_WRITTEN_BYTES,
    LATEST_STRETCH,
    RECORDS,
    REGIONS,
    STRETCHES,
    ReplayState,
)
from mlutriton.simulator.replay.tile_families import (
    NO_FAMILY,
    REGION_SHIFT,
    REGIONS_SHIFT,
    region_byte_shift,
    region_word,
)
from mlutriton.simulator.replay.timing import GRANULE_SHIFT, L2_LINES, LINE_SHIFT

# Whether there are any: not asked yet, yes, and no more.
(NOT_YET, IN_USE, GIVEN_UP) = range(3)
# A stretch: its first sector, the one behind its last, and whether they are dirty. Row 0 is none.
(BEGIN, END, DIRTY, _FILLER, STRETCH_WORDS) = range(5)
MOST_STRETCHES = 255
# The stretches of a region: the latest one to come there, and another one.
OTHER_SHIFT = 32
ROW_MASK = (1 << OTHER_SHIFT) - 1
# What does not fit in.
MISFIT = -1
LOW_WORD = (1 << 32) - 1


def use_stretch(state: ReplayState, start: int, size: int, store: int) -> int:
    """Use consecutive bytes; returns how many were not there (of a store: not dirty), or ``MISFIT``.

    ``L2_READ_BYTES`` and ``L2_WRITTEN_BYTES`` then say what DRAM has to move, as of tiles of every sort.
    """
    if state.shared[STRETCHES] == NOT_YET:
        if not nothing_leaves(state):
            state.shared[STRETCHES] = GIVEN_UP
            return MISFIT
        state.shared[STRETCHES] = IN_USE
        state.stretches[BEGIN] = 0
        state.stretches[END] = 0
    granule_shift = state.timing[GRANULE_SHIFT]
    begin = start >> granule_shift
    end = (start + size - 1 >> granule_shift) + 1
    stretch = stretch_at(state, begin, end, store)
    state.shared[L2_READ_BYTES] = 0
    state.shared[L2_WRITTEN_BYTES] = 0
    first = begin
    if stretch:
        first = state.stretches[stretch + END]
        if end <= first:
            return 0
    else:
        if state.shared[LATEST_STRETCH] == MOST_STRETCHES * STRETCH_WORDS:
            return MISFIT
        state.shared[LATEST_STRETCH] += STRETCH_WORDS
        stretch = state.shared[LATEST_STRETCH]
        state.stretches[stretch + BEGIN] = begin
        state.stretches[stretch + END] = begin
        state.stretches[stretch + DIRTY] = store
    stop = claim_sectors(state, stretch, first, end)
    if stop == MISFIT:
        return MISFIT
    state.stretches[stretch + END] = stop
    moved = stop - first << granule_shift
    missing = moved
    # Of a sector that was not there, only a part is used; what a store leaves of it has to be there.
    before = start - (begin << granule_shift)
    behind = (end << granule_shift) - start - size
    read = 0
    if before and first == begin and first < stop:
        missing -= (1 << granule_shift) - min((1 << granule_shift) - before, size)
        read += 1 << granule_shift
    if behind and first < stop == end and not (before and end - 1 == begin):
        missing -= behind
        read += 1 << granule_shift
    if store:
        state.shared[L2_READ_BYTES] = read
        state.shared[L2_WRITTEN_BYTES] = moved
    else:
        state.shared[L2_READ_BYTES] = moved
    return missing


def nothing_leaves(state: ReplayState) -> int:
    """Whether the L2 has room for the lines of all transfers, even if no two of these had one in common."""
    if state.shared[HAS_RUNS]:
        return 0
    lines = 0
    record = 0
    while record < state.shared[RECORDS] and lines <= state.timing[L2_LINES]:
        word = record * trace.RECORD_WORDS
        middle = state.words[word + 1]
        record += 1
        if middle >> trace.KIND_SHIFT & trace.KIND_MASK <= Kind.STORE:
            segments = 1
            flags = middle >> trace.FLAGS_SHIFT
            if flags & trace.FLAG_STRIDED:
                segments = middle & trace.MAX_STRIDED
            elif flags & trace.FLAG_EXTENT:
                if record == state.shared[RECORDS]:
                    return 0
                extent = word + trace.RECORD_WORDS
                segments = (state.words[extent] >> 32 & LOW_WORD) * (state.words[extent + 2] & 0xFFFF)
                record += 1
            amount = middle >> trace.AMOUNT_SHIFT & trace.MAX_AMOUNT
            lines += (amount >> state.timing[LINE_SHIFT]) + 2 * segments
    return lines <= state.timing[L2_LINES]


@inlined
def stretches_of(state: ReplayState, region: int) -> int:
    """The place of what a region knows."""
    return region & (state.shared[REGIONS] << REGIONS_SHIFT) - 1


@inlined
def stretch_at(state: ReplayState, begin: int, end: int, store: int) -> int:
    """A stretch that has a tile's sectors, or can go on with them; 0 if there is none."""
    region = begin >> REGION_SHIFT - state.timing[GRANULE_SHIFT]
    if state.regions[region_word(state, region)] >> region_byte_shift(region) & NO_FAMILY != NO_FAMILY:
        return 0
    known = state.stretch_regions[stretches_of(state, region)]
    latest = known & ROW_MASK
    other = known >> OTHER_SHIFT
    found = 0
    if reaches(state, latest, begin, end, store):
        found = latest
    if reaches(state, other, begin, end, store) and state.stretches[other + END] > state.stretches[found + END]:
        found = other
    return found


@inlined
def reaches(state: ReplayState, stretch: int, begin: int, end: int, store: int) -> int:
    """Whether a stretch reaches a tile's first sector, and is dirty if that is stored, or has all that is loaded."""
    stop = state.stretches[stretch + END]
    if state.stretches[stretch + BEGIN] <= begin <= stop:
        if state.stretches[stretch + DIRTY] == store:
            return 1
        return end <= stop if not store else 0
    return 0


@inlined
def claim_sectors(state: ReplayState, stretch: int, first: int, end: int) -> int:
    """Let sectors that follow a stretch be its own; returns behind the last one that was nobody's, or ``MISFIT``.

    That is the last one, or the one before: tiles of several cores share a sector where they meet.
    """
    region_shift = REGION_SHIFT - state.timing[GRANULE_SHIFT]
    stop = end
    for region in range(first >> region_shift, (end - 1 >> region_shift) + 1):
        word = region_word(state, region)
        shift = region_byte_shift(region)
        owner = state.regions[word] >> shift & NO_FAMILY
        place = stretches_of(state, region)
        known = 0
        if not owner:
            state.regions[word] |= NO_FAMILY << shift
        elif owner != NO_FAMILY:
            return MISFIT
        else:
            known = state.stretch_regions[place]
        latest = known & ROW_MASK
        other = known >> OTHER_SHIFT
        if latest == stretch and not other:
            continue
        if latest != stretch and is_in_the_way(state, latest, first, end):
            if not meets(state, latest, stretch, end):
                return MISFIT
            stop = end - 1
        if other != stretch and is_in_the_way(state, other, first, end):
            if not meets(state, other, stretch, end):
                return MISFIT
            stop = end - 1
        if latest != stretch and other != stretch:
            if other:
                return MISFIT
            state.stretch_regions[place] = latest << OTHER_SHIFT | stretch
    return stop


@inlined
def is_in_the_way(state: ReplayState, other: int, first: int, end: int) -> int:
    """Whether a stretch has some of these sectors."""
    return max(state.stretches[other + BEGIN], first) < min(state.stretches[other + END], end)


@inlined
def meets(state: ReplayState, other: int, stretch: int, end: int) -> int:
    """Whether a stretch begins with the last one of them, and is dirty if the other one is."""
    if state.stretches[other + BEGIN] != end - 1:
        return 0
    return state.stretches[other + DIRTY] == state.stretches[stretch + DIRTY]


def give_stretches_up(state: ReplayState) -> None:
    """From now on, let the map say what is there."""
    state.shared[STRETCHES] = GIVEN_UP
    stretch = state.shared[LATEST_STRETCH]
    while stretch:
        begin = state.stretches[stretch + BEGIN]
        enter_sectors(state, begin, state.stretches[stretch + END], state.stretches[stretch + DIRTY])
        stretch -= STRETCH_WORDS
