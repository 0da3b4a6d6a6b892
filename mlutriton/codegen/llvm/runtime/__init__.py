"""The runtime: what native programs call that does not depend on the program; compiled once for a host, in parts.

All functions take plain pointers and 64-bit integers. Strides and extents are in bytes unless a name says elements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mlutriton.codegen.llvm.common_weights import common_weights, forget_weights
from mlutriton.codegen.llvm.elements import LANES, transposed_square
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.faults import record_fault
from mlutriton.codegen.llvm.loans import (
    lend,
    lends,
    overwrite,
    settle,
    settle_changing,
    settle_from,
    source,
    source_rows,
)
from mlutriton.codegen.llvm.runtime.boxes import box, load_pad, move, stream
from mlutriton.codegen.llvm.runtime.contexts import prepare_again, sum_up
from mlutriton.codegen.llvm.runtime.joining import concatenate, repeats
from mlutriton.codegen.llvm.runtime.matrix import matrix_product
from mlutriton.codegen.llvm.runtime.records import printed, record, transfer
from mlutriton.codegen.llvm.runtime.tasks import begin, run, serve, wait
from mlutriton.codegen.llvm.runtime.weights import weight
from mlutriton.isa.native_interface import (
    ALLOCATION_WORDS,
    BASIC_FUNCTIONS,
    BASIC_TABLE,
    BEGIN,
    CONCATENATE,
    FULL,
    HOST_FUNCTIONS,
    PREPARE_AGAIN,
    REPEATS,
    RUN,
    RUN_TOGETHER,
    SERVE,
    SPECIAL_FUNCTIONS,
    SUM_UP,
    WAIT,
    Allocation,
    Context,
    Fault,
)
from mlutriton.isa.table import TENSOR_TYPES, admitted

# The first size of a buffer that grows; it doubles from there.
_FIRST_BYTES = 1 << 16
_SMALL_WIDTHS = (1, 2, 4, 8)
# Rows of a matrix lie in pages of their own, where a host does not guess which bytes will be read next.
_SEGMENTS_AHEAD = 4


def basic_module() -> str:
    """The LLVM text of the module that every program needs: ``BASIC_FUNCTIONS`` and what runs programs."""
    library = Library()
    for name, first in (("grow_trace", Context.TRACE), ("grow_prints", Context.PRINTS)):
        library.require(name, partial(_grow, library, name, first))
    for name, define in (
        ("transfer", transfer),
        ("box", box),
        ("pad", _pad),
        ("lend", lend),
        ("lends", lends),
        ("settle_from", settle_from),
        ("stream", stream),
    ):
        library.require(name, partial(define, library))
    functions = {
        "record": record(library),
        "print": printed(library),
        "check": _check(library),
        "copy": _copy(library),
        "fill": _fill(library),
        "load": move(library, "load"),
        "load_pad": load_pad(library),
        "store": move(library, "store"),
        "settle": settle(library),
        "settle_changing": settle_changing(library),
        "source": source(library),
        "source_rows": source_rows(library),
        "overwrite": overwrite(library),
        "common_weights": common_weights(library),
        "forget_weights": forget_weights(library),
        CONCATENATE: concatenate(library),
        REPEATS: repeats(library),
        PREPARE_AGAIN: prepare_again(library),
        SUM_UP: sum_up(library),
        RUN: run(library, together=False),
        RUN_TOGETHER: run(library, together=True),
        SERVE: serve(library),
        BEGIN: begin(library),
        WAIT: wait(library),
    }
    names = (*BASIC_FUNCTIONS, *HOST_FUNCTIONS)
    assert functions.keys() == set(names)
    table = f"@{BASIC_TABLE} = constant [{len(names)} x ptr] [{', '.join(f'ptr @{name}' for name in names)}]"
    return "\n".join([library.text(), *functions.values(), table, "!0 = !{i32 1}", ""])


def special_module(name: str) -> str:
    """The LLVM text of the module that exports one of ``SPECIAL_FUNCTIONS``, for this host."""
    library = Library()
    function = _SPECIAL[name](library)
    return "\n".join([library.text(), function, ""])


def _grow(library: Library, name: str, first: int) -> str:
    """``name(context)``: give a buffer twice the bytes; ``first`` is its begin, followed by next and end.

    A buffer that may not or cannot grow is written anew from its begin, and ``LIMIT`` tells all threads to stop.
    """
    e = Emitter(library)
    library.declare("realloc", "ptr {}(ptr, i64)")
    begin_place, next_place, end_place = (e.pointer("%context", 8 * (first + i)) for i in range(3))
    begin, following, end = e.load64(begin_place), e.load64(next_place), e.load64(end_place)
    used = e.value(f"sub i64 {following}, {begin}")
    size = e.value(f"shl i64 {e.value(f'sub i64 {end}, {begin}')}, 1")
    size = str(e.maximum(size, _FIRST_BYTES))
    larger, full = e.fresh("larger"), e.fresh("full")
    allowed = e.load64(e.word(Context.RECORDED_BYTES))
    e.branch(e.value(f"icmp sle i64 {size}, {allowed}"), larger, full)
    e.label(full)
    e.store64(begin, next_place)
    limit = e.value(f"inttoptr i64 {e.load64(e.word(Context.LIMIT))} to ptr")
    e.do(f"atomicrmw min ptr {limit}, i64 {FULL} monotonic")
    e.do("ret void")
    e.label(larger)
    grown = e.value(f"call ptr @realloc(ptr {e.value(f'inttoptr i64 {begin} to ptr')}, i64 {size})")
    start = e.value(f"ptrtoint ptr {grown} to i64")
    moved = e.fresh("moved")
    e.branch(e.value(f"icmp eq i64 {start}, 0"), full, moved)
    e.label(moved)
    e.store64(start, begin_place)
    e.store64(e.value(f"add i64 {start}, {used}"), next_place)
    e.store64(e.value(f"add i64 {start}, {size}"), end_place)
    e.do("ret void")
    return e.function(f"define internal void @{name}(ptr %context) noinline")


def _check(library: Library) -> str:
    """``check(context, start, bytes, write)``: the device address of host bytes, or -1 and a fault.

    ``write`` is what ``WRITABLE`` must be at least: 0 for loads, ``STORED`` for stores.
    The allocation hit last is tried first, then the greatest one that does not begin after ``start``.
    """
    e = Emitter(library)
    word = {w: e.word(w) for w in (Context.HIT_START, Context.HIT_END, Context.HIT_WRITABLE, Context.HIT_DEVICE)}
    stop = e.value("add i64 %start, %bytes")
    for attempt in range(2):
        hit_start, hit_end = e.load64(word[Context.HIT_START]), e.load64(word[Context.HIT_END])
        writable, device = e.load64(word[Context.HIT_WRITABLE]), e.load64(word[Context.HIT_DEVICE])
        inside = e.value(f"icmp uge i64 %start, {hit_start}")
        inside = e.value(f"and i1 {inside}, {e.value(f'icmp ule i64 {stop}, {hit_end}')}")
        inside = e.value(f"and i1 {inside}, {e.value(f'icmp uge i64 {stop}, %start')}")
        allowed = e.value(f"icmp uge i64 {writable}, %write")
        allowed = e.value(f"and i1 {allowed}, {inside}")
        with e.when(allowed):
            offset = e.value(f"sub i64 %start, {hit_start}")
            e.leave(f"i64 {e.value(f'add i64 {offset}, {device}')}")
        if attempt == 1:
            with e.when(inside):
                record_fault(e, Fault.READ_ONLY, "%start", "%bytes")
                e.leave("i64 -1")
            record_fault(e, Fault.OUTSIDE, "%start", "%bytes")
            e.do("ret i64 -1")
            break
        table = e.value(f"inttoptr i64 {e.load64(e.word(Context.ALLOCATIONS))} to ptr")
        # Halving: the entry looked for is among those from low up to, not including, high.
        low, high = e.variable("i64"), e.variable("i64")
        e.store64(0, low)
        e.store64(e.load64(e.word(Context.ALLOCATION_COUNT)), high)
        head, body, done = e.fresh("head"), e.fresh("body"), e.fresh("done")
        e.jump(head)
        e.label(head)
        a, b = e.load64(low), e.load64(high)
        more = e.value(f"icmp sgt i64 {e.value(f'sub i64 {b}, {a}')}, 1")
        e.branch(more, body, done)
        e.label(body)
        middle = e.value(f"ashr i64 {e.value(f'add i64 {a}, {b}')}, 1")
        entry = e.pointer(table, e.multiply(middle, 8 * ALLOCATION_WORDS))
        below = e.value(f"icmp ule i64 {e.load64(entry)}, %start")
        e.store64(e.value(f"select i1 {below}, i64 {middle}, i64 {a}"), low)
        e.store64(e.value(f"select i1 {below}, i64 {b}, i64 {middle}"), high)
        e.jump(head)
        e.label(done)
        entry = e.pointer(table, e.multiply(a, 8 * ALLOCATION_WORDS))
        for field, place in zip(Allocation, word.values(), strict=True):
            e.store64(e.load64(e.pointer(entry, 8 * field)), place)
    return e.function("define i64 @check(ptr %context, i64 %start, i64 %bytes, i64 %write)")


def _switch_width(e: Emitter, value: str, widths: tuple[int, ...]) -> tuple[dict[int, str], str]:
    """Branch by a number of bytes; returns the labels by width and that of any other."""
    labels, other = {width: e.fresh("width") for width in widths}, e.fresh("other")
    cases = " ".join(f"i64 {width}, label %{label}" for width, label in labels.items())
    e.do(f"switch i64 {value}, label %{other} [ {cases} ]")
    return labels, other


def _copy(library: Library) -> str:
    """``copy(target, source, n0 in bytes, n1, n2, target1, target2, source1, source2)``: n2 x n1 segments."""
    e = Emitter(library)
    dense = e.value(f"and i1 {e.value('icmp eq i64 %target1, %n0')}, {e.value('icmp eq i64 %source1, %n0')}")
    one = e.value("icmp eq i64 %n1, 1")
    flat = e.value(f"or i1 {dense}, {one}")
    whole = e.value("mul i64 %n0, %n1")
    with e.when(flat), e.loop("%n2") as plane:
        e.copy(e.moved("%target", plane, "%target2"), e.moved("%source", plane, "%source2"), whole)
    with e.when(e.value(f"xor i1 {flat}, true")), e.loop("%n2") as plane:
        target, source = e.moved("%target", plane, "%target2"), e.moved("%source", plane, "%source2")
        labels, other = _switch_width(e, "%n0", (*_SMALL_WIDTHS, 16, 32, 64))
        done = e.fresh("done")
        for width, label in [*labels.items(), (None, other)]:
            e.label(label)
            with e.loop("%n1") as segment:
                to, origin = e.moved(target, segment, "%target1"), e.moved(source, segment, "%source1")
                if width is None:
                    e.prefetch(e.moved(origin, _SEGMENTS_AHEAD, "%source1"), "%n0")
                e.copy(to, origin, width or "%n0")
            e.jump(done)
        e.label(done)
    e.do("ret void")
    return e.function(
        "define void @copy(ptr noalias %target, ptr noalias %source, i64 %n0, i64 %n1, i64 %n2,"
        " i64 %target1, i64 %target2, i64 %source1, i64 %source2)"
    )


def _fill(library: Library) -> str:
    """``fill(target, bits, width, elements)``: the same element over and over."""
    e = Emitter(library)
    labels, other = _switch_width(e, "%width", _SMALL_WIDTHS)
    for width, label in labels.items():
        e.label(label)
        scalar, vector = f"i{8 * width}", f"<{LANES} x i{8 * width}>"
        bits = "%bits" if width == 8 else e.value(f"trunc i64 %bits to {scalar}")
        all_lanes = e.in_all_lanes(scalar, bits, LANES)
        whole = e.value(f"and i64 %elements, {-LANES}")
        with e.loop(whole, step=LANES) as index:
            e.do(f"store {vector} {all_lanes}, ptr {e.pointer('%target', e.multiply(index, width))}, align 1")
        with e.loop("%elements", start=whole) as index:
            e.do(f"store {scalar} {bits}, ptr {e.pointer('%target', e.multiply(index, width))}, align 1")
        e.do("ret void")
    e.label(other)
    e.do("unreachable")
    return e.function("define void @fill(ptr %target, i64 %bits, i64 %width, i64 %elements)")


def _pad(library: Library) -> str:
    """``pad(target, bits, width, n0, n1, n2, before0 to before2, valid0 to valid2)``: fill a box around a valid one.

    Extents are in elements; rows follow each other without gaps. The valid box is left as it is.
    """
    e = Emitter(library)

    def fill(first: Count, count: Count) -> None:
        with e.when(e.value(f"icmp sgt i64 {count}, 0")):
            place = e.pointer("%target", e.multiply(first, "%width"))
            e.do(f"call void @fill(ptr {place}, i64 %bits, i64 %width, i64 {count})")

    ends = [e.add(f"%before{axis}", f"%valid{axis}") for axis in range(3)]
    plane_size = e.multiply("%n0", "%n1")
    with e.loop("%n2") as plane:
        first = e.multiply(plane, plane_size)
        inside, outside, done = e.fresh("inside"), e.fresh("outside"), e.fresh("done")
        # Unsigned: planes before the valid ones are far behind them.
        offset = e.subtract(plane, "%before2")
        e.branch(e.value(f"icmp ult i64 {offset}, %valid2"), inside, outside)
        e.label(outside)
        fill(first, plane_size)
        e.jump(done)
        e.label(inside)
        fill(first, e.multiply("%before1", "%n0"))
        with e.loop(str(ends[1]), start="%before1") as row:
            start = e.add(first, e.multiply(row, "%n0"))
            fill(start, "%before0")
            fill(e.add(start, ends[0]), e.subtract("%n0", ends[0]))
        fill(e.add(first, e.multiply(ends[1], "%n0")), e.multiply(e.subtract("%n1", ends[1]), "%n0"))
        e.jump(done)
        e.label(done)
    e.do("ret void")
    extents = ", ".join(f"i64 %{name}{axis}" for name in ("n", "before", "valid") for axis in range(3))
    return e.function(f"define internal void @pad(ptr %target, i64 %bits, i64 %width, {extents})")


_TRANSPOSE_BLOCK = 16


def _transpose(library: Library) -> str:
    """``transpose(target, source, batch, rows, columns, inner in bytes)``: blocks change places, in square tiles."""
    e = Emitter(library)
    plane = e.value(f"mul i64 {e.value('mul i64 %rows, %columns')}, %inner")
    with e.loop("%batch") as batch:
        target, source = e.moved("%target", batch, plane), e.moved("%source", batch, plane)
        row_bytes, column_bytes = e.value("mul i64 %columns, %inner"), e.value("mul i64 %rows, %inner")
        labels, other = _switch_width(e, "%inner", _SMALL_WIDTHS)
        done = e.fresh("done")
        for width, label in [*labels.items(), (None, other)]:
            e.label(label)
            with (
                e.loop("%rows", step=_TRANSPOSE_BLOCK) as row0,
                e.loop("%columns", step=_TRANSPOSE_BLOCK) as column0,
            ):
                last_row = e.minimum(e.add(row0, _TRANSPOSE_BLOCK), "%rows")
                last_column = e.minimum(e.add(column0, _TRANSPOSE_BLOCK), "%columns")
                if width is not None:
                    rows, columns = e.subtract(last_row, row0), e.subtract(last_column, column0)
                    is_whole = e.value(f"icmp eq i64 {e.add(rows, columns)}, {2 * _TRANSPOSE_BLOCK}")
                    with e.when(is_whole):
                        origin = e.pointer(e.moved(source, row0, row_bytes), e.multiply(column0, width))
                        to = e.pointer(e.moved(target, column0, column_bytes), e.multiply(row0, width))
                        strides = f"i64 {column_bytes}, i64 {row_bytes}"
                        e.do(f"call void @{_block_transpose(e.library, width)}(ptr {to}, ptr {origin}, {strides})")
                    last_row = e.choose(is_whole, row0, last_row)
                with e.loop(last_column, start=column0) as column, e.loop(last_row, start=row0) as row:
                    origin = e.pointer(e.moved(source, row, row_bytes), e.multiply(column, width or "%inner"))
                    to = e.pointer(e.moved(target, column, column_bytes), e.multiply(row, width or "%inner"))
                    e.copy(to, origin, width or "%inner")
            e.jump(done)
        e.label(done)
    e.do("ret void")
    return e.function(
        "define void @transpose(ptr noalias %target, ptr noalias %source, i64 %batch, i64 %rows, i64 %columns,"
        " i64 %inner)"
    )


def _block_transpose(library: Library, width: int) -> str:
    """``transpose_<width>(target, source, strides in bytes)``: a whole block of elements of so many bytes, in squares.

    Vectors of the longest registers that hosts have hold a row of a square.
    """
    name, scalar = f"transpose_{width}", f"i{8 * width}"
    side = min(_TRANSPOSE_BLOCK, 64 // width)

    def define() -> str:
        e = Emitter(library)
        for row0 in range(0, _TRANSPOSE_BLOCK, side):
            for column0 in range(0, _TRANSPOSE_BLOCK, side):
                origin = e.pointer(e.moved("%source", row0, "%source_stride"), column0 * width)
                to = e.pointer(e.moved("%target", column0, "%target_stride"), row0 * width)
                places = [e.moved(origin, row, "%source_stride") for row in range(side)]
                rows = [e.value(f"load <{side} x {scalar}>, ptr {place}, align 1") for place in places]
                for column, values in enumerate(transposed_square(e, rows, scalar, 8 * width)):
                    place = e.moved(to, column, "%target_stride")
                    e.do(f"store <{side} x {scalar}> {values}, ptr {place}, align 1")
        e.do("ret void")
        strides = "i64 %target_stride, i64 %source_stride"
        return e.function(f"define internal void @{name}(ptr noalias %target, ptr noalias %source, {strides}) noinline")

    return library.require(name, define)


_SPECIAL: dict[str, Callable[[Library], str]] = {
    "transpose": _transpose,
    **{f"weight_{dtype}": partial(weight, dtype=dtype) for dtype in admitted(TENSOR_TYPES)},
    **{f"mm_{dtype}": partial(matrix_product, dtype=dtype) for dtype in admitted(TENSOR_TYPES)},
}
assert _SPECIAL.keys() == {*SPECIAL_FUNCTIONS}
