"""Reads the text that :mod:`~mlutriton.ir.printer` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from mlutriton.arithmetic import OPERATIONS
from mlutriton.diagnostics import UNKNOWN_LOCATION, CompileError, Location
from mlutriton.dtypes import BY_NAME, DType
from mlutriton.ir.core import Attribute, Block, Function, Operation, Value
from mlutriton.ir.ops import OPS, Elementwise
from mlutriton.ir.types import PointerType, ScalarType, TensorType, Type

_TOKEN = re.compile(
    r"""
      (?P<skip>   [ \t\r\n]+ | ;[^\n]* )
    | (?P<value>  %\w+ )
    | (?P<string> "(?:[^"\\\n]|\\.)*" )
    | (?P<float>  -?(?:inf|nan)\b | -?0x[0-9a-f]+(?:\.[0-9a-f]+)?p[+-]?\d+ | -?\d+\.\d+(?:e[+-]?\d+)? | -?\d+e[+-]?\d+ )
    | (?P<shape>  (?<=<)(?:\d+x)+ )
    | (?P<int>    -?\d+ )
    | (?P<word>   [A-Za-z_]\w* )
    | (?P<mark>   [@^(){}\[\]<>=:,] )
    """,
    re.VERBOSE | re.ASCII,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int
    column: int


def parse_function(text: str, file: str = "<ir>") -> Function:
    """The function that a text describes; text from ``;`` to the end of a line is a comment.

    Raises:
        CompileError: E0204, the text is not that of a function; with its line.
    """
    return _Parser(text, file).function()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.tokens = self.tokenize(text)
        self.position = 0
        self.values: dict[str, Value] = {}

    # ---- tokens

    def tokenize(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        position, line, line_start = 0, 1, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self.fail(f"unexpected character {text[position]!r}", line, position - line_start + 1)
            if match.lastgroup != "skip":
                tokens.append(_Token(str(match.lastgroup), match[0], line, position - line_start + 1))
            if newlines := match[0].count("\n"):
                line += newlines
                line_start = position + match[0].rindex("\n") + 1
            position = match.end()
        tokens.append(_Token("end", "the end of the text", line, position - line_start + 1))
        return tokens

    def fail(self, summary: str, line: int = 0, column: int = 0) -> NoReturn:
        if not line:
            token = self.tokens[self.position]
            line, column = token.line, token.column
        raise CompileError("E0204", summary, location=Location(self.file, line, column))

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def at(self, text: str) -> bool:
        return self.next.text == text and self.next.kind != "string"

    def accept(self, text: str) -> bool:
        found = self.at(text)
        self.position += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {self.next.text!r}")

    def take(self, kind: str) -> str:
        token = self.next
        if token.kind != kind:
            self.fail(f"expected a {kind}, found {token.text!r}")
        self.position += 1
        return token.text

    def listed(self, item: Callable[[], _T], end: str) -> list[_T]:
        """Items separated by commas up to ``end``, which is taken."""
        items: list[_T] = []
        while not self.accept(end):
            if items:
                self.expect(",")
            items.append(item())
        return items

    # ---- grammar

    def function(self) -> Function:
        self.expect("func")
        self.expect("@")
        name = self.take("word")
        self.expect("(")
        facts: list[dict[str, int]] = []

        def argument() -> tuple[str, Type]:
            declared = self.declaration()
            attributes = self.attributes()
            if not all(isinstance(value, int) for value in attributes.values()):
                self.fail("facts about arguments are integers")
            facts.append({key: value for key, value in attributes.items() if isinstance(value, int)})
            return declared

        arguments = self.listed(argument, ")")
        location = self.location()
        self.expect("{")
        body = self.block(arguments)
        self.expect("}")
        if self.next.kind != "end":
            self.fail(f"unexpected {self.next.text!r} after the function")
        return Function(name, body, facts if any(facts) else [], location)

    def declaration(self) -> tuple[str, Type]:
        name = self.new_name()
        self.expect(":")
        return name, self.type()

    def block(self, arguments: list[tuple[str, Type]]) -> Block:
        block = Block([type for _, type in arguments])
        outer = len(self.values)
        for (name, _), value in zip(arguments, block.arguments, strict=True):
            self.define(name, value)
        while not self.at("}"):
            block.operations.append(self.operation())
        while len(self.values) > outer:
            self.values.popitem()
        return block

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            self.fail(f"{name} is defined twice")
        self.values[name] = value
        value.name = "" if name[1].isdigit() else name[1:]

    def new_name(self) -> str:
        name = self.next.text
        if name in self.values:
            self.fail(f"{name} is defined twice")
        return self.take("value")

    def use(self) -> Value:
        name = self.next.text
        if self.next.kind == "value" and name not in self.values:
            self.fail(f"{name} is not defined before its use")
        return self.values[self.take("value")]

    def operation(self) -> Operation:
        results: list[str] = []
        while self.next.kind == "value":
            results.append(self.new_name())
            self.expect("=" if not self.at(",") else ",")
        start = self.next
        op = self.take("word")
        if op not in OPS and op not in OPERATIONS:
            self.fail(f"unknown op {op!r}", start.line, start.column)
        operands: list[Value] = []
        while self.next.kind == "value" and self.names_operand():
            operands.append(self.use())
            if not self.accept(","):
                break
        attributes = self.attributes()
        types: list[Type] = []
        if self.accept(":"):
            types.append(self.type())
            while self.accept(","):
                types.append(self.type())
        if len(types) != len(results):
            self.fail(f"{op} names {len(results)} results but {len(types)} types", start.line, start.column)
        regions = self.regions() if self.at("(") else []
        cls: type[Operation] = OPS.get(op, Elementwise)
        if cls is Elementwise:
            attributes = {"operation": op, **attributes}
        location = self.location()
        operation = cls(operands, attributes, result_types=types, regions=regions, location=location)
        for name, value in zip(results, operation.results, strict=True):
            self.define(name, value)
        return operation

    def names_operand(self) -> bool:
        """Whether the value at hand is an operand and not a result of the next line (after an op without operands)."""
        return self.tokens[self.position - 1].line == self.next.line

    def regions(self) -> list[Block]:
        self.expect("(")
        return self.listed(self.region, ")")

    def region(self) -> Block:
        self.expect("{")
        arguments: list[tuple[str, Type]] = []
        if self.accept("^"):
            self.expect("(")
            arguments = self.listed(self.declaration, ")")
            self.expect(":")
        block = self.block(arguments)
        self.expect("}")
        return block

    def attributes(self) -> dict[str, Attribute]:
        if not self.accept("{"):
            return {}

        def pair() -> tuple[str, Attribute]:
            name = self.take("word")
            self.expect("=")
            return name, self.attribute()

        return dict(self.listed(pair, "}"))

    def attribute(self) -> Attribute:
        token = self.next
        self.position += 1
        match token.kind, token.text:
            case "int", text:
                return int(text)
            case "float", text:
                return float.fromhex(text) if "0x" in text else float(text)
            case "string", text:
                return str(json.loads(text))
            case "word", "true" | "false":
                return token.text == "true"
            case "mark", "[":
                return tuple(self.listed(lambda: int(self.take("int")), "]"))
            case _:
                pass
        self.position -= 1
        return self.fail(f"expected an attribute, found {token.text!r}")

    def type(self) -> Type:
        if not self.accept("tensor"):
            return self.scalar_type()
        self.expect("<")
        shape = tuple(int(extent) for extent in self.take("shape").split("x")[:-1])
        tensor = TensorType(shape, self.scalar_type())
        self.expect(">")
        return tensor

    def scalar_type(self) -> ScalarType:
        if self.accept("ptr"):
            self.expect("<")
            pointer = PointerType(self.dtype())
            self.expect(">")
            return pointer
        return self.dtype()

    def dtype(self) -> DType:
        name = self.next.text
        if name not in BY_NAME:
            self.fail(f"expected a type, found {name!r}")
        self.position += 1
        return BY_NAME[name]

    def location(self) -> Location:
        if not self.accept("loc"):
            return UNKNOWN_LOCATION
        self.expect("(")
        file = str(json.loads(self.take("string")))
        self.expect(":")
        line = int(self.take("int"))
        self.expect(":")
        column = int(self.take("int"))
        self.expect(")")
        return Location(file, line, column)
