"""Selection of element-wise arithmetic and of the tensors it starts from: constants, splats and ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.codegen.selection.state import ONE, Selection, storage_type
from mlutriton.codegen.selection.views import DenseView, ScalarView, SpreadView, View
from mlutriton.dtypes import I32
from mlutriton.ir import ops
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.types import TensorType
from mlutriton.isa.operands import Immediate


def select_elementwise(s: Selection, operation: Operation) -> None:
    """An element-wise operation."""
    assert isinstance(operation, ops.Elementwise)
    views = [s.views[value] for value in operation.operands]
    target = s.targets.get(operation.result)
    s.views[operation.result] = elementwise(s, operation, views, target)


def elementwise(s: Selection, operation: ops.Elementwise, views: Sequence[View], target: DenseView | None) -> View:
    """The result of an element-wise operation on views, of the views' shape (in regions not the IR's)."""
    name, arithmetic = operation.name, operation.arithmetic
    result_type = storage_type(operation.result.type)
    source_type = views[-1].dtype
    if name == "bitcast" and all(isinstance(view, DenseView) for view in views):
        (view,) = views
        assert isinstance(view, DenseView)
        return DenseView(view.buffer, view.shape, result_type, view.offset_bytes)
    dtypes = (source_type, result_type) if arithmetic.is_cast else (source_type,)
    shape = max((view.shape for view in views if not isinstance(view, ScalarView)), key=math.prod, default=None)
    scalars = [view.source if isinstance(view, SpreadView) else view for view in views]
    if all(isinstance(scalar, ScalarView) for scalar in scalars):
        operands = [scalar.operand for scalar in scalars if isinstance(scalar, ScalarView)]
        result = ScalarView(s.emitter.scalar(name, dtypes, *operands), result_type)
        return result if shape is None else SpreadView(result, (1,) * len(shape), shape, result_type)
    aligned = {view.aligned for view in views if isinstance(view, SpreadView) and not view.is_uniform}
    if len(aligned) == 1 and target is None and not any(isinstance(view, DenseView) and view.shape for view in views):
        # Every operand repeats along the same extents: compute the small tensor and repeat the result.
        (small,) = aligned
        sources = [_unspread(view) for view in views]
        inner = elementwise(s, operation, sources, None)
        assert isinstance(inner, DenseView)
        assert shape is not None
        return SpreadView(DenseView(inner.buffer, small, inner.dtype, inner.offset_bytes), small, shape, result_type)
    shape = shape or ()
    if target is None:
        target = s.new(operation.result.name, shape, result_type)
    rows, columns, operands = s.vector_operands(views, shape)
    s.emitter.emit(f"v.{name}", dtypes, (target.address(), *operands, Immediate(rows), Immediate(columns)))
    return target


def _unspread(view: View) -> View:
    if not isinstance(view, SpreadView):
        return view
    source = view.source
    if isinstance(source, DenseView) and not view.is_uniform:
        return DenseView(source.buffer, view.aligned, source.dtype, source.offset_bytes)
    return source


def constant(s: Selection, operation: Operation) -> None:
    """A constant stays a literal until something needs it in a buffer."""
    assert isinstance(operation, ops.Constant)
    dtype = storage_type(operation.result.type)
    value = float(operation.value) if dtype.is_float else int(operation.value)
    s.views[operation.result] = _spread(operation.result, ScalarView(Immediate(value), dtype))


def _spread(value: Value, scalar: ScalarView | DenseView) -> View:
    if not isinstance(value.type, TensorType):
        return scalar
    shape = value.type.shape
    return SpreadView(scalar, (1,) * len(shape), shape, scalar.dtype)


def splat(s: Selection, operation: Operation) -> None:
    """A repeated scalar."""
    source = s.views[operation.operands[0]]
    if isinstance(source, SpreadView):
        source = source.source
    s.views[operation.result] = _spread(operation.result, source)


def range_(s: Selection, operation: Operation) -> None:
    """Consecutive integers, written by the vector unit."""
    start = operation.attributes["start"]
    assert isinstance(start, int)
    target = s.destination(operation.result)
    s.emitter.emit("v.iota", (I32,), (target.address(), Immediate(start), ONE, Immediate(target.count)))
    s.views[operation.result] = target
