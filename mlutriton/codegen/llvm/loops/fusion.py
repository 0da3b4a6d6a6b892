"""Element-wise instructions as loops: those over the same elements become one loop with values in vector registers.

A ``Group`` gathers element-wise instructions, and row reductions of what they make, as long as every byte that one of
them writes is touched by the others element for element or not at all; then one pass over the elements is as good as
one after another. A value that is needed only within the group never reaches memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from mlutriton.codegen.llvm.control_flow import Liveness
from mlutriton.codegen.llvm.elements import (
    LANES,
    Lanes,
    apply,
    bits_of,
    kind,
    lanes_below,
    load,
    number_of,
    splat,
    store,
    store_first,
    to_register,
)
from mlutriton.codegen.llvm.emitter import Count, Emitter
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.loans import Loans
from mlutriton.codegen.llvm.loops.pairs import combined_pairs
from mlutriton.codegen.llvm.loops.reductions import RowReduction
from mlutriton.codegen.llvm.loops.repeated_lines import RepeatedLines
from mlutriton.codegen.llvm.loops.steps import COPY, Source, Step
from mlutriton.codegen.llvm.loops.tables import Table
from mlutriton.codegen.llvm.places import Place
from mlutriton.immutables import replace
from mlutriton.isa.operands import Mode

# More elements than any loop has: a line that comes so often is the only one.
_ALWAYS = 1 << 40
# More instructions in one loop only make LLVM slower: registers are long exhausted.
_MAXIMUM_STEPS = 64
# What is lent comes from far away: loops that do more than copy ask for too little of it at a time.
_AHEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ReductionStep:
    """A reduction along the rows of a group's extent.

    Attributes:
        operation: name in :mod:`mlutriton.arithmetic`.
        source: rows x columns elements.
        target: as many elements as rows.
        after: how many steps of the group come before it: a later one may write over the source.
    """

    operation: str
    source: Place
    target: Place
    after: int = 0


@dataclass(slots=True, eq=False)
class Group:
    """Instructions that become one loop nest.

    Attributes:
        rows: extent of the outer loop.
        columns: extent of the inner loop.
        steps: element-wise instructions in order.
        reductions: what is combined along the rows.
        reads: places read.
        writes: places written.
        needed: places that groups behind it read, though instructions of theirs come before its last one.
        end: number of the last instruction.
    """

    rows: Count
    columns: Count
    steps: list[Step] = field(default_factory=list[Step])
    reductions: list[ReductionStep] = field(default_factory=list[ReductionStep])
    reads: list[Place] = field(default_factory=list[Place])
    writes: list[Place] = field(default_factory=list[Place])
    needed: list[Place] = field(default_factory=list[Place])
    end: int = 0

    @property
    def needs_rows(self) -> bool:
        """True unless the elements may be walked through as one long row."""
        return bool(self.reductions) or any(place.mode is not Mode.FULL and not place.lines for place in self.reads)

    @property
    def has_lines(self) -> bool:
        """True if lines are read repeatedly or combined, or tables are read, which only a long row can do."""
        return any(place.lines for place in self.reads) or any(
            step.distance or any(isinstance(source, Table) for source in step.sources) for step in self.steps
        )

    @property
    def fills(self) -> bool:
        """True if all that it does is to write single elements over and over."""
        return not self.reductions and all(
            step.operation == COPY and isinstance(step.sources[0], Lanes) and step.target for step in self.steps
        )

    def lines_of(self, place: Place) -> RepeatedLines:
        """How a place that is not read in full repeats along one long row; the columns are known."""
        assert isinstance(self.columns, int)
        if place.lines:
            return RepeatedLines(*place.lines)
        return RepeatedLines(self.columns, 1) if place.mode is Mode.ROW else RepeatedLines(_ALWAYS, self.columns)

    def is_one_row(self) -> bool:
        """True if one long row is better than many short ones, and every place can be read along it."""
        if not self.needs_rows:
            return True
        if self.reductions or isinstance(self.columns, str) or self.rows == self.columns == 1:
            return False
        repeated = [self.lines_of(place) for place in self.reads if place.mode is not Mode.FULL]
        return (self.columns < LANES or self.has_lines) and all(lines.fills_vectors for lines in repeated)

    def accepts(self, other: Group) -> bool:
        """True if the instructions of ``other`` may join this group, and then sets common extents."""
        if len(self.steps) + len(other.steps) > _MAXIMUM_STEPS or not self._is_independent(other):
            return False
        rows, columns = self.rows, self.columns
        if (rows, columns) != (other.rows, other.columns):
            counts = (rows, columns, other.rows, other.columns)
            if any(isinstance(count, str) for count in counts) or (self.needs_rows and other.needs_rows):
                return False
            if int(rows) * int(columns) != int(other.rows) * int(other.columns):
                return False
            if other.needs_rows:
                rows, columns = other.rows, other.columns
        reductions, reads = [*self.reductions, *other.reductions], [*self.reads, *other.reads]
        steps = [*self.steps, *other.steps]
        if (self.has_lines or other.has_lines) and not Group(rows, columns, steps, reductions, reads).is_one_row():
            return False
        self.rows, self.columns = rows, columns
        return True

    def _is_independent(self, other: Group) -> bool:
        for read in other.reads:
            for written in self.writes:
                if read.may_overlap(written) and not (read.mode is Mode.FULL and _matches(read, written)):
                    return False
        for written in other.writes:
            for read in self.reads:
                in_place = (
                    read.mode is Mode.FULL and read.same_start(written) and written.dtype.bytes <= read.dtype.bytes
                )
                if written.may_overlap(read) and not in_place:
                    return False
            if any(written.may_overlap(earlier) and not _matches(written, earlier) for earlier in self.writes):
                return False
        # Results of reductions are complete only after the loop.
        return not any(
            reduction.target.may_overlap(place)
            for group, rest in ((self, other), (other, self))
            for reduction in group.reductions
            for place in (*rest.reads, *rest.writes, *(each.target for each in rest.reductions))
        )

    def is_apart(self, other: Group) -> bool:
        """True if neither group writes what the other one touches: they may run in any order."""
        return not any(
            written.may_overlap(place)
            for group, rest in ((self, other), (other, self))
            for written in (*group.writes, *(each.target for each in group.reductions))
            for place in (*rest.reads, *rest.writes, *(each.target for each in rest.reductions))
        )

    def touches(self, places: list[Place]) -> bool:
        """True if the group may write something of these places."""
        return any(written.may_overlap(place) for written in self.writes for place in places)

    def join(self, other: Group) -> None:
        """Take over the instructions of an accepted group."""
        self.end = max(self.end, other.end)
        before = len(self.steps)
        self.reductions += [replace(reduction, after=before + reduction.after) for reduction in other.reductions]
        self.steps += other.steps
        self.reads += other.reads
        self.writes += other.writes
        self.needed += other.needed


def _matches(a: Place, b: Place) -> bool:
    return a.same_start(b) and a.dtype.bytes == b.dtype.bytes


# ---- from instructions ----------------------------------------------------------------------------------------------


def group_of(rows: Count, columns: Count, steps: list[Step]) -> Group:
    """A group of one instruction or chain; short rows become a long one, if all that is read can be read along it."""
    if isinstance(rows, int) and isinstance(columns, int) and columns < LANES and rows * columns > 1:
        lines = {Mode.ROW: RepeatedLines(columns, 1), Mode.COLUMN: RepeatedLines(_ALWAYS, columns)}
        along = [_in_lines(step, lines) for step in steps]
        if None not in along:
            rows, columns, steps = 1, rows * columns, [step for step in along if step is not None]
    reads = [source for step in steps for source in step.sources if isinstance(source, Place)]
    writes = [step.target for step in steps if step.target is not None]
    return Group(rows, columns, steps, [], reads, writes)


def _in_lines(step: Step, lines: dict[Mode, RepeatedLines]) -> Step | None:
    """A step whose sources are read in lines rather than in row or column mode, if such lines fill vectors."""
    sources: list[Source] = []
    for source in step.sources:
        if isinstance(source, Place) and not source.lines and source.mode in lines:
            if not lines[source.mode].fills_vectors:
                return None
            source = replace(source, lines=(lines[source.mode].times, lines[source.mode].length))
        sources.append(source)
    return replace(step, sources=tuple(sources))


def reduction_group(frame: Frame) -> Group:
    """A group of the current reduction, whose inner extent is 1."""
    combine, source, target = frame.instruction.row.combine, frame.place("a"), frame.place("dst")
    assert combine is not None
    assert source is not None
    assert target is not None
    return Group(frame.count("outer"), frame.count("n"), [], [ReductionStep(combine.name, source, target)], [source])


# ---- to loops -------------------------------------------------------------------------------------------------------


def emit_group(frame: Frame, group: Group, liveness: Liveness, loans: Loans) -> None:
    """Write the loops of a group as a function, and its call.

    Groups that differ only in what they are handed, where their places begin among it, share a function: such are the
    copies of a pipelined loop's body, and the halves of its chunks.
    """
    stored = [_is_stored(group, number, liveness) for number in range(len(group.steps))]
    if not any(stored) and not group.reductions:
        return
    if group.fills:
        for place in _written(group, stored):
            if loans.concern(place):
                loans.overwrite(place)
        _fill(frame, group, stored)
        return
    inputs = _Inputs(frame.e, loans)
    inside = inputs.within(group)
    shape = _Shape().of(inside, stored, inputs.parameters)
    name = frame.loop_names.get(shape)
    if name is None:
        name = frame.loop_names[shape] = _function(frame, inside, stored, inputs.parameters)
    for place in _written(group, stored):
        if loans.concern(place):
            loans.overwrite(place)
    frame.e.do(f"call void @{name}({', '.join(['ptr %nram', *inputs.arguments])})")


def _written(group: Group, stored: list[bool]) -> list[Place]:
    """What the loops of a group write."""
    steps = [step.target for step, is_stored in zip(group.steps, stored, strict=True) if step.target and is_stored]
    return [*steps, *(each.target for each in group.reductions)]


def _function(frame: Frame, group: Group, stored: list[bool], parameters: list[str]) -> str:
    """The name of a function with the loops of a group, which is given in its names."""
    e = Emitter(frame.loops)
    _Loops(e, frame, group, stored).emit()
    e.do("ret void")
    body = e.function(f"({', '.join(['ptr noalias %nram', *parameters])})")
    return frame.loop_function(frame.loops.shared("loops", "define internal void ", body))


class _Shape:
    """What the loops of a group depend on, so that those of another one like it need not be written to be found.

    Where places begin, and what values are, their function is handed: only which of them are the same counts.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, group: Group, stored: list[bool], parameters: list[str]) -> Hashable:
        """All of it, of a group in the names of its function."""
        steps = [
            (step.operation, step.to, step.distance, *map(self._source, step.sources), self._target(step.target))
            for step in group.steps
        ]
        reductions = [
            (each.operation, each.after, self._place(each.source), self._place(each.target))
            for each in group.reductions
        ]
        touched = [self._place(place) for place in (*group.reads, *group.writes)]
        parts = (stored, parameters, steps, reductions, touched)
        return group.rows, group.columns, len(group.reads), *map(tuple, parts)

    def _source(self, source: Source) -> Hashable:
        if isinstance(source, Place):
            return self._place(source)
        if isinstance(source, Table):
            return source.dtype, source.values.tobytes()
        return source and (self._number(id(source)), source.dtype, source.lanes, source.number, source.bits)

    def _target(self, target: Place | None) -> Hashable:
        return target and self._place(target)

    def _place(self, place: Place) -> Hashable:
        same = self._number((place.base, place.start))
        # In WRAM an address depends on where its window begins.
        window = None if place.buffer.space == "nram" else (place.buffer.name, place.base, place.start)
        return same, place.first, place.mode, place.dtype, place.lines, place.is_lent, place.row_bytes, window

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _fill(frame: Frame, group: Group, stored: list[bool]) -> None:
    """Let the runtime write one element over and over, for which no loop has to be compiled."""
    count = frame.e.multiply(group.rows, group.columns)
    for step, is_stored in zip(group.steps, stored, strict=True):
        value, target = step.sources[0], step.target
        if is_stored:
            assert isinstance(value, Lanes)
            assert target is not None
            arguments = (frame.pointer(target), to_register(frame.e, value), target.dtype.bytes, count)
            frame.call("fill", arguments, pointers=1)


