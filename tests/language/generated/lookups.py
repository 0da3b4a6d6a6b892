"""Kernels drawn at random that go along rows in blocks, where a number that is loaded says which row.

Rows have any length, none at all too, and stand at any distance, on top of each other and in reverse as well. What is
written is an array of its own, the one that is read, or one that shares bytes with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.language.generated.fitted import Array, FittedCase, FittedText, fitted
from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, INT64
from tests.language.generated.texts import Between, Machines

KINDS = [FLOAT32, FLOAT32, FLOAT16, BFLOAT16, INT8, INT32]
GRIDS = [(1,), (2,), (5,), (5,), (17,), (17,), (60,), (3, 2), (2, 9)]


@dataclass
class Lookups(FittedText):
    """Draws the kernel.

    Attributes:
        block: columns of a turn.
        columns: of a row.
        programs: how many there are.
        arrays: by name.
        values: float32 tiles.
        rows: numbers of rows.
        kind: whether a program writes a row of its own, the row that it reads, or one that shares bytes with that.
        pitch: between rows.
    """

    block: int = 16
    columns: int = 16
    programs: int = 1
    pitch: int = 16
    kind: str = "apart"
    arrays: dict[str, Array] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    outputs: int = 0
    is_cut: bool = False  # some accesses end before rows do
    has_loop: bool = False

    def row(self) -> None:
        """The number of a row, from memory."""
        self.arrays.setdefault("rows", Array(self.pick([INT32, INT32, INT64]), self.programs + 1, 0))
        shift = f" + {self.constant(self.number(3))}" if self.chance(4) else ""
        turn = self.pick(["", "", "", f" + k // {self.block}"]) if self.has_loop else ""
        self.rows.append(self.let(f"tl.load(rows - first_rows + p{shift}{turn})", "row"))

    def scale(self) -> None:
        """A number by which a row is multiplied, or that is added to it."""
        self.arrays.setdefault("scales", Array(self.pick([FLOAT32, INT32]), 3))
        at = self.pick(["p", "p", *self.rows])
        self.values.append(self.let(f"tl.load(scales - first_scales + {at}).to(tl.float32)", "scale"))

    def mask(self) -> str:
        """Where a row ends, and perhaps more."""
        forms = ["j < n"] * 8 + [f"(j < n) & (j >= {self.number(9)})", "(j < n) & (j % 3 != 1)"]
        if self.is_cut:
            forms += [f"j < {self.constant(max(self.columns - 2, 0))}", "(j < n - 1)"]
        return self.pick([*forms, "(j < n) & (p % 2 == 0)", "n > j"])

    def load(self) -> None:
        name = self.pick(["x", "x", "x", "y", "weights"])
        if name == "x" and self.kind != "apart":
            name = {"in place": "out0", "shared": "x"}[self.kind]
        self.arrays.setdefault(name, Array(self.pick(KINDS)))
        column = self.pick(["j"] * 7 + ["j + 1", "j // 2", "j * 2", "-j", "(j + 5)"])
        if name == "weights":
            place = column
        elif (name == "x" and self.kind == "shared") or name == "out0":
            place = self.own() + self.pick([" + j"] * 3 + [" + j + 1 - 1", " + j // 2"])
        else:
            place = f"{self.pick(self.rows)} * {self.step()} + {column}"
        loaded = self.let(f"tl.load({name} - first_{name} + {place}, mask={self.mask()}, other={self.number(2)})")
        self.values.append(self.let(f"{loaded}.to(tl.float32)", "v"))

    def step(self) -> str:
        """The distance between rows that are read."""
        return self.constant(self.pick([self.pitch] * 5 + [-self.pitch, 0, 1, self.columns]))

    def own(self) -> str:
        """Where a row begins that no other program has."""
        return f"mine * {2 * self.pitch}" if self.kind != "apart" else f"p * {2 * self.pitch}"

    def compute(self) -> None:
        if not self.values:
            self.load()
            return
        a, b = self.pick(self.values[-3:]), self.pick(self.values)
        forms = [f"{a} + {b}", f"{a} - {b}", f"tl.maximum({a}, {b})", f"{a} * 2.0 - {b}"]
        self.values.append(self.let(f"tl.minimum(tl.maximum({self.pick(forms)}, -50.0), 50.0)", "v"))

    def store(self) -> None:
        name = "out0" if self.outputs == 0 or self.chance(6) else f"out{self.outputs}"
        if name == f"out{self.outputs}":
            self.outputs += 1
        self.arrays.setdefault(name, Array(self.pick([FLOAT32, FLOAT32, INT8, FLOAT16])))
        if not any(each.startswith("v") for each in self.values):
            self.load()
        stored = self.pick([each for each in self.values if each.startswith("v")][-3:])
        column = self.pick(["j"] * 6 + ["j * 2", "j + 1", "(n - j)"])
        place = self.own() if name == "out0" else f"p * {2 * self.pitch}"
        self.line(f"tl.store({name} - first_{name} + {place} + {column}, {stored}, mask={self.mask()})")

    def draw_all(self, along: int) -> None:
        """All of it, for a grid with so many programs along its first axis, or of one axis if that is 0."""
        self.line(f"p = tl.program_id(0){f' + tl.program_id(1) * {along}' if along else ''}")
        if self.kind != "apart":
            self.arrays["order"] = Array(INT32, permuted=self.programs)
            self.line("mine = tl.load(order - first_order + p)")
            self.rows.append("mine")
        if self.chance(2) or not self.rows:
            self.row()
        if self.chance(3):
            self.scale()
        loops = self.pick([1, 1, 1, 1, 2])
        end = self.pick(["n"] * 8 + ["m", str(self.columns)])
        self.numbers |= {"n": self.columns, "m": max(self.columns + self.pick([0, 0, -3, 40]), 0)}
        for _ in range(loops):
            rows, values = [*self.rows], [*self.values]
            stages = self.pick(["range", "range", "tl.range"])
            with self.under(f"for k in {stages}(0, {end}, {self.block}):"):
                self.has_loop = True
                self.line(f"j = k + tl.arange(0, {self.block})")
                for _ in range(1 + self.number(4)):
                    self.pick([self.load, self.load, self.compute, self.store, self.row, self.scale])()
                self.store()
                self.has_loop = False
            self.rows, self.values = rows, values


def lookup_kernel(between: Between, machines: Machines) -> FittedCase:
    """A kernel and its launch."""
    drawn = Lookups(between)
    drawn.block = drawn.pick([16, 16, 32, 64, 128])
    block = drawn.block
    drawn.columns = drawn.pick([0, 0, 1, 5, block, block + 1, 3 * block, 3 * block - 1, 7 * block + 3, 4100])
    grid = drawn.pick(GRIDS if drawn.columns <= 7 * 64 else [(1,), (2,), (3,)])
    drawn.programs = grid[0] * (grid[1] if len(grid) > 1 else 1)
    if drawn.columns * drawn.programs > 20_000:
        grid, drawn.programs = (2,), 2
    drawn.pitch = drawn.columns + drawn.pick([0, 0, 3, 8]) + 6
    drawn.kind = drawn.pick(["apart", "apart", "apart", "in place", "shared"])
    drawn.is_cut = drawn.chance(5)
    drawn.draw_all(grid[0] if len(grid) > 1 else 0)
    if drawn.kind == "shared" and "x" in drawn.arrays:
        shift = drawn.pick([0, 0, 1, 4, 5])
        drawn.arrays["x"] = Array(drawn.arrays["out0"].dtype, view_of="out0", shift=shift)
    return fitted(drawn, machines, drawn.arrays, drawn.numbers, grid)
