"""Element-wise instructions as steps of loops: what they read, what they make of it, and where that goes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlutriton.codegen.llvm.control_flow import Liveness
from mlutriton.codegen.llvm.elements import LANES, Lanes
from mlutriton.codegen.llvm.frame import Count, Frame, Place
from mlutriton.codegen.llvm.repeated_lines import RepeatedLines
from mlutriton.codegen.llvm.tables import Table
from mlutriton.dtypes import DType
from mlutriton.isa.operands import Address, Forward, Immediate, Mode, Operand
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SlotKind

COPY, IOTA = "", "iota"
Source = Place | Lanes | Table | None
_PAIR = 2


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


def pair_step(frame: Frame, liveness: Liveness) -> Step | None:
    """The current reduction as a step that hands on, if it combines lines by twos only for the next to repeat them.

    So do exchanges of elements that stand some distance apart, which sorting is made of.
    """
    combine, source, target = frame.instruction.row.combine, frame.place("a"), frame.place("dst")
    outer, n, inner = (frame.count(name) for name in ("outer", "n", "inner"))
    if combine is None or n != _PAIR or isinstance(outer, str) or isinstance(inner, str) or outer * inner == 0:
        return None
    assert source is not None
    assert target is not None
    elements = outer * _PAIR * inner
    if source.dtype.is_bool or elements % LANES or not RepeatedLines(_PAIR, inner).fills_vectors:
        return None
    following = frame.program.instructions[frame.index + 1]
    if not _repeats(following, frame.operand("dst"), outer, inner) or liveness.is_live(
        frame.index + 1, target.low, target.high
    ):
        return None
    if not _leaves(frame, following, source, in_step=inner < LANES):
        return None
    if inner >= LANES:
        # Partners are in other vectors, so that none of them may be written before it is read.
        source = replace(source, mode=Mode.ROW, lines=(1, elements))
    return Step(combine.name, None, (source,), None, inner)


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
    if buffer.offset_bytes >= source.high or source.low >= buffer.offset_bytes + buffer.bytes:
        return True
    width = instruction.dtype_of(instruction.row.slot("dst")).bytes
    is_same = target.register is None and not source.base and start == source.start
    return in_step and is_same and width <= source.dtype.bytes
