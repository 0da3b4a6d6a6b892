"""Altered traces have the records that the alteration says, and no others have changed."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from kernels import RUNS, column_copy_run, gathered_run

from mlutriton.isa.machine import machine
from mlutriton.isa.trace_format import NO_COMPUTE, WAIT_ALL, WAIT_COMPUTE, WAIT_IO, Extent, Kind, Record, unpack
from mlutriton.profile import alterations
from mlutriton.simulator.recording import check_trace
from mlutriton.simulator.replay import Trace, replay

TINY = machine("mlu-tiny")
BASE = 1 << 30


def trace_of(*programs):
    words, starts = [], []
    for records in programs:
        starts.append(len(words) // 3)
        for record in records:
            words += record.words()
    return Trace(np.array(words, np.int64), np.array(starts, np.int64))


def records_of(trace):
    return list(unpack(trace.words.tolist()))


STRIDED = Record(Kind.LOAD, 512, BASE, extent=Extent(64, 8, 4096), scalar_cycles=7, instruction=3)
BOXED = Record(
    Kind.LOAD, 512, BASE + 64, extent=Extent(16, 8, 64, 4, 4096), compute_cycles=20, compute_head=25, instruction=3
)
PLAIN = Record(Kind.STORE, 512, BASE + 8192, scalar_cycles=4, instruction=5)
SYNC = Record(Kind.SYNC, WAIT_ALL, instruction=4)
END = Record(Kind.END, scalar_cycles=1, instruction=6)
TRACE = trace_of([STRIDED, BOXED, SYNC, PLAIN, END], [STRIDED, SYNC, PLAIN, END])
LOADS = alterations.rows_of(TRACE, [Kind.LOAD])


def test_rows_are_chosen_by_kind_and_instruction():
    assert alterations.rows_of(TRACE, [Kind.LOAD]).sum() == 3
    assert alterations.rows_of(TRACE, [Kind.LOAD, Kind.STORE], [5]).sum() == 2
    assert not alterations.rows_of(TRACE, [Kind.GATHER]).any()


def test_segments_are_counted_as_the_replay_counts_them():
    assert alterations.segments(TRACE, LOADS) == (3, 8 + 32 + 8)
    touching = trace_of([Record(Kind.LOAD, 512, BASE, extent=Extent(16, 8, 16, 4, 4096), compute_head=0), END])
    assert alterations.segments(touching, alterations.rows_of(touching, [Kind.LOAD])) == (1, 4)


def test_tiles_in_one_piece_keep_their_bytes_and_their_identity():
    altered = alterations.in_one_piece(TRACE, LOADS)
    check_trace(altered, 10)
    first, boxed, *_, again, _, _, _ = records_of(altered)
    assert first.extent is None
    assert (first.amount, first.scalar_cycles, first.compute_head) == (512, 7, NO_COMPUTE)
    assert boxed.extent == Extent(512, 1, 0)
    assert (boxed.amount, boxed.compute_cycles, boxed.compute_head) == (512, 20, 25)
    assert first.address == again.address != boxed.address
    assert [each for each in records_of(altered) if each.kind is not Kind.LOAD] == [SYNC, PLAIN, END, SYNC, PLAIN, END]


def test_gathers_become_loads_of_as_many_bytes():
    trace = trace_of([Record(Kind.GATHER, 64, 8, instruction=1), Record(Kind.SCATTER, 10, 4, instruction=2), END])
    altered = alterations.as_blocks(trace, alterations.rows_of(trace, [Kind.GATHER, Kind.SCATTER]))
    load, store, _ = records_of(altered)
    assert (load.kind, load.amount, load.instruction) == (Kind.LOAD, 512, 1)
    assert (store.kind, store.amount) == (Kind.STORE, 40)
    assert abs(load.address - store.address) >= 512


def test_groups_stay_within_a_program_and_an_instruction():
    loads = [Record(Kind.LOAD, 100, BASE + 4096 * n, instruction=1) for n in range(5)]
    trace = trace_of([*loads, PLAIN, END], [*loads[:2], END])
    altered = alterations.grouped(trace, alterations.rows_of(trace, [Kind.LOAD, Kind.STORE]), 4)
    assert [each.amount for each in records_of(altered)] == [400, 0, 0, 0, 100, 512, 0, 200, 0, 0]


def test_groups_of_boxes_keep_the_number_of_segments():
    altered = alterations.grouped(trace_of([BOXED, BOXED, END]), np.array([True, False, True, False, False]), 2)
    first, second, _ = records_of(altered)
    assert first.extent == Extent(32, 8, 64, 4, 4096)
    assert (first.amount, second.amount) == (1024, 0)


def test_what_is_free_takes_no_time():
    trace = trace_of([Record(Kind.SCALAR_LOAD, 4, BASE), Record(Kind.ATOMIC_SCALAR, 4, BASE), PLAIN, END])
    chosen = alterations.rows_of(trace, [Kind.SCALAR_LOAD, Kind.ATOMIC_SCALAR, Kind.STORE])
    altered = alterations.free(trace, chosen)
    assert [each.kind for each in records_of(altered)] == [Kind.LOCAL, Kind.LOCAL, Kind.STORE, Kind.END]
    timing = replay(altered, TINY)
    assert timing.cycles == replay(trace_of([Record(Kind.LOCAL, scalar_cycles=4), END]), TINY).cycles


def test_waits_are_taken_from_the_syncs_that_are_named():
    altered = alterations.without_waits(TRACE, {4: WAIT_IO, 9: WAIT_ALL})
    assert [each.amount for each in records_of(altered) if each.kind is Kind.SYNC] == [6, 6]
    assert records_of(alterations.without_waits(TRACE, {3: WAIT_IO})) == records_of(TRACE)


BUSY = {"scalar_cycles": 9, "compute_cycles": 100, "compute_head": 104}


@pytest.mark.parametrize(
    "record", [Record(Kind.SYNC, WAIT_COMPUTE, **BUSY), dataclasses.replace(STRIDED, **BUSY)], ids=["own", "strided"]
)
def test_compute_is_scaled_behind_its_issue(record):
    trace = trace_of([record, STRIDED, END])
    half, none = (records_of(alterations.with_compute(trace, share)) for share in (0.5, 0))
    assert half == [dataclasses.replace(record, compute_cycles=50, compute_head=54), STRIDED, END]
    assert none == [dataclasses.replace(record, compute_cycles=0, compute_head=4), STRIDED, END]


def test_a_strided_transfer_behind_compute_keeps_that_in_one_piece_and_without_issue():
    busy = dataclasses.replace(STRIDED, **BUSY)
    trace = trace_of([busy, END])
    (whole, _), (idle, _) = (
        records_of(altered)
        for altered in (alterations.in_one_piece(trace, np.array([True, False])), alterations.without_issue(trace))
    )
    assert (whole.extent, whole.scalar_cycles, whole.compute_cycles, whole.compute_head) == (None, 9, 100, 104)
    assert idle == dataclasses.replace(busy, scalar_cycles=0, compute_cycles=100, compute_head=100)


def test_without_issue_all_is_at_once():
    records = records_of(alterations.without_issue(TRACE))
    assert not any(each.scalar_cycles for each in records)
    assert (records[1].compute_cycles, records[1].compute_head, records[1].extent) == (20, 20, BOXED.extent)
    assert records[0].extent == STRIDED.extent


def test_repeated_launches_share_no_memory():
    altered = alterations.repeated(TRACE, 3)
    assert altered.programs == 6
    loads = {each.address for each in records_of(altered) if each.kind is Kind.LOAD}
    assert len(loads) == 6
    timing, once = replay(altered, TINY), replay(TRACE, TINY)
    assert timing.l2_hit_bytes == 3 * once.l2_hit_bytes
    assert timing.dram_read_bytes == 3 * once.dram_read_bytes


def test_the_first_programs_are_those_of_the_trace():
    assert records_of(alterations.first_programs(TRACE, 1)) == [STRIDED, BOXED, SYNC, PLAIN, END]
    assert alterations.first_programs(TRACE, 2) is TRACE


ALTERATIONS = {
    "in one piece": lambda trace, chosen: alterations.in_one_piece(trace, chosen),
    "grouped": lambda trace, chosen: alterations.grouped(trace, chosen, 4),
    "free": lambda trace, chosen: alterations.free(trace, chosen),
    "half of the compute": lambda trace, chosen: alterations.with_compute(trace, 0.5),
    "without issue": lambda trace, chosen: alterations.without_issue(trace),
}


@cache
def launched(launch):
    """The run of a launch, which alterations leave as it is."""
    return launch()


@pytest.mark.parametrize("launch", RUNS)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_launches_replay_and_take_no_longer(launch, name):
    run = launched(launch)
    chosen = alterations.rows_of(run.trace, [Kind.LOAD, Kind.STORE])
    before = run.trace.words.copy()
    altered = ALTERATIONS[name](run.trace, chosen)
    # Other times let transfers meet otherwise: a little may be lost to that. Results that go out in parts while the
    # next are computed lose a little more where the parts are grouped, which then wait for the last one.
    assert replay(altered, run.machine).cycles <= 1.04 * run.cycles
    assert np.array_equal(run.trace.words, before)
    if name != "grouped":
        assert len(records_of(altered)) == len(records_of(run.trace))


def test_pieces_and_blocks_are_faster_where_there_were_many():
    run = column_copy_run()
    chosen = alterations.rows_of(run.trace, [Kind.LOAD])
    assert replay(alterations.in_one_piece(run.trace, chosen), run.machine).cycles < 0.9 * run.cycles
    run = gathered_run()
    chosen = alterations.rows_of(run.trace, [Kind.GATHER])
    assert chosen.any()
    assert replay(alterations.as_blocks(run.trace, chosen), run.machine).cycles < 0.9 * run.cycles
