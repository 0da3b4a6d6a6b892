"""Index arithmetic on finer axes: each axis of a tensor as several, of which the positions are digits of its own.

What is computed of them is the same elements in the same order, so that a reshape leads back.
"""

from __future__ import annotations

import math

from mlutriton.dtypes import I32
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.digits import Parts
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    Range,
    Reshape,
    Splat,
    Transpose,
)
from mlutriton.ir.types import TensorType, element_type


class Refinement:
    """Computes tensors on finer axes; what that takes goes to the given :class:`Scalars`."""

    def __init__(self, scalars: Scalars) -> None:
        self._scalars = scalars
        self._known: dict[tuple[Value, Parts], Value] = {}

    def of(self, value: Value, parts: Parts) -> Value:
        """A tensor on finer axes."""
        return depth_first(self._search, (value, parts))

    def _search(self, wanted: tuple[Value, Parts]) -> Search[tuple[Value, Parts], Value]:
        value, parts = wanted
        if all(len(part) == 1 for part in parts):
            return value
        if wanted not in self._known:
            self._known[wanted] = yield from self._find(value, parts)
        return self._known[wanted]

    def _find(self, value: Value, parts: Parts) -> Search[tuple[Value, Parts], Value]:
        operation = value.defining_op
        type = TensorType(_flat(parts), element_type(value.type))
        match operation:
            case Constant():
                return self._add(Constant.of(operation.value, type))
            case Splat():
                return self._add(Splat(operation.operands, result_types=[type]))
            case Range():
                return self._range(operation.integer("start"), parts[0])
            case Elementwise() | AddPtr():
                operands = list[Value]()
                for each in operation.operands:
                    finer = yield each, parts
                    operands.append(finer)
                return self._add(operation.__class__(operands, operation.attributes))
            case ExpandDims():
                axis = operation.integer("axis")
                row = yield operation.operands[0], (*parts[:axis], *parts[axis + 1 :])
                place = len(_flat(parts[:axis]))
                for _ in parts[axis]:
                    row = self._add(ExpandDims([row], {"axis": place}))
                return row
            case Broadcast():
                (source,) = operation.operands
                shape = source.type.shape if isinstance(source.type, TensorType) else ()
                inner = tuple(
                    part if math.prod(part) == extent else (1,) * len(part)
                    for part, extent in zip(parts, shape, strict=True)
                )
                return self._add(Broadcast([(yield source, inner)], result_types=[type]))
            case Transpose():
                before: list[tuple[int, ...]] = [()] * len(parts)
                for place, axis in enumerate(operation.order):
                    before[axis] = parts[place]
                begins = [len(_flat(tuple(before[:axis]))) for axis in range(len(before))]
                order = tuple(begins[axis] + k for axis in operation.order for k in range(len(before[axis])))
                return self._add(Transpose([(yield operation.operands[0], tuple(before))], {"order": order}))
            case _:
                return self._add(Reshape([value], result_types=[type]))

    def _range(self, start: int, extents: tuple[int, ...]) -> Value:
        """The positions that digits stand for."""
        type = TensorType(extents, I32)
        total = self._add(Constant.of(start, type))
        for place, extent in enumerate(extents):
            digit = self._add(Range((), {"start": 0, "end": extent}))
            count = math.prod(extents[place + 1 :])
            if count > 1:
                digit = self._add(Elementwise.of("mul", digit, self._add(Constant.of(count, digit.type))))
            for axis in range(len(extents)):
                if axis != place:
                    digit = self._add(ExpandDims([digit], {"axis": axis}))
            total = self._add(Elementwise.of("add", total, self._add(Broadcast([digit], result_types=[type]))))
        return total

    def _add(self, operation: Operation) -> Value:
        return self._scalars.add(operation)


def _flat(parts: Parts) -> tuple[int, ...]:
    return tuple(extent for part in parts for extent in part)
