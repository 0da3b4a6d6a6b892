"""Kernels drawn at random that reduce many short rows, of every type, with NaN, infinities and zeros of either sign."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.fitted import Array, FittedCase, fitted
from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, FLOATS, INT32, NUMBERS, is_float
from tests.language.generated.texts import Between, Machines, Text

EXACT = {BFLOAT16: 1, FLOAT16: 4}  # the greatest element of which so many add up exactly


@dataclass
class Extremes(Text):
    """Draws the kernel: programs have rows of ``i`` and columns of ``j``.

    Attributes:
        dtype: of what is reduced.
        rows, columns: of a tile.
        arrays: by name.
        tiles: in the type that is reduced.
    """

    dtype: np.dtype = FLOAT32
    is_odd: bool = False
    rows: int = 8
    columns: int = 16
    arrays: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    tiles: list[str] = field(default_factory=list)
    outputs: int = 0

    def load(self) -> None:
        name = f"x{len(self.tiles)}"
        self.arrays[name] = Array(self.dtype, EXACT.get(self.dtype, 7), is_odd=self.is_odd)
        if self.dtype.kind == "u":
            self.arrays[name] = Array(self.dtype, 7, 0)
        place = self.pick([f"i * {self.columns} + j"] * 4 + [f"i * {self.columns + 3} + j", "j * HEIGHT + i"])
        others = ["0", "1"] + (["float('-inf')", "float('inf')", "float('nan')", "-0.0"] if self.is_odd else [])
        self.numbers["m"] = self.columns - self.number(3)
        conditions = ["j < m", "(j < m) & (i >= 2)", "j <= i"]
        guard = f", mask={self.pick(conditions)}, other={self.pick(others)}" if self.chance(3) else ""
        self.tiles.append(self.let(f"tl.load({name} - first_{name} + {place}{guard})"))

    def reduce(self) -> None:
        tile, axis = self.pick(self.tiles), self.pick([1, 1, 1, 0])
        names = ["max", "max", "min", "sum"]
        names += [] if self.is_odd else ["argmax", "argmin"]
        names += [] if is_float(self.dtype) else ["xor_sum"]
        name, out = self.pick(names), f"out{self.outputs}"
        self.outputs += 1
        many = self.let(f"tl.{name}({tile}, {axis})", "r")
        kind = FLOAT32 if is_float(self.dtype) and not name.startswith("arg") else INT32
        kind = self.dtype if self.dtype.itemsize == 8 and not name.startswith("arg") else kind
        self.arrays[out] = Array(kind)
        if axis == 0:
            place = f"p * {self.columns} + tl.arange(0, {self.columns})"
        else:
            place = f"p * {self.rows} + tl.arange(0, {self.rows})"
        self.line(f"tl.store({out} - first_{out} + {place}, {many})")
        # What is reduced meets its row again.
        if axis == 1 and name in ("max", "min") and self.chance(2):
            self.arrays[f"{out}s"] = Array(np.dtype(np.int8))
            place = f"i * {self.columns} + j"
            self.line(f"tl.store({out}s - first_{out}s + {place}, {tile} == {many}[:, None])")

    def draw_all(self, programs: int) -> None:
        self.line("p = tl.program_id(0)")
        self.line(f"i, j = p * {self.rows} + tl.arange(0, {self.rows})[:, None], tl.arange(0, {self.columns})[None, :]")
        for _ in range(self.pick([1, 1, 2])):
            self.load()
        for _ in range(self.pick([1, 1, 2, 3])):
            self.reduce()
        self.lines = [each.replace("HEIGHT", str(self.rows * programs)) for each in self.lines]


def extreme_kernel(between: Between, machines: Machines) -> FittedCase:
    """A kernel and its launch."""
    drawn = Extremes(between)
    drawn.dtype = drawn.pick([*NUMBERS, FLOAT32, FLOAT32, FLOAT16])
    drawn.is_odd = drawn.dtype in FLOATS and drawn.chance(2)
    drawn.rows, drawn.columns = drawn.pick([1, 2, 4, 8, 16, 32, 64]), drawn.pick([1, 2, 4, 8, 16, 32, 64, 128, 256])
    programs = drawn.pick([1, 2, 5, 30, 100, 300])
    while programs > 1 and programs * drawn.rows * (drawn.columns + 3) > 40_000:
        programs //= 2
    drawn.draw_all(programs)
    return fitted(drawn, machines, drawn.arrays, drawn.numbers, (programs,))
