"""A small writer of LLVM IR text.

Text is built directly: the object model of llvmlite costs ten times as much as everything else in a translation. Values
that change (registers, accumulators) live in allocas of the entry block, which LLVM turns into SSA values. What has
been computed is not computed again where its value still holds: each line costs LLVM more than it costs here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from mlutriton.isa.native_interface import Begin

_Result = TypeVar("_Result")

# Instructions whose result is that of their text alone; of calls, those of intrinsics.
_PURE = frozenset({
    "add", "sub", "mul", "sdiv", "udiv", "srem", "urem", "shl", "lshr", "ashr", "and", "or", "xor", "icmp", "fcmp",
    "fadd", "fsub", "fmul", "fdiv", "frem", "fneg", "select", "zext", "sext", "trunc", "fptrunc", "fpext", "sitofp",
    "uitofp", "fptosi", "fptoui", "bitcast", "inttoptr", "ptrtoint", "getelementptr", "shufflevector", "insertelement",
    "extractelement",
})  # fmt: skip
# It takes LLVM a millisecond to compile nothing, and three to compile so much.
_PART_CHARACTERS = 3500
# A line of the caches of most hosts.
_PREFETCHED_BYTES = 64


Count = int | str
"""A 64-bit integer: known now, or the name of an IR value."""


def wide(scalar: str, lanes: int) -> str:
    """The IR type of ``lanes`` elements."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


@dataclass
class Library:
    """The functions and declarations that a module needs, each once.

    Attributes:
        definitions: texts by function name, in the order in which they were asked for.
        modules: texts of the modules of functions that are only declared here, by name.
        begin: told of each of these modules and of each part as soon as it is known, so that it can be compiled while
            the rest is written.
        parts: modules of functions that are defined, as texts, all but the last one.
    """

    begin: Begin | None = None
    definitions: dict[str, str] = field(default_factory=dict[str, str])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    parts: list[str] = field(default_factory=list[str])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _exported: set[str] = field(default_factory=set[str])

    def require(self, name: str, define: Callable[[], str]) -> str:
        """Return ``name`` after making sure that its definition is in the module."""
        if name not in self.definitions:
            self.definitions[name] = ""
            self.definitions[name] = define()
        return name

    def add(self, definitions: dict[str, str]) -> None:
        """Take over definitions that were made elsewhere."""
        self.definitions.update(definitions)

    def declare(self, name: str, signature: str) -> str:
        """Return ``name`` after declaring it; ``signature`` holds ``{}`` for the name."""
        if name not in self.definitions:
            self.definitions[name] = "declare " + signature.format("@" + name)
        return name

    def shared(self, prefix: str, linkage: str, text: str) -> str:
        """The name of the function or table of this text: it is defined once in each part, once in all if exported."""
        name = self._names.setdefault(text, f"{prefix}{len(self._names)}")
        if name not in self._exported:
            self.definitions.setdefault(name, f"{linkage}@{name}{text}")
        return name

    def borrow(self, define: Callable[..., str], *arguments: Hashable) -> str:
        """The name of a function that stands in a module of its own, after declaring it.

        Args:
            define: takes a library and the arguments, defines the function there and returns its name.
            arguments: that which the function's text depends on, all of it.
        """
        name, declaration, text = _module(define, arguments)
        self.definitions.setdefault(name, declaration)
        if name not in self.modules:
            self.modules[name] = text
            if self.begin is not None:
                self.begin(text, True)
        return name

    def export(self, name: str) -> str:
        """Let other modules call a function that is defined here; returns its declaration for them."""
        definition = self.definitions[name].replace("define internal ", "define ", 1)
        self.definitions[name] = definition
        self._exported.add(name)
        return "declare " + definition.partition(" {\n")[0].removeprefix("define ")

    def end_part(self, *, is_last: bool = False) -> None:
        """End a part, if it is as long as is worth while; what comes later may define the same functions anew.

        The last one is as long as it is: nothing comes later.
        """
        least = 1 if is_last else _PART_CHARACTERS
        if sum(map(len, self.definitions.values())) >= least:
            part = self.text()
            self.parts.append(part)
            self.definitions = {}
            if self.begin is not None:
                self.begin(part, False)

    def text(self) -> str:
        """All definitions since the last part."""
        return "\n".join(self.definitions.values())


