"""What NRAM holds where a program computes it of nothing but constants: masks of a pattern, numbers of elements.

Loops take such values as constants, so that no loop that makes them anew in the same bytes has to come after.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.codegen.llvm.elements import LANES, Lanes, constant
from mlutriton.codegen.llvm.emitter import Count
from mlutriton.codegen.llvm.loops.steps import COPY, IOTA, Source, Step
from mlutriton.codegen.llvm.loops.tables import Table
from mlutriton.codegen.llvm.places import Place
from mlutriton.dtypes import DType
from mlutriton.immutables import replace
from mlutriton.isa.legality import static_span
from mlutriton.isa.operands import Address, Immediate, Mode
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import Access

# Elements after which values repeat, at most: more take LLVM longer than they are worth.
_LONGEST_PERIOD = 4096


@dataclass(frozen=True, eq=False)
class _Known:
    """A table that lies in memory, from byte ``start`` up to ``end``."""

    start: int
    end: int
    table: Table

    def read(self, place: Place, lines: tuple[int, int], elements: int) -> Table | None:
        """What a row reads that takes lines of it repeatedly; None if not all of it is known, or it is too long."""
        (times, length), period = lines, len(self.table.values)
        wanted = -(-elements // (times * length)) * length
        is_known = place.start == self.start and place.start + wanted * place.dtype.bytes <= self.end
        if place.base or place.dtype is not self.table.dtype or not is_known:
            return None
        if times == 1:
            return self.table
        # Where both lines and values begin anew, if there is more than one line.
        together = length if wanted == length else times * (period * length // gcd(period, length))
        if min(elements, together) > _LONGEST_PERIOD:
            return None
        index = np.arange(min(elements, together))
        index = index // (times * length) * length + index % length
        return _table(self.table.dtype, self.table.values[index % period], elements)


def _table(dtype: DType, values: NDArray[Any], elements: int) -> Table | None:
    """The table of some values, in its shortest period; None if vectors of it do not begin at the same places."""
    while len(values) % 2 == 0 and (values[: len(values) // 2] == values[len(values) // 2 :]).all():
        values = values[: len(values) // 2]
    period = len(values)
    if elements <= LANES or LANES % period == 0 or period % LANES == 0:
        return Table(dtype, values)
    return None


class KnownValues:
    """The values that are known at a place of a program."""

    def __init__(self, program: Program) -> None:
        self._always = _always_known(program)
        self._known = dict(self._always)

    def begin_block(self) -> None:
        """Forget what is known only along the way that led here."""
        self._known = dict(self._always)

    def forget(self, place: Place) -> None:
        """Something is written."""
        if place.buffer.space == "nram":
            self._known = {k: v for k, v in self._known.items() if v.end <= place.low or place.high <= v.start}

    def remember(self, place: Place, table: Table) -> None:
        """A table has been written."""
        if not place.base and place.buffer.space == "nram":
            self._known[place.start] = _Known(place.start, place.high, table)

    def within(self, rows: Count, columns: Count, steps: list[Step]) -> tuple[list[Step], list[tuple[Place, Table]]]:
        """The steps of a loop with tables among their sources, and what they write that is known.

        There are none unless all can be read along one long row.
        """
        if isinstance(rows, str) or isinstance(columns, str) or rows * columns <= 1:
            return steps, []
        elements = rows * columns
        modes = {Mode.FULL: (1, elements), Mode.ROW: (columns, 1), Mode.COLUMN: (elements, columns)}
        substituted: list[Step] = []
        learnt: list[tuple[Place, Table]] = []
        handed_on: Table | None = None
        for step in steps:
            if not step.distance:
                sources = tuple(self._or_table(source, modes, elements) for source in step.sources)
                step = replace(step, sources=sources)
            substituted.append(step)
            known = [handed_on if source is None else source for source in step.sources]
            handed_on = None if step.distance else _result(step, known, elements)
            if handed_on is not None and step.target is not None:
                learnt.append((step.target, handed_on))
        left = [source for step in substituted for source in step.sources if isinstance(source, Place)]
        if any(place.mode is not Mode.FULL and not place.lines for place in left):
            return steps, learnt
        return substituted, learnt

    def _or_table(self, source: Source, modes: dict[Mode, tuple[int, int]], elements: int) -> Source:
        """What a source is known to hold, or else the source."""
        if not isinstance(source, Place) or source.buffer.space != "nram" or source.start not in self._known:
            return source
        return self._known[source.start].read(source, source.lines or modes[source.mode], elements) or source


def _result(step: Step, sources: list[Source], elements: int) -> Table | None:
    """What a step makes of integers that are known."""
    operands: list[Any] = []
    dtype, period = None, 1
    for source in sources:
        if isinstance(source, Table):
            dtype = source.dtype
            period = period * len(source.values) // gcd(period, len(source.values))
        elif isinstance(source, Lanes) and source.number and not source.number.startswith("%"):
            dtype = source.dtype
        else:
            return None
        if not dtype.is_int and not dtype.is_bool:
            return None
    if (
        dtype is None
        or min(period, elements) > _LONGEST_PERIOD
        or (step.to and not (step.to.is_int or step.to.is_bool))
    ):
        return None
    for source in sources:
        values = source.values if isinstance(source, Table) else _number(source)
        operands.append(np.resize(values, min(period, elements)))
    if step.operation == IOTA:
        start, distance = (int(each[0]) for each in operands)
        if elements > _LONGEST_PERIOD:
            return None
        numbers = start + distance * np.arange(elements, dtype=np.int64)
        return _table(dtype, numbers.astype(dtype.numpy), elements)
    if step.operation == COPY:
        return _table(dtype, operands[0], elements)
    values = evaluate(step.operation, *operands, dtype=dtype, to=step.to)
    return _table(OPERATIONS[step.operation].result_type(dtype, step.to), values, elements)


def _number(source: Source) -> NDArray[Any]:
    """An immediate as an array."""
    assert isinstance(source, Lanes)
    return np.array([int(source.number)]).astype(f"u{source.dtype.bytes}").view(source.dtype.numpy)


# The instruction whose results are known where its operands are immediates.
_NUMBERED = "v.iota"


def _always_known(program: Program) -> dict[int, _Known]:
    """Numbers that are written once and never written over."""
    if not any(each.row.name == _NUMBERED for each in program.instructions):
        return {}
    written: list[tuple[int, int]] = []
    found: list[_Known] = []
    for instruction in program.instructions:
        for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
            if not isinstance(operand, Address) or slot.access not in (Access.WRITE, Access.READ_WRITE):
                continue
            buffer = program.buffers[operand.buffer]
            if buffer.space != "nram":
                continue
            start, end = buffer.offset_bytes, buffer.offset_bytes + buffer.bytes
            elements = static_span(instruction, slot) if operand.register is None else None
            if elements is not None:
                start += operand.offset_bytes
                end = start + elements * instruction.dtype_of(slot).bytes
            written.append((start, end))
            table = _numbers(instruction, elements) if elements else None
            if table is not None:
                found.append(_Known(start, end, table))
    return {
        known.start: known
        for known in found
        if sum(start < known.end and known.start < end for start, end in written) == 1
    }


def _numbers(instruction: Instruction, elements: int) -> Table | None:
    """What ``v.iota`` of immediates writes."""
    if instruction.row.name != _NUMBERED:
        return None
    dtype, operands = instruction.dtypes[0], [instruction.operand(name) for name in ("start", "step")]
    lanes = [constant(each.value, dtype) for each in operands if isinstance(each, Immediate)]
    return _result(Step(IOTA, None, (), None), [*lanes], elements) if len(lanes) == len(operands) else None
