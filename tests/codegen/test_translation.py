"""The text that LLVM has to compile is as short as a program allows; what it leaves out is still there when it runs."""

import numpy as np
import pytest

from mlutriton.codegen.llvm.emitter import Library
from mlutriton.codegen.llvm.translate import translate
from mlutriton.diagnostics import KernelFault
from mlutriton.isa.assembly import assemble
from mlutriton.launch import runtime
from mlutriton.simulator.execution import execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from tests.simulator.programs_by_hand import COPY, HEADER, MACHINE, STORE, faults, load, run_text


def translated(text):
    return translate(assemble(HEADER + text), MACHINE)


def lines(text):
    return translated(text).control.count("\n")


@pytest.mark.parametrize("step", ["add.i64 r4, r4, 3", "fadd.f32 r4, r4, 0.5"])
def test_registers_that_no_other_block_reads_are_no_memory(step):
    """One line for each instruction that is added."""
    begin = "    mov.i64 r4, 1\n"
    assert lines(begin + f"    {step}\n" * 40 + "    exit\n") - lines(begin + f"    {step}\n" * 20 + "    exit\n") == 20


def test_what_has_been_computed_is_not_computed_again():
    """Both registers hold one product."""
    copied = (
        "    mul.i64 r4, r2, 7\n    mul.i64 r5, r2, 7\n    stg.i64 g[r0], r4\n    stg.i64 g[r0 + 8], r5\n    exit\n"
    )
    assert translated(copied).control.count(", 7\n") == 1


def test_registers_that_another_block_reads_keep_their_values():
    text = """
    slt.i64 r5, r2, 3
    mov.f32 r6, 1.5
    cbr r5, few
    mov.f32 r6, 2.5
few:
    v.mov.f32 [b], r6, 1, 64
"""
    for n, value in ((2, 1.5), (3, 2.5)):
        out, _ = run_text(text + STORE, runtime, grid=1, n=n)
        assert (out == value).all()


def test_registers_that_are_set_once_are_no_memory():
    """They are flags, numbers of 32 bits and floats that other blocks read, each as what it was set as."""
    text = """
    slt.i64 r5, r2, 3
    trunc_int.i64.i32 r6, r2
    sub.i32 r6, r6, 4
    mov.f32 r7, 1.5
    cbr r5, few
    mov.i64 r8, 1
few:
    sext.i32.i64 r9, r6
    sitofp.i64.f32 r10, r9
    cbr r5, negative
    fadd.f32 r11, r10, r7
    v.mov.f32 [b], r11, 1, 64
    br end
negative:
    v.mov.f32 [b], r10, 1, 64
end:
"""
    once = text.replace("sub.i32 r6, r6", "sub.i32 r12, r6").replace("r9, r6", "r9, r12")
    assert translated(once + STORE).control.count("alloca i64") < translated(text + STORE).control.count("alloca i64")
    for program in (once, text):
        for n in (1, 3, 9):
            out, _ = run_text(program + STORE, runtime, grid=1, n=n)
            assert (out == (n - 4 if n < 3 else n - 4 + 1.5)).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Set on one way only: registers hold 0 at first.
        ("    slt.i64 r5, r2, 3\n    cbr r5, few\n    mov.f32 r6, 2.5\nfew:\n", {2: 0, 3: 2.5}),
        # Set by what stands behind the reader and runs before it.
        (
            "    br begin\nread:\n    fadd.f32 r7, r6, 1.0\n    br end\nbegin:\n    sitofp.i64.f32 r6, r2\n"
            "    br read\nend:\n    mov.f32 r6, r7\n",
            {4: 5},
        ),
        (
            "    br begin\nread:\n    fadd.f32 r7, r8, 1.0\n    br end\nbegin:\n    sitofp.i64.f32 r8, r2\n"
            "    br read\nend:\n    mov.f32 r6, r7\n",
            {4: 5},
        ),
        # Set in a loop: read in the next turn before that sets it, and behind the loop.
        (
            "    mov.i64 r9, 0\nagain:\n    fadd.f32 r6, r6, 1.0\n    add.i64 r9, r9, 1\n    slt.i64 r5, r9, r2\n"
            "    cbr r5, again\n",
            {1: 1, 5: 5},
        ),
        (
            "    mov.i64 r9, 0\nagain:\n    fadd.f32 r8, r7, 1.0\n    sitofp.i64.f32 r7, r9\n    add.i64 r9, r9, 1\n"
            "    slt.i64 r5, r9, r2\n    cbr r5, again\n    fmul.f32 r6, r8, 2.0\n",
            {1: 2, 2: 2, 5: 8},
        ),
    ],
)
def test_registers_that_one_instruction_sets_hold_what_it_set_last(text, expected):
    for n, value in expected.items():
        out, _ = run_text(text + "    v.mov.f32 [b], r6, 1, 64\n" + STORE, runtime, grid=1, n=n)
        assert (out == value).all()


