"""Weights that the cores of a cluster have in common.

The cores of a cluster load weights together, into SRAM, and each moves all of them to its own WRAM. On a host these are
as many copies of the same numbers: more than the cache of a processor holds, so that a product waits for its weights.

Here the cluster has a few slots for weights, and each core a table of loans (:mod:`mlutriton.codegen.llvm.loans`) that
tells which parts of its WRAM lie in one of them. What a core moves is written to a slot that no table names. If a slot
holds what was moved from the same place in the same way, and nothing has been written to that place since, the core
only notes so. Whatever else touches WRAM goes by the table too. So each product finds the weights that it would find if
every core had a copy; where no slot is free, it has one.
"""

from __future__ import annotations

from functools import reduce

from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.loans import IN_ONE_PIECE
from mlutriton.codegen.llvm.places import Place
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    LOANS_BYTES,
    NOTED_WEIGHTS_BYTES,
    Context,
    common_weights_bytes,
    common_weights_offset,
)
from mlutriton.isa.operands import Address
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import Access

# Enough for two products in a loop, with weights of this iteration, of the next one, and of the one that is over.
_SLOTS = 8
# Words that tell of the weights in a slot: the bytes of SRAM that they were moved from, and how. An end at 0: nothing.
_LOW, _HIGH, *_HOW = range(_WORDS := 7)
# Before the slots stand these words, and the tables of the cores.
_TABLES = 8 * _WORDS * _SLOTS
assert max(_TABLES, LOANS_BYTES) <= NOTED_WEIGHTS_BYTES
_LINE_BYTES = 64
_POOL = "ptr %pool, ptr %wram, i64 %member, i64 %members, i64 %slot_bytes"


# ---- the runtime's part ---------------------------------------------------------------------------------------------


def common_weights(library: Library) -> str:
    """``common_weights(pool, wram, member, members, slot_bytes, low, high, source_low, source_high, ...)``.

    Where a core shall write the weights that it moves to the bytes from ``low`` to ``high`` of its WRAM; ``null``, if
    they are there. Behind the bytes of SRAM where they lie stand the numbers that tell how they are read there.
    """
    e = Emitter(library)
    wanted = ["%source_low", "%source_high", *(f"%how{number}" for number, _ in enumerate(_HOW))]

    def table(member: str) -> str:
        return e.pointer("%pool", e.add(_TABLES, e.multiply(member, LOANS_BYTES)))

    def slot(number: str) -> str:
        first = e.pointer("%pool", e.add(_TABLES, e.multiply("%members", LOANS_BYTES)))
        return e.pointer(first, e.value(f"mul i64 {number}, %slot_bytes"))

    def note(number: str) -> None:
        address = e.value(f"ptrtoint ptr {slot(number)} to i64")
        e.do(f"call void @lend(ptr %wram, ptr {own}, i64 %low, i64 %high, i64 {address}, {IN_ONE_PIECE})")

    own = table("%member")
    e.do(f"call void @overwrite(ptr %wram, ptr {own}, i64 %low, i64 %high)")
    with e.loop(_SLOTS) as number:
        known = [e.load64(_word(e, number, column)) for column in range(_WORDS)]
        is_same = [e.value(f"icmp eq i64 {a}, {b}") for a, b in zip(known, wanted, strict=True)]
        with e.when(reduce(lambda a, b: e.value(f"and i1 {a}, {b}"), is_same)):
            note(number)
            e.leave("ptr null")
    with e.when(e.value(f"icmp sle i64 {e.subtract('%high', '%low')}, %slot_bytes")), e.loop(_SLOTS) as number:
        start = e.value(f"ptrtoint ptr {slot(number)} to i64")
        end = e.value(f"add i64 {start}, %slot_bytes")
        is_free = e.variable("i1")
        e.do(f"store i1 true, ptr {is_free}")
        with e.loop("%members") as other:
            names = e.value(f"call i1 @lends(ptr {table(other)}, i64 {start}, i64 {end})")
            with e.when(names):
                e.do(f"store i1 false, ptr {is_free}")
        with e.when(e.value(f"load i1, ptr {is_free}")):
            for column, value in enumerate(wanted):
                e.store64(value, _word(e, number, column))
            note(number)
            e.leave(f"ptr {slot(number)}")
    e.do(f"ret ptr {e.pointer('%wram', '%low')}")
    numbers = ", ".join(f"i64 {each}" for each in ("%low", "%high", *wanted))
    return e.function(f"define ptr @common_weights({_POOL}, {numbers})")


def forget_weights(library: Library) -> str:
    """``forget_weights(pool, low, high)``: bytes of SRAM are written, from which weights may have been moved."""
    e = Emitter(library)
    with e.loop(_SLOTS) as number:
        high = _word(e, number, _HIGH)
        reaches = e.value(f"icmp sgt i64 {e.load64(high)}, %low")
        begins = e.value(f"icmp slt i64 {e.load64(_word(e, number, _LOW))}, %high")
        with e.when(e.value(f"and i1 {reaches}, {begins}")):
            e.store64(0, high)
    e.do("ret void")
    return e.function("define void @forget_weights(ptr %pool, i64 %low, i64 %high)")


