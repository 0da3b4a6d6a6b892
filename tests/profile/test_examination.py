"""What is said of a launch: it adds up, and every claim is a replay that can be done again."""

import numpy as np
import pytest
from kernels import (
    RUNS,
    column_copy,
    column_copy_run,
    counted,
    counted_run,
    gathered,
    gathered_run,
    line_of,
    matmul,
    matmul_run,
    softmax,
    softmax_by_reciprocals,
    softmax_run,
    staircase_run,
)

import mlutriton as mlu
from mlutriton.diagnostics import ArgumentError
from mlutriton.isa.assembly import assemble
from mlutriton.isa.table import Queue
from mlutriton.isa.trace_format import Kind
from mlutriton.profile import alterations, examine, sensitivity
from mlutriton.profile.breakdown import CATEGORIES, MATMUL, VECTOR
from mlutriton.profile.schedule import schedule
from mlutriton.profile.source import weight
from mlutriton.profile.waits import Reason, waits
from mlutriton.simulator.replay import replay


@pytest.mark.parametrize("launch", RUNS)
def test_every_cycle_of_every_core_is_in_one_category(launch):
    run = launch()
    cycles = examine(run).core_cycles
    assert list(cycles) == list(CATEGORIES)
    assert min(cycles.values()) >= 0
    assert sum(cycles.values()) == run.cycles * run.machine.cores


def test_waits_for_tensor_units_are_told_from_others():
    assert examine(staircase_run()).core_cycles[MATMUL] > 0
    cycles = examine(softmax_run(rows=2000, columns=1000)).core_cycles
    assert cycles[MATMUL] == 0 < cycles[VECTOR]


def test_queues_are_busy_as_the_timing_says():
    run = matmul_run()
    busy = {use.queue: use.busy_cycles for use in examine(run).queues}
    assert busy[Queue.COMPUTE] == run.timing.compute_busy_cycles.sum()
    assert busy[Queue.IO] == run.timing.io_busy_cycles.sum()
    assert 0 < busy[Queue.SCALAR] < run.cycles * run.machine.cores


def test_traffic_and_high_water_are_those_of_the_run():
    run = column_copy_run()
    found = examine(run)
    traffic = {use.name: use.used for use in found.traffic}
    assert traffic["read from DRAM"] == run.dram_read_bytes
    assert traffic["moved by DMA"] == 2 * 512 * 512 * 4
    assert traffic["moved within the chip"] == 0
    assert {use.name: use.used for use in found.on_chip}["NRAM"] == run.nram_used_bytes


@pytest.mark.parametrize(
    ("launch", "name", "without"),
    [
        (column_copy_run, "DMA latency", {"dram_bulk_latency_ns": 0, "l2_latency_ns": 0}),
        (softmax_run, "the launch", {"launch_device_ns": 0, "launch_wave_ns": 0, "dispatch_cycles": 0}),
        (matmul_run, "barriers", {"cluster_barrier_cycles": 0, "union_barrier_cycles": 0}),
    ],
)
def test_a_limit_is_the_replay_without_it(launch, name, without):
    run = launch()
    [limit] = [each for each in examine(run).limits if each.name == name]
    assert limit.cycles == run.what_if(run.machine.replace(**without)).cycles
    assert limit.saved == 1 - limit.cycles / run.cycles


def test_what_bounds_a_launch_saves_most():
    found = examine(softmax_run())
    assert found.bounded_by.saved == max(each.saved for each in found.limits)
    run = matmul_run(size=2048, programs=(16, 8)).what_if(mlu.machine("mlu590-m9").replace(dram_gb_per_s=30.0))
    assert examine(run).bounded_by.name == "DRAM bandwidth"


def advice_at(found, kernel, text):
    line = line_of(kernel, text)
    return [each for each in found.advice if each.location and each.location.line == line]