def test_one_element_over_and_over_needs_no_loop():
    for columns in ("64", "r2"):
        text = COPY + f"    v.mov.f32 [b], 7.0, 1, 64\n    v.mov.f32 [b], 0.25, 1, {columns}\n" + STORE
        assert not translated(text).loops
        for n in (0, 1, 37, 64):
            out, _ = run_text(text, runtime, grid=2, n=n)
            end = 64 if columns == "64" else n
            expected = np.where(np.arange(64) < end, 0.25, 7.0)
            assert (out.reshape(2, 64) == expected).all()


def test_what_programs_share_has_one_text():
    scans = [
        translated(COPY + f"    {first}\n    scan.fadd.f32 [b], [a], 1, 64, 1, 0\n" + STORE)
        for first in ("mov.i64 r9, 1", "v.fadd.f32 [a], [a], 1.0, 1, 64")
    ]
    assert scans[0].shared == scans[1].shared
    assert len(scans[0].shared) == 1
    assert str(scans[0]) != str(scans[1])


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 149])
def test_a_fault_among_many_is_told_apart(place):
    """Each instruction may leave its window; the one that does is named."""
    text = "".join(f"    v.mov.i8 [a + r2 + {offset}], 1, 1, 1\n" for offset in range(150)) + "    exit\n"
    assert faults(text, runtime, n=256 - place) == "E0304"


def test_an_empty_access_is_nowhere():
    """A count of 0 touches nothing, wherever it would begin."""
    text = (
        COPY + "    v.mov.f32 [b], 1.0, 1, 64\n    sub.i64 r5, r2, 1000\n    v.mov.f32 [b + r5], 9.0, 1, r2\n" + STORE
    )
    out, _ = run_text(text, runtime, grid=1, n=0)
    assert (out == 1).all()


def test_parts_are_told_before_the_rest_is_written_and_compute_the_same():
    """Functions and tables that several parts need are in each of them; what is told is what is left at the end."""
    text = COPY + "".join(
        f"    v.fadd.f32 [b], [a], {number}.0, 1, r2\n    v.exp.f32 [b], [b], 1, r2\n"
        f"    v.fmul.f32 [b], [b], 0.0, 1, r2\n    v.fadd.f32 [b], [b], {number}.0, 1, r2\n"
        "    v.transpose.f32 [a], [b], 1, 8, 8, 1\n"
        for number in range(1, 9)
    )
    told = []
    written = translate(assemble(HEADER + text + STORE), MACHINE, begin=lambda *part: told.append(part))
    assert len(written.loops) > 2
    assert [part for part, is_shared in told if not is_shared] == list(written.loops[: len(told)])
    assert [part for part, is_shared in told if is_shared] == list(written.shared)
    for part in written.loops:
        assert part.count("define internal <16 x float> @mlu.exp.") == 1
    out, _ = run_text(text + STORE, runtime, grid=1, n=64)
    assert (out == 8).all()


def test_the_last_loops_are_told_before_what_follows_is_written():
    told = []
    text = COPY + "    v.fadd.f32 [b], [a], 1.0, 1, r2\n    br next\nnext:\n" + STORE
    written = translate(assemble(HEADER + text), MACHINE, begin=lambda part, is_shared: told.append(part))
    assert len(told) == 1
    assert told == list(written.loops)


def test_what_is_kept_at_a_barrier_is_what_is_read_behind_it():
    """Each barrier keeps the register that is read behind it, and not those of all others."""

    def lines_of(barriers):
        text = "".join(
            f"    mov.i64 r{each}, r2\n    barrier.cluster\n    stg.i64 g[r0 + {8 * each}], r{each}\n"
            for each in range(10, 10 + barriers)
        )
        program = assemble(HEADER.replace(".cores 1", ".cores 4") + text + "    exit\n")
        return translate(program, MACHINE).control.count("\n")

    assert lines_of(30) - lines_of(20) == lines_of(20) - lines_of(10)


def test_loops_like_earlier_ones_leave_nothing_in_the_parts_behind_them():
    """Each part has what its loops call, and loops; copies of loops in other places of the chip are the same."""
    powers = "".join(
        f"    v.exp.f32 [b + {128 * half}], [a + {128 * half}], 1, r2\n    v.transpose.f32 [a], [b], 1, 1, 1, 1\n"
        for half in (0, 1)
    )
    roots = "    v.tanh.f32 [b], [a], 1, r2\n    v.transpose.f32 [a], [b], 1, 1, 1, 1\n"
    written = translated(COPY + powers + roots + powers + STORE)
    assert written.control.count("call void @loops0(") == 4
    for part in written.loops:
        assert "define void @loops" in part
    assert "".join(written.loops).count("define internal <16 x float> @mlu.exp.") == 1


