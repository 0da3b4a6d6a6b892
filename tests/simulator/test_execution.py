"""Native execution against the reference interpreter: the same bytes and trace, for random programs and by hand."""

from __future__ import annotations

import ctypes
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlutriton.arithmetic import evaluate
from mlutriton.codegen.llvm.dependence import depends_on_data
from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import F16, F32, F64, I8, I32
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.native_interface import CONTEXT_WORDS, Context, Counter
from mlutriton.isa.table import TABLE
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import execute
from mlutriton.simulator.host_core import int64_array
from mlutriton.simulator.memory import Allocation, GlobalMemory
from tests.covering import pairs_of
from tests.simulator.programs_by_hand import COPY, HEADER, MACHINE, STORE, faults, load, prepared, run_text
from tests.simulator.random_programs import (
    DTYPES,
    ELEMENTS,
    SHOWS_NAN_BITS,
    Generator,
    equal,
    random_arrays,
)


def run_both(program, seed, runtime):
    arrays, natives = random_arrays(seed), random_arrays(seed)
    memories, parameters = [], []
    for group in (arrays, natives):
        memories.append(GlobalMemory(Allocation.of_array(f"p{i}", array) for i, array in enumerate(group)))
        parameters.append([*(array.ctypes.data for array in group), 0])
    expected = interpreter.run(program, (1, 1, 1), parameters[0], memories[0], MACHINE)
    native = load(program, runtime)
    got = execute(native, (1, 1, 1), parameters[1], memories[1], MACHINE, 1)
    return arrays, natives, expected, got


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_random_programs_agree_with_the_interpreter(seed, runtime):
    program = Generator(random.Random(seed)).program(14)
    check(program, MACHINE)
    arrays, natives, expected, got = run_both(program, seed, runtime)
    for dtype, array, native in zip(DTYPES, arrays, natives, strict=True):
        wrong = np.flatnonzero(~equal(array, native))
        assert not wrong.size, (dtype, divmod(int(wrong[0]), ELEMENTS), array[wrong[0]], native[wrong[0]])
    assert got.trace.words.tolist() == expected.trace_words.tolist()
    assert got.work.by_instruction().tolist() == expected.instruction_work.tolist()
    assert got.touched is None or (got.touched.marks == expected.touched.marks).all()
    assert got.touched is not None or not expected.touched.marks.any()
    assert len(got.prints) == len(expected.prints)
    for a, b in zip(got.prints, expected.prints, strict=True):
        assert (a.program, a.message) == (b.program, b.message)
        assert equal(np.ascontiguousarray(a.values), np.ascontiguousarray(b.values)).all()


def test_random_programs_reach_every_instruction():
    made = {each.row.name for seed in range(300) for each in Generator(random.Random(seed)).program(30).instructions}
    elsewhere = {"assert", "br", "barrier.cluster", *SHOWS_NAN_BITS, *(f"v.{name}" for name in SHOWS_NAN_BITS)}
    # Operations are drawn from a long list: those few that are not drawn are tested one by one in test_llvm_elements.
    assert {name for name in TABLE.keys() - made - elsewhere if TABLE[name].operation is None} == {"sreg", "serve"}
    assert len(TABLE.keys() - made - elsewhere) < 12


def test_reach_tells_where_arrays_end(runtime):
    """From the first and the last byte of one, one byte behind it, and address 0; those that may be stored to."""
    asked = ["r1", "r4", "r5", "0"]
    text = "    add.i64 r4, r1, 767\n    add.i64 r5, r1, 768\n" + "".join(
        f"    reach r6, {each}, {place % 2}\n    trunc_int.i64.i32 r6, r6\n    stg.i32 g[r0 + {4 * place}], r6\n"
        for place, each in enumerate(asked)
    )
    out, _ = run_text(text + "    exit", runtime)
    assert out.view(np.int32)[:4].tolist() == [768, 1, 0, 0]


