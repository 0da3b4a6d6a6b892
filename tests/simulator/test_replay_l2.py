"""What the replay finds in the L2 is what the reference does, by families of tiles, stretches and the map."""

from __future__ import annotations

import dataclasses
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.isa.machine import Machine
from mlutriton.isa.trace_format import (
    WAIT_IO,
    Extent,
    Kind,
    Record,
)
from mlutriton.simulator.replay import Trace, event_loop, initial_state, replay, schedule_bound
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay.reference import ReferenceReplay
from tests.simulator.drawn_traces import (
    CUTS,
    END,
    MEGABYTE,
    OTHER_CUTS,
    cut_matrix,
    extents,
    load,
    store,
    strips,
    sync,
    tiles_of_matrices,
    trace_of,
)
from tests.simulator.reference import BIG, MACHINES, RANDOM, TINY, assert_equals_reference


@settings(RANDOM, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([Kind.LOAD, Kind.STORE])), max_size=60),
    st.lists(extents(), min_size=10, max_size=10),
    st.sampled_from([(2048, 64), (8192, 128), (16384, 512)]),
)
def test_few_tiles_in_a_small_cache_equal_the_reference(
    uses: list[tuple[int, Kind]], shapes: list[Extent], size: tuple[int, int]
) -> None:
    model = TINY.replace(l2_bytes=size[0], l2_line_bytes=size[1])
    program = [
        Record(kind, tile.segment_bytes * tile.count1 * tile.count2, number * 1500, extent=tile)
        for number, kind in uses
        for tile in [shapes[number]]
    ]
    trace = trace_of([*program, END])
    result, reference = replay(trace, model), ReferenceReplay(trace.words.tolist(), [0], 1, model)
    assert reference.run()
    assert (result.cycles, result.l2_hit_bytes) == (reference.cycles, reference.l2_hit_bytes)


@settings(RANDOM, max_examples=100)
@given(st.lists(tiles_of_matrices(), max_size=60), st.sampled_from([2048, 8192, 10_240, 65_536]))
def test_tiles_of_matrices_in_a_small_cache_equal_the_reference(uses: list[Record], l2_bytes: int) -> None:
    model = TINY.replace(l2_bytes=l2_bytes)
    trace = trace_of([*uses, END])
    result, reference = replay(trace, model), ReferenceReplay(trace.words.tolist(), [0], 1, model)
    assert reference.run()
    assert (result.cycles, result.l2_hit_bytes) == (reference.cycles, reference.l2_hit_bytes)
    assert result.dram_read_bytes == reference.dram_read_bytes
    assert result.dram_write_bytes == reference.dram_write_bytes


@settings(RANDOM, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CUTS) | st.sampled_from(CUTS) | st.sampled_from(OTHER_CUTS),
            st.sampled_from([0] * 20 + [128, 60]),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.sampled_from([2048, 10_240, 65_536, MEGABYTE]),
)
def test_tiles_that_leave_something_over_equal_the_reference(
    uses: list[tuple[tuple[int, Extent], int, bool]], l2_bytes: int
) -> None:
    kinds = {False: Kind.LOAD, True: Kind.STORE}
    records = [
        Record(kinds[stores], extent.segment_bytes * extent.count1, address + across, extent=extent)
        for (address, extent), across, stores in uses
    ]
    model = TINY.replace(l2_bytes=l2_bytes)
    trace = trace_of([*records, END])
    result, reference = replay(trace, model), ReferenceReplay(trace.words.tolist(), [0], 1, model)
    assert reference.run()
    assert (result.cycles, result.l2_hit_bytes) == (reference.cycles, reference.l2_hit_bytes)
    assert result.dram_read_bytes == reference.dram_read_bytes
    assert result.dram_write_bytes == reference.dram_write_bytes


@pytest.mark.parametrize("order", [1, -1])
def test_what_tiles_leave_over_at_the_ends_of_rows_is_whole_too(order: int) -> None:
    tiles = [
        Record(Kind.LOAD, extent.segment_bytes * extent.count1, address, extent=extent)
        for address, extent in cut_matrix([384, 384, 256], [16, 16], 1024)[::order]
    ]
    assert_needs_no_map(trace_of([*tiles, *tiles, END]), TINY)


