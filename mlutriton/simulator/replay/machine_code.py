"""Translates a restricted Python function to LLVM IR text, so that hot simulator loops stay readable Python.

The subset, whole::

    parameters   int | IntArray | a dataclass whose fields are all IntArray
    statements   x = e | a[i] = e | op= | if | while | for x in range(...) | break | continue | return | call | pass
    expressions  int | x | a[i] | record.field[i] | + - * // % << >> & | ^ - ~ | == != < <= > >= | and or not
                 e if c else e | min max | e.bit_count() e.bit_length() | calls of such functions and of prefetch
                 integer constants and enumeration members of this or an imported module

Every local is a 64-bit signed integer. The same function runs unchanged as ordinary Python on lists or int64 arrays,
with equal results as long as values fit 64 bits, indices are not negative, shift counts are below 64, no divisor is
zero, and no local is read before it is assigned. ``//`` and ``%`` round down, as in Python. The arrays of a dataclass
must not overlap, and one call chain sees one instance of it.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import EnumType
from functools import cache
from types import ModuleType
from typing import Any, Protocol, TypeVar, get_type_hints

from mlutriton.diagnostics import Location

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.LShift: "shl",
    ast.RShift: "ashr",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "slt",
    ast.LtE: "sle",
    ast.Gt: "sgt",
    ast.GtE: "sge",
}
Function = TypeVar("Function", bound=Callable[..., Any])
_INLINED: set[Callable[..., Any]] = set()
_DIVIDE: dict[type[ast.operator], str] = {ast.FloorDiv: "floor_divide", ast.Mod: "floor_remainder"}

# Floor division from LLVM's truncating one: step down when the remainder is not zero and its sign is not the divisor's.
_PRELUDE = """\
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.abs.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.ctlz.i64(i64, i1)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define internal i64 @floor_divide(i64 %a, i64 %b) alwaysinline {
  %q = sdiv i64 %a, %b
  %r = srem i64 %a, %b
  %x = xor i64 %r, %b
  %differs = icmp slt i64 %x, 0
  %inexact = icmp ne i64 %r, 0
  %down = and i1 %differs, %inexact
  %step = sext i1 %down to i64
  %result = add i64 %q, %step
  ret i64 %result
}

define internal i64 @floor_remainder(i64 %a, i64 %b) alwaysinline {
  %r = srem i64 %a, %b
  %x = xor i64 %r, %b
  %differs = icmp slt i64 %x, 0
  %inexact = icmp ne i64 %r, 0
  %down = and i1 %differs, %inexact
  %step = select i1 %down, i64 %b, i64 0
  %result = add i64 %r, %step
  ret i64 %result
}
"""


class IntArray(Protocol):
    """An array of 64-bit signed integers: a list in Python, a pointer in machine code."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def prefetch(array: IntArray, index: int) -> None:
    """Say that an element, if there is one, will be read soon; in Python, nothing."""


def inlined(function: Function) -> Function:
    """Mark a function that takes the place of its calls in machine code."""
    _INLINED.add(function)
    return function


class TranslationError(Exception):
    """A function leaves the subset; the message starts with its file and line."""

    def __init__(self, location: Location, message: str) -> None:
        self.location = location
        super().__init__(f"{location}: {message}")


def translate(*entries: Callable[..., Any]) -> str:
    """LLVM IR of a module that exports ``entries`` under their own names, with everything they call kept internal.

    A dataclass parameter is a pointer to the addresses of its arrays, in field order.

    Raises:
        TranslationError: a function uses a construct outside the subset.
    """
    found: dict[str, Callable[..., Any]] = {}
    waiting = list(entries)
    scopes: dict[str, int] = {}
    texts = [_PRELUDE]
    while waiting:
        function = waiting.pop()
        name = function.__name__
        if name not in found:
            found[name] = function
            translation = _Function(function, scopes, exported=function in entries)
            texts.append(translation.text())
            waiting.extend(translation.callees)
        elif found[name] is not function:
            raise TranslationError(_location(function), f"two functions are named {name}")
    return "\n".join([*texts, *_alias_metadata(len(scopes))])