def test_tables_that_several_parts_read_are_in_each_of_them():
    library = Library()
    names = [library.shared("table", "", " = private constant [1 x i32] [i32 7]") for _ in range(2)]
    function = library.shared("loops", "define internal void ", f"() {{\n; {'.' * 5000}\nret void\n}}")
    library.export(function)
    library.end_part()
    assert library.text() == ""
    names.append(library.shared("table", "", " = private constant [1 x i32] [i32 7]"))
    assert library.shared("loops", "define internal void ", f"() {{\n; {'.' * 5000}\nret void\n}}") == function
    assert {*names} == {"table0"}
    assert library.text().startswith("@table0 = ")
    assert "define" not in library.text()
    assert "define void @loops1()" in library.parts[0]
    assert "@table0 = " in library.parts[0]


def test_products_of_counts_are_multiplied_as_they_are():
    """Two counts cannot overflow, nor can what rows of them take the vector unit; four of them can."""
    rows = "    v.mov.f32 [b], 1.0, r2, r2\n"
    assert "smul.fix.sat" not in translated(rows + STORE).control
    four = "    v.transpose.f32 [b], [a], r2, r2, r2, r2\n"
    assert "smul.fix.sat" in translated(four + STORE).control


@pytest.mark.parametrize("n", [1 << 16, 1 << 21, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 62, (1 << 63) - 1])
@pytest.mark.parametrize("instruction", ["v.mov.f32 [b], 1.0, r2, r2", "v.transpose.f32 [b], [a], r2, r2, r2, r2"])
def test_spans_do_not_wrap_around_into_their_windows(instruction, n):
    """The product of the extents is 0, or small, modulo 2**64 for some of them."""
    with pytest.raises(KernelFault) as fault:
        run_text(f"    {instruction}\n" + STORE, runtime, grid=1, n=n)
    assert fault.value.code == "E0304"


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("rows", [1, 2, 4, 12, 16, 64])
@pytest.mark.parametrize("columns", [2, 8, 16, 24, 37])
def test_transposes_in_registers_are_those_element_by_element(width, rows, columns):
    """Of counts that are numbers, and of counts that are known when it runs."""
    dtype = {1: "i8", 2: "f16", 4: "i32", 8: "i64"}[width]
    count = 3 * rows * columns
    x = np.random.default_rng(rows).integers(0, 256, count * width).astype(np.uint8).view(f"u{width}")
    for row_count, column_count in ((rows, columns), ("r2", columns), (rows, "r3")):
        text = f"""
.program turned
.isa {MACHINE.isa}
.cores 1
.param out ptr {dtype}
.param x ptr {dtype}
.param rows i64
.param columns i64
.buffer a nram 0 {count * width}
.buffer b nram 65536 {count * width}
    param r0, 0
    param r1, 1
    param r2, 2
    param r3, 3
    dma.load.{dtype} [a], g[r1], {count}, 1, 1, 0, 0, 0, 0
    sync 1
    v.transpose.{dtype} [b], [a], 3, {row_count}, {column_count}, 1
    sync 4
    dma.store.{dtype} g[r0], [b], {count}, 1, 1, 0, 0, 0, 0
    exit
"""
        out = np.zeros_like(x)
        memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
        native = load(assemble(text), runtime)
        execute(native, (1, 1, 1), [out.ctypes.data, x.ctypes.data, rows, columns], memory, MACHINE, 1)
        np.testing.assert_array_equal(out, x.reshape(3, rows, columns).transpose(0, 2, 1).ravel())


@pytest.mark.parametrize("counts", ["2, r2", "r2, 8", "4, 37", "37, 4"])
def test_few_rows_or_columns_are_transposed_in_registers_however_many_of_the_others_there_are(counts):
    assert "@mlu.transpose." in translated(f"    v.transpose.i8 [b], [a], 1, {counts}, 1\n{STORE}").control


@pytest.mark.parametrize("mode", ["row", "col"])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 8, 16])
def test_short_rows_of_a_number_that_is_known_when_it_runs_are_one_long_row(columns, mode):
    text = f"    v.fadd.f32 [b], {mode}[a], 0.5, r2, {columns}\n"
    loops = "".join(translated(COPY + text + STORE).loops)
    assert (", 16\n" in loops.partition("call i64 asm")[0][-40:]) == (columns in (1, 2, 4, 8))
    for rows in (0, 1, 3, 64 // columns):
        out, _ = run_text("    v.mov.f32 [b], -1.0, 1, 64\n" + COPY + text + STORE, runtime, grid=1, n=rows)
        expected, x = np.full(64, -1, np.float32), np.arange(64, dtype=np.float32)
        read = np.repeat(x[:rows], columns) if mode == "row" else np.tile(x[:columns], rows)
        expected[: rows * columns] = read + np.float32(0.5)
        np.testing.assert_array_equal(out, expected)
