"""The tiles that have lines in the L2: a hash table by their address, and a list in the order of their latest use.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import (
    FREED_TILE,
    GENERATION,
    GENERATION_SHIFT,
    MOST_TILE_BUCKETS,
    ROW_MASK,
    TILE_ADDRESS,
    TILE_BUCKETS,
    TILE_COUNT1,
    TILE_COUNT2,
    TILE_NEWER,
    TILE_NEXT,
    TILE_OLDER,
    TILE_OWNED,
    TILE_SEGMENT,
    TILE_STRIDE1,
    TILE_STRIDE2,
    ReplayState,
)

# Tiles of one block of memory are in buckets that are neighbours, unless they are small: grids go through memory in its
# order, and a host waits long for what it does not see coming.
BLOCK_SHIFT = 12
SMALL_SHIFT = 7
MORE_BUCKETS = 8


@inlined
def tile_bucket(state: ReplayState, address: int) -> int:
    """The entry of the table in which the chain of tiles with such an address begins."""
    key = address >> BLOCK_SHIFT & 0x3FFFFFFF ^ address >> 42
    within = address >> SMALL_SHIFT & 31 | (address >> 2 & 31) << 5
    return (key * 0x9E3779B1 >> 20 ^ within) & state.shared[TILE_BUCKETS] - 1


@inlined
def first_of_bucket(state: ReplayState, bucket: int) -> int:
    """The row of the first tile of a bucket; 0 if there is none."""
    head = state.tile_table[bucket]
    return head & ROW_MASK if head >> GENERATION_SHIFT == state.shared[GENERATION] else 0


@inlined
def begin_bucket(state: ReplayState, bucket: int, tile: int) -> None:
    """Let a tile be the first of a bucket."""
    state.tile_table[bucket] = state.shared[GENERATION] << GENERATION_SHIFT | tile


@inlined
def find_tile(
    state: ReplayState, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int
) -> int:
    """The row of the tile; 0 if there is none."""
    tile = first_of_bucket(state, tile_bucket(state, address))
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


@inlined
def enter_tile(
    state: ReplayState, tile: int, address: int, segment: int, count1: int, stride1: int, count2: int, stride2: int
) -> None:
    """Let a tile be found."""
    state.tiles[tile + TILE_ADDRESS] = address
    state.tiles[tile + TILE_SEGMENT] = segment
    state.tiles[tile + TILE_COUNT1] = count1
    state.tiles[tile + TILE_STRIDE1] = stride1
    state.tiles[tile + TILE_COUNT2] = count2
    state.tiles[tile + TILE_STRIDE2] = stride2
    enter_bucket(state, tile)


@inlined
def enter_bucket(state: ReplayState, tile: int) -> None:
    """Let a tile be the first of its bucket."""
    bucket = tile_bucket(state, state.tiles[tile + TILE_ADDRESS])
    state.tiles[tile + TILE_NEXT] = first_of_bucket(state, bucket)
    begin_bucket(state, bucket, tile)


def add_buckets(state: ReplayState) -> None:
    """Let there be more buckets, as there are more tiles: most launches have few, which then lie close together."""
    state.shared[TILE_BUCKETS] = min(state.shared[TILE_BUCKETS] * MORE_BUCKETS, state.shared[MOST_TILE_BUCKETS])
    for bucket in range(state.shared[TILE_BUCKETS]):
        begin_bucket(state, bucket, 0)
    tile = state.tiles[TILE_NEWER]
    while tile:
        enter_bucket(state, tile)
        tile = state.tiles[tile + TILE_NEWER]


# The list. Row 0 is no tile, but both ends of it.


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


def forget_tile(state: ReplayState, tile: int) -> None:
    """A tile has no lines any more."""
    unlink(state, tile)
    bucket = tile_bucket(state, state.tiles[tile + TILE_ADDRESS])
    other = first_of_bucket(state, bucket)
    if other == tile:
        begin_bucket(state, bucket, state.tiles[tile + TILE_NEXT])
    else:
        while state.tiles[other + TILE_NEXT] != tile:
            other = state.tiles[other + TILE_NEXT]
        state.tiles[other + TILE_NEXT] = state.tiles[tile + TILE_NEXT]
    state.tiles[tile + TILE_NEWER] = state.shared[FREED_TILE]
    state.shared[FREED_TILE] = tile


@inlined
def leave_tile(state: ReplayState, tile: int) -> None:
    """A line of a tile now belongs to another one."""
    state.tiles[tile + TILE_OWNED] -= 1
    if not state.tiles[tile + TILE_OWNED]:
        forget_tile(state, tile)
