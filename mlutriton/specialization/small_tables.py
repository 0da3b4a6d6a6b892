"""A version of a kernel for launches in which what is looked up element by element stands in little memory.

A code book, the bounds of buckets, a small image: what a kernel looks up there by an index from memory is moved item by
item, at many cycles each. Where the whole array fits in a part of the NRAM, a core loads it once, for all of its
programs, and looks up on chip. Where the indices of a program are known to be near each other, as those of the columns
that a row of an enlarged image is made from, or of the neighbours that a filter finds by digits of flat positions, each
program loads what is between the least and the greatest.

Where digits make up a position again, what neighbours look up lies side by side, and is a tile in a version of its own
(:mod:`mlutriton.specialization.flat_rows`).

How long arrays are and where they begin, launches know. An index outside of such an array misses all memory that the
kernel may touch, but for arrays beside it; ``look_up`` has its fault.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlutriton.codegen.estimate import estimated, item_count
from mlutriton.compilation import Compilation, CompileOptions
from mlutriton.dtypes import I64, DType
from mlutriton.ir.analysis.aliasing import Aliasing
from mlutriton.ir.analysis.digit_spans import DigitSpans, first_element
from mlutriton.ir.analysis.greatest import greatest
from mlutriton.ir.analysis.intervals import Intervals
from mlutriton.ir.analysis.launch_facts import Fact, Holds, condition_function, with_arrays_apart
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import AddPtr, ArraysDisjoint, GatherLoad, LookUp, pointee
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, NumPrograms, Reshape, Splat, Window
from mlutriton.ir.passes import dce
from mlutriton.ir.types import element_type, shape_of, with_shape
from mlutriton.isa.machine import Machine
from mlutriton.placement import version_of
from mlutriton.specialization.candidates import Alone, Candidate, Version
from mlutriton.specialization.flat_rows import Row, count_of, load_rows, reached_bytes, rows_in, rows_of, tile_of

# Tables take up to this part of the NRAM, all together.
_SHARE = 8
# Windows have up to so many times as many elements as are looked up in them, of which there have to be so many.
_LONGER, _LEAST_ITEMS = 4, 64
# Those of digits of positions up to so many times as many, where they take up to this part of the NRAM.
_MUCH_LONGER, _LARGER_SHARE = 16, 4


def candidate(_: Function, options: CompileOptions) -> Candidate | None:
    """A version that looks up on chip; None if that takes no less on a machine."""
    is_of_use = options.machine.gather_local_item_cycles < options.machine.gather_item_cycles
    return _versions if is_of_use else None


def _versions(alone: Alone, compilation: Compilation) -> Sequence[Version]:
    """The programs that look up on chip, and when each is to run; none if there is nothing that may be looked up there.

    Args:
        alone: the function whose memory accesses are known.
        compilation: for which it is.
    """
    found = _tables(alone.function)
    has_rows = bool(rows_in(alone.function, found))
    made = [_version(alone, compilation, with_rows=each) for each in (True, False) if found and (has_rows or not each)]
    return [each for each in made if each is not None]


def _version(alone: Alone, compilation: Compilation, *, with_rows: bool) -> Version | None:
    """A program that looks up on chip, and when it is to run; None if it does not fit.

    Args:
        alone: the function whose memory accesses are known.
        compilation: for which it is.
        with_rows: whether what lies side by side is a tile.
    """
    function, machine = alone.function, compilation.machine
    made = with_arrays_apart(function)
    found = _tables(made)
    rows = rows_in(made, found) if with_rows else {}
    found = _others(found, rows)
    capacity_bytes = _capacity_bytes(found, machine)
    code = Scalars(made.location)
    tables: dict[Value, _Table | _Windows | _Nearby] = {}
    intervals, spans = Intervals(made, code), DigitSpans(made, code)
    for argument, loads in found.items():
        if (count := _counted(loads, machine)) is not None:
            tables[argument] = _numbered(code, argument, count)
        elif (span := _span(loads, intervals)) is not None:
            tables[argument] = _Windows(argument, *span, count_of(code, argument))
        elif found_near := _nearby(loads, spans, capacity_bytes * _SHARE // _LARGER_SHARE):
            count = count_of(code, argument)
            windows = [(each, _Windows(argument, each.low, each.high, each.extent, count)) for each in found_near]
            tables[argument] = _Nearby({load: window for each, window in windows for load in each.loads})
        else:
            tables[argument] = _whole(code, argument, capacity_bytes)
    arguments = dict.fromkeys(each.argument for each in rows.values())
    load_rows(made.body, rows, {each: count_of(code, each) for each in arguments})
    _rewrite(made.body, tables)
    # Without what is loaded once for all programs of a task.
    cycles = estimated(made, machine).cycles
    made.body.operations[:0] = code.operations
    dce.run(made)
    compilation.options.verify(made, "small_tables")
    compilation.observe("small_tables", made)
    program = version_of(made, compilation)
    if program is None:
        return None
    condition = _condition(function, machine, with_rows=with_rows, is_resident=program.is_resident)
    return Version(program, [condition], cycles)


def _capacity_bytes(tables: Mapping[Value, Sequence[GatherLoad]], machine: Machine) -> int:
    """Bytes that a table may have."""
    return machine.usable_nram_bytes // _SHARE // max(1, len(tables))


@dataclass(frozen=True)
class _Table:
    """Elements of an array on chip.

    Attributes:
        base: points to the first of them.
        elements: all of them, or one tensor for each if the kernel can only name these.
        count: how many there are.
        shift: what is to be added to an index for the number of its element.
    """

    base: Value
    elements: tuple[Value, ...]
    count: Value
    shift: Scalar = 0

    def at(self, code: Scalars, behind: Sequence[Value]) -> _Table:
        """The same for loads that add scalars to each index."""
        return replace(self, shift=code.sum([code.value(each) for each in behind])) if behind else self

    def look_up(self, code: Scalars, load: GatherLoad) -> Value:
        """What a load gives."""
        _, index, mask, other, _ = load.operands
        table, *others = self.elements
        if others:
            chosen = _chosen(code, index, self.elements)
            return code.add(Elementwise.of("select", mask, chosen, other))
        if self.shift != 0:
            index = code.add(Elementwise.of("sext", index, to=I64)) if element_type(index.type) != I64 else index
            shifts = code.add(Splat([code.value(self.shift)], result_types=[index.type]))
            index = code.add(Elementwise.of("add", index, shifts))
        return code.add(LookUp([table, self.base, index, mask, other, self.count]))


@dataclass(frozen=True)
class _Windows:
    """An array of which loads name elements near each other.

    Attributes:
        argument: points to it.
        low: the least index of all loads.
        high: the greatest.
        extent: no fewer elements than from the one to the other.
        count: elements of the array.
    """

    argument: Value
    low: Value
    high: Value
    extent: int
    count: Value

    def at(self, code: Scalars, behind: Sequence[Value]) -> _Table:
        """What loads name that add scalars to each index; it is loaded here."""
        begin = code.sum([code.value(each) for each in behind])
        # What lies before the array or behind it is nobody's, whatever is said of the indices.
        first = code.maximum([0, code.binary("add", begin, self.low)])
        end = code.minimum([code.sum([begin, self.high, 1]), self.count])
        count = code.maximum([0, code.minimum([code.binary("sub", end, first), self.extent])])
        base = code.add(AddPtr([self.argument, code.value(first)]))
        loaded = _loaded(code, base, self.extent, count)
        return _Table(base, (loaded,), code.value(count), code.binary("sub", begin, first))


@dataclass(frozen=True)
class _Nearby:
    """An array in which loads name elements by digits of their positions.

    Attributes:
        windows: for each load, where its elements are, counted from the first one of the first load that has the same.
    """

    windows: Mapping[Operation, _Windows]

    def at(self, code: Scalars, behind: Sequence[Value], load: GatherLoad) -> _Table:
        """What loads name that have the same window as the first one of them; it is loaded here."""
        first = first_element(load.operands[1], code)
        table = self.windows[load].at(code, [*behind, first])
        return replace(table, shift=code.binary("sub", table.shift, first))


@dataclass(frozen=True)
class _Neighbours:
    """Loads of elements near each other, in one block.

    Attributes:
        loads: in their order.
        low: from the first element of the first load to the least index of all loads, or less.
        high: to the greatest, or more.
        extent: no fewer elements than from the one to the other.
    """

    loads: Sequence[GatherLoad]
    low: Value
    high: Value
    extent: int


def _nearby(loads: Sequence[GatherLoad], spans: DigitSpans, capacity_bytes: int) -> list[_Neighbours]:
    """Loads by where their elements are, as digits of positions tell; none if they do not."""
    code = spans.code
    found = {each: spans.of(each.operands[1]) for each in loads}
    known = {each: digits for each, digits in found.items() if digits is not None}
    if len(known) < len(found) or min(map(item_count, loads)) < _LEAST_ITEMS:
        return []
    # What is read again and again is rather kept.
    if all(spans.is_periodic(each) for each in known.values()):
        return []
    groups: dict[tuple[Hashable, ...], list[GatherLoad]] = {}
    for load, digits in known.items():
        base, index, *_ = load.operands
        family = (spans.block_of(load), base, shape_of(index.type), spans.family(digits))
        groups.setdefault(family, []).append(load)
    neighbours: list[_Neighbours] = []
    for group in groups.values():
        first = group[0]
        low, high = spans.between(known[first], [known[each] for each in group], shape_of(first.operands[1].type))
        room = capacity_bytes // len(groups) // pointee(first.operands[0]).bytes
        extent = min(item_count(first) * _MUCH_LONGER, room)
        neighbours.append(_Neighbours(group, code.value(low), code.value(high), extent))
    return neighbours


def _span(loads: Sequence[GatherLoad], intervals: Intervals) -> tuple[Value, Value, int] | None:
    """The least and the greatest index of some loads, and how far they may be apart; None if that is not known."""
    ends = [intervals.of(each.operands[1]) for each in loads]
    known = [each for each in ends if each is not None]
    items = min(item_count(each) for each in loads)
    if len(known) < len(ends) or items < _LEAST_ITEMS:
        return None
    code = intervals.code
    low = code.value(code.minimum([code.value(low) for low, _ in known]))
    high = code.value(code.maximum([code.value(high) for _, high in known]))
    return low, high, items * _LONGER


def _counted(loads: Sequence[GatherLoad], machine: Machine) -> int | None:
    """How many elements some loads can name, a power of two; None if it takes longer to choose by bits of the index.

    Each bit of an index is a mask, and chooses among half as many as the bit before it.
    """
    most = 0
    for each in loads:
        base, index, *_ = each.operands
        last = None if isinstance(base.defining_op, AddPtr) else greatest(index)
        if last is None:
            return None
        bits = max(1, last.bit_length())
        narrow = _narrow(index)
        dtype = element_type(narrow.type)
        assert isinstance(dtype, DType)
        bytes_ = (1 << bits) * pointee(base).bytes + 2 * bits * dtype.bytes
        if bytes_ > machine.gather_local_item_cycles * machine.vector_bytes_per_cycle:
            return None
        most = max(most, bits)
    return 1 << most


def _narrow(index: Value) -> Value:
    """An index that is known not to be negative, before it was made wider."""
    operation = index.defining_op
    while isinstance(operation, Elementwise) and operation.name in ("sext", "zext"):
        index = operation.operands[0]
        operation = index.defining_op
    return index


def _chosen(code: Scalars, index: Value, elements: Sequence[Value]) -> Value:
    """For each index the element of that number."""
    index = _narrow(index)
    shape = shape_of(index.type)

    def of_index(number: int) -> Value:
        return code.add(Constant.of(number, index.type))

    bits = [
        code.add(Elementwise.of("ne", code.add(Elementwise.of("and", index, of_index(1 << bit))), of_index(0)))
        for bit in range((len(elements) - 1).bit_length())
    ]

    def among(first: int, count: int) -> Value:
        if count == 1:
            one = elements[first]
            single = code.add(Reshape([one], result_types=[with_shape((1,) * len(shape), element_type(one.type))]))
            return code.add(Broadcast([single], result_types=[with_shape(shape, element_type(one.type))]))
        half = count // 2
        low, high = among(first, half), among(first + half, half)
        return code.add(Elementwise.of("select", bits[half.bit_length() - 1], high, low))

    return among(0, len(elements))


@dataclass(frozen=True)
class _Place:
    """Where the elements of a load stand in an array.

    Attributes:
        argument: points to its beginning.
        behind: scalars that are added to each index.
    """

    argument: Value
    behind: tuple[Value, ...]


def _place(load: Operation, arguments: Collection[Value]) -> _Place | None:
    """Where a load looks up single elements by their number; None if it does something else."""
    if not isinstance(load, GatherLoad) or load.integer("length") != 1 or load.is_volatile:
        return None
    base, _, _, _, limit = load.operands
    is_whole = isinstance(limit.defining_op, Constant) and limit.defining_op.value == 1
    if not is_whole or load.integer("scale_bytes") != pointee(base).bytes:
        return None
    behind: list[Value] = []
    while isinstance(base.defining_op, AddPtr):
        base, offset = base.defining_op.operands
        behind.append(offset)
    return _Place(base, tuple(behind)) if base in arguments else None


def _tables(function: Function) -> dict[Value, list[GatherLoad]]:
    """By argument, the loads that look up in an array that the function does not write."""
    found: dict[Value, list[GatherLoad]] = {}
    for each in function.walk():
        if isinstance(each, GatherLoad) and (place := _place(each, function.body.arguments)):
            found.setdefault(place.argument, []).append(each)
    written = Aliasing(function).written if found else frozenset[Value]()
    return {} if written is None else {each: loads for each, loads in found.items() if each not in written}


def _whole(code: Scalars, argument: Value, capacity_bytes: int) -> _Table:
    """All of an array, however long it is."""
    count = count_of(code, argument)
    return _Table(argument, (_loaded(code, argument, capacity_bytes // pointee(argument).bytes, count),), count)


def _numbered(code: Scalars, argument: Value, count: int) -> _Table:
    """The first elements of an array, each by itself."""
    loaded = _loaded(code, argument, count, count)
    elements = [code.add(Window([loaded], {"axis": 0, "first": number, "count": 1})) for number in range(count)]
    return _Table(argument, tuple(elements), code.value(count))


def _loaded(code: Scalars, argument: Value, extent: int, count: Scalar) -> Value:
    """A tensor with the first elements of an array, as many as it has."""
    table = tile_of(code, argument, extent, count)
    table.name = "table"
    return table


def _rewrite(block: Block, tables: Mapping[Value, _Table | _Windows | _Nearby]) -> None:
    """Have loads of arrays of which there are tables look up in these."""
    known: dict[tuple[_Place, _Windows | None], _Table] = {}
    replaced: dict[Value, Value] = {}
    operations: list[Operation] = []
    for each in block.operations:
        for region in each.regions:
            _rewrite(region, tables)
        place = _place(each, tables)
        if place is None:
            operations.append(each)
            continue
        assert isinstance(each, GatherLoad)
        code = Scalars(each.location)
        table = tables[place.argument]
        key = (place, table.windows[each] if isinstance(table, _Nearby) else None)
        if key not in known:
            is_nearby = isinstance(table, _Nearby)
            known[key] = table.at(code, place.behind, each) if is_nearby else table.at(code, place.behind)
        found = known[key].look_up(code, each)
        found.name = each.results[0].name
        replaced[each.results[0]] = found
        operations += code.operations
    block.operations = operations
    replace_uses(block, replaced)


def _others(
    tables: Mapping[Value, Sequence[GatherLoad]], rows: Mapping[Operation, Row]
) -> dict[Value, list[GatherLoad]]:
    """Loads that are no rows, by argument."""
    others = {argument: [each for each in loads if each not in rows] for argument, loads in tables.items()}
    return {argument: loads for argument, loads in others.items() if loads}


def _condition(function: Function, machine: Machine, *, with_rows: bool, is_resident: bool) -> Function:
    """What has to hold of a launch: arrays are apart, begin where they are passed, fit, and are soon looked up."""
    asked = copy_function(function)
    code = Scalars(asked.location)
    facts: list[Fact] = [Holds(code.add(ArraysDisjoint()))]
    total: Scalar = 0
    intervals, spans = Intervals(asked, code), DigitSpans(asked, code)
    tables = _tables(asked)
    rows = rows_of(asked, tables, spans) if with_rows else {}
    items = sum(item_count(each) for loads in tables.values() for each in loads)
    tables = _others(tables, rows)
    capacity_bytes = _capacity_bytes(tables, machine)
    facts += [fact for each in rows.values() for fact in each.facts]
    for argument, loads in tables.items():
        count = _counted(loads, machine)
        reached = reached_bytes(code, argument)
        if count is not None:
            # Where fewer are there, one that an index can name may not be.
            facts.append(Holds(code.add(Elementwise.of("sge", reached, code.value(count * pointee(argument).bytes)))))
            total = code.binary("add", total, count * pointee(argument).bytes)
            continue
        before = reached_bytes(code, code.add(AddPtr([argument, code.value(-1)])))
        within = code.value(code.binary("add", reached, pointee(argument).bytes))
        facts.append(Holds(code.add(Elementwise.of("ne", before, within))))
        if (span := _span(loads, intervals)) is not None:
            low, high, extent = span
            length = code.value(code.binary("sub", high, low))
            facts.append(Holds(code.add(Elementwise.of("slt", length, code.value(extent)))))
            continue
        if found := _nearby(loads, spans, capacity_bytes * _SHARE // _LARGER_SHARE):
            for each in found:
                # No window is longer than its array.
                length = code.minimum([code.binary("sub", each.high, each.low), count_of(code, argument)])
                facts.append(Holds(code.add(Elementwise.of("slt", code.value(length), code.value(each.extent)))))
            continue
        facts.append(Holds(code.add(Elementwise.of("sle", reached, code.value(capacity_bytes)))))
        total = code.binary("add", total, reached)
    programs: Scalar = 1
    for axis in range(3 if is_resident else 0):
        programs = code.binary("mul", programs, code.value(code.add(NumPrograms((), {"axis": axis}))))
    programs = code.maximum([1, code.quotient(programs, machine.cores)])
    saved = code.binary("mul", programs, items * (machine.gather_item_cycles - machine.gather_local_item_cycles))
    rate = max(1, min(machine.core_dma_bytes_per_cycle, machine.l2_bytes_per_cycle // machine.cores))
    begun = len(tables) * (machine.dma_setup_cycles + machine.cycles_from_ns(machine.dram_bulk_latency_ns))
    taken = code.binary("add", code.quotient(total, rate), begun)
    facts.append(Holds(code.add(Elementwise.of("sle", code.value(taken), code.value(saved)))))
    asked.body.operations[-1:-1] = code.operations
    return condition_function(asked, [*facts, *intervals.facts, *spans.facts])