FAULTS = {
    "load outside": ("E0301", "dma.load.f32 [a], g[r1 + 900], 64, 1, 1, 0, 0, 0, 0\nexit"),
    "load below": ("E0301", "sub.i64 r1, r1, 4\ndma.load.f32 [a], g[r1], 64, 1, 1, 0, 0, 0, 0\nexit"),
    "scalar load outside": ("E0301", "mov.i64 r1, 8\nldg.f32 r5, g[r1]\nexit"),
    "gather outside": (
        "E0301",
        "v.iota.i32 [a], 0, 40, 30\nsync 4\ngather.f32.i32 [b], g[r1], [a], 4, 1, 0.0, 30, 1, 1\nexit",
    ),
    "window": ("E0304", "mov.i64 r5, 16\nadd.i64 r5, r5, r2\nv.mov.f32 [a + r5], 0.0, 1, 64\nexit"),
    "count": ("E0304", "add.i64 r5, r2, 65\nv.mov.f32 [b], 0.0, 1, r5\nexit"),
    "index": ("E0304", "v.mov.f32 [a], 0.0, 1, 8\nv.mov.i32 [a + 32], 8, 1, 4\n"
              "v.gather.f32.i32 [b], [a], [a + 32], 1, 4, 1, 8\nexit"),
    "index of many": ("E0304", "v.mov.f32 [a], 0.0, 1, 8\nv.mov.i32 [a + 32], 7, 1, 40\nv.mov.i32 [a + 112], -1, 1, 2\n"
                      "v.mov.i32 [a + 120], 9, 1, 2\nv.gather.f32.i32 [b], [a], [a + 32], 1, 40, 1, 8\nexit"),
    "index of the last": ("E0304", "v.mov.f32 [a], 0.0, 1, 8\nv.mov.i32 [a + 32], 7, 1, 40\n"
                          "v.mov.i32 [a + 188], 8, 1, 1\nv.gather.f32.i32 [b], [a], [a + 32], 1, 40, 1, 8\nexit"),
    "assertion": ("E0305", "slt.i64 r5, r3, 1\nassert r5, 0\nexit"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_reads_like_that_of_the_interpreter(name, runtime):
    code, text = FAULTS[name]
    assert faults(text, runtime) == code


def test_a_stride_that_would_wrap_around(runtime):
    text = f"mov.i64 r5, {1 << 62}\ndma.load.f32 [a], g[r1], 1, 5, 1, 1, 0, r5, 0\nexit"
    with pytest.raises(KernelFault, match="E0301"):
        run_text(text, runtime)


def test_a_store_to_a_read_only_array(runtime):
    text = "v.mov.f32 [b], 1.0, 1, 64\nsync 4\ndma.store.f32 g[r0], [b], 64, 1, 1, 0, 0, 0, 0\nexit"
    assert faults(text, runtime, writable=False) == "E0307"


LOOP = """
    mov.i64 r5, 0
again:
    v.fadd.f32 [b], [a], 1.0, 1, 64
    v.fmul.f32 [b], [b], [b], 1, 64
    sync 4
    add.i64 r5, r5, 1
    slt.i64 r6, r5, r2
    cbr r6, again
"""


def test_timing_alone_leaves_the_same_trace_and_touches_no_array(runtime):
    out, with_values = run_text(COPY + LOOP + STORE, runtime, n=5)
    assert out.any()
    out, timing_only = run_text(COPY + LOOP + STORE, runtime, n=5, with_values=False)
    assert not out.any()
    assert timing_only.trace.words.tolist() == with_values.trace.words.tolist()
    assert timing_only.counters == with_values.counters
    assert timing_only.work.by_instruction().tolist() == with_values.work.by_instruction().tolist()


def test_counters(runtime):
    _, execution = run_text(COPY + LOOP + STORE, runtime, grid=2, n=5)
    counters = dict(zip(Counter, execution.counters, strict=True))
    assert counters[Counter.READ_BYTES] == counters[Counter.WRITTEN_BYTES] == 2 * 256
    assert counters[Counter.VECTOR_SIMPLE_BYTES] == 2 * 5 * 2 * 256
    assert counters[Counter.MACS] == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ldg.i64 r5, g[r0]\nexit", None),
        ("ldg.i64 r5, g[r0]\nfadd.f32 r6, r5, 1.0\nstg.f32 g[r0], r6\nexit", None),
        ("ldg.i1 r5, g[r0]\ncbr r5, end\nend:\nexit", 2),
        ("ldg.i64 r5, g[r0]\nadd.i64 r5, r5, 1\nmov.i64 r6, r5\nldg.i64 r7, g[r6]\nexit", 4),
        ("ldg.i64 r5, g[r0]\nmov.i64 r5, 3\nv.mov.f32 [a], 0.0, 1, r5\nexit", None),
        ("ldg.i64 r5, g[r0]\nv.mov.f32 [a], 0.0, 1, r5\nexit", 2),
        ("mov.i64 r6, 0\nagain:\nv.mov.f32 [a + r6], 0.0, 1, 1\nldg.i64 r6, g[r0]\nbr again", 3),
    ],
)
def test_dependence_on_data_is_found(text, line):
    lines = [f'.loc "kernel.py" {number} 1\n{each}' for number, each in enumerate(text.splitlines(), 1)]
    place = depends_on_data(assemble(HEADER + "\n".join(lines)))
    assert (place.line if place else None) == line


