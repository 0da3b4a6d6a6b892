"""The report, the work bound and the timeline of launches, on traces made by hand."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.diagnostics import ArgumentError
from mlutriton.dtypes import F16, F32
from mlutriton.isa.machine import machine
from mlutriton.isa.native_interface import Counter
from mlutriton.isa.operands import Address, Immediate
from mlutriton.isa.program import Buffer, Instruction, Program
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS, TABLE
from mlutriton.isa.trace_format import FLAG_SRAM, WAIT_ALL, WAIT_COMPUTE, WAIT_IO, Extent, Kind, Record
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.replay import Trace
from mlutriton.simulator.replay.timing import Cause
from mlutriton.simulator.report import Run
from mlutriton.simulator.touched_memory import TouchedMemory
from mlutriton.simulator.trace_columns import extent_records
from mlutriton.simulator.work_bound import unique_bytes, work_bound

TINY = machine("mlu-tiny")
GRANULE = TINY.dram_granule_bytes
BASE = 1 << 30

PROGRAM = Program(
    name="kernel",
    isa=TINY.isa,
    parameters=(),
    buffers={"x": Buffer("x", "nram", 0, 4096), "y": Buffer("y", "nram", 4096, 1024), "w": Buffer("w", "wram", 0, 512)},
    instructions=(Instruction(TABLE["exit"], (), ()),),
    labels={},
    register_count=0,
)
MATRIX_PROGRAM = Program(
    name="matrix",
    isa=TINY.isa,
    parameters=(),
    buffers={},
    instructions=(
        Instruction(
            TABLE["mm"],
            (F16, F32),
            (Address("c"), Address("a"), Address("w"), *(Immediate(64) for _ in range(4)), Immediate(0)),
        ),
    ),
    labels={},
    register_count=0,
)


def trace_of(programs):
    words, starts = [], []
    for records in programs:
        starts.append(len(words) // 3)
        for record in records:
            words += record.words()
    return Trace(np.array(words, np.int64), np.array(starts, np.int64))


def words_of(records):
    return trace_of([records]).words


def counters(**given):
    values = [0] * len(Counter)
    for name, value in given.items():
        values[Counter[name.upper()]] = value
    return values


def copy_program(number, size=4096):
    """Loads, computes and stores a block of its own."""
    return [
        Record(Kind.LOAD, size, BASE + number * size, scalar_cycles=10),
        Record(Kind.SYNC, WAIT_IO, scalar_cycles=5),
        Record(Kind.SYNC, WAIT_COMPUTE, scalar_cycles=8, compute_cycles=100, compute_head=104),
        Record(Kind.STORE, size, BASE + (1 << 24) + number * size, scalar_cycles=4),
        Record(Kind.SYNC, WAIT_ALL, scalar_cycles=1),
        Record(Kind.END, scalar_cycles=1),
    ]


def copy_run(programs=6, **options):
    work = counters(vector_simple_bytes=100 * programs, read_bytes=4096 * programs, written_bytes=4096 * programs)
    arguments = {"program": PROGRAM, "machine": TINY, "grid": (programs, 1, 1), "counters": work} | options
    return Run(trace=trace_of([copy_program(number) for number in range(programs)]), **arguments)


def touched_granules(address, size, extent):
    """The same by hand."""
    shape = extent or Extent(size, 1, 0)
    granules = set()
    for plane, row in product(range(shape.count2), range(shape.count1)):
        first = address + row * shape.stride1_bytes + plane * shape.stride2_bytes
        if shape.segment_bytes:
            granules |= set(range(first // GRANULE, (first + shape.segment_bytes - 1) // GRANULE + 1))
    return granules


extents = st.builds(
    Extent,
    st.integers(0, 200),
    st.integers(0, 5),
    st.integers(-400, 400),
    st.integers(0, 4),
    st.integers(-2000, 2000),
)
transfers = st.tuples(
    st.sampled_from([Kind.LOAD, Kind.STORE]), st.integers(0, 5000), st.integers(1, 700), st.none() | extents
)


@given(st.lists(transfers, max_size=8))
def test_unique_bytes_are_those_of_all_granules_touched(given_transfers):
    expected, new = {Kind.LOAD: set(), Kind.STORE: set()}, set()
    records, loaded = [], set()
    for kind, offset, size, extent in given_transfers:
        records.append(Record(kind, size, BASE + offset, extent=extent))
        granules = touched_granules(BASE + offset, size, extent)
        expected[kind] |= granules
        box = offset, extent or Extent(size, 1, 0)
        if kind is Kind.LOAD:
            loaded.add(box)
        elif box not in loaded:
            new |= granules
    loads, stores = expected[Kind.LOAD] - new, expected[Kind.STORE]
    assert unique_bytes([words_of(records)], GRANULE) == (len(loads) * GRANULE, len(stores) * GRANULE)


def test_what_was_stored_before_need_not_come_from_dram():
    load, store = (Record(kind, 4096, BASE) for kind in (Kind.LOAD, Kind.STORE))
    end = Record(Kind.END)
    for programs, loaded in (
        ([[store, load, end]], 0),
        ([[load, store, end]], 4096),
        ([[load, store, end], [load, store, end]], 4096),
        ([[load, end], [store, end]], 0),
        ([[load, store, end], [store, load, end]], 0),
        ([[Record(Kind.LOAD, 8192, BASE), store, end]], 4096),
    ):
        words = trace_of(programs).words
        assert unique_bytes([words], GRANULE) == (loaded, 4096), programs


def test_what_items_store_may_have_been_there_before_it_is_loaded():
    touched = TouchedMemory(GlobalMemory([Allocation("x", 1 << 20, 1 << 16)]))
    touched.mark(BASE, 4, write=True)
    for write in (False, True):
        touched.mark(BASE + 1024, 4, write=write)  # an atomic
    records = [Record(Kind.SCATTER, 1, 4), Record(Kind.LOAD, 2048, BASE), Record(Kind.ATOMIC_VECTOR, 1, 4)]
    assert unique_bytes([words_of(records)], GRANULE, touched) == (2048 - GRANULE, 2 * GRANULE)


def test_unique_bytes_of_more_than_a_range_can_hold():
    size = (1 << 24) - 64
    # Neighbours, each of which overlaps the next one, over three gigabytes; then one that touches the last.
    records = [Record(Kind.LOAD, size, number * (size - 64)) for number in range(200)]
    records.append(Record(Kind.LOAD, 64, 199 * (size - 64) + size))
    assert unique_bytes([words_of(records[:100]), words_of(records[100:])], GRANULE) == (
        199 * (size - 64) + size + 64,
        0,
    )


def test_unique_bytes_of_many_segments_fit_in_parts(monkeypatch):
    records = [Record(Kind.LOAD, 400, BASE + 40 * n, extent=Extent(4, 100, 4096)) for n in range(50)]
    whole = unique_bytes([words_of(records)], GRANULE)
    monkeypatch.setattr("mlutriton.simulator.work_bound._SEGMENTS_AT_ONCE", 300)
    assert unique_bytes([words_of(records)], GRANULE) == whole


def test_scalar_accesses_touch_dram():
    records = [
        Record(Kind.LOAD, 4096, BASE),
        Record(Kind.SCALAR_LOAD, 4, BASE + 100),
        Record(Kind.SCALAR_LOAD, 4, BASE + 4096),
        Record(Kind.SCALAR_STORE, 8, BASE + GRANULE - 4),
        Record(Kind.ATOMIC_SCALAR, 4, BASE + (1 << 20)),
    ]
    # What the scalar store writes may have been written before the tile is loaded.
    assert unique_bytes([words_of(records)], GRANULE) == (4096, 3 * GRANULE)


def test_items_touch_what_they_mark():
    memory = GlobalMemory([Allocation("x", 1 << 20, 1 << 16)])
    touched = TouchedMemory(memory)
    for first, size in ((0, 4), (GRANULE - 2, 4), (1 << 12, 1 << 12)):
        touched.mark(BASE + first, size, write=False)
    touched.mark(BASE + (1 << 16) - 1, 1, write=True)
    records = [Record(Kind.GATHER, 3, 4), Record(Kind.LOAD, 1 << 12, BASE + (1 << 12) + GRANULE)]
    assert unique_bytes([words_of(records)], GRANULE, touched) == ((1 << 12) + 3 * GRANULE, GRANULE)


def test_what_is_loaded_to_the_sram_comes_from_dram():
    records = [Record(Kind.LOAD, 4096, BASE, FLAG_SRAM), Record(Kind.LOAD, 4096, BASE + 2048, FLAG_SRAM)]
    assert unique_bytes([words_of(records)], GRANULE) == (6144, 0)


def test_moves_and_items_without_marks_touch_no_dram():
    records = [
        Record(Kind.MOVE, 4096, 0, FLAG_SRAM),
        Record(Kind.MOVE, 4096),
        Record(Kind.GATHER, 100, 4),
        Record(Kind.SCALAR_LOAD),
    ]
    assert unique_bytes([words_of(records)], GRANULE) == (0, 0)


@given(st.lists(st.sampled_from(["plain", "strided", "extent", "lookalike"]), max_size=12))
def test_extents_are_told_from_records(kinds):
    # This extent, read as a record, is a LOAD that announces an extent.
    lookalike = Extent(8, 2, int(Record(Kind.LOAD, extent=Extent(1, 1, 1)).words()[1]), 2, 1 << 32)
    extents_by_kind = {
        "plain": None,
        "strided": Extent(8, 2, 64),
        "extent": Extent(8, 2, 64, 2),
        "lookalike": lookalike,
    }
    words, expected = [], []
    for kind in kinds:
        extent = extents_by_kind[kind]
        words += Record(Kind.LOAD, 16, BASE, extent=extent).words()
        expected += [False, True] if kind in ("extent", "lookalike") else [False]
    assert extent_records(np.array(words, np.int64).reshape(-1, 3)).tolist() == expected


def test_work_bound_is_the_greatest_part():
    load = words_of([Record(Kind.LOAD, 1 << 20, BASE), Record(Kind.LOAD, 1 << 20, BASE)])
    launch = TINY.cycles_from_ns(TINY.launch_device_ns)
    bound = work_bound([load], counters(), PROGRAM, TINY)
    assert bound.loaded_bytes == 1 << 20
    assert bound.cycles == launch + int((1 << 20) / TINY.dram_bytes_per_cycle)

    macs = 10**9
    bound = work_bound([load], counters(macs=macs), MATRIX_PROGRAM, TINY)
    assert bound.cycles == launch + macs // (TINY.cores * TINY.mac_per_cycle_f16)

    work = counters(vector_simple_bytes=4 * 10**9, vector_special_bytes=10**9, vector_other_bytes=10**15)
    bound = work_bound([load], work, PROGRAM, TINY)
    lanes_bytes = TINY.cores * TINY.vector_bytes_per_cycle
    assert bound.cycles == launch + (4 * 10**9 // MAXIMUM_CHAIN_STEPS + 10**9) // lanes_bytes


def test_bounds_are_below_cycles_and_cycles_have_causes():
    run = copy_run()
    assert run.work_bound_cycles <= run.schedule_bound_cycles <= run.cycles
    assert sum(run.core_cycles) == run.cycles * TINY.cores
    assert run.core_cycles.wait_io > 0
    assert run.core_cycles.wait_compute == run.timing.cycles_of(Cause.WAIT_COMPUTE) > 0
    assert run.programs == 6
    assert 0 <= run.assumed_share <= 1


def test_rates_follow_from_cycles():
    run = copy_run(machine=TINY, counters=counters(macs=10**6, tensor_cycles=500))
    seconds = run.cycles / (TINY.clock_mhz * 1e6)
    assert run.time_us == pytest.approx(seconds * 1e6)
    assert run.dram_read_bytes == run.dram_write_bytes == 6 * 4096
    assert run.gb_per_s == pytest.approx(2 * 6 * 4096 / seconds / 1e9)
    assert run.tflop_per_s == pytest.approx(2e6 / seconds / 1e12)
    assert run.tensor_utilization == pytest.approx(500 / (run.cycles * TINY.cores))


def test_cycles_are_replayed_only_when_asked_for_and_once(monkeypatch):
    from mlutriton.simulator import replay

    replays = []
    original = replay.replay
    monkeypatch.setattr(replay, "replay", lambda *args, **kwargs: replays.append(1) or original(*args, **kwargs))
    run = copy_run()
    assert repr(run) == "<Run of kernel (6, 1, 1) on mlu-tiny>"
    assert not replays
    assert run.cycles
    assert run.time_us
    assert len(replays) == 1


def test_text_names_simulation_bounds_waits_and_memory():
    text = str(copy_run())
    assert text.startswith("kernel (6, 1, 1) on mlu-tiny: simulated\n")
    for part in ("schedule bound", "work bound", "DMA", "compute", "NRAM 5,120 B of 64 KiB", "WRAM 512 B", "assumed"):
        assert part in text
    assert "cycles only" in str(copy_run(with_values=False)).splitlines()[0]
    assert "not counted" in str(copy_run(counters=None))


def test_json_holds_the_figures():
    run = copy_run()
    figures = json.loads(run.to_json())
    assert figures["simulated"] is True
    assert figures["cycles"] == run.cycles
    assert figures["grid"] == [6, 1, 1]
    assert figures["nram_used_bytes"] == 5120
    assert sum(figures["core_cycles"].values()) == run.cycles * TINY.cores


def test_empty_launch_takes_the_launch():
    run = Run(PROGRAM, TINY, (0, 1, 1), trace_of([]), counters())
    assert run.cycles == run.work_bound_cycles == TINY.cycles_from_ns(TINY.launch_device_ns)
    assert run.gb_per_s == 0
    assert str(run)


def test_what_if_replays_on_another_machine():
    run = copy_run(programs=40)
    slower = run.what_if(TINY.replace(dram_gb_per_s=TINY.dram_gb_per_s / 8))
    assert slower.cycles > run.cycles
    assert slower.work_bound_cycles > run.work_bound_cycles
    assert run.what_if(TINY.replace(clusters=2)).cycles < run.cycles


@pytest.mark.parametrize(
    "changed", [{"vector_bytes_per_cycle": 256}, {"issue_cycles": 9}, {"mac_per_cycle_f16": 1}, {"isa": 372}]
)
def test_what_if_refuses_what_the_trace_has_counted(changed):
    with pytest.raises(ArgumentError, match=next(iter(changed))) as caught:
        copy_run().what_if(TINY.replace(**changed))
    assert caught.value.code == "E0107"


def slices_of(path):
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


def test_timeline_shows_every_queue(tmp_path):
    run = copy_run()
    path = run.timeline(tmp_path / "run.json")
    document = json.loads(path.read_text())
    slices = slices_of(path)
    names = {event["name"] for event in slices}
    assert {"program (0, 0, 0)", "program (5, 0, 0)", "load", "store", "compute", "wait for IO"} <= names
    assert len([event for event in slices if event["name"] == "load"]) == 6
    end = max(event["ts"] + event["dur"] for event in slices)
    assert end == pytest.approx(run.time_us, abs=2e-3)
    counter = [event["args"]["bytes"] for event in document["traceEvents"] if event["ph"] == "C"]
    total_bytes = sum(counter) * run.cycles / len(counter)
    assert total_bytes == pytest.approx(2 * 6 * 4096, rel=0.02)
    assert "simulated" in document["otherData"]["note"]
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_timeline_slices_of_a_queue_nest(tmp_path):
    """Perfetto drops slices that overlap without one holding the other."""
    slices = slices_of(copy_run(programs=20).timeline(tmp_path / "run.json"))
    for thread in {(event["pid"], event["tid"]) for event in slices}:
        open_ends = []
        ordered = sorted(
            ((event["ts"], -event["dur"]) for event in slices if (event["pid"], event["tid"]) == thread),
        )
        for start, negative in ordered:
            while open_ends and open_ends[-1] <= start + 1e-9:
                open_ends.pop()
            assert not open_ends or start - negative <= open_ends[-1] + 1e-9
            open_ends.append(start - negative)


def test_timeline_waits_end_when_the_program_goes_on(tmp_path):
    """The slices of the core are computed apart from the replay: both must agree on the program's end."""
    run = copy_run(programs=1)
    slices = slices_of(run.timeline(tmp_path / "run.json"))
    (program,) = [event for event in slices if event["name"].startswith("program")]
    store = next(event for event in slices if event["name"] == "store")
    last = max(event["ts"] + event["dur"] for event in slices if event["name"] == "wait for IO")
    assert last == pytest.approx(store["ts"] + store["dur"])
    cycles = [event["args"]["cycles"] for event in slices if event["name"].startswith("wait")]
    waits = run.core_cycles.wait_io + run.core_cycles.wait_compute
    assert sum(cycles) == waits
    assert program["args"]["cycles"] < run.cycles


def test_timeline_is_capped_and_says_so(tmp_path):
    path = copy_run(programs=20).timeline(tmp_path / "run.json", maximum_slices=25)
    document = json.loads(path.read_text())
    assert "the first 4 of 20 programs" in document["otherData"]["note"]
    programs = [event["name"] for event in slices_of(path) if event["name"].startswith("program")]
    assert programs == [f"program ({number}, 0, 0)" for number in range(4)]


def test_timeline_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="missing"):
        copy_run().timeline(tmp_path / "missing" / "run.json")
    assert not list(tmp_path.iterdir())
