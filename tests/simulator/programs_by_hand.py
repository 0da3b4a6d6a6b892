"""Programs written by hand, on one array of 64 elements for each program, run by native code and the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")


def load(program, runtime, *, with_values=True):
    text = translate(program, MACHINE, with_values=with_values)
    return NativeProgram(compile_llvm(text, cache_key=None), runtime, program)


HEADER = f"""
.program by_hand
.isa {MACHINE.isa}
.cores 1
.param out ptr f32
.param x ptr f32
.param n i64
.buffer a nram 0 256
.buffer b nram 256 256
.string 0 "wrong"
    param r0, 0
    param r1, 1
    param r2, 2
    sreg r3, 0
"""


COPY = """
    mul.i64 r4, r3, 256
    add.i64 r0, r0, r4
    add.i64 r1, r1, r4
    dma.load.f32 [a], g[r1], 64, 1, 1, 0, 0, 0, 0
    sync 1
"""


STORE = """
    sync 4
    dma.store.f32 g[r0], [b], 64, 1, 1, 0, 0, 0, 0
    exit
"""


def run_text(text, runtime, *, grid=3, n=0, threads=1, with_values=True, writable=True):
    """Run a program on one array of 64 elements for each program; returns the output and the execution."""
    program = assemble(HEADER + text)
    check(program, MACHINE)
    x = np.arange(grid * 64, dtype=np.float32)
    out = np.zeros_like(x)
    out.flags.writeable = writable
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    native = load(program, runtime, with_values=with_values)
    parameters = [out.ctypes.data, x.ctypes.data, n]
    return out, execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)


def faults(text, runtime, *, grid=3, n=0, writable=True):
    """The faults of the interpreter and of native code, as texts without host addresses."""
    program = assemble(HEADER + text)
    x = np.zeros(grid * 64, np.float32)
    x.flags.writeable = writable
    memory = GlobalMemory([Allocation.of_array("x", x)])
    parameters = [x.ctypes.data, x.ctypes.data, n]
    with pytest.raises(KernelFault) as expected:
        interpreter.run(program, (grid, 1, 1), parameters, memory, MACHINE)
    for threads in (1, 2):
        native = load(program, runtime)  # a program that is known to be quick would run on one
        with pytest.raises(KernelFault) as got:
            execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)
        assert str(got.value) == str(expected.value)
    return expected.value.code


COPY_ALL = COPY + STORE.replace("[b]", "[a]")


def prepared(text, runtime, grid):
    """A loaded program on one array of 64 elements for each program: the output, the input, and how to launch it."""
    program = assemble(HEADER + text)
    x = np.arange(grid * 64, dtype=np.float32)
    out = np.zeros_like(x)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    native = load(program, runtime)
    parameters = [out.ctypes.data, x.ctypes.data, 0]
    return out, x, lambda threads: execute(native, (grid, 1, 1), parameters, memory, MACHINE, threads)
