"""Families of tiles, no two of which have a line in common: most tiles of most launches are of one.

The tiles of a family have one geometry of whole lines. Their segments lie in the columns of a grid as wide as their
stride, and in each column tiles begin at every so many rows: so two of them are the same tile, or share no line. And
no tile of another family, or of none, comes into the regions of memory where they lie.

In the subset of :mod:`mlutriton.simulator.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.machine_code import inlined
from mlutriton.simulator.replay_state import (
    FAMILIES,
    HAS_BROKEN_FAMILY,
    REGIONS,
    TILE_ADDRESS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_SEGMENT,
    TILE_STRIDE1,
    TILE_STRIDE2,
    ReplayState,
)
from mlutriton.simulator.timing import LINE_SHIFT

MOST_FAMILIES = 16
MOST_COLUMNS = 256
# A family: whether it is one no longer, its geometry, the address of its first tile, and for each column of the grid in
# which row, modulo the rows of a tile, its tiles begin, plus one; 0 before the first.
(BROKEN, SEGMENT, COUNT1, STRIDE1, ORIGIN, FIRST_COLUMN) = range(6)
FAMILY_WORDS = FIRST_COLUMN + MOST_COLUMNS
# No array begins in a region in which another one ends. Regions a table apart are taken for the same. What has tiles in
# a region is in a byte of a word: the number of a family, 0 for nothing yet, or
NO_FAMILY = 127
REGION_SHIFT = 14
REGIONS_SHIFT = 3
ALL_REGIONS = 0x7F7F7F7F7F7F7F7F
EVERY_REGION = 0x0101010101010101


def family_of(state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int) -> int:
    """The number of a tile's family, perhaps a new one; 0 if it can be of none."""
    width = segment
    if count1 > 1:
        width = stride1
    if count2 > 1 or (address | segment | width) & (1 << state.timing[LINE_SHIFT]) - 1 or width < segment:
        return 0
    columns = width // segment
    if columns * segment != width or columns > MOST_COLUMNS:
        return 0
    for number in range(1, state.shared[FAMILIES] + 1):
        family = number * FAMILY_WORDS
        if (
            state.families[family + SEGMENT] == segment
            and state.families[family + COUNT1] == count1
            and state.families[family + STRIDE1] == width
            and not state.families[family + BROKEN]
            and joins_family(state, family, address, columns)
        ):
            return number
    if state.shared[FAMILIES] == MOST_FAMILIES:
        return 0
    state.shared[FAMILIES] += 1
    family = state.shared[FAMILIES] * FAMILY_WORDS
    for place in range(family + BROKEN, family + FIRST_COLUMN + columns):
        state.families[place] = 0
    state.families[family + SEGMENT] = segment
    state.families[family + COUNT1] = count1
    state.families[family + STRIDE1] = width
    state.families[family + ORIGIN] = address
    joins_family(state, family, address, columns)
    return state.shared[FAMILIES]


@inlined
def joins_family(state: ReplayState, family: int, address: int, columns: int) -> int:
    """Whether a tile of a family's geometry lies in its grid; of a column without tiles it is the first one."""
    distance = address - state.families[family + ORIGIN]
    cell = distance // state.families[family + SEGMENT]
    if cell * state.families[family + SEGMENT] != distance:
        return 0
    row = cell // columns
    column = family + FIRST_COLUMN + cell - row * columns
    phase = row % state.families[family + COUNT1] + 1
    if not state.families[column]:
        state.families[column] = phase
    return state.families[column] == phase


def claim_regions(state: ReplayState, family: int, tile: int) -> int:
    """Claim the regions of a tile for its family, or for none if that is 0; returns whether one was not to be had.

    A family that loses a region is one no longer; ``HAS_BROKEN_FAMILY`` is set.
    """
    conflict = 0
    segment = state.tiles[tile + TILE_SEGMENT]
    count1 = state.tiles[tile + TILE_COUNT1]
    stride1 = state.tiles[tile + TILE_STRIDE1]
    if 0 <= stride1 <= 1 << REGION_SHIFT:
        segment += (count1 - 1) * stride1
        count1 = 1
    owner = family if family else NO_FAMILY
    for plane in range(state.tiles[tile + TILE_COUNT2]):
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        for _ in range(count1):
            region = start >> REGION_SHIFT
            last = start + segment - 1 >> REGION_SHIFT
            while region <= last:
                word = region >> REGIONS_SHIFT
                stop = min(last + 1, word + 1 << REGIONS_SHIFT)
                mask = (
                    ALL_REGIONS
                    >> (8 << REGIONS_SHIFT) - (stop - region << 3)
                    << (region - (word << REGIONS_SHIFT) << 3)
                )
                place = word & state.shared[REGIONS] - 1
                claimed = state.regions[place] & mask
                if claimed != (owner * EVERY_REGION & mask):
                    if claimed:
                        conflict |= contend_for_regions(state, owner, place, region, stop)
                    else:
                        state.regions[place] |= owner * EVERY_REGION & mask
                region = stop
            start += stride1
    return conflict


def contend_for_regions(state: ReplayState, owner: int, place: int, region: int, stop: int) -> int:
    """Claim regions of one word, some of which are claimed; returns whether one was not to be had."""
    conflict = 0
    for each in range(region, stop):
        shift = (each & (1 << REGIONS_SHIFT) - 1) << 3
        other = state.regions[place] >> shift & NO_FAMILY
        if other == owner:
            continue
        state.regions[place] |= (owner if not other else NO_FAMILY) << shift
        if other:
            conflict = 1
            if other != NO_FAMILY and not state.families[other * FAMILY_WORDS + BROKEN]:
                state.families[other * FAMILY_WORDS + BROKEN] = 1
                state.shared[HAS_BROKEN_FAMILY] = 1
    return conflict
