"""Families of tiles, no two of which have a line in common: most tiles of most launches are of one.

The tiles of a family are made of whole lines and lie in one grid, as wide as the stride of their segments. Those that
begin in one column of it have one geometry, which fills its columns alone, and begin at every so many rows: so two of
them are the same tile, or share no line. And no tile of another family, or of none, comes into the regions of memory
where they lie, unless it is in columns that the family has left.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import (
    FAMILIES,
    HAS_BROKEN_FAMILY,
    REGIONS,
    TILE_ADDRESS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_FAMILY,
    TILE_SEGMENT,
    TILE_STRIDE1,
    TILE_STRIDE2,
    ReplayState,
)
from mlutriton.simulator.replay.timing import LINE_SHIFT

MOST_FAMILIES = 16
MOST_COLUMNS = 256
# A family: whether it is one no longer, the bytes of a row and of a column of its grid, its columns, address and
# geometry of its first tile, how often it has left columns, and of each column what the tiles that lie there have in
# common; 0 before the first.
(BROKEN, WIDTH, UNIT, COLUMNS, ORIGIN, SEGMENT, COUNT1, TIMES_LEFT, FIRST_COLUMN) = range(9)
FAMILY_WORDS = FIRST_COLUMN + MOST_COLUMNS
# What tiles have in common: in which row modulo their rows they begin, their rows, first column, and how many columns.
PHASE_SHIFT = 40
COUNT_SHIFT = 17
COLUMN_SHIFT = 9
MOST_ROWS = 1 << PHASE_SHIFT - COUNT_SHIFT
# Nothing: such columns are left to tiles that go by the map, though the memory is the family's. To leave some takes a
# look at all tiles, so that a family does not do so often.
LEFT = -1
MOST_TIMES_LEFT = 8
# No array begins in a region in which another one ends. Regions a table apart are taken for the same. What has tiles in
# a region is in a byte of a word: the number of a family, 0 for nothing yet, or
NO_FAMILY = 127
# Added to the number of a family, in whose memory a tile lies that goes by the map.
BY_MAP = 128
REGION_SHIFT = 14
REGIONS_SHIFT = 3
ALL_REGIONS = 0x7F7F7F7F7F7F7F7F
EVERY_REGION = 0x0101010101010101


def family_of(state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int) -> int:
    """The number of a tile's family, perhaps a new one; 0 if it can be of none, or with ``BY_MAP`` where it lies."""
    width = segment
    if count1 > 1:
        width = stride1
    if count2 > 1 or (address | segment | width) & (1 << state.timing[LINE_SHIFT]) - 1 or width < segment:
        return 0
    if count1 >= MOST_ROWS:
        return 0
    # Where a family has tiles, those of others would break it, though they may be like some of theirs elsewhere.
    first = 1
    last = state.shared[FAMILIES]
    owner = family_at(state, address)
    if owner:
        first = owner
        last = owner if owner != NO_FAMILY else 0
    for number in range(first, last + 1):
        family = number * FAMILY_WORDS
        if (
            state.families[family + WIDTH] == width
            and not state.families[family + BROKEN]
            and joins_family(state, number, address, segment, count1)
        ):
            return number
    if owner:
        return leave_columns(state, owner, address, width, segment) if owner != NO_FAMILY else 0
    unit = column_bytes(state, segment, width)
    columns = width // unit
    if state.shared[FAMILIES] == MOST_FAMILIES or columns > MOST_COLUMNS:
        return 0
    state.shared[FAMILIES] += 1
    family = state.shared[FAMILIES] * FAMILY_WORDS
    for place in range(family + FIRST_COLUMN, family + FIRST_COLUMN + columns):
        state.families[place] = 0
    state.families[family + BROKEN] = 0
    state.families[family + TIMES_LEFT] = 0
    state.families[family + WIDTH] = width
    state.families[family + UNIT] = unit
    state.families[family + COLUMNS] = columns
    state.families[family + ORIGIN] = address
    state.families[family + SEGMENT] = segment
    state.families[family + COUNT1] = count1
    joins_family(state, state.shared[FAMILIES], address, segment, count1)
    return state.shared[FAMILIES]


def column_bytes(state: ReplayState, segment: int, width: int) -> int:
    """How wide the columns of a family are: lines if these are not too many, so that other segments fit in as well."""
    if segment < width <= MOST_COLUMNS << state.timing[LINE_SHIFT]:
        return 1 << state.timing[LINE_SHIFT]
    unit = segment
    rest = width % segment
    while rest:
        common = rest
        rest = unit % rest
        unit = common
    return unit