def test_tiles_like_those_of_another_matrix_are_of_their_own_s_family() -> None:
    # Of two matrices, all columns of the first have tiles of 8 rows, and all but one of the second.
    shapes = [(MEGABYTE + 512 * column, 8) for column in range(8)]
    shapes += [(0, 16), *((512 * column + 4096 * row, 8) for row in (0, 8) for column in range(1, 8))]
    tiles = [load(512 * rows, address, extent=Extent(512, rows, 4096)) for address, rows in shapes]
    assert_needs_no_map(trace_of([*tiles, *tiles, END]), BIG)


def test_only_columns_with_tiles_of_two_heights_go_by_the_map() -> None:
    heights = [16, *[8] * 7]
    tiles = [(512 * column + 4096 * row, heights[column]) for row in range(0, 64, 16) for column in range(8)]
    tiles.insert(4, (8 * 4096, 8))
    loads = [load(512 * rows, address, extent=Extent(512, rows, 4096)) for address, rows in tiles]
    trace = trace_of([*loads, sync(WAIT_IO), *loads, END])
    assert_equals_reference(trace, BIG)
    state = interpreted(trace, BIG)
    rows = range(1, state.shared[at.FRESH_TILES])
    used = [row * at.TILE_WORDS for row in rows]
    assert {state.tiles[tile] % 4096 for tile in used if not state.tiles[tile + at.TILE_FAMILY]} == {0}


@pytest.mark.parametrize("address", [128, 8192 - 128, 65_536 - 128, 2 * 65_536])
def test_tiles_across_wide_columns_equal_the_reference(address: int) -> None:
    tiles = [load(8192 * 4, 8192 * column, extent=Extent(8192, 4, 65_536)) for column in range(8)]
    across = load(8192 * 3, address, extent=Extent(8192, 3, 65_536))
    assert_equals_reference(trace_of([*tiles, across, *tiles, END]), BIG)
    assert_equals_reference(trace_of([*tiles[1:], across, *tiles, across, END]), BIG)


def assert_needs_no_map(trace: Trace, model: Machine) -> None:
    numbers = interpreted(trace, model).shared
    assert numbers[at.NEXT_BLOCK] == at.BLOCK_WORDS, "the map is not asked"


def interpreted(trace: Trace, model: Machine) -> at.ReplayState:
    state = initial_state(trace.stored, 1, model, ring_entries=64, blocks=256, keep_events=False)
    names = [field.name for field in dataclasses.fields(state)]
    lists = at.ReplayState(**{name: getattr(state, name).tolist() for name in names})
    event_loop.run_replay(lists)
    assert lists.shared[at.STATUS] == at.DONE
    return lists


@settings(RANDOM, max_examples=100)
@given(
    st.lists(strips(), min_size=5, max_size=60),
    st.sampled_from([(2048, 64), (8192, 128), (16_384, 512), (65_536, 128), (1 << 20, 256)]),
    st.sampled_from([2, 64]),
)
def test_unaligned_strips_equal_the_reference(uses: list[Record], size: tuple[int, int], blocks: int) -> None:
    model = TINY.replace(l2_bytes=size[0], l2_line_bytes=size[1])
    trace = trace_of([*uses, END])
    # With few blocks of pages at first, rows are given back, and the replay starts again with more.
    few = {"_FIRST_BLOCKS": blocks, "_MOST_FIRST_BLOCKS": blocks, "_FIRST_TILE_BUCKETS": 2}
    with mock.patch.multiple(sys.modules[replay.__module__], **few):
        result = replay(trace, model)
    reference = ReferenceReplay(trace.words.tolist(), trace.starts.tolist(), 1, model)
    assert reference.run()
    assert (result.cycles, result.l2_hit_bytes) == (reference.cycles, reference.l2_hit_bytes)
    assert result.dram_read_bytes == reference.dram_read_bytes
    assert result.dram_write_bytes == reference.dram_write_bytes