def test_loops_that_differ_in_what_they_are_handed_share_a_function():
    steps = "".join(
        f"v.fadd.f32 [b], [a + {register}], {register}, 1, 64\nv.transpose.f32 [a], [b], 1, 8, 8, 1\n"
        for register in ("r5", "r6")
    )
    program = assemble(HEADER + COPY + "add.i64 r5, r5, 0\nadd.i64 r6, r6, 4\n" + steps + STORE)
    text = translate(program, MACHINE)
    assert "".join(text.loops).count("define void") == 1
    assert text.control.count("call void @loops0(") == 2


def test_temporaries_that_die_are_not_stored():
    program = assemble(HEADER + COPY + "v.fadd.f32 [b], [a], 1.0, 1, 64\nv.fmul.f32 [b], [b], 2.0, 1, 64\n" + STORE)
    assert "".join(translate(program, MACHINE).loops).count("store <16 x i32>") == 1
    unused = assemble(HEADER + COPY + "v.fadd.f32 [b], [a], 1.0, 1, 64\nexit")
    assert "store <16 x i32>" not in "".join(translate(unused, MACHINE).loops)


@pytest.mark.parametrize("columns", ["8", "r7"])
@pytest.mark.parametrize(("distance", "calls"), [(0, 3), (64, 3), (-4, 5)])
def test_tiles_that_follow_each_other_are_walked_through_apart(distance, calls, columns, runtime):
    """The second tile begins behind the first one, by a distance from its end, though both are known only by name."""
    steps = "".join(
        f"v.{name}.f32 [a], [a], {value}, r2, {columns}\nv.{name}.f32 [a + r5], [a + r5], {value}, r6, {columns}\n"
        for name, value in (("fadd", 1.0), ("fmul", 3.0))
    )
    first = f"smin.i64 r7, r2, 0\nadd.i64 r7, r7, 8\nmul.i64 r5, {columns}, 4\nmul.i64 r5, r5, r2\n"
    first += f"add.i64 r5, r5, {distance}\nsub.i64 r6, 5, r2\n"
    text = HEADER + COPY + first + steps + "v.mov.f32 [b], [a], 1, 64\n" + STORE
    program = assemble(text)
    assert translate(program, MACHINE).control.count("call void @loops") == calls
    for n in (-1, 0, 1, 4, 5) if distance == 64 else (1, 4, 5):
        x, expected = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
        memory = GlobalMemory([Allocation.of_array("out", expected), Allocation.of_array("x", x)])
        interpreter.run(program, (1, 1, 1), [expected.ctypes.data, x.ctypes.data, n % (1 << 64)], memory, MACHINE)
        out, _ = run_text(text.removeprefix(HEADER), runtime, grid=1, n=n % (1 << 64))
        assert out.tolist() == expected.tolist()


