"""Kernels drawn at random on tiles each dimension of which has a form and a mask of its own, for products and others.

A position may begin anywhere, come round again, repeat, be turned around or looked up; a mask may leave out what is
before it, behind it or all of it. Where a tile is multiplied, what masks leave out counts as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import FLOAT16, FLOAT32, INT8, INT32, triton
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

GRIDS = [(1,), (2,), (3, 2), (7,), (2, 2, 2), (24,)]
TRIPS = [0, 1, 2, 3, 5]
TABLE = 64  # entries of the table that is looked up


@dataclass(frozen=True)
class Range:
    """A text whose numbers are from ``low`` to ``high``."""

    text: str
    low: int
    high: int


@dataclass
class Forms(Text):
    """Draws the kernel.

    Attributes:
        reach: by array, the least and the greatest place that is read of it.
    """

    grid: tuple[int, ...] = (1,)
    kind: np.dtype = FLOAT32
    sums: np.dtype = FLOAT32
    is_large: bool = False
    trips: int = 0  # of the loop that is open
    runtime: dict[str, int] = field(default_factory=dict)
    reach: dict[str, tuple[int, int]] = field(default_factory=lambda: {"x": (0, 0), "y": (0, 0)})

    @property
    def programs(self) -> int:
        return math.prod(self.grid)

    def extent(self) -> int:
        return self.pick([64, 256, 512] if self.is_large else [16, 16, 32, 64])

    def start(self, extent: int) -> Range:
        """Where positions begin."""
        last = {"p": self.grid[0] - 1, "q": math.prod(self.grid[1:2]) - 1, "number": self.programs - 1}
        found = [Range("", 0, 0), Range("", 0, 0), Range("3", 3, 3), Range("s", self.runtime["s"], self.runtime["s"])]
        found += [Range(f"{name} * {extent}", 0, most * extent) for name, most in last.items()]
        if self.trips:
            found += [Range(f"k * {extent}", 0, self.trips * extent)] * 4 + [Range("k", 0, self.trips)]
        return self.pick(found)

    def position(self, extent: int) -> tuple[Range, list[Range]]:
        """Positions along a dimension, and what its mask may be about."""
        lanes = Range(f"tl.arange(0, {extent})", 0, extent - 1)
        start = self.start(extent)
        here = Range(f"({start.text} + {lanes.text})", start.low, start.high + lanes.high) if start.text else lanes
        match self.pick(["plain"] * 12 + ["%", "%", "%", "%", "//", "//", "*", "*", "least", "turned", "found"]):
            case "%":
                by = self.pick(["n", "m", "w", "24", "7", "64"])
                size = abs(self.runtime.get(by, 0) or int(by))
                low = 0 if here.low >= 0 else 1 - size
                made = Range(f"({here.text} % {by})", low, size - 1)
            case "//":
                by = self.pick([2, 3, 4, 8])
                made = Range(f"({here.text} // {by})", math.trunc(here.low / by), here.high // by)
            case "*":
                name, by = self.pick([("2", 2), ("3", 3), ("-1", -1), ("-2", -2), ("one", 1)])
                made = Range(f"({here.text} * {name})", *sorted((here.low * by, here.high * by)))
            case "least":
                made = Range(f"tl.minimum({here.text}, n)", min(here.low, 0), self.runtime["n"])
            case "turned":
                made = Range(f"(n - {here.text})", self.runtime["n"] - here.high, self.runtime["n"] - here.low)
            case "found":
                made = Range(f"tl.load(table + {here.text} * {here.text} % {TABLE})", 0, TABLE - 1)
            case _:
                made = here
        return made, [lanes, here, made]

    def condition(self, about: list[Range]) -> str:
        """A mask along a dimension; perhaps there is none."""
        each = self.pick(about).text
        forms = ["< n", "< m", ">= s", ">= 3", "<= m", "< n - p", "> q", "!= 5", "< 0", "< 8", "< 30"]
        made = [f"{each} {form}" for form in forms]
        made += [f"({each} >= 2) & ({each} < m)", f"m > {each}", f"{each} * 2 < n", f"(p < 2) & ({each} < n)"]
        return self.pick([*made, *[""] * len(made)])

    def along(self, axis: int, rank: int) -> str:
        return f"[{', '.join(':' if each == axis else 'None' for each in range(rank))}]" if rank > 1 else ""

    def tile(self, array: str, shape: tuple[int, ...]) -> str:
        """Loads a tile; its strides are in any order."""
        rank, pitch = len(shape), self.pick([("pitch", self.runtime["pitch"]), ("64", 64), (str(shape[-1]), shape[-1])])
        strides = [("1", 1)] if rank == 1 else self.pick([[pitch, ("1", 1)], [("1", 1), pitch], [pitch, ("2", 2)]])
        low, high, places, masks = 0, 0, list[str](), list[str]()
        for axis, (extent, (name, stride)) in enumerate(zip(shape, strides, strict=True)):
            made, about = self.position(extent)
            place = self.let(made.text, "i")
            places.append(f"{place}{self.along(axis, rank)} * {name}")
            low, high = low + made.low * stride, high + made.high * stride
            if condition := self.condition([*about, Range(place, made.low, made.high)]):
                masks.append(f"{self.let(condition, 'm')}{self.along(axis, rank)}")
        if self.chance(4):
            places.append("number * 16")
            high += self.programs * 16
        self.reach[array] = min(low, self.reach[array][0]), max(high, self.reach[array][1])
        other = self.pick(["0", "0", "1", "3", "-2"]) + (".0" if self.kind != INT8 else "")
        mask = f", mask={' & '.join(masks)}, other={other}" if masks else ""
        return self.let(f"tl.load({array} + {' + '.join(places)}{mask})", "t")

    def cut(self, name: str) -> None:
        """Keep sums exact."""
        self.line(f"{name} = tl.minimum(tl.maximum({name}, -9999), 9999)")

    def turned(self, array: str, shape: tuple[int, ...]) -> str:
        """A matrix, perhaps loaded as its transpose."""
        return self.tile(array, shape) if self.chance(2) else f"tl.trans({self.tile(array, shape[::-1])})"

    def product(self, shape: tuple[int, ...]) -> None:
        depth = self.extent()
        x, y = self.turned("x", (shape[0], depth)), self.turned("y", (depth, shape[1]))
        kind = f"out_dtype={triton(self.sums)}"
        self.line(self.pick([f"total += tl.dot({x}, {y}, {kind})", f"total = tl.dot({x}, {y}, total, {kind})"]))

    def elements(self, shape: tuple[int, ...]) -> None:
        value = self.let(f"{self.tile('x', shape)}.to({triton(self.sums)})")
        if self.chance(2):
            value = self.let(f"{value} - {self.tile('y', shape)}")
        axis = self.number(len(shape) - 1)
        forms = [value, value, f"{value} - tl.max({value}, {axis}, keep_dims=True)", f"tl.cumsum({value}, {axis})"]
        forms += [f"{value} - tl.sum({value}, {axis}, keep_dims=True)"]
        if len(shape) == 2:
            forms += [f"tl.trans(tl.trans({value}) * 2 + tl.trans(total))"] * 2
        value = self.let(self.pick(forms))
        self.line(self.pick([f"total += {value}", f"total = tl.maximum(total, {value})"]))

    def store(self, shape: tuple[int, ...]) -> int:
        """Stores the total, its axes in any order; returns how many elements of the output a program has."""
        strides, reached = [0] * len(shape), self.pick([1, 1, 2])
        left = list(range(len(shape)))
        while left:
            axis = left.pop(self.number(len(left) - 1))
            strides[axis], reached = reached, reached * shape[axis]
        lanes = [f"tl.arange(0, {extent})" for extent in shape]
        places = [f"{each}{self.along(axis, len(shape))} * {strides[axis]}" for axis, each in enumerate(lanes)]
        axis = self.number(len(shape) - 1)
        condition = self.pick(["", "", "{} < m", "{} + p < n", "{} >= 3", "(number * 16 + {}) % 64 < n"])
        mask = f", mask=({condition.format(lanes[axis])}){self.along(axis, len(shape))}" if condition else ""
        self.line(f"tl.store(out + number * {reached} + {' + '.join(places)}, total{mask})")
        return reached

    def draw_all(self) -> int:
        self.line("p, q, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)")
        self.line("number = (z * tl.num_programs(1) + q) * tl.num_programs(0) + p")
        multiplies = self.chance(2)
        rank = 2 if multiplies or self.chance(2) else 1
        shape = tuple(self.extent() for _ in range(rank))
        self.line(f"total = tl.zeros({shape}, {triton(self.sums)})")
        make = self.product if multiplies else self.elements
        trips = self.pick(TRIPS)
        self.runtime["trips"] = trips
        if self.chance(2):
            self.trips = 1 + trips
            stages = self.pick(["", "", ", num_stages=1", ", num_stages=4"])
            with self.under(f"for k in tl.range(0, trips{stages}):"):
                make(shape)
                self.cut("total")
            self.trips = 0
        else:
            make(shape)
            self.cut("total")
        if multiplies and self.chance(3):
            self.line(f"total += {self.tile('y', shape)}")
        return self.store(shape)


def form_kernel(between: Between, machines: Machines, is_large: bool = False) -> TextCase:
    """A kernel and its launch."""
    forms = Forms(between, is_large=is_large)
    forms.grid = forms.pick([(1,), (2,), (2, 2)] if is_large else GRIDS)
    forms.kind = forms.pick([FLOAT32, FLOAT32, FLOAT16, INT8])
    forms.sums = INT32 if forms.kind == INT8 else FLOAT32
    forms.runtime = {
        "n": forms.pick([5, 16, 31, 33, 64, 100]),
        "m": forms.pick([1, 7, 20, 32, 50, 64]),
        "w": forms.pick([-50, -7, 7, 24, 64, 1]),
        "s": forms.pick([0, 1, 3, 16, -2]),
        "pitch": forms.pick([64, 70, 128, 1]),
        "one": 1,
    }
    each = forms.draw_all()
    # Places are counted from the least one.
    begins = "".join(f"    {name} += {-low}\n" for name, (low, _) in forms.reach.items())
    names = ["out", "x", "y", "table", *forms.runtime]
    text = f"@mlu.jit\ndef generated({', '.join(names)}):\n{begins}" + "\n".join(forms.lines) + "\n"
    seed = forms.number(1 << 20)

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        greatest = 3 if forms.kind == FLOAT16 else 8
        arrays = {
            name: integers(random, high - low + 1, forms.kind, greatest) for name, (low, high) in forms.reach.items()
        }
        table = random.permutation(TABLE).astype(np.int32)
        return {"out": np.full(forms.programs * each, 77, forms.sums), **arrays, "table": table, **forms.runtime}

    options = forms.pick([{}, {}, {"num_stages": 1}, {"num_stages": 4}, {"num_warps": 4}, {"num_warps": 8}])
    return TextCase(text, memory, forms.grid, forms.pick(machines), options)
