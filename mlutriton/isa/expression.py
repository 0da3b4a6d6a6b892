"""Integer expressions over operand names: how the table states spans and costs once for every consumer.

A row says ``span="rows * columns"`` or ``occupancy="ceil_div(n * width, vector_bytes_per_cycle)"``. The text is
parsed once into a tree; the interpreter evaluates it on integers, the LLVM translation emits it, the manual prints it.
The language is ``+ - *``, names, integer literals and the functions in ``FUNCTIONS``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache


def ceil_div(a: int, b: int) -> int:
    """Smallest integer not below ``a / b``, for ``b > 0``."""
    return -(-a // b)


def round_up(a: int, b: int) -> int:
    """Smallest multiple of ``b`` not below ``a``."""
    return ceil_div(a, b) * b


def log2_ceil(a: int) -> int:
    """Steps of halving that bring ``a`` elements down to one; 0 for ``a <= 1``."""
    return max(0, (a - 1).bit_length()) if a > 1 else 0


def if_one(condition: int, then: int, otherwise: int) -> int:
    """``then`` where ``condition`` is 1, else ``otherwise``."""
    return then if condition == 1 else otherwise


FUNCTIONS: dict[str, Callable[..., int]] = {
    "ceil_div": ceil_div,
    "round_up": round_up,
    "log2_ceil": log2_ceil,
    "if_one": if_one,
    "max": max,
    "min": min,
}


@dataclass(frozen=True, slots=True)
class Name:
    """A named integer: an operand's value, or a constant of dtype or machine."""

    text: str


@dataclass(frozen=True, slots=True)
class Constant:
    """An integer literal."""

    value: int


@dataclass(frozen=True, slots=True)
class Call:
    """``+``, ``-``, ``*`` or a function of ``FUNCTIONS`` applied to arguments."""

    function: str
    arguments: tuple[Expression, ...]


Expression = Name | Constant | Call

_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


@cache
def parse(text: str) -> Expression:
    """The tree of an expression.

    Raises:
        ValueError: the text uses something outside the language.
    """
    return _convert(ast.parse(text, mode="eval").body)


def _convert(node: ast.expr) -> Expression:
    match node:
        case ast.Name(id=name):
            return Name(name)
        case ast.Constant(value=int(value)):
            return Constant(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return Call(_OPERATORS[type(op)], (_convert(left), _convert(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in FUNCTIONS:
            return Call(name, tuple(_convert(argument) for argument in arguments))
        case _:
            raise ValueError(f"not part of the expression language: {ast.unparse(node)}")


def evaluate(expression: Expression, values: Mapping[str, int]) -> int:
    """The expression's value where every name stands for an integer.

    Raises:
        KeyError: a name has no value.
    """
    match expression:
        case Name(text):
            return values[text]
        case Constant(value):
            return value
        case Call(function, arguments):
            operands = [evaluate(argument, values) for argument in arguments]
            match function:
                case "+":
                    return operands[0] + operands[1]
                case "-":
                    return operands[0] - operands[1]
                case "*":
                    return operands[0] * operands[1]
                case _:
                    return FUNCTIONS[function](*operands)


def value_of(text: str, values: Mapping[str, int]) -> int:
    """The value of the expression of a text; the same as that of its tree, and quicker.

    Raises:
        KeyError: a name has no value.
    """
    return _compiled(text)(values)


@cache
def _compiled(text: str) -> Callable[[Mapping[str, int]], int]:
    """A function of Python that evaluates an expression."""
    return eval(f"lambda values: {_python(parse(text))}", dict(FUNCTIONS))


def _python(expression: Expression) -> str:
    """An expression of the language in Python, whose names are looked up in ``values``."""
    match expression:
        case Name(text):
            return f"values[{text!r}]"
        case Constant(value):
            return str(value)
        case Call("+" | "-" | "*" as operator, (left, right)):
            return f"({_python(left)} {operator} {_python(right)})"
        case Call(function, arguments):
            return f"{function}({', '.join(map(_python, arguments))})"


@cache
def names_in(text: str) -> frozenset[str]:
    """Every name that the expression of a text mentions."""
    return names(parse(text))


def names(expression: Expression) -> frozenset[str]:
    """Every name that the expression mentions."""
    match expression:
        case Name(text):
            return frozenset({text})
        case Constant():
            return frozenset()
        case Call(_, arguments):
            return frozenset[str]().union(*(names(argument) for argument in arguments))