def test_what_a_later_loop_reads_is_stored_though_an_instruction_behind_it_joins_an_earlier_one(runtime):
    """The product joins the loop of the sums; the difference, which waits for one of them, comes after both."""
    steps = (
        "v.fadd.f32 [a], [a], 1.0, 2, 16\nred.fadd.f32 [a + 128], [a], 2, 16, 1\n"
        "v.fsub.f32 [b], [a + 4], [a + 128], 1, 1\nv.fmul.f32 [b + 128], [a], 2.0, 2, 16\n"
    )
    out, _ = run_text(COPY + steps + STORE, runtime, grid=1)
    a = np.arange(32, dtype=np.float32).reshape(2, 16) + 1
    assert out[0] == 2 - a[0].sum()
    assert out[32:].tolist() == (2 * a).ravel().tolist()


KNOWN = f"""
.program known
.isa {MACHINE.isa}
.cores 1
.param out ptr i32
.param x ptr i32
.buffer a nram 0 256
.buffer b nram 256 256
.buffer c nram 512 256
.buffer m nram 768 256
    param r0, 0
    param r1, 1
{"".join(f"dma.load.i32 [{name}], g[r1 + {256 * i}], 64, 1, 1, 0, 0, 0, 0{chr(10)}" for i, name in enumerate("abcm"))}
    mov.i64 r3, 0
    sync 1
again:
"""
STORE_KNOWN = f"""
    add.i64 r3, r3, 1
    slt.i64 r4, r3, 2
    cbr r4, again
    sync 4
{"".join(f"dma.store.i32 g[r0 + {256 * i}], [{name}], 64, 1, 1, 0, 0, 0, 0{chr(10)}" for i, name in enumerate("abcm"))}
    exit
"""


def known_steps(choose, count):
    """Instructions over numbers that are known, not known, and no more known."""
    for number in range(count):
        target, *rest = choose.sample("abc", 3)
        rows, columns = choose.choice(
            [(1, 16), (2, 8), (4, 4), (8, 2), (1, 5), (4, 16), (1, 64), (16, 4), (3, 7), (1, 1)]
        )
        modes = [choose.choice(["[{}]", "[{}]", "row[{}]", "col[{}]"]).format(name) for name in rest]
        sources = [choose.choice([mode, mode, mode, str(choose.randrange(4))]) for mode in modes]
        sources[0] = modes[0]
        extents, offset = f"{rows}, {columns}", choose.choice([0, 0, 0, 4, 64]) if rows * columns <= 16 else 0
        place = f"[{target} + {offset}]" if offset else f"[{target}]"
        match choose.randrange(9):
            case 0 | 1:
                yield f"v.iota.i32 {place}, {choose.randrange(9)}, {choose.randrange(3)}, {rows * columns}"
            case 2 | 3 | 4:
                name = choose.choice(["xor", "add", "and", "smax", "shl"])
                yield f"v.{name}.i32 {place}, {', '.join(sources)}, {extents}"
            case 5:
                outer, n, inner = choose.choice([(1, 8, 8), (8, 2, 4), (2, 2, 16), (16, 4, 1), (3, 2, 2), (1, 4, 16)])
                yield f"v.repeat.i32 [{target}], [{rest[0]}], {outer}, {n}, {inner}"
            case 6:
                yield f"v.ne.i32 [m], {', '.join(sources)}, {extents}"
                yield f"v.select.i32 {place}, [m], {', '.join(sources)}, {extents}"
            case 7:
                yield f"v.transpose.i32 [{target}], [{rest[0]}], 1, 8, 8, 1"
            case _:
                yield f"slt.i64 r4, r3, 1\ncbr r4, skip{number}"
                yield f"v.mov.i32 {place}, {modes[0]}, {extents}\nskip{number}:"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_what_is_known_of_tiles_is_what_they_hold(seed, runtime):
    choose = random.Random(seed)
    program = assemble(KNOWN + "\n".join(known_steps(choose, choose.randrange(4, 30))) + STORE_KNOWN)
    check(program, MACHINE)
    x = np.random.default_rng(seed).integers(0, 9, 256).astype(np.int32)
    expected, out = np.zeros_like(x), np.zeros_like(x)
    memory = GlobalMemory([Allocation.of_array("out", expected), Allocation.of_array("x", x)])
    interpreter.run(program, (1, 1, 1), [expected.ctypes.data, x.ctypes.data], memory, MACHINE)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    execute(load(program, runtime), (1, 1, 1), [out.ctypes.data, x.ctypes.data], memory, MACHINE, 1)
    assert out.tolist() == expected.tolist()