def _word(e: Emitter, slot: str, word: int) -> str:
    return e.pointer("%pool", e.add(e.multiply(slot, 8 * _WORDS), 8 * word))


# ---- the program's part ---------------------------------------------------------------------------------------------


def has_common_weights(program: Program) -> bool:
    """Whether the cores of a cluster move weights from where all of them can read them."""
    return program.cores_per_program > 1 and any(_is_from_sram(each, program) for each in program.instructions)


def forget_all(e: Emitter, sram: str, program: Program, machine: Machine) -> None:
    """Nothing is in the slots, and everything in WRAM: how a task begins."""
    clear = e.library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
    pool = e.pointer(sram, common_weights_offset(machine))
    e.do(f"call void @{clear}(ptr {pool}, i8 0, i64 {_noted_bytes(program)}, i1 false)")


class CommonWeights:
    """What a program does about them; nothing, unless ``is_used``."""

    def __init__(self, frame: Frame, machine: Machine, *, with_values: bool) -> None:
        self._frame = frame
        self.is_used = with_values and has_common_weights(frame.program)
        self._offset = common_weights_offset(machine)
        self._slot_bytes = _slot_bytes(frame.program, machine) if self.is_used else 0

    def place(self, target: Place, source: Place, how: tuple[Count, ...]) -> str:
        """Where to write what is moved to a place in WRAM; ``null`` if it is there.

        Args:
            target: of the weights.
            source: of them, in SRAM, where all cores find the same.
            how: numbers that tell how they are read.
        """
        frame, e = self._frame, self._frame.e
        low, high = _image(frame, target)
        first = e.add(source.base or 0, source.start)
        numbers = (*self._member(), self._slot_bytes, low, high, first, e.add(first, source.size), *how)
        return frame.call("common_weights", (self._pool(), "%wram", *numbers), result="ptr", pointers=2)

    def pointer(self, place: Place) -> str:
        """The host address at which all weights of a place can be read."""
        return self._frame.e.pointer("%wram", self._at_table("source", place, result="i64"))

    def settle(self) -> None:
        """Have copied what the current instruction writes beside; forget what it writes over in SRAM."""
        if not self.is_used:
            return
        frame, e = self._frame, self._frame.e
        for slot in frame.instruction.row.slots:
            place = frame.place(slot.name)
            if place is None or slot.access is not Access.WRITE:
                continue
            if place.buffer.space == "sram":
                first = e.add(place.base or 0, place.start)
                frame.call("forget_weights", (self._pool(), first, e.add(first, place.size)), pointers=1)
            elif place.buffer.space == "wram" and not _is_from_sram(frame.instruction, frame.program):
                self._at_table("settle", place)

    def _pool(self) -> str:
        return self._frame.e.pointer("%sram", self._offset)

    def _member(self) -> tuple[str, int]:
        e = self._frame.e
        return e.load64(e.word(Context.MEMBER)), self._frame.program.cores_per_program

    def _at_table(self, name: str, place: Place, result: str = "void") -> str:
        frame, e = self._frame, self._frame.e
        table = e.pointer(self._pool(), e.add(_TABLES, e.multiply(self._member()[0], LOANS_BYTES)))
        return frame.call(name, ("%wram", table, *_image(frame, place)), result=result, pointers=2)


def _is_from_sram(instruction: Instruction, program: Program) -> bool:
    if instruction.row.name != "move.weight":
        return False
    source = instruction.operand("src")
    return isinstance(source, Address) and program.buffers[source.buffer].space == "sram"


def _slot_bytes(program: Program, machine: Machine) -> int:
    """Bytes of a slot: as many as any weights take, or what there is room for."""
    needed = 0
    for each in program.instructions:
        if _is_from_sram(each, program):
            target = each.operand("dst")
            assert isinstance(target, Address)
            needed = max(needed, program.buffers[target.buffer].bytes // each.dtypes[0].bytes * 4)
    return min(needed, (common_weights_bytes(machine) - _noted_bytes(program)) // _SLOTS) & -_LINE_BYTES


def _noted_bytes(program: Program) -> int:
    """What stands before the slots."""
    return _TABLES + program.cores_per_program * LOANS_BYTES


def _image(frame: Frame, place: Place) -> tuple[Count, Count]:
    """The first byte of a place of WRAM in the host's image, and the byte after the last one."""
    first, e = frame.image_offset(place), frame.e
    width = place.dtype.bytes
    size = place.size // width if isinstance(place.size, int) else e.value(f"sdiv i64 {place.size}, {width}")
    return first, e.add(first, e.multiply(size, 4))
