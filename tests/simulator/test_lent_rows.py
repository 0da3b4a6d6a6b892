"""Rows that products read where they lie in DRAM: all instructions find what they would find on the chip."""

import random

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.llvm.translate import translate
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.isa.program import WRITES
from mlutriton.launch import runtime
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")
CORES, COLUMNS, ROWS = 4, 64, 32
WINDOW = 4096  # elements
OWN = 600
WIDTHS = {"f32": 4, "f16": 2, "i8": 1}


def begin(dtype):
    """Each core has two places for results, and rows of its own to load, which overlap those of its neighbours."""
    width = WIDTHS[dtype]
    sums = "i32" if dtype == "i8" else "f32"
    return f"""
.program rows
.isa 592
.cores {CORES}
.param out ptr {sums}
.param x ptr {dtype}
.buffer a nram 0 {width * WINDOW}
.buffer c nram {width * WINDOW} {4 * ROWS * COLUMNS}
.buffer b nram {width * WINDOW + 4 * ROWS * COLUMNS} {width * WINDOW}
.buffer w wram 0 {width * 64 * COLUMNS}
    param r0, 0
    param r1, 1
    sreg r3, 0
    sreg r4, 6
    mul.i64 r6, r3, {CORES}
    add.i64 r6, r6, r4
    mul.i64 r5, r6, {2 * 4 * ROWS * COLUMNS}
    add.i64 r0, r0, r5
    add.i64 r8, r0, {4 * ROWS * COLUMNS}
    mul.i64 r5, r6, {width * OWN}
    add.i64 r2, r1, r5
    dma.weight.{dtype} [w], g[r1], 64, {COLUMNS}, 64, {COLUMNS}, 0, {COLUMNS}, 1, {_number(dtype, 0)}
    v.mov.{sums} [c], {_number(sums, 0)}, 1, {ROWS * COLUMNS}
    v.mov.{dtype} [a], {_number(dtype, 1)}, 1, {WINDOW}
    v.mov.{dtype} [b], {_number(dtype, 1)}, 1, {WINDOW}
    sync 7
"""


def _number(dtype, value):
    return f"{value}.0" if dtype.startswith("f") else str(value)