def test_masks_of_a_pattern_are_constants(runtime):
    """Neither the numbers nor the mask need be in memory, though both are made in the same bytes again."""
    step = (
        "v.iota.i32 [b], 0, 1, 2\nv.ne.i32 [b + 8], [b], {}, 1, 2\nv.repeat.i1 [b + 64], [b + 8], 1, 32, 2\n"
        "v.select.f32 [a], [b + 64], [a], {}, 1, 64\n"
    )
    text = COPY + step.format(0, 7.0) + step.format(1, 9.0) + "v.mov.f32 [b], [a], 1, 64\n" + STORE
    assert translate(assemble(HEADER + text), MACHINE).control.count("call void @loops") == 1
    out, _ = run_text(text, runtime, grid=1)
    assert out.tolist() == [7.0, 9.0] * 32


PAIRS = """
.program pairs
.isa {isa}
.cores 1
.param out ptr {dtype}
.param x ptr {dtype}
.buffer a nram 0 {size}
.buffer b nram {size} {size}
.buffer pairs nram {twice} {size}
    param r0, 0
    param r1, 1
    dma.load.{dtype} [a], g[r1], 192, 1, 1, 0, 0, 0, 0
    sync 1
    red.{operation}.{dtype} [pairs], [a], {outer}, 2, {inner}
{steps}
    sync 4
    dma.store.{dtype} g[r0], [{stored}], 192, 1, 1, 0, 0, 0, 0
    exit
"""


EXCHANGES = {
    # Name: what follows the reduction, what is stored, and whether nothing of it need be in memory.
    "into another tile": ("v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}", "b", True),
    "and on": (
        "v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}\n"
        "v.mov.{dtype} [b], [b], 1, 192\n"
        "red.{operation}.{dtype} [pairs], [b], 96, 2, 1\nv.repeat.{dtype} [a], [pairs], 96, 2, 1",
        "a",
        True,
    ),
    "in place": ("v.repeat.{dtype} [a], [pairs], {outer}, 2, {inner}", "a", None),
    "after others": (
        "v.mov.{dtype} [b], [a], 1, 8\nv.mov.{dtype} [b + {late}], [a], 1, 8\n"
        "v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}",
        "b",
        True,
    ),
    "after one that writes over what was combined": (
        "v.mov.{dtype} [a], [a + {late}], 1, 8\nv.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}",
        "b",
        False,
    ),
    "after one that reads results": (
        "v.mov.{dtype} [b], [pairs], 1, 8\nv.repeat.{dtype} [a], [pairs], {outer}, 2, {inner}",
        "a",
        False,
    ),
    "and read once more": (
        "v.repeat.{dtype} [b], [pairs], {outer}, 2, {inner}\nv.mov.{dtype} [b + {late}], [pairs], 1, 8",
        "b",
        False,
    ),
}