def test_short_segments_are_found_at_their_line_with_what_they_cost():
    run = column_copy_run()
    found = examine(run)
    line = line_of(column_copy, "tl.load")
    [each] = [each for each in advice_at(found, column_copy, "tl.load") if "segments" in each.fact]
    # A transfer brings the tile of one program, or those of neighbours at once.
    transfers = int(alterations.rows_of(run.trace, [Kind.LOAD]).sum())
    assert f"segments of 64 B, {512 * 512 * 4 / 64 / transfers:,.0f} a transfer" in each.fact
    numbers = [
        number
        for number, instruction in enumerate(run.program.instructions)
        if instruction.location.line == line and instruction.row.trace
    ]
    chosen = alterations.rows_of(run.trace, [Kind.LOAD], numbers)
    assert each.cycles == replay(alterations.in_one_piece(run.trace, chosen), run.machine).cycles
    assert each.saved == 1 - each.cycles / run.cycles
    assert f"{each.saved:.0%} fewer cycles" in str(each)


def test_gathers_atomics_and_dots_are_found_at_their_lines():
    [each, *_] = advice_at(examine(gathered_run()), gathered, "tl.load(x")
    assert "6,144 items of 4 B" in each.fact
    [each, *_] = advice_at(examine(counted_run()), counted, "atomic_add")
    assert "60 scalar atomics" in each.fact
    assert advice_at(examine(matmul_run(size=1024)), matmul, "tl.dot")


