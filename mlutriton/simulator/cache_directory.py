"""The L2: which lines it holds, and which leave when a transfer brings in more than fit, those used longest ago.

Programs of a grid use the same tiles over and over, and a tile has many lines. So every line belongs to the tile that
used it last, and the order of use is a list of tiles. What happens to a tile as a whole takes no look at its lines:

* *Whole tiles* are those of a family (:mod:`mlutriton.simulator.tile_families`), which share no line with any other
  tile. Then how many of its lines are still there, its last ones, says all about a tile.
* Of other tiles, lines are visited one by one, unless the tile still has all of them.

Lines of such tiles are found by their page, a run of consecutive lines, in a hash table. A page stays there until room
is needed and none of its lines is in the L2; what lines of a forgotten tile say is recognized by the number of its use.

In the subset of :mod:`mlutriton.simulator.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.machine_code import inlined
from mlutriton.simulator.replay_state import (
    FREED_TILE,
    FRESH_TILES,
    HAS_BROKEN_FAMILY,
    L2_HELD_LINES,
    L2_MISSING_BYTES,
    L2_READ_BYTES,
    L2_USES,
    L2_WRITTEN_BYTES,
    PAGE_BUCKETS,
    PAGES_ARE_CLEAR,
    PAGES_FULL,
    STATUS,
    TILE_ADDRESS,
    TILE_BUCKETS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_DIRTY,
    TILE_DROPPED,
    TILE_FAMILY,
    TILE_LINES,
    TILE_NEWER,
    TILE_NEXT,
    TILE_OLDER,
    TILE_OWNED,
    TILE_SEGMENT,
    TILE_STRIDE1,
    TILE_STRIDE2,
    TILE_USE,
    TILE_WORDS,
    ReplayState,
)
from mlutriton.simulator.tile_families import BROKEN, FAMILY_WORDS, claim_regions, family_of
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
# Owners of pages: nobody yet, which no tile ever was; several tiles, which row 0 of the tiles stands for.
NOBODY = 1 << TILE_BITS
SEVERAL = -1 << TILE_BITS

PAGE_SHIFT = 4
PAGE_LINES = 1 << PAGE_SHIFT
BUCKET_PAGES = 8
# Neighbouring pages are in neighbouring buckets, this many.
NEIGHBOURS_SHIFT = 3

# TILE_DROPPED: number of a segment, and of its first line that may be left.
SEGMENT_SHIFT = 25


@inlined
def use_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """Use the lines of a tile; returns how many of its bytes were not there (of a store: not dirty).

    ``L2_READ_BYTES`` and ``L2_WRITTEN_BYTES`` then say what DRAM has to move: every sector that becomes valid is read,
    unless all of it is stored; every sector that becomes dirty is written, whenever that is.
    """
    # One tile, one name.
    if count1 == 1:
        stride1 = 0
    if count2 == 1:
        stride2 = 0
    tile = find_tile(state, address, segment, count1, stride1, count2, stride2)
    if tile:
        lines = state.tiles[tile + TILE_LINES]
        if state.tiles[tile + TILE_OWNED] == lines and (not store or state.tiles[tile + TILE_DIRTY] == lines):
            unlink(state, tile)
            link_newest(state, tile)
            state.shared[L2_READ_BYTES] = 0
            state.shared[L2_WRITTEN_BYTES] = 0
            return 0
        if state.tiles[tile + TILE_FAMILY]:
            unlink(state, tile)
            return use_whole(state, tile, store)
    return use_new_tile(state, address, segment, count1, stride1, count2, stride2, store)


@inlined
def tile_bucket(state: ReplayState, address: int) -> int:
    """The entry of the table in which the chain of tiles with such an address begins."""
    key = (address >> 5 & 0xFFFFFFF) ^ address >> 33
    return key * 0x9E3779B1 >> 24 & state.shared[TILE_BUCKETS] - 1


@inlined
def find_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int
) -> int:
    """The row of the tile, of two alike the later one; 0 if there is none."""
    tile = state.tile_table[tile_bucket(state, address)]
    while tile:
        if (
            state.tiles[tile + TILE_ADDRESS] == address
            and state.tiles[tile + TILE_SEGMENT] == segment
            and state.tiles[tile + TILE_COUNT1] == count1
            and state.tiles[tile + TILE_STRIDE1] == stride1
            and state.tiles[tile + TILE_COUNT2] == count2
            and state.tiles[tile + TILE_STRIDE2] == stride2
        ):
            return tile
        tile = state.tiles[tile + TILE_NEXT]
    return 0


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


def free_row(state: ReplayState) -> int:
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


def forget_tile(state: ReplayState, tile: int) -> None:
    """A tile has no lines any more."""
    unlink(state, tile)
    bucket = tile_bucket(state, state.tiles[tile + TILE_ADDRESS])
    other = state.tile_table[bucket]
    if other == tile:
        state.tile_table[bucket] = state.tiles[tile + TILE_NEXT]
    else:
        while state.tiles[other + TILE_NEXT] != tile:
            other = state.tiles[other + TILE_NEXT]
        state.tiles[other + TILE_NEXT] = state.tiles[tile + TILE_NEXT]
    state.tiles[tile + TILE_USE] = 0
    state.tiles[tile + TILE_NEWER] = state.shared[FREED_TILE]
    state.shared[FREED_TILE] = tile


def use_new_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int, store: int
) -> int:
    """Use a tile that has no lines, or no longer all of them, and is of no family."""
    tile = free_row(state)
    use = state.shared[L2_USES] % USE_NUMBERS + 1
    state.shared[L2_USES] += 1
    state.tiles[tile + TILE_USE] = use
    state.tiles[tile + TILE_ADDRESS] = address
    state.tiles[tile + TILE_SEGMENT] = segment
    state.tiles[tile + TILE_COUNT1] = count1
    state.tiles[tile + TILE_STRIDE1] = stride1
    state.tiles[tile + TILE_COUNT2] = count2
    state.tiles[tile + TILE_STRIDE2] = stride2
    state.tiles[tile + TILE_OWNED] = 0
    state.tiles[tile + TILE_DIRTY] = 0
    state.tiles[tile + TILE_DROPPED] = 0
    bucket = tile_bucket(state, address)
    state.tiles[tile + TILE_NEXT] = state.tile_table[bucket]
    state.tile_table[bucket] = tile
    family = family_of(state, address, segment, count1, stride1, count2)
    has_conflict = claim_regions(state, family, tile)
    if state.shared[HAS_BROKEN_FAMILY]:
        spell_out_broken_families(state)
    if family and not has_conflict:
        state.tiles[tile + TILE_FAMILY] = family
        state.tiles[tile + TILE_LINES] = segment * count1 >> state.timing[LINE_SHIFT]
        return use_whole(state, tile, store)
    clear_pages(state)
    state.tiles[tile + TILE_FAMILY] = 0
    state.shared[L2_MISSING_BYTES] = 0
    state.shared[L2_READ_BYTES] = 0
    state.shared[L2_WRITTEN_BYTES] = 0
    owner = use << TILE_BITS | tile // TILE_WORDS
    for plane in range(count2):
        start = address + plane * stride2
        for _ in range(count1):
            use_segment(state, tile, owner, start, segment, store)
            start += stride1
    lines = state.tiles[tile + TILE_OWNED]
    state.tiles[tile + TILE_LINES] = lines
    state.tiles[tile + TILE_DIRTY] = lines if store else 0
    link_newest(state, tile)
    make_room(state)
    return state.shared[L2_MISSING_BYTES]


def make_room(state: ReplayState) -> None:
    """Let the lines that were used longest ago leave, until the rest fit."""
    while state.shared[L2_HELD_LINES] > state.timing[L2_LINES]:
        excess = state.shared[L2_HELD_LINES] - state.timing[L2_LINES]
        oldest = state.tiles[TILE_NEWER]
        if state.tiles[oldest + TILE_OWNED] <= excess:
            state.shared[L2_HELD_LINES] -= state.tiles[oldest + TILE_OWNED]
            forget_tile(state, oldest)
            continue
        if not state.tiles[oldest + TILE_FAMILY]:
            drop_lines(state, oldest, excess)
        state.tiles[oldest + TILE_OWNED] -= excess
        state.tiles[oldest + TILE_DIRTY] = min(state.tiles[oldest + TILE_DIRTY], state.tiles[oldest + TILE_OWNED])
        state.shared[L2_HELD_LINES] -= excess


# Whole tiles. Those of their lines that are there are the last ones, and so are those of these that are dirty.


def use_whole(state: ReplayState, tile: int, store: int) -> int:
    """Use a tile of a family, which is in the list no longer or not yet."""
    lines = state.tiles[tile + TILE_LINES]
    absent = lines - state.tiles[tile + TILE_OWNED]
    state.tiles[tile + TILE_OWNED] = lines
    state.shared[L2_HELD_LINES] += absent
    missing = absent << state.timing[LINE_SHIFT]
    state.shared[L2_READ_BYTES] = 0 if store else missing
    state.shared[L2_WRITTEN_BYTES] = 0
    if store:
        missing = lines - state.tiles[tile + TILE_DIRTY] << state.timing[LINE_SHIFT]
        state.shared[L2_WRITTEN_BYTES] = missing
        state.tiles[tile + TILE_DIRTY] = lines
    link_newest(state, tile)
    make_room(state)
    return missing


def spell_out_broken_families(state: ReplayState) -> None:
    """Let the tiles that share memory with others go by their lines from now on."""
    clear_pages(state)
    state.shared[HAS_BROKEN_FAMILY] = 0
    tile = state.tiles[TILE_NEWER]
    while tile:
        if state.families[state.tiles[tile + TILE_FAMILY] * FAMILY_WORDS + BROKEN]:
            spell_out(state, tile)
        tile = state.tiles[tile + TILE_NEWER]


def spell_out(state: ReplayState, tile: int) -> None:
    """Enter the lines of a whole tile one by one."""
    state.tiles[tile + TILE_FAMILY] = 0
    owner = state.tiles[tile + TILE_USE] << TILE_BITS | tile // TILE_WORDS
    line_shift = state.timing[LINE_SHIFT]
    valid = (1 << (1 << line_shift - state.timing[GRANULE_SHIFT])) - 1
    left = state.tiles[tile + TILE_LINES]
    start = state.tiles[tile + TILE_ADDRESS]
    for _ in range(state.tiles[tile + TILE_COUNT1]):
        for line in range(start >> line_shift, start + state.tiles[tile + TILE_SEGMENT] >> line_shift):
            if left <= state.tiles[tile + TILE_OWNED]:
                place = page_entry(state, line >> PAGE_SHIFT)
                if place < 0:
                    return
                enter_page(state, place, owner)
                dirty = valid if left <= state.tiles[tile + TILE_DIRTY] else 0
                place = (place << PAGE_SHIFT) + (line & PAGE_LINES - 1)
                state.lines[place] = owner << OWNER_SHIFT | dirty << DIRTY_SHIFT | valid
            left -= 1
        start += state.tiles[tile + TILE_STRIDE1]


# Tiles that go by their lines.


@inlined
def use_segment(state: ReplayState, tile: int, owner: int, start: int, size: int, store: int) -> None:
    """Use the lines of consecutive bytes."""
    granule_shift = state.timing[GRANULE_SHIFT]
    line_shift = state.timing[LINE_SHIFT]
    all_sectors = (1 << (1 << line_shift - granule_shift)) - 1
    word = owner << OWNER_SHIFT | all_sectors | (all_sectors << DIRTY_SHIFT if store else 0)
    line = start >> line_shift
    last = start + size - 1 >> line_shift
    fresh = 0
    while line <= last:
        page = line >> PAGE_SHIFT
        begin = page << PAGE_SHIFT
        end = min(last + 1, begin + PAGE_LINES)
        place = page_entry(state, page)
        if place < 0:
            return
        lines = (place << PAGE_SHIFT) - begin
        if is_fresh_page(state, place) and line << line_shift >= start and end << line_shift <= start + size:
            # Nothing is there, and whole lines are wanted.
            state.page_owners[place] = owner
            for other in range(place << PAGE_SHIFT, place + 1 << PAGE_SHIFT):
                state.lines[other] = word
            if end - line < PAGE_LINES:
                for other in range(lines + begin, lines + line):
                    state.lines[other] = 0
                for other in range(lines + end, lines + begin + PAGE_LINES):
                    state.lines[other] = 0
            fresh += end - line
            line = end
            continue
        enter_page(state, place, owner)
        while line < end:
            skipped = start - (line << line_shift)
            beyond = (line + 1 << line_shift) - start - size
            if skipped <= 0 and beyond <= 0 and not state.lines[lines + line]:
                state.lines[lines + line] = word
                fresh += 1
            else:
                wanted = all_sectors
                if skipped > 0:
                    wanted &= -1 << (skipped >> granule_shift)
                if beyond > 0:
                    wanted &= all_sectors >> (beyond >> granule_shift)
                use_line(state, tile, owner, lines + line, line << line_shift, wanted, start, start + size, store)
            line += 1
    state.tiles[tile + TILE_OWNED] += fresh
    state.shared[L2_HELD_LINES] += fresh
    state.shared[L2_MISSING_BYTES] += fresh << line_shift
    state.shared[L2_WRITTEN_BYTES if store else L2_READ_BYTES] += fresh << line_shift


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


# Pages.


@inlined
def clear_pages(state: ReplayState) -> None:
    """Empty the table of pages before its first use."""
    if not state.shared[PAGES_ARE_CLEAR]:
        for place in range(state.shared[PAGE_BUCKETS] * BUCKET_PAGES):
            state.pages[place] = 0
        state.shared[PAGES_ARE_CLEAR] = 1


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


@inlined
def page_entry(state: ReplayState, page: int) -> int:
    """The entry of a page, which is one of nobody's if there was none; -1 if the table has to be larger."""
    place = page_bucket(state, page)
    stop = place + BUCKET_PAGES
    while place < stop and state.pages[place] != page + 1:
        if not state.pages[place]:
            state.pages[place] = page + 1
            state.page_owners[place] = NOBODY
            return place
        place += 1
    return place if place < stop else replaced_page(state, page)


