"""The reference interpreter finds every fault, also those of the cores of a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from mlutriton.diagnostics import KernelFault, Location, ProgramError
from mlutriton.isa.trace_format import Kind
from tests.simulator.interpreted import launch, records

FAULTS = {
    "E0301 load": ("dma.load.f32 [a], g[r0 + 64], 256, 1, 1, 0, 0, 0, 0", "1024 bytes .* misses every"),
    "E0301 box": ("dma.load.f32 [a], g[r0], 2, 2, 1, 2, 0, -2, 0", "misses every registered array"),
    "E0301 scalar": ("ldg.f32 r1, g[r0 + 1024]", "load of 4 bytes"),
    "E0301 nowhere": ("stg.f32 g[r9], 1", "store of 4 bytes at 0x0"),
    "E0301 gather": ("gather.f32.i32 [a], g[r0], [i], 512, 1, 0, 4, 1, 1", "misses"),
    "E0301 look-up": ("v.lookup.f32.i32 [a], [i], [i], r0, 4, 1, 0, 8, 8", "load of 4 bytes"),
    "E0301 row": ("gather.f32.i32 [a], g[r0], [i], 3, 1, 0, 1, 65, 65", "load of 260 bytes"),
    "E0302 vector": ("v.fadd.f32 [a], [a], 1, 1, 8", "a reads byte 0 of NRAM, which nothing has written"),
    "E0302 part": ("v.mov.f32 [a], 0, 1, 8\n v.fneg.f32 [b], [a], 1, 9", "byte 32 of NRAM"),
    "E0302 weights": ("mm.f32.f32 [a], [i], [w], 1, 1, 1, 1, 0", "w reads byte 0 of WRAM"),
    "E0303 load": ("dma.load.f32 [a], g[r0], 8, 1, 1, 0, 0, 0, 0\n v.fneg.f32 [b], [a], 1, 8", "IO queue (.|\n)*sync"),
    "E0303 store": ("v.mov.f32 [a], 0, 1, 8\n dma.store.f32 g[r0], [a], 8, 1, 1, 0, 0, 0, 0", "COMPUTE queue"),
    "E0303 overwrite": ("dma.store.f32 g[r0], [i], 4, 1, 1, 0, 0, 0, 0\n v.mov.f32 [i], 0, 1, 4", "IO queue"),
    "E0303 scalar": ("v.mov.f32 [a], 0, 1, 8\n lds.f32 r1, [a]", "COMPUTE queue"),
    "E0303 scalar store": ("v.fneg.f32 [a], [i], 1, 4\n sts.f32 [i], 0", "COMPUTE queue"),
    "E0303 other sync": ("v.mov.f32 [a], 0, 1, 8\n sync 3\n lds.f32 r1, [a]", "COMPUTE queue"),
    "E0303 move": ("move.f32 [s], [i], 4, 1, 0, 0\n v.mov.f32 [i], 0, 1, 4", "MOVE queue"),
    "E0304 register": ("mov.i64 r1, 4092\n v.mov.f32 [a + r1], 0, 1, 2", "bytes 4092 to 4100 of buffer a, which"),
    "E0304 negative": ("mov.i64 r1, -4\n v.mov.f32 [a + r1], 0, 1, 2", "bytes -4 to 4 of buffer a"),
    "E0304 count": ("mov.i64 r1, 1025\n v.mov.f32 [a], 0, 1, r1", "bytes 0 to 4100"),
    "E0304 index": ("v.gather.i32.i32 [a], [i], [i], 1, 4, 1, 1", "index 256 is outside 0 to 0"),
    "E0305 assert": ("assert 0, 0", "assertion failed: n is positive"),
    "E0307 read-only": ("stg.f32 g[r2], 1", "read-only(.|\n)*pass a writable array for y"),
    "E0309 overlap": ("mov.i64 r1, 4\n v.fneg.f32 [i], [i + r1], 1, 2", "dst .* overlaps a"),
    "E0310 limit": ("loop: cbr 1, loop", "has not ended"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_say_what_and_where(body, message, request):
    code = request.node.callspec.id.split()[0]
    x, constant = np.zeros(256, np.float32), np.zeros(4, np.float32)
    constant.flags.writeable = False
    text = f"""
    .buffer a nram 0 4096
    .buffer b nram 4096 4096
    .buffer i nram 8192 4096 "kernel.py":3
    .buffer s sram 0 4096
    .buffer w wram 0 4096
    .string 0 "n is positive"
    .registers 10
    param r0, 0
    param r2, 1
    v.iota.i32 [i], 256, 0, 512
    sync 4
    .loc "kernel.py" 12 7
    {body}
    exit
    """
    with pytest.raises(KernelFault, match=message) as caught:
        launch(text, x, constant, grid=(1, 2, 1), step_limit=1000)
    fault = caught.value
    assert fault.code == code
    assert fault.location == Location("kernel.py", 12, 7)
    assert fault.context == "test, program (0, 0, 0)"
    assert "instruction" in fault.note


def test_reads_of_two_queues_are_no_race():
    x = np.zeros(4, np.float32)
    body = """
    .buffer a nram 0 64
    .buffer b nram 64 64
    param r0, 0
    v.mov.f32 [a], 1, 1, 4
    sync 4
    dma.store.f32 g[r0], [a], 4, 1, 1, 0, 0, 0, 0
    v.fneg.f32 [b], [a], 1, 4
    exit
    """
    launch(body, x)
    assert x.tolist() == [1] * 4


def test_illegal_programs_do_not_run():
    with pytest.raises(ProgramError, match="E0402"):
        launch(".buffer a nram 0 4\n v.mov.f32 [a], 0, 1, 2\n exit")


CLUSTER = """
.cores 4
.buffer s sram 0 64
.buffer a nram 0 64
    param r0, 0
    sreg  r1, 6
    mul.i64 r2, r1, 8
    sts.i64 [a], r1
    move.i64 [s + r2], [a], 1, 1, 0, 0
    barrier.cluster
    sub.i64 r3, 24, r2
    dma.store.i64 g[r0 + 0], [s + r3], 1, 1, 1, 0, 0, 0, 0
    exit
"""


def test_cores_of_a_cluster_share_sram():
    out = np.zeros(4, np.int64)
    result = launch(CLUSTER.replace("dma.store", "add.i64 r0, r0, r2\n    dma.store"), out)
    assert out.tolist() == [3, 2, 1, 0]
    assert len(result.trace_starts) == 5
    assert [record.kind for record in records(result, 3)] == [Kind.MOVE, Kind.BARRIER_CLUSTER, Kind.STORE, Kind.END]


def test_a_barrier_that_not_all_reach_is_a_fault():
    text = CLUSTER.replace("barrier.cluster", "eq.i64 r5, r1, 0\n cbr r5, end\n barrier.cluster").replace(
        "exit", "end: exit"
    )
    with pytest.raises(KernelFault, match="E0306"):
        launch(text, np.zeros(4, np.int64))