def _alias_metadata(count: int) -> list[str]:
    """Scopes that tell LLVM that the arrays of a record do not overlap: of each field, and of all its others."""
    lines = ["!0 = distinct !{!0}", "!1 = !{}"]
    for field in range(count):
        others = ", ".join(f"!{_scope(other)}" for other in range(count) if other != field)
        lines += [
            f"!{_scope(field)} = distinct !{{!{_scope(field)}, !0}}",
            f"!{_scope(field) + 1} = !{{!{_scope(field)}}}",
            f"!{_scope(field) + 2} = !{{{others}}}",
        ]
    return lines


def _scope(field: int) -> int:
    return 2 + 3 * field


def _location(function: Callable[..., Any]) -> Location:
    return Location(function.__code__.co_filename, function.__code__.co_firstlineno)


@cache
def _definitions(path: str) -> dict[int, ast.FunctionDef]:
    """The functions at the top of a source file by the line that their code begins on.

    One look at the file: asking ``inspect`` for each function's source takes longer than all else in a translation.
    """
    tree = ast.parse("".join(linecache.getlines(path)))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {min([node.lineno, *(each.lineno for each in node.decorator_list)]): node for node in found}


@dataclass(frozen=True)
class _Signature:
    """Parameter kinds by name (``int``, ``array`` or a record's field names), and whether an integer is returned."""

    parameters: dict[str, str | tuple[str, ...]]
    returns: bool

    @staticmethod
    @cache
    def of(function: Callable[..., Any]) -> _Signature:
        hints = get_type_hints(function)
        returned = hints.pop("return", None)
        parameters: dict[str, str | tuple[str, ...]] = {}
        for name in inspect.signature(function).parameters:
            hint = hints.get(name)
            if hint is int:
                parameters[name] = "int"
            elif hint is IntArray:
                parameters[name] = "array"
            elif isinstance(hint, type) and is_dataclass(hint):
                parameters[name] = tuple(field.name for field in fields(hint))
            else:
                raise TranslationError(_location(function), f"parameter {name} is not int, IntArray or a dataclass")
        return _Signature(parameters, returned is int)

    @property
    def result(self) -> str:
        return "i64" if self.returns else "void"


@dataclass
class _Loop:
    again: str
    after: str
    left: bool = False


