"""Scalars of memory that only the vector unit needs.

A scalar that is loaded into a register holds up the one who loads it, and with that all iterations of a loop, or all
programs that the core serves. One that is only computed with, a row's mean say, may as well come into a tile of one
element: its transfer is pipelined like any other, goes together with those of neighbours, and its arithmetic is done
for many at a time. Addresses, limits and conditions need registers; but a row of consecutive elements that begins at a
loaded place can be gathered or scattered as one item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlutriton.ir import ops
from mlutriton.ir.analysis.aliasing import may_write
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.scalar_forms import ScalarForms
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.types import PointerType, TensorType, element_type, shape_of

_BRANCHING = (ops.While, ops.If, ops.AtomicRmw, ops.AtomicCas)


@dataclass(frozen=True)
class Verdict:
    """A limit that is nothing unless a condition holds.

    Attributes:
        condition: has to hold for there to be anything.
        limits: the least of them is the limit then.
    """

    condition: Value
    limits: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Scalars that stand side by side in memory, as the weights of a filter do: one transfer takes as long as another.

    Attributes:
        places: by result, its place among them.
        count: how many there are.
    """

    places: Mapping[Value, int]
    count: int


@dataclass(frozen=True)
class VectorScalars:
    """What need not stand in registers.

    Attributes:
        loads: results of scalar loads, in straight programs and loop bodies, that may stand in tiles of one element.
        places: pointers whose offset is made of such; nothing but accesses of a row or an element there needs them.
        multiplies: the function has products of matrices, whose tiles are loaded as they want them.
        verdicts: by the limit of a row, what it is made of if the condition need not stand in a register.
        neighbours: of loads in loop bodies, by the result of one that stands beside others in memory, these.
    """

    loads: set[Value]
    places: set[Value]
    multiplies: bool = False
    verdicts: dict[Value, Verdict] = field(default_factory=dict[Value, Verdict])
    neighbours: dict[Value, Neighbours] = field(default_factory=dict[Value, Neighbours])

    def verdict(self, operation: ops.TileLoad | ops.TileStore) -> Verdict | None:
        """What decides whether there is anything of a tile, if that is an item."""
        geometry = operation.geometry
        return self.verdicts.get(geometry.limits[0]) if self.verdicts and self.allows(geometry) else None

    def allows(self, geometry: ops.TileGeometry) -> bool:
        """True if a tile may be an item of a gather or scatter."""
        return _is_row(geometry) and not (self.multiplies and len(geometry.shape) > 1)


def vector_scalars(function: Function, *, around_loops: bool = False) -> VectorScalars:
    """The scalars of a function that only the vector unit needs.

    Args:
        function: that is to be compiled.
        around_loops: those that a program loads before its loops, or behind them, too: that gains something only if
            several such programs go together, which then do nothing but to load, compute and store tiles.
    """
    found = VectorScalars(set(), set(), any(isinstance(each, ops.Dot) for each in function.walk()))
    for body in (function.body, *(each.body for each in function.walk() if isinstance(each, ops.For))):
        if _is_straight(body):
            _collect(body, found)
    for each in function.walk():
        if isinstance(each, ops.For):
            _find_neighbours(each.body, found)
    if around_loops and loads_around_loops(function):
        _collect(function.body, found)
    return found


def _find_neighbours(body: Block, found: VectorScalars) -> None:
    """Add what stands side by side in memory of the scalars of a loop's body, between what may write."""
    forms, written = ScalarForms(), 0
    groups: dict[object, dict[int, list[Value]]] = {}
    for operation in body.operations:
        written += may_write(operation)
        if isinstance(operation, ops.Load) and operation.result in found.loads and not operation.is_volatile:
            pointer, mask, _ = operation.operands
            root, place = forms.place(pointer)
            if pointer not in found.places and _constant(mask) is True:
                apart = frozenset((factors, count) for factors, count in place.items() if factors)
                group = groups.setdefault((written, root, apart, operation.result.type), {})
                group.setdefault(place.get((), 0), []).append(operation.result)
    for group in groups.values():
        run: list[int] = []
        for place in sorted(group):
            if run and place > run[-1] + 1:
                _add_neighbours(run, group, found)
                run = []
            run.append(place)
        _add_neighbours(run, group, found)


def _add_neighbours(run: Sequence[int], group: Mapping[int, Sequence[Value]], found: VectorScalars) -> None:
    if len(run) > 1:
        neighbours = Neighbours({value: place - run[0] for place in run for value in group[place]}, len(run))
        found.neighbours.update(dict.fromkeys(neighbours.places, neighbours))


def loads_around_loops(function: Function) -> bool:
    """True if a program has loops, and nothing else that goes another way, and loads scalars beside them."""
    others = [each for each in function.body.operations if not isinstance(each, ops.For)]
    has_loops = len(others) < len(function.body.operations)
    loads = any(isinstance(each, ops.Load) for each in others)
    return has_loops and loads and not any(isinstance(each, _BRANCHING) for each in others)


def _in_registers_anyway(body: Block, found: VectorScalars) -> set[Value]:
    """The places and limits that are made of loads of which something else needs that they stand in registers."""
    anyway: set[Value] = set()
    for operation in body.operations:
        match operation:
            case ops.Load():
                anyway.update({operation.result} - found.loads)
            case ops.Elementwise() if not anyway.isdisjoint(operation.operands):
                anyway.add(operation.result)
            case ops.AddPtr() if operation.operands[1] in anyway:
                anyway.add(operation.result)
            case _:
                pass
    limits = {limit for limit, verdict in found.verdicts.items() if verdict.condition in anyway}
    return limits | anyway & found.places


