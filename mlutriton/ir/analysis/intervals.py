"""Between which numbers the elements of a tensor are, as arithmetic that a launch can do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mlutriton.dtypes import DType
from mlutriton.ir.analysis.launch_facts import Fact, Holds, launch_arithmetic
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Function, Value
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, ExpandDims, Range, Reshape, Splat, Transpose
from mlutriton.ir.types import element_type

Interval = tuple[Value, Value]

# Arithmetic nests no deeper in any kernel that is worth it.
_DEPTH = 64
# Of a greater element they give no less, and so do others of which rounding makes no difference to that.
_GROWING = ("sitofp", "fptosi", "sext", "fpcast", "floor", "ceil", "trunc", "round_even")
# What passes over a NaN does so too: there is one among others only where these reach from one infinity to the other.
_GROWING_TOGETHER = ("add", "fadd", "smin", "smax", "fmin", "fmax", "fminimum", "fmaximum")
# Of all corners of what the operands are between, one has the least and one the greatest; quotients by one number, too.
_PRODUCTS = ("mul", "fmul", "fma")


class Intervals:
    """The least and the greatest elements of tensors that follow from positions and numbers of the launch.

    Integer arithmetic is taken not to overflow, as all index arithmetic.

    Attributes:
        code: the arithmetic; it needs nothing of the function but its arguments.
        facts: what has to hold of a launch for the intervals to be right: that no end is a NaN, or beyond the other.
    """

    def __init__(self, function: Function, code: Scalars) -> None:
        self.code = code
        self.facts: list[Fact] = []
        self._function = function
        self._copies: dict[Value, Value] = {}
        self._known: dict[Value, Interval | None] = {}
        self._depth = 0

    def of(self, value: Value) -> Interval | None:
        """The ends of a tensor's elements, both of which are possible for all that is known; None if they are not."""
        if value not in self._known:
            self._depth += 1
            self._known[value] = self._find(value) if self._depth < _DEPTH else None
            self._depth -= 1
        return self._known[value]

    def _find(self, value: Value) -> Interval | None:
        operation = value.defining_op
        match operation:
            case Constant():
                number = self.code.add(Constant.of(operation.value, element_type(value.type)))
                return number, number
            case Range():
                dtype = element_type(value.type)
                first, end = operation.integer("start"), operation.integer("end")
                return self.code.add(Constant.of(first, dtype)), self.code.add(Constant.of(end - 1, dtype))
            case Splat():
                return self._uniform(operation.operands[0])
            case Broadcast() | ExpandDims() | Reshape() | Transpose():
                return self.of(operation.operands[0])
            case Elementwise():
                ends = [self.of(each) for each in operation.operands[operation.name == "select" :]]
                known = [each for each in ends if each is not None]
                found = self._of_arithmetic(operation, known) if len(known) == len(ends) else None
                if found is not None:
                    ordered = "fole" if _is_float(found[0]) else "sle"
                    self.facts.append(Holds(self.code.add(Elementwise.of(ordered, *found))))
                return found
            case _:
                return None

    def _uniform(self, scalar: Value) -> Interval | None:
        needed = launch_arithmetic([scalar], self._function)
        if needed is None:
            return None
        for each in needed:
            if each.results[0] not in self._copies:
                self.code.operations.append(copy_operation(each, self._copies))
        copy = self._copies.get(scalar, scalar)
        return copy, copy

    def _of_arithmetic(self, operation: Elementwise, ends: Sequence[Interval]) -> Interval | None:
        lows, highs = [low for low, _ in ends], [high for _, high in ends]
        name = operation.name
        if name in _GROWING or name in _GROWING_TOGETHER:
            return self._same(operation, lows), self._same(operation, highs)
        if name in ("sub", "fsub"):
            return self._same(operation, [lows[0], highs[1]]), self._same(operation, [highs[0], lows[1]])
        if name == "fneg":
            return self._same(operation, highs), self._same(operation, lows)
        if name in _PRODUCTS or (name == "fdiv" and lows[1] is highs[1]):
            corners = [self._same(operation, corner) for corner in itertools.product(*map(dict.fromkeys, ends))]
            return self._least(corners), self._greatest(corners)
        if name == "select":
            return self._least(lows), self._greatest(highs)
        if name == "iabs":
            zero = self.code.add(Constant.of(0, lows[0].type))
            low, high = ends[0]
            other_side = [self.code.add(Elementwise.of("sub", zero, each)) for each in (high, low)]
            return self._greatest([zero, low, other_side[0]]), self._greatest([high, other_side[1]])
        return None

    def _same(self, operation: Elementwise, operands: Sequence[Value]) -> Value:
        to = element_type(operation.result.type)
        assert isinstance(to, DType)
        is_cast = operation.arithmetic.is_cast
        return self.code.add(Elementwise.of(operation.name, *operands, to=to if is_cast else None))

    def _least(self, values: Sequence[Value]) -> Value:
        return self._extreme("fminimum" if _is_float(values[0]) else "smin", values)

    def _greatest(self, values: Sequence[Value]) -> Value:
        return self._extreme("fmaximum" if _is_float(values[0]) else "smax", values)

    def _extreme(self, name: str, values: Sequence[Value]) -> Value:
        found = values[0]
        for each in values[1:]:
            found = self.code.add(Elementwise.of(name, found, each))
        return found


def _is_float(value: Value) -> bool:
    dtype = element_type(value.type)
    return isinstance(dtype, DType) and dtype.is_float
