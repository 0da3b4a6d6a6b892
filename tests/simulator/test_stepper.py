"""The replay against a simulator that was written apart from it and goes from cycle to cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlutriton.isa.machine import Machine, machine
from mlutriton.isa.trace_format import FLAG_BETWEEN_CLUSTERS, FLAG_SRAM, NO_COMPUTE, WAIT_ALL, Extent, Kind, Record
from mlutriton.simulator.replay import Timing, Trace, replay
from tests.simulator.stepper import ATOMIC_PLACES, Stepper

# Latencies are short, so that stepping is, and for transfers of few bytes to overlap nonetheless.
SHORT = {
    "launch_device_ns": 20,
    "dispatch_cycles": 11,
    "dram_bulk_latency_ns": 90,
    "l2_latency_ns": 40,
    "dram_scalar_latency_ns": 55,
    "dma_setup_cycles": 13,
}
TINY = machine("mlu-tiny").replace(name="tiny", **SHORT)
# The large machine with three clusters, and what they share as scarce as it is for twelve.
SCALED = machine("mlu590-m9").replace(
    name="scaled",
    clusters=3,
    max_union_clusters=2,
    dram_gb_per_s=691.2,
    l2_bytes_per_cycle=768,
    l2_bytes=12582912,
    **SHORT,
)
SCARCE_DRAM = SCALED.replace(name="scarce DRAM", dram_gb_per_s=100.0)
SCARCE_L2 = SCALED.replace(name="scarce L2", l2_bytes_per_cycle=100)
SCARCE_PORTS = SCALED.replace(name="scarce ports", cluster_dma_bytes_per_cycle=70, sram_port_bytes_per_cycle=96)
ONE_QUEUE = TINY.replace(name="one queue", has_move_queue=False, dram_gb_per_s=40.0)
# Less than most programs touch, so that lines leave the L2 all the time.
SMALL_L2 = TINY.replace(name="small L2", l2_bytes=4096)
COARSE_L2 = TINY.replace(name="coarse L2", l2_bytes=8192, l2_line_bytes=512)
MACHINES = [TINY, SCALED, SCARCE_DRAM, SCARCE_L2, SCARCE_PORTS, ONE_QUEUE, SMALL_L2, COARSE_L2]

ADDRESSES = 1 << 18
MOST_BYTES = 6000
EXAMPLES = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record but a barrier or the end, with some local work before it."""
    kind = draw(
        st.sampled_from(
            [Kind.LOAD] * 4
            + [Kind.STORE] * 3
            + [Kind.GATHER, Kind.SCATTER, Kind.MOVE, Kind.MOVE, Kind.SYNC, Kind.SYNC]
            + [Kind.SCALAR_LOAD, Kind.SCALAR_STORE, Kind.ATOMIC_SCALAR, Kind.ATOMIC_VECTOR, Kind.LOCAL]
        )
    )
    compute = draw(st.integers(0, 150))
    local: dict[str, int] = {
        "scalar_cycles": draw(st.integers(0, 60)),
        "compute_cycles": compute,
        "compute_head": draw(st.one_of(st.just(NO_COMPUTE), st.integers(compute, compute + 50))),
    }
    if kind in (Kind.LOAD, Kind.STORE):
        return draw(blocks(kind, local))
    match kind:
        case Kind.GATHER | Kind.SCATTER:
            return Record(
                kind, amount=draw(st.integers(0, 12)), address=draw(st.sampled_from([4, 32, 100, 256])), **local
            )
        case Kind.ATOMIC_VECTOR:
            return Record(kind, amount=draw(st.integers(0, 12)), address=draw(st.sampled_from([4, 64, 100])), **local)
        case Kind.ATOMIC_SCALAR:
            return Record(kind, amount=4, address=draw(st.sampled_from([0, 4, 8, 8 * ATOMIC_PLACES, 4096])), **local)
        case Kind.MOVE:
            flags = draw(st.sampled_from([0, FLAG_SRAM, FLAG_SRAM, FLAG_BETWEEN_CLUSTERS]))
            return Record(kind, amount=draw(st.integers(0, MOST_BYTES)), flags=flags, **local)
        case Kind.SYNC:
            return Record(kind, amount=draw(st.integers(1, WAIT_ALL)), **local)
        case _:
            return Record(kind, **local)


