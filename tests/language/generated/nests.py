"""Kernels drawn at random of loops within loops, whose programs lie along up to three axes of the grid.

A program has a tile of a matrix of its own, as kernels of products and convolutions have. What it reads is looked up by
any of what there is to count with: places in the grid, indices of the loops around, numbers from memory. What the
loops carry is carried through several of them, and begins with what others made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import FLOAT16, FLOAT32, INT8
from tests.language.generated.texts import Between, Machines, Text, TextCase, Value, integers

GRIDS = [(1,), (4,), (33,), (2, 3), (4, 4), (8, 2), (16, 4), (16, 4), (1, 5), (2, 2, 2), (3, 1, 4), (4, 4, 2)]
INTERPRETED = 12  # programs, at most; the interpreter takes long for more
MOST_LOOPS = 3  # around a statement
MOST_TRIPS = 4
TABLE = 64  # numbers of each table
SLOTS = MOST_TRIPS + 1  # tiles that a program stores in each array
GREATEST_SUM = 1 << 18  # bound of what a loop carries
MOST_ADDED = 1 << 12  # bound of what one iteration adds to it


@dataclass(frozen=True)
class Count:
    """An integer of the kernel that is never negative, and the greatest that it may be."""

    text: str
    greatest: int


@dataclass
class Nest(Text):
    """Draws the kernel.

    Values are of kinds: a tile; a row has a number for each of the tile's rows, a column one for each of its columns;
    one is a single number.

    Attributes:
        rows: of a tile.
        columns: of a tile.
        roles: what each axis of the grid goes along: rows or columns of tiles, or batches.
        counts: integers that places are made of.
        values: the variables that are there.
        sums: those that loops may go on to change.
        read: elements that an array has at least, by its name.
        stored: kinds of what arrays hold, by their names.
    """

    grid: tuple[int, ...] = (1,)
    rows: int = 4
    columns: int = 8
    roles: tuple[str, ...] = ("row", "column", "batch")
    counts: list[Count] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    sums: list[Value] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    padding: int = 0  # elements between rows of a matrix
    products: int = 0  # depth of a step of a product; 0 if there are none
    loops: int = 0  # around what is drawn
    is_plain: bool = False  # loops as most are written, with nothing that keeps programs apart

    def extent(self, role: str) -> int:
        """Programs along a role."""
        return math.prod(size for size, each in zip(self.grid, self.roles, strict=False) if each == role)

    @property
    def pitch(self) -> int:
        """Elements from one row of a matrix to the next."""
        return self.extent("column") * self.columns + self.padding

    @property
    def area(self) -> int:
        """Elements of a matrix."""
        return self.extent("row") * self.rows * self.pitch

    # ---- places

    def count(self, numbers: int = 3) -> Count:
        """A sum of some of what there is to count with."""
        found = []
        for _ in range(numbers):
            each = self.pick(self.counts[-5:] if self.chance(2) else self.counts)
            distance = self.pick([1, 1, 2, 3, self.columns, self.rows, self.pitch, 4 * self.columns])
            found.append(Count(f"{each.text} * {distance}" if distance > 1 else each.text, each.greatest * distance))
        return Count(" + ".join(each.text for each in found), sum(each.greatest for each in found))

    def table(self) -> str:
        """A small number from memory, 0 ... 4."""
        place = self.count(self.pick([1, 2]))
        return f"tl.load(table + ({place.text}) % {TABLE})"

    def lanes(self, kind: str) -> Count:
        """Places of the elements of a kind."""
        down = self.pick(
            [Count("row", self.extent("row") * self.rows - 1)] * 3
            + [Count("i", self.rows - 1), Count(f"tl.load(found + (row * 3 + {self.count(1).text}) % {TABLE})", TABLE)]
        )
        along = self.pick(
            [Count("column", self.extent("column") * self.columns - 1)] * 3
            + [Count("j", self.columns - 1), Count("(j // 2)", self.columns // 2)]
        )
        match kind:
            case "row":
                step = self.pick([1, 1, self.pitch])
                return Count(f"{down.text} * {step}", down.greatest * step)
            case "column":
                return along
            case "tile":
                one, other = self.pick([(self.pitch, 1)] * 4 + [(1, self.rows * 2), (self.columns + 1, 1)])
                pitch = "pitch" if one == self.pitch and self.chance(2) else str(one)
                text = f"{down.text}[:, None] * {pitch} + {along.text}[None, :]"
                return Count(text + (f" * {other}" if other > 1 else ""), down.greatest * one + along.greatest * other)
            case _:
                return Count("0", 0)

    def mask(self, kind: str) -> str:
        """A condition on elements of a kind; perhaps there is none."""
        forms = {"tile": ["row[:, None] < m", "column[None, :] < n", "(row[:, None] < m) & (column[None, :] < n)"]}
        forms |= {"row": ["row < m", "i < 3"], "column": ["column < n"]}
        if kind not in forms or self.is_plain or not self.chance(3):
            return ""
        text = self.pick(forms[kind])
        return f"({text}) & ({self.condition()})" if self.chance(4) else text

    def condition(self) -> str:
        """Of a whole program or iteration."""
        one, other = self.pick(self.counts), self.pick(self.counts)
        forms = [f"{one.text} % 2 == 0", f"{one.text} > 1", f"{one.text} < {other.text}", f"{one.text} < trips"]
        numbers = self.of("one")
        if numbers:
            forms += [f"{self.recent(numbers).name} > 1.0"] * 2
        return self.pick(forms)

    # ---- values

    def of(self, *kinds: str) -> list[Value]:
        return [each for each in self.values if each.kind in kinds]

    def recent(self, values: list[Value]) -> Value:
        return self.pick(values[-4:])

    def spread(self, value: Value) -> str:
        """A value in the shape of tiles."""
        return value.name + {"row": "[:, None]", "column": "[None, :]"}.get(value.kind, "")

    def found(self, kind: str, lanes: Count, mask: str = "") -> str:
        """What lies at some place of an array, and as far on for each element."""
        name, place = f"x{self.number(2)}", self.count(self.pick([1, 2, 2, 3]))
        self.read[name] = max(self.read.get(name, 0), lanes.greatest + place.greatest + 1)
        rest = f", mask={mask}, other={self.pick(['0', '0', '2', '-1'])}" if mask else ""
        return f"tl.load({name} + {place.text} + {lanes.text}{rest})"

    def load(self, kind: str = "") -> None:
        kind = kind or self.pick(["tile", "tile", "tile", "row", "column", "one"])
        text = self.found(kind, self.lanes(kind), self.mask(kind))
        self.values.append(self.value(kind, f"{text}.to(tl.float32)", 8))

    def compute(self) -> None:
        a, b = self.recent(self.values), self.recent(self.values)
        if a.kind == b.kind:
            self.values.append(self.computed(a.kind, a, b, lambda each: each.name))
        elif "one" in (a.kind, b.kind):
            kind = a.kind if b.kind == "one" else b.kind
            self.values.append(self.computed(kind, *((a, b) if a.kind == kind else (b, a)), lambda each: each.name))
        else:
            x, y = self.spread(a), self.spread(b)
            forms = [(f"{x} + {y}", a.bound + b.bound), (f"{x} * {y}", a.bound * b.bound)]
            self.values.append(
                self.value("tile", *self.pick([*forms, (f"tl.maximum({x}, {y})", max(a.bound, b.bound))]))
            )

    def reduce(self) -> None:
        values = self.of("tile", "row", "column")
        if not values:
            return
        of, name = self.recent(values), self.pick(["sum", "sum", "max", "min"])
        axis = self.number(1) if of.kind == "tile" else 0
        kind = ("column", "row")[axis] if of.kind == "tile" else "one"
        bound = of.bound * (max(self.rows, self.columns) if name == "sum" else 1)
        self.values.append(self.value(kind, f"tl.{name}({of.name}, {axis})", bound))

    def product(self) -> None:
        """A step of a product, or one of what was computed with what is loaded."""
        if not self.products:
            self.load("tile")
            return
        deep = self.products
        tiles = [each for each in self.of("tile") if each.bound <= GREATEST_SUM]
        down = self.pick([Count("row", self.extent("row") * self.rows - 1)] * 2 + [Count("i", self.rows - 1)])
        left = self.found("", Count(f"{down.text}[:, None] * {4 * deep} + d[None, :]", (down.greatest + 1) * 4 * deep))
        if tiles and self.columns == deep and self.chance(3):
            left = f"tl.minimum(tl.maximum({self.recent(tiles).name}, -8.0), 8.0)"
        along = self.pick([Count("column", self.extent("column") * self.columns - 1)] * 2 + [Count("j", self.columns)])
        right = self.found("", Count(f"d[:, None] * pitch + {along.text}[None, :]", deep * self.pitch))
        text = f"tl.dot({left}.to(tl.float16), {right}.to(tl.float16))"
        self.values.append(self.value("tile", text, 64 * deep))

    def store(self, value: Value | None = None) -> None:
        """A value in one of several places of the program's own; perhaps it is added to what is there."""
        value = value or self.recent(self.values)
        known = [name for name, kind in self.stored.items() if kind == value.kind]
        name = self.pick(known) if known and (len(known) > 2 or self.chance(3)) else f"out{len(self.stored)}"
        self.stored[name] = value.kind
        slots = [f"{each.text} % {SLOTS}" for each in self.counts[-4:]]
        slot = self.pick([str(self.number(SLOTS - 1)), *([] if self.is_plain else slots)])
        batch = f"(({slot}) * {self.extent('batch')} + batch)"
        place = {
            "tile": f"{batch} * {self.area} + row[:, None] * {self.pitch} + column[None, :]",
            "row": f"({batch} * {self.extent('column')} + along) * {self.extent('row') * self.rows} + row",
            "column": f"({batch} * {self.extent('row')} + down) * {self.pitch} + column",
            "one": f"({batch} * {self.extent('row')} + down) * {self.extent('column')} + along",
        }[value.kind]
        mask, before = self.mask(value.kind), ""
        if not self.is_plain and self.chance(5):
            before = f"tl.load({name} + {place}{f', mask={mask}, other=0.0' if mask else ''})"
            before = self.let(f"tl.minimum(tl.maximum({before}, -64.0), 64.0)") + " + "
        self.line(f"tl.store({name} + {place}, {before}{value.name}{f', mask={mask}' if mask else ''})")

    # ---- loops

    def zero(self) -> Value:
        """A new variable that loops may change."""
        if self.values and not self.is_plain and self.chance(3):
            first = self.recent(self.values)
            return Value(self.let(f"{first.name} * 1.0", "sum"), first.kind, GREATEST_SUM)
        kind = self.pick(["tile"] * 3 if self.is_plain else ["tile", "tile", "tile", "row", "column", "one"])
        shape = {"tile": (self.rows, self.columns), "row": (self.rows,), "column": (self.columns,)}
        zero = f"tl.full({shape[kind]}, {self.pick(['0.0', '0.0', '-64.0'])}, tl.float32)" if kind in shape else "0.0"
        return Value(self.let(zero, "sum"), kind, GREATEST_SUM)

    def gather_up(self, total: Value) -> None:
        """Changes what loops carry."""
        made = [each for each in self.of(total.kind) if each.name != total.name and each.bound <= MOST_ADDED]
        if not made:
            return
        each, name = self.recent(made).name, total.name
        cut = "tl.minimum(tl.maximum({}, -999.0), 999.0)"
        forms = ["+"] * 4 + ["max"] * 2
        match self.pick(forms if self.is_plain else [*forms, "min", "scaled", "instead", "swap"]):
            case "+":
                self.line(f"{name} += {each}")
            case "scaled":
                self.line(f"{name} = {cut.format(f'{name} * 2.0 - {each}')}")
            case "instead":
                self.line(f"{name} = {each}")
            case "swap":
                others = [other.name for other in self.sums if other.kind == total.kind]
                self.line(f"{name}, {self.pick(others)} = {self.pick(others)}, {name}")
            case form:
                self.line(f"{name} = tl.{form}imum({name}, {each})")

    def bound(self) -> str:
        """How far a loop goes, 0 ... ``MOST_TRIPS``."""
        counted = [f"{each.text}{more}" for each in self.counts if each.greatest < MOST_TRIPS for more in ("", " + 1")]
        forms = ["trips", "trips", "1", "2", "3", *counted[-2:]]
        others = ["0", "trips", self.table(), f"tl.minimum(trips, {self.table()})", *counted[-4:]]
        return self.pick(forms if self.is_plain else forms + others)

    def header(self, index: str) -> str:
        """The head of a loop, whose index is ``MOST_TRIPS`` at most."""
        stages, end = self.pick(["", "", "", ", num_stages=1", ", num_stages=3", ", num_stages=4"]), self.bound()
        begin = self.pick(["0"] * 6 + ([] if self.is_plain else ["1", "tl.minimum(trips, 1)", self.table()]))
        forms = [f"for {index} in tl.range({begin}, {end}{stages}):"] * 5
        forms += [f"for {index} in tl.range({end}, -1, -1{stages}):" if not end.startswith("trips") else forms[0]]
        forms += [
            f"for {index} in tl.range(0, {end}, 2{stages}):",
            f"for {index} in tl.static_range({self.number(3)}):",
        ]
        return self.pick(forms[:5] if self.is_plain else [*forms, f"while {index} < {end}:"])

    def loop(self) -> None:
        index = f"k{next(self.names)}"
        self.sums += [self.zero() for _ in range(self.pick([0, 1, 1, 2] if self.sums else [1, 1, 2]))]
        changed = [each for each in self.sums if self.chance(2)] or self.sums[-1:]
        head = self.header(index)
        is_counted = not head.startswith("while")
        if not is_counted:
            self.line(f"{index} = {self.pick(['trips * 0', f'tl.minimum({self.table()}, 1).to(tl.int32)'])}")
        counted = f"at{next(self.names)}" if not self.is_plain and self.chance(4) else ""
        if counted:
            self.line(f"{counted} = {self.pick(['trips * 0', f'{self.table()}.to(tl.int32)'])}")
            self.counts.append(Count(counted, MOST_TRIPS))
        kept, counts, sums = list(self.values), list(self.counts), list(self.sums)
        kept = [each for each in kept if each.name not in {each.name for each in changed}]
        with self.under(head):
            self.counts += [Count(index, MOST_TRIPS)] * 2
            self.loops += 1
            self.values += [each for each in changed if self.chance(3) and each not in self.values]
            self.statements(self.between(0, 4 if self.loops < MOST_LOOPS else 2))
            if self.loops == 1 and self.chance(2):
                self.loop()
            for each in changed:
                if each.kind == "tile" and self.products and self.chance(2):
                    self.product()
                elif not self.chance(4):
                    self.load(each.kind)
                if self.chance(3):
                    self.compute()
                self.gather_up(each)
            if counted:
                more = self.pick(["1", index, self.table(), f"{counted} + 1"])
                self.line(f"{counted} = (({counted} + {more}) % {MOST_TRIPS + 1}).to(tl.int32)")
            self.statements(self.number(1))
            if not is_counted:
                self.line(f"{index} += {self.pick(['1', '1', '2', f'1 + {self.table()}.to(tl.int32) % 2'])}")
            self.loops -= 1
        self.counts, self.sums = counts, sums
        self.values = kept + changed

    def branch(self) -> None:
        kept, counts, sums = list(self.values), list(self.counts), list(self.sums)
        for head in (f"if {self.condition()}:", "else:")[: self.pick([1, 1, 2])]:
            with self.under(head):
                self.statements(self.between(1, 2))
                for each in self.sums:
                    if self.chance(2):
                        self.gather_up(each)
            self.values, self.counts, self.sums = list(kept), list(counts), list(sums)

    def statements(self, number: int) -> None:
        for _ in range(number):
            made = [self.load] * 3 + [self.compute] * 3 + [self.reduce] * 2 + [self.product] * 2
            if self.loops < MOST_LOOPS:
                made += [self.loop] * 3
            if not self.is_plain:
                made += [self.store] + [self.branch] * (self.depth <= MOST_LOOPS)
            self.pick(made)()

    # ---- the whole

    def draw_all(self) -> None:
        names = {"row": "down", "column": "along", "batch": "batch"}
        for role, name in names.items():
            axes = [axis for axis, each in enumerate(self.roles[: len(self.grid)]) if each == role]
            text = "0"
            for axis in axes:
                text = (
                    f"tl.program_id({axis})" if text == "0" else f"({text}) * {self.grid[axis]} + tl.program_id({axis})"
                )
            self.line(f"{name} = {text if axes else 'trips * 0'}")
            self.counts.append(Count(name, self.extent(role) - 1))
        self.line(f"i, j = tl.arange(0, {self.rows}), tl.arange(0, {self.columns})")
        self.line(f"row, column = down * {self.rows} + i, along * {self.columns} + j")
        if self.products:
            self.line(f"d = tl.arange(0, {self.products})")
        self.load()
        if not self.is_plain and self.chance(8):
            with self.under(f"if {self.condition()}:"):
                self.line("return")
        for _ in range(self.pick([1, 1, 2])):
            self.loop()
            self.statements(self.number(2))
        for total in self.sums[-3:] or self.values[-1:]:
            self.store(total)


