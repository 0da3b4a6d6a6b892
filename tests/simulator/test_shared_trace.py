"""Programs that share records: nothing of a trace is lost, and its replay is the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.diagnostics import KernelFault
from mlutriton.isa.machine import machine
from mlutriton.isa.trace_format import LOCAL_START, WAIT_ALL, Extent, Kind, Record
from mlutriton.profile import alterations
from mlutriton.simulator import execution
from mlutriton.simulator.replay import Trace, replay, schedule_bound
from mlutriton.simulator.shared_trace import SharedTrace, TraceSharer
from mlutriton.simulator.work_bound import unique_bytes

TINY = machine("mlu-tiny")
END = Record(Kind.END)


@st.composite
def paths(draw: st.DrawFn) -> list[tuple[int, Record]]:
    """What a program does, each record with the number of the array that it touches; 3 is local memory."""
    kinds = [Kind.LOAD, Kind.LOAD, Kind.STORE, Kind.SYNC, Kind.GATHER, Kind.SCALAR_LOAD, Kind.ATOMIC_SCALAR, Kind.LOCAL]
    path: list[tuple[int, Record]] = []
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=6)):
        array = draw(st.integers(0, 3)) if kind in (Kind.LOAD, Kind.STORE) else draw(st.integers(0, 2))
        amount, extent = draw(st.sampled_from([64, 1000])), None
        if kind in (Kind.LOAD, Kind.STORE) and draw(st.booleans()):
            extent = Extent(100, 4, 2048, 2, 10_000)
            amount = 800
        record = Record(kind, amount if kind != Kind.SYNC else WAIT_ALL, extent=extent, instruction=len(path))
        path.append((array, record))
    return path


@st.composite
def grids(draw: st.DrawFn, cores: int = 1) -> Trace:
    """Programs of few paths, whose arrays move by distances of their own, and now and then in another way."""
    some = draw(st.lists(paths(), min_size=1, max_size=3))
    words: list[int] = []
    starts: list[int] = []
    for number in range(cores * draw(st.integers(0, 40))):
        moves = draw(st.sampled_from([(4096, 4096, 0), (64, 4096, 4096), (0, 0, 0), (100, -8, 40_000)]))
        starts.append(len(words) // 3)
        for array, record in draw(st.sampled_from(some)):
            if record.kind not in (Kind.SYNC, Kind.GATHER, Kind.LOCAL):
                address = LOCAL_START if array == 3 else (1 << 20) * (array + 1) + number * moves[array]
                record = dataclasses.replace(record, address=address)
            elif record.kind == Kind.GATHER:
                record = dataclasses.replace(record, address=64)
            words += record.words()
        words += END.words()
    return Trace(np.array(words, np.int64), np.array(starts, np.int64), cores)


def shared(trace: Trace, parts: int) -> SharedTrace:
    """The trace, seen in so many parts."""
    sharer = TraceSharer(trace.cores_per_program)
    per_part = -(-trace.programs // parts) * trace.cores_per_program if trace.programs else 1
    ends = [*trace.starts.tolist(), trace.records]
    for first in range(0, len(trace.starts), per_part):
        last = min(first + per_part, len(trace.starts))
        begin, end = ends[first], ends[last]
        sharer.add(trace.words[3 * begin : 3 * end], trace.starts[first:last] - begin)
    return sharer.trace()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(grids() | grids(4), st.integers(1, 4))
def test_a_shared_trace_has_every_record(trace: Trace, parts: int) -> None:
    kept = shared(trace, parts)
    assert kept.words.tolist() == trace.words.tolist()
    assert kept.starts.tolist() == trace.starts.tolist()
    assert (kept.programs, kept.records) == (trace.programs, trace.records)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(grids() | grids(4), st.integers(1, 4), st.sampled_from([TINY, TINY.replace(l2_bytes=4096)]))
def test_a_shared_trace_takes_as_long(trace: Trace, parts: int, model: mlu.Machine) -> None:
    kept = shared(trace, parts)
    result, expected = replay(kept, model), replay(trace, model)
    with_events = replay(kept, model, keep_events=True)
    assert result.cycles == expected.cycles
    assert result.cause_cycles.tolist() == expected.cause_cycles.tolist()
    assert with_events.programs.tolist() == expected.programs.tolist()
    assert (result.l2_hit_bytes, result.dram_read_bytes) == (expected.l2_hit_bytes, expected.dram_read_bytes)
    assert schedule_bound(kept, model) == schedule_bound(trace, model)
    assert unique_bytes(kept.pieces(), 64) == unique_bytes([trace.words], 64)
    assert with_events.events is not None
    assert alterations.without_issue(kept).words.tolist() == alterations.without_issue(trace).words.tolist()


def test_programs_of_one_path_are_one_run() -> None:
    words: list[int] = []
    starts: list[int] = []
    for number in range(1000):
        starts.append(len(words) // 3)
        for step in range(50):
            words += Record(Kind.LOAD, 256, (1 << 20) + number * 4096 + step * 256).words()
        words += [*Record(Kind.STORE, 64, (1 << 30) + number * 64).words(), *END.words()]
    kept = shared(Trace(np.array(words, np.int64), np.array(starts, np.int64)), 3)
    assert kept.stored.records == 52
    assert len(kept.stored.runs) == 5
    assert len(kept.stored.distances) == 6


def test_rows_of_a_grid_are_runs() -> None:
    words: list[int] = []
    starts: list[int] = []
    for row in range(30):
        for column in range(40):
            starts.append(len(words) // 3)
            words += [*Record(Kind.LOAD, 64, (row << 20) + column * 64).words(), *END.words()]
    kept = shared(Trace(np.array(words, np.int64), np.array(starts, np.int64)), 4)
    assert kept.words.tolist() == words
    assert (len(kept.stored.runs) - 1) // 4 == 30


@mlu.jit
def sum_in_steps(out, x, steps, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    step = 0
    while step < steps:  # which no task serves program after program
        total += tl.load(x + (tl.program_id(0) * steps + step) * BLOCK + place)
        step += 1
    tl.store(out + tl.program_id(0) * BLOCK + place, total)


@pytest.mark.parametrize(("threads", "num_warps"), [(1, 1), (2, 1), (2, 4)])
def test_large_grids_share_records(threads: int, num_warps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLUTRITON_THREADS", str(threads))
    x = np.random.default_rng(0).standard_normal(900 * 4 * 64, dtype=np.float32)
    out = np.empty(900 * 64, np.float32)
    whole = sum_in_steps[(900,)](out, x, 4, BLOCK=64, num_warps=num_warps)
    values, out[:] = out.copy(), 0
    monkeypatch.setattr(execution, "_FIRST_TASKS", 100)
    monkeypatch.setattr(execution, "_PART_BYTES", 1 << 14)
    run = sum_in_steps[(900,)](out, x, 4, BLOCK=64, num_warps=num_warps)
    assert not run.program.is_resident
    assert (out == values).all()
    assert isinstance(run.trace, SharedTrace)
    assert run.trace.stored.records < whole.trace.records // 10
    assert run.trace.words.tolist() == whole.trace.words.tolist()
    assert run.counters == whole.counters
    assert run.cycles == whole.cycles
    assert (run.schedule_bound_cycles, run.work_bound_cycles) == (whole.schedule_bound_cycles, whole.work_bound_cycles)


@pytest.mark.parametrize("threads", [1, 2])
def test_tasks_of_later_parts_may_be_few_enough_to_be_kept_whole(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLUTRITON_THREADS", str(threads))
    x, out = np.ones(900 * 4 * 64, np.float32), np.empty(900 * 64, np.float32)
    whole = sum_in_steps[(900,)](out, x, 4, BLOCK=64)
    monkeypatch.setattr(execution, "_FIRST_TASKS", 100)
    monkeypatch.setattr(execution, "_PART_BYTES", 1 << 30)
    run = sum_in_steps[(900,)](out, x, 4, BLOCK=64)
    assert not isinstance(run.trace, SharedTrace)
    assert run.trace.words.tolist() == whole.trace.words.tolist()
    assert run.trace.starts.tolist() == whole.trace.starts.tolist()


def test_a_fault_of_a_later_part_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_FIRST_TASKS", 100)
    monkeypatch.setattr(execution, "_PART_BYTES", 1 << 14)
    x, out = np.zeros(700 * 4 * 64, np.float32), np.empty(900 * 64, np.float32)
    with pytest.raises(KernelFault, match=r"program \(700, 0, 0\)"):
        sum_in_steps[(900,)](out, x, 4, BLOCK=64)
