"""Vector instructions that are not element-wise, as functions over pointers, one for each element type in use."""

from __future__ import annotations

from mlutriton.codegen.llvm.elements import (
    LANES,
    Lanes,
    kind,
    lanes_below,
    load,
    number_of,
    part_of,
    shuffled,
    store,
    store_first,
    transposed,
    transposed_back,
    wide,
)
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.faults import record_fault
from mlutriton.codegen.llvm.functions.combination import Combination
from mlutriton.dtypes import DType
from mlutriton.isa.native_interface import Fault

# Bytes of elements that vectors are made of.
_TRANSPOSED_WIDTHS = (1, 2, 4, 8)


def column_reduction(library: Library, operation: str, dtype: DType) -> str:
    """``f(dst, a, outer, n, inner)``: combine the lines of each [n, inner] in order."""
    name = f"mlu.columns.{operation}.{dtype}"

    def define() -> str:
        e = Emitter(library)
        combination = Combination(operation, dtype)
        vector = wide(kind(combination.held), LANES)
        result = e.variable(vector)
        line = e.value(f"mul i64 %inner, {dtype.bytes}")
        plane = e.value(f"mul i64 %n, {line}")
        whole = e.value(f"and i64 %inner, {-LANES}")
        with e.loop("%outer") as outer:

            def combine(inner: str) -> tuple[Lanes, str]:
                first = e.add(e.value(f"mul i64 {outer}, {plane}"), e.multiply(inner, dtype.bytes))
                source = e.pointer("%a", first)
                first_line = combination.begin(e, load(e, source, dtype, LANES))
                e.do(f"store {vector} {number_of(e, first_line)}, ptr {result}")
                with e.loop("%n", start=1) as k:
                    value = load(e, e.pointer(source, e.value(f"mul i64 {k}, {line}")), dtype, LANES)
                    before = combination.of(e.value(f"load {vector}, ptr {result}"))
                    after = combination.combine(e, before, combination.begin(e, value))
                    e.do(f"store {vector} {number_of(e, after)}, ptr {result}")
                place = e.add(e.value(f"mul i64 {outer}, {line}"), e.multiply(inner, dtype.bytes))
                combined = combination.of(e.value(f"load {vector}, ptr {result}"))
                return combination.end(e, combined), e.pointer("%dst", place)

            with e.loop(whole, step=LANES) as inner:
                store(e, *combine(inner))
            with e.when(e.value(f"icmp slt i64 {whole}, %inner")):
                _store_below(e, *combine(whole), whole, "%inner")
        e.do("ret void")
        return e.function(f"define internal void @{name}(ptr %dst, ptr %a, i64 %outer, i64 %n, i64 %inner) noinline")

    return library.require(name, define)


def _store_below(e: Emitter, value: Lanes, pointer: str, first: str, limit: str) -> None:
    """Store the lanes whose index, counted from ``first``, is below ``limit``."""
    store_first(e, value, pointer, lanes_below(e, e.value(f"sub i64 {limit}, {first}")))


def transpose_tile(width: int, rows: Count, columns: Count) -> tuple[int, int] | None:
    """The tile by which few rows or columns of elements of so many bytes are transposed in registers; None if by none.

    It has all of these, and as many elements on its other side as there are lanes; how many are there may be known only
    when it runs. Where there are more on both sides, the runtime does it.
    """
    if width not in _TRANSPOSED_WIDTHS:
        return None
    tile_rows, tile_columns = (LANES if isinstance(count, str) else min(count, LANES) for count in (rows, columns))
    few, many = sorted((tile_rows, tile_columns))
    return (tile_rows, tile_columns) if 1 < few < LANES == many and few.bit_count() == 1 else None


