"""Loans: what has been loaded to NRAM, but still lies where it came from, until something needs it on the chip.

Most of what a program loads is read by loops over elements and then written over. Such a loop may as well read it in
the arrays of the host, and the copy is spared: for kernels that stream through memory, half of the time. Likewise a
product may step from row to row of its left operand as the host's array does.

So a program has a table of loans: ranges of NRAM and the host addresses that hold their bytes. A load of bytes that lie
in one piece only writes an entry, once it is checked and recorded. So does one of rows that stand apart, or of planes
of such, if products or loops step from row to row and no program of the launch stores to their array. From then on

1. loops over elements, reductions and scans read each place where ``source`` says that it lies, those over several rows
   and products, for their left operand, where ``source_rows`` says so, and ``overwrite`` takes out of the table what is
   written;
2. anything else that touches a place has it copied first, by ``settle``;
3. before anything is stored to DRAM, and before other cores or programs run, whatever might change is copied too.

Hence no instruction finds other bytes than if they had been copied at once. Ranges in the table do not overlap. The
table stands behind the image of NRAM: rows that cannot change stay lent while a core waits at a barrier.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import reduce

from mlutriton.codegen.llvm.elements import LANES
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.places import Place
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import LOANS_BYTES, loans_offset
from mlutriton.isa.operands import Address, Immediate
from mlutriton.isa.program import Buffer, Instruction, Program
from mlutriton.isa.table import Access, Row, Slot

# The table: first bytes, ends, host addresses, bytes of a row and bytes from row to row of the host, bytes of a plane
# of rows and bytes from plane to plane of the host, as many of each. An entry whose end is 0 is free. All others have
# whole planes, or whole rows of an endless one; of what may change, in one piece, a row is one byte.
_ENTRIES = 16
_ENDS, _SOURCES, _ROWS, _STRIDES, _PLANES, _PLANE_STRIDES = (8 * _ENTRIES * column for column in range(1, 7))
assert _PLANE_STRIDES + 8 * _ENTRIES == LOANS_BYTES
ENDLESS = 1 << 62
IN_ONE_PIECE = f"i64 1, i64 1, i64 {ENDLESS}, i64 0"
# Loops over whole vectors read so many bytes past the end of what they read.
READ_PAST_BYTES = 8 * LANES
# Fewer bytes are copied in less time than it takes to look for them.
LEAST_LENT_BYTES = 2048
# Loops over elements wait for shorter rows for longer than a copy does, which asks for many of them at a time.
_LEAST_ROW_BYTES = 256

_LOADS = ("dma.load", "dma.load_pad")
# What the runtime moves with the table in hand.
BOXES = (*_LOADS, "dma.store")
_WRITES_DRAM = ("scatter", "stg", "atom.", "gatom.")
_ALONG_AN_AXIS = ("red.", "scan.")
_LETS_OTHERS_RUN = ("barrier.cluster", "pause")
_TABLE = "ptr %nram, ptr %loans"


# ---- the runtime's part ---------------------------------------------------------------------------------------------


def _column(e: Emitter, offset: int) -> str:
    return e.value(f"load <{_ENTRIES} x i64>, ptr {e.pointer('%loans', offset)}, align 64")


def _compared(e: Emitter, order: str, column: str, value: str) -> str:
    return e.value(f"icmp {order} <{_ENTRIES} x i64> {column}, {e.in_all_lanes('i64', value, _ENTRIES)}")


def _bits(e: Emitter, *conditions: str) -> str:
    """The entries for which all conditions hold, as the bits of an integer."""
    all_hold = reduce(lambda a, b: e.value(f"and <{_ENTRIES} x i1> {a}, {b}"), conditions)
    return e.value(f"bitcast <{_ENTRIES} x i1> {all_hold} to i{_ENTRIES}")


def _overlapping(e: Emitter) -> str:
    """The entries of which a byte of NRAM lies from ``%low`` to ``%high``, a bit each."""
    return _bits(e, _compared(e, "slt", _column(e, 0), "%high"), _compared(e, "sgt", _column(e, _ENDS), "%low"))


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


def _rows(e: Emitter, entry: str) -> tuple[str, str, str]:
    """Bytes of a row of an entry, bytes from row to row of the host, and whether these are the same."""
    row, stride = e.load64(e.pointer(entry, _ROWS)), e.load64(e.pointer(entry, _STRIDES))
    is_endless = e.equal(e.load64(e.pointer(entry, _PLANES)), ENDLESS)
    return row, stride, str(e.both(e.equal(row, stride), is_endless))


def _moved(e: Emitter, entry: str, bytes: Count) -> tuple[Count, Count, Count]:
    """The host address of a byte of an entry, so many after its first; how many precede it in its row, and plane."""
    row, stride, _ = _rows(e, entry)
    plane, plane_stride = e.load64(e.pointer(entry, _PLANES)), e.load64(e.pointer(entry, _PLANE_STRIDES))
    inside, planes = e.value(f"srem i64 {bytes}, {plane}"), e.value(f"sdiv i64 {bytes}, {plane}")
    column, rows = e.value(f"srem i64 {inside}, {row}"), e.value(f"sdiv i64 {inside}, {row}")
    passed = e.add(e.multiply(planes, plane_stride), e.multiply(rows, stride))
    return e.add(e.load64(e.pointer(entry, _SOURCES)), e.add(passed, column)), column, inside


def _bring(e: Emitter, entry: str) -> None:
    """Copy what an entry tells of, and free it."""
    low, end_place = e.load64(entry), e.pointer(entry, _ENDS)
    source, target = e.value(f"load ptr, ptr {e.pointer(entry, _SOURCES)}, align 8"), e.pointer("%nram", low)
    size, (row, stride, is_one_piece) = e.subtract(e.load64(end_place), low), _rows(e, entry)
    with e.when(is_one_piece):
        e.copy(target, source, size)
    with e.when(e.value(f"xor i1 {is_one_piece}, true")):
        plane = e.minimum(e.load64(e.pointer(entry, _PLANES)), size)
        counts = ", ".join(f"i64 {e.value(f'sdiv i64 {all}, {one}')}" for all, one in ((plane, row), (size, plane)))
        plane_stride = e.load64(e.pointer(entry, _PLANE_STRIDES))
        steps = f"i64 {row}, i64 {plane}, i64 {stride}, i64 {plane_stride}"
        e.do(f"call void @copy(ptr {target}, ptr {source}, i64 {row}, {counts}, {steps})")
    e.store64(0, entry)
    e.store64(0, end_place)


def settle(library: Library) -> str:
    """``settle(nram, loans, low, high)``: copy all loans of which a byte lies from ``low`` up to ``high``."""
    e = Emitter(library)
    with _each(e, _overlapping(e)) as entry:
        _bring(e, entry)
    e.do("ret void")
    return e.function(f"define void @settle({_TABLE}, i64 %low, i64 %high)")


def settle_changing(library: Library) -> str:
    """``settle_changing(nram, loans)``: copy all loans but those of arrays to which nobody stores."""
    e = Emitter(library)
    used, may_change = _compared(e, "ne", _column(e, _ENDS), "0"), _compared(e, "eq", _column(e, _ROWS), "1")
    with _each(e, _bits(e, used, may_change)) as entry:
        _bring(e, entry)
    e.do("ret void")
    return e.function(f"define void @settle_changing({_TABLE})")


def settle_from(library: Library) -> str:
    """``settle_from(nram, loans, start, end)``: copy all loans from host addresses of which one is in this range.

    Somebody stores to it, so that no rows are lent there that stand apart.
    """
    e = Emitter(library)
    with _each(e, _lent_there(e)) as entry:
        _bring(e, entry)
    e.do("ret void")
    return e.function(f"define internal void @settle_from({_TABLE}, i64 %start, i64 %end)")


def lends(library: Library) -> str:
    """``lends(loans, start, end)``: whether any loan lies at host addresses of this range."""
    e = Emitter(library)
    e.do(f"ret i1 {e.value(f'icmp ne i{_ENTRIES} {_lent_there(e)}, 0')}")
    return e.function("define internal i1 @lends(ptr %loans, i64 %start, i64 %end)")


def _lent_there(e: Emitter) -> str:
    """The entries of which a byte lies at host addresses from ``%start`` to ``%end``, a bit each."""
    starts, vector = _column(e, _SOURCES), f"<{_ENTRIES} x i64>"
    sizes = e.value(f"sub {vector} {_column(e, _ENDS)}, {_column(e, 0)}")
    ends = e.value(f"add {vector} {starts}, {sizes}")
    # A free entry still tells where its rows would go on: behind their array, which may be where somebody stores.
    used = _compared(e, "ne", _column(e, _ENDS), "0")
    return _bits(e, used, _compared(e, "ult", starts, "%end"), _compared(e, "ugt", ends, "%start"))


@contextmanager
def _whole(e: Emitter) -> Generator[tuple[str, Count]]:
    """Write what is done if all bytes from ``%low`` to ``%high`` are of one entry; else they are on the chip after it.

    Yields the address of the entry, and how many bytes precede them in it.
    """
    ends = _column(e, _ENDS)
    begins = _compared(e, "sle", _column(e, 0), "%low")
    # Without elements, bytes at the begin of NRAM would be those of a free entry, whose rows are none.
    whole = _bits(e, begins, _compared(e, "sge", ends, "%high"), _compared(e, "sgt", ends, "%low"))
    with e.when(e.value(f"icmp ne i{_ENTRIES} {whole}, 0")):
        entry = _first_of(e, whole)
        yield entry, e.subtract("%low", e.load64(entry))
    e.do(f"call void @settle({_TABLE}, i64 %low, i64 %high)")


def _return_offset(e: Emitter, address: Count) -> None:
    origin = e.value("ptrtoint ptr %nram to i64")
    e.leave(f"i64 {e.subtract(address, origin)}")


def source(library: Library) -> str:
    """``source(nram, loans, low, high)``: where to read these bytes of NRAM, as an offset to ``nram``.

    They lie in one loan, and in one row if it has any that stand apart, or they are on the chip after the call.
    """
    e = Emitter(library)
    with _whole(e) as (entry, inside):
        address, column, _ = _moved(e, entry, inside)
        row, _, is_one_piece = _rows(e, entry)
        is_of_a_row = e.value(f"icmp sle i64 {e.add(column, e.subtract('%high', '%low'))}, {row}")
        with e.when(e.value(f"or i1 {is_one_piece}, {is_of_a_row}")):
            _return_offset(e, address)
    e.do("ret i64 %low")
    return e.function(f"define i64 @source({_TABLE}, i64 %low, i64 %high)")


def source_rows(library: Library) -> str:
    """``source_rows(nram, loans, stride, low, high, row, used)``: where to read rows, likewise, and how far apart.

    These bytes of NRAM are rows of ``row`` bytes, of which the first ``used`` are read. How many bytes it is from one
    to the next, where they are read, is stored at ``stride``.
    """
    e = Emitter(library)
    with _whole(e) as (entry, inside):
        address, column, before = _moved(e, entry, inside)
        row, stride, is_one_piece = _rows(e, entry)
        end, plane = e.add(before, e.subtract("%high", "%low")), e.load64(e.pointer(entry, _PLANES))
        are_rows = e.both(e.equal(row, "%row"), e.value(f"icmp sle i64 {e.add(column, '%used')}, {row}"))
        are_rows = e.both(are_rows, e.value(f"icmp sle i64 {end}, {plane}"))
        with e.when(e.value(f"or i1 {is_one_piece}, {are_rows}")):
            e.store64(e.choose(is_one_piece, "%row", stride), "%stride")
            _return_offset(e, address)
    e.store64("%row", "%stride")
    e.do("ret i64 %low")
    return e.function(f"define i64 @source_rows({_TABLE}, ptr %stride, i64 %low, i64 %high, i64 %row, i64 %used)")


def overwrite(library: Library) -> str:
    """``overwrite(nram, loans, low, high)``: forget loans of bytes that will all be written."""
    e = Emitter(library)
    with _each(e, _overlapping(e)) as entry:
        low, end_place = e.load64(entry), e.pointer(entry, _ENDS)
        end = e.load64(end_place)
        before, behind = e.value(f"icmp slt i64 {low}, %low"), e.value(f"icmp sgt i64 {end}, %high")
        # What is left begins where it did, or at the end of what is written; nothing, if it ends there too.
        left = e.value(f"or i1 {before}, {behind}")
        first, last = e.choose(before, low, "%high"), e.choose(before, "%low", end)
        row, plane = e.load64(e.pointer(entry, _ROWS)), e.load64(e.pointer(entry, _PLANES))
        whole = e.choose(e.equal(plane, ENDLESS), row, plane)
        cut = e.value(f"srem i64 {e.subtract(e.choose(before, last, first), low)}, {whole}")
        around, is_parted = e.value(f"and i1 {before}, {behind}"), e.value(f"icmp ne i64 {cut}, 0")
        brought = e.value(f"or i1 {around}, {e.value(f'and i1 {left}, {is_parted}')}")
        with e.when(brought):
            _bring(e, entry)
        with e.when(e.value(f"xor i1 {brought}, true")):
            moved, _, _ = _moved(e, entry, e.subtract(first, low))
            e.store64(e.choose(left, first, 0), entry)
            e.store64(e.choose(left, last, 0), end_place)
            e.store64(moved, e.pointer(entry, _SOURCES))
    e.do("ret void")
    return e.function(f"define void @overwrite({_TABLE}, i64 %low, i64 %high)")


def lend(library: Library) -> str:
    """``lend(nram, loans, low, high, source, row, stride, plane, plane_stride)``: note where these bytes of NRAM lie.

    Their first row lies at ``source``, the next one ``stride`` bytes after it. So does their first plane, of ``plane``
    bytes, the next one ``plane_stride`` bytes after it. What goes on where an entry ends joins it.
    """
    e = Emitter(library)
    e.do(f"call void @overwrite({_TABLE}, i64 %low, i64 %high)")
    geometry = ((_ROWS, "%row"), (_STRIDES, "%stride"), (_PLANES, "%plane"), (_PLANE_STRIDES, "%plane_stride"))
    columns = ((_ENDS, "%low"), *geometry)
    before = _bits(e, *(_compared(e, "eq", _column(e, offset), value) for offset, value in columns))
    with e.when(e.value(f"icmp ne i{_ENTRIES} {before}, 0")):
        entry = _first_of(e, before)
        next_row, _, _ = _moved(e, entry, e.subtract("%low", e.load64(entry)))
        with e.when(e.value(f"icmp eq i64 {next_row}, %source")):
            e.store64("%high", e.pointer(entry, _ENDS))
            e.leave("void")
    free = _bits(e, _compared(e, "eq", _column(e, _ENDS), "0"))
    is_full = e.value(f"icmp eq i{_ENTRIES} {free}, 0")
    with e.when(is_full):
        _bring(e, "%loans")
    entry = _first_of(e, e.value(f"select i1 {is_full}, i{_ENTRIES} 1, i{_ENTRIES} {free}"))
    for offset, value in ((0, "%low"), (_ENDS, "%high"), (_SOURCES, "%source"), *geometry):
        e.store64(value, e.pointer(entry, offset))
    e.do("ret void")
    return e.function(
        f"define internal void @lend({_TABLE}, i64 %low, i64 %high, i64 %source, i64 %row, i64 %stride, i64 %plane,"
        " i64 %plane_stride)"
    )


# ---- the program's part ---------------------------------------------------------------------------------------------


class Loans:
    """What a program does about its loans; nothing, if none of its loads is worth one."""

    def __init__(
        self, frame: Frame, machine: Machine, instructions: Iterable[Instruction], *, with_values: bool
    ) -> None:
        """Find what may be lent.

        Args:
            frame: of the program.
            machine: decides where the table stands.
            instructions: all that may run.
            with_values: whether anything is moved.
        """
        self._frame = frame
        self._windows, self._least_row_bytes = _lent_windows(frame.program, instructions if with_values else ())
        self._offset = loans_offset(machine)

    @property
    def table(self) -> str:
        """Address of the table, or ``null`` where nothing is lent."""
        return self._frame.e.pointer("%nram", self._offset) if self._windows else "null"

    def begin(self) -> None:
        """Nothing is lent when a program begins; behind a barrier is what cannot have changed."""
        if self._windows:
            e = self._frame.e
            clear = e.library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
            e.do(f"call void @{clear}(ptr {self.table}, i8 0, i64 {LOANS_BYTES}, i1 false)")

    def lend(self, place: Place) -> tuple[str, int]:
        """The table, for a load of a place that may be lent; else ``null``; and how long its rows are at least."""
        if place.buffer.space == "nram" and (window := _window(place.buffer)) in self._windows:
            return self.table, self._least_row_bytes.get(window, ENDLESS)
        self.bring(place)
        return "null", ENDLESS

    def concern(self, place: Place) -> bool:
        """Whether a place may have bytes that are lent."""
        return place.buffer.space == "nram" and any(
            low < place.high and place.low < high for low, high in self._windows
        )

    def concern_rows(self, place: Place) -> bool:
        """Whether a place may have bytes that are lent as rows that stand apart."""
        return place.buffer.space == "nram" and any(
            low < place.high and place.low < high for low, high in self._least_row_bytes
        )

    def source(self, place: Place) -> str:
        """The offset to NRAM at which all of a place can be read."""
        return self._call("source", place, result="i64")

    def source_rows(self, place: Place, row: Count, used: Count) -> tuple[str, str]:
        """The offset to NRAM at which rows of a place can be read, and how many bytes it is from one to the next.

        Args:
            place: of rows of ``row`` bytes, of which ``used`` are read.
            row: see there.
            used: see there.
        """
        stride = self._frame.e.variable("i64")
        return self._call("source_rows", place, stride, (row, used), "i64"), self._frame.e.load64(stride)

    def bring(self, place: Place) -> None:
        """Have copied what is lent of a place."""
        if self.concern(place):
            self._call("settle", place)

    def overwrite(self, place: Place) -> None:
        """Note that all of a place is written."""
        self._call("overwrite", place)

    def settle(self) -> None:
        """Have copied what the current instruction touches, or might change."""
        if not self._windows:
            return
        frame, row = self._frame, self._frame.instruction.row
        if row.name.startswith(_WRITES_DRAM) or row.name in _LETS_OTHERS_RUN:
            frame.call("settle_changing", ("%nram", self.table), pointers=2)
        for slot in row.slots:
            place = frame.place(slot.name)
            if place is not None and not _is_read_where_it_lies(row, slot):
                self.bring(place)

    def _call(
        self, name: str, place: Place, pointer: str = "", numbers: tuple[Count, ...] = (), result: str = "void"
    ) -> str:
        low = self._frame.e.add(place.base or 0, place.start)
        pointers = ("%nram", self.table, pointer) if pointer else ("%nram", self.table)
        arguments = (*pointers, low, self._frame.e.add(low, place.size), *numbers)
        return self._frame.call(name, arguments, result=result, pointers=len(pointers))


_Windows = tuple[tuple[int, int], ...]


def _lent_windows(program: Program, instructions: Iterable[Instruction]) -> tuple[_Windows, dict[tuple[int, int], int]]:
    """Stretches of NRAM that are loaded, and read where they lie; those read row by row: bytes of the shortest row."""
    loaded, read, in_rows, multiplied = (set[tuple[int, int]]() for _ in range(4))
    for instruction in instructions:
        if instruction.row.name in _LOADS:
            loaded |= _windows(program, instruction, Access.WRITE)
        elif instruction.row.is_elementwise_or_mov or instruction.row.name.startswith(_ALONG_AN_AXIS):
            windows = _windows(program, instruction, Access.READ)
            read |= windows
            if _goes_by_rows(instruction):
                in_rows |= windows
        elif instruction.row.name == "mm":
            multiplied |= _windows(program, instruction, Access.READ)

    def loaded_for(readers: set[tuple[int, int]]) -> _Windows:
        return tuple(sorted((low, high) for low, high in loaded if any(a < high and low < b for a, b in readers)))

    least = dict.fromkeys(loaded_for(in_rows), _LEAST_ROW_BYTES) | dict.fromkeys(loaded_for(multiplied), 1)
    return loaded_for(read | multiplied), least


def _goes_by_rows(instruction: Instruction) -> bool:
    """Whether the loops of an instruction may step from row to row: along each of several of them."""
    if instruction.row.is_elementwise_or_mov:
        return instruction.operand("rows") != Immediate(1)
    return instruction.row.name.startswith("red.") and instruction.operand("inner") == Immediate(1)


def _is_read_where_it_lies(row: Row, slot: Slot) -> bool:
    return slot.name == "a" and (row.name == "mm" or row.name.startswith(_ALONG_AN_AXIS))


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
