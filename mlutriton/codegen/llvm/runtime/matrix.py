"""The matrix product: a register-blocked kernel whose blocking suits the host and does not show in the result.

Each element of c is one chain of fused multiply-adds over k in order, whatever the block it lies in.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.codegen.llvm.elements import LANES, Lanes, intrinsic, lanes_below, load, number_of, store
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.host import MicroKernel, micro_kernel
from mlutriton.codegen.llvm.runtime.zero_edges import element_of_weights, extents_without_zeros
from mlutriton.dtypes import F32, DType
from mlutriton.isa.table import WRAM_STRIP_COLUMNS

# So many rows of a strip of weights take half of a first-level cache of 32 KB; the sum of so many products of 8-bit
# integers is exact in float32 (up to 1024 of them are).
_DEPTH_BLOCK = 128
# The sums of so many rows keep a vector unit busy while each waits for its last addition.
_FEW_ROWS = 4


def matrix_product(library: Library, dtype: DType) -> str:
    """``mm_<dtype>(c, a, w, scratch, rows, columns, depth, lda, accumulate)``; all extents are positive.

    c is float32 (int32 for i8), a is of ``dtype``, w the float32 strips of WRAM, lda in elements.
    """
    e = Emitter(library)
    block = micro_kernel()
    integer = not dtype.is_float
    a, lda = "%a", "%lda"
    if dtype is not F32:
        a, lda = "%scratch", "%depth"
        e.do(f"call void @{_convert_rows(library, dtype)}(ptr %scratch, ptr %a, i64 %rows, i64 %depth, i64 %lda)")
    needed = extents_without_zeros(e, a, lda, block.columns, integer=integer)
    with e.loop(str(needed.depth), step=_DEPTH_BLOCK) as depth0:
        depth = e.minimum(e.subtract(needed.depth, depth0), _DEPTH_BLOCK)
        later = e.value(f"zext i1 {e.value(f'icmp sgt i64 {depth0}, 0')} to i64")
        accumulate = e.value(f"or i64 %accumulate, {later}")
        with e.loop("%columns", step=block.columns) as column:
            w = e.pointer("%w", e.multiply(element_of_weights(e, depth0, column), 4))
            valid = e.minimum(e.subtract("%columns", column), block.columns)
            first = e.variable("i64")
            e.store64(0, first)
            block_of_rows, next_column = e.fresh("block"), e.fresh("next")
            head = e.fresh("head")
            e.jump(head)
            e.label(head)
            row = e.load64(first)
            left = e.subtract("%rows", row)
            e.branch(e.value(f"icmp sgt i64 {left}, 0"), block_of_rows, next_column)
            e.label(block_of_rows)
            rows, kernel = _smallest_kernel(e, left, valid, block, integer=integer)
            c_row = e.pointer("%c", e.multiply(e.add(e.value(f"mul i64 {row}, %columns"), column), 4))
            a_row = e.pointer(a, e.multiply(e.add(e.value(f"mul i64 {row}, {lda}"), depth0), 4))
            steps = needed.steps(e, row, column, depth)
            e.do(
                f"call void {kernel}(ptr {c_row}, ptr {a_row}, ptr {w}, i64 {steps},"
                f" i64 {lda}, i64 %columns, i64 {rows}, i64 {valid}, i64 {accumulate})"
            )
            e.store64(e.add(row, rows), first)
            e.jump(head)
            e.label(next_column)
    e.do("ret void")
    return e.function(
        f"define void @mm_{dtype}(ptr noalias %c, ptr noalias %a, ptr noalias %w, ptr noalias %scratch, i64 %rows,"
        " i64 %columns, i64 %depth, i64 %lda, i64 %accumulate)"
    )


def _smallest_kernel(e: Emitter, left: Count, valid: Count, block: MicroKernel, *, integer: bool) -> tuple[Count, str]:
    """The rows that come next of those that are left, and the kernel that takes as many columns as are valid."""
    function = f"@{_kernel(e.library, block.rows, block.columns, integer=integer)}"
    if block.rows > _FEW_ROWS:
        few = e.value(f"icmp sle i64 {left}, {_FEW_ROWS}")
        smaller = f"@{_kernel(e.library, _FEW_ROWS, block.columns, integer=integer)}"
        function = e.value(f"select i1 {few}, ptr {smaller}, ptr {function}")
        # Half of the columns are half of the additions, and still enough of them at a time for few rows too.
        half = block.columns // 2
        narrow = e.value(f"icmp sle i64 {valid}, {half}")
        narrower = f"@{_kernel(e.library, block.rows, half, integer=integer)}"
        function = e.value(f"select i1 {narrow}, ptr {narrower}, ptr {function}")
    return e.minimum(left, block.rows), function


def _convert_rows(library: Library, dtype: DType) -> str:
    """``convert_rows_<dtype>(target, a, rows, depth, lda)``: rows of a as float32 and without gaps."""
    name = f"convert_rows_{dtype}"

    def define() -> str:
        e = Emitter(library)
        with e.loop("%rows") as row:
            source = e.pointer("%a", e.multiply(e.value(f"mul i64 {row}, %lda"), dtype.bytes))
            target = e.pointer("%target", e.multiply(e.value(f"mul i64 {row}, %depth"), 4))
            # Sixteen at a time, past the end of the row too: rows are written in order, and the images have slack.
            with e.loop("%depth", step=LANES) as k:
                value = load(e, e.pointer(source, e.multiply(k, dtype.bytes)), dtype, LANES)
                number = number_of(e, value)
                if not dtype.is_float:
                    number = e.value(f"sitofp <{LANES} x i{dtype.bits}> {number} to <{LANES} x float>")
                store(e, Lanes(F32, LANES, number=number), e.pointer(target, e.multiply(k, 4)))
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr noalias %target, ptr noalias %a, i64 %rows, i64 %depth, i64 %lda)"
            " noinline"
        )

    return library.require(name, define)


def _kernel(library: Library, rows: int, columns: int, *, integer: bool) -> str:
    """``kernel(c, a, w, depth, lda, columns of c, valid rows, valid columns, accumulate)``.

    A block of c, held in registers. What would be a row beyond the valid ones is the last of these once more, and ends
    as the same: the sums of few rows only wait for each other, so that more of them take no longer.
    """
    name = f"kernel_{rows}x{columns}_{'integer' if integer else 'float'}"

    def define() -> str:
        e = Emitter(library)
        vector, c_vector = f"<{columns} x float>", f"<{columns} x i32>"
        fma = intrinsic(library, "fma", "float", columns, 3)
        sums = [e.variable(vector) for _ in range(rows)]
        last = e.subtract("%rows", 1)
        numbers = [e.minimum(row, last) if row else 0 for row in range(rows)]
        c_rows = [e.pointer("%c", e.multiply(e.multiply(row, "%columns"), 4)) for row in numbers]
        a_rows = [e.pointer("%a", e.multiply(e.multiply(row, "%lda"), 4)) for row in numbers]
        accumulate = e.value("icmp ne i64 %accumulate, 0")
        if integer:
            for place in sums:
                e.do(f"store {vector} zeroinitializer, ptr {place}")
        else:
            for place, c in zip(sums, c_rows, strict=True):
                before = e.value(f"load {vector}, ptr {c}, align 4")
                chosen = e.value(f"select i1 {accumulate}, {vector} {before}, {vector} zeroinitializer")
                e.do(f"store {vector} {chosen}, ptr {place}")

        with e.loop("%depth") as k:
            w = e.value(f"load {vector}, ptr {e.pointer('%w', e.multiply(k, 4 * WRAM_STRIP_COLUMNS))}, align 4")
            for a_row, place in zip(a_rows, sums, strict=True):
                a = e.value(f"load float, ptr {e.pointer(a_row, e.multiply(k, 4))}, align 4")
                a = e.in_all_lanes("float", a, columns)
                before = e.value(f"load {vector}, ptr {place}")
                after = e.value(f"call {vector} @{fma}({vector} {a}, {vector} {w}, {vector} {before})")
                e.do(f"store {vector} {after}, ptr {place}")

        results = [e.value(f"load {vector}, ptr {place}") for place in sums]
        if integer:
            for row, c in enumerate(c_rows):
                number = e.value(f"fptosi {vector} {results[row]} to {c_vector}")
                before = e.value(f"load {c_vector}, ptr {c}, align 4")
                before = e.value(f"select i1 {accumulate}, {c_vector} {before}, {c_vector} zeroinitializer")
                results[row] = e.value(f"add {c_vector} {before}, {number}")
        _store_rows(e, results, c_rows, c_vector if integer else vector, columns)
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr noalias %c, ptr noalias %a, ptr noalias %w, i64 %depth,"
            " i64 %lda, i64 %columns, i64 %rows, i64 %valid, i64 %accumulate) noinline"
        )

    return library.require(name, define)


def _store_rows(e: Emitter, results: Sequence[str], rows: Sequence[str], vector: str, columns: int) -> None:
    """Store results to rows of c, as far as their columns are valid."""
    all_columns = e.value(f"icmp eq i64 %valid, {columns}")
    inside = lanes_below(e, "%valid", columns)
    whole_rows, part_rows, done = e.fresh("whole"), e.fresh("part"), e.fresh("done")
    e.branch(all_columns, whole_rows, part_rows)
    e.label(whole_rows)
    for result, c in zip(results, rows, strict=True):
        e.do(f"store {vector} {result}, ptr {c}, align 4")
    e.jump(done)
    e.label(part_rows)
    for result, c in zip(results, rows, strict=True):
        # The lanes past the last column are the next row's first elements: written back as they are.
        old = e.value(f"load {vector}, ptr {c}, align 4")
        new = e.value(f"select <{columns} x i1> {inside}, {vector} {result}, {vector} {old}")
        e.do(f"store {vector} {new}, ptr {c}, align 4")
    e.jump(done)
    e.label(done)
