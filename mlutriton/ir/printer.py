"""Text of a function; :mod:`~mlutriton.ir.parser` reads it back to the same function.

An operation is one line, its regions follow in one pair of parentheses::

    %m, %at = reduce %x, %i {axis = 0} : f32, i32 ({
      ^(%a: f32, %j: i32, %b: f32, %k: i32):
        ...
        yield %v, %w
    })
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.ir.core import Attribute, Block, Function, Operation, Value
from mlutriton.ir.ops import Elementwise


def print_function(
    function: Function, *, locations: bool = False, complaints: Mapping[Operation, str] | None = None
) -> str:
    """The function's text; with ``locations`` each line says where in the kernel it comes from.

    A complaint is printed under the operation that it concerns.
    """
    return _Printer(locations, complaints or {}).function(function)


def format_attribute(value: Attribute) -> str:
    """An attribute in text: floats that no short decimal hits are hexadecimal."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _format_float(value)
        case str():
            return json.dumps(value)
        case tuple():
            return f"[{', '.join(map(str, value))}]"


def _format_float(value: float) -> str:
    if math.isnan(value):
        return "-nan" if math.copysign(1.0, value) < 0 else "nan"
    decimal = repr(value)
    if math.isinf(value) or Decimal(decimal) == Decimal(value):
        return decimal
    return re.sub(r"\.?0*p", "p", value.hex())


def _format_attributes(attributes: Mapping[str, Attribute]) -> str:
    if not attributes:
        return ""
    return " {" + ", ".join(f"{name} = {format_attribute(value)}" for name, value in attributes.items()) + "}"


def _format_location(location: Location) -> str:
    return f" loc({json.dumps(location.file)}:{location.line}:{location.column})"


class _Printer:
    def __init__(self, locations: bool, complaints: Mapping[Operation, str]) -> None:
        self.locations = locations
        self.complaints = complaints
        self.names: dict[Value, str] = {}
        self.taken: dict[str, int] = {}
        self.unnamed = 0
        self.lines: list[str] = []

    def function(self, function: Function) -> str:
        facts = function.argument_attributes
        arguments = [
            self.declare(argument) + (_format_attributes(facts[i]) if i < len(facts) else "")
            for i, argument in enumerate(function.body.arguments)
        ]
        self.lines.append(f"func @{function.name}({', '.join(arguments)}){self.location(function.location)} {{")
        self.block(function.body, 1)
        self.lines.append("}")
        return "\n".join(self.lines) + "\n"

    def block(self, block: Block, depth: int) -> None:
        for operation in block.operations:
            self.operation(operation, depth)

    def operation(self, operation: Operation, depth: int) -> None:
        indent = "  " * depth
        operands = ", ".join(map(self.use, operation.operands))
        attributes = dict(operation.attributes)
        if isinstance(operation, Elementwise):
            del attributes["operation"]  # it is the name
        results = ", ".join(self.define(result) for result in operation.results)
        types = ", ".join(str(result.type) for result in operation.results)
        text = f"{results} = " if results else ""
        text += operation.name + (f" {operands}" if operands else "") + _format_attributes(attributes)
        text += f" : {types}" if types else ""
        self.lines.append(indent + text)
        if operation.regions:
            self.regions(operation, depth)
        self.lines[-1] += self.location(operation.location)
        if operation in self.complaints:
            self.lines.append(f"{indent}^ {self.complaints[operation]}")

    def regions(self, operation: Operation, depth: int) -> None:
        indent = "  " * depth
        for i, region in enumerate(operation.regions):
            if i == 0:
                self.lines[-1] += " ({"
            else:
                self.lines.append(f"{indent}}}, {{")
            if region.arguments:
                self.lines.append(f"{indent}  ^({', '.join(map(self.declare, region.arguments))}):")
            self.block(region, depth + 2 if region.arguments else depth + 1)
        self.lines.append(f"{indent}}})")

    def location(self, location: Location) -> str:
        return _format_location(location) if self.locations and location != UNKNOWN_LOCATION else ""

    def declare(self, argument: Value) -> str:
        return f"{self.define(argument)}: {argument.type}"

    def define(self, value: Value) -> str:
        self.names[value] = name = "%" + self.unique(value.name)
        return name

    def use(self, value: Value) -> str:
        return self.names.get(value, f"%<undefined {value.name}>")

    def unique(self, hint: str) -> str:
        name = re.sub(r"\W", "_", hint, flags=re.ASCII)
        if not name:
            self.unnamed += 1
            return str(self.unnamed - 1)
        if name[0].isdigit():
            name = "_" + name
        base, count = name, self.taken.get(name, 0)
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken[base] = count
        self.taken.setdefault(name, 0)
        return name