def transpose(library: Library, width: int, tile: tuple[int, int]) -> str:
    """``f(dst, a, batch, rows, columns)``: of elements of so many bytes, by tiles of few rows or few columns."""
    name = f"mlu.transpose.{width}.{tile[0]}x{tile[1]}"
    rows, columns = tile

    def define() -> str:
        e = Emitter(library)
        scalar = f"i{8 * width}"
        vector = wide(scalar, LANES)
        plane = e.multiply(e.multiply("%rows", "%columns"), width)
        # The elements of a tile of fewer columns than lanes are in a row, as are those of the transpose of few rows.
        lines = min(tile)
        apart = e.multiply("%columns", width) if columns == LANES else LANES * width
        apart_after = e.multiply("%rows", width) if rows == LANES else LANES * width
        many = "%columns" if columns == LANES else "%rows"
        whole = e.value(f"and i64 {many}, {-LANES}")

        def places(source: str, target: str, few: Count, many: Count) -> tuple[str, str]:
            row, column = (few, many) if columns == LANES else (many, few)
            first = e.pointer(source, e.multiply(e.add(e.multiply(row, "%columns"), column), width))
            return first, e.pointer(target, e.multiply(e.add(e.multiply(column, "%rows"), row), width))

        with e.loop("%batch") as batch:
            source, target = (e.pointer(each, e.multiply(batch, plane)) for each in ("%a", "%dst"))
            with e.loop(whole, step=LANES) as begin:
                first, to = places(source, target, 0, begin)
                loaded = [
                    e.value(f"load {vector}, ptr {e.pointer(first, e.multiply(apart, line))}, align 1")
                    for line in range(lines)
                ]
                turned = (transposed if columns == LANES else transposed_back)(e, loaded, scalar)
                for line, value in enumerate(turned):
                    e.do(f"store {vector} {value}, ptr {e.pointer(to, e.multiply(apart_after, line))}, align 1")
            with e.loop(many, start=whole) as left, e.loop(lines) as line:
                first, to = places(source, target, line, left)
                e.do(f"store {scalar} {e.value(f'load {scalar}, ptr {first}, align 1')}, ptr {to}, align 1")
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr noalias %dst, ptr noalias %a, i64 %batch, i64 %rows, i64 %columns)"
            " noinline"
        )

    return library.require(name, define)


def scan(library: Library, operation: str, dtype: DType) -> str:
    """``f(dst, a, outer, n, inner, reverse)``: running combination along n."""
    name = f"mlu.scan.{operation}.{dtype}"
    combination = Combination(operation, dtype)

    def define() -> str:
        e = Emitter(library)
        line = e.value(f"mul i64 %inner, {dtype.bytes}")
        plane = e.value(f"mul i64 %n, {line}")
        last = e.value("sub i64 %n, 1")
        backward = e.value("icmp ne i64 %reverse, 0")
        begin = e.value(f"select i1 {backward}, i64 {e.value(f'mul i64 {last}, {line}')}, i64 0")
        step = e.value(f"select i1 {backward}, i64 {e.value(f'sub i64 0, {line}')}, i64 {line}")
        # Of what is not rounded any order gives the same: then most of a row is combined sixteen at a time.
        whole = e.value(f"and i64 %n, {-LANES}")
        whole = "0" if combination.is_ordered else e.choose(e.value("icmp eq i64 %inner, 1"), whole, 0)
        single = e.value("icmp slt i64 %inner, 4")
        for lanes, condition in ((1, single), (LANES, e.value(f"xor i1 {single}, true"))):
            vector = wide(kind(combination.held), lanes)
            result = e.variable(vector)
            with e.when(condition), e.loop("%outer") as outer, e.loop("%inner", step=lanes) as inner:
                offset = e.add(e.value(f"mul i64 {outer}, {plane}"), e.multiply(inner, dtype.bytes))
                offset = e.add(offset, begin)
                source, target = e.pointer("%a", offset), e.pointer("%dst", offset)
                if lanes == 1 and not combination.is_ordered:
                    _scan_vectors(e, combination, source, target, whole, step, backward, result)
                with e.loop("%n", start=whole if lanes == 1 else 0) as k:
                    moved = e.value(f"mul i64 {k}, {step}")
                    value = combination.begin(e, load(e, e.pointer(source, moved), dtype, lanes))
                    before = combination.of(e.value(f"load {vector}, ptr {result}"), lanes)
                    combined = number_of(e, combination.combine(e, before, value))
                    is_first = e.value(f"icmp eq i64 {k}, 0")
                    number = e.value(f"select i1 {is_first}, {vector} {number_of(e, value)}, {vector} {combined}")
                    e.do(f"store {vector} {number}, ptr {result}")
                    after, to = combination.end(e, combination.of(number, lanes)), e.pointer(target, moved)
                    if lanes == 1:
                        store(e, after, to)
                    else:
                        _store_below(e, after, to, inner, "%inner")
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr %dst, ptr %a, i64 %outer, i64 %n, i64 %inner, i64 %reverse) noinline"
        )

    return library.require(name, define)


