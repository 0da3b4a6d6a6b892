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
# No array begins in a region in which another one ends. Regions a table apart are taken for the same.
REGION_SHIFT = 14
NO_FAMILY = -1


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
    mask = state.shared[REGIONS] - 1
    for plane in range(state.tiles[tile + TILE_COUNT2]):
        start = state.tiles[tile + TILE_ADDRESS] + plane * state.tiles[tile + TILE_STRIDE2]
        for _ in range(count1):
            for region in range(start >> REGION_SHIFT, (start + segment - 1 >> REGION_SHIFT) + 1):
                other = state.regions[region & mask]
                if other == (family if family else NO_FAMILY):
                    continue
                state.regions[region & mask] = NO_FAMILY
                if other > 0:
                    conflict = 1
                    if not state.families[other * FAMILY_WORDS + BROKEN]:
                        state.families[other * FAMILY_WORDS + BROKEN] = 1
                        state.shared[HAS_BROKEN_FAMILY] = 1
                elif other == NO_FAMILY:
                    conflict = 1
                elif family:
                    state.regions[region & mask] = family
            start += stride1
    return conflict