class _Inputs:
    """What the loops of a group need of the program's function: values that exist only there.

    Attributes:
        parameters: their types and names in the function of the loops.
        arguments: their types and names in the program's.
    """

    def __init__(self, outside: Emitter, loans: Loans) -> None:
        self.parameters: list[str] = []
        self.arguments: list[str] = []
        self._outside = outside
        self._loans = loans
        self._sources: dict[tuple[str, int, Count, Count], tuple[str, str]] = {}
        self._columns: Count | None = None
        self._names: dict[str, str] = {}
        self._scalars: dict[int, tuple[Lanes, Lanes]] = {}

    def within(self, group: Group) -> Group:
        """The group in the names of the function of its loops."""
        if group.rows != 1 and not group.is_one_row():
            self._columns = group.columns
        return Group(
            self._count(group.rows),
            self._count(group.columns),
            [
                replace(
                    step,
                    sources=tuple(self._source(source) for source in step.sources),
                    target=step.target and self._place(step.target),
                )
                for step in group.steps
            ],
            [
                replace(each, source=self._read(each.source), target=self._place(each.target))
                for each in group.reductions
            ],
            [self._read(place) for place in group.reads],
            [self._place(place) for place in group.writes],
        )

    def _source(self, source: Source) -> Source:
        if isinstance(source, Place):
            return self._read(source)
        return self._scalar(source) if isinstance(source, Lanes) else source

    def _name(self, kind: str, outside: str) -> str:
        """The parameter that a value becomes; what is no name is known inside too."""
        return self._parameter(kind, outside) if outside.startswith("%") else outside

    def _parameter(self, kind: str, outside: str) -> str:
        if outside not in self._names:
            self._names[outside] = f"%a{len(self._names)}"
            self.parameters.append(f"{kind} {self._names[outside]}")
            self.arguments.append(f"{kind} {outside}")
        return self._names[outside]

    def _count(self, count: Count) -> Count:
        return count if isinstance(count, int) else self._name("i64", count)

    def _place(self, place: Place) -> Place:
        return replace(place, first=self._parameter("i64", str(self._outside.add(place.base or 0, place.start))))

    def _read(self, place: Place) -> Place:
        """A place that is read, where it lies: what is lent lies outside the chip."""
        if not self._loans.concern(place):
            return self._place(place)
        row: Count = 0
        if self._columns is not None and place.mode is Mode.FULL and self._loans.concern_rows(place):
            row = self._outside.multiply(self._columns, place.dtype.bytes)
        key = (place.base, place.start, place.size, row)
        if key not in self._sources:
            self._sources[key] = self._loans.source_rows(place, row, row) if row else (self._loans.source(place), "")
        source, row_bytes = self._sources[key]
        row_bytes = row_bytes and self._parameter("i64", row_bytes)
        return replace(place, first=self._parameter("i64", source), is_lent=True, row_bytes=row_bytes)

    def _scalar(self, value: Lanes) -> Lanes:
        # The value is kept with its counterpart: its identity is what tells it from others.
        if id(value) not in self._scalars:
            number = self._name(kind(value.dtype), number_of(self._outside, value))
            self._scalars[id(value)] = (value, Lanes(value.dtype, value.lanes, number=number))
        return self._scalars[id(value)][1]


