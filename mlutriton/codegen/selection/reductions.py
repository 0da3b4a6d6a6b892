"""Selection of reductions, scans and histograms: one instruction for known combinations, vector steps for any other."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.codegen.selection.elementwise import constant, elementwise
from mlutriton.codegen.selection.shapes import transpose
from mlutriton.codegen.selection.state import Selection, flat, slice_of
from mlutriton.codegen.selection.views import DenseView, ScalarView, SpreadView, View
from mlutriton.diagnostics import CompileError
from mlutriton.ir import ops
from mlutriton.ir.analysis.combine import combine_kind
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Immediate, Operand
from mlutriton.isa.table import REDUCTIONS, SCANS


def reduce(s: Selection, operation: Operation) -> None:
    """A reduction along one axis."""
    assert isinstance(operation, ops.Reduce)
    kind = combine_kind(operation)
    sources = [s.dense(value) for value in operation.operands]
    counts = s.axis_counts(sources[0].shape, operation.axis)
    if kind in REDUCTIONS and len(sources) == 1:
        target = s.destination(operation.result)
        s.emitter.emit(f"red.{kind}", (target.dtype,), (target.address(), sources[0].address(), *counts))
        s.views[operation.result] = target
        return
    offsets = _offsets_of_places(operation) if kind in ("argmax", "argmin") else None
    if offsets is not None:
        extreme, place = (s.destination(result) for result in operation.results)
        s.emitter.emit(
            f"red.{kind}", (extreme.dtype,), (extreme.address(), place.address(), sources[0].address(), *counts)
        )
        for offset in offsets:
            view = s.views[offset] if isinstance(offset, Value) else ScalarView(Immediate(offset), place.dtype)
            rows, columns, operands = s.vector_operands([place, view], place.shape)
            extents = (Immediate(rows), Immediate(columns))
            s.emitter.emit("v.add", (place.dtype,), (place.address(), *operands, *extents))
        s.views.update(zip(operation.results, (extreme, place), strict=True))
        return
    _reduce_by_halves(s, operation, [_axis_first(s, source, counts) for source in sources])


def _offsets_of_places(operation: ops.Reduce) -> list[int | Value] | None:
    """What has to be added to places along the axis, for the second operand to consist of them; None if of others.

    They are taken not to overflow then, like all index arithmetic: the first place is the least one.
    """
    value, axis, offsets = operation.operands[1], operation.axis, list[int | Value]()
    while True:
        match value.defining_op:
            case ops.Range() as numbers if axis == 0:
                start = numbers.integer("start")
                return [start, *offsets] if start else offsets
            case ops.ExpandDims() as expanded if expanded.integer("axis") != axis:
                axis -= expanded.integer("axis") < axis
                value = expanded.operands[0]
            case ops.Broadcast() as broadcast if shape_of(broadcast.operands[0].type)[axis] != 1:
                value = broadcast.operands[0]
            case ops.Elementwise(name="add", operands=(one, other)):
                offset = _uniform(other)
                value, offset = (one, offset) if offset is not None else (other, _uniform(one))
                if offset is None:
                    return None
                offsets.append(offset)
            case _:
                return None


def _uniform(value: Value) -> int | Value | None:
    """The integer that every element of a tensor is."""
    match value.defining_op:
        case ops.Splat(operands=(scalar,)):
            return scalar
        case ops.Constant(value=int(number)):
            return number
        case _:
            return None


def _axis_first(s: Selection, source: DenseView, counts: tuple[Immediate, ...]) -> DenseView:
    """The tensor as [n, outer * inner]: slices along the axis become consecutive."""
    outer, n, inner = (int(count.value) for count in counts)
    if outer == 1:
        return DenseView(source.buffer, (n, inner), source.dtype, source.offset_bytes)
    moved = transpose(s, DenseView(source.buffer, (outer, n, inner), source.dtype, source.offset_bytes), (1, 0, 2))
    return DenseView(moved.buffer, (n, outer * inner), moved.dtype, moved.offset_bytes)


def _reduce_by_halves(s: Selection, operation: ops.Reduce, sources: list[DenseView]) -> None:
    """Any combine region: fold the upper half onto the lower one until one slice is left.

    Of an odd count the first slice goes on as it is, so that a region that picks one side finds the end on that side.
    """
    n, width = sources[0].shape
    current = sources
    while n > 1:
        half, odd = divmod(n, 2)
        lower = [slice_of(flat(view), odd * width, half * width) for view in current]
        upper = [slice_of(flat(view), (odd + half) * width, half * width) for view in current]
        folded = _combine(s, operation, [*lower, *upper])
        if odd:
            extended = [s.new("fold", (1 + half, width), view.dtype) for view in current]
            for new, view, old in zip(extended, folded, current, strict=True):
                s.copy(slice_of(flat(new), 0, width), slice_of(flat(old), 0, width))
                s.copy(slice_of(flat(new), width, half * width), view)
            folded = extended
        n = odd + half
        current = [DenseView(v.buffer, (n, width), v.dtype, v.offset_bytes) for v in folded]
    for result, view in zip(operation.results, current, strict=True):
        s.views[result] = DenseView(view.buffer, shape_of(result.type), view.dtype, view.offset_bytes)


def _combine(s: Selection, operation: ops.Reduce | ops.Scan, arguments: Sequence[DenseView]) -> list[DenseView]:
    """The combine region applied to whole slices; its scalar operations become vector operations."""
    region = operation.regions[0]
    for value, view in zip(region.arguments, arguments, strict=True):
        s.views[value] = view
    for inner in region.operations[:-1]:
        match inner:
            case ops.Elementwise():
                s.views[inner.result] = elementwise(s, inner, [s.views[v] for v in inner.operands], None)
            case ops.Constant():
                constant(s, inner)
            case _:
                raise CompileError(
                    "E0201",
                    f"{inner.name} cannot be part of the combine function of a {operation.name}",
                    location=inner.location,
                    help="combine with element-wise arithmetic, comparisons and selects",
                )
    results = [s.views[value] for value in region.terminator.operands]
    return [_of_shape(s, view, arguments[0].shape) for view in results]


def _of_shape(s: Selection, view: View, shape: tuple[int, ...]) -> DenseView:
    if isinstance(view, DenseView) and view.shape == shape:
        return view
    target = s.new("slice", shape, view.dtype)
    s.copy(target, view)
    return target


def scan(s: Selection, operation: Operation) -> None:
    """An inclusive scan along one axis."""
    assert isinstance(operation, ops.Scan)
    axis, reverse = operation.attributes["axis"], operation.attributes["reverse"]
    assert isinstance(axis, int)
    kind = combine_kind(operation)
    sources = [s.dense(value) for value in operation.operands]
    counts = s.axis_counts(sources[0].shape, axis)
    if kind in SCANS and len(sources) == 1:
        target = s.destination(operation.result)
        flag = Immediate(int(bool(reverse)))
        s.emitter.emit(f"scan.{kind}", (target.dtype,), (target.address(), sources[0].address(), *counts, flag))
        s.views[operation.result] = target
        return
    _scan_by_doubling(s, operation, sources, counts, backward=bool(reverse))


def _scan_by_doubling(
    s: Selection, operation: ops.Scan, sources: list[DenseView], counts: tuple[Immediate, ...], *, backward: bool
) -> None:
    """Any combine region: after the step of size d, every slice holds the combination of the 2d slices up to it."""
    current = [_axis_first(s, source, counts) for source in sources]
    n, width = current[0].shape
    step = 1
    while step < n:
        moved = (n - step) * width
        earlier, later = (step * width, 0) if backward else (0, step * width)
        accumulated = [slice_of(flat(view), earlier, moved) for view in current]
        element = [slice_of(flat(view), later, moved) for view in current]
        combined = _combine(s, operation, [*accumulated, *element])
        doubled = [s.new("scan", (n, width), view.dtype) for view in current]
        untouched = moved if backward else 0
        for new, view, old in zip(doubled, combined, current, strict=True):
            s.copy(slice_of(flat(new), later, moved), view)
            s.copy(slice_of(flat(new), untouched, step * width), slice_of(flat(old), untouched, step * width))
        current = doubled
        step *= 2
    outer, _, inner = (int(count.value) for count in counts)
    for result, view in zip(operation.results, current, strict=True):
        restored = view
        if outer > 1:
            restored = transpose(s, DenseView(view.buffer, (n, outer, inner), view.dtype, view.offset_bytes), (1, 0, 2))
        s.views[result] = DenseView(restored.buffer, shape_of(result.type), view.dtype, restored.offset_bytes)


def histogram(s: Selection, operation: Operation) -> None:
    """Counts of small integers."""
    source, mask = operation.operands
    data = s.dense(source)
    target = s.destination(operation.result)
    counts = (Immediate(data.count), Immediate(target.count))
    s.emitter.emit("v.histogram", (data.dtype,), (target.address(), data.address(), _where(s, mask), *counts))
    s.views[operation.result] = target


def collect(s: Selection, operation: Operation) -> None:
    """What a mask chooses, one behind the other."""
    source, mask = operation.operands
    data = s.dense(source)
    target = s.destination(operation.result)
    operands = (target.address(), data.address(), _where(s, mask), Immediate(data.count))
    s.emitter.emit("v.collect", (data.dtype,), operands)
    s.views[operation.result] = target


def _where(s: Selection, mask: Value) -> Operand:
    """A mask as an instruction takes it."""
    view = s.views[mask]
    if isinstance(view, SpreadView) and isinstance(view.source, ScalarView):
        return view.source.operand
    return s.dense(mask).address()
