"""Selection of accesses to tiles, which become DMA descriptors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlutriton.codegen.selection.state import ONE, ZERO, Selection, storage_type
from mlutriton.codegen.selection.views import DenseView, ScalarView
from mlutriton.codegen.tile_code import ScalarOperand, While
from mlutriton.dtypes import I64, DType
from mlutriton.immutables import replace
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    TileGeometry,
    TileLoad,
    TileStore,
)
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.table import WRAM_PANEL_COLUMNS

# More elements than any tile has.
_FOREVER = Immediate(1 << 40)
_DMA_DIMENSIONS = 3


@dataclass(frozen=True)
class Dimension:
    """One dimension of a transfer, strides in elements.

    Attributes:
        extent: elements of the tile.
        valid: elements that exist in global memory, 0 to extent.
        first: elements before them, 0 to extent.
        stride: step in global memory.
        local: step in the on-chip buffer.
        wrap: (start, period) of positions that wrap around, both positive or the start 0.
    """

    extent: int
    valid: ScalarOperand
    stride: ScalarOperand
    local: int
    wrap: tuple[ScalarOperand, ScalarOperand] | None = None
    first: ScalarOperand = ZERO

    @property
    def is_full(self) -> bool:
        """True if every element exists."""
        return self.valid == Immediate(self.extent)


def dimensions_of(s: Selection, geometry: TileGeometry) -> list[Dimension]:
    """The dimensions of a tile, outermost first, for a dense row-major buffer."""
    found: list[Dimension] = []
    for d, extent in enumerate(geometry.shape):
        first, limit = (_clamped(s, value, extent) for value in (geometry.firsts[d], geometry.limits[d]))
        valid = limit
        if first != ZERO:
            valid = s.emitter.integer("smax", s.emitter.integer("sub", limit, first), ZERO)
        pair = geometry.wraps[d]
        wrap = None
        if pair:
            start, period = s.operand(pair[0]), _period(s, s.operand(pair[1]))
            if first != ZERO:
                start = s.emitter.integer("urem", s.emitter.integer("add", start, first), period)
            wrap = start, period
        local = math.prod(geometry.shape[d + 1 :])
        found.append(Dimension(extent, valid, s.operand(geometry.strides[d]), local, wrap, first))
    return found


def _period(s: Selection, modulo: ScalarOperand) -> ScalarOperand:
    """Positions of one period: the sign of a divisor does not matter, and what is divided by 0 does not wrap."""
    if isinstance(modulo, Immediate):
        return Immediate(abs(int(modulo.value))) if modulo.value else _FOREVER
    size = s.emitter.scalar("smax", (I64,), modulo, s.emitter.integer("sub", ZERO, modulo))
    divides = s.emitter.scalar("sgt", (I64,), size, ZERO)
    return s.emitter.scalar("select", (I64,), divides, size, _FOREVER)


def _clamped(s: Selection, value: Value, extent: int) -> ScalarOperand:
    """A scalar as a count from 0 to ``extent``."""
    return s.emitter.integer("smax", s.emitter.integer("smin", s.operand(value), Immediate(extent)), ZERO)


def origin(
    s: Selection, dimensions: Sequence[Dimension], base: Register, dtype: DType
) -> tuple[Register, ScalarOperand]:
    """Where the first valid element stands, in global memory and, in elements, in the on-chip buffer."""
    outside: ScalarOperand = ZERO
    local: ScalarOperand = ZERO
    for dimension in dimensions:
        if dimension.wrap is None:
            step = s.emitter.integer("mul", dimension.first, dimension.stride)
            outside = s.emitter.integer("add", outside, step)
        step = s.emitter.integer("mul", dimension.first, Immediate(dimension.local))
        local = s.emitter.integer("add", local, step)
    return base if outside == ZERO else _advance(s, base, outside, dtype), local


def simplified(s: Selection, dimensions: list[Dimension]) -> list[Dimension]:
    """Drop extents of 1 and merge dimensions that continue each other in both memories."""
    kept: list[Dimension] = []
    gate: ScalarOperand = ONE
    for dimension in dimensions:
        if dimension.extent == 1 and dimension.wrap is None:
            gate = s.emitter.integer("mul", gate, dimension.valid)
        elif (
            kept
            and dimension.is_full
            and kept[-1].wrap is None
            and dimension.wrap is None
            and _continues(kept[-1], dimension)
            and kept[-1].is_full
        ):
            total = kept[-1].extent * dimension.extent
            kept[-1] = replace(dimension, extent=total, valid=Immediate(total))
        else:
            kept.append(dimension)
    if not kept:
        return [Dimension(1, gate, ONE, 1)]
    if gate != ONE:
        kept[0] = replace(kept[0], valid=s.emitter.integer("mul", kept[0].valid, gate))
    return kept


def _continues(outer: Dimension, inner: Dimension) -> bool:
    strides = (outer.stride, inner.stride)
    if not all(isinstance(stride, Immediate) for stride in strides):
        return False
    return int(outer.stride.value) == int(inner.stride.value) * inner.extent  # type: ignore[union-attr]


def _unit_dimension(dimensions: Sequence[Dimension]) -> int | None:
    """The dimension whose elements are consecutive in global memory: the last one if it is, else the longest."""
    units = [d for d, dimension in enumerate(dimensions) if dimension.stride == ONE]
    if not units:
        return None
    last = len(dimensions) - 1
    return last if last in units else max(units, key=lambda d: dimensions[d].extent)


# ---- tiles ---------------------------------------------------------------------------------------------------------


def tile_load(s: Selection, operation: TileLoad) -> None:
    """A tile into a dense NRAM buffer."""
    dtype = storage_type(operation.result.type)
    if operation.base in s.rows_at or s.vector_scalars.verdict(operation):
        base, index, mask = _item(s, operation)
        target = s.destination(operation.result)
        row = (index.address(), Immediate(dtype.bytes), mask, s.operand(operation.other), *_row_counts(s, operation))
        s.emitter.emit("gather", (dtype, index.dtype), (target.address(), base, *row))
        s.views[operation.result] = target
        return
    dimensions = simplified(s, dimensions_of(s, operation.geometry))
    base, fill = s.register(operation.base), s.operand(operation.other)
    target = s.destination(operation.result)
    unit = _unit_dimension(dimensions)
    if unit is None and _is_cheaper_with_gaps(s, dimensions, dtype):
        s.views[operation.result] = _load_with_gaps(s, dimensions, base, fill, target)
        return
    if unit is None:
        dimensions.append(Dimension(1, ONE, ONE, 1))
    elif unit != len(dimensions) - 1:
        swapped, moved = _move_last(dimensions, unit)
        staging = s.new("staging", target.shape, dtype)
        _load(s, moved, base, fill, staging)
        s.emitter.emit("v.transpose", (dtype,), (target.address(), staging.address(), *swapped))
        s.views[operation.result] = target
        return
    _load(s, dimensions, base, fill, target)
    s.views[operation.result] = target


# A segment takes as long as so many bytes of a long one, whatever it has; gaps take NRAM too, for a while.
_SEGMENT_BYTES = 256
_SHARE_FOR_GAPS = 8


def _is_cheaper_with_gaps(s: Selection, dimensions: Sequence[Dimension], dtype: DType) -> bool:
    """True if elements at a small distance are best loaded with what lies between them."""
    last = dimensions[-1]
    if not isinstance(last.stride, Immediate) or last.wrap is not None:
        return False
    stride_bytes = int(last.stride.value) * dtype.bytes
    bytes_with_gaps = math.prod(dimension.extent for dimension in dimensions) * stride_bytes
    return 0 < stride_bytes <= _SEGMENT_BYTES // 4 and bytes_with_gaps <= s.machine.usable_nram_bytes // _SHARE_FOR_GAPS


def _load_with_gaps(
    s: Selection, dimensions: list[Dimension], base: Register, fill: ScalarOperand, target: DenseView
) -> DenseView:
    """Load everything from the first to the last element of each row, and take every ``stride``-th of it."""
    *outer, last = dimensions
    assert isinstance(last.stride, Immediate)
    stride = int(last.stride.value)
    gaps = Immediate(stride - 1)
    reach = s.emitter.integer("sub", s.emitter.integer("mul", last.valid, last.stride), gaps)
    row = replace(
        last,
        extent=last.extent * stride,
        first=s.emitter.integer("mul", last.first, last.stride),
        valid=s.emitter.integer("smax", reach, ZERO),
        stride=ONE,
    )
    staging = s.new("staging", (target.count * stride,), target.dtype)
    _load(s, [*(replace(each, local=each.local * stride) for each in outer), row], base, fill, staging)
    taken = s.new("taken", (stride, target.count), target.dtype)
    counts = (ONE, Immediate(target.count), Immediate(stride), ONE)
    s.emitter.emit("v.transpose", (target.dtype,), (taken.address(), staging.address(), *counts))
    return DenseView(taken.buffer, target.shape, target.dtype)


def _move_last(dimensions: list[Dimension], unit: int) -> tuple[tuple[Immediate, ...], list[Dimension]]:
    """The dimensions with ``unit`` last and dense again, and the counts of the transpose that undoes it."""
    order = [*dimensions[:unit], *dimensions[unit + 1 :], dimensions[unit]]
    moved = [
        replace(dimension, local=math.prod(later.extent for later in order[d + 1 :]))
        for d, dimension in enumerate(order)
    ]
    batch = math.prod(d.extent for d in dimensions[:unit])
    rows = math.prod(d.extent for d in dimensions[unit + 1 :])
    return (Immediate(batch), Immediate(rows), Immediate(dimensions[unit].extent), ONE), moved


def _load(s: Selection, dimensions: list[Dimension], base: Register, fill: ScalarOperand, target: DenseView) -> None:
    base, first = origin(s, dimensions, base, target.dtype)
    wrapped = [d for d, dimension in enumerate(dimensions) if dimension.wrap is not None]
    dense = len(dimensions) <= _DMA_DIMENSIONS
    if not wrapped and dense:
        load_box(s, dimensions, GlobalAddress(base), fill, target.address(), target.dtype)
    elif wrapped == [0] and dense and dimensions[0].is_full:

        def piece(count: ScalarOperand, address: Register, local: ScalarOperand) -> None:
            box = [replace(dimensions[0], wrap=None), *dimensions[1:]]
            place = _shifted(s, target, local)
            load_box(s, box, GlobalAddress(address), fill, place, target.dtype, outer_count=count)

        _pieces(s, dimensions[0], base, target.dtype, piece)
    else:
        if not all(dimension.is_full for dimension in dimensions):
            s.fill(target, fill)
        _walk(s, dimensions, base, first, target, store=False)


def load_box(
    s: Selection,
    dimensions: list[Dimension],
    source: GlobalAddress,
    fill: ScalarOperand,
    target: Address,
    dtype: DType,
    outer_count: ScalarOperand | None = None,
) -> None:
    """One descriptor of up to three dimensions from the first valid element on.

    ``outer_count`` replaces the extent of the outermost dimension.
    """
    inner = list(reversed(dimensions))
    padding = _DMA_DIMENSIONS - len(inner)
    extents: list[ScalarOperand] = [Immediate(d.extent) for d in inner]
    before = [d.first for d in inner] + [ZERO] * padding
    valid = [d.valid for d in inner]
    if outer_count is not None:
        extents[-1] = valid[-1] = outer_count
    strides = [d.stride for d in inner[1:]] + [ZERO] * padding
    counts = extents + [ONE] * padding
    if all(d.is_full for d in dimensions):
        locals_ = [Immediate(d.local) for d in inner[1:]] + [ZERO] * padding
        s.emitter.emit("dma.load", (dtype,), (target, source, *counts, *locals_, *strides))
    else:
        valid += [ONE] * padding
        s.emitter.emit("dma.load_pad", (dtype,), (target, source, *counts, *before, *valid, *strides, fill))


def _shifted(s: Selection, target: DenseView, elements: ScalarOperand) -> Address:
    """The address ``elements`` behind the start of a dense view."""
    if isinstance(elements, Immediate):
        return target.address(offset_bytes=int(elements.value) * target.dtype.bytes)
    register = s.register(ScalarView(s.emitter.integer("mul", elements, Immediate(target.dtype.bytes)), I64))
    return Address(target.buffer.name, register, target.offset_bytes)


def _advance(s: Selection, base: Register, elements: ScalarOperand, dtype: DType) -> Register:
    offset = s.emitter.integer("mul", elements, Immediate(dtype.bytes))
    return s.register(ScalarView(s.emitter.integer("add", base, offset), I64))


def _pieces(
    s: Selection,
    dimension: Dimension,
    base: Register,
    dtype: DType,
    piece: Callable[[ScalarOperand, Register, ScalarOperand], None],
) -> None:
    """Run ``piece(count, global address, local offset in elements)`` for each unbroken run of a wrapped dimension."""
    assert dimension.wrap is not None
    start, period = dimension.wrap
    done, position = s.code.register(), s.code.register()
    loop = While(ZERO, [(done, ZERO), (position, start)], location=s.emitter.location)
    s.emitter.nodes.append(loop)
    with s.emitter.into(loop.head):
        loop.condition = s.emitter.scalar("slt", (I64,), done, dimension.valid)
    with s.emitter.into(loop.body):
        left = s.emitter.integer("sub", dimension.valid, done)
        count = s.emitter.integer("smin", left, s.emitter.integer("sub", period, position))
        address = _advance(s, base, s.emitter.integer("mul", position, dimension.stride), dtype)
        piece(count, address, s.emitter.integer("mul", done, Immediate(dimension.local)))
        loop.yielded = [s.emitter.integer("add", done, count), ZERO]


def _walk(
    s: Selection, dimensions: list[Dimension], base: Register, local: ScalarOperand, view: DenseView, *, store: bool
) -> None:
    """Transfer only what is valid, looping over dimensions that wrap or are more than a descriptor holds."""
    first = next(
        (d for d, dimension in enumerate(dimensions) if dimension.wrap is not None),
        0 if len(dimensions) > _DMA_DIMENSIONS else None,
    )
    if first is None:
        _box(s, dimensions, base, local, view, store=store)
        return
    dimension, rest = dimensions[first], [*dimensions[:first], *dimensions[first + 1 :]]
    if dimension.wrap is not None:

        def piece(count: ScalarOperand, address: Register, offset: ScalarOperand) -> None:
            part = replace(dimension, valid=count, wrap=None)
            here = [*dimensions[:first], part, *dimensions[first + 1 :]]
            _walk(s, here, address, s.emitter.integer("add", local, offset), view, store=store)

        _pieces(s, dimension, base, view.dtype, piece)
        return
    # Too many dimensions: one descriptor for every index of the outermost.
    single = replace(dimension, wrap=(ZERO, ONE))
    _pieces_by_one(s, single, base, view.dtype, lambda address, offset: _walk(
        s, rest, address, s.emitter.integer("add", local, offset), view, store=store))  # fmt: skip


def _pieces_by_one(
    s: Selection,
    dimension: Dimension,
    base: Register,
    dtype: DType,
    piece: Callable[[Register, ScalarOperand], None],
) -> None:
    index = s.code.register()
    loop = While(ZERO, [(index, ZERO)], location=s.emitter.location)
    s.emitter.nodes.append(loop)
    with s.emitter.into(loop.head):
        loop.condition = s.emitter.scalar("slt", (I64,), index, dimension.valid)
    with s.emitter.into(loop.body):
        address = _advance(s, base, s.emitter.integer("mul", index, dimension.stride), dtype)
        piece(address, s.emitter.integer("mul", index, Immediate(dimension.local)))
        loop.yielded = [s.emitter.integer("add", index, ONE)]


def _box(
    s: Selection, dimensions: list[Dimension], base: Register, local: ScalarOperand, view: DenseView, *, store: bool
) -> None:
    inner = list(reversed(dimensions))
    if inner[0].stride != ONE or inner[0].local != 1:
        inner.insert(0, Dimension(1, ONE, ONE, 1))
    if len(inner) > _DMA_DIMENSIONS:
        outermost = inner[-1]
        _pieces_by_one(s, outermost, base, view.dtype, lambda address, offset: _box(
            s, list(reversed(inner[:-1])), address, s.emitter.integer("add", local, offset), view, store=store,
        ))  # fmt: skip
        return
    padding = _DMA_DIMENSIONS - len(inner)
    counts = [d.valid for d in inner] + [ONE] * padding
    locals_ = [Immediate(d.local) for d in inner[1:]] + [ZERO] * padding
    strides = [d.stride for d in inner[1:]] + [ZERO] * padding
    place, outside = _shifted(s, view, local), GlobalAddress(base)
    if store:
        s.emitter.emit("dma.store", (view.dtype,), (outside, place, *counts, *locals_, *strides))
    else:
        s.emitter.emit("dma.load", (view.dtype,), (place, outside, *counts, *locals_, *strides))


def tile_store(s: Selection, operation: Operation) -> None:
    """A dense buffer to a tile of global memory."""
    assert isinstance(operation, TileStore)
    source = s.dense(operation.value)
    if operation.base in s.rows_at or s.vector_scalars.verdict(operation):
        base, index, mask = _item(s, operation)
        row = (index.address(), Immediate(source.dtype.bytes), mask, *_row_counts(s, operation))
        s.emitter.emit("scatter", (source.dtype, index.dtype), (base, source.address(), *row))
        return
    dimensions = simplified(s, dimensions_of(s, operation.geometry))
    base = s.register(operation.base)
    unit = _unit_dimension(dimensions)
    if unit is not None and unit != len(dimensions) - 1:
        (batch, rows, columns, _), moved = _move_last(dimensions, unit)
        staging = s.new("staging", source.shape, source.dtype)
        counts = (batch, columns, rows, ONE)
        s.emitter.emit("v.transpose", (source.dtype,), (staging.address(), source.address(), *counts))
        source, dimensions = staging, moved
    base, first = origin(s, dimensions, base, source.dtype)
    _walk(s, dimensions, base, first, source, store=True)


def _item(s: Selection, operation: TileLoad | TileStore) -> tuple[GlobalAddress, DenseView, Operand]:
    """From where on and how far a tile stands that is an item, and whether there is one."""
    verdict = s.vector_scalars.verdict(operation)
    mask = ONE if verdict is None else _one_element(s, verdict.condition)
    if operation.base in s.rows_at:
        return *s.rows_at[operation.base], mask
    zero = s.new("begin", (), I64)
    s.fill(zero, ZERO)
    return GlobalAddress(s.register(operation.base)), zero, mask


def _one_element(s: Selection, value: Value) -> Operand:
    """A scalar as it stands, in a register or in a buffer."""
    view = s.views[value]
    return s.operand(view) if isinstance(view, ScalarView) else s.dense(view).address()


def _row_counts(s: Selection, operation: TileLoad | TileStore) -> tuple[ScalarOperand, ...]:
    """One item, its elements, and those of them that are valid."""
    geometry, verdict = operation.geometry, s.vector_scalars.verdict(operation)
    extent, *inner = geometry.shape
    first, *others = verdict.limits if verdict else geometry.limits[:1]
    valid = _clamped(s, first, extent)
    for each in others:
        valid = s.emitter.integer("smin", valid, _clamped(s, each, extent))
    each = Immediate(math.prod(inner))
    return ONE, Immediate(extent * int(each.value)), s.emitter.integer("mul", valid, each)


def weight_load(s: Selection, operation: TileLoad) -> bool:
    """A rank-2 tile straight into WRAM panels as right operand of a dot; False if use or form don't allow it."""
    use = s.weights.get(operation.result)
    if use is None:
        return False
    dimensions = dimensions_of(s, operation.geometry)
    depth, column = reversed(dimensions) if use.transposed else dimensions
    if depth.wrap is not None or depth.first != ZERO or column.first != ZERO:
        return False
    if column.wrap is not None and not column.is_full:
        return False  # what a mask leaves out belongs to no piece, and would be what was there before
    base, fill = s.register(operation.base), s.operand(operation.other)
    panels = -(-column.extent // WRAM_PANEL_COLUMNS)
    target = s.emitter.buffer(
        operation.result.name or "weight", use.dtype, panels * WRAM_PANEL_COLUMNS * depth.extent, "wram"
    )

    def load(columns: ScalarOperand, valid: ScalarOperand, first: ScalarOperand, address: Register) -> None:
        operands: tuple[Operand, ...] = (
            Address(target.name), GlobalAddress(address), Immediate(depth.extent), columns, depth.valid, valid, first,
            depth.stride, column.stride, fill,
        )  # fmt: skip
        s.emitter.emit("dma.weight", (use.dtype,), operands)

    if column.wrap is None:
        load(Immediate(column.extent), column.valid, ZERO, base)
    else:
        whole = replace(column, local=1)
        _pieces(s, whole, base, use.dtype, lambda count, address, first: load(count, count, first, address))
    s.weight_buffers[operation.result] = target
    return True