def nest(between: Between, machines: Machines) -> TextCase:
    """A kernel of loops within loops, and its launch."""
    text = Nest(between)
    text.grid = text.pick(GRIDS)
    text.roles = text.pick([("row", "column", "batch"), ("column", "row", "batch"), ("batch", "row", "column")])
    text.products = text.pick([0, 0, 16, 32])
    text.padding, text.is_plain = text.pick([0, 0, 3, 16]), text.chance(2)
    sizes = [16, 32] if text.products else [1, 2, 4, 8, 16]
    text.rows, text.columns = text.pick(sizes), text.pick([16, 32] if text.products else [4, 8, 16, 32, 64])
    text.draw_all()
    types = {name: text.pick([FLOAT32, FLOAT32, FLOAT16, INT8]) for name in text.read}
    seed, index = text.number(1 << 20), text.pick([np.int32, np.int32, np.int64])
    rows, columns = text.extent("row") * text.rows, text.extent("column") * text.columns
    area, pitch, batches = text.area, text.pitch, text.extent("batch")
    scalars = {"m": text.pick([rows, rows - 1, 1, 0]), "n": text.pick([columns, columns - 1, 3]), "pitch": pitch}
    scalars["trips"] = text.pick([0, 1, 2, 3, MOST_TRIPS])
    elements = SLOTS * batches * max(area, rows * text.extent("column"), text.extent("row") * pitch)

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        outputs = {name: np.zeros(elements, FLOAT32) for name in text.stored}
        arrays = {name: integers(random, size, types[name], 4) for name, size in text.read.items()}
        tables = {"table": random.integers(0, MOST_TRIPS + 1, TABLE), "found": random.integers(0, TABLE, TABLE)}
        return {**outputs, **arrays, **{name: each.astype(index) for name, each in tables.items()}, **scalars}

    head = f"def generated({', '.join(memory())}):"
    options = {"num_warps": text.pick([1, 1, 4]), "num_stages": text.pick([2, 2, 1, 3, 4])}
    engines = ("native", "interpreter") if math.prod(text.grid) <= INTERPRETED else ("native",)
    return TextCase(
        "\n".join([head, *text.lines]) + "\n", memory, text.grid, text.pick(machines), options, 0.0, "", engines
    )