def test_idle_cores_are_worth_what_more_programs_would_gain():
    run = softmax_run(rows=12)
    [each] = [each for each in examine(run).advice if "cores have work" in each.fact]
    assert each.fact.startswith("12 of 48 cores")
    assert each.cycles == -(-replay(alterations.repeated(run.trace, 4), run.machine).cycles // 4)


def test_rows_may_be_multiplied_by_reciprocals():
    run = softmax_run(rows=2000)
    [each] = [each for each in advice_at(examine(run), softmax, "tl.sum") if "divided" in each.fact]
    # What the advice promises is kept if it is followed, but for the reciprocals themselves.
    x = np.random.default_rng(0).random((2000, 500), dtype=np.float32)
    followed = softmax_by_reciprocals[(2000,)](np.empty_like(x), x, 500, BLOCK=512)
    assert followed.cycles == pytest.approx(each.cycles, rel=0.1)
    assert not [each for each in examine(followed).advice if "divided" in each.fact]


def test_no_advice_where_nothing_can_be_saved():
    run = softmax_run()
    assert all(each.saved >= 0.02 for each in examine(run).advice)
    assert [each.saved for each in examine(run).advice] == sorted((e.saved for e in examine(run).advice), reverse=True)


def test_gains_are_replays_with_one_parameter_changed():
    run = column_copy_run()
    gains = {gain.parameter: gain for gain in sensitivity(run)}
    gain = gains["dram_bulk_latency_ns"]
    assert (gain.value, gain.better) == (400, 200)
    assert gain.cycles == run.what_if(run.machine.replace(dram_bulk_latency_ns=200)).cycles
    assert gains["dram_efficiency"].better == 1
    assert gains["core_dma_bytes_per_cycle"].better == 64
    clock = gains["clock_mhz"]
    assert clock.time_us == clock.cycles / 3200
    assert not gains.keys() & {"isa", "vector_bytes_per_cycle", "nram_bytes", "has_move_queue", "launch_host_ns"}


def test_gains_of_a_resident_program_leave_its_cores_alone():
    run = softmax_run()
    assert run.program.is_resident
    assert "clusters" not in {gain.parameter for gain in sensitivity(run)}
    assert "clusters" in {gain.parameter for gain in sensitivity(staircase_run())}


def test_gains_of_programs_of_clusters_leave_these_as_they_are():
    run = staircase_run(programs=(4, 4), num_warps=4)
    assert run.trace.cores_per_program == 4
    gains = {gain.parameter for gain in sensitivity(run)}
    assert "cores_per_cluster" not in gains
    assert "clusters" in gains
    with pytest.raises(ArgumentError, match="what_if cannot change cores_per_cluster"):
        run.what_if(run.machine.replace(cores_per_cluster=8))


def test_the_source_has_all_costs_beside_its_text():
    run = softmax_run()
    parts = examine(run).source
    assert sum(part.share for part in parts) == pytest.approx(1)
    kernel = parts[0]
    texts = {line.number: line.text for line in kernel.lines}
    assert texts[line_of(softmax, "tl.exp")] == "    powers = tl.exp(values - tl.max(values, axis=0))"
    assert kernel.lines[0].text == "@mlu.jit"
    costs = run.lines()
    assert {line.number for line in kernel.lines if line.cost} == {n for file, n in costs if file == kernel.file}
    dearest = max(kernel.lines, key=lambda line: line.share)
    assert weight(dearest.cost) == max(map(weight, costs.values()))


def test_a_line_that_waits_names_the_lines_that_it_waits_for():
    kernel = examine(softmax_run(rows=2000, columns=1000)).source[0]
    awaited = {queue: set(lines) for line in kernel.lines for queue, lines in line.awaited}
    assert line_of(softmax, "tl.load") in awaited["DMA"]
    assert line_of(softmax, "tl.exp") in awaited["compute"]


WAITS = """
.program waits
.isa 592
.param x ptr f32
.buffer a nram 0 4096
.buffer b nram 4096 4096

    param r0, 0
    mov.i64 r1, 0
again:
    dma.load.f32 [a], g[r0], 1024, 1, 1, 1024, 1024, 0, 0
    sync 1
    v.fadd.f32 [b], [a], 1.0, 1, 1024
    sync 4
    dma.store.f32 g[r0], [b], 1024, 1, 1, 1024, 1024, 0, 0
    sync 1
    v.fadd.f32 [b], 0.0, 1.0, 1, 1024
    add.i64 r1, r1, 1
    lt.i64 r2, r1, 3
    sync 4
    cbr r2, again
    exit
"""


def test_waits_for_values_are_told_from_waits_for_buffers():
    program = assemble(WAITS.replace("lt.i64", "slt.i64"))
    found = {number: wait for (number, _), wait in waits(program).items()}
    reasons = [found[number].reason for number in sorted(found)]
    # Load before add, add before store, store before the buffer is written anew, add before the load overwrites a
    # buffer that it does not touch and before the next store.
    assert reasons[:3] == [Reason.VALUES, Reason.VALUES, Reason.REUSE]


@pytest.mark.parametrize("launch", RUNS)
def test_the_schedule_of_a_core_stays_in_its_stretch(launch):
    found = schedule(launch())
    assert found is not None
    assert all(box.start >= 0 and box.width >= 0 and box.start + box.width <= 1 + 1e-9 for box in found.boxes)
    assert {box.queue for box in found.boxes} >= {Queue.SCALAR, Queue.IO}


def test_runs_without_counts_are_examined_too(monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", "interpreter")
    run = softmax_run(rows=4)
    assert run.counters is None
    found = examine(run)
    assert sum(found.core_cycles.values()) == run.cycles * run.machine.cores
    assert found.operations == 0
    assert found.limits
    assert np.isfinite([each.saved for each in found.advice]).all()


def test_an_empty_launch_is_examined_too():
    x = np.zeros((0, 500), np.float32)
    run = softmax[(0,)](x, x, 500, BLOCK=512)
    found = examine(run)
    assert sum(found.core_cycles.values()) == run.cycles * run.machine.cores
    assert found.bounded_by.name == "the launch"
    assert schedule(run) is None


def test_no_part_of_the_source_costs_nothing():
    """Programs also have instructions that stem from no line, and some of these never run."""
    for launch in (softmax_run, matmul_run):
        assert all(part.share > 0 for part in examine(launch()).source)