def _scan_vectors(
    e: Emitter,
    combination: Combination,
    source: str,
    target: str,
    whole: int | str,
    step: str,
    backward: str,
    last: str,
) -> None:
    """Write the running combination of the first elements of a row, of whole vectors.

    Args:
        e: where it is written.
        combination: in any order.
        source: address of the first element, which is the last one of the row if it goes backward.
        target: of the first result.
        whole: how many elements; a multiple of ``LANES``.
        step: bytes from each element to the next.
        backward: whether that is the one before it in memory.
        last: address at which the last result is left.
    """
    held, vector = kind(combination.held), wide(kind(combination.held), LANES)
    carried, flags = e.variable(vector), wide("i1", LANES)
    to_last_byte = e.choose(backward, (1 - LANES) * combination.dtype.bytes, 0)

    def turned(number: str) -> str:
        """In the order of the scan, or from there in that of memory."""
        mirror = shuffled(e, [number], held, LANES, range(LANES)[::-1])
        return e.value(f"select i1 {backward}, {vector} {mirror}, {vector} {number}")

    with e.loop(whole, step=LANES) as k:
        moved = e.add(e.value(f"mul i64 {k}, {step}"), to_last_byte)
        value = combination.begin(e, load(e, e.pointer(source, moved), combination.dtype, LANES))
        number, distance = turned(number_of(e, value)), 1
        while distance < LANES:
            nearer = shuffled(e, [number], held, LANES, [max(lane - distance, 0) for lane in range(LANES)])
            combined = number_of(e, combination.combine(e, combination.of(nearer), combination.of(number)))
            mask = ", ".join(f"i1 {str(lane >= distance).lower()}" for lane in range(LANES))
            number = e.value(f"select {flags} <{mask}>, {vector} {combined}, {vector} {number}")
            distance *= 2
        before = combination.of(e.value(f"load {vector}, ptr {carried}"))
        combined = number_of(e, combination.combine(e, before, combination.of(number)))
        number = e.value(f"select i1 {e.value(f'icmp eq i64 {k}, 0')}, {vector} {number}, {vector} {combined}")
        e.do(f"store {vector} {shuffled(e, [number], held, LANES, [LANES - 1] * LANES)}, ptr {carried}")
        store(e, combination.end(e, combination.of(turned(number))), e.pointer(target, moved))
    in_all = e.value(f"load {vector}, ptr {carried}")
    e.do(f"store {held} {part_of(e, in_all, held, LANES, 0, 1)}, ptr {last}")


def as_index(e: Emitter, pointer: str, dtype: DType) -> str:
    """A signed index or offset in memory as an ``i64``."""
    value = number_of(e, load(e, pointer, dtype, 1))
    return value if dtype.bits == 64 else e.value(f"sext {kind(dtype)} {value} to i64")


