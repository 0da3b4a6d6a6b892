"""What each instruction does in the interpreter: one handler a row of the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlutriton.arithmetic import evaluate, rounded
from mlutriton.dtypes import I64, TF32, DType
from mlutriton.isa.program import slot_dtype
from mlutriton.isa.table import TABLE, Queue, Row, SlotKind
from mlutriton.isa.trace_format import FLAG_SRAM, Extent, Kind
from mlutriton.simulator.interpreter import orders
from mlutriton.simulator.interpreter.state import (
    MASK64,
    SYNC_MASKS,
    Array,
    Core,
    Step,
    element,
    element_bits,
    from_bytes,
    immediate,
    to_bytes,
)
from mlutriton.simulator.prints import handed_over

Handler = Callable[[Core, Step], None]


# ---- scalar and control ---------------------------------------------------------------------------------------------


def _scalar_arithmetic(core: Core, step: Step) -> None:
    row = step.instruction.row
    step.set_bits(_scalar_result(row, step.instruction.dtypes, *map(step.bits, range(1, len(row.slots)))))


# Programs compute the same addresses and counts again and again, each a detour to NumPy for one number.
@lru_cache(maxsize=1 << 16)
def _scalar_result(row: Row, dtypes: tuple[DType, ...], *sources: int) -> int:
    """The bits of what a scalar instruction makes of the bits of its sources."""
    operation, (result, *slots) = row.operation, row.slots
    assert operation is not None
    operands = [element(bits, slot_dtype(slot, dtypes)) for bits, slot in zip(sources, slots, strict=True)]
    made = evaluate(operation.name, *operands, dtype=dtypes[0], to=dtypes[1] if len(dtypes) > 1 else None)
    return element_bits(made, slot_dtype(result, dtypes))


def _operate(step: Step, name: str, sources: list[Array]) -> Array:
    dtypes = step.instruction.dtypes
    return evaluate(name, *sources, dtype=dtypes[0], to=dtypes[1] if len(dtypes) > 1 else None)


def _mov(core: Core, step: Step) -> None:
    step.set_result(step.scalar("a"))


def _param(core: Core, step: Step) -> None:
    step.set_result(immediate(core.launch.parameters[step.integer("index")], I64))


def _sreg(core: Core, step: Step) -> None:
    launch = core.launch
    disjoint = int(core.memory.is_disjoint)
    first = launch.program_id(core.task)
    cores = core.number, launch.program.cores_per_program
    tasks = core.task, launch.tasks, math.prod(launch.grid)
    values = (*first, *launch.grid, *cores, disjoint, *tasks, core.memory.local_address)
    step.set_result(immediate(values[step.integer("index")], I64))


def _reach(core: Core, step: Step) -> None:
    address = int(step.scalar("address").view(np.int64)[()])
    reached = core.memory.reach(address, stored=step.integer("stored") == 1)
    step.set_result(immediate(reached, I64))


def _serve(core: Core, step: Step) -> None:
    core.served = step.integer("program")


def _lds(core: Core, step: Step) -> None:
    step.set_result(step.read("a")[0])


def _sts(core: Core, step: Step) -> None:
    step.write("dst", step.scalar("value"))


def _ldg(core: Core, step: Step) -> None:
    address, dtype = step.global_address("address"), step.instruction.dtypes[0]
    step.set_result(core.read_global(address, dtype))
    core.trace.record(Kind.SCALAR_LOAD, dtype.bytes, core.memory.device_address(address))


def _stg(core: Core, step: Step) -> None:
    address, dtype = step.global_address("address"), step.instruction.dtypes[0]
    core.write_global(address, step.scalar("value"), dtype)
    core.trace.record(Kind.SCALAR_STORE, dtype.bytes, core.memory.device_address(address))


def _br(core: Core, step: Step) -> None:
    core.branch(step.instruction.operand("target"))


def _cbr(core: Core, step: Step) -> None:
    if step.scalar("condition"):
        core.branch(step.instruction.operand("target"))


def _exit(core: Core, step: Step) -> None:
    core.trace.record(Kind.END)


def _assert(core: Core, step: Step) -> None:
    if not step.scalar("condition"):
        core.fail("E0305", f"device-side assertion failed: {core.launch.program.strings[step.integer('message')]}")


def _pause(core: Core, step: Step) -> None:
    core.pause = bool(step.scalar("unchanged")), int(step.scalar("attempt"))


def _print(core: Core, step: Step) -> None:
    match step.instruction.row.name:
        case "print.vector":
            values = step.read("a")
        case "print.scalar":
            values = step.scalar("value").reshape(1)
        case _:
            values = np.empty(0, np.int8)
    core.prints.append(handed_over(core.launch.program, core.launch.program_id(core.served), step.instruction, values))


def _sync(core: Core, step: Step) -> None:
    mask = step.integer("queues")
    for queue, bit in SYNC_MASKS.items():
        if mask & bit:
            _drain(core, queue)
    core.trace.record(Kind.SYNC, mask)


def _drain(core: Core, queue: Queue) -> None:
    for memory in core.memories.values():
        memory.drained(queue)


def _barrier(core: Core, step: Step) -> None:
    for queue in SYNC_MASKS:
        _drain(core, queue)
    core.trace.record(Kind.BARRIER_CLUSTER)


# ---- vector and tensor ----------------------------------------------------------------------------------------------


def _elementwise(core: Core, step: Step) -> None:
    operation = step.instruction.row.operation
    assert operation is not None
    rows, columns = step.counts["rows"], step.counts["columns"]
    names = [slot.name for slot in step.instruction.row.slots if slot.kind is SlotKind.VECTOR]
    step.set_vector(_operate(step, operation.name, [step.vector(name, rows, columns) for name in names]), rows, columns)


def _vector_mov(core: Core, step: Step) -> None:
    rows, columns = step.counts["rows"], step.counts["columns"]
    step.set_vector(step.vector("a", rows, columns), rows, columns)


def _iota(core: Core, step: Step) -> None:
    dtype = step.dtype("dst")
    start, stride = (np.uint64(step.integer(name) & MASK64) for name in ("start", "step"))
    with np.errstate(over="ignore"):
        values = np.arange(step.counts["n"], dtype=np.uint64) * stride + start
    step.write("dst", values.astype(f"u{dtype.bytes}").view(dtype.numpy))


def _transpose(core: Core, step: Step) -> None:
    shape = [step.counts[name] for name in ("batch", "rows", "columns", "inner")]
    step.write("dst", step.read("a", *shape).transpose(0, 2, 1, 3))


def _repeat(core: Core, step: Step) -> None:
    outer, n, inner = _axis(step)
    step.write("dst", np.repeat(step.read("a", outer, 1, inner), n, axis=1))


def _axis(step: Step) -> tuple[int, int, int]:
    return step.counts["outer"], step.counts["n"], step.counts["inner"]


def _local_gather(core: Core, step: Step) -> None:
    outer, n, inner = _axis(step)
    extent = step.counts["extent"]
    index = step.read("index", outer, n, inner).astype(np.int64)
    outside = index[(index < 0) | (index >= extent)]
    if outside.size:
        core.fail("E0304", f"index {outside[0]} is outside 0 to {extent - 1}")
    step.write("dst", np.take_along_axis(step.read("a", outer, extent, inner), index, axis=1))


def _look_up(core: Core, step: Step) -> None:
    dtype, mask = step.dtype("dst"), step.list("mask")
    elements = min(step.integer("elements"), step.counts["extent"])
    index, values = step.read("index").astype(np.int64), np.array(step.list("fill"))
    outside = index[mask & ((index < 0) | (index >= elements))]
    if outside.size:
        core.miss(int(step.scalar("src").view(np.int64)[()]) + int(outside[0]) * dtype.bytes, dtype.bytes)
    values[mask] = step.read("a")[index[mask]]
    step.write("dst", values)


def _histogram(core: Core, step: Step) -> None:
    values, bins = step.read("a").astype(np.int64), step.counts["bins"]
    counted = values[step.list("mask") & (values >= 0) & (values < bins)]
    step.write("dst", np.bincount(counted, minlength=bins))


def _collect(core: Core, step: Step) -> None:
    values = step.read("a")
    chosen = values[step.list("mask")]
    step.write("dst", np.concatenate([chosen, np.zeros(len(values) - len(chosen), values.dtype)]))


def _reduce(core: Core, step: Step) -> None:
    combine = step.instruction.row.combine
    assert combine is not None
    step.write("dst", orders.reduce(step.read("a", *_axis(step)), combine.name, step.dtype("a")))


def _reduce_to_place(core: Core, step: Step) -> None:
    values, is_max = step.read("a", *_axis(step)), step.instruction.row.name == "red.argmax"
    places = orders.place_of_extreme(values, step.dtype("a"), is_max=is_max)
    step.write("dst", np.take_along_axis(values, places[:, None, :], axis=1))
    step.write("index", places)


def _scan(core: Core, step: Step) -> None:
    combine = step.instruction.row.combine
    assert combine is not None
    values, from_end = step.read("a", *_axis(step)), bool(step.integer("reverse"))
    step.write("dst", orders.scan(values, combine.name, step.dtype("a"), from_end=from_end))


def _mm(core: Core, step: Step) -> None:
    rows, columns, depth, lda = (step.counts[name] for name in ("rows", "columns", "depth", "lda"))
    a = step.read("a", rows, depth, offsets=np.arange(rows)[:, None] * lda + np.arange(depth))
    if step.dtype("a") is TF32:
        a = rounded(a, TF32)
    w = step.read("w", depth, columns, offsets=orders.weight_offsets(depth, columns))
    accumulate = bool(step.scalar("accumulate"))
    c = step.read("c", rows, columns) if accumulate else np.zeros((rows, columns), step.dtype("c").numpy)
    step.write("c", orders.matrix_product(a, w, c))


# ---- DMA and moves --------------------------------------------------------------------------------------------------


# ---- DMA between GDRAM and on-chip memory ---------------------------------------------------------------------------


def _load(core: Core, step: Step) -> None:
    counts = step.counts
    box = _Box(core, step, "src", [counts["n0"], counts["n1"], counts["n2"]], _global_strides(step), write=False)
    step.write("dst", box.read(), offsets=_local_offsets(step))
    box.record(Kind.LOAD, _touches_sram(step))


def _load_pad(core: Core, step: Step) -> None:
    counts = step.counts
    shape = [counts["n2"], counts["n1"], counts["n0"]]
    before = [min(counts[f"before{i}"], counts[f"n{i}"]) for i in range(3)]
    valid = [min(counts[f"valid{i}"], counts[f"n{i}"] - before[i]) for i in range(3)]
    values = np.full(shape, step.scalar("fill"))
    box = _Box(core, step, "src", valid, _global_strides(step), write=False)
    elements, segments, planes = (slice(first, first + count) for first, count in zip(before, valid, strict=True))
    values[planes, segments, elements] = box.read()
    step.write("dst", values)
    box.record(Kind.LOAD, _touches_sram(step))


def _store(core: Core, step: Step) -> None:
    counts = step.counts
    values = step.read("src", offsets=_local_offsets(step))
    box = _Box(core, step, "dst", [counts["n0"], counts["n1"], counts["n2"]], _global_strides(step), write=True)
    box.write(values)
    box.record(Kind.STORE, _touches_sram(step))


def _load_weight(core: Core, step: Step) -> None:
    counts = step.counts
    depth, columns, first = counts["depth"], counts["columns"], counts["first_column"]
    valid_depth, valid_columns = min(counts["valid_depth"], depth), min(counts["valid_columns"], columns)
    along_depth, along_columns = step.integer("global_depth"), step.integer("global_column")
    matrix = np.full((depth, columns), step.scalar("fill"))
    # The segments are what is consecutive: rows, or columns, or else single elements.
    if along_depth == 1 and along_columns != 1:
        box = _Box(core, step, "src", [valid_depth, valid_columns, 1], [along_columns, 0], write=False)
        matrix[:valid_depth, :valid_columns] = box.read()[0].T
    elif along_columns == 1:
        box = _Box(core, step, "src", [valid_columns, valid_depth, 1], [along_depth, 0], write=False)
        matrix[:valid_depth, :valid_columns] = box.read()[0]
    else:
        box = _Box(core, step, "src", [1, valid_columns, valid_depth], [along_columns, along_depth], write=False)
        matrix[:valid_depth, :valid_columns] = box.read()[:, :, 0]
    _write_weights(step, matrix, first)
    box.record(Kind.LOAD, 0)


def _write_weights(step: Step, matrix: Array, first_column: int) -> None:
    if step.dtype("dst") is TF32:
        matrix = rounded(matrix, TF32)
    depth = matrix.shape[0]
    padded = orders.pad_columns(matrix, first_column)
    step.write("dst", padded, offsets=orders.weight_offsets(depth, padded.shape[1], first_column))


def _global_strides(step: Step) -> list[int]:
    return [step.integer("global1"), step.integer("global2")]


def _local_offsets(step: Step) -> NDArray[np.int64]:
    n0, n1, n2, local1, local2 = (step.counts[name] for name in ("n0", "n1", "n2", "local1", "local2"))
    return np.arange(n2)[:, None, None] * local2 + np.arange(n1)[:, None] * local1 + np.arange(n0)


def _touches_sram(step: Step) -> int:
    return FLAG_SRAM if any(touch.space == "sram" for touch in step.touches) else 0


class _Box:
    """Segments of GDRAM that a DMA moves, checked as a whole.

    ``counts`` are elements of a segment, segments of a plane, planes; ``strides`` those of segments and planes, in
    elements.
    """

    def __init__(
        self, core: Core, step: Step, name: str, counts: list[int], strides: list[int], *, write: bool
    ) -> None:
        self.core = core
        self.counts = counts
        self.dtype = step.dtype(name)
        self.width = self.dtype.bytes
        self.strides_bytes = [stride * self.width for stride in strides]
        self.address = step.global_address(name)
        self.is_empty = 0 in counts
        if not self.is_empty:
            reach = [(count - 1) * stride for count, stride in zip(counts[1:], self.strides_bytes, strict=True)]
            self.low = sum(min(0, each) for each in reach)
            high = sum(max(0, each) for each in reach) + counts[0] * self.width
            self.bytes = core.global_bytes((self.address + self.low) & MASK64, high - self.low, write=write)

    def _places(self) -> NDArray[np.int64]:
        segment, count1, count2 = self.counts
        starts = (
            np.arange(count2)[:, None, None] * self.strides_bytes[1]
            + np.arange(count1)[:, None] * self.strides_bytes[0]
        )
        return starts - self.low + np.arange(segment * self.width)

    def read(self) -> Array:
        """The elements, [planes, segments, elements]."""
        shape = self.counts[::-1]
        if self.is_empty:
            return np.empty(shape, self.dtype.numpy)
        return from_bytes(self.bytes[self._places()].reshape(-1), self.dtype).reshape(shape)

    def write(self, values: Array) -> None:
        """Set the elements; where segments overlap, the last one stays."""
        places = self._places()
        self.bytes[places] = to_bytes(values, self.dtype).reshape(places.shape)

    def record(self, kind: Kind, flags: int) -> None:
        """Leave the trace record; one without bytes has the address 0."""
        segment, count1, count2 = self.counts
        if self.is_empty:
            self.core.trace.record(kind, 0, 0, flags)
            return
        extent = Extent(segment * self.width, count1, self.strides_bytes[0], count2, self.strides_bytes[1])
        self.core.trace.record(
            kind,
            segment * self.width * count1 * count2,
            self.core.memory.device_address(self.address),
            flags,
            None if extent.is_one_piece else extent,
        )


def _gather(core: Core, step: Step) -> None:
    dtype, length, valid = step.dtype("dst"), step.counts["length"], _valid_length(step)
    values = np.repeat(step.list("fill")[:, None], length, axis=1)
    for place, address in _items(step, "src") if valid else ():
        item = core.item_bytes(address, valid * dtype.bytes, write=False)
        values[place, :valid] = from_bytes(item.copy(), dtype)
    step.write("dst", values)
    core.trace.record(Kind.GATHER, step.counts["n"], valid * dtype.bytes)


def _scatter(core: Core, step: Step) -> None:
    dtype, n, valid = step.dtype("src"), step.counts["n"], _valid_length(step)
    values = step.read("src", n, valid, offsets=np.arange(n)[:, None] * step.counts["length"] + np.arange(valid))
    for place, address in _items(step, "dst") if valid else ():
        core.item_bytes(address, valid * dtype.bytes, write=True)[:] = to_bytes(values[place], dtype)
    core.trace.record(Kind.SCATTER, n, valid * dtype.bytes)


def _valid_length(step: Step) -> int:
    """The elements of each item that lie in GDRAM."""
    return min(step.counts["valid"], step.counts["length"])


def _items(step: Step, base: str) -> list[tuple[int, int]]:
    """Places and host addresses of the items where the mask is set, in order."""
    address, scale = step.global_address(base), step.integer("scale")
    offsets, mask = step.read("offsets").tolist(), step.list("mask").tolist()
    return [(k, (address + offset * scale) & MASK64) for k, offset in enumerate(offsets) if mask[k]]


# ---- atomics --------------------------------------------------------------------------------------------------------


def _atomic(core: Core, step: Step) -> None:
    address = step.global_address("address")
    expected = step.scalar("expected") if "expected" in step.instruction.row.slot_index else None
    step.set_result(_exchange(core, step, address, step.scalar("value"), expected))
    width = step.instruction.dtypes[0].bytes
    core.trace.record(Kind.ATOMIC_SCALAR, width, core.memory.device_address(address))


def _atomic_vector(core: Core, step: Step) -> None:
    n, length, valid = step.counts["n"], step.counts["length"], _valid_length(step)
    width = step.instruction.dtypes[0].bytes
    values = step.list("value", n * length)
    expected = step.list("expected", n * length) if "expected" in step.instruction.row.slot_index else None
    places: list[int] = []
    before: list[Array] = []
    for item, address in _items(step, "address") if valid else ():
        core.item_bytes(address, valid * width, write=False)
        core.item_bytes(address, valid * width, write=True)
        for j in range(valid):
            place = item * length + j
            there = None if expected is None else expected[place]
            before.append(_exchange(core, step, address + j * width, values[place], there))
            places.append(place)
    if not step.is_absent("old"):
        step.write("old", np.array(before, step.dtype("old").numpy), offsets=np.array(places, np.int64))
    core.trace.record(Kind.ATOMIC_VECTOR, n, valid * width)


def _exchange(core: Core, step: Step, address: int, value: Array, expected: Array | None) -> Array:
    """One atomic step on GDRAM: the value that was there."""
    dtype, row = step.instruction.dtypes[0], step.instruction.row
    core.global_bytes(address, dtype.bytes, write=True)
    before = core.read_global(address, dtype)
    if row.combine is not None:
        value = evaluate(row.combine.name, before, value, dtype=dtype)
    if expected is None or to_bytes(before, dtype).tobytes() == to_bytes(expected, dtype).tobytes():
        core.write_global(address, value, dtype)
    return before


# ---- moves within the chip ------------------------------------------------------------------------------------------


def _move(core: Core, step: Step) -> None:
    n0, n1, to1, from1 = (step.counts[name] for name in ("n0", "n1", "to1", "from1"))
    segments, elements = np.arange(n1)[:, None], np.arange(n0)
    step.write("dst", step.read("src", offsets=segments * from1 + elements), offsets=segments * to1 + elements)
    core.trace.record(Kind.MOVE, n0 * n1 * step.dtype("dst").bytes, 0, _touches_sram(step))


def _move_weight(core: Core, step: Step) -> None:
    depth, columns, from_depth, from_column = (
        step.counts[name] for name in ("depth", "columns", "from_depth", "from_column")
    )
    places = np.arange(depth)[:, None] * from_depth + np.arange(columns) * from_column
    _write_weights(step, step.read("src", depth, columns, offsets=places), 0)
    core.trace.record(Kind.MOVE, depth * columns * step.dtype("dst").bytes, 0, _touches_sram(step))


_BY_NAME: dict[str, Handler] = {
    "mov": _mov, "param": _param, "sreg": _sreg, "reach": _reach, "serve": _serve, "lds": _lds,
    "sts": _sts, "ldg": _ldg, "stg": _stg,
    "br": _br, "cbr": _cbr, "exit": _exit, "assert": _assert, "pause": _pause,
    "print.text": _print, "print.scalar": _print, "print.vector": _print,
    "sync": _sync, "barrier.cluster": _barrier,
    "v.mov": _vector_mov, "v.iota": _iota, "v.transpose": _transpose, "v.repeat": _repeat, "v.gather": _local_gather,
    "v.lookup": _look_up,
    "v.histogram": _histogram, "v.collect": _collect,
    "red.argmax": _reduce_to_place, "red.argmin": _reduce_to_place, "mm": _mm,
    "dma.load": _load, "dma.load_pad": _load_pad, "dma.store": _store, "dma.weight": _load_weight,
    "gather": _gather, "scatter": _scatter, "move": _move, "move.weight": _move_weight,
}  # fmt: skip
_BY_FAMILY: dict[str, Handler] = {"red": _reduce, "scan": _scan, "atom": _atomic, "gatom": _atomic_vector}


def _handler(row: Row) -> Handler:
    if row.operation is not None:
        return _scalar_arithmetic if row.queue is Queue.SCALAR else _elementwise
    return _BY_NAME.get(row.name) or _BY_FAMILY[row.name.split(".")[0]]


HANDLERS: dict[str, Handler] = {row.name: _handler(row) for row in TABLE.values()}
