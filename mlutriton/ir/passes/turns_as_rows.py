"""All turns of a loop at once: each tensor gets a row for each turn, along an axis in front of its own.

    for k in range(first, end): store y[k * 128 + range(0, 64)], f(load x[k * 128 + range(0, 64)])

is, where there are four turns at most,

    k = first + range(0, 4); store y[k * 128 + range(0, 64)], f(load x[k * 128 + range(0, 64)]), if k < end

Whatever is the same for all turns stays as it is, and is loaded once. That turns are done in order, and their parts are
not, has to make no difference: whoever asks for this has to know that.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.dtypes import I1
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.memory_ops import AddPtr, Load, PtrCast, Store
from mlutriton.ir.ops import (
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    Range,
    Reduce,
    Reshape,
    Scan,
    Splat,
    Transpose,
)
from mlutriton.ir.types import TensorType, element_type, shape_of, with_shape

# Tensors have no more axes than transfers have dimensions.
_MOST_AXES = 3

_WITH_ROWS = (AddPtr, PtrCast, Elementwise, Splat, ExpandDims, Broadcast, Reshape, Transpose, Reduce, Scan)


def may_be_rows(loop: For) -> bool:
    """True if a loop carries nothing, and all that it does can be done for several turns at once."""
    operations = loop.body.operations[:-1]
    return not loop.initial and may_have_rows(operations) and all(map(_has_few_axes, operations))


def may_have_rows(operations: Sequence[Operation]) -> bool:
    """True if all that operations do can be done for several rows at once."""
    return all(
        isinstance(each, (*_WITH_ROWS, Constant, Range))
        or (isinstance(each, Load | Store) and not each.is_volatile and _has_few_axes(each))
        for each in operations
    )


def _has_few_axes(operation: Operation) -> bool:
    return all(len(shape_of(each.type)) < _MOST_AXES for each in (*operation.operands, *operation.results))


def run(function: Function, loop: For, count: int) -> None:
    """Do all turns of a loop at once.

    Args:
        function: is rewritten.
        loop: at the top of it, of which :func:`may_be_rows` is true.
        count: how many turns there are at most.
    """
    place = function.body.operations.index(loop)
    function.body.operations[place : place + 1] = _Rows(loop, count).operations()


class _Rows:
    """Writes what a loop does for all of its turns.

    Attributes:
        values: by value of the loop, what stands for it.
        rows: those of them that have a row for each turn.
    """

    def __init__(self, loop: For, count: int) -> None:
        self.loop, self.count = loop, count
        self.code = Scalars(loop.location)
        self.values: dict[Value, Value] = {}
        self.rows: set[Value] = set()

    def operations(self) -> list[Operation]:
        """All of it, in order."""
        start, end, step = self.loop.operands[:3]
        dtype = self.loop.index.type
        turns = TensorType((self.count,), element_type(dtype))
        number = self.code.add(Range((), {"start": 0, "end": self.count}))
        if number.type != turns:
            number = self.code.add(Elementwise.of("sext", number, to=element_type(dtype)))  # type: ignore[arg-type]
        ahead = self.code.add(Elementwise.of("mul", number, self._splat(step, (self.count,))))
        index = self.code.add(Elementwise.of("add", self._splat(start, (self.count,)), ahead))
        self.values[self.loop.index] = index
        self.rows.add(self.loop.index)
        self.exists = self.code.add(Elementwise.of("slt", index, self._splat(end, (self.count,))))
        self.is_any = self.code.add(Elementwise.of("slt", start, end))
        for operation in self.loop.body.operations[:-1]:
            self.code.location = operation.location
            self._write(operation)
        return self.code.operations

    def _write(self, operation: Operation) -> None:
        has_rows = any(each in self.rows for each in operation.operands)
        made = self._made(operation, has_rows=has_rows)
        self.code.operations.append(made)
        made.location = operation.location
        for old, new in zip(operation.results, made.results, strict=True):
            new.name = old.name
            self.values[old] = new
            if has_rows:
                self.rows.add(old)

    def _made(self, operation: Operation, *, has_rows: bool) -> Operation:
        """The operation for all turns; what differs in none of them is done once, if there is one."""
        types = [
            with_shape((self.count, *shape_of(each.type)) if has_rows else shape_of(each.type), element_type(each.type))
            for each in operation.results
        ]
        attributes, operands = dict(operation.attributes), operation.operands
        if not has_rows:
            operands = [self.values.get(each, each) for each in operands]
        else:
            match operation:
                case Splat():
                    operands = [self._behind(self.values[operands[0]], shape_of(operation.result.type))]
                    return Broadcast(operands, result_types=types)
                case Broadcast() | Reshape() | ExpandDims() | Transpose() | Reduce() | Scan():
                    operands = [self._with_rows(each) for each in operands]
                    if "axis" in attributes:
                        attributes["axis"] = operation.integer("axis") + 1
                    if isinstance(operation, Transpose):
                        attributes["order"] = (0, *(each + 1 for each in operation.order))
                case _:
                    operands = [self._with_rows(each) for each in operands]
        if isinstance(operation, Load | Store):
            mask = 1 if isinstance(operation, Load) else 2
            operands[mask] = self._and_exists(operands[mask], has_rows=has_rows)
        regions = [copy_block(region, {}) for region in operation.regions]
        return operation.__class__(operands, attributes, result_types=types, regions=regions)

    def _and_exists(self, mask: Value, *, has_rows: bool) -> Value:
        """A mask that leaves out turns that there are not."""
        shape = shape_of(mask.type)
        exists = self._across(self.exists, shape[1:]) if has_rows else self._splat(self.is_any, shape)
        return self.code.add(Elementwise.of("and", mask, exists))

    def _with_rows(self, value: Value) -> Value:
        """A value with a row for each turn, if need be the same in all of them."""
        now = self.values.get(value, value)
        if value in self.rows:
            return now
        shape = (self.count, *shape_of(value.type))
        if len(shape) == 1:
            return self._splat(now, shape)
        row = self.code.add(ExpandDims([now], {"axis": 0}))
        return self.code.add(Broadcast([row], result_types=[TensorType(shape, element_type(value.type))]))

    def _splat(self, value: Value, shape: Sequence[int]) -> Value:
        if not shape:
            return value
        return self.code.add(Splat([value], result_types=[TensorType(tuple(shape), element_type(value.type))]))

    def _across(self, value: Value, shape: Sequence[int]) -> Value:
        """A number for each turn in all of its row."""
        if not shape:
            return value
        wide = TensorType((self.count, *shape), I1)
        return self.code.add(Broadcast([self._behind(value, shape)], result_types=[wide]))

    def _behind(self, value: Value, shape: Sequence[int]) -> Value:
        """A number for each turn, with as many more axes."""
        for axis in range(len(shape)):
            value = self.code.add(ExpandDims([value], {"axis": axis + 1}))
        return value