@st.composite
def programs_in_order(draw: st.DrawFn) -> Trace:
    """Programs that go through arrays in order and meet where others began; sometimes one does something else."""
    rows = draw(st.sampled_from([100, 781, 1000, 6000]))
    tiles = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    chunk = draw(st.sampled_from([sum(tiles), sum(tiles), 1, 5]))
    goes_round = draw(st.booleans())
    target = draw(st.sampled_from([None, None, 0, 2 * MEGABYTE, 2 * MEGABYTE + 20]))
    kinds = draw(st.sampled_from([[Kind.LOAD], [Kind.LOAD], [Kind.STORE], [Kind.LOAD, Kind.STORE]]))
    programs: list[list[Record]] = []
    count = draw(st.integers(1, 12))
    for program in range(count):
        records: list[Record] = []
        place = program * chunk * rows
        for tile in tiles:
            records.append(Record(draw(st.sampled_from(kinds)), 4 * tile * rows, 4 * place))
            if target is not None:
                records.append(store(4 * tile * rows, target + 4 * place))
            place += tile * rows * (count if goes_round else 1)
        if draw(st.integers(0, 9)) == 0:
            records.insert(draw(st.integers(0, len(records))), draw(st.sampled_from(OUT_OF_ORDER)))
        if draw(st.integers(0, 5)) == 0:
            records = records[::-1]
        again = [
            store(4 * rows, 4 * rows * (program * chunk + row)) for row in range(draw(st.sampled_from([0, chunk])))
        ]
        programs.append([*records, *again, sync(WAIT_IO), END])
    return trace_of(*programs)


OUT_OF_ORDER = [
    load(64, 4096),
    load(100, 5000),
    store(100, 5000),
    load(20_000, 1000),
    store(4096, 8192),
    load(4096, 8192),
    load(30, 2 * MEGABYTE + 1000),
    Record(Kind.LOAD, 36 * 5, 300, extent=Extent(36, 5, 1000)),
    Record(Kind.STORE, 128 * 4, 8192, extent=Extent(128, 4, 1024)),
]


@settings(RANDOM, max_examples=200)
@given(programs_in_order(), st.sampled_from([*MACHINES, TINY.replace(l2_bytes=MEGABYTE)]))
def test_what_is_transferred_in_order_equals_the_reference(trace: Trace, model: Machine) -> None:
    assert_equals_reference(trace, model)


@pytest.mark.parametrize(
    "uses",
    [
        pytest.param([store(100), load(100, 100), store(50, 150)], id="a load goes on where a store ended"),
        pytest.param([load(100, 200), store(100, 100), store(100, 200)], id="a store ends where a load began"),
        pytest.param([store(100, 200), load(100, 100), store(100, 100)], id="a load ends where a store began"),
        pytest.param([store(300), load(100, 100), load(100, 250)], id="what was stored is loaded"),
        pytest.param([load(300), load(20, 70), load(300, 64 * 3)], id="what was loaded is loaded again"),
    ],
)
def test_what_meets_in_a_sector_equals_the_reference(uses: list[Record]) -> None:
    assert_equals_reference(trace_of([*uses, END]), BIG)


def test_what_is_in_too_many_places_equals_the_reference() -> None:
    apart = [load(100, 40_000 * place) for place in range(300)]
    assert_equals_reference(trace_of([*apart, *apart, END]), BIG)


def test_what_is_transferred_in_order_needs_no_map() -> None:
    rows = 3124
    programs = [
        [
            *(
                record
                for tile in range(start, start + 30, 5)
                for record in (load(5 * rows, tile * rows), store(5 * rows, MEGABYTE + tile * rows))
            ),
            END,
        ]
        for start in range(0, 120, 30)
    ]
    assert_needs_no_map(trace_of(*programs), BIG)


def test_replays_of_several_sizes_take_turns_in_one_memory() -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 40, 400]
    cases: list[tuple[Trace, Machine, ReferenceReplay]] = []
    for model in (TINY.replace(l2_bytes=65_536), BIG, TINY):
        for size in sizes:
            # Strips that begin anywhere and are used again, and whole tiles.
            strips = [load(3100, int(place) * 3100) for place in rng.integers(0, size, size)]
            tiles = [store(4096, MEGABYTE + int(place) * 4096) for place in rng.integers(0, size, size)]
            trace = trace_of(*[[*strips, *tiles, Record(Kind.ATOMIC_SCALAR, address=64), END]] * 3)
            reference = ReferenceReplay(trace.words.tolist(), trace.starts.tolist(), 1, model)
            assert reference.run()
            cases.append((trace, model, reference))
    for place in rng.integers(0, len(cases), 60):
        trace, model, reference = cases[place]
        if place % 2:
            schedule_bound(trace, model)
        result = replay(trace, model)
        assert (result.cycles, result.l2_hit_bytes) == (reference.cycles, reference.l2_hit_bytes)
        assert result.dram_read_bytes == reference.dram_read_bytes
        assert result.dram_write_bytes == reference.dram_write_bytes
