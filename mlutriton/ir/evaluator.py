"""Reference interpreter of the tile IR in NumPy.

Programs run one after the other, x fastest. Pure ops define their own values (``Operation.evaluate``); this module
adds what depends on a running program: its place in the grid, global memory and control flow. Values are exact except
that reductions combine neighbours pairwise where a machine has another order: float reductions are to be compared with
a tolerance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlutriton.arithmetic import evaluate as evaluate_arithmetic
from mlutriton.diagnostics import CompileError, KernelFault
from mlutriton.ir.core import Array, Block, Function, Operation, Value
from mlutriton.ir.host_memory import Memory
from mlutriton.ir.memory_ops import pointee
from mlutriton.ir.ops import (
    OPS,
    ArraysDisjoint,
    Assemble,
    Assert,
    AtomicCas,
    AtomicRmw,
    Condition,
    For,
    GatherAtomic,
    GatherLoad,
    If,
    Load,
    LocalMemory,
    Member,
    NumPrograms,
    Order,
    Print,
    ProgramId,
    ReachableBytes,
    Return,
    ScatterStore,
    Store,
    TileGeometry,
    TileLoad,
    TileStore,
    While,
    Yield,
)
from mlutriton.ir.types import numpy_dtype, shape_of

Grid = tuple[int, int, int]


class Watch(Protocol):
    """Is shown what programs do."""

    def begins(self, place: Grid) -> None:
        """A program begins."""
        ...

    def performs(self, operation: Operation) -> None:
        """An operation is about to be performed."""
        ...

    def performed(self, operation: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
        """It has been, with these values."""
        ...


@dataclass(frozen=True)
class Printed:
    """What one ``print`` of one program handed out."""

    program: Grid
    prefix: str
    values: tuple[Array, ...]


@dataclass
class _Team:
    """The members of one running program, each on a thread of its own: they meet at the same operations.

    Attributes:
        members: how many they are.
        parts: what each of them has brought to where they meet.
    """

    members: int
    parts: dict[int, Array] = field(default_factory=dict[int, Array])

    def __post_init__(self) -> None:
        self._barrier = threading.Barrier(self.members)

    def meet(self, member: int, part: Array) -> list[Array]:
        """The parts of all members, in order."""
        self.parts[member] = part
        self._barrier.wait()
        parts = [self.parts[each] for each in range(self.members)]
        self._barrier.wait()
        return parts

    def run(self, act: Callable[[int], object]) -> None:
        """Let every member act; the fault of the first that has one is raised."""

        def guarded(member: int) -> KernelFault | None:
            try:
                act(member)
            except KernelFault as fault:
                self._barrier.abort()
                return fault
            except threading.BrokenBarrierError:
                pass
            return None

        if self.members == 1:
            act(0)
            return
        with ThreadPoolExecutor(self.members) as threads:
            faults = [fault for fault in threads.map(guarded, range(self.members)) if fault is not None]
        if faults:
            raise faults[0]


@dataclass
class _Program:
    """One running program: its place, memory and the values computed so far."""

    place: Grid
    grid: Grid
    memory: Memory
    printed: list[Printed]
    local_start: int
    arrays_disjoint: bool
    team: _Team
    member: int = 0
    watch: Watch | None = None
    values: dict[Value, Array] = field(default_factory=dict[Value, Array])

    def read(self, values: Sequence[Value]) -> list[Array]:
        return [self.values[value] for value in values]

    def bind(self, values: Sequence[Value], arrays: Sequence[Array]) -> None:
        self.values.update(zip(values, arrays, strict=True))

    def run(self, block: Block) -> Operation:
        """Run a block to its terminator, which is returned."""
        watch = self.watch
        for operation in block.operations[:-1]:
            if watch is not None:
                watch.performs(operation)
            results = self.evaluate(operation)
            self.bind(operation.results, results)
            if watch is not None:
                watch.performed(operation, self.read(operation.operands), results)
        return block.terminator

    def evaluate(self, operation: Operation) -> Sequence[Array]:
        try:
            handler = _HANDLERS.get(type(operation))
            if handler is None:
                return operation.evaluate(self.read(operation.operands))
            return handler(self, operation)
        except KernelFault as fault:
            if fault.context:
                raise
            raise KernelFault(
                fault.code,
                fault.summary,
                location=operation.location,
                context=f"program {self.place}",
                note=fault.note,
                help=fault.help,
            ) from None


def evaluate(
    function: Function,
    grid: Sequence[int],
    arguments: Sequence[int | float | np.generic],
    memory: Memory,
    *,
    arrays_disjoint: bool = False,
    watch: Watch | None = None,
    places: Iterable[Grid] | None = None,
) -> list[Printed]:
    """Run a kernel over a grid of one to three dimensions.

    Arguments are scalars; those for pointers are addresses in ``memory``. ``arrays_disjoint`` says whether the arrays
    that they point to share no bytes. ``watch`` is shown what they do, of kernels whose programs have one member.
    ``places`` are those of the programs to run, by default all of the grid.

    Returns what the programs printed.

    Raises:
        KernelFault: a program faulted; with its place and the operation's location.
    """
    x, y, z = (*grid, 1, 1)[:3]
    scalars = [
        np.asarray(value, numpy_dtype(parameter.type))
        for value, parameter in zip(arguments, function.body.arguments, strict=True)
    ]
    printed: list[Printed] = []
    areas = [op for op in function.walk() if isinstance(op, LocalMemory)]
    local = np.zeros(max((area.end_bytes for area in areas), default=0), np.uint8)
    members = max((op.integer("members") for op in function.walk() if isinstance(op, Member)), default=1)
    starts = [memory.register("local memory", local.copy()) if areas else 0 for _ in range(members)]
    for place in places_of((x, y, z)) if places is None else places:
        team = _Team(members)
        if watch is not None:
            watch.begins(place)

        def act(member: int, place: Grid = place, team: _Team = team) -> None:
            program = _Program(place, (x, y, z), memory, printed, starts[member], arrays_disjoint, team, member, watch)
            program.bind(function.body.arguments, scalars)
            program.run(function.body)

        team.run(act)
    return printed


def places_of(grid: Grid) -> Iterator[Grid]:
    """The places of all programs of a grid, in order."""
    return ((x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0]))


# ---- the grid


def _program_id(program: _Program, op: Operation) -> Sequence[Array]:
    return (np.asarray(program.place[op.integer("axis")], np.int32),)


def _num_programs(program: _Program, op: Operation) -> Sequence[Array]:
    return (np.asarray(program.grid[op.integer("axis")], np.int32),)


def _assert(program: _Program, op: Operation) -> Sequence[Array]:
    if not np.all(program.values[op.operands[0]]):
        raise KernelFault("E0305", f"device-side assertion failed: {op.text('message')}")
    return ()


def _print(program: _Program, op: Operation) -> Sequence[Array]:
    values = tuple(array.copy() for array in program.read(op.operands))
    program.printed.append(Printed(program.place, op.text("prefix"), values))
    return ()


# ---- members


def _member(program: _Program, op: Operation) -> Sequence[Array]:
    return (np.asarray(program.member, np.int64),)


def _assemble(program: _Program, op: Operation) -> Sequence[Array]:
    parts = program.team.meet(program.member, program.values[op.operands[0]])
    whole, kept = np.concatenate(parts, axis=op.integer("axis")), op.integer("kept")
    return (whole if kept < 0 else np.split(whole, op.integer("members"), axis=kept)[program.member],)


def _order(program: _Program, op: Operation) -> Sequence[Array]:
    program.team.meet(program.member, np.zeros(()))
    return ()


# ---- memory


def _local_memory(program: _Program, op: Operation) -> Sequence[Array]:
    return (np.asarray(program.local_start + op.integer("offset_bytes")),)


def _arrays_disjoint(program: _Program, op: Operation) -> Sequence[Array]:
    return (np.asarray(program.arrays_disjoint),)


def _reachable_bytes(program: _Program, op: Operation) -> Sequence[Array]:
    (pointer,) = program.read(op.operands)
    return (np.asarray(program.memory.reach(int(pointer), stored=bool(op.attributes["stored"]))),)


def _load(program: _Program, op: Operation) -> Sequence[Array]:
    pointers, mask, other = program.read(op.operands)
    return (_read_where(program, op.operands[0], pointers, mask, other),)


def _read_where(program: _Program, pointer: Value, addresses: Array, mask: Array, other: Array) -> Array:
    result = np.array(other)
    result[mask] = program.memory.read(addresses[mask], pointee(pointer))
    return result


def _store(program: _Program, op: Operation) -> Sequence[Array]:
    pointers, value, mask = program.read(op.operands)
    program.memory.write(pointers[mask], value[mask])
    return ()


def _tile_places(program: _Program, base: Array, geometry: TileGeometry, width_bytes: int) -> tuple[Array, Array]:
    """Addresses of a tile's elements and which of them are within the bounds."""
    addresses = np.broadcast_to(base, geometry.shape)
    inside = np.ones(geometry.shape, np.bool_)
    for axis, (extent, stride, first, limit, wrap) in enumerate(
        zip(geometry.shape, geometry.strides, geometry.firsts, geometry.limits, geometry.wraps, strict=True)
    ):
        along = [1] * len(geometry.shape)
        along[axis] = extent
        index = np.arange(extent)
        position = index
        if wrap is not None:
            start, modulo = program.read(wrap)
            position = (start + index) % modulo
        addresses = addresses + (position * program.values[stride] * width_bytes).reshape(along)
        within = (index >= program.values[first]) & (index < program.values[limit])
        inside = inside & within.reshape(along)
    return addresses, inside


