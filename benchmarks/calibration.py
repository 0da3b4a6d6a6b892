"""The measurements that the machine files were fitted to, beside the model: ``python -m benchmarks.calibration``.

Sources are those of the reference page of machines: LABS (C1, C2), OPREP (C9 to C11), VADD (C13). Only the cycles are
simulated, no value is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.assembly import assemble
from mlutriton.program_file import ProgramKernel

SIDE = 8192
# Elements of a tile or its side, as large as a pipelined loop has room for. The sources do not state theirs.
COPY_TILE, CAST_TILE = 32_768, 32_768
TRANSPOSE_TILE = 128
ADDED = 10_000_000
# Bytes of a tile decide what a loop that blocks takes, and the source does not state them: with 16 KB it would take 1.4
# times as long, with 64 KB 0.8 times.
ADD_TILE = 8192


# One queue runs in order, so that nothing has to be waited for.
COPY = f"""
.program copy
.isa 592
.param output ptr f32
.param x ptr f32
.param tiles i32
.buffer tile nram 0 {4 * COPY_TILE}
    param r0, 0
    param r1, 1
    param r2, 2
    sreg r3, 0
    sreg r4, 3
again:
    sext.i32.i64 r5, r3
    mul.i64 r5, r5, {4 * COPY_TILE}
    add.i64 r6, r1, r5
    add.i64 r7, r0, r5
    dma.load.f32 [tile], g[r6], {COPY_TILE}, 1, 1, 0, 0, 0, 0
    dma.store.f32 g[r7], [tile], {COPY_TILE}, 1, 1, 0, 0, 0, 0
    add.i32 r3, r3, r4
    slt.i32 r8, r3, r2
    cbr r8, again
    exit
"""


@mlu.jit
def cast(output, x, tiles, size: tl.constexpr):
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        offsets = tile * size + tl.arange(0, size)
        tl.store(output + offsets, tl.load(x + offsets).to(output.dtype.element_ty))


@mlu.jit
def transposed_copy(output, x, side: tl.constexpr, size: tl.constexpr):
    tiles: tl.constexpr = side // size
    for tile in range(tl.program_id(0), tiles * tiles, tl.num_programs(0)):
        row = tile // tiles * size + tl.arange(0, size)
        column = tile % tiles * size + tl.arange(0, size)
        values = tl.load(x + row[:, None] * side + column[None, :])
        tl.store(output + column[:, None] * side + row[None, :], tl.trans(values))


@mlu.jit
def transposed_copy_by_elements(output, x, side: tl.constexpr):
    offsets = tl.program_id(0) * side + tl.arange(0, side)
    tl.store(output + offsets, tl.load(x + offsets % side * side + offsets // side))


# Step of the innermost loop of a scalar matrix product that keeps its sum in memory: c[i,j] += a[i,k] * b[k,j].
SCALAR_PRODUCT = """
.program scalar_product
.isa 372
.param a ptr f32
.param b ptr f32
.param c ptr f32
.param steps i32
.buffer tile nram 0 4096
    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
    mov.i32 r4, 0
again:
    {load_a}
    {load_b}
    {load_c}
    fmul.f32 r8, r5, r6
    fadd.f32 r8, r8, r7
    {store_c}
    add.i64 r0, r0, 4
    add.i64 r1, r1, 1024
    add.i32 r4, r4, 1
    slt.i32 r9, r4, r3
    cbr r9, again
    exit
"""
FROM_DRAM = {
    "load_a": "ldg.f32 r5, g[r0]",
    "load_b": "ldg.f32 r6, g[r1]",
    "load_c": "ldg.f32 r7, g[r2]",
    "store_c": "stg.f32 g[r2], r8",
}
FROM_NRAM = {
    "load_a": "lds.f32 r5, [tile]",
    "load_b": "lds.f32 r6, [tile]",
    "load_c": "lds.f32 r7, [tile]",
    "store_c": "sts.f32 [tile], r8",
}

BLOCKING_ADD = f"""
.program blocking_add
.isa 592
.param x ptr f32
.param y ptr f32
.param output ptr f32
.param n i32
.buffer left nram 0 {4 * ADD_TILE}
.buffer right nram {4 * ADD_TILE} {4 * ADD_TILE}
    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
again:
    smin.i32 r4, r3, {ADD_TILE}
    dma.load.f32 [left], g[r0], r4, 1, 1, 0, 0, 0, 0
    sync 1
    dma.load.f32 [right], g[r1], r4, 1, 1, 0, 0, 0, 0
    sync 1
    v.fadd.f32 [left], [left], [right], 1, r4
    sync 4
    dma.store.f32 g[r2], [left], r4, 1, 1, 0, 0, 0, 0
    sync 1
    add.i64 r0, r0, {4 * ADD_TILE}
    add.i64 r1, r1, {4 * ADD_TILE}
    add.i64 r2, r2, {4 * ADD_TILE}
    sub.i32 r3, r3, {ADD_TILE}
    sgt.i32 r5, r3, 0
    cbr r5, again
    exit