class _Function:
    """Translation of one function: an expression yields its operand's text, a statement appends lines."""

    def __init__(self, function: Callable[..., Any], scopes: dict[str, int], *, exported: bool) -> None:
        self.function = function
        self.scopes = scopes
        self.exported = exported
        self.signature = _Signature.of(function)
        code = function.__code__
        self.definition = _definitions(code.co_filename)[code.co_firstlineno]
        self.callees: list[Callable[..., Any]] = []
        self.lines: list[str] = []
        self.locals: set[str] = {name for name, kind in self.signature.parameters.items() if kind == "int"}
        self.loops: list[_Loop] = []
        self.count = 0
        self.open = True  # the current block has no terminator yet

    def text(self) -> str:
        """The whole function definition."""
        tree = self.definition
        self.block(tree.body)
        if self.open:
            if self.signature.returns:
                raise self.error(tree, "a path reaches the end without returning an integer")
            self.emit("ret void")
        parameters = self.signature.parameters
        head = ", ".join(f"{'i64' if kind == 'int' else 'ptr noalias'} %{name}" for name, kind in parameters.items())
        linkage = "" if self.exported else "internal "
        entry = [f"  %{name}.slot = alloca i64" for name in sorted(self.locals)]
        entry += [
            f"  store i64 {'%' + name if name in parameters else 0}, ptr %{name}.slot" for name in sorted(self.locals)
        ]
        attributes = "nounwind alwaysinline" if self.function in _INLINED else "nounwind"
        opening = f"define {linkage}{self.signature.result} @{tree.name}({head}) {attributes} {{"
        return "\n".join([opening, *entry, *self.lines, "}", ""])

    def error(self, node: ast.AST, message: str) -> TranslationError:
        line = getattr(node, "lineno", self.definition.lineno)
        return TranslationError(Location(self.function.__code__.co_filename, line), message)

    # Lines and labels.

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def result(self, line: str) -> str:
        self.count += 1
        self.emit(f"%.{self.count} = {line}")
        return f"%.{self.count}"

    def label(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def jump(self, label: str) -> None:
        if self.open:
            self.emit(f"br label %{label}")
        self.open = False

    def enter(self, label: str) -> None:
        self.jump(label)
        self.lines.append(f"{label}:")
        self.open = True

    # Statements.

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not self.open:
                raise self.error(statement, "this statement is never reached")
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass() | ast.Expr(ast.Constant(str())):
                pass
            case ast.Assign([target], value):
                self.assign(target, self.value(value))
            case ast.AnnAssign(ast.Name() as target, ast.Name("int"), ast.expr() as value):
                self.assign(target, self.value(value))
            case ast.AugAssign(ast.Name(name) as target, operator, value):
                self.assign(target, self.binary(node, operator, self.read(target, name), self.value(value)))
            case ast.AugAssign(ast.Subscript(array, index), operator, value):
                pointer, scope = self.element(array, self.value(index))
                old = self.result(f"load i64, ptr {pointer}{scope}")
                self.emit(f"store i64 {self.binary(node, operator, old, self.value(value))}, ptr {pointer}{scope}")
            case ast.If(test, body, orelse):
                self.choose(test, body, orelse)
            case ast.While(test, body, []):
                self.repeat(test, body)
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), bounds, []), body, []):
                self.count_through(node, name, bounds, body)
            case ast.Break() | ast.Continue():
                self.leave(isinstance(node, ast.Break))
            case ast.Return(value):
                self.give_back(node, value)
            case ast.Expr(ast.Call() as call):
                self.call(call)
            case _:
                raise self.error(node, f"the statement {ast.unparse(node).splitlines()[0]!r} is outside the subset")

    def assign(self, target: ast.expr, value: str) -> None:
        match target:
            case ast.Name(name):
                if name in self.signature.parameters and name not in self.locals:
                    raise self.error(target, f"the array {name} cannot be assigned")
                self.locals.add(name)
                self.emit(f"store i64 {value}, ptr %{name}.slot")
            case ast.Subscript(array, index):
                pointer, scope = self.element(array, self.value(index))
                self.emit(f"store i64 {value}, ptr {pointer}{scope}")
            case _:
                raise self.error(target, f"{ast.unparse(target)!r} cannot be assigned to")

    def choose(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        yes, no, after = self.label(), self.label(), self.label()
        self.branch(test, yes, no if orelse else after)
        self.enter(yes)
        self.block(body)
        reached = self.open or not orelse
        self.jump(after)
        if orelse:
            self.enter(no)
            self.block(orelse)
            reached |= self.open
            self.jump(after)
        if reached:
            self.enter(after)

    def repeat(self, test: ast.expr, body: list[ast.stmt]) -> None:
        loop, inside = _Loop(self.label(), self.label()), self.label()
        self.enter(loop.again)
        endless = isinstance(test, ast.Constant) and bool(test.value)
        if endless:
            self.jump(inside)
        else:
            self.branch(test, inside, loop.after)
        self.enter(inside)
        self.inside(loop, body)
        self.jump(loop.again)
        if loop.left or not endless:
            self.enter(loop.after)

    def count_through(self, node: ast.AST, name: str, bounds: list[ast.expr], body: list[ast.stmt]) -> None:
        step = self.constant(bounds[2]) if len(bounds) == 3 else 1
        if not step:
            raise self.error(node, "the step of a range must be a constant other than 0")
        start = self.value(bounds[0]) if len(bounds) > 1 else "0"
        stop = self.value(bounds[min(len(bounds), 2) - 1])
        loop, head, inside = _Loop(self.label(), self.label()), self.label(), self.label()
        # The counter is apart from the variable: as in Python, assigning the variable does not steer the loop.
        counter = f"{head}.counter"
        self.locals |= {name, counter}
        self.emit(f"store i64 {start}, ptr %{counter}.slot")
        self.enter(head)
        now = self.result(f"load i64, ptr %{counter}.slot")
        more = self.result(f"icmp {'slt' if step > 0 else 'sgt'} i64 {now}, {stop}")
        self.emit(f"br i1 {more}, label %{inside}, label %{loop.after}")
        self.open = False
        self.enter(inside)
        self.emit(f"store i64 {now}, ptr %{name}.slot")
        self.inside(loop, body)
        self.enter(loop.again)
        self.emit(f"store i64 {self.result(f'add i64 {now}, {step}')}, ptr %{counter}.slot")
        self.jump(head)
        self.enter(loop.after)

    def inside(self, loop: _Loop, body: list[ast.stmt]) -> None:
        self.loops.append(loop)
        self.block(body)
        self.loops.pop()

    def leave(self, left: bool) -> None:
        loop = self.loops[-1]
        loop.left |= left
        self.jump(loop.after if left else loop.again)

    def give_back(self, node: ast.AST, value: ast.expr | None) -> None:
        if (value is not None) != self.signature.returns:
            raise self.error(node, f"the function is declared to return {'int' if self.signature.returns else 'None'}")
        self.emit(f"ret i64 {self.value(value)}" if value is not None else "ret void")
        self.open = False

    # Conditions: control flow that ends at one of two labels.

    def branch(self, test: ast.expr, yes: str, no: str) -> None:
        match test:
            case ast.UnaryOp(ast.Not(), operand):
                self.branch(operand, no, yes)
            case ast.BoolOp(operator, operands):
                for operand in operands[:-1]:
                    following = self.label()
                    decided_by_false = isinstance(operator, ast.And)
                    self.branch(operand, *((following, no) if decided_by_false else (yes, following)))
                    self.enter(following)
                self.branch(operands[-1], yes, no)
            case ast.Compare():
                self.emit(f"br i1 {self.compare(test)}, label %{yes}, label %{no}")
            case _:
                self.emit(f"br i1 {self.result(f'icmp ne i64 {self.value(test)}, 0')}, label %{yes}, label %{no}")
        self.open = False

    def compare(self, node: ast.Compare) -> str:
        values = [self.value(operand) for operand in (node.left, *node.comparators)]
        verdict = ""
        for operator, left, right in zip(node.ops, values, values[1:], strict=False):
            if type(operator) not in _COMPARE:
                raise self.error(node, f"the comparison {ast.unparse(node)!r} is outside the subset")
            one = self.result(f"icmp {_COMPARE[type(operator)]} i64 {left}, {right}")
            verdict = self.result(f"and i1 {verdict}, {one}") if verdict else one
        return verdict

    # Integer values.

    def value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(int(number)):
                return str(int(number))
            case ast.Name(name):
                return self.read(node, name)
            case ast.Attribute(ast.Name(), name):
                return self.read(node, name)
            case ast.Subscript(array, index):
                pointer, scope = self.element(array, self.value(index))
                return self.result(f"load i64, ptr {pointer}{scope}")
            case ast.BinOp(left, operator, right):
                return self.binary(node, operator, self.value(left), self.value(right))
            case ast.UnaryOp(ast.USub(), operand):
                return self.result(f"sub i64 0, {self.value(operand)}")
            case ast.UnaryOp(ast.Invert(), operand):
                return self.result(f"xor i64 {self.value(operand)}, -1")
            case ast.Compare():
                return self.result(f"zext i1 {self.compare(node)} to i64")
            case ast.UnaryOp(ast.Not(), _):
                return self.select(node, ast.Constant(1), ast.Constant(0))
            case ast.IfExp(test, body, orelse):
                return self.select(test, body, orelse)
            case ast.Call(ast.Name("min" | "max" as name), [first, *others], []) if others:
                best = self.value(first)
                for other in others:
                    best = self.result(f"call i64 @llvm.s{name}.i64(i64 {best}, i64 {self.value(other)})")
                return best
            case ast.Call(ast.Attribute(operand, "bit_count" | "bit_length" as name), [], []):
                return self.bits(name, self.value(operand))
            case ast.Call():
                return self.call(node, wanted=True)
            case _:
                raise self.error(node, f"the expression {ast.unparse(node)!r} is outside the subset")

    def read(self, node: ast.expr, name: str) -> str:
        if isinstance(node, ast.Name) and name in self.locals:
            return self.result(f"load i64, ptr %{name}.slot")
        constant = self.constant(node)
        if constant is None:
            raise self.error(
                node, f"{ast.unparse(node)} is neither an assigned local nor an integer constant of the module"
            )
        return str(constant)

    def constant(self, node: ast.expr) -> int | None:
        match node:
            case ast.Constant(int(value)):
                return int(value)
            case ast.UnaryOp(ast.USub(), operand):
                inner = self.constant(operand)
                return None if inner is None else -inner
            case ast.Name(name) if name not in self.locals:
                found = self.function.__globals__.get(name)
            case ast.Attribute(ast.Name(name), member):
                owner = self.function.__globals__.get(name)
                found = getattr(owner, member, None) if isinstance(owner, EnumType | ModuleType) else None
            case _:
                return None
        return int(found) if isinstance(found, int) else None

    def binary(self, node: ast.AST, operator: ast.operator, left: str, right: str) -> str:
        if type(operator) in _DIVIDE:
            if right.isdigit() and int(right).bit_count() == 1:
                # A power of two: the arithmetic shift and the mask already round down.
                power = int(right).bit_length() - 1
                divide = isinstance(operator, ast.FloorDiv)
                return self.result(f"ashr i64 {left}, {power}" if divide else f"and i64 {left}, {int(right) - 1}")
            return self.result(f"call i64 @{_DIVIDE[type(operator)]}(i64 {left}, i64 {right})")
        if type(operator) not in _BINARY:
            raise self.error(node, f"the operator of {ast.unparse(node)!r} is outside the subset")
        return self.result(f"{_BINARY[type(operator)]} i64 {left}, {right}")

    def bits(self, name: str, operand: str) -> str:
        """How many bits of a number's magnitude are set, or how many it needs: as Python says."""
        magnitude = self.result(f"call i64 @llvm.abs.i64(i64 {operand}, i1 false)")
        if name == "bit_count":
            return self.result(f"call i64 @llvm.ctpop.i64(i64 {magnitude})")
        zeros = self.result(f"call i64 @llvm.ctlz.i64(i64 {magnitude}, i1 false)")
        return self.result(f"sub i64 64, {zeros}")

    def select(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> str:
        yes, no, after = self.label(), self.label(), self.label()
        slot = f"{after}.value"
        self.locals.add(slot)
        self.branch(test, yes, no)
        for label, expression in ((yes, body), (no, orelse)):
            self.enter(label)
            self.emit(f"store i64 {self.value(expression)}, ptr %{slot}.slot")
            self.jump(after)
        self.enter(after)
        return self.result(f"load i64, ptr %{slot}.slot")

    # Arrays and calls.

    def array(self, node: ast.expr) -> tuple[str, str]:
        """The pointer to an array's first element and the alias metadata of accesses through it."""
        parameters = self.signature.parameters
        match node:
            case ast.Name(name) if parameters.get(name) == "array":
                return f"%{name}", ""
            case ast.Attribute(ast.Name(record), field) if field in parameters.get(record, "int"):
                names = parameters[record]
                assert isinstance(names, tuple)
                scope = _scope(self.scopes.setdefault(field, len(self.scopes)))
                place = self.result(f"getelementptr inbounds ptr, ptr %{record}, i64 {names.index(field)}")
                pointer = self.result(f"load ptr, ptr {place}, !invariant.load !1")
                return pointer, f", !alias.scope !{scope + 1}, !noalias !{scope + 2}"
            case _:
                raise self.error(node, f"{ast.unparse(node)!r} is not an array parameter")

    def element(self, array: ast.expr, index: str) -> tuple[str, str]:
        pointer, scope = self.array(array)
        return self.result(f"getelementptr inbounds i64, ptr {pointer}, i64 {index}"), scope

    def call(self, node: ast.Call, *, wanted: bool = False) -> str:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = self.function.__globals__.get(name)
        if function is prefetch and len(node.args) == 2:
            pointer, _ = self.array(node.args[0])
            # An address and no access: there may be no such element.
            place = self.result(f"getelementptr i64, ptr {pointer}, i64 {self.value(node.args[1])}")
            self.emit(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")
            return ""
        if not inspect.isfunction(function) or node.keywords:
            raise self.error(node, f"the call {ast.unparse(node)!r} is outside the subset")
        signature = _Signature.of(function)
        if len(node.args) != len(signature.parameters):
            raise self.error(node, f"{name} takes {len(signature.parameters)} arguments, {len(node.args)} are given")
        if wanted and not signature.returns:
            raise self.error(node, f"{name} returns nothing")
        self.callees.append(function)
        arguments = ", ".join(
            self.argument(node, kind) for node, kind in zip(node.args, signature.parameters.values(), strict=True)
        )
        line = f"call {signature.result} @{name}({arguments})"
        if signature.returns:
            return self.result(line)
        self.emit(line)
        return ""

    def argument(self, node: ast.expr, kind: str | tuple[str, ...]) -> str:
        match node:
            case _ if kind == "int":
                return f"i64 {self.value(node)}"
            case ast.Name(name) if isinstance(kind, tuple) and self.signature.parameters.get(name) == kind:
                return f"ptr %{name}"
            case _ if kind == "array":
                return f"ptr {self.array(node)[0]}"
            case _:
                raise self.error(node, f"{ast.unparse(node)!r} is not a record of the wanted type")
