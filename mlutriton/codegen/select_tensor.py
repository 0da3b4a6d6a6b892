"""Selection of matrix products for the tensor unit."""

from __future__ import annotations

import math

from mlutriton.codegen.select_memory import ONE, ZERO
from mlutriton.codegen.selection import Selection, storage_type
from mlutriton.codegen.tile_code import TileBuffer
from mlutriton.codegen.views import DenseView, ScalarView, SpreadView
from mlutriton.dtypes import F32, I32, DType
from mlutriton.ir import ops
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Address, Immediate, Operand
from mlutriton.isa.table import WRAM_PANEL_COLUMNS


def dot(s: Selection, operation: Operation) -> None:
    """A matrix product, or a batch of them, added to an accumulator."""
    a, b, c = operation.operands
    shape = shape_of(operation.result.type)
    *batch, rows, columns = shape
    depth = shape_of(a.type)[-1]
    count = math.prod(batch)
    left = s.dense(a)
    result_type = storage_type(operation.result.type)
    accumulator_type = F32 if left.dtype.is_float else I32
    target, accumulate = _accumulator(s, operation, c, accumulator_type)
    weights = _weights(s, b, count, depth, columns)
    for index in range(count):
        part = target.address(offset_bytes=index * rows * columns * accumulator_type.bytes)
        operands: tuple[Operand, ...] = (
            part, left.address(offset_bytes=index * rows * depth * left.dtype.bytes), Address(weights[index].name),
            Immediate(rows), Immediate(columns), Immediate(depth), Immediate(depth), accumulate,
        )  # fmt: skip
        s.emitter.emit("mm", (left.dtype, accumulator_type), operands)
    if accumulator_type == result_type:
        s.views[operation.result] = target
        return
    cast = "fpcast" if result_type.is_float and accumulator_type.is_float else "sitofp"
    narrowed = s.destination(operation.result)
    counts = (ONE, Immediate(target.count))
    s.emitter.emit(f"v.{cast}", (accumulator_type, result_type), (narrowed.address(), target.address(), *counts))
    s.views[operation.result] = narrowed


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


def _weights(s: Selection, b: Value, count: int, depth: int, columns: int) -> list[TileBuffer]:
    """The right operand in WRAM, one buffer for every matrix of the batch."""
    if b in s.weight_buffers:
        return [s.weight_buffers[b]]
    # A transpose on the way is left to the move.
    source = b.defining_op
    transposed = isinstance(source, ops.Transpose) and source.order == (1, 0)
    view = s.dense(source.operands[0] if transposed and source is not None else b)
    strides = (ONE, Immediate(depth)) if transposed else (Immediate(columns), ONE)
    panels = -(-columns // WRAM_PANEL_COLUMNS) * WRAM_PANEL_COLUMNS
    made_all: list[TileBuffer] = []
    for index in range(count):
        buffer = s.emitter.buffer("weight", view.dtype, panels * depth, "wram")
        part = view.address(offset_bytes=index * depth * columns * view.dtype.bytes)
        counts = (Immediate(depth), Immediate(columns))
        s.emitter.emit("move.weight", (view.dtype,), (Address(buffer.name), part, *counts, *strides))
        made_all.append(buffer)
    return made_all
