"""Selection of accesses to elements and runs of them: gathers, look-ups, scatters and atomics, and scalar accesses."""

from __future__ import annotations

import math
from collections.abc import Callable

from mlutriton.codegen.selection.state import ONE, ZERO, Selection, slice_of, storage_type
from mlutriton.codegen.selection.views import DenseView, ScalarView, View, is_true
from mlutriton.codegen.tile_code import Branch, ScalarOperand
from mlutriton.dtypes import DType
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import AtomicCas, AtomicRmw, GatherAtomic, GatherLoad, Load, LookUp, ScatterStore, Store
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand

# ---- gathers -------------------------------------------------------------------------------------------------------


def gather_load(s: Selection, operation: Operation) -> None:
    """Item by item loads through offsets."""
    assert isinstance(operation, GatherLoad)
    base, offsets, mask, other, limit = operation.operands
    counts = _run_counts(s, operation, offsets, limit)
    index = s.dense(offsets)
    operands = (_elements(s, mask), _elements(s, other))
    target = s.destination(operation.result)
    s.emitter.emit(
        "gather",
        (target.dtype, index.dtype),
        (target.address(), GlobalAddress(s.register(base)), index.address(), _scale(operation), *operands, *counts),
    )
    s.views[operation.result] = target


def look_up(s: Selection, operation: Operation) -> None:
    """Elements of a table on chip."""
    assert isinstance(operation, LookUp)
    table, base, index, mask, other, count = operation.operands
    source, places, address = s.dense(table), s.dense(index), s.operand(s.views[base])
    operands = (_elements(s, mask), _elements(s, other))
    target = s.destination(operation.result)
    where = (target.address(), source.address(), places.address(), address, s.operand(s.views[count]))
    counts = (Immediate(places.count), Immediate(source.count))
    s.emitter.emit("v.lookup", (target.dtype, places.dtype), (*where, *operands, *counts))
    s.views[operation.result] = target


def scatter_store(s: Selection, operation: Operation) -> None:
    """Item by item stores through offsets."""
    assert isinstance(operation, ScatterStore)
    base, offsets, value, mask, limit = operation.operands
    counts = _run_counts(s, operation, offsets, limit)
    index, source = s.dense(offsets), s.dense(value)
    where = GlobalAddress(s.register(base))
    operands = (where, source.address(), index.address(), _scale(operation), _elements(s, mask), *counts)
    s.emitter.emit("scatter", (source.dtype, index.dtype), operands)


def _run_counts(
    s: Selection, operation: GatherLoad | ScatterStore | GatherAtomic, offsets: Value, limit: Value
) -> tuple[ScalarOperand, ...]:
    """Items, elements of each, and those of them that are valid."""
    length = operation.integer("length")
    valid = s.operand(limit)
    if isinstance(valid, Immediate):
        valid = Immediate(max(0, min(int(valid.value), length)))
    return Immediate(math.prod(shape_of(offsets.type))), Immediate(length), valid


def gather_atomic(s: Selection, operation: Operation) -> None:
    """Atomics item by item through offsets."""
    assert isinstance(operation, GatherAtomic)
    base, offsets, mask, limit, *values = operation.operands
    counts = _run_counts(s, operation, offsets, limit)
    _, length, valid = counts
    dtype = storage_type(operation.result.type)
    if base in s.rows_at:
        (where, index), scale = s.rows_at[base], Immediate(dtype.bytes)
    else:
        where, index, scale = GlobalAddress(s.register(base)), s.dense(offsets), _scale(operation)
    sources = [_elements(s, value) for value in values]
    wanted = s.uses.get(operation.result, 0) > 0
    old: Operand = ZERO
    if wanted:
        target = s.destination(operation.result)
        s.views[operation.result] = target
        old = target.address()
        if not is_true(s.views[mask]) or valid != length:
            s.fill(target, _zero(dtype))
    name = f"gatom.{operation.attributes['kind']}"
    operands = (old, where, index.address(), scale, *sources, _elements(s, mask), *counts)
    s.emitter.emit(name, (dtype, index.dtype), operands)


def _zero(dtype: DType) -> Immediate:
    """What an atomic results in where its mask is clear."""
    return Immediate(0.0 if dtype.is_float else 0)


def _scale(operation: GatherLoad | ScatterStore | GatherAtomic) -> Immediate:
    scale = operation.attributes["scale_bytes"]
    assert isinstance(scale, int)
    return Immediate(scale)


def _elements(s: Selection, value: Value) -> Operand:
    """A vector operand of one element each, or one scalar for all."""
    rows, _, (operand,) = s.vector_operands([s.views[value]], shape_of(value.type))
    if rows != 1 or (isinstance(operand, Address) and not isinstance(s.views[value], DenseView)):
        return s.dense(value).address()
    return operand


