"""Native programs of whole clusters: what the interpreter gives, on any number of host threads."""

import itertools

import numpy as np
import pytest

from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.isa.trace_format import Kind
from mlutriton.launch import runtime
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm
from mlutriton.simulator.replay import replay

MACHINE = machine("mlu590-m9")

# Every core sums up, round after round, what its neighbour has left in SRAM the round before.
NEIGHBOURS = """
.program neighbours
.isa 592
.cores 4
.param out ptr f32
.param x ptr f32
.param rounds i64
.buffer own nram 0 256
.buffer sum nram 256 256
.buffer other nram 512 256
.buffer shared sram 0 2048
.string 0 "round"
    param r0, 0
    param r1, 1
    param r2, 2
    sreg r3, 0
    sreg r4, 6
    mul.i64 r5, r3, 4
    add.i64 r5, r5, r4
    mul.i64 r5, r5, 256
    add.i64 r0, r0, r5
    add.i64 r1, r1, r5
    dma.load.f32 [own], g[r1], 64, 1, 1, 0, 0, 0, 0
    v.mov.f32 [sum], 0.0, 1, 64
    mov.i64 r6, 0
    sync 7
next:
    and.i64 r11, r6, 1
    mul.i64 r11, r11, 1024
    mul.i64 r7, r4, 256
    add.i64 r7, r7, r11
    move.f32 [shared + r7], [own], 64, 1, 0, 0
    barrier.cluster
    add.i64 r8, r4, 1
    and.i64 r8, r8, 3
    mul.i64 r8, r8, 256
    add.i64 r8, r8, r11
    move.f32 [other], [shared + r8], 64, 1, 0, 0
    sync 2
    v.fadd.f32 [sum], [sum], [other], 1, 64
    v.fmul.f32 [own], [other], 0.5, 1, 64
    print.scalar.i64 0, 0, r6
    sync 4
    add.i64 r6, r6, 1
    slt.i64 r10, r6, r2
    cbr r10, next
    dma.store.f32 g[r0], [sum], 64, 1, 1, 0, 0, 0, 0
    exit
"""


def programs(text, grid, rounds):
    """The same launch on the interpreter, and a function that runs it natively."""
    program = assemble(text)
    check(program, MACHINE)
    x = np.arange(grid * 256, dtype=np.float32)
    out = np.zeros_like(x)
    arrays = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    parameters = [out.ctypes.data, x.ctypes.data, rounds]
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)

    def interpret():
        out[:] = 0
        result = interpreter.run(program, (grid, 1, 1), parameters, arrays, MACHINE)
        return out.copy(), result

    def run(threads):
        out[:] = 0
        result = execute(native, (grid, 1, 1), parameters, arrays, MACHINE, threads)
        return out.copy(), result

    return interpret, run


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_equals_the_interpreter(threads):
    interpret, run = programs(NEIGHBOURS, 15, 5)
    wanted, expected = interpret()
    found, got = run(threads)
    assert found.tolist() == wanted.tolist()
    assert wanted.any()
    assert got.trace.words.tolist() == expected.trace_words.tolist()
    assert got.trace.starts.tolist() == (expected.trace_starts[:-1] // 3).tolist()
    assert got.trace.cores_per_program == 4
    assert got.work.by_instruction().tolist() == expected.instruction_work.tolist()
    assert [each.values.tolist() for each in got.prints] == [each.values.tolist() for each in expected.prints]


def test_takes_its_time_from_all_cores():
    _, run = programs(NEIGHBOURS, 24, 3)
    _, got = run(2)
    timing = replay(got.trace, MACHINE)
    assert got.trace.programs == 24
    assert (timing.io_busy_cycles > 0).all()
    starts = np.append(got.trace.starts, got.trace.records)
    words = got.trace.words.reshape(-1, 3)
    for first, end in itertools.pairwise(starts):
        kinds = words[first:end, 1] >> 32 & 15
        assert (kinds == Kind.BARRIER_CLUSTER).sum() == 3


FAULTS = {
    "a barrier that one core does not reach": (
        "E0306", NEIGHBOURS.replace("barrier.cluster", "eq.i64 r9, r4, 2\n cbr r9, out\n barrier.cluster").replace(
            "dma.store", "out:\n dma.store")),
    "one core stores outside": (
        "E0301", NEIGHBOURS.replace("dma.store", "mul.i64 r9, r4, 1048576\n add.i64 r0, r0, r9\n dma.store")),
    "one core fails an assertion": (
        "E0305", NEIGHBOURS.replace("barrier.cluster", "barrier.cluster\n ne.i64 r9, r4, 3\n assert r9, 0")),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_those_of_the_interpreter(name, threads):
    code, text = FAULTS[name]
    interpret, run = programs(text, 5, 2)
    with pytest.raises(KernelFault, match=code) as expected:
        interpret()
    with pytest.raises(KernelFault) as got:
        run(threads)

    def without_addresses(error):
        return [line for line in str(error.value).splitlines() if "0x" not in line]

    assert without_addresses(got) == without_addresses(expected)
