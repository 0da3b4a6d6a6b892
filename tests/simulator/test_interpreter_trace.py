"""The trace that the reference interpreter leaves, and the memory that it works on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.isa.native_interface import STORED
from mlutriton.isa.trace_format import NO_COMPUTE, Kind, Record
from mlutriton.simulator.memory import DEVICE_START, Allocation, GlobalMemory
from tests.simulator.interpreted import GAP, ISSUE, LATENCY, M9, VECTOR_ADD, WEIGHTS, launch, records


def test_trace_of_vector_add():
    arrays = [np.zeros(256, np.float32) for _ in range(3)]
    result = launch(VECTOR_ADD, *arrays)
    integer = M9.scalar_integer_cycles
    assert records(result) == [
        Record(Kind.LOAD, 1024, DEVICE_START, scalar_cycles=8 * integer + ISSUE, instruction=8),
        Record(Kind.LOAD, 1024, DEVICE_START + (1 << 14), scalar_cycles=ISSUE, instruction=9),
        Record(Kind.SYNC, 1, scalar_cycles=ISSUE, instruction=10),
        Record(
            Kind.SYNC, 4, scalar_cycles=2 * ISSUE, compute_cycles=8 + GAP, compute_head=ISSUE + 8 + GAP, instruction=12
        ),
        Record(Kind.STORE, 1024, DEVICE_START + (2 << 14), scalar_cycles=ISSUE, instruction=13),
        Record(Kind.END, scalar_cycles=ISSUE, instruction=14),
    ]


FILL = "v.mov.f32 [a], 0, 1, 1024\n"


@pytest.mark.parametrize(
    ("body", "occupancies", "waits"),
    [
        ("", 0, 0),
        ("v.mov.f32 [b], 0, 1, 1024", 32, GAP),
        ("v.fneg.f32 [b], [a], 1, 32", 1, LATENCY),
        ("v.fneg.f32 [b], [a + 128], 1, 32\n v.fneg.f32 [c], [a], 1, 32", 2, LATENCY + GAP),
        ("v.mov.f32 [b], 0, 1, 32\n v.fneg.f32 [a], [b + 64], 1, 16", 2, GAP + LATENCY),
        ("sync 4\n v.fneg.f32 [b], [a], 1, 32", 1, LATENCY),
        (
            "v.fmul.f32 ~, [a], 2, 1, 1024\n v.fadd.f32 ~, ~, [a], 1, 1024\n v.fpcast.f32.f16 [b], ~, 1, 1024",
            32,
            LATENCY,
        ),
    ],
)
def test_the_interlock(body, occupancies, waits):
    text = f".buffer a nram 0 4096\n.buffer b nram 4096 4096\n.buffer c nram 8192 4096\n{FILL}{body}\nexit"
    found = records(launch(text, np.zeros(1, np.float32)))
    assert sum(record.compute_cycles for record in found) == 32 + GAP + occupancies + waits


def test_accumulators_are_chained():
    x = np.zeros(64, np.float32)
    text = f"""
    .buffer a nram 0 4096
    .buffer c nram 4096 4096
    {WEIGHTS}
    param r0, 0
    dma.weight.f32 [w], g[r0], 1, 64, 1, 64, 0, 64, 1, 0
    sync 1
    v.mov.f32 [a], 1, 1, 1
    mm.f32.f32 [c], [a], [w], 1, 64, 1, 1, 0
    mm.f32.f32 [c], [a], [w], 1, 64, 1, 1, 1
    mm.f32.f32 [c + 1024], [c], [w], 1, 64, 1, 1, 0
    exit
    """
    result = launch(text, x)
    product = M9.tensor_fill_cycles + 64 * 16 // M9.mac_per_cycle_f32
    assert records(result)[-1].compute_cycles == 1 + 3 * product + GAP + LATENCY + GAP + LATENCY


def test_the_head_of_a_fold_is_the_latest_issue():
    result = launch(".buffer a nram 0 4096\n" + "v.mov.f32 [a], 0, 1, 32\n mov.i32 r0, 1\n" * 3 + "exit")
    (record,) = records(result)
    integer, one = M9.scalar_integer_cycles, 1 + GAP
    assert record.scalar_cycles == 4 * ISSUE + 3 * integer
    assert record.compute_cycles == 3 * one
    assert record.compute_head == max(k * (ISSUE + integer) + ISSUE + (3 - k) * one for k in range(3))
    assert records(launch("exit"))[0].compute_head == NO_COMPUTE


def test_views_of_one_array_form_one_region():
    base = np.zeros(100, np.float64)
    frozen = base[40:60]
    frozen.flags.writeable = False
    memory = GlobalMemory([Allocation.of_array("y", np.zeros(3)), Allocation.of_array("a", frozen),
                           Allocation.of_array("b", base[50:][::-1])])  # fmt: skip
    start = base.ctypes.data
    regions = {tuple(row) for row in memory.table.tolist()}
    assert (start + 320, start + 800, STORED, DEVICE_START + (1 << 14)) in regions
    assert memory.view(start + 470, 20, write=True) is not None
    assert memory.view(start + 312, 8, write=False) is None
    assert memory.view(start + 796, 8, write=False) is None
    assert memory.device_address(start + 328) == DEVICE_START + (1 << 14) + 8
    assert memory.nearest(start + 312).name == "a"
    assert memory.nearest(start + 10**6).name in ("b", "y")


def test_memory_without_arrays():
    memory = GlobalMemory([Allocation.of_array("empty", np.zeros((0, 4)))])
    assert memory.table.shape == (0, 4)
    assert memory.view(0, 1, write=False) is None
    assert "every array that was passed is empty" in str(memory.fault(0, 1, "load"))
    assert "no array was passed" in str(GlobalMemory().fault(0, 1, "load"))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 200), st.booleans()), max_size=8), st.integers(0, 1200))
@settings(max_examples=200)
def test_regions_cover_exactly_the_allocations(pieces, address):
    allocations = [Allocation(f"a{k}", start, size, write) for k, (start, size, write) in enumerate(pieces)]
    table = GlobalMemory(allocations).table
    covered = any(each.address <= address < each.end for each in allocations)
    assert covered == any(start <= address < end for start, end, _, _ in table)
    assert (table[:-1, 1] <= table[1:, 0]).all()
    devices = sorted((device, device + end - start) for start, end, _, device in table)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(devices))