@st.composite
def blocks(draw: st.DrawFn, kind: Kind, local: dict[str, int]) -> Record:
    """A LOAD or STORE of one, two or three dimensions; few addresses, so that programs find each other's lines."""
    address = draw(st.sampled_from([0, 8192, 10_000])) + draw(st.integers(0, 256))
    if draw(st.booleans()):
        return Record(kind, amount=draw(st.integers(0, MOST_BYTES)), address=address, **local)
    segment, count1, count2 = draw(st.integers(1, 400)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    stride1 = segment + draw(st.sampled_from([0, 0, 1, 500]))
    stride2 = stride1 * count1 + draw(st.sampled_from([0, 0, 77]))
    extent = Extent(segment, count1, stride1, count2, stride2)
    return Record(kind, amount=segment * count1 * count2, address=address, extent=extent, **local)


programs = st.lists(records(), max_size=5).map(lambda before: [*before, Record(Kind.END, scalar_cycles=3)])


@st.composite
def tasks(draw: st.DrawFn, cores: int, barrier: Kind) -> list[list[Record]]:
    """What the cores of a task do, who all come to the same barriers."""
    parts = [[Record(kind) for kind in [barrier] * draw(st.integers(0, 3))]]
    parts *= cores
    stretches = st.lists(records(), max_size=3)
    return [
        [*(each for end in part for each in [*draw(stretches), end]), *draw(stretches), Record(Kind.END)]
        for part in parts
    ]


def both(launch: list[list[Record]], model: Machine, cores_per_program: int = 1) -> tuple[Stepper, Timing]:
    """A launch on the stepper and on the replay."""
    words: list[int] = []
    starts: list[int] = []
    for program in launch:
        starts.append(len(words) // 3)
        words += [word for record in program for word in record.words()]
    stepper = Stepper(words, starts, model, cores_per_program)
    stepper.run()
    trace = Trace(np.array(words, dtype=np.int64), np.array(starts, dtype=np.int64), cores_per_program)
    return stepper, replay(trace, model)


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.name)
@settings(EXAMPLES, max_examples=80)
@given(program=programs)
def test_one_core_is_equal_to_the_cycle(model: Machine, program: list[Record]) -> None:
    stepper, timing = both([program], model)
    assert stepper.ends == timing.programs[:, 2].tolist()
    assert max(stepper.ends) == timing.cycles


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.name)
@settings(EXAMPLES, max_examples=70)
@given(launch=st.lists(programs, min_size=2, max_size=8))
def test_contending_cores_take_as_long(model: Machine, launch: list[list[Record]]) -> None:
    stepper, timing = both(launch, model)
    assert abs(max(stepper.ends) - timing.cycles) <= max(2, timing.cycles * 0.005)


@pytest.mark.parametrize(
    ("model", "clusters", "barrier"),
    [
        (TINY, 1, Kind.BARRIER_CLUSTER),
        (SCALED, 1, Kind.BARRIER_CLUSTER),
        (SCARCE_PORTS, 1, Kind.BARRIER_UNION),
        (SCALED, 2, Kind.BARRIER_CLUSTER),
        (SCALED, 2, Kind.BARRIER_UNION),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
@settings(EXAMPLES, max_examples=40)
@given(data=st.data())
def test_tasks_of_clusters_take_as_long(model: Machine, clusters: int, barrier: Kind, data: st.DataObject) -> None:
    cores = clusters * model.cores_per_cluster
    launch = data.draw(st.lists(tasks(cores, barrier), min_size=1, max_size=4))
    stepper, timing = both([part for task in launch for part in task], model, cores)
    assert abs(max(stepper.ends) - timing.cycles) <= max(2, timing.cycles * 0.005)


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.name)
@pytest.mark.parametrize("seed", range(3))
def test_all_cores_stream(model: Machine, seed: int) -> None:
    """Every core has loads and stores of its own under way, and more programs wait than there are cores."""
    random = np.random.default_rng(seed)
    launch: list[list[Record]] = []
    for number in range(model.cores + 3):
        first = number * ADDRESSES // (model.cores + 3)
        sizes = [int(size) for size in random.integers(1, 5000, 4)]
        loads = [Record(Kind.LOAD, amount=size, address=first, scalar_cycles=9) for size in sizes[:3]]
        wait = Record(Kind.SYNC, amount=WAIT_ALL, compute_cycles=70, compute_head=80)
        store = Record(Kind.STORE, amount=sizes[3], address=first)
        launch.append([*loads, wait, store, Record(Kind.END)])
    stepper, timing = both(launch, model)
    assert abs(max(stepper.ends) - timing.cycles) <= max(2, timing.cycles * 0.005)
