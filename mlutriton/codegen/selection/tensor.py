"""Selection of matrix products: for the tensor unit, or for the vector unit in types that the tensor unit lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlutriton.codegen.selection.shapes import transpose
from mlutriton.codegen.selection.state import ONE, ZERO, Selection, storage_type
from mlutriton.codegen.selection.tensor_operands import tensor_type
from mlutriton.codegen.selection.views import DenseView, ScalarView, SpreadView, View
from mlutriton.codegen.tile_code import Loop, TileBuffer
from mlutriton.dtypes import F32, F64, I32, I64, TF32, DType
from mlutriton.ir import ops
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Address, Immediate, Mode, Operand
from mlutriton.isa.table import WRAM_PANEL_COLUMNS


@dataclass(frozen=True)
class _Extents:
    """The extents of a batch of products, ``[count, rows, depth] x [count, depth, columns]``."""

    count: int
    rows: int
    columns: int
    depth: int

    @classmethod
    def of(cls, operation: ops.Dot) -> _Extents:
        *batch, rows, columns = shape_of(operation.result.type)
        return cls(math.prod(batch), rows, columns, shape_of(operation.operands[0].type)[-1])


def dot(s: Selection, operation: Operation) -> None:
    """A matrix product, or a batch of them, added to an accumulator."""
    assert isinstance(operation, ops.Dot)
    accumulator_type = _accumulator_type(operation)
    target, accumulate = _accumulator(s, operation, operation.operands[2], accumulator_type)
    dtype = tensor_type(operation, s.machine)
    if dtype is None:
        _multiply_on_the_vector_unit(s, operation, target, accumulate)
    else:
        _multiply(s, operation, dtype, target, accumulate)
    result_type = storage_type(operation.result.type)
    if accumulator_type == result_type:
        s.views[operation.result] = target
    else:
        s.views[operation.result] = _converted(s, target, result_type, s.destination(operation.result))


def _accumulator_type(operation: ops.Dot) -> DType:
    operand_type = storage_type(operation.operands[0].type)
    if operand_type.is_float:
        return F64 if operand_type is F64 else F32
    return I32


def _multiply(s: Selection, operation: ops.Dot, dtype: DType, target: DenseView, accumulate: Immediate) -> None:
    """Let the tensor unit multiply, in a type that it takes."""
    size = _Extents.of(operation)
    left = _in_type(s, s.views[operation.operands[0]], dtype)
    weights = _weights(s, operation.operands[1], dtype, size)
    for index in range(size.count):
        part = target.address(offset_bytes=index * size.rows * size.columns * target.dtype.bytes)
        operands: tuple[Operand, ...] = (
            part, left.address(offset_bytes=index * size.rows * size.depth * left.dtype.bytes),
            Address(weights[index].name), Immediate(size.rows), Immediate(size.columns), Immediate(size.depth),
            Immediate(size.depth), accumulate,
        )  # fmt: skip
        s.emitter.emit("mm", (dtype, target.dtype), operands)


def _multiply_on_the_vector_unit(s: Selection, operation: ops.Dot, target: DenseView, accumulate: Immediate) -> None:
    """Add the outer product of a column of the left and a row of the right operand, for one k after another."""
    size, dtype = _Extents.of(operation), target.dtype
    left, right = (_in_type(s, s.views[operand], dtype) for operand in operation.operands[:2])
    rank = len(left.shape)
    columns_of_left = transpose(s, left, (*range(rank - 2), rank - 1, rank - 2))
    if accumulate == ZERO:
        s.fill(target, Immediate(0.0 if dtype.is_float else 0))
    product = None if dtype.is_float else s.new("product", (size.rows, size.columns), dtype).address()
    index = s.code.register()
    loop = Loop(I64, index, ZERO, Immediate(size.depth), ONE, [], location=operation.location)
    with s.emitter.into(loop.body):
        places = [
            s.emitter.integer("mul", index, Immediate(width * dtype.bytes)) for width in (size.rows, size.columns)
        ]
        for batch in range(size.count):
            parts = [batch * size.depth * width * dtype.bytes for width in (size.rows, size.columns)]
            column, row = (
                Address(view.buffer.name, s.register(ScalarView(place, I64)), view.offset_bytes + part, mode)
                for view, place, part, mode in zip(
                    (columns_of_left, right), places, parts, (Mode.ROW, Mode.COLUMN), strict=True
                )
            )
            total = target.address(offset_bytes=batch * size.rows * size.columns * dtype.bytes)
            counts = (Immediate(size.rows), Immediate(size.columns))
            if product is None:
                s.emitter.emit("v.fma", (dtype,), (total, column, row, total, *counts))
            else:
                s.emitter.emit("v.mul", (dtype,), (product, column, row, *counts))
                s.emitter.emit("v.add", (dtype,), (total, total, product, *counts))
    s.emitter.nodes.append(loop)


def _in_type(s: Selection, view: View, dtype: DType) -> DenseView:
    """A value in a buffer, converted to a type that holds all its numbers if need be."""
    dense = s.dense(view)
    if dtype in (dense.dtype, TF32):
        return dense
    return _converted(s, dense, dtype, s.new("converted", dense.shape, dtype))


def _converted(s: Selection, source: DenseView, dtype: DType, target: DenseView) -> DenseView:
    from_integer = "sitofp" if dtype.is_float else "sext"
    cast = "fpcast" if source.dtype.is_float else from_integer
    counts = (ONE, Immediate(source.count))
    s.emitter.emit(f"v.{cast}", (source.dtype, dtype), (target.address(), source.address(), *counts))
    return target


def _accumulator(s: Selection, operation: Operation, c: Value, dtype: DType) -> tuple[DenseView, Immediate]:
    """The buffer that the product is added to, and whether it holds anything yet."""
    view = s.views[c]
    shape = shape_of(c.type)
    result = operation.result
    in_place = s.targets.get(result) if storage_type(result.type) == dtype else None
    if isinstance(view, SpreadView) and isinstance(view.source, ScalarView) and view.source.operand in (
        Immediate(0), Immediate(0.0),
    ):  # fmt: skip
        return in_place or s.new(result.name or "accumulator", shape, dtype), ZERO
    if isinstance(view, DenseView) and view.dtype == dtype and (view == in_place or s.dies(c)):
        return view, ONE
    target = in_place or s.new(result.name or "accumulator", shape, dtype)
    if view.dtype == dtype:
        s.copy(target, view)
    else:
        rows, columns, (source,) = s.vector_operands([view], shape)
        s.emitter.emit("v.fpcast", (view.dtype, dtype), (target.address(), source, Immediate(rows), Immediate(columns)))
    return target, ONE


def _weights(s: Selection, b: Value, dtype: DType, size: _Extents) -> list[TileBuffer]:
    """The right operand in WRAM, one buffer for every matrix of the batch."""
    if b in s.weight_buffers:
        return [s.weight_buffers[b]]
    # A transpose on the way is left to the move.
    source = b.defining_op
    transposed = isinstance(source, ops.Transpose) and source.order == (1, 0)
    view = _in_type(s, s.views[source.operands[0] if transposed and source is not None else b], dtype)
    strides = (ONE, Immediate(size.depth)) if transposed else (Immediate(size.columns), ONE)
    panels = -(-size.columns // WRAM_PANEL_COLUMNS) * WRAM_PANEL_COLUMNS
    made_all: list[TileBuffer] = []
    for index in range(size.count):
        buffer = s.emitter.buffer("weight", dtype, panels * size.depth, "wram")
        part = view.address(offset_bytes=index * size.depth * size.columns * view.dtype.bytes)
        counts = (Immediate(size.depth), Immediate(size.columns))
        s.emitter.emit("move.weight", (dtype,), (Address(buffer.name), part, *counts, *strides))
        made_all.append(buffer)
    return made_all