def _is_straight(block: Block) -> bool:
    return not any(isinstance(each, (ops.For, *_BRANCHING)) for each in block.operations)


def _collect(block: Block, found: VectorScalars) -> None:
    """Add the scalars of a block, and then again without the places that gain nothing."""
    others = replace(found, loads=set(), places=set(), verdicts={})
    refused: set[Value] = set()
    while True:
        _collect_but(block, others, refused)
        more = _in_registers_anyway(block, others)
        if not more:
            break
        refused |= more
        others.loads.clear()
        others.places.clear()
        others.verdicts.clear()
    found.loads.update(others.loads)
    found.places.update(others.places)
    found.verdicts.update(others.verdicts)


def _collect_but(block: Block, found: VectorScalars, refused: set[Value]) -> None:
    in_registers: set[Value] = set()
    from_memory: set[Value] = set()
    for operation in block.operations:
        loads = isinstance(operation, ops.Load)
        if loads or (isinstance(operation, ops.Elementwise) and not from_memory.isdisjoint(operation.operands)):
            from_memory.update(operation.results)
    judged = _judged(block, found, from_memory, refused)
    for operation in reversed(block.operations):
        match operation:
            case ops.Load() if operation.result not in in_registers:
                found.loads.add(operation.result)
            case ops.AddPtr() if operation.operands[1] in from_memory or operation.result in judged:
                if operation.result not in in_registers and operation.result not in refused:
                    found.places.add(operation.result)
            case _:
                pass
        in_registers.update(_needed_in_registers(operation, in_registers, found))


def _judged(block: Block, found: VectorScalars, from_memory: set[Value], refused: set[Value]) -> set[Value]:
    """Find limits that depend on a condition from memory; returns where rows with such a limit begin."""
    judged: set[Value] = set()
    for operation in block.operations:
        if isinstance(operation, ops.TileLoad | ops.TileStore) and found.allows(operation.geometry):
            limit = operation.geometry.limits[0]
            verdict = _verdict(limit)
            if verdict is not None and verdict.condition in from_memory and limit not in refused:
                found.verdicts[limit] = verdict
                judged.add(operation.base)
    return judged


def _verdict(limit: Value) -> Verdict | None:
    """What a limit is made of, if that is nothing unless a condition holds."""
    seen = set[Value]()

    def search(limit: Value) -> Search[Value, Verdict | None]:
        operation = limit.defining_op
        if not isinstance(operation, ops.Elementwise) or limit in seen:
            return None
        seen.add(limit)  # what is looked at once more is nothing that has one
        if operation.name == "select" and _constant(operation.operands[2]) == 0:
            return Verdict(operation.operands[0], (operation.operands[1],))
        if operation.name == "smin":
            for one, other in (operation.operands, reversed(operation.operands)):
                found = yield one
                if found is not None:
                    return Verdict(found.condition, (*found.limits, other))
        return None

    return depth_first(search, limit)


def _needed_in_registers(operation: Operation, in_registers: set[Value], found: VectorScalars) -> list[Value]:
    """Scalar operands that an operation needs in registers, or whatever it hands them on to."""
    match operation:
        case ops.Splat() if not isinstance(element_type(operation.result.type), PointerType):
            return []
        case ops.Store():
            pointer, _, mask = operation.operands
            return [mask, *_unless_sum(pointer)]
        case ops.Load() if operation.result not in in_registers:
            pointer, *others = operation.operands
            return [*others, *_unless_sum(pointer)]
        case ops.Elementwise() if operation.result not in in_registers:
            return []
        case ops.AddPtr() if operation.result in found.places:
            return [operation.operands[0]]
        case ops.TileLoad() | ops.TileStore() if found.allows(operation.geometry):
            verdict, limit = found.verdict(operation), operation.geometry.limits[0]
            but = (operation.base, limit) if verdict else (operation.base,)
            others = [value for value in operation.operands if value not in but]
            return [*others, *(verdict.limits if verdict else ()), *_unless_sum(operation.base)]
        case ops.GatherAtomic(operands=[base, offsets, _, limit, *_]) if _is_at_base(offsets):
            return [limit, *_unless_sum(base)]
        case _:
            nested = [operand for each in operation.walk() for operand in each.operands]
            return [value for value in nested if not isinstance(value.type, TensorType)]


def _unless_sum(pointer: Value) -> list[Value]:
    """A pointer, but for one to which an offset was added last: what needs that is found there."""
    return [] if isinstance(pointer.defining_op, ops.AddPtr) else [pointer]


def _is_row(geometry: ops.TileGeometry) -> bool:
    """True for consecutive elements of which those from some place on may be left out."""
    inner = 1
    for axis in reversed(range(len(geometry.shape))):
        extent = geometry.shape[axis]
        is_whole = axis == 0 or _constant(geometry.limits[axis]) == extent
        follows = extent == 1 or _constant(geometry.strides[axis]) == inner
        begins = _constant(geometry.firsts[axis]) == 0
        if geometry.wraps[axis] is not None or not (follows and begins and is_whole):
            return False
        inner *= extent
    return bool(geometry.shape)


def _is_at_base(offsets: Value) -> bool:
    """True for the offset of one item, at the pointer itself."""
    return shape_of(offsets.type) == (1,) and _constant(offsets) == 0


def _constant(value: Value) -> object:
    return value.defining_op.value if isinstance(value.defining_op, ops.Constant) else None