# ---- scalar accesses -----------------------------------------------------------------------------------------------


def scalar_load(s: Selection, operation: Load) -> None:
    """One element by the scalar unit, or by DMA for the vector unit; ``other`` where the mask is false."""
    pointer, mask, other = operation.operands
    dtype = storage_type(operation.result.type)
    if pointer in s.rows_at:
        base, index = s.rows_at[pointer]
        target = s.new(operation.result.name, (), dtype)
        element = (index.address(), Immediate(dtype.bytes), s.operand(mask), s.operand(other), ONE, ONE, ONE)
        s.emitter.emit("gather", (dtype, index.dtype), (target.address(), base, *element))
        s.views[operation.result] = target
        return
    address = GlobalAddress(s.register(pointer))
    if (neighbours := s.vector_scalars.neighbours.get(operation.result)) is not None:
        place = neighbours.places[operation.result]
        if neighbours not in s.neighbours:
            tile = s.neighbours[neighbours] = s.new(operation.result.name, (neighbours.count,), dtype)
            first = s.emitter.integer("sub", s.register(pointer), Immediate(place * dtype.bytes))
            geometry = (Immediate(neighbours.count), ONE, ONE, ZERO, ZERO, ZERO, ZERO)
            s.emitter.emit("dma.load", (dtype,), (tile.address(), GlobalAddress(s.register_of(first)), *geometry))
        one = slice_of(s.neighbours[neighbours], place, 1)
        s.views[operation.result] = DenseView(one.buffer, (), dtype, one.offset_bytes)
        return
    if operation.result in s.vector_scalars.loads:
        target = s.new(operation.result.name, (), dtype)
        s.views[operation.result] = target
        geometry = (ONE, ONE, ONE, ZERO, ZERO, ZERO)
        if is_true(s.views[mask]):
            s.emitter.emit("dma.load", (dtype,), (target.address(), address, *geometry, ZERO))
        else:
            valid = (s.operand(mask), ONE, ONE, ZERO, ZERO)
            s.emitter.emit("dma.load_pad", (dtype,), (target.address(), address, *geometry, *valid, s.operand(other)))
        return
    result = s.code.register()
    s.views[operation.result] = ScalarView(result, dtype)
    if is_true(s.views[mask]):
        s.emitter.emit("ldg", (dtype,), (result, address))
        return
    s.emitter.mov(dtype, result, s.operand(other))
    _guarded(s, mask, lambda: s.emitter.emit("ldg", (dtype,), (result, address)))


def scalar_store(s: Selection, operation: Store) -> None:
    """One element; a value that stands in NRAM is stored by DMA so that the scalar unit need not wait for it."""
    pointer, value, mask = operation.operands
    dtype = storage_type(value.type)
    view = s.views[value]
    if pointer in s.rows_at:
        base, index = s.rows_at[pointer]
        element = (index.address(), Immediate(dtype.bytes), s.operand(mask), ONE, ONE, ONE)
        s.emitter.emit("scatter", (dtype, index.dtype), (base, s.dense(view).address(), *element))
        return
    address = GlobalAddress(s.register(pointer))
    if isinstance(view, DenseView):
        count = ONE if is_true(s.views[mask]) else s.operand(mask)
        counts = (count, ONE, ONE, ZERO, ZERO, ZERO, ZERO)
        s.emitter.emit("dma.store", (dtype,), (address, view.address(), *counts))
        return
    scalar = s.operand(view)
    _guarded(s, mask, lambda: s.emitter.emit("stg", (dtype,), (address, scalar)))


def scalar_atomic(s: Selection, operation: AtomicRmw | AtomicCas) -> None:
    """One atomic by the scalar unit; the result is 0 where the mask is false."""
    pointer = operation.operands[0]
    dtype = storage_type(operation.result.type)
    address = GlobalAddress(s.register(pointer))
    result = s.code.register()
    s.views[operation.result] = ScalarView(result, dtype)
    if isinstance(operation, AtomicCas):
        expected, value = (s.operand(operand) for operand in operation.operands[1:])
        s.emitter.emit("atom.cas", (dtype,), (result, address, expected, value))
        return
    value, mask = s.operand(operation.operands[1]), operation.operands[2]
    if not is_true(s.views[mask]):
        s.emitter.mov(dtype, result, _zero(dtype))
    name = f"atom.{operation.attributes['kind']}"
    _guarded(s, mask, lambda: s.emitter.emit(name, (dtype,), (result, address, value)))


def _guarded(s: Selection, mask: Value, action: Callable[[], None]) -> None:
    """Run ``action`` under a branch on a scalar mask; without one if the mask is always true."""
    view: View = s.views[mask]
    if is_true(view):
        action()
        return
    branch = Branch(s.operand(view), location=s.emitter.location)
    s.emitter.nodes.append(branch)
    with s.emitter.into(branch.then):
        action()
