"""The arithmetic of a block of iterations, done for many rows by each instruction.

An instruction that waits for the one before costs a latency, be it over one row or over a hundred. So the arithmetic of
a block, U iterations of R rows each,

    for i of block: m = max(x(i)); t = x(i) - m; y(i) = exp(t)

becomes, where rows have nothing to do with each other, a loop over chunks of V of the block's rows:

    for rows of block, V at a time: m = max(x(rows)); t = x(rows) - m; y(rows) = exp(t)

The units in which chunks are counted are the smallest equal parts of an iteration that all of its instructions can be
cut into: rows where rows are reduced or broadcast, elements where all is element-wise, and whole iterations where the
same tile takes part in each. Temporaries hold a chunk. Short chunks leave memory to the ping-pong buffers, and thereby
make bursts of transfers long; long chunks hide the latency of instructions.

A row that each iteration makes anew, to be broadcast to all of its rows, ties them together: then a chunk is an
iteration, and what makes that row is done once for it.

A temporary of which instructions take parts, as a transpose leaves the even and the odd elements of a row, stands in a
chunk part by part: all even elements of the chunk, and then all odd ones. These parts are its *planes*.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.merged_transfers import Merging, with_operands
from mlutriton.codegen.pipelining.pipeline_plan import Plan
from mlutriton.codegen.tile_code import (
    WRITING,
    Emitter,
    Loop,
    Node,
    RowExtent,
    ScalarOperand,
    TileCode,
    buffers_of,
    registers_set,
)
from mlutriton.dtypes import DType
from mlutriton.immutables import remembered, replace
from mlutriton.isa.cost import occupancy_cycles
from mlutriton.isa.expression import value_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import FORWARD, Address, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE, Access, Queue, Slot, SlotKind

# An iteration of fewer units than this has no halves.
_LEAST_UNITS_WITHIN = 2

# Instructions over slices that have nothing to do with each other, and the count that says how many there are.
_SLICE_COUNTS = {"v.transpose": "batch", "v.repeat": "outer"}

Scale = Callable[[int], ScalarOperand]
Places = Mapping[str, tuple[str, Register | None]]
Planes = Mapping[str, int]


@dataclass(frozen=True)
class RowChunks:
    """How the arithmetic of an iteration is done in chunks.

    Attributes:
        units: equal parts of an iteration.
        groups: the instructions in order, those of a fused chain together.
        unit_bytes: of a unit, by the name of a buffer that holds one for each.
        temporaries: names of those of these buffers that are needed within a chunk alone.
        is_within: a chunk is an iteration.
        numbers: of iterations, which their arithmetic needs; then an iteration is one unit.
        planes: by the name of a temporary in planes, the bytes that one of them has in an iteration. What all rows
            share is not among them: it is made once for an iteration, where the instructions say.
    """

    units: int
    groups: list[Group]
    unit_bytes: dict[str, int]
    temporaries: list[str]
    is_within: bool
    numbers: list[Number]
    planes: Planes

    def cycles(self, units: int, machine: Machine) -> int:
        """Cycles of the COMPUTE queue for so many units, without gaps and latencies."""
        key, known = (units, machine.content_hash), self._known_cycles
        if key not in known:
            known[key] = sum(number * self._cycles(group, units, machine) for group, number in self._alike)
        return known[key]

    @remembered
    def _known_cycles(self) -> dict[tuple[int, str], int]:
        """Cycles by units and machine: whoever looks for the best chunk asks for the same again."""
        return {}

    @remembered
    def _alike(self) -> list[tuple[Group, int]]:
        """Groups of which no two cost the same for the same reasons, each with how many cost what it does."""
        numbers = Counter(map(_cost_key, self.groups))
        return [(group, numbers[key]) for key, group in {_cost_key(group): group for group in self.groups}.items()]

    def _cycles(self, group: Group, units: int, machine: Machine) -> int:
        counts = group.counts(self.units, lambda factor: Immediate(units * factor))
        extents = {name: int(count.value) for name, count in counts.items() if isinstance(count, Immediate)}
        cycles = max(occupancy_cycles(each, {**each.known_counts, **extents}, machine) for each in group.instructions)
        return math.ceil(cycles * (RowExtent.ORDINARY_SHARE if group.is_narrow else 1))

    def instructions(
        self,
        units: ScalarOperand,
        scale: Scale,
        places: Places,
        starts: Mapping[Register, ScalarOperand],
        *,
        is_first: bool = True,
    ) -> list[list[Node]]:
        """The arithmetic of a chunk or of a part of one, instruction by instruction or chain by chain.

        Args:
            units: how many units the chunk has.
            scale: makes the operand for so many times these units.
            places: by the name of a buffer, that to use instead, and where it has the chunk's first unit.
            starts: by register, the numbers of the chunk's first iteration.
            is_first: of the parts of a chunk, this is the first one.
        """
        made: list[list[Node]] = []
        for group in self.groups:
            if isinstance(group, _Whole) and not is_first:
                made.append([])
                continue
            counts = group.counts(self.units, lambda factor: units if factor == 1 else scale(factor))
            if isinstance(group, _Series):
                counts["start"] = starts[group.number]
            made.append(
                [
                    over(each, counts, [self._in_plane(operand, scale) for operand in group.modes(each)], places)
                    for each in group.instructions
                ]
            )
        return made

    def _in_plane(self, operand: Operand, scale: Scale) -> Operand:
        """An operand where its plane begins in the chunk."""
        if not isinstance(operand, Address) or operand.buffer not in self.planes:
            return operand
        plane_bytes = self.planes[operand.buffer]
        begin = scale(operand.offset_bytes // plane_bytes * (plane_bytes // self.units))
        if isinstance(begin, Immediate):
            return replace(operand, offset_bytes=int(begin.value))
        return replace(operand, register=begin, offset_bytes=0) if operand.offset_bytes else operand


def _cost_key(group: Group) -> tuple[object, ...]:
    """All that the cycles of a group depend on."""
    steps = [(each.row.name, each.dtypes, *each.known_counts.items()) for each in group.instructions]
    return type(group), group.sliced, group.limit, group.is_narrow, group.buffers <= group.anew, *steps


def plan_chunks(code: TileCode, loop: Loop, plan: Plan, merging: Merging) -> RowChunks | None:
    """How the arithmetic of a loop can be done in chunks; None if its rows or iterations depend on each other."""
    moved = {id(node) for node in plan.moved}
    rest = [node for node in loop.body if id(node) not in moved]
    instructions: list[Instruction] = []
    varying = {loop.index}
    for node in rest:
        if not isinstance(node, Instruction) or node.row.trace:
            return None
        if node.row.queue is Queue.COMPUTE:
            instructions.append(node)
        elif node.row.name != "serve":
            written = node.written_register
            if written is None or any(node.accesses):
                return None
            varying.add(written)
    return _in_chunks(code, instructions, varying, plan, merging, plan.buffers)


def plan_offsets(code: TileCode, loop: Loop, plan: Plan, merging: Merging) -> RowChunks | None:
    """How what makes the offsets of gathers is done for a block at once; None if iterations have to be told apart."""
    instructions = [node for node in plan.offsets if isinstance(node, Instruction)]
    members = buffers_of(plan.offsets) & plan.buffers
    if len(instructions) < len(plan.offsets) or any(code.buffers[name].extent for name in members):
        return None
    varying = {loop.index, *registers_set(loop.body)}
    if any(varying & set(each.registers_read) for each in instructions):
        return None
    found = _in_chunks(code, instructions, varying, plan, merging, members)
    return None if found is None or found.is_within or found.temporaries or found.planes else found


def _in_chunks(
    code: TileCode,
    instructions: list[Instruction],
    varying: set[Register],
    plan: Plan,
    merging: Merging,
    members: set[str],
) -> RowChunks | None:
    """How instructions of a loop are done in chunks; None if rows or iterations depend on each other.

    Args:
        code: the kernel.
        instructions: of one iteration.
        varying: registers that may differ from one iteration to the next.
        plan: what of the loop is moved.
        merging: of its transfers.
        members: names of the buffers of which a block has one for each iteration.
    """
    if not instructions:
        return None
    numbers = _Numbers(code, varying, merging)
    chains = [numbers.in_buffers(chain) for chain in _chains(instructions)]
    if any(varying & set(each.registers_read) for chain in chains for each in chain):
        return None
    anew = plan.anew | {number.buffer for number in numbers.found.values()}
    chains = [*([number.instruction] for number in numbers.found.values()), *chains]
    shared = shared_rows(chains, anew)
    planes = _planes_of(code, chains, anew - plan.buffers)
    groups: list[Group] = []
    for chain in chains:
        group = group_of(code, chain, anew, shared, planes)
        if group is None or not uses_whole_buffers(code, chain, anew, planes):
            return None
        groups.append(group)
    units = math.gcd(*(group.limit for group in groups))
    # Numbers are those of whole iterations.
    if shared and (units < _LEAST_UNITS_WITHIN or numbers.found):
        return None
    if not all(group.can_be_cut(units) for group in groups):
        units = 1
        if not all(group.can_be_cut(units) for group in groups):
            return None
    names = sorted(({name for group in groups for name in group.buffers} & anew | members) - shared)
    if any(code.buffers[name].bytes % units for name in names):
        return None
    return RowChunks(
        units,
        groups,
        {name: code.buffers[name].bytes // units for name in names},
        [name for name in names if name not in plan.buffers],
        bool(shared),
        list(numbers.found.values()),
        {name: plane_bytes for name, plane_bytes in planes.items() if name not in shared},
    )


def _planes_of(code: TileCode, chains: Sequence[Sequence[Instruction]], names: set[str]) -> dict[str, int]:
    """Which of these buffers can stand in planes, as some instructions want, and the bytes that a plane has."""
    spans: dict[str, set[int]] = {}
    for instruction, slot, operand in _places(chains):
        spans.setdefault(operand.buffer, set()).add(_span_bytes(instruction, slot, operand))
    least = {name: min(found) for name, found in spans.items() if name in names and not code.buffers[name].extent}
    planes = {name: each for name, each in least.items() if 0 < each < code.buffers[name].bytes}
    for instruction, slot, operand in _places(chains):
        plane_bytes = planes.get(operand.buffer)
        if plane_bytes is None:
            continue
        span, whole = _span_bytes(instruction, slot, operand), code.buffers[operand.buffer].bytes
        is_plane = span == plane_bytes and operand.offset_bytes % plane_bytes == 0
        is_plane &= instruction.row.name != "v.transpose"
        count = whole // plane_bytes
        is_whole = span == whole and operand.is_at_begin
        is_whole &= _sliced_transpose(instruction, {operand.buffer: plane_bytes}) != ""
        is_whole &= instruction.known_counts.get("rows" if slot.name == "a" else "columns") == count
        if operand.mode is not Mode.FULL or operand.register is not None or not (is_plane or is_whole):
            del planes[operand.buffer]
    return planes


def _sliced_transpose(instruction: Instruction, planes: Planes) -> str:
    """The count that grows with a chunk, of a transpose from or to what stands in planes; empty if there is none."""
    if instruction.row.name != "v.transpose" or instruction.operand("batch") != Immediate(1):
        return ""
    source, target = (
        isinstance(operand, Address) and operand.buffer in planes
        for operand in (instruction.operand("a"), instruction.operand("dst"))
    )
    return "" if source == target else "columns" if source else "rows"


def _places(chains: Sequence[Sequence[Instruction]]) -> Iterator[tuple[Instruction, Slot, Address]]:
    """All operands that are addresses."""
    for chain in chains:
        for each in chain:
            for slot, operand in zip(each.row.slots, each.operands, strict=True):
                if isinstance(operand, Address):
                    yield each, slot, operand


def _span_bytes(instruction: Instruction, slot: Slot, operand: Address) -> int:
    """Bytes that an operand touches, if its counts are known, else 0."""
    names = instruction.known_counts.keys()
    if not set(instruction.row.extents) <= names:
        return 0
    return _span(instruction, slot.span, operand.mode) * instruction.dtype_of(slot).bytes


@dataclass(frozen=True)
class Number:
    """A scalar that grows by the same amount from one iteration to the next, as a tile with an element for each.

    Attributes:
        register: the scalar.
        step: how much it grows.
        buffer: name of the tile.
        instruction: makes the tile's element of one iteration.
    """

    register: Register
    step: int
    buffer: str
    instruction: Instruction


class _Numbers:
    """The numbers of iterations that their arithmetic needs."""

    def __init__(self, code: TileCode, varying: set[Register], merging: Merging) -> None:
        self.code, self.varying, self.merging = code, varying, merging
        self.found: dict[tuple[Register, DType], Number] = {}

    def in_buffers(self, chain: list[Instruction]) -> list[Instruction]:
        """The chain with such numbers as elements of tiles; as it is where that cannot be."""
        if not any(self.varying & set(each.registers_read) for each in chain):
            return chain
        extents = chain[0].known_counts
        operands = [operand for each in chain for operand in each.operands if isinstance(operand, Address)]
        is_plain = all(each.row.is_elementwise_or_mov for each in chain) and {"rows", "columns"} <= extents.keys()
        if not is_plain or (extents["rows"] > 1 and any(operand.mode is not Mode.FULL for operand in operands)):
            return chain
        counts = {"rows": Immediate(1), "columns": Immediate(extents["rows"] * extents["columns"])}
        return [with_operands(each, {**self._in_buffers(each), **counts}) for each in chain]

    def _in_buffers(self, instruction: Instruction) -> dict[str, Operand]:
        changed: dict[str, Operand] = {}
        for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
            if slot.kind is SlotKind.VECTOR and isinstance(operand, Register) and operand in self.varying:
                number = self._number(operand, instruction.dtype_of(slot))
                if number is not None:
                    changed[slot.name] = Address(number.buffer, mode=Mode.ROW)
        return changed

    def _number(self, register: Register, dtype: DType) -> Number | None:
        step = self.merging.step(register) if self.merging.loop.line is None and dtype.is_int else None
        if (register, dtype) not in self.found and step is not None and step.keys() == {()}:
            buffer = Emitter(self.code).buffer("number", dtype, 1)
            operands = (Address(buffer.name), register, Immediate(step[()]), Immediate(1))
            made = Instruction(TABLE["v.iota"], (dtype,), operands)
            self.found[register, dtype] = Number(register, step[()], buffer.name, made)
        return self.found.get((register, dtype))


def shared_rows(chains: Sequence[Sequence[Instruction]], anew: set[str]) -> set[str]:
    """Names of buffers of a row that all rows of an iteration share, and of what these are made from."""
    shared = {
        operand.buffer
        for step in chains
        for each in step
        if each.row.is_elementwise_or_mov and each.known_counts.get("rows") != 1
        for operand in each.operands
        if isinstance(operand, Address) and operand.mode is Mode.COLUMN and operand.buffer in anew
    }
    for step in reversed(chains):
        if buffers_of(step, *WRITING) & shared:
            shared |= buffers_of(step) & anew
    return shared


def rows_that_stay_whole(chains: Sequence[Sequence[Instruction]], anew: set[str]) -> set[str]:
    """As ``shared_rows``, but nothing if no iteration is cut into parts: a tile of rows is among what these share."""
    shared = shared_rows(chains, anew)
    others = [chain for chain in chains if not buffers_of(chain, *WRITING) & shared]
    arithmetic = [chain for chain in others if not any(each.row.trace for each in chain)]
    return set() if any(_divides(chain, shared) for chain in arithmetic) else shared


def _divides(chain: Sequence[Instruction], shared: set[str]) -> bool:
    """True if a chain takes what all rows share for rows themselves."""
    return any(
        isinstance(operand, Address) and operand.mode is not Mode.COLUMN and operand.buffer in shared
        for each in chain
        for operand in each.operands
    )


def _chains(instructions: Sequence[Instruction]) -> Iterator[list[Instruction]]:
    chain: list[Instruction] = []
    for instruction in instructions:
        chain.append(instruction)
        if instruction.operands[0] != FORWARD:
            yield chain
            chain = []


def uses_whole_buffers(code: TileCode, chain: Sequence[Instruction], anew: set[str], planes: Planes) -> bool:
    """True if the chain touches what each iteration makes anew as a whole, or its planes, and writes nothing else."""
    for instruction in chain:
        for slot, operand in zip(instruction.row.slots, instruction.operands, strict=True):
            if not isinstance(operand, Address) or operand.buffer in planes:
                continue
            if operand.buffer not in anew:
                if slot.access is not Access.READ:
                    return False
                continue
            is_whole = _span_bytes(instruction, slot, operand) == code.buffers[operand.buffer].bytes
            if not operand.is_at_begin or not is_whole:
                return False
    return True


def _span(instruction: Instruction, span: str, mode: Mode) -> int:
    """Elements that an operand touches."""
    counts = instruction.known_counts
    match mode:
        case Mode.ROW:
            return counts["rows"]
        case Mode.COLUMN:
            return counts["columns"]
        case Mode.FULL:
            return value_of(span, counts)


# ---- groups --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """An instruction or chain over slices along one of its counts.

    Attributes:
        instructions: one, or the steps of a chain.
        anew: names of buffers that each iteration makes anew; all others are the same for all.
        sliced: name of the count that units divide.
        limit: how many units an iteration can be cut into.
        is_narrow: it works on rows that may be shorter than they are planned.
    """

    instructions: list[Instruction]
    anew: set[str]
    sliced: str
    limit: int
    is_narrow: bool

    @property
    def buffers(self) -> set[str]:
        """Names of all buffers that it touches."""
        return buffers_of(self.instructions)

    def can_be_cut(self, units: int) -> bool:
        """True if every operand goes along with so many units an iteration."""
        return all(self._goes_along(operand, units) for each in self.instructions for operand in each.operands)

    def _goes_along(self, operand: Operand, units: int) -> bool:
        raise NotImplementedError

    def counts(self, units: int, scale: Scale) -> dict[str, Operand]:
        """The counts of a chunk that change."""
        return {self.sliced: scale(self.instructions[0].known_counts[self.sliced] // units)}

    def modes(self, instruction: Instruction) -> list[Operand]:
        """The operands of an instruction in the modes that they have in a chunk."""
        return list(instruction.operands)


class _Whole(Group):
    """What makes a row that all rows share: it is done once, in the first part of a chunk."""

    def _goes_along(self, operand: Operand, units: int) -> bool:
        return True

    def counts(self, units: int, scale: Scale) -> dict[str, Operand]:
        return {}


class _Slices(Group):
    """A reduction, scan, transpose or repetition."""

    def _goes_along(self, operand: Operand, units: int) -> bool:
        return not isinstance(operand, Address) or operand.buffer in self.anew


class _Series(Group):
    """What makes the numbers of iterations."""

    @property
    def number(self) -> Register:
        """That of an iteration."""
        start = self.instructions[0].operand("start")
        assert isinstance(start, Register)
        return start

    def _goes_along(self, operand: Operand, units: int) -> bool:
        return units == 1


class _Rows(Group):
    """A chain of element-wise instructions over rows and columns, of which some are broadcast."""

    def _goes_along(self, operand: Operand, units: int) -> bool:
        if not isinstance(operand, Address):
            return True
        # A row that is the same for all goes along with any number of others; a column of numbers differs by row.
        return operand.mode is Mode.COLUMN or operand.buffer in self.anew


class _Elements(Group):
    """A chain of element-wise instructions, element for element."""

    def _goes_along(self, operand: Operand, units: int) -> bool:
        return not isinstance(operand, Address) or operand.buffer in self.anew or units == 1

    def counts(self, units: int, scale: Scale) -> dict[str, Operand]:
        count = self.limit // units
        is_even = all(count * each.dtypes[0].bytes % _EVEN_BYTES == 0 for each in self.instructions)
        if not self._has_constants and not (is_even and count > 1):
            return {"rows": Immediate(1), "columns": scale(count)}
        return {"rows": scale(1), "columns": Immediate(count)}

    @property
    def _has_constants(self) -> bool:
        return not self.buffers <= self.anew

    def modes(self, instruction: Instruction) -> list[Operand]:
        return [
            replace(operand, mode=Mode.COLUMN)
            if isinstance(operand, Address) and operand.buffer not in self.anew
            else operand
            for operand in instruction.operands
        ]


# Rows of so many bytes waste no part of the vector unit's width, of any machine.
_EVEN_BYTES = 128


def group_of(
    code: TileCode, chain: list[Instruction], anew: set[str], shared: set[str], planes: Planes
) -> Group | None:
    """What a chain or instruction works along; None if its slices depend on each other."""
    first = chain[0]
    extents = first.known_counts
    touched = [operand.buffer for each in chain for operand in each.operands if isinstance(operand, Address)]
    is_narrow = any(code.buffers[name].extent for name in touched)
    if buffers_of(chain, *WRITING) & shared:
        return _Whole(chain, anew, "", 0, is_narrow)
    if _divides(chain, shared):
        return None
    if first.row.is_elementwise_or_mov:
        if "rows" not in extents or "columns" not in extents:
            return None
        rows, columns = extents["rows"], extents["columns"]
        chain = [_in_plain_modes(each, rows, anew) for each in chain]
        modes = {operand.mode for each in chain for operand in each.operands if isinstance(operand, Address)}
        if modes <= {Mode.FULL} and not is_narrow:
            return _Elements(chain, anew, "columns", rows * columns, is_narrow)
        return _Rows(chain, anew, "rows", rows, is_narrow)
    if (
        first.row.name == "v.iota"
        and isinstance(first.operand("start"), Register)
        and buffers_of(chain, *WRITING) <= anew
    ):
        return _Series(chain, anew, "n", 1, is_narrow) if extents.get("n") == 1 else None
    sliced = _SLICE_COUNTS.get(first.row.name, "outer" if first.row.name.startswith(("red.", "scan.")) else "")
    if first.row.name == "v.transpose" and set(touched) & planes.keys():
        sliced = _sliced_transpose(first, planes)
    return _Slices(chain, anew, sliced, extents[sliced], is_narrow) if sliced in extents else None


def _in_plain_modes(instruction: Instruction, rows: int, anew: set[str]) -> Instruction:
    """The instruction with the operands of a single row in the modes that they have among many rows."""
    if rows != 1:
        return instruction
    operands = [
        replace(operand, mode=Mode.FULL if operand.buffer in anew else Mode.COLUMN)
        if isinstance(operand, Address) and operand.mode is not Mode.ROW
        else operand
        for operand in instruction.operands
    ]
    return instruction.taking(operands)


def over(instruction: Instruction, counts: dict[str, Operand], operands: list[Operand], places: Places) -> Instruction:
    """The instruction with other counts, on the buffers of the chunk."""
    for place, operand in enumerate(operands):
        if isinstance(operand, Address) and operand.buffer in places:
            buffer, register = places[operand.buffer]
            operands[place] = replace(operand, buffer=buffer, register=register or operand.register)
    for name, count in counts.items():
        operands[instruction.row.slot_index[name]] = count
    return instruction.taking(operands)
