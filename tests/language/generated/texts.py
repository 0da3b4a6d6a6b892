"""What draws the text of a kernel, line by line, and the case that it belongs to."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import numpy as np
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.isa.machine import Machine
from tests.language.generated import judge

Machines = Sequence[str | Machine]
"""Of which a case is launched on one: presets by their names, and others."""

GREATEST = 1 << 20  # of an integer that a float32 shall hold exactly, sums of sixteen too


@dataclass(frozen=True)
class TextCase:
    """A kernel as text, and how it is launched.

    Attributes:
        memory: makes the arguments as they are before a launch, new arrays each time; arrays may share their bytes.
        tolerance: how far results may be from NumPy's, absolutely and relatively; 0 where all arithmetic is exact.
        addresses: name of an array that has addresses of others, and is not looked at.
        engines: that run it; the interpreter takes long for large grids.
    """

    text: str
    memory: Callable[[], dict[str, object]]
    grid: tuple[int, ...]
    machine: str | Machine
    options: dict[str, object]
    tolerance: float = 0.0
    addresses: str = ""
    engines: tuple[str, ...] = ("native", "interpreter")

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        """What Hypothesis shows of a case that fails."""
        printer.text(f"\n{self.text}# grid {self.grid} on {self.machine}, {self.options}\n")
        for name, value in self.memory().items():
            shown = f"{value.dtype}[{value.size}]" if isinstance(value, np.ndarray) else value
            printer.text(f"#   {name} = {shown}\n")

    def expected(self) -> dict[str, np.ndarray]:
        """The arrays as NumPy leaves them."""
        arguments = self.memory()
        judge.run(self.text, self.grid, arguments)
        return self._arrays(arguments)

    def written(self) -> tuple[dict[str, np.ndarray], mlu.Run]:
        """The arrays as the current engine leaves them, and the run."""
        arguments = self.memory()
        run = jitted(self.text)[self.grid](*arguments.values(), enable_fp_fusion=False, **self.options)
        return self._arrays(arguments), run

    def _arrays(self, arguments: dict[str, object]) -> dict[str, np.ndarray]:
        return {
            name: value for name, value in arguments.items() if isinstance(value, np.ndarray) and name != self.addresses
        }


def jitted(text: str):
    """The kernel of a text, whose lines are found as if they stood in a file."""
    name = f"<generated {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = {"tl": tl, "mlu": mlu, "__name__": __name__}
    exec(compile(text, name, "exec"), namespace)
    made = namespace["generated"]
    return made if hasattr(made, "fn") else mlu.jit(made)


Between = Callable[[int, int], int]
"""Draws an integer from the first to the second."""


class Choices:
    """Draws from lists and ranges."""

    between: Between

    def pick(self, choices):
        choices = list(choices)
        return choices[self.between(0, len(choices) - 1)]

    def number(self, greatest: int) -> int:
        return self.between(0, greatest)

    def chance(self, one_in: int) -> bool:
        return self.between(1, one_in) == one_in


@st.composite
def drawn(draw: st.DrawFn, make: Callable[..., TextCase], *details) -> TextCase:
    """Cases that Hypothesis draws, and makes smaller where they fail."""
    return make(lambda least, greatest: draw(st.integers(least, greatest)), *details)


def seeded(make: Callable[..., TextCase], *details) -> st.SearchStrategy[TextCase]:
    """Cases drawn by a seed each: they have less in common than what Hypothesis draws, and come quicker."""
    return st.integers(0, 1 << 60).map(lambda seed: make(Random(seed).randint, *details))


@dataclass
class Value:
    """A variable of a text: a float32 tensor of one of the kernel's kinds of shape.

    Attributes:
        bound: the greatest size of its elements, which are integers; infinite of those that are not exact.
    """

    name: str
    kind: str
    bound: float


@dataclass
class Text(Choices):
    """Draws lines of a kernel whose arithmetic is exact, integers in float32, unless it is told otherwise."""

    between: Between
    exact: bool = True
    lines: list[str] = field(default_factory=list)
    depth: int = 1
    names: Iterator[int] = field(default_factory=count)

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def under(self, head: str) -> Iterator[None]:
        """Lines of a block."""
        self.line(head)
        self.depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def let(self, text: str, stem: str = "v") -> str:
        """The name of a new variable that has a value."""
        name = f"{stem}{next(self.names)}"
        self.line(f"{name} = {text}")
        return name

    def value(self, kind: str, text: str, bound: float) -> Value:
        """A new variable, cut to what stays exact."""
        if bound > GREATEST:
            text, bound = f"tl.minimum(tl.maximum({text}, -64.0), 64.0)", 64
        return Value(self.let(text), kind, bound)

    def computed(self, kind: str, a: Value, b: Value, spread: Callable[[Value], str]) -> Value:
        """An element-wise expression of two variables, which ``spread`` writes in the shape of the kind."""
        x, y = spread(a), spread(b)
        sums, products = a.bound + b.bound, a.bound * b.bound
        forms = [
            (f"{x} + {y}", sums),
            (f"{x} - {y}", sums),
            (f"{x} * {y}", products),
            (f"tl.maximum({x}, {y})", max(a.bound, b.bound)),
            (f"tl.minimum({x}, {y})", max(a.bound, b.bound)),
            (f"-{x}", a.bound),
            (f"tl.abs({x}) - 3.0", a.bound + 3),
            (f"{x} * 2.0 + 1.0", 2 * a.bound + 1),
        ]
        if self.exact:
            forms += [(f"tl.where({x} > {y}, {x}, 1.0)", a.bound + 1), (f"tl.floor({x} * 0.5)", a.bound)]
        else:
            forms += [
                (f"tl.exp(-tl.abs({x}))", 1),
                (f"tl.exp2(tl.minimum({x}, 3.0))", 8),
                (f"tl.sqrt(tl.abs({x}))", max(1, a.bound)),
                (f"{x} / (tl.abs({y}) + 1.0)", a.bound),
                (f"tl.sigmoid({x})", 1),
                (f"tl.log(tl.abs({x}) + 1.0)", a.bound),
            ]
        return self.value(kind, *self.pick(forms))


def integers(random: np.random.Generator, shape, dtype, greatest: int = 8) -> np.ndarray:
    """Whole numbers of either sign that every format holds."""
    return random.integers(-greatest, greatest + 1, shape).astype(np.float32).astype(dtype)
