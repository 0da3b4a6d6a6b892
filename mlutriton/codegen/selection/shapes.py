"""Selection of changes of shape: views where the order of elements stays, transposes and copies where it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.codegen.selection.state import ONE, Selection, is_fresh, slice_of
from mlutriton.codegen.selection.views import DenseView, SpreadView, View
from mlutriton.ir import ops
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Immediate


def reshape(s: Selection, operation: Operation) -> None:
    """The same elements under another shape; no instruction."""
    shape = shape_of(operation.result.type)
    view = s.views[operation.operands[0]]
    if isinstance(view, SpreadView) and view.is_uniform:
        s.views[operation.result] = SpreadView(view.source, (1,) * len(shape), shape, view.dtype)
        return
    if isinstance(view, SpreadView) and isinstance(operation, ops.ExpandDims):
        axis = operation.attributes["axis"]
        assert isinstance(axis, int)
        aligned = (*view.aligned[:axis], 1, *view.aligned[axis:])
        s.views[operation.result] = SpreadView(view.source, aligned, shape, view.dtype)
        return
    source = s.dense(view)
    s.views[operation.result] = DenseView(source.buffer, shape, source.dtype, source.offset_bytes)


def broadcast(s: Selection, operation: Operation) -> None:
    """Repetition, left to the operand modes of the reader."""
    shape = shape_of(operation.result.type)
    view = s.views[operation.operands[0]]
    match view:
        case SpreadView():
            s.views[operation.result] = SpreadView(view.source, view.aligned, shape, view.dtype)
        case DenseView() if view.shape != shape:
            s.views[operation.result] = SpreadView(view, view.shape, shape, view.dtype)
        case _:
            s.views[operation.result] = view


def select_transpose(s: Selection, operation: Operation) -> None:
    """A permutation of extents."""
    assert isinstance(operation, ops.Transpose)
    if operation.operands[0] in s.weight_buffers:
        s.weight_buffers[operation.result] = s.weight_buffers[operation.operands[0]]
        return
    view = s.views[operation.operands[0]]
    order = operation.order
    shape = shape_of(operation.result.type)
    if isinstance(view, SpreadView):
        if view.is_uniform:
            s.views[operation.result] = SpreadView(view.source, (1,) * len(shape), shape, view.dtype)
            return
        if isinstance(view.source, DenseView) and sum(extent > 1 for extent in view.aligned) == 1:
            aligned = tuple(view.aligned[d] for d in order)
            s.views[operation.result] = SpreadView(view.source, aligned, shape, view.dtype)
            return
    s.views[operation.result] = transpose(s, s.dense(view), order, s.targets.get(operation.result))


def transpose(s: Selection, source: DenseView, order: tuple[int, ...], target: DenseView | None = None) -> DenseView:
    """A permuted copy: one exchange of neighbouring groups of dimensions for every dimension out of place."""
    placed = list(range(len(order)))
    extents = list(source.shape)
    current = source
    for place, wanted in enumerate(order):
        found = placed.index(wanted)
        skipped = math.prod(extents[place:found])
        placed.insert(place, placed.pop(found))
        extents.insert(place, extents.pop(found))
        if skipped == 1 or extents[place] == 1:
            continue
        counts = (
            math.prod(extents[:place]),
            skipped,
            extents[place],
            math.prod(extents[found + 1 :]),
        )
        moved = s.new("transposed", tuple(extents), source.dtype)
        s.emitter.emit(
            "v.transpose", (source.dtype,), (moved.address(), current.address(), *(Immediate(c) for c in counts))
        )
        current = moved
    result = DenseView(current.buffer, tuple(extents), source.dtype, current.offset_bytes)
    if target is not None:
        s.copy(target, result)
        return target
    return result


def join(s: Selection, operation: Operation) -> None:
    """Two tensors side by side along a new last extent."""
    a, b = operation.operands
    stacked = _stack(s, [s.views[a], s.views[b]], shape_of(a.type))
    count = stacked.count // 2
    target = s.destination(operation.result)
    counts = (ONE, Immediate(2), Immediate(count), ONE)
    s.emitter.emit("v.transpose", (stacked.dtype,), (target.address(), stacked.address(), *counts))
    s.views[operation.result] = target


def _stack(s: Selection, views: Sequence[View], shape: tuple[int, ...]) -> DenseView:
    count = math.prod(shape)
    stacked = s.new("stacked", (len(views), count), views[0].dtype)
    for place, view in enumerate(views):
        part = slice_of(stacked, place * count, count)
        s.copy(DenseView(part.buffer, shape, part.dtype, part.offset_bytes), view)
    return stacked


def split(s: Selection, operation: Operation) -> None:
    """The halves of a last extent of 2."""
    source = s.dense(operation.operands[0])
    half = source.count // 2
    apart = s.new("halves", (2, half), source.dtype)
    counts = (ONE, Immediate(half), Immediate(2), ONE)
    s.emitter.emit("v.transpose", (source.dtype,), (apart.address(), source.address(), *counts))
    for place, result in enumerate(operation.results):
        part = slice_of(apart, place * half, half)
        s.views[result] = DenseView(part.buffer, shape_of(result.type), part.dtype, part.offset_bytes)


def concatenate(s: Selection, operation: Operation) -> None:
    """Two tensors one after the other; what was made in its place is there."""
    target = s.destination(operation.result)
    for value, place in _places(operation, target):
        if s.views[value] != place:
            s.copy(place, s.views[value])
    s.views[operation.result] = target


def make_in_place(s: Selection, block: Block) -> None:
    """Let what is computed only to be put one after the other be made where it is put."""
    own = {each.result for each in block.operations if isinstance(each, ops.Elementwise)}
    for operation in block.operations:
        if isinstance(operation, ops.Concatenate):
            made = [value in own and s.uses[value] == 1 and is_fresh(value) for value in operation.operands]
            if any(made):
                s.targets[operation.result] = target = s.destination(operation.result)
                places = zip(made, _places(operation, target), strict=True)
                s.targets.update(place for is_made, place in places if is_made)


def _places(operation: Operation, target: DenseView) -> list[tuple[Value, DenseView]]:
    """Tensors that are put one after the other, each with its place."""
    found: list[tuple[Value, DenseView]] = []
    first = 0
    for value in operation.operands:
        shape = shape_of(value.type)
        part = slice_of(target, first, math.prod(shape))
        found.append((value, DenseView(part.buffer, shape, part.dtype, part.offset_bytes)))
        first += math.prod(shape)
    return found


def window(s: Selection, operation: Operation) -> None:
    """A part of the first extent is where it is; for one of another extent, that becomes the first and goes back."""
    source, shape = s.dense(operation.operands[0]), shape_of(operation.result.type)
    axis, first = operation.integer("axis"), operation.integer("first")
    is_first = math.prod(source.shape[:axis]) == 1
    order = tuple(range(len(shape))) if is_first else (axis, *(d for d in range(len(shape)) if d != axis))
    turned = source if is_first else transpose(s, source, order)
    part = slice_of(turned, first * source.count // source.shape[axis], math.prod(shape))
    result = DenseView(part.buffer, tuple(shape[d] for d in order), part.dtype, part.offset_bytes)
    back = tuple(order.index(d) for d in range(len(shape)))
    s.views[operation.result] = result if is_first else transpose(s, result, back)


def gather(s: Selection, operation: Operation) -> None:
    """Elements picked by an index tensor along an axis."""
    source, index = (s.dense(value) for value in operation.operands)
    axis = operation.attributes["axis"]
    assert isinstance(axis, int)
    target = s.destination(operation.result)
    counts = (*s.axis_counts(index.shape, axis), Immediate(source.shape[axis]))
    s.emitter.emit(
        "v.gather", (source.dtype, index.dtype), (target.address(), source.address(), index.address(), *counts)
    )
    s.views[operation.result] = target