def local_gather(library: Library, dtype: DType, index_dtype: DType) -> str:
    """``f(context, dst, a, index, outer, n, inner, extent)``: the instruction ``v.gather``; -1 after a fault.

    Of single elements, as many indexes as lanes are compared with the extent at once.
    """
    name = f"mlu.local_gather.{dtype.bytes}.{index_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width, one_by_one = f"i{8 * dtype.bytes}", dtype.bytes, _gather_one_by_one(library, dtype, index_dtype)
        single, vector = kind(index_dtype), wide(kind(index_dtype), LANES)

        def rest(a: str, place: str, n: Count) -> str:
            pointers = (f"ptr {e.pointer('%dst', e.multiply(place, width))}", f"ptr {a}")
            index = f"ptr {e.pointer('%index', e.multiply(place, index_dtype.bytes))}"
            counts = f"i64 1, i64 {n}, i64 1, i64 %extent"
            return e.value(f"call i64 @{one_by_one}(ptr %context, {', '.join(pointers)}, {index}, {counts})")

        with e.when(e.value("icmp ne i64 %inner, 1")):
            counts = "i64 %outer, i64 %n, i64 %inner, i64 %extent"
            e.leave(f"i64 {e.value(f'call i64 @{one_by_one}(ptr %context, ptr %dst, ptr %a, ptr %index, {counts})')}")
        extent = "%extent" if index_dtype.bits == 64 else e.value(f"trunc i64 %extent to {single}")
        extents, whole = e.in_all_lanes(single, extent, LANES), e.value(f"and i64 %n, {-LANES}")
        with e.loop("%outer") as outer:
            row = e.value(f"mul i64 {outer}, %n")
            a = e.pointer("%a", e.multiply(e.value(f"mul i64 {outer}, %extent"), width))
            with e.loop(whole, step=LANES) as k:
                place = str(e.add(row, k))
                indexes = number_of(
                    e, load(e, e.pointer("%index", e.multiply(place, index_dtype.bytes)), index_dtype, LANES)
                )
                outside = e.value(f"icmp uge {vector} {indexes}, {extents}")
                any_outside = e.value(f"icmp ne i{LANES} {e.value(f'bitcast <{LANES} x i1> {outside} to i{LANES}')}, 0")
                with e.when(any_outside):
                    e.leave(f"i64 {rest(a, place, LANES)}")
                for lane in range(LANES):
                    index = e.value(f"extractelement {vector} {indexes}, i64 {lane}")
                    index = index if index_dtype.bits == 64 else e.value(f"zext {single} {index} to i64")
                    value = e.value(f"load {bits}, ptr {e.pointer(a, e.multiply(index, width))}, align 1")
                    target = e.pointer("%dst", e.multiply(e.add(place, lane), width))
                    e.do(f"store {bits} {value}, ptr {target}, align 1")
            failed = e.value(f"icmp ne i64 {rest(a, str(e.add(row, whole)), e.subtract('%n', whole))}, 0")
            with e.when(failed):
                e.leave("i64 -1")
        e.do("ret i64 0")
        return e.function(
            f"define internal i64 @{name}(ptr %context, ptr %dst, ptr %a, ptr %index, i64 %outer, i64 %n, i64 %inner,"
            " i64 %extent) noinline"
        )

    return library.require(name, define)


def _gather_one_by_one(library: Library, dtype: DType, index_dtype: DType) -> str:
    """The same, of any inner extent."""
    name = f"mlu.gather_one_by_one.{dtype.bytes}.{index_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        with e.loop("%outer") as outer, e.loop("%n") as k, e.loop("%inner") as inner:
            place = e.add(e.value(f"mul i64 {outer}, %n"), k)
            place = e.add(e.value(f"mul i64 {place}, %inner"), inner)
            index = as_index(e, e.pointer("%index", e.multiply(place, index_dtype.bytes)), index_dtype)
            with e.when(e.value(f"icmp uge i64 {index}, %extent")):
                record_fault(e, Fault.INDEX, index, "%extent")
                e.leave("i64 -1")
            line = e.add(e.value(f"mul i64 {outer}, %extent"), index)
            source = e.add(e.value(f"mul i64 {line}, %inner"), inner)
            value = e.value(f"load {bits}, ptr {e.pointer('%a', e.multiply(source, width))}, align 1")
            e.do(f"store {bits} {value}, ptr {e.pointer('%dst', e.multiply(place, width))}, align 1")
        e.do("ret i64 0")
        return e.function(
            f"define internal i64 @{name}(ptr %context, ptr %dst, ptr %a, ptr %index, i64 %outer, i64 %n, i64 %inner,"
            " i64 %extent) noinline"
        )

    return library.require(name, define)