"""


@dataclass(frozen=True)
class Calibration:
    """A published measurement, and how the model arrives at its own figure; both in ``unit``.

    Attributes:
        by_triton: what the source measured for a Triton kernel, where it also measured one.
    """

    name: str
    machine: str
    unit: str
    measured: float
    simulate: Callable[[], float]
    by_triton: float | None = None


def copy_ms() -> float:
    """Load and store in turn, nothing waited for, one program a core."""
    output, x = (mlu.spec((SIDE, SIDE), "float32") for _ in range(2))
    return _ms(program(COPY), (mlu.current_machine().cores,), output, x, SIDE * SIDE // COPY_TILE)


def cast_ms(source_dtype: str, tile: int) -> float:
    """A pipelined loop that waits for its transfers once a tile, one program a core."""
    output, x = mlu.spec((SIDE, SIDE), "float32"), mlu.spec((SIDE, SIDE), source_dtype)
    return _ms(cast, (mlu.current_machine().cores,), output, x, SIDE * SIDE // tile, size=tile)


def transposed_copy_ms() -> float:
    """A transpose in square tiles, one program a core."""
    output, x = (mlu.spec((SIDE, SIDE), "float32") for _ in range(2))
    return _ms(transposed_copy, (mlu.current_machine().cores,), output, x, side=SIDE, size=TRANSPOSE_TILE)


def transposed_copy_by_elements_ms() -> float:
    """A transpose that gathers columns."""
    output, x = (mlu.spec((SIDE, SIDE), "float32") for _ in range(2))
    return _ms(transposed_copy_by_elements, (SIDE,), output, x, side=SIDE)


def blocking_add_ms() -> float:
    """Load, load, add and store in turn, each waited for, on one core."""
    vectors = [mlu.spec((ADDED,), "float32") for _ in range(3)]
    return _ms(program(BLOCKING_ADD), (1,), *vectors, ADDED)


def scalar_product_cycles(operands: dict[str, str]) -> float:
    """Cycles of a step: what more steps take longer, so that the launch is left out."""
    kernel = program(SCALAR_PRODUCT.format(**operands))
    arrays = [mlu.spec((256, 256), "float32") for _ in range(3)]
    few, many = (mlu.estimate(kernel, (1,), *arrays, steps).cycles for steps in (10, 110))
    return (many - few) / 100


def program(text: str) -> ProgramKernel:
    """An assembly text as a kernel."""
    return ProgramKernel(assemble(text, __file__))


def _ms(kernel: Any, grid: tuple[int, ...], *arguments: object, **constants: object) -> float:
    return mlu.estimate(kernel, grid, *arguments, **constants).time_us / 1000


ROWS = (
    Calibration(
        "C1 scalar matrix product from DRAM, a step", "mlu370-m8", "cycles", 818,
        lambda: scalar_product_cycles(FROM_DRAM),
    ),
    Calibration(
        "C2 the same from NRAM", "mlu370-m8", "cycles", 30,
        lambda: scalar_product_cycles(FROM_NRAM),
    ),
    Calibration("C9 copy 8192x8192 fp32", "mlu590-m9", "ms", 0.238, copy_ms, 0.242),
    Calibration("C9 the same, a compiled loop", "mlu590-m9", "ms", 0.238, lambda: cast_ms("float32", COPY_TILE), 0.242),
    Calibration("C10 cast from fp16 to fp32", "mlu590-m9", "ms", 0.175, lambda: cast_ms("float16", CAST_TILE), 0.190),
    Calibration("C11 transposed copy 8192x8192 fp32", "mlu590-m9", "ms", 0.254, transposed_copy_ms, 0.305),
    Calibration("C11 the same by elements", "mlu590-m9", "ms", 24.7, transposed_copy_by_elements_ms),
    Calibration("C13 vector add of 10 M fp32, one core, blocking", "mlu590-m9", "ms", 4.102, blocking_add_ms),
)  # fmt: skip


def main() -> None:
    """Simulate every row, and print it beside what was measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("case", "machine", "unit", "measured", "a Triton kernel", "simulated", "simulated / measured"):
        table.add_column(heading, justify="left" if heading in ("case", "machine", "unit") else "right")
    for row in ROWS:
        mlu.set_machine(row.machine)
        simulated = row.simulate()
        by_triton = f"{row.by_triton:.4g}" if row.by_triton else ""
        ratio = f"{simulated / row.measured:.2f}"
        table.add_row(row.name, row.machine, row.unit, f"{row.measured:.4g}", by_triton, f"{simulated:.4g}", ratio)
    Console(width=140, highlight=False).print(table)


if __name__ == "__main__":
    main()
