"""Gathers, scatters and atomics: functions that go through GDRAM element by element, each address checked."""

from __future__ import annotations

from mlutriton.codegen.llvm.collectives import as_index
from mlutriton.codegen.llvm.elements import Lanes, apply, bits_of, load, store
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.dtypes import DType
from mlutriton.isa.native_interface import RUNTIME_FUNCTIONS, Context
from mlutriton.isa.table import Row


def access(library: Library) -> str:
    """``f(context, address, bytes, write)``: the device address, or -1 after a fault; quick where the last access was near."""

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


def _checked(e: Emitter, address: str, size_bytes: int, *, write: bool) -> str:
    """The pointer to an element of GDRAM; returns -1 from the function after a fault."""
    device = e.value(f"call i64 @{access(e.library)}(ptr %context, i64 {address}, i64 {size_bytes}, i64 {int(write)})")
    with e.when(e.value(f"icmp eq i64 {device}, -1")):
        e.do("ret i64 -1")
        e.label(e.fresh("unreachable"))
    return e.value(f"inttoptr i64 {address} to ptr")


def _is_set(e: Emitter, k: str) -> str:
    flag = e.value(f"load i8, ptr {e.pointer('%mask', e.value(f'mul i64 {k}, %mask_stride'))}, align 1")
    return e.value(f"icmp ne i8 {flag}, 0")


def _address(e: Emitter, k: str, offset_dtype: DType) -> str:
    offset = as_index(e, e.pointer("%offsets", e.multiply(k, offset_dtype.bytes)), offset_dtype)
    return e.value(f"add i64 %base, {e.value(f'mul i64 {offset}, %scale')}")


_ITEMS = "ptr %context, ptr %local, i64 %base, ptr %offsets, i64 %scale, ptr %mask, i64 %mask_stride, i64 %n"


def gather(library: Library, dtype: DType, offset_dtype: DType) -> str:
    """``f(context, dst, base, offsets, scale, mask, mask_stride, n, fill, fill_stride)``: -1 after a fault."""
    name = f"mlu.gather.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        value = e.variable(bits)
        with e.loop("%n") as k:
            rest = e.value(f"load {bits}, ptr {e.pointer('%fill', e.value(f'mul i64 {k}, %fill_stride'))}, align 1")
            e.do(f"store {bits} {rest}, ptr {value}")
            with e.when(_is_set(e, k)):
                source = _checked(e, _address(e, k, offset_dtype), width, write=False)
                e.do(f"store {bits} {e.value(f'load {bits}, ptr {source}, align 1')}, ptr {value}")
            target = e.pointer("%local", e.multiply(k, width))
            e.do(f"store {bits} {e.value(f'load {bits}, ptr {value}')}, ptr {target}, align 1")
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_ITEMS}, ptr %fill, i64 %fill_stride) noinline")

    return library.require(name, define)


def scatter(library: Library, dtype: DType, offset_dtype: DType) -> str:
    """``f(context, src, base, offsets, scale, mask, mask_stride, n)``: -1 after a fault."""
    name = f"mlu.scatter.{dtype.bytes}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        bits, width = f"i{8 * dtype.bytes}", dtype.bytes
        with e.loop("%n") as k, e.when(_is_set(e, k)):
            target = _checked(e, _address(e, k, offset_dtype), width, write=True)
            value = e.value(f"load {bits}, ptr {e.pointer('%local', e.multiply(k, width))}, align 1")
            e.do(f"store {bits} {value}, ptr {target}, align 1")
        e.do("ret i64 0")
        return e.function(f"define internal i64 @{name}({_ITEMS}) noinline")

    return library.require(name, define)


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
    """``f(context, old or null, base, offsets, scale, mask, mask_stride, n, value, value_stride, expected, its stride)``.

    Returns -1 after a fault.
    """
    name = f"mlu.{row.name}.{dtype}.{offset_dtype}"

    def define() -> str:
        e = Emitter(library)
        wants_old = e.value("icmp ne ptr %local, null")
        with e.loop("%n") as k, e.when(_is_set(e, k)):
            pointer = _checked(e, _address(e, k, offset_dtype), dtype.bytes, write=True)
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
            f"define internal i64 @{name}({_ITEMS}, ptr %value, i64 %value_stride, ptr %expected, i64 %expected_stride) noinline"
        )

    return library.require(name, define)
