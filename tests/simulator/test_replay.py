"""The replay: closed forms, equality with the reference, and properties that hold of every trace."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections import Counter
from collections.abc import Generator
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.diagnostics import KernelFault
from mlutriton.isa.machine import Machine, machine
from mlutriton.isa.trace_format import (
    FLAG_SRAM,
    WAIT_COMPUTE,
    WAIT_IO,
    WAIT_MOVE,
    Extent,
    Kind,
    Record,
    unpack,
)
from mlutriton.simulator.replay import Trace, event_loop, initial_state, loops, replay, schedule_bound, timing
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay.reference import ReferenceReplay
from mlutriton.simulator.replay.timing import CAUSE_PARAMETERS, Cause, timing_parameters
from tests.simulator.drawn_traces import (
    END,
    MEGABYTE,
    alike_programs,
    load,
    records,
    store,
    sync,
    trace_of,
    traces,
    traces_on_machines,
)
from tests.simulator.reference import BIG, MACHINES, RANDOM, TINY, assert_equals_reference


def start_cycles(model: Machine) -> int:
    return model.cycles_from_ns(model.launch_device_ns) + model.dispatch_cycles


def alone(model: Machine, size: int) -> int:
    """One transfer from DRAM on an idle machine."""
    rate = min(model.core_dma_bytes_per_cycle, model.core_dma_total_bytes_per_cycle)
    return model.dma_setup_cycles + model.cycles_from_ns(model.dram_bulk_latency_ns) + -(-size // rate)


class TestFormat:
    def test_record_is_24_bytes(self) -> None:
        assert len(load(4096).words()) * 8 == 24

    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        programs = data.draw(st.lists(records(), max_size=20))
        words = [word for record in programs for word in record.words()]
        assert [record.words() for record in unpack(words)] == [record.words() for record in programs]

    def test_field_too_large(self) -> None:
        with pytest.raises(ValueError, match="amount is 16777216"):
            load(1 << 24).words()


class TestClosedForms:
    @pytest.mark.parametrize("model", [TINY, BIG], ids=str)
    def test_one_load(self, model: Machine) -> None:
        result = replay(trace_of([load(10_000, scalar_cycles=7), END]), model, keep_events=True)
        assert result.cycles == start_cycles(model) + 7 + alone(model, 10_000)
        assert result.events is not None
        whole = [start_cycles(model) + 7, result.cycles]
        assert result.events.tolist() == [whole, whole]

    def test_load_compute_store(self) -> None:
        compute = sync(scalar_cycles=5, compute_cycles=300, compute_head=302)
        result = replay(trace_of([load(4096), sync(), compute, store(4096, MEGABYTE), END]), BIG)
        after_load = start_cycles(BIG) + alone(BIG, 4096) + BIG.sync_cycles
        after_compute = after_load + 302 + BIG.sync_cycles
        assert result.cycles == after_compute + alone(BIG, 4096)
        assert result.cycles_of(Cause.WAIT_COMPUTE) == 302 - 5
        assert result.compute_busy_cycles[0] == 300

    def test_fold_is_exact(self) -> None:
        # Three instructions issued after 4, 8 and 12 cycles that take 10, 1 and 20 on a queue that is busy until 9.
        queue_free, issued = 9, 0
        for issue, occupancy in ((4, 10), (4, 1), (4, 20)):
            issued += issue
            queue_free = max(queue_free, issued) + occupancy
        head = max(4 + 10 + 1 + 20, 8 + 1 + 20, 12 + 20)
        busy = Record(Kind.LOCAL, compute_cycles=9, compute_head=9)
        folded = sync(WAIT_COMPUTE, scalar_cycles=12, compute_cycles=31, compute_head=head)
        result = replay(trace_of([busy, folded, END]), BIG)
        assert result.cycles == start_cycles(BIG) + queue_free + BIG.sync_cycles

    def test_double_buffered_loop(self) -> None:
        steps, size, work = 8, 8192, 2500
        body = [sync(compute_cycles=0), load(size, 0, compute_cycles=work, compute_head=work)]
        program = [load(size)]
        for step in range(steps):
            program += [body[0], dataclasses.replace(body[1], address=(step + 1) * size)]
        one = alone(BIG, size)
        expected = start_cycles(BIG) + one + BIG.sync_cycles + (steps - 1) * (max(one, work) + BIG.sync_cycles)
        assert replay(trace_of([*program, END]), BIG).cycles == expected + max(one, work)

    def test_queued_transfers_hide_what_comes_before_their_bytes(self) -> None:
        # The second is prepared while the first flows, and flows as soon as it is over.
        sizes = [40_000, 40_960, 48_000]
        loads = [load(size, place * MEGABYTE) for place, size in enumerate(sizes)]
        result = replay(trace_of([*loads, END]), BIG, keep_events=True)
        first = start_cycles(BIG) + alone(BIG, sizes[0])
        rate = min(BIG.core_dma_bytes_per_cycle, BIG.core_dma_total_bytes_per_cycle)
        assert result.cycles == first + (sizes[1] + sizes[2]) // rate
        assert result.events is not None
        assert result.events[1:3].tolist() == [[first, first + 1280], [first + 1280, first + 2780]]
        # Only the first shows its latency.
        assert result.cycles_of(Cause.WAIT_IO_SETUP) == BIG.dma_setup_cycles
        assert result.cycles_of(Cause.WAIT_IO_LATENCY) == BIG.cycles_from_ns(BIG.dram_bulk_latency_ns)

    def test_short_transfers_hide_no_more_than_their_flow(self) -> None:
        # 64 bytes flow for 2 cycles; set-up and latency of each follow on the beginning of the flow before.
        result = replay(trace_of([load(64), load(64, MEGABYTE), load(64, 2 * MEGABYTE), END]), BIG)
        assert result.cycles == start_cycles(BIG) + 3 * alone(BIG, 0) + 2

    def test_preparation_begins_at_the_issue(self) -> None:
        # Issued when the first has half flowed: what is then left of its flow hides part of the latency.
        half, whole = 320, 640
        fixed = alone(BIG, 0)
        rate = min(BIG.core_dma_bytes_per_cycle, BIG.core_dma_total_bytes_per_cycle)
        late = load(6400, MEGABYTE, scalar_cycles=fixed + half)
        result = replay(trace_of([load(whole * rate), late, END]), BIG)
        assert whole < half + fixed
        assert result.cycles == start_cycles(BIG) + fixed + half + alone(BIG, 6400)

    def test_waiting_exposes_every_latency(self) -> None:
        loads = [record for place in range(3) for record in (load(40_960, place * MEGABYTE), sync())]
        result = replay(trace_of([*loads, END]), BIG)
        assert result.cycles == start_cycles(BIG) + 3 * (alone(BIG, 40_960) + BIG.sync_cycles)

    def test_what_has_no_flow_hides_nothing(self) -> None:
        result = replay(trace_of([*[Record(Kind.MOVE, amount=40_960)] * 3, END]), BIG)
        move = BIG.move_setup_cycles + -(-40_960 // BIG.move_bytes_per_cycle)
        assert result.cycles == start_cycles(BIG) + 3 * move

    def test_atomics_read_and_write_granules(self) -> None:
        result = replay(trace_of([Record(Kind.ATOMIC_VECTOR, amount=10, address=4), END]), BIG)
        intervals = BIG.dma_setup_cycles + 10 * BIG.atomic_interval_cycles + BIG.atomic_latency_cycles
        rate = min(BIG.core_dma_bytes_per_cycle, BIG.core_dma_total_bytes_per_cycle)
        assert result.cycles == start_cycles(BIG) + intervals + -(-10 * 4 // rate)
        assert result.dram_read_bytes == result.dram_write_bytes == 10 * BIG.dram_granule_bytes

    def test_neighbours_in_a_granule_are_one_atomic(self) -> None:
        item_bytes = 2 * BIG.dram_granule_bytes + 4
        result = replay(trace_of([Record(Kind.ATOMIC_VECTOR, amount=3, address=item_bytes), END]), BIG)
        intervals = BIG.dma_setup_cycles + 3 * 3 * BIG.atomic_interval_cycles + BIG.atomic_latency_cycles
        rate = min(BIG.core_dma_bytes_per_cycle, BIG.core_dma_total_bytes_per_cycle)
        assert result.cycles == start_cycles(BIG) + intervals + -(-3 * item_bytes // rate)
        assert result.dram_read_bytes == result.dram_write_bytes == 3 * 3 * BIG.dram_granule_bytes

    def test_two_cores_share_dram(self) -> None:
        slow = BIG.replace(dram_gb_per_s=BIG.clock_mhz * 20 / 1000, dram_efficiency=1.0)  # 20 bytes a cycle
        result = replay(trace_of([load(19_200), END], [load(19_200, MEGABYTE), END]), slow)
        fixed = slow.dma_setup_cycles + slow.cycles_from_ns(slow.dram_bulk_latency_ns)
        assert result.cycles == start_cycles(slow) + fixed + 1920

    def test_unequal_flows_free_their_share(self) -> None:
        slow = BIG.replace(dram_gb_per_s=BIG.clock_mhz * 20 / 1000, dram_efficiency=1.0)
        result = replay(trace_of([load(9_600), END], [load(19_200, MEGABYTE), END]), slow)
        fixed = start_cycles(slow) + slow.dma_setup_cycles + slow.cycles_from_ns(slow.dram_bulk_latency_ns)
        assert result.programs[:, 2].tolist() == [fixed + 960, fixed + 1440]

    def test_all_cores_contend(self) -> None:
        size = 120_000
        model = BIG.replace(dram_gb_per_s=BIG.clock_mhz * 480 / 1000, dram_efficiency=1.0)  # 10 bytes a cycle a core
        result = replay(trace_of(*([load(size, core * MEGABYTE), END] for core in range(model.cores))), model)
        fixed = start_cycles(model) + model.dma_setup_cycles + model.cycles_from_ns(model.dram_bulk_latency_ns)
        assert result.cycles == fixed + size // 10
        assert result.cycles_of(Cause.WAIT_IO_CONTENTION) > 0

    def test_hits_cost_no_dram(self) -> None:
        result = replay(trace_of([load(4096), sync(), load(4096), sync(), END]), BIG)
        assert (result.dram_read_bytes, result.l2_hit_bytes) == (4096, 4096)

    def test_least_recently_used_lines_leave(self) -> None:
        tiles = TINY.l2_bytes // 65536
        program = [load(65536, step * 65536) for step in range(tiles + 1)] + [load(65536), END]
        assert replay(trace_of(program), TINY).l2_hit_bytes == 0
        # Of the oldest tile, only as many lines leave as are needed.
        program = [load(65536, step * 65536) for step in range(tiles)] + [load(1000, MEGABYTE), load(65536), END]
        assert replay(trace_of(program), TINY).l2_hit_bytes == 65536 - 1024

    def test_tiles_that_are_used_again_stay(self) -> None:
        # The first of two tiles is used again, whole, just before a third makes the L2 overflow.
        ways = BIG.replace(l2_bytes=2 * 16 * BIG.l2_line_bytes)
        size = 16 * BIG.l2_line_bytes
        first, second, third = (load(size, place * size, extent=Extent(size // 2, 2, size // 2)) for place in range(3))
        used = [first, second, first, third, first]
        result = replay(trace_of([record for each in used for record in (each, sync())] + [END]), ways)
        assert result.l2_hit_bytes == 2 * size
        result = replay(trace_of([*used, second, END]), ways)
        assert result.l2_hit_bytes == 2 * size

    def test_strided_and_small_transfers_cost_granules(self) -> None:
        columns = Extent(4, 256, 4096)
        result = replay(trace_of([load(1024, extent=columns), END]), BIG)
        assert result.dram_read_bytes == 256 * BIG.dram_granule_bytes
        result = replay(trace_of([store(1024, extent=columns), END]), BIG)
        # The rest of each granule is read.
        assert result.dram_read_bytes == result.dram_write_bytes == 256 * BIG.dram_granule_bytes

    def test_dense_extent_is_a_plain_transfer(self) -> None:
        dense = Extent(256, 4, 256, 4, 1024)
        plain, folded = (replay(trace_of([load(4096, extent=extent), END]), BIG) for extent in (None, dense))
        assert plain.cycles == folded.cycles

    def test_gather(self) -> None:
        result = replay(trace_of([Record(Kind.GATHER, amount=100, address=4), END]), BIG)
        assert result.cycles == start_cycles(BIG) + alone(BIG, 400) + 100 * BIG.gather_item_cycles
        assert result.dram_read_bytes == 100 * BIG.dram_granule_bytes

    def test_scalar_atomics_of_one_address_queue_up(self) -> None:
        atomic = Record(Kind.ATOMIC_SCALAR, address=64)
        result = replay(trace_of(*([atomic, END] for _ in range(4))), BIG)
        ends = [BIG.atomic_latency_cycles + turn * BIG.atomic_same_address_cycles for turn in range(4)]
        assert (result.programs[:, 2] - start_cycles(BIG)).tolist() == ends

    def test_programs_go_to_the_core_that_falls_free_first(self) -> None:
        work = [900, 100, 500, 700, 500, 100]
        result = replay(trace_of(*([Record(Kind.END, scalar_cycles=cycles)] for cycles in work)), TINY)
        assert result.programs[:, 0].tolist() == [0, 1, 2, 3, 1, 2]

    @pytest.mark.parametrize("waves", [1, 2, 5])
    def test_further_waves_take_their_time(self, waves: int) -> None:
        result = replay(trace_of(*([Record(Kind.END, scalar_cycles=1000)] for _ in range(waves * BIG.cores))), BIG)
        further = (waves - 1) * BIG.cycles_from_ns(BIG.launch_wave_ns)
        assert result.cycles == start_cycles(BIG) + 1000 + (waves - 1) * (BIG.dispatch_cycles + 1000) + further
        assert result.cycles_of(Cause.LAUNCH) == BIG.cores * (BIG.cycles_from_ns(BIG.launch_device_ns) + further)

    def test_moves_share_sram(self) -> None:
        move = Record(Kind.MOVE, amount=6400, flags=FLAG_SRAM)
        result = replay(trace_of([move, END], [move, END], [move, END], [move, END]), TINY)
        rate = min(TINY.move_bytes_per_cycle, TINY.sram_port_bytes_per_cycle // 4)
        assert result.cycles == start_cycles(TINY) + TINY.move_setup_cycles + 6400 // rate

    def test_cluster_barrier(self) -> None:
        programs = [[Record(Kind.BARRIER_CLUSTER, scalar_cycles=10 * core), END] for core in range(4)]
        result = replay(trace_of(*programs, cores_per_program=4), TINY)
        assert result.cycles == start_cycles(TINY) + 30 + TINY.cluster_barrier_cycles

    def test_barriers_in_a_row(self) -> None:
        barriers = [Record(Kind.BARRIER_CLUSTER, scalar_cycles=4)] * 3
        result = replay(trace_of(*([*barriers, END] for _ in range(4)), cores_per_program=4), TINY)
        assert result.cycles == start_cycles(TINY) + 3 * (4 + TINY.cluster_barrier_cycles)

    def test_no_program(self) -> None:
        assert replay(trace_of(), BIG).cycles == BIG.cycles_from_ns(BIG.launch_device_ns)


class TestFaults:
    def test_deadlock(self) -> None:
        programs = [[Record(Kind.BARRIER_CLUSTER), END], [END], [END], [END]]
        with pytest.raises(KernelFault, match="E0306"):
            replay(trace_of(*programs, cores_per_program=4), TINY)
        with pytest.raises(KernelFault, match="E0306"):
            schedule_bound(trace_of(*programs, cores_per_program=4), TINY)

    def test_program_without_end(self) -> None:
        with pytest.raises(ValueError, match="without END"):
            replay(trace_of([load(64)]), TINY)

    def test_unknown_kind(self) -> None:
        broken = trace_of([Record(Kind.LOCAL), END])
        broken.words[1] = 15 << 32
        with pytest.raises(ValueError, match="unknown kind"):
            replay(broken, TINY)

    def test_task_larger_than_the_machine(self) -> None:
        with pytest.raises(ValueError, match="clusters"):
            replay(trace_of([END] * 8, cores_per_program=3), TINY)


@RANDOM
@given(traces(), st.sampled_from(MACHINES))
def test_equals_reference(trace: Trace, model: Machine) -> None:
    result = replay(trace, model, keep_events=True)
    reference = assert_equals_reference(trace, model)
    assert result.stalls is not None
    stalls = {(int(n), Cause(cause)): int(result.stalls[n, cause]) for n, cause in np.argwhere(result.stalls)}
    assert stalls == {place: cycles for place, cycles in reference.stalls.items() if cycles}


@settings(RANDOM, max_examples=100)
@given(traces_on_machines())
def test_equals_reference_on_every_machine(case: tuple[Trace, Machine]) -> None:
    assert_equals_reference(*case)


@settings(RANDOM, max_examples=200)
@given(
    alike_programs(),
    st.sampled_from([*MACHINES, TINY.replace(clusters=2, l2_latency_ns=TINY.dram_bulk_latency_ns, l2_bytes=8192)]),
)
def test_cores_that_are_alike_equal_the_reference(trace: Trace, model: Machine) -> None:
    assert_equals_reference(trace, model)


def test_programs_that_take_no_time_go_to_the_core_that_ends_first() -> None:
    model = TINY.replace(clusters=2, dispatch_cycles=0, launch_wave_ns=0)
    some = [Record(Kind.LOCAL, scalar_cycles=5), END]
    assert_equals_reference(trace_of(*[[END]] * 11, *[some] * 9, *[[END]] * 9), model)


def test_what_a_core_moves_goes_on_where_it_follows_no_longer() -> None:
    # The second core finds its bytes in the L2, while both still move.
    program = [Record(Kind.MOVE, amount=400_000), load(4096, scalar_cycles=9), sync(WAIT_MOVE), END]
    assert_equals_reference(trace_of(*[program] * 3), TINY)


@pytest.mark.parametrize("clusters", [1, 2])
def test_cores_share_the_port_of_their_cluster(clusters: int) -> None:
    model = BIG.replace(clusters=clusters, max_union_clusters=1, cluster_dma_bytes_per_cycle=8)
    size = 100_000
    programs = [[load(size, core * MEGABYTE), END] for core in range(model.cores)]
    flow = -(-size * model.cores_per_cluster // model.cluster_dma_bytes_per_cycle)
    latency = alone(model, 0)
    assert replay(trace_of(*programs), model).cycles == start_cycles(model) + latency + flow


@settings(RANDOM, max_examples=15)
@given(traces(), st.sampled_from(MACHINES))
def test_machine_code_equals_the_same_source_in_python(trace: Trace, model: Machine) -> None:
    state = initial_state(trace.stored, trace.cores_per_program, model, ring_entries=64, blocks=256, keep_events=False)
    names = [field.name for field in dataclasses.fields(state)]
    lists = at.ReplayState(**{name: getattr(state, name).tolist() for name in names})
    event_loop.run_replay(lists)
    assert replay(trace, model).cycles == lists.shared[at.MAKESPAN]


@settings(RANDOM, max_examples=15)
@given(traces((1, 1, 4)), st.sampled_from(MACHINES))
def test_what_is_interpreted_first_is_what_machine_code_finds(trace: Trace, model: Machine) -> None:
    expected = replay(trace, model), schedule_bound(trace, model)
    with without_machine_code():
        result, bound = replay(trace, model), schedule_bound(trace, model)
    assert (result.cycles, bound) == (expected[0].cycles, expected[1])
    for name in ("cause_cycles", "compute_busy_cycles", "io_busy_cycles", "move_busy_cycles", "programs"):
        assert getattr(result, name).tolist() == getattr(expected[0], name).tolist()
    for name in ("dram_read_bytes", "dram_write_bytes", "l2_hit_bytes"):
        assert getattr(result, name) == getattr(expected[0], name)


@contextlib.contextmanager
def without_machine_code() -> Generator[mock.Mock]:
    """As in a process that finds nothing compiled on disk; yields what compiles."""
    parts = {"_compiled": {}, "_interpreted": Counter(), "kept_module": mock.Mock(return_value=None)}
    with (
        mock.patch.multiple(loops, **parts),
        mock.patch.object(loops, "compile_llvm", side_effect=AssertionError("it is compiled")) as compiling,
    ):
        yield compiling


def test_machine_code_is_named_by_all_of_its_sources() -> None:
    sources = {module.__name__ for module in loops._SOURCES}
    for module in loops._SOURCES:
        functions = [value for value in vars(module).values() if inspect.isfunction(value)]
        called = {each.__module__ for each in functions if each.__module__.startswith("mlutriton.simulator")}
        assert called <= sources, module.__name__


def test_machine_code_is_made_once_there_is_enough_to_replay() -> None:
    trace = trace_of([*(load(4096, 4096 * i) for i in range(50)), END])
    with without_machine_code() as compiling:
        times = 0
        while not compiling.called:
            with contextlib.suppress(AssertionError):
                replay(trace, TINY)
                times += 1
        assert 20 <= times <= 40, "each load is a record and a page"
    for large in (
        trace_of([load(1 << 23, i << 23) for i in range(4)] + [END]),
        trace_of([load(10_000 * 64, extent=Extent(64, 10_000, 128)), END]),
        trace_of([*(sync() for _ in range(3000)), END]),
    ):
        with without_machine_code(), pytest.raises(AssertionError, match="it is compiled"):
            replay(large, TINY)
    with without_machine_code(), pytest.raises(AssertionError, match="it is compiled"):
        replay(trace, TINY, keep_events=True)


@pytest.mark.parametrize("step", [1, 2])
def test_a_trace_that_is_replayed_again_is_read_again(step: int) -> None:
    """Only where its arrays are is known of it, and of others not even that: what somebody changes in them counts."""
    short, long = (trace_of([load(size), sync(), END], [END]).words for size in (64, MEGABYTE))
    words = np.zeros(step * len(short), np.int64)[::step]
    trace = trace_of([END]).altered(words, np.array([0, 3], np.int64))
    cycles: list[int] = []
    for each in (short, long, short):
        words[:] = each
        cycles.append(replay(trace, TINY).cycles)
    assert cycles[0] == cycles[2] < cycles[1]


@RANDOM
@given(traces(), st.sampled_from(MACHINES))
def test_every_cycle_has_one_cause(trace: Trace, model: Machine) -> None:
    result = replay(trace, model)
    assert (result.cause_cycles.sum(axis=1) == result.cycles).all()
    assert (result.cause_cycles >= 0).all()
    assert 0 <= result.assumed_share(model) <= 1


@RANDOM
@given(traces(), st.sampled_from(MACHINES))
def test_bytes_are_conserved(trace: Trace, model: Machine) -> None:
    asked = sum(r.amount for r in unpack(trace.words.tolist()) if r.kind in (Kind.LOAD, Kind.STORE))
    result = replay(trace, model)
    assert result.l2_hit_bytes <= asked <= result.l2_hit_bytes + result.dram_read_bytes + result.dram_write_bytes


@RANDOM
@given(traces(), st.sampled_from(MACHINES))
def test_never_below_schedule_bound(trace: Trace, model: Machine) -> None:
    assert schedule_bound(trace, model) <= replay(trace, model).cycles


@RANDOM
@given(st.lists(st.lists(st.tuples(st.integers(1, 60_000), st.booleans()), max_size=8), min_size=4, max_size=8))
def test_faster_dram_is_never_slower(work: list[list[tuple[int, bool]]]) -> None:
    # One program a core and no shared line: the mapping is static. A cycle per transfer is what rounding may cost.
    programs = [
        [
            record
            for step, (size, wait) in enumerate(program)
            for record in [load(size, (core * 8 + step) * 65536), *([sync()] if wait else [])]
        ]
        + [END]
        for core, program in enumerate(work)
    ]
    slow = TINY.replace(clusters=2, dram_gb_per_s=20.0)
    fast = slow.replace(dram_gb_per_s=31.0)
    times = [replay(trace_of(*programs), model).cycles for model in (slow, fast)]
    assert times[1] <= times[0] + 8


@RANDOM
@given(traces(), st.sampled_from(MACHINES))
def test_schedule_bound_is_that_of_programs_that_run_alone(trace: Trace, model: Machine) -> None:
    """Alone on a machine whose shared resources know no limit, the replay takes as long as the bound says."""
    # The bound lets all tiles have the lesser latency; here there is only one.
    model = model.replace(l2_latency_ns=model.dram_bulk_latency_ns)
    vast = model.replace(
        dram_gb_per_s=1e8, l2_bytes_per_cycle=10**6, cluster_dma_bytes_per_cycle=10**6, sram_port_bytes_per_cycle=10**6,
        atomic_same_address_cycles=0,
    )  # fmt: skip
    members = trace.cores_per_program
    units = model.cores if members == 1 else model.clusters // (members // model.cores_per_cluster)
    launch, wave = (model.cycles_from_ns(ns) for ns in (model.launch_device_ns, model.launch_wave_ns))
    alone = [
        replay(Trace(trace.words, trace.starts[first : first + members], members), vast).cycles - launch
        for first in range(0, len(trace.starts), members)
    ]
    alone = [cycles + (wave if number >= units else 0) for number, cycles in enumerate(alone)]
    assert schedule_bound(trace, model) == launch + max(max(alone), -(-sum(alone) // units))


def test_schedule_bound_is_exact_without_contention() -> None:
    trace = trace_of(*([Record(Kind.END, scalar_cycles=1000)] for _ in range(2 * BIG.cores)))
    assert schedule_bound(trace, BIG) == replay(trace, BIG).cycles


def test_deep_queues() -> None:
    program = [load(64, step * 64) for step in range(1000)] + [END]
    result = replay(trace_of(program), BIG)
    one = alone(BIG, 64)
    reference = ReferenceReplay(trace_of(program).words.tolist(), [0], 1, BIG)
    assert reference.run()
    assert result.cycles == reference.cycles < start_cycles(BIG) + 1000 * one


def test_union_tasks_take_whole_clusters() -> None:
    programs = [[Record(Kind.BARRIER_UNION, scalar_cycles=core), END] for core in range(8 * 8)]
    result = replay(trace_of(*programs, cores_per_program=8), BIG)
    assert sorted(result.programs[:6, 0].tolist()) == [0, 2, 4, 6, 8, 10]
    assert result.programs[6, 1] > result.programs[:6, 1].max()


def test_wait_for_one_queue_leaves_the_others() -> None:
    move = Record(Kind.MOVE, amount=64_000)
    result = replay(trace_of([move, load(64), sync(WAIT_IO), END]), BIG)
    assert result.cycles_of(Cause.WAIT_MOVE) > 0
    result = replay(trace_of([move, load(64), sync(WAIT_MOVE), END]), BIG)
    assert result.cycles_of(Cause.WAIT_IO_LATENCY) == 0


@pytest.mark.parametrize("name", ["mlu220", "mlu370-x4", "mlu590-m9", "mlu-tiny"])
def test_parameters_of_causes_are_the_machine_s(name: str) -> None:
    model = machine(name)
    for parameters in CAUSE_PARAMETERS.values():
        for parameter in parameters:
            assert model.provenance(parameter)
    assert len(timing_parameters(model)) == timing.PARAMETER_COUNT