def _tile_load(program: _Program, op: Operation) -> Sequence[Array]:
    assert isinstance(op, TileLoad)
    base, other = program.read(op.operands[:2])
    addresses, inside = _tile_places(program, base, op.geometry, pointee(op.base).bytes)
    return (_read_where(program, op.base, addresses, inside, np.broadcast_to(other, addresses.shape)),)


def _tile_store(program: _Program, op: Operation) -> Sequence[Array]:
    assert isinstance(op, TileStore)
    base, value = program.read(op.operands[:2])
    addresses, inside = _tile_places(program, base, op.geometry, pointee(op.base).bytes)
    program.memory.write(addresses[inside], value[inside])
    return ()


def _scattered(base: Array, offsets: Array, op: Operation) -> NDArray[np.int64]:
    return base + offsets.astype(np.int64) * op.integer("scale_bytes")


def _runs(
    base: Array, offsets: Array, mask: Array, limit: Array, op: Operation
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Addresses of the elements of all items, [..., length], and which of them exist."""
    place = np.arange(op.integer("length"))
    addresses = _scattered(base, offsets, op)[..., None] + place * pointee(op.operands[0]).bytes
    return addresses, mask[..., None] & (place < limit)


def _gather_load(program: _Program, op: Operation) -> Sequence[Array]:
    base, offsets, mask, other, limit = program.read(op.operands)
    addresses, exists = _runs(base, offsets, mask, limit, op)
    rest = np.broadcast_to(other[..., None], exists.shape)
    return (_read_where(program, op.operands[0], addresses, exists, rest).reshape(shape_of(op.result.type)),)


def _scatter_store(program: _Program, op: Operation) -> Sequence[Array]:
    base, offsets, value, mask, limit = program.read(op.operands)
    addresses, exists = _runs(base, offsets, mask, limit, op)
    program.memory.write(addresses[exists], value.reshape(exists.shape)[exists])
    return ()


def _exchange(
    program: _Program, pointer: Value, addresses: Array, mask: Array, kind: str, values: list[Array]
) -> Array:
    """Atomics one element after the other; the old values."""
    dtype = pointee(pointer)
    old = np.zeros(addresses.shape, dtype.numpy)
    for place in zip(*np.nonzero(np.atleast_1d(mask)), strict=True):
        place = place if addresses.shape else ()
        address = np.asarray(addresses[place])
        found = program.memory.read(address, dtype)
        old[place] = found
        operands = [np.asarray(value[place]) for value in values]
        match kind:
            case "xchg":
                new = operands[0]
            case "cas":
                new = operands[1] if found.tobytes() == operands[0].tobytes() else found
            case _:
                new = evaluate_arithmetic(kind, found, operands[0], dtype=dtype)
        program.memory.write(address, new)
    return old


def _atomic_rmw(program: _Program, op: Operation) -> Sequence[Array]:
    pointers, value, mask = program.read(op.operands)
    return (_exchange(program, op.operands[0], pointers, mask, op.text("kind"), [value]),)


def _atomic_cas(program: _Program, op: Operation) -> Sequence[Array]:
    pointers, expected, value = program.read(op.operands)
    mask = np.ones(pointers.shape, np.bool_)
    return (_exchange(program, op.operands[0], pointers, mask, "cas", [expected, value]),)


def _gather_atomic(program: _Program, op: Operation) -> Sequence[Array]:
    base, offsets, mask, limit, *values = program.read(op.operands)
    addresses, exists = _runs(base, offsets, mask, limit, op)
    values = [value.reshape(exists.shape) for value in values]
    old = _exchange(program, op.operands[0], addresses, exists, op.text("kind"), values)
    return (old.reshape(shape_of(op.result.type)),)


# ---- control flow


def _for(program: _Program, op: Operation) -> Sequence[Array]:
    assert isinstance(op, For)
    start, end, step, *carried = program.read(op.operands)
    if step <= 0:
        raise KernelFault("E0305", f"the step of a loop is {step}, not positive")
    for index in range(int(start), int(end), int(step)):
        program.bind(op.body.arguments, [np.asarray(index, start.dtype), *carried])
        carried = program.read(program.run(op.body).operands)
    return carried


def _while(program: _Program, op: Operation) -> Sequence[Array]:
    before, after = op.regions
    carried = program.read(op.operands)
    while True:
        program.bind(before.arguments, carried)
        go_on, *passed = program.read(program.run(before).operands)
        if not go_on:
            return passed
        program.bind(after.arguments, passed)
        carried = program.read(program.run(after).operands)


def _if(program: _Program, op: Operation) -> Sequence[Array]:
    region = op.regions[0] if program.values[op.operands[0]] else op.regions[1]
    return program.read(program.run(region).operands)


def _terminator(program: _Program, op: Operation) -> Sequence[Array]:
    raise CompileError("E0203", f"{op.name} stands in the middle of a block", location=op.location)


_HANDLERS: dict[type[Operation], Callable[[_Program, Operation], Sequence[Array]]] = {
    ProgramId: _program_id,
    NumPrograms: _num_programs,
    Assert: _assert,
    Print: _print,
    LocalMemory: _local_memory,
    Member: _member,
    Assemble: _assemble,
    Order: _order,
    ArraysDisjoint: _arrays_disjoint,
    ReachableBytes: _reachable_bytes,
    Load: _load,
    Store: _store,
    TileLoad: _tile_load,
    TileStore: _tile_store,
    GatherLoad: _gather_load,
    ScatterStore: _scatter_store,
    AtomicRmw: _atomic_rmw,
    AtomicCas: _atomic_cas,
    GatherAtomic: _gather_atomic,
    For: _for,
    While: _while,
    If: _if,
    Yield: _terminator,
    Condition: _terminator,
    Return: _terminator,
}

for _op in OPS.values():
    assert (_op in _HANDLERS) != (_op.evaluate is not Operation.evaluate), (
        f"{_op.NAME} is evaluated in no place or in two"
    )