def loaded(rng, dtype):
    """Rows in one load or two, whole or not."""
    width = WIDTHS[dtype]
    row = rng.choice([16, 32, 32, 64])
    stride = rng.choice([row, 64, 100, 300, -70])
    count = rng.choice([16, 32, 48])
    place = row * rng.choice([0, 0, rng.randrange(WINDOW // row - count + 1)])
    first = rng.choice([0, 0, rng.randrange(500)]) + (70 * 48 if stride < 0 else 0)
    lines = []
    for half in range(parts := rng.choice([1, 1, 2])):
        rows = count // parts
        to = f"[a + {width * (place + half * rows * row)}], g[r7], {row}, {rows}, 1"
        valid = rng.choice([(row, rows), (row, rows), (row - 3, rows), (row, rows - 1)])
        lines += [
            f"add.i64 r7, r2, {width * (first + half * rows * stride)}",
            rng.choice(
                [
                    f"dma.load.{dtype} {to}, {row}, 0, {stride}, 0",
                    f"dma.load.{dtype} {to}, {row + rng.choice([0, 0, 1])}, 0, {stride}, 0",
                    f"dma.load_pad.{dtype} {to}, 0, 0, 0, {valid[0]}, {valid[1]}, 1, {stride}, 0, {_number(dtype, 2)}",
                ]
            ),
        ]
    return lines


def loaded_in_one_piece(rng, dtype):
    width, count = WIDTHS[dtype], rng.choice([1024, 2048])
    place = 32 * rng.randrange((WINDOW - count) // 32 + 1)
    return [
        f"add.i64 r7, r2, {width * rng.randrange(500)}",
        f"dma.load.{dtype} [a + {width * place}], g[r7], {count}, 1, 1, 0, 0, 0, 0",
    ]


def multiplied(rng, dtype):
    lda = rng.choice([16, 32, 32, 64])
    rows, depth = rng.randint(1, ROWS), rng.randint(1, lda)
    place = rng.choice([1, lda, lda]) * rng.randrange((WINDOW - (rows - 1) * lda - depth) // lda + 1)
    types = f"{dtype}.{'i32' if dtype == 'i8' else 'f32'}"
    at = WIDTHS[dtype] * place
    return [f"mm.{types} [c], [a + {at}], [w], {rows}, {COLUMNS}, {depth}, {lda}, {rng.choice([0, 1, 1])}"]


def computed(rng, dtype):
    count = rng.choice([32, 512, 1000])
    place = WIDTHS[dtype] * 16 * rng.randrange((WINDOW - count) // 16)
    return [f"v.mov.{dtype} [a + {place}], {_number(dtype, 3)}, 1, {count}"]


def read(rng, dtype):
    """By loops over elements, some of which write where they read, and by others."""
    count = rng.choice([16, 32, 512, 1000])
    place, other = (WIDTHS[dtype] * 16 * rng.randrange((WINDOW - count) // 16) for _ in range(2))
    add = "add" if dtype == "i8" else "fadd"
    return [
        rng.choice(
            [
                f"v.{add}.{dtype} [b + {other}], [a + {place}], {_number(dtype, 1)}, 1, {count}",
                f"v.mov.{dtype} [a + {place}], [a + {place}], 1, {count}",
                f"v.mov.{dtype} [a + {place}], [a + {place}], {count // 16}, 16",
                f"move.{dtype} [b + {other}], [a + {place}], {count}, 1, 0, 0",
                f"move.{dtype} [a + {place}], [b + {other}], {count}, 1, 0, 0",
                f"lds.{dtype} r9, [a + {place}]",
                f"sts.{dtype} [a + {place}], {_number(dtype, 2)}",
            ]
        )
    ]


def read_in_rows(rng, dtype):
    """By loops over rows, which need not be those that were loaded, nor all of their plane."""
    columns, rows = rng.choice([16, 30, 32, 32, 64]), rng.randint(1, 20)
    place = rng.choice([1, columns, columns]) * rng.randrange((WINDOW - rows * columns) // columns)
    width, extents = WIDTHS[dtype], f"{rows}, {columns}"
    at, target, other = f"[a + {width * place}]", f"[b + {width * 2048}]", f"[b + {width * 3500}]"
    add = f"{'add' if dtype == 'i8' else 'fadd'}.{dtype}"
    lines = [
        f"v.{add} {target}, {at}, col{other}, {extents}",
        f"v.{add} {at}, {at}, row{other}, {extents}",
        f"red.{add} [b], {at}, {extents}, 1",
        f"red.{add} [b], {target}, {extents}, 1",
    ]
    return rng.choice([lines[:1], lines[1:2], lines[2:3], [lines[0], lines[3]], [lines[2], lines[0]]])


def loaded_in_planes(rng, dtype):
    """Whose rows may be one, or follow one another from plane to plane as within them."""
    row, rows, planes = rng.choice([16, 32, 32, 64]), rng.choice([1, 4, 8, 16]), rng.choice([2, 3])
    stride = rng.choice([row, 64, 100, 300])
    plane_stride = rng.choice([row, rows * stride, 70, 400])
    place = row * rng.choice([0, rng.randrange(WINDOW // row - rows * planes + 1)])
    local = rows * row + rng.choice([0, 0, 0, row])
    local = local if place + 2 * local + rows * row <= WINDOW else rows * row
    return [
        f"add.i64 r7, r2, {WIDTHS[dtype] * rng.choice([0, rng.randrange(500)])}",
        f"dma.load.{dtype} [a + {WIDTHS[dtype] * place}], g[r7], {row}, {rows}, {planes}, {row}, {local}, {stride},"
        f" {plane_stride}",
    ]


def stored(rng, dtype):
    count = rng.choice([32, ROWS * COLUMNS // 2])
    place = WIDTHS[dtype] * 16 * rng.randrange((WINDOW - count) // 16)
    return [f"dma.store.{dtype} g[r8], [{rng.choice('aab')} + {place}], {count}, 1, 1, 0, 0, 0, 0"]


def drawn(seed, dtype, *, stores_to_x):
    rng = random.Random(seed)
    kinds = [loaded, loaded, loaded, loaded_in_one_piece, loaded_in_planes, loaded_in_planes]
    kinds += [multiplied, multiplied, multiplied, computed, read, read_in_rows, read_in_rows, stored]
    kinds.append(lambda *_: ["barrier.cluster"])
    if stores_to_x:
        offset = WIDTHS[dtype] * OWN // 2
        store = f"dma.store.{dtype} g[r7], [b], 200, 1, 1, 0, 0, 0, 0"
        kinds.append(lambda *_: [f"add.i64 r7, r2, {offset}", store])
    lines = [line for _ in range(60) for line in (*rng.choice(kinds)(rng, dtype), "sync 7")]
    end = f"dma.store.{'i32' if dtype == 'i8' else 'f32'} g[r0], [c], {ROWS * COLUMNS}, 1, 1, 0, 0, 0, 0\nexit"
    return assemble("\n".join([begin(dtype), *lines, end]))


def run(program, dtype, engine, stores_to_x):
    kind = {"f32": np.float32, "f16": np.float16, "i8": np.int8}[dtype]
    x = np.random.default_rng(0).integers(-3, 4, 3 * CORES * OWN + 16000).astype(kind)
    out = np.zeros(2 * 3 * CORES * ROWS * COLUMNS, np.float32)
    memory = GlobalMemory(
        [
            Allocation("out", out.ctypes.data, out.nbytes, owner=out),
            Allocation("x", x.ctypes.data, x.nbytes, owner=x, written=stores_to_x),
        ]
    )
    addresses = [out.ctypes.data, x.ctypes.data]
    if engine == "interpreter":
        words = interpreter.run(program, (3, 1, 1), addresses, memory, MACHINE).trace_words
    else:
        native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
        words = execute(native, (3, 1, 1), addresses, memory, MACHINE, 1).trace.words
    return out.view(np.uint32), x, words


@pytest.mark.parametrize("stores_to_x", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_instructions_find_what_was_loaded(seed, stores_to_x):
    dtype = [*WIDTHS][seed % len(WIDTHS)]
    program = drawn(seed, dtype, stores_to_x=stores_to_x)
    check(program, MACHINE)
    (out, x, words), (other_out, other_x, other_words) = (
        run(program, dtype, each, stores_to_x) for each in ("interpreter", "native")
    )
    np.testing.assert_array_equal(other_out, out)
    np.testing.assert_array_equal(other_x, x)
    assert np.array_equal(words, other_words)
    assert out.any()


PRODUCT = f"""
.program product
.isa 592
.cores 1
.param out ptr f32
.param a ptr f32
.param w ptr f32
.buffer left nram 0 {4 * ROWS * 64}
.buffer c nram {4 * ROWS * 64} {4 * ROWS * COLUMNS}
.buffer w wram 0 {4 * 64 * COLUMNS}
    param r0, 0
    param r1, 1
    param r2, 2
    dma.weight.f32 [w], g[r2], 64, {COLUMNS}, 64, {COLUMNS}, 0, {COLUMNS}, 1, 0.0
    dma.load.f32 [left], g[r1], 64, {ROWS}, 1, 64, 0, 100, 0
    sync 7
    mm.f32.f32 [c], [left], [w], {ROWS}, {COLUMNS}, 64, 64, 0
    sync 7
    dma.store.f32 g[r0], [c], {COLUMNS}, {ROWS}, 1, {COLUMNS}, 0, 100, 0
    exit
"""


@pytest.mark.parametrize("rows_behind", [0, 1])
@pytest.mark.parametrize("place", [None, 0, -200, 1500])
def test_products_may_store_over_what_they_read(place, rows_behind):
    """Results go to the rows that are read, or to some of their neighbours."""
    program = assemble(PRODUCT)
    check(program, MACHINE)
    whole = np.random.default_rng(0).integers(-3, 4, 3000 + (ROWS + rows_behind) * 100).astype(np.float32)
    weights = np.random.default_rng(1).integers(-3, 4, (64, COLUMNS)).astype(np.float32)
    results = np.zeros_like(whole)
    read = whole[1000:]
    written = (results if place is None else whole)[1000 + (place or 0) :]
    expected = written.copy()
    left = read[: ROWS * 100].reshape(ROWS, 100)[:, :64]
    expected[: ROWS * 100].reshape(ROWS, 100)[:, :COLUMNS] = left @ weights
    memory = GlobalMemory(
        [
            Allocation.of_array("out", written),
            Allocation("a", read.ctypes.data, read.nbytes, owner=read, written=False),
            Allocation("w", weights.ctypes.data, weights.nbytes, owner=weights, written=False),
        ]
    )
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    addresses = [each.ctypes.data for each in (written, read, weights)]
    execute(native, (1, 1, 1), addresses, memory, MACHINE, 1)
    assert np.array_equal(written, expected)


@pytest.mark.parametrize("first", [0, 64, 80])
@pytest.mark.parametrize("last", [640, 656, 2048])
def test_what_is_beside_what_is_written_stays(first, last):
    """Whole rows, or parts of them."""
    text = PRODUCT.replace(
        "    mm.", f"    v.mov.f32 [left + {4 * first}], 7.0, 1, {last - first}\n    sync 7\n    mm."
    )
    program = assemble(text.replace("g[r0], [c], 64, 32, 1, 64, 0, 100, 0", "g[r0], [left], 2048, 1, 1, 0, 0, 0, 0"))
    check(program, MACHINE)
    read, weights = np.arange(4000, dtype=np.float32), np.ones((64, COLUMNS), np.float32)
    out = np.zeros(2048, np.float32)
    memory = GlobalMemory(
        [
            Allocation.of_array("out", out),
            Allocation("a", read.ctypes.data, read.nbytes, owner=read, written=False),
            Allocation("w", weights.ctypes.data, weights.nbytes, owner=weights, written=False),
        ]
    )
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    execute(native, (1, 1, 1), [each.ctypes.data for each in (out, read, weights)], memory, MACHINE, 1)
    expected = read[: ROWS * 100].reshape(ROWS, 100)[:, :64].ravel()
    expected[first:last] = 7
    assert np.array_equal(out, expected)


def test_nothing_is_found_of_rows_that_are_overwritten():
    """A next row of theirs would begin in what is stored then, which lies behind their array."""
    halves = f"""add.i64 r3, r1, {ROWS // 2 * 400}
    dma.load.f32 [left + {ROWS // 2 * 256}], g[r1], 64, {ROWS // 2}, 1, 64, 0, 100, 0
    dma.load.f32 [left], g[r3], 64, {ROWS // 2}, 1, 64, 0, 100, 0
    sync 7
    dma.load.f32"""
    text = PRODUCT.replace("g[r0], [c], 64, 32, 1, 64, 0, 100, 0", "g[r0], [c], 2048, 1, 1, 0, 0, 0, 0")
    program = assemble(text.replace("dma.load.f32", halves))
    check(program, MACHINE)
    end = ROWS * 100 + 400  # loops read past the end of rows, but not of arrays
    whole, weights = np.ones(end + ROWS * COLUMNS, np.float32), np.ones((64, COLUMNS), np.float32)
    read, out = whole[:end], whole[end:]
    memory = GlobalMemory(
        [
            Allocation("out", out.ctypes.data, out.nbytes, owner=whole),
            Allocation("a", read.ctypes.data, read.nbytes, owner=whole, written=False),
            Allocation("w", weights.ctypes.data, weights.nbytes, owner=weights, written=False),
        ]
    )
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    execute(native, (1, 1, 1), [each.ctypes.data for each in (out, read, weights)], memory, MACHINE, 1)
    assert (out == 64).all()
    assert (read == 1).all()


@mlu.jit
def rows_times_vector(w, x, y, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    sums = tl.zeros((ROWS,), tl.float32)
    for first in range(0, columns, BLOCK):
        block = first + tl.arange(0, BLOCK)
        sums += tl.sum(tl.load(w + rows[:, None] * columns + block[None, :]) * tl.load(x + block)[None, :], 1)
    tl.store(y + rows, sums)


@pytest.mark.parametrize(("rows", "block"), [(1, 512), (32, 128), (64, 64), (16, 512)])
def test_what_sums_of_rows_read_is_known_to_stay(rows, block):
    """Else nothing would be lent: tiles of several programs, of several steps, or of one."""
    w = np.random.default_rng(0).integers(-8, 8, (256, 512)).astype(np.float32)
    x, y = np.random.default_rng(1).integers(-8, 8, 512).astype(np.float32), np.zeros(256, np.float32)
    run = rows_times_vector[(256 // rows,)](w, x, y, 512, rows, block, machine="mlu590-m9")
    assert np.array_equal(y, w @ x)
    assert run.program.metadata[WRITES] == [2]