def _is_stored(group: Group, number: int, liveness: Liveness) -> bool:
    target = group.steps[number].target
    if target is None or any(
        step.target is not None and _matches(step.target, target) for step in group.steps[number + 1 :]
    ):
        return False
    if any(target.may_overlap(place) for place in group.needed):
        return True
    return liveness.is_live(group.end, target.low, target.high)


PlaceKey = tuple[str, str, str, tuple[int, int] | None]


def _key(place: Place) -> PlaceKey:
    """What tells places of a group apart; quicker to compare than the places."""
    return place.first, place.mode.value, place.dtype.name, place.lines


class _Loops:
    """Writes the loop nest of one group."""

    def __init__(self, e: Emitter, frame: Frame, group: Group, stored: list[bool]) -> None:
        self.e, self.frame, self.group, self.stored = e, frame, group, stored
        self.reductions: list[RowReduction] = []
        self.scalars: dict[int, tuple[Lanes, Lanes]] = {}
        self.pointers: dict[PlaceKey, str] = {}
        self.row_values: dict[PlaceKey, tuple[Lanes, Lanes]] = {}
        self.row_start: Count = 0
        self.is_one_row = False

    def emit(self) -> None:
        e, group = self.e, self.group
        if group.reductions and isinstance(group.columns, str):
            # No elements, no results: not even the identity.
            empty = e.value(f"icmp eq i64 {group.columns}, 0")
            group.rows = e.value(f"select i1 {empty}, i64 0, i64 {group.rows}")
        for step in group.steps:
            for source in step.sources:
                if isinstance(source, Lanes):
                    number_of(e, source)
                    self.scalars[id(source)] = (source, splat(e, source))
        targets = [reduction.target for reduction in group.reductions]
        places = {_key(place): place for place in (*group.reads, *group.writes, *targets)}
        starts = {key: self.frame.pointer(place, e) for key, place in places.items()}
        if group.is_one_row():
            self.pointers, self.is_one_row = starts, True
            self._row(e.multiply(group.rows, group.columns))
            return
        self.reductions = [
            RowReduction(e, each.operation, each.source.dtype, group.rows, group.columns, starts[_key(each.target)])
            for each in group.reductions
        ]
        with e.loop(group.rows, as_written=True) as row:
            index = int(row) if row == "0" else row
            self.row_start = e.multiply(index, group.columns)
            for key, place in places.items():
                width = place.dtype.bytes
                if place.mode is Mode.FULL:
                    before = (
                        e.multiply(index, place.row_bytes) if place.row_bytes else e.multiply(self.row_start, width)
                    )
                    self.pointers[key] = e.pointer(starts[key], before)
                elif place.mode is Mode.COLUMN:
                    self.pointers[key] = starts[key]
                else:
                    value = load(e, e.pointer(starts[key], e.multiply(index, width)), place.dtype, 1)
                    number_of(e, value)
                    self.row_values[key] = (value, splat(e, value))
            for reduction in self.reductions:
                reduction.begin_row()
            self._row(group.columns)
            for reduction in self.reductions:
                reduction.end_row(index)
        for reduction in self.reductions:
            reduction.finish()

    # ---- one row ----------------------------------------------------------------------------------------------------

    def _row(self, columns: Count) -> None:
        """Walk through a row; the last step may have fewer elements than lanes."""
        e = self.e
        if columns == 1 and not self.reductions:
            self._body(0, 1, "")
            return
        whole: Count = columns // LANES * LANES if isinstance(columns, int) else e.value(f"and i64 {columns}, {-LANES}")
        if whole != 0:
            with e.loop(whole, step=LANES, as_written=True) as column:
                self._body(int(column) if column == "0" else column, LANES, "")
        left = e.subtract(columns, whole)
        if isinstance(left, str):
            with e.when(e.value(f"icmp sgt i64 {left}, 0")):
                self._body(whole, LANES, lanes_below(e, left))
        elif left:
            self._body(whole, LANES, _first_lanes(left))

    def _body(self, column: Count, lanes: int, mask: str) -> None:
        """Compute the elements from ``column`` on; where ``mask`` is not empty, only its lanes count."""
        e = self.e
        values: dict[tuple[str, int, int], Lanes] = {}

        def read(place: Place) -> Lanes:
            if place.mode is not Mode.FULL and self.is_one_row:
                return self.group.lines_of(place).read(e, self.pointers[_key(place)], place.dtype, column)
            if place.mode is Mode.ROW:
                return _copy(self.row_values[_key(place)][lanes > 1])
            key = (place.base, place.start, place.dtype.bytes)
            if place.mode is Mode.COLUMN or key not in values:
                pointer = e.pointer(self.pointers[_key(place)], e.multiply(column, place.dtype.bytes))
                if place.is_lent and not mask:
                    e.prefetch_line(e.pointer(pointer, self._ahead(place)))
                value = load(e, pointer, place.dtype, lanes)
                if place.mode is Mode.COLUMN:
                    return value
                values[key] = value
            value = values[key]
            return value if value.dtype is place.dtype else Lanes(place.dtype, lanes, bits=bits_of(e, value))

        def reduce(steps_before: int) -> None:
            for step, reduction in zip(self.group.reductions, self.reductions, strict=True):
                if step.after == steps_before:
                    reduction.add(read(step.source), mask)

        handed_on: Lanes | None = None
        for number, step in enumerate(self.group.steps):
            reduce(number)
            operands: list[Lanes] = []
            for source in step.sources:
                if isinstance(source, Place):
                    operands.append(read(source))
                elif isinstance(source, Lanes):
                    operands.append(_copy(self.scalars[id(source)][lanes > 1]))
                elif isinstance(source, Table):
                    operands.append(source.of(column, e))
                else:
                    assert handed_on is not None
                    operands.append(handed_on)
            match step.operation:
                case operation if step.distance:
                    source = step.sources[0]
                    assert isinstance(source, Place)
                    start = self.pointers[_key(source)]
                    result = combined_pairs(e, operation, operands[0], step.distance, column, start)
                case "":
                    result = operands[0]
                case "iota":
                    result = self._iota(operands, e.add(self.row_start, column))
                case operation:
                    result = apply(e, operation, operands, step.to)
            if step.target is None:
                handed_on = result
                continue
            target = step.target
            values[target.base, target.start, target.dtype.bytes] = result
            if self.stored[number]:
                pointer = e.pointer(self.pointers[_key(target)], e.multiply(column, target.dtype.bytes))
                if mask:
                    store_first(e, result, pointer, mask)
                else:
                    store(e, result, pointer)
        reduce(len(self.group.steps))

    def _ahead(self, place: Place) -> Count:
        """How far behind an element is what is read so many bytes later: rows may stand apart."""
        columns = self.group.columns
        if not place.row_bytes or isinstance(columns, str):
            return _AHEAD_BYTES
        rows = _AHEAD_BYTES // (columns * place.dtype.bytes)
        return self.e.multiply(rows, place.row_bytes) if rows else _AHEAD_BYTES

    def _iota(self, operands: list[Lanes], first: Count) -> Lanes:
        """``start + k * step`` for the elements k from ``first`` on."""
        e, (start, step) = self.e, operands
        dtype, lanes = start.dtype, start.lanes
        number = (
            str(first) if isinstance(first, int) or dtype.bits == 64 else e.value(f"trunc i64 {first} to {kind(dtype)}")
        )
        index = Lanes(dtype, 1, number=str(int(number) % (1 << dtype.bits)) if isinstance(first, int) else number)
        if lanes > 1:
            index = splat(e, index)
            places = ", ".join(f"{kind(dtype)} {lane}" for lane in range(lanes))
            index = apply(e, "add", [index, Lanes(dtype, lanes, number=f"<{places}>")])
        return apply(e, "add", [start, apply(e, "mul", [index, step])])


def _copy(value: Lanes) -> Lanes:
    """A value whose forms made later, in a loop, are not taken for ones that exist after it."""
    return Lanes(value.dtype, value.lanes, number=value.number)


def _first_lanes(count: int) -> str:
    return f"<{', '.join(f'i1 {int(lane < count)}' for lane in range(LANES))}>"
