"""The L2: which lines it holds, and which leave when a transfer brings in more than fit, those used longest ago.

Programs of a grid use the same tiles over and over, and a tile has many lines. So every line belongs to the tile that
used it last, and the order of use is a list of tiles. As long as a tile still has all of its lines, to use it again is
to put it first in the list, and when all of its lines are to leave, it is forgotten as a whole. Lines are visited one
by one when a tile is new, has lost some, or is to lose some.

Lines are found by their page, a run of consecutive lines, in a hash table. A page stays there until room is needed and
none of its lines is in the L2; what lines of a forgotten tile say is recognized by the number of its use.

In the subset of :mod:`mlutriton.simulator.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.machine_code import inlined
from mlutriton.simulator.replay_state import (
    FREED_TILE,
    FRESH_TILES,
    L2_HELD_LINES,
    L2_MISSING_BYTES,
    L2_READ_BYTES,
    L2_USES,
    L2_WRITTEN_BYTES,
    PAGE_BUCKETS,
    PAGES_FULL,
    STATUS,
    TILE_ADDRESS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_DROPPED,
    TILE_IS_DIRTY,
    TILE_LINES,
    TILE_NEWER,
    TILE_OLDER,
    TILE_OWNED,
    TILE_SEGMENT,
    TILE_SETS,
    TILE_STRIDE1,
    TILE_STRIDE2,
    TILE_USE,
    TILE_WORDS,
    ReplayState,
)
from mlutriton.simulator.timing import GRANULE_SHIFT, L2_LINES, LINE_SHIFT

# A line's word: number of the use and place of the tile that it belongs to, dirty sectors, valid sectors. A sector is
# what DRAM moves at least.
OWNER_SHIFT = 16
DIRTY_SHIFT = 8
ALL_SECTORS = (1 << DIRTY_SHIFT) - 1
TILE_BITS = 22
MOST_TILES = 1 << TILE_BITS
TILE_MASK = MOST_TILES - 1
# Numbers of uses come again after so many; by then no line tells of the first.
USE_NUMBERS = (1 << 25) - 1

PAGE_SHIFT = 4
PAGE_LINES = 1 << PAGE_SHIFT
BUCKET_PAGES = 8
# Neighbouring pages are in neighbouring buckets, this many.
NEIGHBOURS_SHIFT = 3

# Entries of a set of the table that finds tiles by their geometry: low bits of the address, and place.
SET_TILES = 4
SIGNATURE_MASK = (1 << 40) - 1

SEGMENT_SHIFT = 25


@inlined
def use_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """Use the lines of a tile; returns how many of its bytes were not there (of a store: not dirty).

    ``L2_READ_BYTES`` and ``L2_WRITTEN_BYTES`` then say what DRAM has to move: every sector that becomes valid is read,
    unless all of it is stored; every sector that becomes dirty is written, whenever that is.
    """
    state.shared[L2_MISSING_BYTES] = 0
    state.shared[L2_READ_BYTES] = 0
    state.shared[L2_WRITTEN_BYTES] = 0
    tile = find_tile(state, address, segment, count1, stride1, count2, stride2)
    if tile and (state.tiles[tile + TILE_IS_DIRTY] or not store):
        unlink(state, tile)
        link_newest(state, tile)
        return 0
    return use_lines(state, address, segment, count1, stride1, count2, stride2, store)


@inlined
def tile_set(state: ReplayState, address: int) -> int:
    """The first entry of the set in which a tile of this address stands."""
    key = (address >> 5 & 0xFFFFFFF) ^ address >> 33
    return (key * 0x9E3779B1 >> 24 & state.shared[TILE_SETS] - 1) * SET_TILES


@inlined
def find_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int
) -> int:
    """The row of a tile that has all of its lines; 0 if there is none."""
    first = tile_set(state, address)
    for entry in range(first, first + SET_TILES):
        if state.tile_table[entry] >> TILE_BITS == address & SIGNATURE_MASK:
            tile = (state.tile_table[entry] & TILE_MASK) * TILE_WORDS
            if (
                state.tiles[tile + TILE_USE]
                and state.tiles[tile + TILE_OWNED] == state.tiles[tile + TILE_LINES]
                and state.tiles[tile + TILE_ADDRESS] == address
                and state.tiles[tile + TILE_SEGMENT] == segment
                and state.tiles[tile + TILE_COUNT1] == count1
                and state.tiles[tile + TILE_STRIDE1] == stride1
                and state.tiles[tile + TILE_COUNT2] == count2
                and state.tiles[tile + TILE_STRIDE2] == stride2
            ):
                return tile
    return 0


def remember_tile(state: ReplayState, address: int, tile: int) -> None:
    """Let a tile be found: in the place of one that is forgotten or no longer whole, or else of any."""
    first = tile_set(state, address)
    place = first + state.shared[L2_USES] % SET_TILES
    for entry in range(first, first + SET_TILES):
        other = (state.tile_table[entry] & TILE_MASK) * TILE_WORDS
        if not state.tiles[other + TILE_USE] or state.tiles[other + TILE_OWNED] < state.tiles[other + TILE_LINES]:
            place = entry
    state.tile_table[place] = (address & SIGNATURE_MASK) << TILE_BITS | tile // TILE_WORDS


# The list of tiles in the order of their latest use. Row 0 is no tile, but both ends of the list.


@inlined
def unlink(state: ReplayState, tile: int) -> None:
    """Take a tile out of the list."""
    older = state.tiles[tile + TILE_OLDER]
    newer = state.tiles[tile + TILE_NEWER]
    state.tiles[older + TILE_NEWER] = newer
    state.tiles[newer + TILE_OLDER] = older


@inlined
def link_newest(state: ReplayState, tile: int) -> None:
    """Put a tile at the end of those that were used last."""
    newest = state.tiles[TILE_OLDER]
    state.tiles[tile + TILE_OLDER] = newest
    state.tiles[tile + TILE_NEWER] = 0
    state.tiles[newest + TILE_NEWER] = tile
    state.tiles[TILE_OLDER] = tile


def new_tile(state: ReplayState) -> int:
    """A row for a tile."""
    if not state.shared[FREED_TILE]:
        if state.shared[FRESH_TILES] < MOST_TILES:
            state.shared[FRESH_TILES] += 1
            return (state.shared[FRESH_TILES] - 1) * TILE_WORDS
        # More tiles than lines have room for their numbers: the oldest one leaves early.
        oldest = state.tiles[TILE_NEWER]
        state.shared[L2_HELD_LINES] -= state.tiles[oldest + TILE_OWNED]
        forget_tile(state, oldest)
    tile = state.shared[FREED_TILE]
    state.shared[FREED_TILE] = state.tiles[tile + TILE_NEWER]
    return tile


@inlined
def forget_tile(state: ReplayState, tile: int) -> None:
    """A tile has no lines any more."""
    unlink(state, tile)
    state.tiles[tile + TILE_USE] = 0
    state.tiles[tile + TILE_NEWER] = state.shared[FREED_TILE]
    state.shared[FREED_TILE] = tile


def use_lines(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """Use a tile line by line."""
    tile = new_tile(state)
    use = state.shared[L2_USES] % USE_NUMBERS + 1
    state.shared[L2_USES] += 1
    state.tiles[tile + TILE_USE] = use
    state.tiles[tile + TILE_ADDRESS] = address
    state.tiles[tile + TILE_SEGMENT] = segment
    state.tiles[tile + TILE_COUNT1] = count1
    state.tiles[tile + TILE_STRIDE1] = stride1
    state.tiles[tile + TILE_COUNT2] = count2
    state.tiles[tile + TILE_STRIDE2] = stride2
    state.tiles[tile + TILE_IS_DIRTY] = store
    state.tiles[tile + TILE_OWNED] = 0
    state.tiles[tile + TILE_DROPPED] = 0
    owner = use << TILE_BITS | tile // TILE_WORDS
    for plane in range(count2):
        start = address + plane * stride2
        for _ in range(count1):
            use_segment(state, tile, owner, start, segment, store)
            start += stride1
    state.tiles[tile + TILE_LINES] = state.tiles[tile + TILE_OWNED]
    link_newest(state, tile)
    remember_tile(state, address, tile)
    while state.shared[L2_HELD_LINES] > state.timing[L2_LINES]:
        excess = state.shared[L2_HELD_LINES] - state.timing[L2_LINES]
        oldest = state.tiles[TILE_NEWER]
        if state.tiles[oldest + TILE_OWNED] <= excess:
            state.shared[L2_HELD_LINES] -= state.tiles[oldest + TILE_OWNED]
            forget_tile(state, oldest)
        else:
            drop_lines(state, oldest, excess)
            state.shared[L2_HELD_LINES] -= excess
    return state.shared[L2_MISSING_BYTES]


@inlined
def use_segment(state: ReplayState, tile: int, owner: int, start: int, size: int, store: int) -> None:
    """Use the lines of consecutive bytes."""
    granule_shift = state.timing[GRANULE_SHIFT]
    line_shift = state.timing[LINE_SHIFT]
    first = start >> line_shift
    last = (start + size - 1) >> line_shift
    line = first
    while line <= last:
        page = line >> PAGE_SHIFT
        begin = page << PAGE_SHIFT
        end = min(last + 1, begin + PAGE_LINES)
        place = find_page(state, page)
        is_fresh = 0
        if place < 0:
            place = claim_page(state, page)
            is_fresh = 1
            if place < 0:
                return
        elif state.page_owners[place] and not is_alive(state, state.page_owners[place]):
            is_fresh = 1
        lines = place << PAGE_SHIFT
        if is_fresh and begin << line_shift >= start and begin + PAGE_LINES << line_shift <= start + size:
            use_fresh_page(state, tile, owner, lines, store)
            state.page_owners[place] = owner
            line = end
            continue
        if is_fresh:
            for other in range(lines, lines + PAGE_LINES):
                state.lines[other] = 0
            state.page_owners[place] = owner
        elif state.page_owners[place] != owner:
            state.page_owners[place] = 0
        sectors = 1 << line_shift - granule_shift
        while line < end:
            wanted = (1 << sectors) - 1
            if line == first:
                wanted &= -(1 << (start >> granule_shift) - line * sectors)
            if line == last:
                wanted &= (2 << (start + size - 1 >> granule_shift) - line * sectors) - 1
            use_line(state, tile, owner, lines + line - begin, line << line_shift, wanted, start, start + size, store)
            line += 1


@inlined
def use_fresh_page(state: ReplayState, tile: int, owner: int, lines: int, store: int) -> None:
    """Use all of a page none of whose lines is there."""
    valid = (1 << (1 << state.timing[LINE_SHIFT] - state.timing[GRANULE_SHIFT])) - 1
    word = owner << OWNER_SHIFT | valid | (valid << DIRTY_SHIFT if store else 0)
    for line in range(lines, lines + PAGE_LINES):
        state.lines[line] = word
    state.tiles[tile + TILE_OWNED] += PAGE_LINES
    state.shared[L2_HELD_LINES] += PAGE_LINES
    state.shared[L2_MISSING_BYTES] += PAGE_LINES << state.timing[LINE_SHIFT]
    state.shared[L2_WRITTEN_BYTES if store else L2_READ_BYTES] += PAGE_LINES << state.timing[LINE_SHIFT]


@inlined
def use_line(
    state: ReplayState, tile: int, owner: int, place: int, address: int, wanted: int, start: int, stop: int, store: int
) -> None:
    """Use the wanted sectors of the line of an address, for bytes from start to stop."""
    word = state.lines[place]
    before = word >> OWNER_SHIFT
    if before != owner:
        state.tiles[tile + TILE_OWNED] += 1
        if is_alive(state, before):
            leave_tile(state, (before & TILE_MASK) * TILE_WORDS)
        else:
            word = 0
            state.shared[L2_HELD_LINES] += 1
    valid = word & ALL_SECTORS
    dirty = word >> DIRTY_SHIFT & ALL_SECTORS
    absent = wanted & ~(dirty if store else valid)
    if absent:
        granule = 1 << state.timing[GRANULE_SHIFT]
        sector = address
        rest = absent
        while rest:
            if rest & 1:
                covered = min(stop, sector + granule) - max(start, sector)
                state.shared[L2_MISSING_BYTES] += covered
                if store:
                    state.shared[L2_WRITTEN_BYTES] += granule
                    # What a store leaves of a sector has to be there.
                    if covered < granule and not valid & (1 << (sector - address >> state.timing[GRANULE_SHIFT])):
                        state.shared[L2_READ_BYTES] += granule
                else:
                    state.shared[L2_READ_BYTES] += granule
            rest >>= 1
            sector += granule
    state.lines[place] = owner << OWNER_SHIFT | (dirty | (wanted if store else 0)) << DIRTY_SHIFT | valid | wanted


@inlined
def is_alive(state: ReplayState, owner: int) -> int:
    """Whether the tile that a line belonged to when it was used last is still in the list."""
    return state.tiles[(owner & TILE_MASK) * TILE_WORDS + TILE_USE] == owner >> TILE_BITS


@inlined
def leave_tile(state: ReplayState, tile: int) -> None:
    """A line of a tile now belongs to another one."""
    state.tiles[tile + TILE_OWNED] -= 1
    if not state.tiles[tile + TILE_OWNED]:
        forget_tile(state, tile)


def drop_lines(state: ReplayState, tile: int, count: int) -> None:
    """Let the first lines that a tile still has leave the L2; it has more."""
    owner = state.tiles[tile + TILE_USE] << TILE_BITS | tile // TILE_WORDS
    line_shift = state.timing[LINE_SHIFT]
    segment = state.tiles[tile + TILE_DROPPED] >> SEGMENT_SHIFT
    skipped = state.tiles[tile + TILE_DROPPED] & (1 << SEGMENT_SHIFT) - 1
    left = count
    while left:
        plane = segment // state.tiles[tile + TILE_COUNT1]
        row = segment - plane * state.tiles[tile + TILE_COUNT1]
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        start += row * state.tiles[tile + TILE_STRIDE1]
        first = start >> line_shift
        last = start + state.tiles[tile + TILE_SEGMENT] - 1 >> line_shift
        line = first + skipped
        while line <= last and left:
            place = find_page(state, line >> PAGE_SHIFT)
            if place < 0:
                line = (line >> PAGE_SHIFT) + 1 << PAGE_SHIFT
                continue
            place = (place << PAGE_SHIFT) + (line & PAGE_LINES - 1)
            if state.lines[place] >> OWNER_SHIFT == owner:
                state.lines[place] = 0
                left -= 1
            line += 1
        if line <= last:
            skipped = line - first
        else:
            skipped = 0
            segment += 1
    state.tiles[tile + TILE_DROPPED] = segment << SEGMENT_SHIFT | skipped
    state.tiles[tile + TILE_OWNED] -= count


# Pages.


@inlined
def page_bucket(state: ReplayState, page: int) -> int:
    """The first entry of the bucket in which a page stands."""
    key = (page >> NEIGHBOURS_SHIFT & 0x3FFFFFFF) ^ page >> 33
    spread = key * 0x9E3779B1 >> 20 & state.shared[PAGE_BUCKETS] - 1
    return (spread ^ page & (1 << NEIGHBOURS_SHIFT) - 1) * BUCKET_PAGES


@inlined
def find_page(state: ReplayState, page: int) -> int:
    """The entry of a page; -1 if there is none."""
    first = page_bucket(state, page)
    for place in range(first, first + BUCKET_PAGES):
        if state.pages[place] == page + 1:
            return place
    return -1


def claim_page(state: ReplayState, page: int) -> int:
    """An entry for a page that has none; -1 if the table has to be larger."""
    first = page_bucket(state, page)
    for place in range(first, first + BUCKET_PAGES):
        if not state.pages[place] or is_empty_page(state, place):
            state.pages[place] = page + 1
            return place
    state.shared[STATUS] = PAGES_FULL
    return -1


@inlined
def is_empty_page(state: ReplayState, place: int) -> int:
    """Whether no line of a page is in the L2."""
    if state.page_owners[place]:
        return not is_alive(state, state.page_owners[place])
    for line in range(place << PAGE_SHIFT, place + 1 << PAGE_SHIFT):
        if is_alive(state, state.lines[line] >> OWNER_SHIFT):
            return 0
    return 1
