"""What the runtime writes to WRAM: the weights of products as float32, in the strips that :mod:`matrix` reads."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from mlutriton.codegen.llvm.elements import (
    LANES,
    Lanes,
    bits_of,
    lanes_below,
    load,
    number_of,
    splat,
    store,
    store_first,
    transposed_square,
)
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.dtypes import F16, F32, DType
from mlutriton.isa.table import WRAM_PANEL_COLUMNS, WRAM_STRIP_COLUMNS


def _as_f32(e: Emitter, value: Lanes) -> str:
    """Elements of a tensor type as ``float``; exact."""
    number = number_of(e, value)
    if value.dtype.is_float:
        return number
    vector = f"<{value.lanes} x %s>" if value.lanes > 1 else "%s"
    return e.value(f"sitofp {vector % f'i{value.dtype.bits}'} {number} to {vector % 'float'}")


def weight(library: Library, dtype: DType) -> str:
    """``weight_<dtype>(target, source, depth, columns, valid_depth, valid_columns, first_column, strides, fill)``.

    Writes float32 strips of 32 columns, ``w[c // 32, k, c % 32]`` with c = first_column + n. The two strides, along
    depth and along columns, are in bytes; ``fill`` holds an element's bits.

    What is done with a strip stands in functions of its own: the bounds there are plain numbers, not minima of minima,
    with whose analysis LLVM would spend most of its time.
    """
    e = Emitter(library)
    bits = "%fill" if dtype.bytes == 8 else e.value(f"trunc i64 %fill to i{8 * dtype.bytes}")
    fill = _as_f32(e, Lanes(dtype, 1, bits=bits))
    by_rows = e.value(f"icmp eq i64 %column_stride, {dtype.bytes}")
    by_columns = e.value(f"icmp eq i64 %depth_stride, {dtype.bytes}")
    strips = _Strips(e)

    def elements(strip: _Strip, first: Count, last: Count, begin: Count) -> None:
        bounds = ", ".join(f"i64 {bound}" for bound in (first, last, begin, strip.valid))
        pointers = f"ptr {strip.target}, ptr {strip.source}"
        function = _weights_one_by_one(library, dtype)
        e.do(f"call void @{function}({pointers}, {bounds}, i64 %depth_stride, i64 %column_stride)")

    def vector(strip: _Strip, depth: str, column: Count) -> None:
        origin = e.pointer(e.moved(strip.source, depth, "%depth_stride"), e.multiply(column, dtype.bytes))
        number = _as_f32(e, load(e, origin, dtype, LANES))
        store(e, Lanes(F32, LANES, number=number), strip.place(depth, column))

    others = e.value(f"xor i1 {by_rows}, true")
    in_squares = e.value(f"and i1 {others}, {by_columns}")
    one_by_one = e.value(f"and i1 {others}, {e.value(f'xor i1 {by_columns}, true')}")
    pad = _pad_strip(library)
    with strips.each() as strip:
        valid = e.subtract(strip.valid, strip.begin)
        is_whole = e.value(f"icmp eq i64 {valid}, {WRAM_STRIP_COLUMNS}")
        with e.when(e.value(f"and i1 {by_rows}, {is_whole}")), e.loop(strips.valid_depth) as depth:
            for column in range(0, WRAM_STRIP_COLUMNS, LANES):
                vector(strip, depth, column)
        with e.when(e.value(f"icmp ugt i1 {by_rows}, {is_whole}")):
            whole = e.add(strip.begin, e.value(f"and i64 {valid}, {-LANES}"))
            with e.loop(strips.valid_depth) as depth, e.loop(whole, start=strip.begin, step=LANES) as column:
                vector(strip, depth, column)
            elements(strip, 0, strips.valid_depth, whole)
        with e.when(in_squares):
            # Squares are turned in registers.
            whole = e.value(f"and i64 {strips.valid_depth}, {-LANES}")
            all_columns = e.add(strip.begin, e.value(f"and i64 {e.subtract(strip.valid, strip.begin)}, {-LANES}"))
            with e.loop(whole, step=LANES) as depth, e.loop(all_columns, start=strip.begin, step=LANES) as column:
                first = e.pointer(e.moved(strip.source, column, "%column_stride"), e.multiply(depth, dtype.bytes))
                square = _square(library, dtype)
                e.do(f"call void @{square}(ptr {strip.place(depth, column)}, ptr {first}, i64 %column_stride)")
            elements(strip, 0, whole, all_columns)
            elements(strip, whole, strips.valid_depth, strip.begin)
        with e.when(one_by_one):
            elements(strip, 0, strips.valid_depth, strip.begin)
        for value, first, last, begin, stop in (
            (fill, 0, strips.valid_depth, strip.valid, strip.wanted),
            (fill, strips.valid_depth, "%depth", strip.begin, strip.wanted),
            ("0.0", 0, "%depth", strip.wanted, WRAM_STRIP_COLUMNS),
        ):
            with e.when(e.value(f"icmp slt i64 {begin}, {stop}")):
                bounds = ", ".join(f"i64 {bound}" for bound in (first, last, begin, stop))
                e.do(f"call void @{pad}(ptr {strip.target}, float {value}, {bounds})")
    e.do("ret void")
    return e.function(
        f"define void @weight_{dtype}(ptr noalias %target, ptr noalias %source, i64 %depth, i64 %columns,"
        " i64 %valid_depth, i64 %valid_columns, i64 %first_column, i64 %depth_stride, i64 %column_stride, i64 %fill)"
    )


def _weights_one_by_one(library: Library, dtype: DType) -> str:
    """``weights_<dtype>(strip, source, first, last, begin, stop, strides)``: a rectangle of depths and columns."""
    name = f"weights_{dtype}"

    def define() -> str:
        e = Emitter(library)
        with e.loop("%last", start="%first") as depth, e.loop("%stop", start="%begin") as column:
            origin = e.pointer(e.moved("%source", depth, "%depth_stride"), e.multiply(column, "%column_stride"))
            number = _widened(e, origin, "%stop") if dtype is F16 else _as_f32(e, load(e, origin, dtype, 1))
            e.do(f"store float {number}, ptr {_place(e, '%strip', depth, column)}, align 4")
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr noalias %strip, ptr noalias %source, i64 %first, i64 %last, i64 %begin,"
            " i64 %stop, i64 %depth_stride, i64 %column_stride) noinline"
        )

    return library.require(name, define)


def _widened(e: Emitter, origin: str, count: str) -> str:
    """A float16 as ``float``, by way of an integer: x86 loads it into a register that it would have to wait for.

    The sign of a ``count`` keeps LLVM from seeing that the integer is only loaded.
    """
    sign = e.value(f"trunc i64 {e.value(f'lshr i64 {count}, 63')} to i32")
    code = e.value(f"zext i16 {e.value(f'load i16, ptr {origin}, align 1')} to i32")
    word = e.value(f"insertelement <4 x i32> zeroinitializer, i32 {e.value(f'or i32 {code}, {sign}')}, i64 0")
    halves = e.value(f"bitcast <4 x i32> {word} to <8 x half>")
    first = e.value(f"shufflevector <8 x half> {halves}, <8 x half> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>")
    return e.value(f"extractelement <4 x float> {e.value(f'fpext <4 x half> {first} to <4 x float>')}, i64 0")


def _square(library: Library, dtype: DType) -> str:
    """``square_<dtype>(target, source, stride in bytes)``: turn columns into rows of a strip, as many as lanes."""
    name = f"square_{dtype}"

    def define() -> str:
        e = Emitter(library)
        columns = [_as_f32(e, load(e, e.moved("%source", lane, "%stride"), dtype, LANES)) for lane in range(LANES)]
        for lane, number in enumerate(transposed_square(e, columns, "float", F32.bits)):
            place = e.pointer("%target", 4 * WRAM_STRIP_COLUMNS * lane)
            store(e, Lanes(F32, LANES, number=number), place)
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr noalias %target, ptr noalias %source, i64 %stride) noinline"
        )

    return library.require(name, define)


def _pad_strip(library: Library) -> str:
    """``pad_strip(strip, value, first, last, begin, stop)``: fill a rectangle of depths and columns."""
    name = "pad_strip"

    def define() -> str:
        e = Emitter(library)
        value = splat(e, Lanes(F32, 1, number="%value"))
        bits_of(e, value)
        with e.loop("%last", start="%first") as depth, e.loop("%stop", start="%begin", step=LANES) as column:
            store_first(e, value, _place(e, "%strip", depth, column), lanes_below(e, e.subtract("%stop", column)))
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr %strip, float %value, i64 %first, i64 %last, i64 %begin, i64 %stop)"
            " noinline"
        )

    return library.require(name, define)


def _place(e: Emitter, strip: str, depth: str, column: Count) -> str:
    """The address of an element of a strip."""
    return e.pointer(strip, e.multiply(e.add(e.multiply(depth, WRAM_STRIP_COLUMNS), column), 4))


@dataclass(frozen=True)
class _Strip:
    """A strip of WRAM while it is written. Its columns: up to ``valid`` loaded, up to ``wanted`` filled, then 0.

    Attributes:
        target: address of the strip.
        source: where column 0 of the strip would lie in GDRAM.
        begin: first column that is written.
    """

    e: Emitter
    target: str
    source: str
    begin: str | int
    valid: str | int
    wanted: str | int

    def place(self, depth: str, column: Count) -> str:
        """The address of an element."""
        return _place(self.e, self.target, depth, column)


class _Strips:
    """The strips that a load of weights touches."""

    def __init__(self, e: Emitter) -> None:
        self._e = e
        self._end = e.value("add i64 %first_column, %columns")
        # The panel that the last one belongs to is filled up with zeros.
        whole = e.value(f"and i64 {e.add(self._end, WRAM_PANEL_COLUMNS - 1)}, {-WRAM_PANEL_COLUMNS}")
        self._stop = e.value(f"sdiv i64 {whole}, {WRAM_STRIP_COLUMNS}")
        self._start = e.value(f"sdiv i64 %first_column, {WRAM_STRIP_COLUMNS}")
        self._bytes = e.value(f"mul i64 %depth, {4 * WRAM_STRIP_COLUMNS}")
        self.valid_depth = str(e.maximum(e.minimum("%valid_depth", "%depth"), 0))

    @contextmanager
    def each(self) -> Generator[_Strip]:
        """Write what is done with each strip."""
        e = self._e
        with e.loop(self._stop, start=self._start) as index:
            first = e.multiply(index, WRAM_STRIP_COLUMNS)
            offset = e.subtract("%first_column", first)
            begin = e.maximum(offset, 0)
            wanted = e.maximum(e.minimum(e.subtract(self._end, first), WRAM_STRIP_COLUMNS), 0)
            valid = e.minimum(e.maximum(e.add(offset, "%valid_columns"), begin), wanted)
            source = e.moved("%source", e.subtract(0, offset), "%column_stride")
            yield _Strip(e, e.moved("%target", index, self._bytes), source, begin, valid, wanted)