@pairs_of(
    ("name", list(EXCHANGES)),
    ("inner", [1, 2, 3, 4, 8, 16, 48]),
    (("operation", "dtype"), [("xor", I32), ("fmin", F32), ("fadd", F16), ("smax", I8), ("fmul", F64)]),
)
def test_pairs_that_are_repeated_at_once(name, inner, operation, dtype, runtime):
    steps, stored, is_passed_on = EXCHANGES[name]
    size = 192 * dtype.bytes
    words = {"dtype": dtype.name, "operation": operation, "outer": 96 // inner, "inner": inner, "late": size // 2}
    text = PAIRS.format(**words, isa=MACHINE.isa, size=size, twice=2 * size, stored=stored, steps=steps.format(**words))
    program = assemble(text)
    check(program, MACHINE)
    x = np.random.default_rng(0).integers(-99, 99, 192).astype(dtype.numpy)
    if dtype.is_float:
        x[::5], x[1::7], x[2::11], x[3::13] = 0.0, -0.0, np.nan, np.inf
    expected, out = np.zeros_like(x), np.zeros_like(x)
    for result in (expected, out):
        memory = GlobalMemory([Allocation.of_array("out", result), Allocation.of_array("x", x)])
        parameters = [result.ctypes.data, x.ctypes.data]
        if result is expected:
            interpreter.run(program, (1, 1, 1), parameters, memory, MACHINE)
        else:
            execute(load(program, runtime), (1, 1, 1), parameters, memory, MACHINE, 1)
    assert equal(expected, out).all()
    if is_passed_on is not None and inner != 3:
        assert ("@mlu." not in translate(program, MACHINE).control) == is_passed_on


@pytest.mark.parametrize("function", ["exp", "exp2"])
def test_powers_are_rounded_once_where_they_are_subnormal_or_infinite(function, runtime):
    out, x, launch = prepared(f"{COPY}v.{function}.f32 [b], [a], 1, 64\n{STORE}", runtime, 64)
    low, high = (-105, 89.5) if function == "exp" else (-152, 128.5)
    x[:] = np.linspace(low, high, x.size)
    x[:1500] = np.linspace(low, low + 20, 1500)
    x[-3:] = np.nan, np.inf, -np.inf
    launch(1)
    assert equal(evaluate(function, x, dtype=F32), out).all()
    assert np.count_nonzero((out > 0) & (out < np.finfo(np.float32).tiny)) > 500


GATHERS = {
    "two arrays": "v.iota.i64 [a], 0, r2, 2\nsync 4\ngather.f32.i64 [b], g[r1], [a], 1, 1, 0.5, 2, 1, 1\n",
    "masked": "v.iota.i64 [a], 0, r2, 2\nv.ne.i64 [a + 128], [a], r2, 1, 2\nsync 4\n"
    "gather.f32.i64 [b], g[r1], [a], 1, [a + 128], 0.5, 2, 1, 1\n",
}


@pytest.mark.parametrize(("name", "second"), [("two arrays", 7), ("masked", 0.5)])
def test_items_that_lie_in_two_arrays(name, second, runtime):
    store = "sync 7\ndma.store.f32 g[r0], [b], 2, 1, 1, 0, 0, 0, 0\nexit"
    program = assemble(HEADER + GATHERS[name] + store)
    x, apart, out = np.full(64, 3, np.float32), np.zeros(1 << 20, np.float32), np.full(64, 7, np.float32)
    memory = GlobalMemory([Allocation.of_array("x", x), Allocation.of_array("out", out)])
    distance = (out.ctypes.data + 160 - x.ctypes.data) % (1 << 64)
    execute(load(program, runtime), (1, 1, 1), [out.ctypes.data, x.ctypes.data, distance], memory, MACHINE, 1)
    assert out[:3].tolist() == [3, second, 7]
    assert not apart.any()


MANY_ITEMS = """
.program items
.isa {isa}
.cores 1
.param out ptr f32
.param x ptr f32
.param places ptr i32
.param chosen ptr i8
.buffer offsets nram 0 8192
.buffer mask nram 8192 2048
.buffer a nram 10240 8192
.buffer old nram 18432 8192
    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
    dma.load.i32 [offsets], g[r2], {n}, 1, 1, 0, 0, 0, 0
    dma.load.i8 [mask], g[r3], {n}, 1, 1, 0, 0, 0, 0
    sync 1
    gather.f32.i32 [a], g[r1], [offsets], {scale}, {mask}, 0.5, {n}, 1, 1
    sync 1
    {then}
    exit
"""
SCATTERED = "scatter.f32.i32 g[r0], [a], [offsets], {scale}, {mask}, {n}, 1, 1"
ADDED = """v.mov.f32 [old], 7.0, 1, {n}
    sync 4
    gatom.fadd.f32.i32 [old], g[r0], [offsets], {scale}, [a], {mask}, {n}, 1, 1
    sync 1
    gatom.fadd.f32.i32 0, g[r0], [offsets], {scale}, 0.25, {mask}, {n}, 1, 1
    add.i64 r4, r0, 16384
    dma.store.f32 g[r4], [old], {n}, 1, 1, 0, 0, 0, 0"""
COMPARED = """v.mov.f32 [old], 7.0, 1, {n}
    sync 4
    gatom.cas.f32.i32 [old], g[r0], [offsets], {scale}, 0.0, [a], {mask}, {n}, 1, 1
    sync 1
    gatom.cas.f32.i32 0, g[r0], [offsets], {scale}, [a], 2.0, {mask}, {n}, 1, 1
    add.i64 r4, r0, 16384
    dma.store.f32 g[r4], [old], {n}, 1, 1, 0, 0, 0, 0"""


THEN = {"scattered": SCATTERED, "added": ADDED, "compared": COMPARED}


@pairs_of(
    (("n", "left_out"), list(product([255, 256, 700], [0, 300, 1000]))),
    (("then", "mask"), list(product(THEN, ["1", "[mask]"]))),
    ("scale", [4, 6]),
    ("skip", [0, 2]),
)
def test_many_items(n, scale, skip, mask, left_out, then, runtime):
    """Several at a time, some of them in two units of memory, where the mask chooses all and where it does not."""
    then = THEN[then].format(n=n, scale=scale, mask=mask)
    program = assemble(MANY_ITEMS.format(isa=MACHINE.isa, n=n, scale=scale, mask=mask, then=then))
    check(program, MACHINE)
    rng = np.random.default_rng(n)
    x, places = rng.standard_normal(6 * 1024, np.float32), rng.integers(0, 2048, n).astype(np.int32)
    chosen = np.ones(n, np.int8)
    chosen[left_out::7] = 0
    results = []
    for engine in ("interpreter", "native"):
        out = np.zeros_like(x)
        arrays = (out, x, places, chosen)
        names = ("out", "x", "places", "chosen")
        memory = GlobalMemory(Allocation.of_array(name, array) for name, array in zip(names, arrays, strict=True))
        parameters = [each.ctypes.data + skip * (each.itemsize == 4 and each is not places) for each in arrays]
        if engine == "native":
            done = execute(load(program, runtime), (1, 1, 1), parameters, memory, MACHINE, 1)
        else:
            done = interpreter.run(program, (1, 1, 1), parameters, memory, MACHINE)
        results.append((out, done.touched.marks))
    (expected, touched), (got, marks) = results
    assert equal(expected, got).all()
    assert np.count_nonzero(got)
    assert (touched == marks).all()
    assert marks.any(axis=1).all()


def test_a_program_without_arrays_faults_where_it_touches_one(runtime):
    program = assemble(HEADER + "mov.i64 r1, 8\nldg.f32 r5, g[r1]\nexit")
    with pytest.raises(KernelFault, match="no array was passed"):
        execute(load(program, runtime), (1, 1, 1), [0, 0, 0], GlobalMemory(), MACHINE, 1)


def test_a_grid_without_programs(runtime):
    _, execution = run_text(COPY + STORE.replace("[b]", "[a]"), runtime, grid=0)
    assert not len(execution.trace.words)


def test_records_repeat_if_each_program_has_the_same(runtime):
    """Two threads have run three programs: the second one the middle one."""
    traces = [np.arange(9, dtype=np.int64), np.arange(100, 106, dtype=np.int64)]
    contexts = [int64_array([0] * CONTEXT_WORDS) for _ in traces]
    for context, trace in zip(contexts, traces, strict=True):
        context[Context.TRACE] = trace.ctypes.data
    rows = [int64_array(each) for each in ([0, 1, 0], [0, 0, 24], [24, 48, 48])]
    pointers = int64_array([ctypes.addressof(each) for each in contexts])
    joined, firsts = np.zeros(15, np.int64), np.zeros(3, np.int64)

    def call(name, result=None):
        function = runtime(None).function(name, [ctypes.c_void_p] * 6 + [ctypes.c_int64], result)
        arrays = joined.ctypes.data, firsts.ctypes.data, *map(ctypes.addressof, (pointers, *rows))
        return function(*arrays, 3)

    call("concatenate")
    assert joined.tolist() == [0, 1, 2, *range(100, 106), *range(3, 9)]
    assert firsts.tolist() == [0, 1, 3]
    assert call("repeats", ctypes.c_int64) == 1
    for changed in (*traces, firsts):
        for place in range(len(changed)):
            changed[place] += 1
            assert call("repeats", ctypes.c_int64) == 0
            changed[place] -= 1
    assert call("repeats", ctypes.c_int64) == 1
