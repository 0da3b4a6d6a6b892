"""Structured control flow."""

# ruff: noqa: D102 - infer_types, check and evaluate are described at Operation.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mlutriton.dtypes import I1, DType
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.types import Type


def _mismatch(what: str, values: Sequence[Value], wanted: Sequence[Value]) -> str | None:
    found, expected = [value.type for value in values], [value.type for value in wanted]
    if found == expected:
        return None
    return f"{what} has types ({', '.join(map(str, found))}), not ({', '.join(map(str, expected))})"


class For(Operation):
    """Counted loop: region arguments are the index and the carried values; ``yield`` hands on the carried values.

    Operands ``start``, ``end``, ``step`` (one integer type, step > 0) and the initial carried values. The index takes
    start, start + step, ... as long as it is below end (signed). ``stages`` is the wanted depth of the software
    pipeline, 0 for the kernel's default.
    """

    NAME = "for"
    OPERANDS = ("start", "end", "step", "initial*")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"stages": int}
    PURE = False
    REGIONS = ("yield",)

    def infer_types(self) -> Sequence[Type]:
        return tuple(value.type for value in self.initial)

    def check(self) -> str | None:
        start, end, step = self.operands[:3]
        if not isinstance(start.type, DType) or not start.type.is_int or not start.type == end.type == step.type:
            return f"start, end and step have one integer type, not {start.type}, {end.type}, {step.type}"
        return (
            _mismatch("the loop's region", self.body.arguments, [start, *self.initial])
            or _mismatch("the yield of the loop", self.body.terminator.operands, self.initial)
        )  # fmt: skip

    @property
    def initial(self) -> list[Value]:
        """Carried values on entry."""
        return self.operands[3:]

    @property
    def body(self) -> Block:
        """The loop's block."""
        return self.regions[0]

    @property
    def index(self) -> Value:
        """The loop counter."""
        return self.regions[0].arguments[0]

    @property
    def carried(self) -> list[Value]:
        """The carried values inside the body."""
        return self.regions[0].arguments[1:]


class While(Operation):
    """Loop while a condition computed in the loop holds (result types are free).

    Region 0 takes the carried values and ends in ``condition``; region 1 takes what it passes on and yields the carried
    values. The results are what ``condition`` passes on when it is false.
    """

    NAME = "while"
    OPERANDS = ("initial*",)
    FREE_RESULTS = True
    PURE = False
    REGIONS = ("condition", "yield")

    def check(self) -> str | None:
        before, after = self.regions
        return (
            _mismatch("region 0", before.arguments, self.operands)
            or _mismatch("the condition", before.terminator.operands[1:], self.results)
            or _mismatch("region 1", after.arguments, self.results)
            or _mismatch("the yield of the loop", after.terminator.operands, self.operands)
        )


class If(Operation):
    """Two regions without arguments that ``yield`` the results (types are free)."""

    NAME = "if"
    OPERANDS = ("condition",)
    FREE_RESULTS = True
    PURE = False
    REGIONS = ("yield", "yield")

    def check(self) -> str | None:
        if self.operands[0].type != I1:
            return f"the condition has type {self.operands[0].type}, not i1"
        if any(region.arguments for region in self.regions):
            return "the regions of an if take no arguments"
        then, otherwise = self.regions
        return _mismatch("the first yield", then.terminator.operands, self.results) or _mismatch(
            "the second yield", otherwise.terminator.operands, self.results
        )


class Yield(Operation):
    """Hands values back to the parent operation."""

    NAME = "yield"
    OPERANDS = ("values*",)
    PURE = False
    TERMINATOR = True


class Condition(Operation):
    """Ends region 0 of a ``while``: go on if the first operand is true; the others are passed on."""

    NAME = "condition"
    OPERANDS = ("condition", "values*")
    PURE = False
    TERMINATOR = True

    def check(self) -> str | None:
        return None if self.operands[0].type == I1 else f"the condition has type {self.operands[0].type}, not i1"


class Return(Operation):
    """Ends the kernel."""

    NAME = "return"
    PURE = False
    TERMINATOR = True


CONTROL_OPS: tuple[type[Operation], ...] = (For, While, If, Yield, Condition, Return)
