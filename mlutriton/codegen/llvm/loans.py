"""Loans: what has been loaded to NRAM, but still lies where it came from, until something needs it on the chip.

Most of what a program loads is read by loops over elements and then written over. Such a loop may as well read it in
the arrays of the host, and the copy is spared: for kernels that stream through memory, half of the time.

So a program has a table of loans: ranges of NRAM and the host addresses that hold their bytes. A load of bytes that lie
in one piece only writes an entry, once it is checked and recorded. From then on

1. loops over elements read each place where ``source`` says that it lies, and ``overwrite`` takes out of the table what
   they write;
2. anything else that touches a place has it copied first, by ``settle``;
3. before anything is stored to DRAM, and before other cores or programs run, whatever might change is copied too.

Hence no instruction finds other bytes than if they had been copied at once. Ranges in the table do not overlap.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import reduce

from mlutriton.codegen.llvm.elements import LANES
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.codegen.llvm.frame import Frame, Place
from mlutriton.isa.operands import Address
from mlutriton.isa.program import Buffer, Instruction, Program
from mlutriton.isa.table import Access

# The table: first bytes, ends and host addresses, as many of each; an entry whose end is 0 is free.
_ENTRIES = 16
LOANS_BYTES = 3 * 8 * _ENTRIES
_ENDS, _SOURCES = 8 * _ENTRIES, 16 * _ENTRIES
_EVERYWHERE = 1 << 62
# Loops over whole vectors read so many bytes past the end of what they read.
READ_PAST_BYTES = 8 * LANES
# Fewer bytes are copied in less time than it takes to look for them.
LEAST_LENT_BYTES = 2048

_LOADS = ("dma.load", "dma.load_pad")
# What the runtime moves with the table in hand.
BOXES = (*_LOADS, "dma.store")
_WRITES_DRAM = ("scatter", "stg", "atom.", "gatom.")
_LETS_OTHERS_RUN = ("barrier.cluster", "pause")
_TABLE = "ptr %nram, ptr %loans"


# ---- the runtime's part ---------------------------------------------------------------------------------------------


def _column(e: Emitter, offset: int) -> str:
    return e.value(f"load <{_ENTRIES} x i64>, ptr {e.pointer('%loans', offset)}, align 64")


def _compared(e: Emitter, order: str, column: str, value: str) -> str:
    vector = f"<{_ENTRIES} x i64>"
    first = e.value(f"insertelement {vector} poison, i64 {value}, i64 0")
    value = e.value(f"shufflevector {vector} {first}, {vector} poison, <{_ENTRIES} x i32> zeroinitializer")
    return e.value(f"icmp {order} {vector} {column}, {value}")


def _bits(e: Emitter, *conditions: str) -> str:
    """The entries for which all conditions hold, as the bits of an integer."""
    all_hold = reduce(lambda a, b: e.value(f"and <{_ENTRIES} x i1> {a}, {b}"), conditions)
    return e.value(f"bitcast <{_ENTRIES} x i1> {all_hold} to i{_ENTRIES}")


def _overlapping(e: Emitter, low: str, high: str) -> str:
    return _bits(e, _compared(e, "slt", _column(e, 0), high), _compared(e, "sgt", _column(e, _ENDS), low))


def _first_of(e: Emitter, bits: str) -> str:
    """The number of the lowest bit that is set."""
    e.library.declare(f"llvm.cttz.i{_ENTRIES}", f"i{_ENTRIES} {{}}(i{_ENTRIES}, i1)")
    number = e.value(f"call i{_ENTRIES} @llvm.cttz.i{_ENTRIES}(i{_ENTRIES} {bits}, i1 true)")
    return e.pointer("%loans", e.multiply(e.value(f"zext i{_ENTRIES} {number} to i64"), 8))


@contextmanager
def _each(e: Emitter, bits: str) -> Generator[str]:
    """Write what is done with each entry whose bit is set; yields its address."""
    before, head, body, done = e.current, e.fresh("head"), e.fresh("body"), e.fresh("done")
    e.jump(head)
    e.label(head)
    left, rest = f"%left.{head}", f"%rest.{head}"
    place = len(e.lines)
    e.do("")
    e.branch(e.value(f"icmp eq i{_ENTRIES} {left}, 0"), done, body)
    e.label(body)
    yield _first_of(e, left)
    less = e.value(f"sub i{_ENTRIES} {left}, 1")
    e.do(f"{rest} = and i{_ENTRIES} {left}, {less}")
    e.lines[place] = f"  {left} = phi i{_ENTRIES} [ {bits}, %{before} ], [ {rest}, %{e.current} ]"
    e.jump(head)
    e.label(done)


def _bring(e: Emitter, entry: str) -> None:
    """Copy what an entry tells of, and free it."""
    low, end_place = e.load64(entry), e.pointer(entry, _ENDS)
    source = e.value(f"load ptr, ptr {e.pointer(entry, _SOURCES)}, align 8")
    e.copy(e.pointer("%nram", low), source, e.value(f"sub i64 {e.load64(end_place)}, {low}"))
    e.store64(0, entry)
    e.store64(0, end_place)


def settle(library: Library) -> str:
    """``settle(nram, loans, low, high)``: copy all loans of which a byte lies from ``low`` up to ``high``."""
    e = Emitter(library)
    with _each(e, _overlapping(e, "%low", "%high")) as entry:
        _bring(e, entry)
    e.do("ret void")
    return e.function(f"define void @settle({_TABLE}, i64 %low, i64 %high)")


def settle_from(library: Library) -> str:
    """``settle_from(nram, loans, start, end)``: copy all loans from host addresses of which one is in this range."""
    e = Emitter(library)
    starts, vector = _column(e, _SOURCES), f"<{_ENTRIES} x i64>"
    sizes = e.value(f"sub {vector} {_column(e, _ENDS)}, {_column(e, 0)}")
    ends = e.value(f"add {vector} {starts}, {sizes}")
    with _each(e, _bits(e, _compared(e, "ult", starts, "%end"), _compared(e, "ugt", ends, "%start"))) as entry:
        _bring(e, entry)
    e.do("ret void")
    return e.function(f"define internal void @settle_from({_TABLE}, i64 %start, i64 %end)")


def lends(library: Library) -> str:
    """``lends(loans, start, end)``: whether any loan lies at host addresses of this range."""
    e = Emitter(library)
    starts, vector = _column(e, _SOURCES), f"<{_ENTRIES} x i64>"
    sizes = e.value(f"sub {vector} {_column(e, _ENDS)}, {_column(e, 0)}")
    ends = e.value(f"add {vector} {starts}, {sizes}")
    used = _compared(e, "ne", _column(e, _ENDS), "0")
    found = _bits(e, used, _compared(e, "ult", starts, "%end"), _compared(e, "ugt", ends, "%start"))
    e.do(f"ret i1 {e.value(f'icmp ne i{_ENTRIES} {found}, 0')}")
    return e.function("define internal i1 @lends(ptr %loans, i64 %start, i64 %end)")


def source(library: Library) -> str:
    """``source(nram, loans, low, high)``: where to read these bytes of NRAM, as an offset to ``nram``.

    They lie in one loan, or they are on the chip after the call.
    """
    e = Emitter(library)
    whole = _bits(e, _compared(e, "sle", _column(e, 0), "%low"), _compared(e, "sge", _column(e, _ENDS), "%high"))
    with e.when(e.value(f"icmp ne i{_ENTRIES} {whole}, 0")):
        entry = _first_of(e, whole)
        inside = e.value(f"sub i64 %low, {e.load64(entry)}")
        address = e.add(e.load64(e.pointer(entry, _SOURCES)), inside)
        origin = e.value("ptrtoint ptr %nram to i64")
        e.do(f"ret i64 {e.subtract(address, origin)}")
        e.label(e.fresh("unreachable"))
    e.do(f"call void @settle({_TABLE}, i64 %low, i64 %high)")
    e.do("ret i64 %low")
    return e.function(f"define i64 @source({_TABLE}, i64 %low, i64 %high)")


def overwrite(library: Library) -> str:
    """``overwrite(nram, loans, low, high)``: forget loans of bytes that will all be written."""
    e = Emitter(library)
    with _each(e, _overlapping(e, "%low", "%high")) as entry:
        low, end_place, source_place = e.load64(entry), e.pointer(entry, _ENDS), e.pointer(entry, _SOURCES)
        end = e.load64(end_place)
        before, behind = e.value(f"icmp slt i64 {low}, %low"), e.value(f"icmp sgt i64 {end}, %high")
        around = e.value(f"and i1 {before}, {behind}")
        with e.when(around):
            _bring(e, entry)
        with e.when(e.value(f"xor i1 {around}, true")):
            # What is left begins where it did, or at the end of what is written; nothing, if it ends there too.
            left = e.value(f"or i1 {before}, {behind}")
            first = e.choose(before, low, "%high")
            moved = e.add(e.load64(source_place), e.subtract(first, low))
            e.store64(e.choose(left, first, 0), entry)
            e.store64(e.choose(left, e.choose(before, "%low", end), 0), end_place)
            e.store64(moved, source_place)
    e.do("ret void")
    return e.function(f"define void @overwrite({_TABLE}, i64 %low, i64 %high)")


def lend(library: Library) -> str:
    """``lend(nram, loans, low, high, source)``: note that these bytes of NRAM lie at the host address ``source``."""
    e = Emitter(library)
    e.do(f"call void @overwrite({_TABLE}, i64 %low, i64 %high)")
    free = _bits(e, _compared(e, "eq", _column(e, _ENDS), "0"))
    is_full = e.value(f"icmp eq i{_ENTRIES} {free}, 0")
    with e.when(is_full):
        _bring(e, "%loans")
    entry = _first_of(e, e.value(f"select i1 {is_full}, i{_ENTRIES} 1, i{_ENTRIES} {free}"))
    for offset, value in ((0, "%low"), (_ENDS, "%high"), (_SOURCES, "%source")):
        e.store64(value, e.pointer(entry, offset))
    e.do("ret void")
    return e.function(f"define internal void @lend({_TABLE}, i64 %low, i64 %high, i64 %source)")


# ---- the program's part ---------------------------------------------------------------------------------------------


class Loans:
    """What a program does about its loans; nothing, if none of its loads is worth one.

    Attributes:
        table: address of the table, or ``null`` where nothing is lent.
    """

    def __init__(self, frame: Frame, *, with_values: bool) -> None:
        self._frame = frame
        self._windows = _lent_windows(frame.program) if with_values else ()
        self.table = frame.e.variable(f"[{LOANS_BYTES} x i8]") if self._windows else "null"

    def begin(self) -> None:
        """Nothing is lent when a program begins, or goes on behind a barrier."""
        if self._windows:
            e = self._frame.e
            clear = e.library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
            e.do(f"call void @{clear}(ptr {self.table}, i8 0, i64 {LOANS_BYTES}, i1 false)")

    def lend(self, place: Place) -> str:
        """The table, for a load of a place that may be lent; else ``null``."""
        if place.buffer.space == "nram" and _window(place.buffer) in self._windows:
            return self.table
        if self.concern(place):
            self._call("settle", place)
        return "null"

    def concern(self, place: Place) -> bool:
        """Whether a place may have bytes that are lent."""
        return place.buffer.space == "nram" and any(
            low < place.high and place.low < high for low, high in self._windows
        )

    def source(self, place: Place) -> str:
        """The offset to NRAM at which all of a place can be read."""
        return self._call("source", place, result="i64")

    def overwrite(self, place: Place) -> None:
        """Note that all of a place is written."""
        self._call("overwrite", place)

    def settle(self) -> None:
        """Have copied what the current instruction touches, or might change."""
        if not self._windows:
            return
        frame, row = self._frame, self._frame.instruction.row
        if row.name.startswith(_WRITES_DRAM) or row.name in _LETS_OTHERS_RUN:
            frame.call("settle", ("%nram", self.table, 0, _EVERYWHERE), pointers=2)
            return
        for slot in row.slots:
            place = frame.place(slot.name)
            if place is not None and self.concern(place):
                self._call("settle", place)

    def _call(self, name: str, place: Place, result: str = "void") -> str:
        low = self._frame.e.add(place.base or 0, place.start)
        high = self._frame.e.add(low, place.size)
        return self._frame.call(name, ("%nram", self.table, low, high), result=result, pointers=2)


def _lent_windows(program: Program) -> tuple[tuple[int, int], ...]:
    """Stretches of NRAM that are loaded, and read by loops over elements."""
    loaded, read = set[tuple[int, int]](), set[tuple[int, int]]()
    for instruction in program.instructions:
        if instruction.row.name in _LOADS:
            loaded |= _windows(program, instruction, Access.WRITE)
        elif instruction.row.is_elementwise_or_mov or instruction.row.name.startswith("red."):
            read |= _windows(program, instruction, Access.READ)
    return tuple(sorted((low, high) for low, high in loaded if any(start < high and low < end for start, end in read)))


def _windows(program: Program, instruction: Instruction, access: Access) -> set[tuple[int, int]]:
    found = set[tuple[int, int]]()
    for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
        if slot.access is access and isinstance(operand, Address):
            buffer = program.buffers[operand.buffer]
            if buffer.space == "nram":
                found.add(_window(buffer))
    return found


def _window(buffer: Buffer) -> tuple[int, int]:
    return buffer.offset_bytes, buffer.offset_bytes + buffer.bytes
