"""Gathers, scatters and atomics: functions that go through GDRAM item by item, each address checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import reduce

from mlutriton.codegen.llvm.elements import LANES, Lanes, apply, bits_of, intrinsic, lanes_below, load, store
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.functions.collectives import as_index
from mlutriton.dtypes import DType
from mlutriton.isa.native_interface import (
    ALLOCATION_WORDS,
    RUNTIME_FUNCTIONS,
    STORED,
    TOUCHED_UNIT_BYTES,
    Allocation,
    Context,
    Fault,
)
from mlutriton.isa.table import TABLE, Row
from mlutriton.isa.trace_format import LOCAL_START


def access(library: Library) -> str:
    """``f(context, address, bytes, write)``: the device address, or -1 after a fault; quick near the last access."""

    def define() -> str:
        e = Emitter(library)
        start, end, writable, device = (
            e.load64(e.word(word))
            for word in (Context.HIT_START, Context.HIT_END, Context.HIT_WRITABLE, Context.HIT_DEVICE)
        )
        stop = e.value("add i64 %address, %bytes")
        hit = e.value(f"icmp uge i64 %address, {start}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp ule i64 {stop}, {end}')}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp uge i64 {stop}, %address')}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp uge i64 {writable}, %write')}")
        with e.when(hit):
            e.leave(f"i64 {e.add(e.value(f'sub i64 %address, {start}'), device)}")
        runtime = e.value(f"load ptr, ptr {e.word(Context.RUNTIME)}, align 8")
        entry = e.pointer(runtime, 8 * RUNTIME_FUNCTIONS.index("check"))
        check = e.value(f"load ptr, ptr {entry}, align 8")
        e.do(f"ret i64 {e.value(f'call i64 {check}(ptr %context, i64 %address, i64 %bytes, i64 %write)')}")
        return e.function("define internal i64 @access(ptr %context, i64 %address, i64 %bytes, i64 %write)")

    return library.require("access", define)


def reach(library: Library) -> str:
    """``f(context, address, stored)``: the bytes from a host address on in its allocation; 0 if it has none.

    Also 0 if ``stored`` is 1 and it may not be stored to.
    """

    def define() -> str:
        e = Emitter(library)
        table = e.value(f"inttoptr i64 {e.load64(e.word(Context.ALLOCATIONS))} to ptr")
        found = e.variable("i64")
        e.store64(0, found)
        with e.loop(e.load64(e.word(Context.ALLOCATION_COUNT))) as number:
            entry = e.pointer(table, e.multiply(number, 8 * ALLOCATION_WORDS))
            words = (Allocation.START, Allocation.END, Allocation.WRITABLE)
            start, end, writable = (e.load64(e.pointer(entry, 8 * word)) for word in words)
            inside = e.value(f"icmp uge i64 %address, {start}")
            inside = e.value(f"and i1 {inside}, {e.value(f'icmp ult i64 %address, {end}')}")
            inside = e.value(f"and i1 {inside}, {e.value(f'icmp uge i64 {writable}, %stored')}")
            with e.when(inside):
                e.store64(e.subtract(end, "%address"), found)
        e.do(f"ret i64 {e.load64(found)}")
        return e.function("define internal i64 @reach(ptr %context, i64 %address, i64 %stored)")

    return library.require("reach", define)


def _checked(e: Emitter, address: str, size_bytes: Count, *touched: int) -> str:
    """The pointer to an item of GDRAM, marked as touched unless local; returns -1 from the function after a fault."""
    write = STORED if Context.TOUCHED_STORED in touched else 0
    device = e.value(f"call i64 @{access(e.library)}(ptr %context, i64 {address}, i64 {size_bytes}, i64 {write})")
    with e.when(e.value(f"icmp eq i64 {device}, -1")):
        e.leave("i64 -1")
    with e.when(e.value(f"icmp ult i64 {device}, {LOCAL_START}")):
        for marks in touched:
            _mark(e, marks, device, size_bytes)
    return e.value(f"inttoptr i64 {address} to ptr")


def _mark(e: Emitter, marks: int, device: str, size_bytes: Count) -> None:
    """Set the bytes of the units that an item touches. Threads may do so at once: all set the same.

    Most are set already, and reading that costs less: hosts complete stores one after another.
    """
    shift = TOUCHED_UNIT_BYTES.bit_length() - 1
    table = e.value(f"inttoptr i64 {e.load64(e.word(marks))} to ptr")
    ends = [device] if size_bytes == 1 else [device, e.value(f"sub i64 {e.add(device, size_bytes)}, 1")]
    units = [e.value(f"lshr i64 {address}, {shift}") for address in ends]
    if isinstance(size_bytes, int) and size_bytes <= TOUCHED_UNIT_BYTES:
        places = [e.pointer(table, unit) for unit in units]
        marked = [e.value(f"load i8, ptr {place}, align 1") for place in places]
        with e.when(e.value(f"icmp eq i8 {reduce(lambda a, b: e.value(f'and i8 {a}, {b}'), marked)}, 0")):
            for place in places:
                e.do(f"store i8 1, ptr {place}, align 1")
        return
    count = e.add(e.subtract(units[1], units[0]), 1)
    e.library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
    e.do(f"call void @llvm.memset.p0.i64(ptr {e.pointer(table, units[0])}, i8 1, i64 {count}, i1 false)")


def _is_set(e: Emitter, k: str) -> str:
    flag = e.value(f"load i8, ptr {e.pointer('%mask', e.value(f'mul i64 {k}, %mask_stride'))}, align 1")
    return e.value(f"icmp ne i8 {flag}, 0")


def _address(e: Emitter, k: str, offset_dtype: DType) -> str:
    offset = as_index(e, e.pointer("%offsets", e.multiply(k, offset_dtype.bytes)), offset_dtype)
    return e.value(f"add i64 %base, {e.value(f'mul i64 {offset}, %scale')}")


_ITEMS = "ptr %context, ptr %local, i64 %base, ptr %offsets, i64 %scale, ptr %mask, i64 %mask_stride, i64 %n"


_RUNS = f"{_ITEMS}, i64 %length, i64 %valid"


def gather(library: Library, dtype: DType, offset_dtype: DType, by_element: bool) -> str:
    """``f(context, dst, base, offsets, scale, mask, mask_stride, n, length, valid, fill, fill_stride)``.

    Returns -1 after a fault. ``by_element`` is for items of one element.
    """
    name = f"mlu.gather{'' if by_element else '_runs'}.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        length, valid = (1, 1) if by_element else ("%length", "%valid")
        line, size = e.multiply(length, width), e.multiply(valid, width)
        fill = _step(e, "%fill", "%fill_stride")

        def move(k: str, least: str | None) -> None:
            address, target = _address(e, k, offset_dtype), e.pointer("%local", e.multiply(k, width))
            if least is None:
                e.copy(target, e.value(f"inttoptr i64 {address} to ptr"), width)
                return
            wanted = _is_set(e, k)
            # Loaded whether wanted or not: no branch to be guessed wrong.
            address = e.value(f"select i1 {wanted}, i64 {address}, i64 {least}")
            source = e.value(f"inttoptr i64 {address} to ptr")
            loaded = e.value(f"load {bits}, ptr {source}, align 1")
            rest = e.value(f"load {bits}, ptr {fill(k)}, align 1")
            chosen = e.value(f"select i1 {wanted}, {bits} {loaded}, {bits} {rest}")
            e.do(f"store {bits} {chosen}, ptr {target}, align 1")

        if by_element:
            _move_in_one_region(e, width, offset_dtype, (Context.TOUCHED_LOADED,), move)
        count = e.variable("i64")
        with e.loop("%n") as k:
            target = e.pointer("%local", e.multiply(k, line))
            e.store64(0, count)
            with e.when(_is_wanted(e, k, valid)):
                e.copy(target, _checked(e, _address(e, k, offset_dtype), size, Context.TOUCHED_LOADED), size)
                e.store64(valid, count)
            rest = e.value(f"load {bits}, ptr {fill(k)}, align 1")
            with e.loop(length, start=e.load64(count)) as j:
                e.do(f"store {bits} {rest}, ptr {e.pointer(target, e.multiply(j, width))}, align 1")
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_RUNS}, ptr %fill, i64 %fill_stride) noinline")

    return library.require(name, define)


def scatter(library: Library, dtype: DType, offset_dtype: DType, by_element: bool) -> str:
    """``f(context, src, base, offsets, scale, mask, mask_stride, n, length, valid)``: -1 after a fault.

    ``by_element`` is for items of one element.
    """
    name = f"mlu.scatter{'' if by_element else '_runs'}.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        length, valid = (1, 1) if by_element else ("%length", "%valid")
        line, size = e.multiply(length, dtype.bytes), e.multiply(valid, dtype.bytes)

        def move(k: str, least: str | None) -> None:
            with nullcontext() if least is None else e.when(_is_set(e, k)):
                target = e.value(f"inttoptr i64 {_address(e, k, offset_dtype)} to ptr")
                e.copy(target, e.pointer("%local", e.multiply(k, line)), size)

        if by_element:
            _move_in_one_region(e, dtype.bytes, offset_dtype, (Context.TOUCHED_STORED,), move)
        with e.loop("%n") as k, e.when(_is_wanted(e, k, valid)):
            target = _checked(e, _address(e, k, offset_dtype), size, Context.TOUCHED_STORED)
            e.copy(target, e.pointer("%local", e.multiply(k, line)), size)
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_RUNS}) noinline")

    return library.require(name, define)


def _step(e: Emitter, base: str, stride: str) -> Callable[[str], str]:
    """The address of an operand for each item."""
    return lambda k: e.pointer(base, e.value(f"mul i64 {k}, {stride}"))


# Offsets and scales within these bounds cannot make an address wrap around.
_FARTHEST_OFFSET = 1 << 40
_LARGEST_SCALE = 1 << 16
# Their lines, be they apart from each other, fill half of a small first-level cache.
_ITEMS_AHEAD = 256


# So many at a time need no count for each.
_UNROLLED_ITEMS = 4


def _move_in_one_region(
    e: Emitter, width: int, offset_dtype: DType, touched: Sequence[int], move: Callable[[str, str | None], None]
) -> None:
    """Write what is done if all elements that the mask chooses lie in one region; none is checked by itself then.

    After it the function returns 0. What comes after it, a check of each element, finds what a fault is.

    Args:
        e: where to write.
        width: bytes of an element.
        offset_dtype: of the offsets.
        touched: what it marks elements in.
        move: writes how the element of a number is moved, which is marked already and on its way into the cache; it is
            given the address of the lowest one of all, or None if the mask is known to choose it.
    """
    low, high, chooses_all = _extremes(e, offset_dtype)
    plain: str | bool = True
    for condition in (
        f"icmp sle i64 {low}, {high}",
        f"icmp sgt i64 {low}, {-_FARTHEST_OFFSET}",
        f"icmp slt i64 {high}, {_FARTHEST_OFFSET}",
        f"icmp ult i64 %scale, {_LARGEST_SCALE}",
    ):
        plain = e.both(plain, e.value(condition))
    with e.when(str(plain)):
        first, last = (e.value(f"add i64 %base, {e.value(f'mul i64 {offset}, %scale')}") for offset in (low, high))
        size = e.add(e.value(f"sub i64 {last}, {first}"), width)
        write = STORED if Context.TOUCHED_STORED in touched else 0
        device = e.value(f"call i64 @{access(e.library)}(ptr %context, i64 {first}, i64 {size}, i64 {write})")
        # A fault of the hull need not be one of an element.
        e.store64(int(Fault.NONE), e.word(Context.FAULT))
        with e.when(e.value(f"icmp ne i64 {device}, -1")):
            is_global = e.value(f"icmp ult i64 {device}, {LOCAL_START}")
            shift = e.value(f"sub i64 {device}, {first}")
            unaligned = e.value(f"and i64 {e.value(f'or i64 {device}, %scale')}, {width - 1}")
            is_easy = e.both(chooses_all, e.value(f"icmp eq i64 {unaligned}, 0"))

            def prepare(k: str, marked_bytes: int) -> None:
                address = _address(e, k, offset_dtype)
                e.prefetch_line(e.value(f"inttoptr i64 {address} to ptr"))
                for marks in touched:
                    _mark(e, marks, str(e.add(address, shift)), marked_bytes)

            with e.loop("%n", step=_ITEMS_AHEAD) as start:
                stop = str(e.minimum(e.add(start, _ITEMS_AHEAD), "%n"))
                easy = e.both(is_easy, e.equal(e.subtract(stop, start), _ITEMS_AHEAD))
                with e.when(str(easy)):
                    with e.when(is_global):
                        for k in _unrolled(e, start, stop):
                            prepare(k, 1)  # an element that is aligned lies in one unit, as its first byte does
                    for k in _unrolled(e, start, stop):
                        move(k, None)
                with e.when(str(e.negated(easy))):
                    with e.when(is_global), e.loop(stop, start=start) as k, e.when(_is_set(e, k)):
                        prepare(k, width)
                    with e.loop(stop, start=start) as k:
                        move(k, first)
            e.leave("i64 0")


def _unrolled(e: Emitter, start: str, stop: str) -> Iterator[str]:
    """The numbers of items, several in each round of a loop; their count is a multiple."""
    with e.loop(stop, start=start, step=_UNROLLED_ITEMS) as first:
        for item in range(_UNROLLED_ITEMS):
            yield str(e.add(first, item))


def _extremes(e: Emitter, offset_dtype: DType) -> tuple[str, str, str]:
    """The least and the greatest offset that the mask chooses, and whether it chooses all.

    The least is greater if it chooses none.
    """
    scalar, bits = f"i{offset_dtype.bits}", offset_dtype.bits
    vector = f"<{LANES} x {scalar}>"
    bounds = {"smin": (1 << bits - 1) - 1, "smax": -(1 << bits - 1)}
    found = {name: e.variable(vector) for name in bounds}
    for name, start in bounds.items():
        e.do(f"store {vector} splat ({scalar} {start}), ptr {found[name]}")
    one_for_all = e.value("icmp eq i64 %mask_stride, 0")
    left_out = e.variable(f"<{LANES} x i1>")
    e.do(f"store <{LANES} x i1> zeroinitializer, ptr {left_out}")
    with e.loop("%n", step=LANES) as k:
        # Past the last item too: the images have slack.
        offsets = e.value(f"load {vector}, ptr {e.pointer('%offsets', e.multiply(k, offset_dtype.bytes))}, align 1")
        readable = e.value(f"select i1 {one_for_all}, ptr %offsets, ptr {e.pointer('%mask', k)}")
        flags = e.value(f"load <{LANES} x i8>, ptr {readable}, align 1")
        is_set = e.value(f"icmp ne <{LANES} x i8> {flags}, zeroinitializer")
        shared = e.value(f"icmp ne i8 {e.value('load i8, ptr %mask, align 1')}, 0")
        everywhere = e.in_all_lanes("i1", shared, LANES)
        chosen = e.value(f"select i1 {one_for_all}, <{LANES} x i1> {everywhere}, <{LANES} x i1> {is_set}")
        exists = lanes_below(e, e.subtract("%n", k))
        missing = e.value(f"select <{LANES} x i1> {chosen}, <{LANES} x i1> zeroinitializer, <{LANES} x i1> {exists}")
        missing = e.value(f"or <{LANES} x i1> {e.value(f'load <{LANES} x i1>, ptr {left_out}')}, {missing}")
        e.do(f"store <{LANES} x i1> {missing}, ptr {left_out}")
        chosen = e.value(f"and <{LANES} x i1> {chosen}, {exists}")
        for name, start in bounds.items():
            function = intrinsic(e.library, name, scalar, LANES, 2)
            value = e.value(f"select <{LANES} x i1> {chosen}, {vector} {offsets}, {vector} splat ({scalar} {start})")
            before = e.value(f"load {vector}, ptr {found[name]}")
            after = e.value(f"call {vector} @{function}({vector} {before}, {vector} {value})")
            e.do(f"store {vector} {after}, ptr {found[name]}")
    results: list[str] = []
    for name in bounds:
        function = e.library.declare(f"llvm.vector.reduce.{name}.v{LANES}{scalar}", f"{scalar} {{}}({vector})")
        result = e.value(f"call {scalar} @{function}({vector} {e.value(f'load {vector}, ptr {found[name]}')})")
        results.append(result if bits == 64 else e.value(f"sext {scalar} {result} to i64"))
    missing = e.value(f"bitcast <{LANES} x i1> {e.value(f'load <{LANES} x i1>, ptr {left_out}')} to i{LANES}")
    return results[0], results[1], e.value(f"icmp eq i{LANES} {missing}, 0")


def _is_wanted(e: Emitter, k: str, valid: Count) -> str:
    """Whether the mask of an item is set and any of its elements is valid."""
    return str(e.both(_is_set(e, k), e.negated(e.equal(valid, 0))))


def exchange(e: Emitter, row: Row, pointer: str, value: Lanes, expected: Lanes | None) -> Lanes:
    """One atomic step on an element of GDRAM: the value that was there."""
    dtype = value.dtype
    before = load(e, pointer, dtype, 1)
    after = value if row.combine is None else apply(e, row.combine.name, [before, value])
    if expected is None:
        store(e, after, pointer)
        return before
    bits = f"i{8 * dtype.bytes}"
    equal = e.value(f"icmp eq {bits} {bits_of(e, before)}, {bits_of(e, expected)}")
    chosen = e.value(f"select i1 {equal}, {bits} {bits_of(e, after)}, {bits} {bits_of(e, before)}")
    e.do(f"store {bits} {chosen}, ptr {pointer}, align 1")
    return before


def atomics(library: Library, instruction: str, dtype: DType, offset_dtype: DType, by_element: bool) -> str:
    """``f(context, old, base, offsets, scale, mask, its stride, n, length, valid, value, its stride, expected, its)``.

    ``old`` may be null. Returns -1 after a fault. ``by_element`` is for items of one element.
    """
    row, name = TABLE[instruction], f"mlu.{instruction}{'' if by_element else '_runs'}.{dtype}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        wants_old = e.value("icmp ne ptr %local, null")
        both = Context.TOUCHED_LOADED, Context.TOUCHED_STORED
        length, valid = (1, 1) if by_element else ("%length", "%valid")

        def step(pointer: str, place: Count) -> None:
            value = load(e, e.pointer("%value", e.multiply(place, "%value_stride")), dtype, 1)
            expected = None
            if "expected" in row.slot_index:
                expected = load(e, e.pointer("%expected", e.multiply(place, "%expected_stride")), dtype, 1)
            before = exchange(e, row, pointer, value, expected)
            bits_of(e, before)
            with e.when(wants_old):
                store(e, before, e.pointer("%local", e.multiply(place, dtype.bytes)))

        def move(k: str, least: str | None) -> None:
            with nullcontext() if least is None else e.when(_is_set(e, k)):
                step(e.value(f"inttoptr i64 {_address(e, k, offset_dtype)} to ptr"), k)

        if by_element:
            _move_in_one_region(e, dtype.bytes, offset_dtype, both, move)
        with e.loop("%n") as k, e.when(_is_wanted(e, k, valid)):
            item = _checked(e, _address(e, k, offset_dtype), e.multiply(valid, dtype.bytes), *both)
            line = e.multiply(k, length)
            with e.loop(valid) as j:
                step(e.pointer(item, e.multiply(j, dtype.bytes)), e.add(line, j))
        e.do("ret i64 0")
        return e.function(
            f"define internal i64 @{name}({_RUNS}, ptr %value, i64 %value_stride, ptr %expected, i64 %expected_stride)"
            " noinline"
        )

    return library.require(name, define)
