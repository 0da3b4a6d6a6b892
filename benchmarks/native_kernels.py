"""Micro-benchmarks of native code on one core: ``taskset -c 0 python -m benchmarks.native_kernels``.

Matrix products against NumPy's BLAS, a softmax-like chain against NumPy, and what translating and compiling it takes.
"""

from __future__ import annotations

import ctypes

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import HOST_THREADS
from benchmarks.stopwatch import medians
from mlutriton.codegen.llvm.translate import translate
from mlutriton.dtypes import BY_NAME
from mlutriton.isa.assembly import assemble
from mlutriton.isa.machine import machine
from mlutriton.isa.native_interface import SLACK_BYTES
from mlutriton.isa.table import WRAM_STRIP_COLUMNS
from mlutriton.launch import runtime
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")
TILES = ((128, 128, 128), (64, 64, 64), (256, 256, 128), (64, 256, 512), (128, 64, 2048))
# A call through ctypes costs about a microsecond: each sample calls several times.
CALLS = 20
ROWS, COLUMNS = 2048, 1024
SOFTMAX = f"""
.program softmax
.isa {MACHINE.isa}
.param out ptr f32
.param x ptr f32
.buffer x nram 0 {4 * COLUMNS}
.buffer t nram {4 * COLUMNS} {4 * COLUMNS}
.buffer m nram {8 * COLUMNS} 64
    param r0, 0
    param r1, 1
    sreg r2, 0
    mul.i64 r2, r2, {4 * COLUMNS}
    add.i64 r0, r0, r2
    add.i64 r1, r1, r2
    dma.load.f32 [x], g[r1], {COLUMNS}, 1, 1, 0, 0, 0, 0
    sync 1
    red.fmax.f32 [m], [x], 1, {COLUMNS}, 1
    v.fsub.f32 [t], [x], row[m], 1, {COLUMNS}
    v.exp.f32 [t], [t], 1, {COLUMNS}
    red.fadd.f32 [m], [t], 1, {COLUMNS}, 1
    v.fdiv.f32 [t], [t], row[m], 1, {COLUMNS}
    sync 4
    dma.store.f32 g[r0], [t], {COLUMNS}, 1, 1, 0, 0, 0, 0
    exit
"""


def main() -> None:
    """Measure and print."""
    if HOST_THREADS > 1:
        Console(stderr=True).print(f"note: {HOST_THREADS} cores; BLAS uses all of them (see --help of taskset)")
    table = Table("kernel", "native", "NumPy", "ratio")
    for name in ("f32", "f16", "i8"):
        for tile in TILES if name == "f32" else TILES[:1]:
            native, blas = (2 * np.prod(tile) / seconds / 1e9 for seconds in matrix_product(name, *tile))
            table.add_row(f"mm {name} {tile}", f"{native:.1f} GFLOP/s", f"{blas:.1f} GFLOP/s", f"{native / blas:.2f}")
    native, numpy = (8 * ROWS * COLUMNS / seconds / 1e9 for seconds in softmax())
    table.add_row(f"softmax {ROWS}x{COLUMNS}", f"{native:.2f} GB/s", f"{numpy:.2f} GB/s", f"{native / numpy:.2f}")
    program = assemble(SOFTMAX)
    text = translate(program, MACHINE)
    translation, compilation = medians(
        [lambda: translate(program, MACHINE), lambda: compile_llvm(text, cache_key=None)], quick=True
    )
    table.add_row("softmax: translate", f"{1e3 * translation:.1f} ms", "", "")
    table.add_row("softmax: compile", f"{1e3 * compilation:.1f} ms", "", "")
    Console().print(table)


def matrix_product(name: str, rows: int, columns: int, depth: int) -> tuple[float, float]:
    """Seconds of one product of a tile, native and as float32 in NumPy."""
    generator = np.random.default_rng(0)
    dtype, slack = BY_NAME[name].numpy, SLACK_BYTES
    a, w = (generator.integers(-9, 9, shape).astype(np.float32) for shape in ((rows, depth), (depth, columns)))
    strips = np.ascontiguousarray(
        w.reshape(depth, columns // WRAM_STRIP_COLUMNS, WRAM_STRIP_COLUMNS).transpose(1, 0, 2)
    )
    left = np.zeros(rows * depth + slack, dtype)
    left[: rows * depth] = a.reshape(-1)
    c, scratch = np.zeros(rows * columns + slack, np.float32), np.zeros(rows * depth + slack, np.float32)
    function = runtime(f"mm_{name}").function(f"mm_{name}", [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 5)
    addresses = [array.ctypes.data for array in (c, left, strips, scratch)]

    def native() -> None:
        for _ in range(CALLS):
            function(*addresses, rows, columns, depth, depth, 0)

    def blas() -> None:
        for _ in range(CALLS):
            a @ w

    seconds = medians([native, blas], quick=True)
    return seconds[0] / CALLS, seconds[1] / CALLS


def softmax() -> tuple[float, float]:
    """Seconds of a softmax over rows, native (with its trace) and in NumPy."""
    x = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    out = np.zeros_like(x)
    program = assemble(SOFTMAX)
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    addresses = [out.ctypes.data, x.ctypes.data]

    def reference() -> None:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        e / e.sum(axis=1, keepdims=True)

    first, second = medians(
        [lambda: execute(native, (ROWS, 1, 1), addresses, memory, MACHINE, 1), reference], quick=True
    )
    return first, second


if __name__ == "__main__":
    main()