@cache
def _module(define: Callable[..., str], arguments: tuple[Hashable, ...]) -> tuple[str, str, str]:
    """Name, declaration and module of a function."""
    library = Library()
    name = define(library, *arguments)
    declaration = library.export(name)
    assert not library.modules, f"{name} borrows functions itself"
    return name, declaration, library.text()


class Emitter:
    """Writes the body of one function.

    Attributes:
        library: where functions that the body calls are collected.
        lines: the text so far.
        current: label of the block being written.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.lines: list[str] = []
        self.current = "entry"
        self._entry: list[str] = []
        self._count = 0
        # Results by text, of what has certainly run before the next line.
        self._known: dict[Hashable, Any] = {}

    def value(self, text: str) -> str:
        """Write an instruction, unless its result is at hand, and return the name of its result."""
        known = self._known
        if text in known:
            return known[text]
        self._count = count = self._count + 1
        name = f"%v{count}"
        self.lines.append(f"  {name} = {text}")
        first = text.split(" ", 1)[0]
        if first in _PURE or (first == "call" and "@llvm." in text):
            known[text] = name
        return name

    def once(self, key: Hashable, write: Callable[[], _Result]) -> _Result:
        """What some instructions write one behind the other, unless it is at hand; the key says of what and how."""
        known = self._known
        if key not in known:
            known[key] = write()
        return known[key]

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append("  " + text)

    def variable(self, kind: str) -> str:
        """A mutable place of a type, allocated once in the entry block."""
        self._count += 1
        name = f"%m{self._count}"
        self._entry.append(f"  {name} = alloca {kind}, align {8 if kind == 'i64' else 64}")
        return name

    def fresh(self, hint: str) -> str:
        """A label that is not used yet."""
        self._count += 1
        return f"{hint}{self._count}"

    def label(self, name: str) -> None:
        """Begin a block; the block before must have been ended by a branch."""
        self._known = {}
        self.go_on(name)

    def go_on(self, name: str) -> None:
        """Begin a block that is entered only from where the one before it has been, with what is known there."""
        self.lines.append(f"{name}:")
        self.current = name

    def leave(self, result: str) -> None:
        """Return in the midst of a part: what would end it belongs to a block that nothing enters."""
        self.do(f"ret {result}")
        self.label(self.fresh("unreachable"))

    def jump(self, label: str) -> None:
        """End the block with a branch."""
        self.do(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        """End the block with a conditional branch."""
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    @contextmanager
    def when(self, condition: str) -> Generator[None]:
        """Write a part that runs only where ``condition`` is true."""
        then, done, known = self.fresh("then"), self.fresh("done"), self._known
        self._known = known.copy()
        self.branch(condition, then, done)
        self.go_on(then)
        yield
        self.jump(done)
        self.go_on(done)
        self._known = known

    @contextmanager
    def loop(self, stop: Count, *, start: Count = 0, step: int = 1, as_written: bool = False) -> Generator[str]:
        """Write the body of ``for index in range(start, stop, step)``; yields the index, an ``i64``.

        ``as_written`` hides the step from LLVM. Where addresses are bases and multiples of the index, as a host has
        them in an instruction, to weigh what else they could be takes it a third of its time, for nothing.
        """
        if isinstance(start, int) and isinstance(stop, int) and start < stop <= start + step:
            yield str(start)
            return
        before, head, body, done = self.current, self.fresh("head"), self.fresh("body"), self.fresh("done")
        self._count += 1
        index, following = f"%i{self._count}", f"%n{self._count}"
        known = self._known
        self._known = known.copy()
        self.jump(head)
        self.go_on(head)
        place = len(self.lines)
        self.lines.append("")
        inside = self.value(f"icmp slt i64 {index}, {stop}")
        self.branch(inside, body, done)
        self.go_on(body)
        yield index
        if as_written:
            stepped = self.value(f"add nsw i64 {index}, {step}")
            self.do(f'{following} = call i64 asm "", "=r,0"(i64 {stepped})')
        else:
            self.do(f"{following} = add nsw i64 {index}, {step}")
        self.lines[place] = f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{self.current} ]"
        self.jump(head)
        self.go_on(done)
        self._known = known

    def function(self, header: str) -> str:
        """The text of the finished function; ``header`` is everything before its body."""
        return "\n".join([header + " {", "entry:", *self._entry, *self.lines, "}"])

    def in_all_lanes(self, scalar: str, value: Count, lanes: int) -> str:
        """A vector of the same scalar."""
        vector = wide(scalar, lanes)
        first = self.value(f"insertelement {vector} poison, {scalar} {value}, i64 0")
        return self.value(f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer")

    # ---- 64-bit integers, folded where both sides are known ---------------------------------------------------------

    def add(self, a: Count, b: Count) -> Count:
        """``a + b``."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        return a if b == 0 else self.value(f"add i64 {a}, {b}")

    def subtract(self, a: Count, b: Count) -> Count:
        """``a - b``."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.value(f"sub i64 {a}, {b}")

    def multiply(self, a: Count, b: Count) -> Count:
        """``a * b``."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if 0 in (a, b):
            return 0
        if a == 1:
            return b
        return a if b == 1 else self.value(f"mul i64 {a}, {b}")

    def maximum(self, a: Count, b: Count) -> Count:
        """The greater, signed."""
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.extreme("sgt", "i64", a, b)

    def minimum(self, a: Count, b: Count) -> Count:
        """The lesser, signed."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.extreme("slt", "i64", a, b)

    def extreme(self, predicate: str, kind: str, a: Count, b: Count) -> str:
        """``a`` where it compares so to ``b``, else ``b``.

        LLVM has intrinsics for that, but compiles a block with one in the slow way, also where it is to be quick.
        """
        condition = self.value(f"icmp {predicate} {kind} {a}, {b}")
        return self.value(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def ceil_divide(self, a: Count, b: Count) -> Count:
        """``a / b``, rounded up, of numbers that are not negative."""
        above = self.add(a, self.subtract(b, 1))
        if isinstance(b, int) and b.bit_count() == 1:
            return self.value(f"ashr i64 {above}, {b.bit_length() - 1}")
        return self.value(f"sdiv i64 {above}, {b}")

    # ---- conditions, likewise ---------------------------------------------------------------------------------------

    def equal(self, a: Count, b: Count) -> bool | str:
        """Whether two 64-bit integers are equal."""
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        return self.value(f"icmp eq i64 {a}, {b}")

    def negated(self, a: bool | str) -> bool | str:
        """The opposite."""
        return not a if isinstance(a, bool) else self.value(f"xor i1 {a}, true")

    def both(self, a: bool | str, b: bool | str) -> bool | str:
        """Whether two conditions hold."""
        if isinstance(a, bool):
            return b if a else False
        if isinstance(b, bool):
            return a if b else False
        return self.value(f"and i1 {a}, {b}")

    def choose(self, condition: bool | str, a: Count, b: Count) -> Count:
        """``a`` where a condition holds, else ``b``."""
        if isinstance(condition, bool):
            return a if condition else b
        return a if a == b else self.value(f"select i1 {condition}, i64 {a}, i64 {b}")

    # ---- memory -----------------------------------------------------------------------------------------------------

    def pointer(self, base: str, offset_bytes: Count) -> str:
        """``base`` plus a number of bytes."""
        return base if offset_bytes == 0 else self.value(f"getelementptr i8, ptr {base}, i64 {offset_bytes}")

    def word(self, number: int, context: str = "%context") -> str:
        """The address of a word of a context (:class:`mlutriton.isa.native_interface.Context`)."""
        return self.pointer(context, 8 * number)

    def moved(self, base: str, index: Count, stride_bytes: Count) -> str:
        """``base`` plus so many times a stride."""
        return self.pointer(base, self.multiply(index, stride_bytes))

    def copy(self, target: str, source: str, size_bytes: Count) -> None:
        """Copy bytes that do not overlap."""
        self.library.declare("llvm.memcpy.p0.p0.i64", "void {}(ptr, ptr, i64, i1)")
        self.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size_bytes}, i1 false)")

    def prefetch(self, source: str, size_bytes: Count) -> None:
        """Ask for bytes that will be read soon; they need not exist."""
        with self.loop(str(size_bytes), step=_PREFETCHED_BYTES) as offset:
            self.prefetch_line(self.pointer(source, offset))

    def prefetch_line(self, place: str) -> None:
        """Ask for the line of the caches in which an address lies; it need not exist."""
        self.library.declare("llvm.prefetch.p0", "void {}(ptr, i32, i32, i32)")
        self.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def load64(self, address: str) -> str:
        """The 64-bit integer at an address."""
        return self.value(f"load i64, ptr {address}, align 8")

    def store64(self, value: Count, address: str) -> None:
        """Store a 64-bit integer."""
        self.do(f"store i64 {value}, ptr {address}, align 8")
