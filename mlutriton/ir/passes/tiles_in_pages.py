"""Loads from several pages, each of them a tile that lies where a number from memory says.

A tensor of pointers may be linear along all of its axes but one, along which a table is looked up:

    table[first + page] * stride + row * columns + column

Where that axis is short, there is a tile for each of its positions. Its number is looked up by itself, so that nothing
has to wait for tensors; what is loaded is put one behind the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

from mlutriton.ir.analysis.digits import inner_axis
from mlutriton.ir.analysis.rows import without
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Concatenate,
    Constant,
    Elementwise,
    ExpandDims,
    GatherLoad,
    Load,
    Range,
    Reshape,
    Splat,
    TileLoad,
    Transpose,
    pointee,
)
from mlutriton.ir.passes.canonicalize.arithmetic_rules import constant_of
from mlutriton.ir.types import TensorType, element_type, is_index, shape_of, with_shape

MOST_PAGES = 8
"""Tiles that are put one behind the other at most."""


class Tables:
    """Vectors that have been loaded, of which single elements can be loaded as well.

    A vector may have more axes, of a single position.
    """

    def __init__(self) -> None:
        self._homes: dict[Value, list[Operation]] = {}
        self._elements: dict[tuple[Value, int], Value] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._homes)

    def note(self, operations: Sequence[Operation], home: list[Operation]) -> None:
        """Remember the loads of integers among operations that stand in a list."""
        for each in operations:
            if isinstance(each, TileLoad | GatherLoad) and is_index(each.result.type):
                shape = shape_of(each.result.type)
                if max(shape) == math.prod(shape):
                    self._homes[each.result] = home

    def element(self, vector: Value, place: int) -> Value | None:
        """An element of a vector that has been loaded, loaded right behind it; None if it has not."""
        home, load = self._homes.get(vector), vector.defining_op
        if home is None or load is None:
            return None
        if (vector, place) not in self._elements:
            made = Scalars(load.location)
            found = (
                self._of_tile(load, place, made) if isinstance(load, TileLoad) else self._of_items(load, place, made)
            )
            if found is None:
                return None
            self._elements[vector, place] = found
            after = home.index(load) + 1
            home[after:after] = made.operations
        return self._elements[vector, place]

    @staticmethod
    def _of_tile(load: TileLoad, place: int, made: Scalars) -> Value | None:
        geometry, (base, other, *_) = load.geometry, load.operands
        if any(geometry.flags()):
            return None
        none, here = made.value(0), made.value(place)
        places = [here if extent > 1 else none for extent in geometry.shape]
        offset = made.sum([made.binary("mul", *pair) for pair in zip(geometry.strides, places, strict=True)])
        inside = [
            made.add(Elementwise.of(name, *pair))
            for name, bounds in (("sge", geometry.firsts), ("slt", geometry.limits))
            for pair in zip(places, bounds, strict=True)
        ]
        mask = reduce(lambda a, b: made.add(Elementwise.of("and", a, b)), inside)
        return made.add(Load([made.add(AddPtr([base, made.value(offset)])), mask, other]))

    def _of_items(self, load: Operation, place: int, made: Scalars) -> Value | None:
        base, *tensors, limit = load.operands
        is_single = load.integer("length") == 1 and constant_of(limit) == 1 and len(shape_of(load.result.type)) == 1
        if not is_single or load.integer("scale_bytes") != pointee(base).bytes:
            return None
        one = Positions(self, made)
        offset, mask, other = (one.at(each, 0, place) for each in tensors)
        if offset is None or mask is None or other is None:
            return None
        return made.add(Load([made.add(AddPtr([base, offset])), mask, other]))


class Positions:
    """What tensors are at one position of an axis, computed without it.

    Attributes:
        looked_up: whether any element of a table has been.
    """

    def __init__(self, tables: Tables, scalars: Scalars) -> None:
        self._tables = tables
        self._scalars = scalars
        self._known: dict[tuple[Value, int, int], Value | None] = {}
        self.looked_up = False

    def at(self, value: Value, axis: int, place: int) -> Value | None:
        """A tensor without an axis, or a scalar; None if it takes more than arithmetic and looking up."""
        key = (value, axis, place)
        if key not in self._known:
            self._known[key] = self._find(value, axis, place)
        return self._known[key]

    def _find(self, value: Value, axis: int, place: int) -> Value | None:
        operation, add = value.defining_op, self._scalars.add
        shape = without(shape_of(value.type), axis)
        type = with_shape(shape, element_type(value.type))
        match operation:
            case Constant():
                return add(Constant.of(operation.value, type))
            case Splat():
                return _spread(operation.operands[0], shape, self._scalars)
            case Range():
                return add(Constant.of(operation.integer("start") + place, type))
            case Elementwise() | AddPtr():
                operands = [self.at(each, axis, place) for each in operation.operands]
                known = [each for each in operands if each is not None]
                return add(operation.__class__(known, operation.attributes)) if len(known) == len(operands) else None
            case Broadcast() | ExpandDims() | Transpose():
                return self._moved(operation, axis, place)
            case Reshape():
                return self._reshaped(operation, axis, place)
            case _:
                found = self._tables.element(value, place) if math.prod(shape) == 1 else None
                self.looked_up |= found is not None
                return found and _spread(found, shape, self._scalars)

    def _reshaped(self, operation: Reshape, axis: int, place: int) -> Value | None:
        """Of what has the same shape before it was reshaped, or has as many elements as the axis."""
        extents = shape_of(operation.result.type)
        source = operation.operands[0]
        while shape_of(source.type) != extents and isinstance(source.defining_op, Reshape):
            source = source.defining_op.operands[0]
        if shape_of(source.type) == extents:
            return self.at(source, axis, place)
        long = [d for d, extent in enumerate(shape_of(source.type)) if extent > 1]
        if len(long) != 1 or math.prod(extents) != extents[axis]:
            return None
        alone = self.at(source, long[0], place)
        if alone is not None and shape_of(alone.type):
            alone = None if len(shape_of(alone.type)) > 1 else self.at(alone, 0, 0)
        return alone and _spread(alone, without(extents, axis), self._scalars)

    def _moved(self, operation: Broadcast | ExpandDims | Transpose, axis: int, place: int) -> Value | None:
        (source,) = operation.operands
        inner = inner_axis(operation, axis)
        if inner is None:
            return source
        is_repeated = shape_of(source.type)[inner] == 1
        row = self.at(source, inner, 0 if is_repeated else place)
        shape = without(shape_of(operation.result.type), axis)
        if row is None or not shape_of(row.type):
            return row and _spread(row, shape, self._scalars)
        match operation:
            case Broadcast():
                return self._scalars.add(Broadcast([row], result_types=[with_shape(shape, element_type(row.type))]))
            case ExpandDims():
                added = operation.integer("axis")
                return self._scalars.add(ExpandDims([row], {"axis": added - (axis < added)}))
            case Transpose():
                gone = operation.order[axis]
                order = tuple(d - (d > gone) for d in without(operation.order, axis))
                return self._scalars.add(Transpose([row], {"order": order}))


def together(pages: Sequence[Value], axis: int, scalars: Scalars) -> Value:
    """Tensors one behind the other along a new axis."""
    shape = shape_of(pages[0].type)
    rows = [
        scalars.add(Reshape([each], result_types=[with_shape((1, *shape), element_type(each.type))])) for each in pages
    ]
    while len(rows) > 1:
        pairs = [scalars.add(Concatenate([a, b])) for a, b in zip(rows[::2], rows[1::2], strict=False)]
        rows = [*pairs, *rows[len(pairs) * 2 :]]
    order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape) + 1))
    return scalars.add(Transpose(rows, {"order": order})) if axis else rows[0]


def _spread(scalar: Value, shape: tuple[int, ...], scalars: Scalars) -> Value:
    """A tensor of copies of a scalar, or the scalar itself for the shape ``()``."""
    return (
        scalars.add(Splat([scalar], result_types=[TensorType(shape, element_type(scalar.type))])) if shape else scalar
    )