def replaced_page(state: ReplayState, page: int) -> int:
    """The entry of a page whose bucket is full: that of one without lines; -1 if there is none."""
    first = page_bucket(state, page)
    for place in range(first, first + BUCKET_PAGES):
        if is_empty_page(state, place):
            state.pages[place] = page + 1
            state.page_owners[place] = NOBODY
            return place
    state.shared[STATUS] = PAGES_FULL
    return -1


@inlined
def is_fresh_page(state: ReplayState, place: int) -> int:
    """Whether a page is of nobody, or of one tile, which has no lines any more."""
    return not is_alive(state, state.page_owners[place])


@inlined
def enter_page(state: ReplayState, place: int, owner: int) -> None:
    """Let a tile have lines in a page, whose lines then say what they are now."""
    if is_fresh_page(state, place):
        for line in range(place << PAGE_SHIFT, place + 1 << PAGE_SHIFT):
            state.lines[line] = 0
        state.page_owners[place] = owner
    elif state.page_owners[place] != owner:
        state.page_owners[place] = SEVERAL


@inlined
def is_empty_page(state: ReplayState, place: int) -> int:
    """Whether no line of a page is in the L2."""
    if state.page_owners[place] != SEVERAL:
        return is_fresh_page(state, place)
    for line in range(place << PAGE_SHIFT, place + 1 << PAGE_SHIFT):
        if is_alive(state, state.lines[line] >> OWNER_SHIFT):
            return 0
    return 1
