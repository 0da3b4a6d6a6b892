"""Simplification: constants are folded, rules applied, control flow that is decided is removed.

One walk in program order: the operands of an op are simplified before it is. What becomes unused stays for
:mod:`~mlutriton.ir.passes.dce`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Constant, Elementwise, For, If
from mlutriton.ir.passes.canonicalize.arithmetic_rules import constant_of, simplify_elementwise
from mlutriton.ir.passes.canonicalize.shape_rules import simplify_structure
from mlutriton.ir.passes.carried_values import keep_carried, kept


def run(function: Function) -> None:
    """Simplify a function."""
    _Canonicalizer().block(function.body)


class _Canonicalizer:
    def __init__(self) -> None:
        self.replaced: dict[Value, Value] = {}
        self.code: list[Operation] = []
        self.location: Location = UNKNOWN_LOCATION
        self.ends: dict[Value, Value] = {}  # by the index of a loop, where the loop ends

    def block(self, block: Block) -> None:
        outer, self.code = self.code, []
        for operation in block.operations:
            self.operation(operation)
        block.operations, self.code = self.code, outer

    def resolve(self, values: Sequence[Value]) -> list[Value]:
        return [self.replaced.get(value, value) for value in values]

    def operation(self, operation: Operation) -> None:
        operation.operands = self.resolve(operation.operands)
        self.location = operation.location
        replacements = self.simplify(operation)
        if replacements is None:
            for region in operation.regions:
                self.block(region)
            self.code.append(operation)
            return
        for result, value in zip(operation.results, replacements, strict=True):
            self.replaced[result] = value
            value.name = value.name or result.name

    def simplify(self, operation: Operation) -> Sequence[Value] | None:
        match operation:
            case Elementwise():
                if self.is_below_end(operation):
                    return [self.make(Constant.of(True, operation.result.type))]
                value = simplify_elementwise(operation, self.make)
                return None if value is None else [value]
            case If():
                return self.decided_if(operation)
            case For():
                return self.short_loop(operation)
            case _:
                return simplify_structure(operation, self.make)

    def is_below_end(self, operation: Elementwise) -> bool:
        """True for a comparison of a loop's index with the loop's end that the loop itself has made."""
        match operation.name:
            case "slt" | "sle":
                index, end = operation.operands
            case "sgt" | "sge":
                end, index = operation.operands
            case _:
                return False
        return index in self.ends and self.ends[index] is end

    def make(self, operation: Operation) -> Value:
        """Add an operation, or find the value that it simplifies to."""
        if operation.location is UNKNOWN_LOCATION:
            operation.location = self.location
        replacements = self.simplify(operation)
        if replacements is not None:
            return replacements[0]
        self.code.append(operation)
        return operation.result

    def inline(self, block: Block) -> list[Value]:
        """Put a block's operations here; the values that it yields."""
        for operation in block.operations[:-1]:
            self.operation(operation)
        return self.resolve(block.terminator.operands)

    def decided_if(self, op: If) -> list[Value] | None:
        condition = constant_of(op.operands[0])
        return None if condition is None else self.inline(op.regions[0 if condition else 1])

    def short_loop(self, loop: For) -> list[Value] | None:
        """Loops of no or one trip are no loops, and a value that a loop carries unchanged is not carried."""
        start, end, step = map(constant_of, loop.operands[:3])
        if start is not None and end is not None and start >= end:
            return loop.initial
        if start is not None and end is not None and step is not None and start + step >= end:
            index = self.make(Constant.of(start, loop.index.type))
            self.replaced.update(zip(loop.body.arguments, [index, *loop.initial], strict=True))
            return self.inline(loop.body)
        changes = [
            yielded is not argument and self.replaced.get(yielded, yielded) is not initial
            for argument, yielded, initial in zip(
                loop.carried, loop.body.terminator.operands, loop.initial, strict=True
            )
        ]
        for values in (loop.carried, loop.results):
            unchanged = [not flag for flag in changes]
            self.replaced.update(zip(kept(values, unchanged), kept(loop.initial, unchanged), strict=True))
        keep_carried(loop, changes)
        self.ends[loop.index] = loop.operands[1]
        return None