def look_up(library: Library, dtype: DType, index_dtype: DType) -> str:
    """``f(context, dst, a, index, src, mask, its stride, fill, its stride, n, extent, elements)``: ``v.lookup``.

    -1 after a fault.
    """
    name = f"mlu.look_up.{dtype.bytes}.{index_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        with e.loop("%n") as k:
            flag = e.value(f"load i8, ptr {e.pointer('%mask', e.value(f'mul i64 {k}, %mask_stride'))}, align 1")
            is_set = e.value(f"icmp ne i8 {flag}, 0")
            index = as_index(e, e.pointer("%index", e.multiply(k, index_dtype.bytes)), index_dtype)
            outside = e.value(f"icmp uge i64 {index}, %extent")
            outside = e.value(f"or i1 {outside}, {e.value(f'icmp sge i64 {index}, %elements')}")
            with e.when(e.value(f"and i1 {is_set}, {outside}")):
                record_fault(e, Fault.OUTSIDE, e.add("%src", e.multiply(index, width)), width)
                e.leave("i64 -1")
            fill = e.pointer("%fill", e.value(f"mul i64 {k}, %fill_stride"))
            source = e.value(f"select i1 {is_set}, ptr {e.pointer('%a', e.multiply(index, width))}, ptr {fill}")
            value = e.value(f"load {bits}, ptr {source}, align 1")
            e.do(f"store {bits} {value}, ptr {e.pointer('%dst', e.multiply(k, width))}, align 1")
        e.do("ret i64 0")
        return e.function(
            f"define internal i64 @{name}(ptr %context, ptr %dst, ptr %a, ptr %index, i64 %src, ptr %mask,"
            " i64 %mask_stride, ptr %fill, i64 %fill_stride, i64 %n, i64 %extent,"
            " i64 %elements) noinline"
        )

    return library.require(name, define)


def collect(library: Library, dtype: DType) -> str:
    """``f(dst, a, mask, mask_stride, n)``: the elements where the mask is set, one behind the other, then zeros."""
    name = f"mlu.collect.{dtype}"
    bits = f"i{8 * dtype.bytes}"

    def define() -> str:
        e = Emitter(library)
        count = e.variable("i64")
        e.store64(0, count)

        def put(value: str) -> None:
            place = e.load64(count)
            e.do(f"store {bits} {value}, ptr {e.pointer('%dst', e.multiply(place, dtype.bytes))}, align 1")
            e.store64(e.value(f"add i64 {place}, 1"), count)

        with e.loop("%n") as k:
            flag = e.value(f"load i8, ptr {e.pointer('%mask', e.value(f'mul i64 {k}, %mask_stride'))}, align 1")
            with e.when(e.value(f"icmp ne i8 {flag}, 0")):
                put(e.value(f"load {bits}, ptr {e.pointer('%a', e.multiply(k, dtype.bytes))}, align 1"))
        with e.loop(e.subtract("%n", e.load64(count))):
            put("0")
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr %dst, ptr %a, ptr %mask, i64 %mask_stride, i64 %n) noinline"
        )

    return library.require(name, define)


def histogram(library: Library, dtype: DType) -> str:
    """``f(dst, a, mask, mask_stride, n, bins)``: count the values of each bin where the mask is set."""
    name = f"mlu.histogram.{dtype}"

    def define() -> str:
        e = Emitter(library)
        with e.loop("%bins") as index:
            e.do(f"store i32 0, ptr {e.pointer('%dst', e.multiply(index, 4))}, align 1")
        with e.loop("%n") as k:
            flag = e.value(f"load i8, ptr {e.pointer('%mask', e.value(f'mul i64 {k}, %mask_stride'))}, align 1")
            value = as_index(e, e.pointer("%a", e.multiply(k, dtype.bytes)), dtype)
            counts = e.value(f"and i1 {e.value(f'icmp ne i8 {flag}, 0')}, {e.value(f'icmp ult i64 {value}, %bins')}")
            with e.when(counts):
                place = e.pointer("%dst", e.multiply(value, 4))
                after = e.value(f"add i32 {e.value(f'load i32, ptr {place}, align 1')}, 1")
                e.do(f"store i32 {after}, ptr {place}, align 1")
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr %dst, ptr %a, ptr %mask, i64 %mask_stride, i64 %n, i64 %bins) noinline"
        )

    return library.require(name, define)
