"""Arithmetic that a user may type: ``cdiv(M, BLOCK_M) * cdiv(N, BLOCK_N)``; nothing but arithmetic is run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from mlutriton.diagnostics import ArgumentError

_operator: Any = operator  # whose functions take anything
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _operator.add,
    ast.Sub: _operator.sub,
    ast.Mult: _operator.mul,
    ast.Div: _operator.truediv,
    ast.FloorDiv: _operator.floordiv,
    ast.Mod: _operator.mod,
    ast.LShift: _operator.lshift,
    ast.RShift: _operator.rshift,
    ast.Eq: _operator.eq,
    ast.NotEq: _operator.ne,
    ast.Lt: _operator.lt,
    ast.LtE: _operator.le,
    ast.Gt: _operator.gt,
    ast.GtE: _operator.ge,
    ast.USub: _operator.neg,
    ast.Not: _operator.not_,
}


def _cdiv(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _next_power_of_2(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "cdiv": _cdiv,
    "max": max,
    "min": min,
    "next_power_of_2": _next_power_of_2,
}


@dataclass(frozen=True)
class Expression:
    """An arithmetic expression, or several between commas.

    Attributes:
        text: as it was typed.
        tree: the parsed text.
    """

    text: str
    tree: ast.expr

    @property
    def names(self) -> frozenset[str]:
        """What it needs values of."""
        return frozenset(node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)) - FUNCTIONS.keys()

    def value(self, names: Mapping[str, Any]) -> Any:
        """What it comes to; a tuple if commas are in it.

        Raises:
            ArgumentError: E0502, a name has no value, or the arithmetic fails.
        """
        try:
            return _value(self.tree, names)
        except KeyError as problem:
            name = str(problem.args[0])
            close = get_close_matches(name, names, n=1)
            raise ArgumentError(
                "E0502",
                f"{name} in {self.text!r} has no value",
                help=f"did you mean {close[0]}?" if close else f"these have: {', '.join(sorted(names))}",
            ) from None
        except (ArithmeticError, TypeError, ValueError) as problem:
            raise ArgumentError("E0502", f"{self.text!r} has no value: {problem}") from None


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises:
        ArgumentError: E0502, it is none, or more than arithmetic.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ArgumentError("E0502", f"{text!r} is no arithmetic expression", help=_HELP) from None
    for node in _unknown(tree):
        raise ArgumentError("E0502", f"{ast.unparse(node)!r} in {text!r} is no arithmetic", help=_HELP)
    return Expression(text, tree)


_HELP = "numbers, names, + - * / // % << >>, comparisons, and, or, not, " + ", ".join(
    f"{name}()" for name in sorted(FUNCTIONS)
)
_KNOWN = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Name, ast.Tuple)


def _unknown(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=int() | float() | str()):
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            children: list[ast.expr] = arguments
        case ast.BinOp(op=action) | ast.UnaryOp(op=action) if type(action) not in _OPERATORS:
            yield node
            return
        case ast.Compare(ops=actions) if any(type(action) not in _OPERATORS for action in actions):
            yield node
            return
        case _ if isinstance(node, _KNOWN):
            children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        case _:
            yield node
            return
    for child in children:
        yield from _unknown(child)


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.Tuple(elts=elements):
            return tuple(_value(each, names) for each in elements)
        case ast.BinOp(left=left, op=action, right=right):
            return _OPERATORS[type(action)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=action, operand=operand):
            return _OPERATORS[type(action)](_value(operand, names))
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(each, names) for each in values)
        case ast.BoolOp(values=values):
            return any(_value(each, names) for each in values)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, names) else other, names)
        case ast.Compare(left=left, ops=actions, comparators=others):
            values = [_value(each, names) for each in (left, *others)]
            return all(_OPERATORS[type(action)](*pair) for action, pair in zip(actions, pairwise(values), strict=True))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name](*(_value(each, names) for each in arguments))
        case _:
            raise AssertionError(f"{ast.dump(node)} was parsed")
