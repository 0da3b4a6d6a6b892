"""Accesses that take neighbours, or neighbouring halves, the other way round: what is consecutive, swapped on chip.

Kernels that turn pairs, as rotary embeddings do, load a row and load it again with the elements of each pair swapped:

    swapped = i + (i + 1) % 2 * 2 - 1                                     # 1, 0, 3, 2, ...
    x0, x1 = load(x + i), load(x + swapped, mask=swapped < n)

Such positions are linear in nothing, so each element of ``x1`` would be gathered. But which they are is known: the
position of element ``i`` is ``i ^ c``, with one bit set in ``c``. So the elements are loaded in their order, and blocks
of ``c`` of them swapped on chip. Both loads are then the same.

That is so wherever an address, and a mask, depend on the element's place along that axis by such positions alone:
they are element-wise in what they are made of, so with positions in order they are those of the element that stands
there. Each element is accessed as before, under the same condition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I32
from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.core import Array, Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    Join,
    Load,
    Range,
    Reshape,
    Splat,
    Split,
    Store,
    Transpose,
)
from mlutriton.ir.types import TensorType, element_type, is_index, shape_of

# What is known of longer tensors is not looked at.
_MOST_ELEMENTS = 1 << 16

# The last step to positions that are in no order.
_STEPS = ("add", "sub", "xor", "or", "select", "mul")

_KNOWN = (Range, Constant, Elementwise, ExpandDims, Broadcast, Splat, Reshape)


def run(function: Function) -> None:
    """Access what is consecutive in its order, and swap it on chip."""
    known = _Known()
    if any(_may_swap(each) and known.is_swapped(each.results[0]) for each in function.walk()):
        swapped: dict[Value, Value] = {}
        _rewrite(function.body, known, swapped)
        replace_uses(function.body, swapped)


def _may_swap(operation: Operation) -> bool:
    """True if an operation may make positions that are swapped, at least in their first form."""
    return isinstance(operation, Elementwise) and operation.name in _STEPS and is_index(operation.result.type) \
        and math.prod(shape_of(operation.result.type)) > 1  # fmt: skip


class _Known:
    """Values that depend on nothing but the place of an element."""

    def __init__(self) -> None:
        self._values: dict[Value, Array | None] = {}

    def value(self, value: Value) -> Array | None:
        """All elements; None if they depend on the launch, or are too many."""
        return depth_first(self._search, value)

    def _search(self, value: Value) -> Search[Value, Array | None]:
        if value not in self._values:
            self._values[value] = yield from self._evaluated(value)
        return self._values[value]

    def _evaluated(self, value: Value) -> Search[Value, Array | None]:
        operation = value.defining_op
        if not isinstance(operation, _KNOWN) or math.prod(shape_of(value.type)) > _MOST_ELEMENTS:
            return None
        known: list[Array] = []
        for each in operation.operands:
            found = yield each
            if found is not None:
                known.append(found)
        return operation.evaluate(known)[0] if len(known) == len(operation.operands) else None

    def along(self, value: Value, axis: int) -> Array | None:
        """The elements along an axis, if they are known and the same at all places along others."""
        found = self.value(value)
        if found is None:
            return None
        along = np.moveaxis(found, axis, 0).reshape(found.shape[axis], -1)
        return along[:, 0] if (along == along[:, :1]).all() else None

    def swap(self, value: Value, axis: int) -> tuple[int, int] | None:
        """The first position and ``c``, of consecutive positions of which blocks of ``c`` are swapped along an axis."""
        positions = self.along(value, axis) if is_index(value.type) else None
        if positions is None:
            return None
        first = int(positions.min())
        size = int(positions[0]) - first
        is_block = size > 0 and size & (size - 1) == 0 and len(positions) % (2 * size) == 0
        swapped = np.arange(len(positions)) ^ size
        return (first, size) if is_block and np.array_equal(positions - first, swapped) else None

    def is_swapped(self, value: Value) -> bool:
        """True if a value is such positions along one of its axes."""
        return any(self.swap(value, axis) for axis in range(len(shape_of(value.type))))


def _rewrite(block: Block, known: _Known, swapped: dict[Value, Value]) -> None:
    """Access in order what can be; ``swapped`` gets what takes the place of what was loaded."""
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _rewrite(region, known, swapped)
        rewritten += _in_order(operation, known, swapped) if isinstance(operation, Load | Store) else [operation]
    block.operations = rewritten


def _in_order(access: Load | Store, known: _Known, swapped: dict[Value, Value]) -> list[Operation]:
    """A load or store in the order of memory, with what swaps its elements; as it is if it is not of that kind."""
    others = [access.operands[2]] if isinstance(access, Store) else list(access.operands[1:])
    for axis, extent in enumerate(shape_of(access.operands[0].type)):
        order = _Order(known, axis)
        found = [order.of(each, axis) for each in (access.operands[0], *others)] if extent > 1 else []
        pointer, *rest = found or [None]
        if pointer is None or None in rest or order.size == 0:
            continue
        operands = [each for each in (pointer, *rest) if each is not None]
        code = _Code(access.location, order.operations)
        if isinstance(access, Store):
            value = code.swapped(access.operands[1], axis, order.size)
            return [
                *code.operations,
                Store([operands[0], value, operands[1]], access.attributes, location=access.location),
            ]
        load = Load(operands, access.attributes, location=access.location)
        load.result.name = access.result.name
        code.operations.append(load)
        swapped[access.result] = code.swapped(load.result, axis, order.size)
        return code.operations
    return [access]


class _Order:
    """What an access is made of, with positions along one of its axes in order.

    Attributes:
        size: of the blocks that are swapped, 0 before any is found.
        operations: that make it.
    """

    def __init__(self, known: _Known, axis: int) -> None:
        self.known, self.axis = known, axis
        self.size = 0
        self.operations: list[Operation] = []
        self._made: dict[tuple[Value, int], Value | None] = {}

    def of(self, value: Value, axis: int) -> Value | None:
        """The value with positions along an axis in order; None if it depends on these by others, too."""
        if (value, axis) not in self._made:
            self._made[value, axis] = self._of(value, axis)
        return self._made[value, axis]

    def _of(self, value: Value, axis: int) -> Value | None:
        if shape_of(value.type)[axis] == 1:
            return value
        along = self.known.along(value, axis)
        if along is not None and (along == along[0]).all():
            return value
        swap = self.known.swap(value, axis)
        if swap is not None and self.size in (0, swap[1]):
            self.size = swap[1]
            return self._positions(value, axis, swap[0])
        operation = value.defining_op
        match operation:
            case Splat():
                return value
            case Elementwise() | AddPtr():
                axes = [axis] * len(operation.operands)
            case Broadcast():
                axes = [axis]
            case ExpandDims():
                axes = [axis - (axis > operation.integer("axis"))]
            case Transpose():
                axes = [operation.order[axis]]
            case _:
                return None
        operands = [self.of(*each) for each in zip(operation.operands, axes, strict=True)]
        if None in operands:
            return None
        if operands == operation.operands:
            return value
        types = [each.type for each in operation.results]
        made = [each for each in operands if each is not None]
        return self._add(
            operation.__class__(made, operation.attributes, result_types=types, location=operation.location)
        )

    def _positions(self, value: Value, axis: int, first: int) -> Value:
        """Consecutive positions along an axis, in the place of these."""
        shape, element = shape_of(value.type), element_type(value.type)
        location = value.owner.location if isinstance(value.owner, Operation) else UNKNOWN_LOCATION
        made = self._add(Range((), {"start": first, "end": first + shape[axis]}, location=location))
        if element is not I32:
            made = self._add(Elementwise([made], {"operation": "sext", "to": str(element)}, location=location))
        for place in range(len(shape)):
            if place != axis:
                made = self._add(ExpandDims([made], {"axis": place}, location=location))
        if made.type == value.type:
            return made
        return self._add(Broadcast([made], result_types=[value.type], location=location))

    def _add(self, operation: Operation) -> Value:
        self.operations.append(operation)
        return operation.results[0]


class _Code:
    """Operations that swap."""

    def __init__(self, location: Location, operations: Sequence[Operation]) -> None:
        self.location = location
        self.operations = list(operations)

    def swapped(self, value: Value, axis: int, size: int) -> Value:
        """A tensor with neighbouring blocks of a size swapped along an axis."""
        shape, element = shape_of(value.type), element_type(value.type)
        within = size * math.prod(shape[axis + 1 :])
        pairs = TensorType((math.prod(shape) // (2 * within), 2, within), element)
        parted = self._add(Reshape([value], result_types=[pairs], location=self.location))
        last = self._add(Transpose([parted], {"order": (0, 2, 1)}, location=self.location))
        halves = Split([last], location=self.location)
        self.operations.append(halves)
        joined = self._add(Join(halves.results[::-1], location=self.location))
        back = self._add(Transpose([joined], {"order": (0, 2, 1)}, location=self.location))
        return self._add(Reshape([back], result_types=[value.type], location=self.location))

    def _add(self, operation: Operation) -> Value:
        self.operations.append(operation)
        return operation.results[0]
