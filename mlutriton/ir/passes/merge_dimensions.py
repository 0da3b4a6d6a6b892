"""Fewer dimensions: tensors of many dimensions, as sorts and flips make them, become rows of their elements.

Elements keep their row-major order. What works on each element alone works on rows; a reduction and a broadcast see of
the dimensions only those that they must, of which there are three where one axis counts; all others see the tensor in
its own shape, by a reshape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    IntToPtr,
    PtrCast,
    PtrToInt,
    Reduce,
    Reshape,
    Splat,
)
from mlutriton.ir.types import TensorType, Type, element_type, shape_of, with_shape

MAXIMUM_DIMENSIONS = 4


def run(function: Function, maximum: int = MAXIMUM_DIMENSIONS) -> None:
    """Merge the dimensions of tensors that have more than a number of them."""
    _Merger(maximum).block(function.body)


class _Merger:
    """The walk.

    Attributes:
        maximum: dimensions that a tensor may keep.
        rows: of values with many dimensions the rows that stand for them.
        replaced: what stands for results with few dimensions.
        code: the operations of the block so far.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.rows: dict[Value, Value] = {}
        self.replaced: dict[Value, Value] = {}
        self.code: list[Operation] = []

    def block(self, block: Block) -> None:
        outer, self.code = self.code, []
        for operation in block.operations:
            first = len(self.code)
            self._operation(operation)
            for made in self.code[first:]:
                made.location = operation.location
        block.operations, self.code = self.code, outer

    def _operation(self, operation: Operation) -> None:
        operation.operands = [self.replaced.get(operand, operand) for operand in operation.operands]
        if not any(self._is_many(value.type) for value in (*operation.operands, *operation.results)):
            self._as_it_is(operation)
            return
        match operation:
            case Elementwise() | AddPtr() | PtrToInt() | IntToPtr() | PtrCast() | Constant() | Splat():
                type = _row_type(operation.result.type)
                operands = [self._row(operand) for operand in operation.operands]
                self._replace(operation, [operation.__class__(operands, operation.attributes, result_types=[type])])
            case Broadcast() if operation.operands[0].type != operation.result.type:
                source, target = _merged_extents(shape_of(operation.operands[0].type), shape_of(operation.result.type))
                value = self._shaped(self._row(operation.operands[0]), source)
                type = TensorType(target, element_type(value.type))
                self._replace(operation, [Broadcast([value], result_types=[type])])
            case Reshape() | ExpandDims() | Broadcast():
                self._stand_for(operation.result, self._row(operation.operands[0]))
            case Reduce():
                shape, axis = shape_of(operation.operands[0].type), operation.axis
                merged = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
                operands = [self._shaped(self._row(operand), merged) for operand in operation.operands]
                attributes = {**operation.attributes, "axis": 1}
                self._replace(operation, [Reduce(operands, attributes, regions=operation.regions)])
            case _:
                self._as_it_is(operation)

    def _as_it_is(self, operation: Operation) -> None:
        operation.operands = [
            self._shaped(self.rows[operand], shape_of(operand.type)) if operand in self.rows else operand
            for operand in operation.operands
        ]
        for region in operation.regions:
            self.block(region)
        self.code.append(operation)

    def _replace(self, operation: Operation, made: Sequence[Operation]) -> None:
        self.code += made
        results = [result for each in made for result in each.results]
        for old, new in zip(operation.results, results, strict=True):
            new.name = old.name
            self._stand_for(old, new)

    def _stand_for(self, old: Value, new: Value) -> None:
        """Let a value of the same elements stand for a result."""
        if self._is_many(old.type):
            self.rows[old] = self._row(new)
        else:
            self.replaced[old] = self._shaped(new, shape_of(old.type))

    def _is_many(self, type: Type) -> bool:
        return len(shape_of(type)) > self.maximum

    def _row(self, value: Value) -> Value:
        """The elements of a tensor in a row; a scalar as it is."""
        if value in self.rows:
            return self.rows[value]
        return self._shaped(value, shape_of(_row_type(value.type)))

    def _shaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        if shape_of(value.type) == shape:
            return value
        reshaped = Reshape([value], result_types=[with_shape(shape, element_type(value.type))])
        self.code.append(reshaped)
        return reshaped.result


def _row_type(type: Type) -> Type:
    return TensorType((type.count,), type.element) if isinstance(type, TensorType) else type


def _merged_extents(source: Sequence[int], target: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a broadcast whose neighbouring dimensions are one where both or neither are repeated."""
    merged: list[tuple[int, int]] = []
    for extent, wide in zip(source, target, strict=True):
        if wide == 1:
            continue
        if merged and (merged[-1][0] == 1) == (extent == 1):
            merged[-1] = merged[-1][0] * extent, merged[-1][1] * wide
        else:
            merged.append((extent, wide))
    return tuple(extent for extent, _ in merged), tuple(wide for _, wide in merged)
