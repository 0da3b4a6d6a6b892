"""Gathers, scatters and atomics: functions that go through GDRAM item by item, each address checked."""

from __future__ import annotations

from mlutriton.codegen.llvm.collectives import as_index
from mlutriton.codegen.llvm.elements import Lanes, apply, bits_of, load, store
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.codegen.llvm.frame import Count
from mlutriton.dtypes import DType
from mlutriton.isa.native_interface import RUNTIME_FUNCTIONS, TOUCHED_UNIT_BYTES, Context
from mlutriton.isa.table import Row
from mlutriton.isa.trace_format import LOCAL_START


def access(library: Library) -> str:
    """``f(context, address, bytes, write)``: the device address, or -1 after a fault; quick near the last access."""

    def define() -> str:
        e = Emitter(library)
        start, end, writable, device = (
            e.load64(e.pointer("%context", 8 * word))
            for word in (Context.HIT_START, Context.HIT_END, Context.HIT_WRITABLE, Context.HIT_DEVICE)
        )
        stop = e.value("add i64 %address, %bytes")
        hit = e.value(f"icmp uge i64 %address, {start}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp ule i64 {stop}, {end}')}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp uge i64 {stop}, %address')}")
        hit = e.value(f"and i1 {hit}, {e.value(f'icmp uge i64 {writable}, %write')}")
        with e.when(hit):
            e.do(f"ret i64 {e.add(e.value(f'sub i64 %address, {start}'), device)}")
            e.label(e.fresh("unreachable"))
        runtime = e.value(f"load ptr, ptr {e.pointer('%context', 8 * Context.RUNTIME)}, align 8")
        entry = e.pointer(runtime, 8 * RUNTIME_FUNCTIONS.index("check"))
        check = e.value(f"load ptr, ptr {entry}, align 8")
        e.do(f"ret i64 {e.value(f'call i64 {check}(ptr %context, i64 %address, i64 %bytes, i64 %write)')}")
        return e.function("define internal i64 @access(ptr %context, i64 %address, i64 %bytes, i64 %write)")

    return library.require("access", define)


def _checked(e: Emitter, address: str, size_bytes: Count, *touched: Context) -> str:
    """The pointer to an item of GDRAM, marked as touched unless local; returns -1 from the function after a fault."""
    write = Context.TOUCHED_STORED in touched
    device = e.value(f"call i64 @{access(e.library)}(ptr %context, i64 {address}, i64 {size_bytes}, i64 {int(write)})")
    with e.when(e.value(f"icmp eq i64 {device}, -1")):
        e.do("ret i64 -1")
        e.label(e.fresh("unreachable"))
    with e.when(e.value(f"icmp ult i64 {device}, {LOCAL_START}")):
        for marks in touched:
            _mark(e, marks, device, size_bytes)
    return e.value(f"inttoptr i64 {address} to ptr")


def _mark(e: Emitter, marks: Context, device: str, size_bytes: Count) -> None:
    """Set the bytes of the units that an item touches. Threads may do so at once: all set the same."""
    shift = TOUCHED_UNIT_BYTES.bit_length() - 1
    table = e.value(f"inttoptr i64 {e.load64(e.pointer('%context', 8 * marks))} to ptr")
    last = e.value(f"sub i64 {e.add(device, size_bytes)}, 1")
    units = [e.value(f"lshr i64 {address}, {shift}") for address in (device, last)]
    if isinstance(size_bytes, int) and size_bytes <= TOUCHED_UNIT_BYTES:
        for unit in units:
            e.do(f"store i8 1, ptr {e.pointer(table, unit)}, align 1")
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


def gather(library: Library, dtype: DType, offset_dtype: DType, *, by_element: bool) -> str:
    """``f(context, dst, base, offsets, scale, mask, mask_stride, n, length, valid, fill, fill_stride)``.

    Returns -1 after a fault. ``by_element`` is for items of one element.
    """
    name = f"mlu.gather{'' if by_element else '_runs'}.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        length, valid = (1, 1) if by_element else ("%length", "%valid")
        line, size = e.multiply(length, width), e.multiply(valid, width)
        loaded = e.variable("i64")
        with e.loop("%n") as k:
            target = e.pointer("%local", e.multiply(k, line))
            e.store64(0, loaded)
            with e.when(_is_wanted(e, k, valid)):
                e.copy(target, _checked(e, _address(e, k, offset_dtype), size, Context.TOUCHED_LOADED), size)
                e.store64(valid, loaded)
            rest = e.value(f"load {bits}, ptr {e.pointer('%fill', e.value(f'mul i64 {k}, %fill_stride'))}, align 1")
            with e.loop(length, start=e.load64(loaded)) as j:
                e.do(f"store {bits} {rest}, ptr {e.pointer(target, e.multiply(j, width))}, align 1")
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_RUNS}, ptr %fill, i64 %fill_stride) noinline")

    return library.require(name, define)


def scatter(library: Library, dtype: DType, offset_dtype: DType, *, by_element: bool) -> str:
    """``f(context, src, base, offsets, scale, mask, mask_stride, n, length, valid)``: -1 after a fault.

    ``by_element`` is for items of one element.
    """
    name = f"mlu.scatter{'' if by_element else '_runs'}.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        length, valid = (1, 1) if by_element else ("%length", "%valid")
        line, size = e.multiply(length, dtype.bytes), e.multiply(valid, dtype.bytes)
        with e.loop("%n") as k, e.when(_is_wanted(e, k, valid)):
            target = _checked(e, _address(e, k, offset_dtype), size, Context.TOUCHED_STORED)
            e.copy(target, e.pointer("%local", e.multiply(k, line)), size)
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_RUNS}) noinline")

    return library.require(name, define)


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


def atomics(library: Library, row: Row, dtype: DType, offset_dtype: DType) -> str:
    """``f(context, old or null, base, offsets, scale, mask, mask_stride, n, value, its stride, expected, its stride)``.

    Returns -1 after a fault.
    """
    name = f"mlu.{row.name}.{dtype}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        wants_old = e.value("icmp ne ptr %local, null")
        with e.loop("%n") as k, e.when(_is_set(e, k)):
            both = Context.TOUCHED_LOADED, Context.TOUCHED_STORED
            pointer = _checked(e, _address(e, k, offset_dtype), dtype.bytes, *both)
            value = load(e, e.pointer("%value", e.value(f"mul i64 {k}, %value_stride")), dtype, 1)
            expected = None
            if "expected" in row.slot_index:
                expected = load(e, e.pointer("%expected", e.value(f"mul i64 {k}, %expected_stride")), dtype, 1)
            before = exchange(e, row, pointer, value, expected)
            bits_of(e, before)
            with e.when(wants_old):
                store(e, before, e.pointer("%local", e.multiply(k, dtype.bytes)))
        e.do("ret i64 0")
        return e.function(
            f"define internal i64 @{name}({_ITEMS}, ptr %value, i64 %value_stride, ptr %expected, i64 %expected_stride)"
            " noinline"
        )

    return library.require(name, define)
