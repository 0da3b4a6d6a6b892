"""The L2: which lines it holds, and which leave when a transfer brings in more than fit, those used longest ago.

Programs of a grid use the same tiles over and over, and a tile has many lines. So lines are known by tile, and the
order of use is a list of tiles. A tile that has all of its lines is used again without a look at them. For the others:

* *Whole tiles* are those of a family (:mod:`mlutriton.simulator.replay.tile_families`), which share no line with any
  other tile. Then how many of its lines are still there, its last ones, says all about a tile.
* Where nothing ever has to leave, tiles that are no whole lines make *stretches*
  (:mod:`mlutriton.simulator.replay.stretches`), if each begins where another one ends.
* Of other tiles, a map of memory (:mod:`mlutriton.simulator.replay.sector_map`) says what is there. Where tiles share
  lines and lines have to leave, it also says whose each line is: the tile's that used it last.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.sector_map import drop_segment, enter_segment, own_pages, own_segment, use_segment
from mlutriton.simulator.replay.state import (
    FREED_TILE,
    FRESH_TILES,
    HAS_BROKEN_FAMILY,
    HAS_OWNERS,
    HAS_SHARED_LINES,
    L2_HELD_LINES,
    L2_MISSING_BYTES,
    L2_READ_BYTES,
    L2_WRITTEN_BYTES,
    LINES_TO_DROP,
    MOST_TILE_BUCKETS,
    STATUS,
    STRETCHES,
    TILE_ADDRESS,
    TILE_BUCKETS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_DIRTY,
    TILE_DROPPED,
    TILE_FAMILY,
    TILE_LINES,
    TILE_NEWER,
    TILE_OWNED,
    TILE_ROWS,
    TILE_SEGMENT,
    TILE_STRIDE1,
    TILE_STRIDE2,
    TILE_WORDS,
    ReplayState,
)
from mlutriton.simulator.replay.stretches import GIVEN_UP, MISFIT, give_stretches_up, use_stretch
from mlutriton.simulator.replay.tile_families import BY_MAP, claim_regions, family_of, is_left
from mlutriton.simulator.replay.tile_list import add_buckets, enter_tile, find_tile, forget_tile, link_newest, unlink
from mlutriton.simulator.replay.timing import L2_LINES, LINE_SHIFT

# TILE_DROPPED: number of a segment, and of its first line that may be left.
SEGMENT_SHIFT = 25
MOST_TILES = 1 << 22
# TILE_LINES, while owners are looked for, of a tile that has lost some.
SOME_LINES = -1


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
    if (
        state.shared[STRETCHES] != GIVEN_UP
        and count1 * count2 == 1
        and (address | segment) & (1 << state.timing[LINE_SHIFT]) - 1
    ):
        missing = use_stretch(state, address, segment, store)
        if missing != MISFIT:
            return missing
    tile = find_tile(state, address, segment, count1, stride1, count2, stride2)
    if not tile:
        tile = new_tile(state, address, segment, count1, stride1, count2, stride2)
    else:
        unlink(state, tile)
        lines = state.tiles[tile + TILE_LINES]
        if state.tiles[tile + TILE_OWNED] == lines and (not store or state.tiles[tile + TILE_DIRTY] == lines):
            link_newest(state, tile)
            state.shared[L2_READ_BYTES] = 0
            state.shared[L2_WRITTEN_BYTES] = 0
            return 0
    if state.tiles[tile + TILE_FAMILY]:
        return use_whole(state, tile, store)
    return use_lines(state, tile, store)


def new_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int
) -> int:
    """A tile that has no lines yet and is not in the list."""
    tile = free_row(state)
    enter_tile(state, tile, address, segment, count1, stride1, count2, stride2)
    state.tiles[tile + TILE_OWNED] = 0
    state.tiles[tile + TILE_DIRTY] = 0
    state.tiles[tile + TILE_LINES] = segment * count1 >> state.timing[LINE_SHIFT]
    family = family_of(state, address, segment, count1, stride1, count2)
    has_conflict = claim_regions(state, family & ~BY_MAP, tile)
    state.tiles[tile + TILE_FAMILY] = 0 if has_conflict or family >= BY_MAP else family
    if state.shared[HAS_BROKEN_FAMILY]:
        spell_out_broken_families(state)
    return tile


def free_row(state: ReplayState) -> int:
    """A row for a tile."""
    if not state.shared[FREED_TILE]:
        if state.shared[FRESH_TILES] < state.shared[TILE_ROWS]:
            # Chains of two are looked through in less time than it takes to enter all tiles anew.
            if state.shared[FRESH_TILES] >> 1 == state.shared[TILE_BUCKETS] < state.shared[MOST_TILE_BUCKETS]:
                add_buckets(state)
            state.shared[FRESH_TILES] += 1
            return (state.shared[FRESH_TILES] - 1) * TILE_WORDS
        # Tiles all of whose lines belong to others need no row.
        if not state.shared[HAS_OWNERS]:
            find_owners(state)
        if not state.shared[FREED_TILE]:
            # More tiles than there is memory for: the oldest one leaves early.
            drop_oldest(state, state.tiles[state.tiles[TILE_NEWER] + TILE_OWNED])
    tile = state.shared[FREED_TILE]
    state.shared[FREED_TILE] = state.tiles[tile + TILE_NEWER]
    return tile


def make_room(state: ReplayState) -> None:
    """Let the lines that were used longest ago leave, until the rest fit."""
    while state.shared[L2_HELD_LINES] > state.timing[L2_LINES] and not state.shared[STATUS]:
        if state.shared[HAS_SHARED_LINES] and not state.shared[HAS_OWNERS]:
            find_owners(state)
        drop_oldest(state, state.shared[L2_HELD_LINES] - state.timing[L2_LINES])


def drop_oldest(state: ReplayState, most: int) -> None:
    """Let lines of the tile leave that was used longest ago, all or so many."""
    tile = state.tiles[TILE_NEWER]
    lines = min(state.tiles[tile + TILE_OWNED], most)
    if not state.tiles[tile + TILE_FAMILY]:
        drop_lines(state, tile, lines)
    state.tiles[tile + TILE_OWNED] -= lines
    state.tiles[tile + TILE_DIRTY] = min(state.tiles[tile + TILE_DIRTY], state.tiles[tile + TILE_OWNED])
    state.shared[L2_HELD_LINES] -= lines
    if not state.tiles[tile + TILE_OWNED]:
        forget_tile(state, tile)


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
    """Let the map say what is there of the tiles that share memory with others."""
    state.shared[HAS_BROKEN_FAMILY] = 0
    tile = state.tiles[TILE_NEWER]
    while tile:
        if is_left(state, tile):
            spell_out(state, tile)
        tile = state.tiles[tile + TILE_NEWER]


def spell_out(state: ReplayState, tile: int) -> None:
    """Enter the lines of a whole tile into the map."""
    state.tiles[tile + TILE_FAMILY] = 0
    segment = state.tiles[tile + TILE_SEGMENT] >> state.timing[LINE_SHIFT]
    gone = state.tiles[tile + TILE_LINES] - state.tiles[tile + TILE_OWNED]
    clean = state.tiles[tile + TILE_LINES] - state.tiles[tile + TILE_DIRTY]
    state.tiles[tile + TILE_DROPPED] = gone // segment << SEGMENT_SHIFT | gone % segment
    line = state.tiles[tile + TILE_ADDRESS] >> state.timing[LINE_SHIFT]
    for _ in range(state.tiles[tile + TILE_COUNT1]):
        enter_segment(state, tile, line + max(gone, 0), line + min(clean, segment), 0)
        enter_segment(state, tile, line + max(clean, 0), line + segment, 1)
        gone -= segment
        clean -= segment
        line += state.tiles[tile + TILE_STRIDE1] >> state.timing[LINE_SHIFT]


# Tiles that go by the map.


def use_lines(state: ReplayState, tile: int, store: int) -> int:
    """Use a tile of no family, which is in the list no longer or not yet."""
    if state.shared[STRETCHES] != GIVEN_UP:
        give_stretches_up(state)
    state.shared[L2_MISSING_BYTES] = 0
    state.shared[L2_READ_BYTES] = 0
    state.shared[L2_WRITTEN_BYTES] = 0
    line_shift = state.timing[LINE_SHIFT]
    segment = state.tiles[tile + TILE_SEGMENT]
    count1 = state.tiles[tile + TILE_COUNT1]
    stride1 = state.tiles[tile + TILE_STRIDE1]
    lines = 0
    new_lines = 0
    for plane in range(state.tiles[tile + TILE_COUNT2]):
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        for _ in range(count1):
            new_lines += use_segment(state, tile, start, segment, store)
            lines += (start + segment - 1 >> line_shift) - (start >> line_shift) + 1
            start += stride1
    if state.shared[HAS_OWNERS]:
        lines = state.tiles[tile + TILE_OWNED]
    elif new_lines != lines - state.tiles[tile + TILE_OWNED]:
        state.shared[HAS_SHARED_LINES] = 1
    state.tiles[tile + TILE_OWNED] = lines
    state.tiles[tile + TILE_LINES] = lines
    state.tiles[tile + TILE_DIRTY] = lines if store else 0
    state.tiles[tile + TILE_DROPPED] = 0
    state.shared[L2_HELD_LINES] += new_lines
    link_newest(state, tile)
    make_room(state)
    return state.shared[L2_MISSING_BYTES]


def drop_lines(state: ReplayState, tile: int, count: int) -> None:
    """Let the first lines that a tile still has leave the L2; it has so many."""
    line_shift = state.timing[LINE_SHIFT]
    count1 = state.tiles[tile + TILE_COUNT1]
    number = state.tiles[tile + TILE_DROPPED] >> SEGMENT_SHIFT
    skipped = state.tiles[tile + TILE_DROPPED] & (1 << SEGMENT_SHIFT) - 1
    state.shared[LINES_TO_DROP] = count
    while number < count1 * state.tiles[tile + TILE_COUNT2]:
        plane = number // count1
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        start += (number - plane * count1) * state.tiles[tile + TILE_STRIDE1]
        first = start >> line_shift
        last = start + state.tiles[tile + TILE_SEGMENT] - 1 >> line_shift
        skipped = drop_segment(state, tile, first + skipped, last + 1) - first
        if not state.shared[LINES_TO_DROP]:
            break
        number += 1
        skipped = 0
    state.tiles[tile + TILE_DROPPED] = number << SEGMENT_SHIFT | skipped


def find_owners(state: ReplayState) -> None:
    """From now on, know whose each line is that the map has: tiles take theirs in the order of use."""
    state.shared[HAS_OWNERS] = 1
    tile = state.tiles[TILE_NEWER]
    while tile:
        if not state.tiles[tile + TILE_FAMILY]:
            state.tiles[tile + TILE_DIRTY] = state.tiles[tile + TILE_DIRTY] == state.tiles[tile + TILE_LINES]
            if state.tiles[tile + TILE_OWNED] != state.tiles[tile + TILE_LINES]:
                state.tiles[tile + TILE_LINES] = SOME_LINES
            state.tiles[tile + TILE_OWNED] = 0
        tile = state.tiles[tile + TILE_NEWER]
    own_pages(state)
    tile = state.tiles[TILE_NEWER]
    while tile:
        if not state.tiles[tile + TILE_FAMILY]:
            if state.tiles[tile + TILE_OWNED] != state.tiles[tile + TILE_LINES]:
                take_segments(state, tile)
            lines = state.tiles[tile + TILE_OWNED]
            state.tiles[tile + TILE_LINES] = lines + 1 if state.tiles[tile + TILE_LINES] == SOME_LINES else lines
            state.tiles[tile + TILE_DIRTY] = lines if state.tiles[tile + TILE_DIRTY] else 0
        tile = state.tiles[tile + TILE_NEWER]


def take_segments(state: ReplayState, tile: int) -> None:
    """Let a tile own all of its lines that are there."""
    for plane in range(state.tiles[tile + TILE_COUNT2]):
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        for _ in range(state.tiles[tile + TILE_COUNT1]):
            own_segment(state, tile, start, state.tiles[tile + TILE_SEGMENT])
            start += state.tiles[tile + TILE_STRIDE1]
