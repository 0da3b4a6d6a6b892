"""Formulas of the instruction table: computed now where all that they are about is known, else by a program's text."""

from __future__ import annotations

from collections.abc import Mapping

from mlutriton.codegen.llvm.emitter import Count, Emitter
from mlutriton.codegen.llvm.ranges import INT64, Range
from mlutriton.isa.expression import Call, Constant, Expression, Name, evaluate, parse

_BEYOND_EVERY_SPAN = 1 << 48


class Formulas:
    """Writes formulas, and knows between which integers lies what they are about."""

    def __init__(self, e: Emitter) -> None:
        self._e = e
        self._known: dict[tuple[Count, ...], int] = {}
        # Of counts, and of what is computed of them: of most that how, as nobody has asked about them.
        self._ranges: dict[str, Range] = {}
        self._formed: dict[str, tuple[str, Count, Count]] = {}

    def learn(self, value: str, between: Range) -> None:
        """Note between which integers an IR value lies."""
        self._ranges[value] = between

    def of(self, text: str, values: Mapping[str, Count]) -> Count:
        """Evaluate a formula over counts; once for the same known values, and once in a block for the same others."""
        key = (text, *values.values())
        result = self._known.get(key)
        if result is None:
            result = self._e.once(key, lambda: self.expression(parse(text), values))
            if isinstance(result, int):
                self._known[key] = result
        return result

    def expression(self, expression: Expression, values: Mapping[str, Count]) -> Count:
        """Evaluate an expression, now where all its names are known, else as IR."""
        match expression:
            case Constant(value):
                return value
            case Name(text):
                return values[text]
            case Call(function, arguments):
                operands = [self.expression(argument, values) for argument in arguments]
                known = [operand for operand in operands if isinstance(operand, int)]
                if len(known) == len(operands):
                    return evaluate(Call(function, tuple(Constant(operand) for operand in known)), {})
                return self._call(function, operands)

    def _call(self, function: str, operands: list[Count]) -> Count:
        result = self._called(function, operands)
        if isinstance(result, str) and len(operands) == 2:
            self._formed[result] = function, operands[0], operands[1]
        return result

    def _called(self, function: str, operands: list[Count]) -> Count:
        e = self._e
        match function, operands:
            case "+", [a, b]:
                return e.add(a, b)
            case "-", [a, b]:
                return e.subtract(a, b)
            case "*", [a, b]:
                return 0 if 0 in (a, b) else self._product(a, b)
            case "max", [a, b]:
                return e.maximum(a, b)
            case "min", [a, b]:
                return e.minimum(a, b)
            case "ceil_div", [a, b]:
                return e.ceil_divide(a, b)
            case "round_up", [a, b]:
                return e.multiply(self._call("ceil_div", [a, b]), b)
            case "log2_ceil", [a]:
                name = e.library.declare("llvm.ctlz.i64", "i64 {}(i64, i1)")
                below = e.maximum(e.subtract(a, 1), 0)
                return e.subtract(64, e.value(f"call i64 @{name}(i64 {below}, i1 false)"))
            case "if_one", [condition, then, otherwise]:
                if isinstance(condition, int):
                    return then if condition == 1 else otherwise
                is_one = e.value(f"icmp eq i64 {condition}, 1")
                return e.value(f"select i1 {is_one}, i64 {then}, i64 {otherwise}")
            case _:
                raise AssertionError(f"no LLVM text for {function}")

    def _product(self, a: Count, b: Count) -> Count:
        """``a * b``, or a number far above the size of any memory: a span must not wrap around into its window."""
        e = self._e
        if 1 in (a, b):
            return e.multiply(a, b)
        found = self._range_after("*", a, b)
        if found is not None:
            product = e.multiply(a, b)
            return product if found.most <= _BEYOND_EVERY_SPAN else e.minimum(product, _BEYOND_EVERY_SPAN)
        name = e.library.declare("llvm.smul.fix.sat.i64", "i64 {}(i64, i64, i32)")
        return e.minimum(e.value(f"call i64 @{name}(i64 {a}, i64 {b}, i32 0)"), _BEYOND_EVERY_SPAN)

    def _range(self, value: Count) -> Range | None:
        """Integers between which a value lies; None if that is not known."""
        if isinstance(value, int):
            return Range(value, value)
        formed = self._formed.pop(value, None)
        if formed is not None and value not in self._ranges:
            found = self._range_after(*formed)
            if found is not None:
                self._ranges[value] = found
        return self._ranges.get(value)

    def _range_after(self, function: str, a: Count, b: Count) -> Range | None:
        """The same of what a function of the table gives; None if it may not fit 64 bits, and wrap around."""
        left, right = self._range(a), self._range(b)
        found = left.after(function, right) if left and right else None
        return found if found is not None and found.is_within(INT64) else None