@inlined
def joins_family(state: ReplayState, number: int, address: int, segment: int, count1: int) -> int:
    """Whether a tile as wide as a family is one of it.

    In columns in which there are none yet it is the first one, if it is like the family's first tile or lies in memory
    that is the family's. Else it would take columns from tiles to come: those of several arrays have one width.
    """
    family = number * FAMILY_WORDS
    unit = state.families[family + UNIT]
    columns = state.families[family + COLUMNS]
    distance = address - state.families[family + ORIGIN]
    row = distance // unit
    if row * unit != distance:
        return 0
    # The tests spare most tiles divisions.
    size = 1
    column = 0
    if segment != unit:
        size = segment // unit
        if size * unit != segment:
            return 0
    if columns > 1:
        cell = row
        row = cell // columns
        column = cell - row * columns
    if column + size > columns:
        return 0
    if count1 > 1:
        row %= count1
    else:
        row = 0
    first = family + FIRST_COLUMN + column
    common = row << PHASE_SHIFT | count1 << COUNT_SHIFT | column << COLUMN_SHIFT | size
    if state.families[first]:
        return state.families[first] == common
    if (
        state.families[family + SEGMENT] != segment or state.families[family + COUNT1] != count1 or column % size
    ) and family_at(state, address) != number:
        return 0
    for place in range(first + 1, first + size):
        if state.families[place]:
            return 0
    for place in range(first, first + size):
        state.families[place] = common
    return 1


def leave_columns(state: ReplayState, number: int, address: int, width: int, segment: int) -> int:
    """Leave the columns of a tile that is not like those there; returns the family with ``BY_MAP``, or 0.

    ``HAS_BROKEN_FAMILY`` is set if there were tiles.
    """
    family = number * FAMILY_WORDS
    unit = state.families[family + UNIT]
    columns = state.families[family + COLUMNS]
    distance = address - state.families[family + ORIGIN]
    if state.families[family + WIDTH] != width or state.families[family + BROKEN]:
        return 0
    if distance % unit or segment % unit:
        return 0
    column = distance // unit % columns
    size = segment // unit
    if column + size > columns or state.families[family + TIMES_LEFT] == MOST_TIMES_LEFT:
        return 0
    had_tiles = 0
    for place in range(family + FIRST_COLUMN + column, family + FIRST_COLUMN + column + size):
        common = state.families[place]
        state.families[place] = LEFT
        if common > 0:
            had_tiles = 1
            first = family + FIRST_COLUMN + (common >> COLUMN_SHIFT & (1 << COUNT_SHIFT - COLUMN_SHIFT) - 1)
            for other in range(first, first + (common & (1 << COLUMN_SHIFT) - 1)):
                state.families[other] = LEFT
    if had_tiles:
        state.families[family + TIMES_LEFT] += 1
        state.shared[HAS_BROKEN_FAMILY] = 1
    return number | BY_MAP


def is_left(state: ReplayState, tile: int) -> int:
    """Whether a tile is of a family that is one no longer, or has left the tile's columns."""
    if not state.tiles[tile + TILE_FAMILY]:
        return 0
    family = state.tiles[tile + TILE_FAMILY] * FAMILY_WORDS
    cell = (state.tiles[tile + TILE_ADDRESS] - state.families[family + ORIGIN]) // state.families[family + UNIT]
    column = cell % state.families[family + COLUMNS]
    if state.families[family + BROKEN]:
        return 1
    return state.families[family + FIRST_COLUMN + column] == LEFT


@inlined
def family_at(state: ReplayState, address: int) -> int:
    """What has tiles in the region of an address."""
    region = address >> REGION_SHIFT
    return state.regions[region_word(state, region)] >> region_byte_shift(region) & NO_FAMILY


@inlined
def region_word(state: ReplayState, region: int) -> int:
    """The place of the word that says what has tiles in a region."""
    return region >> REGIONS_SHIFT & state.shared[REGIONS] - 1


@inlined
def region_byte_shift(region: int) -> int:
    """The first bit of what it says of that one."""
    return (region & (1 << REGIONS_SHIFT) - 1) << 3


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
                    # Only NO_FAMILY has the highest bit of a number.
                    if claimed and (family or claimed != (claimed >> 6 & EVERY_REGION) * NO_FAMILY):
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
