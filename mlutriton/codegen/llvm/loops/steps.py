"""Element-wise instructions as steps of loops: what they read, what they make of it, and where that goes."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.codegen.llvm.control_flow import Liveness
from mlutriton.codegen.llvm.elements import LANES, Lanes
from mlutriton.codegen.llvm.emitter import Count
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.loops.repeated_lines import RepeatedLines
from mlutriton.codegen.llvm.loops.tables import Table
from mlutriton.codegen.llvm.places import Place
from mlutriton.dtypes import DType
from mlutriton.immutables import replace
from mlutriton.isa.operands import FORWARD, Address, Forward, Immediate, Mode, Operand
from mlutriton.isa.program import Buffer, Instruction
from mlutriton.isa.table import Access, SlotKind

COPY, IOTA = "", "iota"
Source = Place | Lanes | Table | None
_PAIR = 2
# Instructions that wait for the one before let so many others go first, and some more.
_FARTHEST_READER = 16
_OTHER_STEPS = ("v.mov", "v.iota", "v.repeat")


@dataclass(frozen=True, slots=True)
class Step:
    """One element-wise instruction of a group.

    Attributes:
        operation: name in :mod:`mlutriton.arithmetic`, ``COPY``, or ``IOTA`` of a start and a step.
        to: destination type of a cast.
        sources: a place, what it is known to hold, a scalar, or None for the value that the step before hands on.
        target: None if the value is handed on.
        distance: if not 0, the operation combines each element of the source with the one so far from it.
    """

    operation: str
    to: DType | None
    sources: tuple[Source, ...]
    target: Place | None
    distance: int = 0


def elementwise_step(frame: Frame, pairs: Operand | None = None) -> tuple[Count, Count, Step]:
    """The current element-wise instruction (or ``v.mov``) with its extents.

    Args:
        frame: where it stands.
        pairs: the operand whose value the step before hands on, as ``~`` does.
    """
    instruction = frame.instruction
    rows, columns = frame.count("rows"), frame.count("columns")
    modes = {mode: mode for mode in Mode}
    if columns == 1:
        # A column is as good as a row, and its inner loop is long.
        rows, columns = 1, rows
        modes[Mode.ROW], modes[Mode.COLUMN] = Mode.FULL, Mode.ROW
    elif rows == 1:
        modes[Mode.COLUMN] = Mode.FULL
    sources: list[Source] = []
    for slot in instruction.row.slots:
        if slot.kind is SlotKind.VECTOR:
            place = frame.place(slot.name)
            if pairs is not None and frame.operand(slot.name) == pairs:
                sources.append(None)
            elif place is not None:
                sources.append(place if modes[place.mode] is place.mode else replace(place, mode=modes[place.mode]))
            elif isinstance(frame.operand(slot.name), Forward):
                sources.append(None)
            else:
                sources.append(frame.scalar(slot.name))
    operation = instruction.row.operation
    to = instruction.dtypes[1] if operation is not None and operation.is_cast else None
    return rows, columns, Step(operation.name if operation else "", to, tuple(sources), frame.place("dst"))


def iota_step(frame: Frame) -> Step:
    """The current ``v.iota`` as a step over one row."""
    return Step(IOTA, None, (frame.scalar("start"), frame.scalar("step")), frame.place("dst"))


def repeat_step(frame: Frame) -> tuple[Count, Count, Step] | None:
    """The current ``v.repeat`` as a copy, if it repeats single elements, a single line, or lines that fill vectors."""
    source, target = frame.place("a"), frame.place("dst")
    assert source is not None
    outer, n, inner = (frame.count(name) for name in ("outer", "n", "inner"))
    if inner == 1:
        return outer, n, Step(COPY, None, (replace(source, mode=Mode.ROW),), target)
    if outer == 1:
        return n, inner, Step(COPY, None, (replace(source, mode=Mode.COLUMN),), target)
    if isinstance(outer, str) or isinstance(n, str) or isinstance(inner, str) or 0 in (outer, n, inner):
        return None
    if not RepeatedLines(n, inner).fills_vectors:
        return None
    return 1, outer * n * inner, Step(COPY, None, (replace(source, mode=Mode.ROW, lines=(n, inner)),), target)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A reduction of lines by twos whose results only one later instruction reads, which repeats them.

    Attributes:
        step: hands the results on.
        pairs: where they would be in memory.
        reader: number of the instruction that reads them.
    """

    step: Step
    pairs: Address
    reader: int


