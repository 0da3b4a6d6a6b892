"""Launches on the reference interpreter."""

from __future__ import annotations

from mlutriton.isa.assembly import assemble
from mlutriton.isa.machine import machine
from mlutriton.isa.trace_format import unpack
from mlutriton.simulator.interpreter import run
from mlutriton.simulator.memory import Allocation, GlobalMemory

M9 = machine("mlu590-m9")


GAP, LATENCY, ISSUE = M9.vector_gap_cycles, M9.vector_latency_cycles, M9.issue_cycles


def launch(text, *arrays, grid=(1, 1, 1), scalars=(), **options):
    """Run a program whose first parameters are arrays."""
    names = [chr(ord("x") + index) for index in range(len(arrays))]
    memory = GlobalMemory([Allocation.of_array(name, array) for name, array in zip(names, arrays, strict=True)])
    parameters = [array.ctypes.data for array in arrays] + list(scalars)
    declared = "\n".join(f".param p{index} i64" for index in range(len(parameters)))
    program = assemble(f".program test\n.isa 592\n{declared}\n{text}", "test.mlu")
    return run(program, grid, parameters, memory, M9, **options)


def execute(body, dtype, *arrays, out, buffers=""):
    """Load arrays into buffers x, y, z, run the body, store buffer o into ``out``."""
    lines, offset = [".buffer o nram 0 65536", buffers], 65536
    for index, array in enumerate((*arrays, out)):
        lines.append(f"param r{index}, {index}")
        if index < len(arrays):
            lines.append(f".buffer {'xyz'[index]} nram {offset} 65536")
            lines.append(f"dma.load.{dtype[index]} [{'xyz'[index]}], g[r{index}], {array.size}, 1, 1, 0, 0, 0, 0")
            offset += 65536
    store = f"dma.store.{dtype[len(arrays)]} g[r{len(arrays)}], [o], {out.size}, 1, 1, 0, 0, 0, 0"
    launch("\n".join([*lines, "sync 1", body, "sync 7", store, "exit"]), *arrays, out)
    return out


def records(result, program=0):
    start, end = result.trace_starts[program : program + 2]
    return list(unpack(result.trace_words[start:end].tolist()))


VECTOR_ADD = """
.buffer a nram 0 1024
.buffer b nram 1024 1024
    param r0, 0
    param r1, 1
    param r2, 2
    sreg  r3, 0
    mul.i64 r3, r3, 1024
    add.i64 r0, r0, r3
    add.i64 r1, r1, r3
    add.i64 r2, r2, r3
    dma.load.f32 [a], g[r0], 256, 1, 1, 0, 0, 0, 0
    dma.load.f32 [b], g[r1], 256, 1, 1, 0, 0, 0, 0
    sync 1
    v.fadd.f32 [a], [a], [b], 1, 256
    sync 4
    dma.store.f32 g[r2], [a], 256, 1, 1, 0, 0, 0, 0
    exit
"""


WEIGHTS = ".buffer w wram 0 65536\n"