def exchange(frame: Frame, liveness: Liveness, end: int) -> Exchange | None:
    """The current reduction as a step that hands on, if it combines lines by twos only for a later one to repeat them.

    So do exchanges of elements that stand some distance apart, which sorting is made of.

    Args:
        frame: where the reduction stands.
        liveness: what is read later.
        end: the number at which its block ends.
    """
    combine, source, target = frame.instruction.row.combine, frame.place("a"), frame.place("dst")
    outer, n, inner = (frame.count(name) for name in ("outer", "n", "inner"))
    if combine is None or n != _PAIR or isinstance(outer, str) or isinstance(inner, str) or outer * inner == 0:
        return None
    assert source is not None
    assert target is not None
    pairs, elements = frame.operand("dst"), outer * _PAIR * inner
    if source.dtype.is_bool or elements % LANES or not RepeatedLines(_PAIR, inner).fills_vectors:
        return None
    reader = _reader(frame, source, target, end, (outer, inner))
    if reader is None or liveness.is_live(reader, target.low, target.high):
        return None
    if not _leaves(frame, frame.program.instructions[reader], source, in_step=inner < LANES):
        return None
    if inner >= LANES:
        # Partners are in other vectors, so that none of them may be written before it is read.
        source = replace(source, mode=Mode.ROW, lines=(1, elements))
    assert isinstance(pairs, Address)
    return Exchange(Step(combine.name, None, (source,), None, inner), pairs, reader)


def _reader(frame: Frame, source: Place, target: Place, end: int, extents: tuple[int, int]) -> int | None:
    """The number of the instruction that repeats results, if those before it have nothing to do with them."""
    instructions = frame.program.instructions
    for number in range(frame.index + 1, min(end, frame.index + _FARTHEST_READER)):
        instruction = instructions[number]
        if _repeats(instruction, frame.operand("dst"), *extents):
            # One value is handed on at a time.
            return None if FORWARD in instruction.operands[1:] else number
        if instruction.row.operation is None and instruction.row.name not in _OTHER_STEPS:
            return None
        for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
            if isinstance(operand, Address):
                window = frame.program.buffers[operand.buffer]
                touched = [target] if slot.access is Access.READ else [source, target]
                if any(_is_in_window(place, window) for place in touched):
                    return None
    return None


def _is_in_window(place: Place, window: Buffer) -> bool:
    return window.offset_bytes < place.high and place.low < window.offset_bytes + window.bytes


def _repeats(instruction: Instruction, pairs: Operand, outer: int, inner: int) -> bool:
    """True if an instruction reads what has been combined in the place of both lines of each pair, and nowhere else."""
    if not isinstance(pairs, Address) or pairs.register is not None:
        return False
    if instruction.row.name == "v.repeat":
        counts = [instruction.operand(name) for name in ("outer", "n", "inner")]
        return instruction.operand("a") == pairs and counts == [Immediate(each) for each in (outer, _PAIR, inner)]
    if inner != 1 or not instruction.row.is_elementwise:
        return False
    counts = [instruction.operand(name) for name in ("rows", "columns")]
    return (
        counts == [Immediate(outer), Immediate(_PAIR)]
        and instruction.operands.count(replace(pairs, mode=Mode.ROW)) == 1
    )


def _leaves(frame: Frame, instruction: Instruction, source: Place, *, in_step: bool) -> bool:
    """True if an instruction writes nothing of a source, or its elements one for one where that is allowed."""
    target = instruction.operand("dst")
    if not isinstance(target, Address):
        return False
    buffer = frame.program.buffers[target.buffer]
    start = buffer.offset_bytes + target.offset_bytes
    if not _is_in_window(source, buffer):
        return True
    width = instruction.dtype_of(instruction.row.slot("dst")).bytes
    is_same = target.register is None and not source.base and start == source.start
    return in_step and is_same and width <= source.dtype.bytes
