"""Kernels drawn at random whose masks are no boxes: triangles, discs, flags that are loaded, and what is left of them.

Each array is as large as what the masks choose, so that the boxes around it lie inside of some arrays and not of
others. Stores come in pairs to the same places, under masks that overlap or leave each other out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.fitted import Array, FittedCase, FittedText, fitted
from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, INT64
from tests.language.generated.texts import Between, Machines

KINDS = [FLOAT32, FLOAT32, FLOAT32, FLOAT16, BFLOAT16, INT8, INT32, INT64, np.dtype(np.uint8)]
OPPOSITES = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
OTHERS = ["0", "1", "-1", "3", "7"]


@dataclass
class Masks(FittedText):
    """Draws the kernel: programs have tiles of a matrix of ``i`` and ``j``, in a grid or in loops.

    Attributes:
        rows, columns: of a tile.
        pitch: more than the columns of the matrix.
        arrays: by name.
        values: float32 tiles.
    """

    rows: int = 8
    columns: int = 16
    height: int = 8
    width: int = 16
    pitch: int = 64
    arrays: dict[str, Array] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    outputs: int = 0
    is_repeated: bool = False  # rows are written by two neighbours each

    # ---- conditions

    def near(self, size: int) -> str:
        """A number about as large as some positions; perhaps none is so small, or so large."""
        return self.constant(
            self.pick([self.number(size), self.number(size), size, 0, -1, -self.number(size), size + 9])
        )

    def comparison(self, left: str, right: str) -> tuple[str, str]:
        """A comparison, and what is true where it is not."""
        sign = self.pick(["<", "<", "<=", ">", ">=", ">=", "==", "!="])
        return f"({left} {sign} {right})", f"({left} {OPPOSITES[sign]} {right})"

    def flags(self, form: str) -> str:
        name = self.pick(["flags", "marks"])
        self.arrays.setdefault(name, Array(self.pick([INT8, INT32, np.dtype(np.uint8)]), 1, 0))
        box = f", mask={self.box()}, other={self.pick(['0', '1'])}" if self.chance(2) else ""
        return f"(tl.load({name} - first_{name} + {form}{box}) != 0)"

    def atom(self) -> tuple[str, str]:
        """A condition and its opposite."""
        i, j = self.pick([("i", "j")] * 5 + [("r", "j"), ("i", "c"), ("j", "i")])
        match self.pick(["row", "column", "row", "column", "line", "line", "triangle", "triangle", "disc", "flags",
                         "length", "flat", "every", "program", "corner"]):  # fmt: skip
            case "row":
                return self.comparison("i", self.near(self.height))
            case "column":
                return self.comparison("j", self.near(self.width))
            case "line":
                a, b = (self.pick([1, 1, 1, -1, 2, -3]) for _ in range(2))
                form = f"{a} * {i} + {b} * {j}" if self.chance(2) else f"{i} * {self.constant(a)} + {j} * {b}"
                return self.comparison(form, self.near(self.height + self.width))
            case "triangle":
                return self.comparison(i, f"{j} + {self.near(self.height)}" if self.chance(2) else j)
            case "disc":
                y, x = (self.constant(self.number(each)) for each in (self.height, self.width))
                form = f"({i} - {y}) * ({i} - {y}) + ({j} - {x}) * ({j} - {x})"
                return self.comparison(form, self.constant(self.pick([0, 9, 30, 100, 1000])))
            case "flags":
                form = self.flags(self.pick([f"i * {self.pitch} + j", "j", "i", "j + i", "i + 0 * j"]))
                return form, f"({form} == 0)"
            case "length":
                self.arrays.setdefault("ends", Array(INT32, self.width, -2))
                return self.comparison("j", "tl.load(ends - first_ends + i)")
            case "flat":
                return self.comparison(f"i * {self.pitch} + j", self.near(self.height * self.pitch))
            case "every":
                return self.comparison(f"({i} + {j}) % {self.pick([2, 3, 4])}", "0")
            case "program":
                return self.comparison("p", self.near(3))
            case _:
                return self.comparison(f"tl.{self.pick(['maximum', 'minimum'])}(i, j)", self.near(self.height))

    def box(self) -> str:
        """Some rows or columns."""
        rows, columns = (self.constant(each - self.number(3)) for each in (self.height, self.width))
        return self.pick([f"(j < {columns})", f"((i < {rows}) & (j < {columns}))", f"(i >= {self.number(3)})",
                          f"((i < {rows}) & (j >= 1))"])  # fmt: skip

    def mask(self) -> tuple[str, str]:
        """A condition and what is true where it is not, as names of tiles."""
        parts = [self.atom() for _ in range(self.pick([1, 1, 2, 2, 3]))]
        texts = [each for each, _ in parts]
        if len(parts) == 1:
            inverse = parts[0][1] if self.chance(2) else f"({texts[0]} == 0)"
        else:
            sign = self.pick(["&"] * 6 + ["|", "^"])
            texts = [f" {sign} ".join(texts)]
            inverse = f"(({texts[0]}) == 0)"
        if self.chance(3):
            return f"({texts[0]} & {self.box()})", f"({inverse} & {self.box()})"
        return f"({texts[0]})", inverse

    def tile_mask(self) -> str:
        """A condition in the shape of tiles."""
        return self.shaped(self.mask()[0])

    def shaped(self, text: str) -> str:
        return self.let(f"{text} & (i + j > -1000)" if self.chance(9) else text, "w")

    def outside(self, mask: str, inverse: str) -> str:
        """A mask of a second store, beside one of a first."""
        match self.pick(["inverse", "inverse", "boxed", "narrower", "another", "same", "none"]):
            case "inverse":
                return inverse
            case "boxed":
                return f"{inverse} & {self.box()}"
            case "narrower":
                return f"{mask} & {self.atom()[0]}"
            case "another":
                return self.atom()[0]
            case "same":
                return mask
            case _:
                return ""

    # ---- accesses

    def place(self, rows: str = "i") -> str:
        """Where a tile is loaded."""
        step = self.constant(self.pick([self.pitch] * 4 + [1, -3, 0]))
        column = self.pick(["j", "j", "j", "j", "j * 2", "-j", "j // 2", "(j + 1)", "0 * j", "j % 4"])
        shift = self.constant(self.pick([0, 0, 0, 3, -17, self.number(20)]))
        if self.chance(6) and not self.is_repeated:
            return f"j * {self.pitch} + i - {shift}"
        return f"{rows} * {step} + {column} - {shift}"

    def load(self) -> None:
        name = self.pick(["x", "x", "y"])
        self.arrays.setdefault(name, Array(self.pick(KINDS), 7, 0 if self.chance(2) else None))
        rows = "(i // 2)" if self.is_repeated else self.pick(["i", "i", "i", "i", "r", "i // 2"])
        kind = self.arrays[name].dtype
        others = [*OTHERS, *(["float('-inf')", "float('nan')", "-0.0", "2.5"] if kind in (FLOAT32, FLOAT16) else [])]
        others = [each for each in others if kind.kind != "u" or not each.startswith("-")]
        if self.is_repeated:
            guard = f", mask=i // 2 + j < {self.near(self.width)}, other=0" if self.chance(2) else ""
        else:
            guard = f", mask={self.tile_mask()}, other={self.pick(others)}"
        value = self.let(f"tl.load({name} - first_{name} + {self.place(rows)}{guard})")
        self.values.append(self.let(f"{value}.to(tl.float32)", "v"))
        self.chosen.append(self.values[-1])

    def compute(self) -> None:
        if not self.values:
            self.load()
            return
        a, b = self.pick(self.values[-3:]), self.pick(self.values)
        cut = f"tl.minimum(tl.maximum({a}, -2.0), 2.0)"
        forms = [f"{cut} + {b}", f"{a} - {cut}", f"tl.maximum({a}, {b})"]
        if not self.is_repeated and a != b and self.chance(4):
            forms = [f"tl.where({self.mask()[0]}, {a}, {b})"]
        self.values.append(self.let(f"tl.minimum(tl.maximum({self.pick(forms)}, -9.0), 9.0)", "v"))

    def value(self, text: str) -> str:
        return f"tl.minimum(tl.maximum({text}, 0.0), 90.0)"

    def store(self) -> None:
        """One or two stores to the same places, perhaps with something in between."""
        name = f"out{self.outputs}"
        self.outputs += 1
        self.arrays[name] = Array(self.pick([FLOAT32, FLOAT32, FLOAT16, INT8, INT32]))
        column = "j" if self.chance(3) else self.pick(["j", "j", f"({self.width - 1} - j)", "2 * j"])
        rows = "i // 2" if self.is_repeated else "i"
        at = self.let(f"{name} - first_{name} + ({rows}) * {2 * self.pitch} + {column}", "at")
        mask, inverse = self.mask()
        first = self.shaped(mask)
        for turn in range(self.pick([1, 2, 2, 2, 3])):
            guard = first
            if turn:
                mask = self.outside(mask, inverse) if mask else self.atom()[0]
                guard = self.shaped(mask) if mask else ""
                between = self.pick(["", "", "", "other", "again"])
                if between == "other" and not self.is_repeated:
                    self.load()
                if between == "again":
                    again = self.let(f"tl.load({at}, mask={first}, other=5)")
                    self.values.append(self.let(f"{again}.to(tl.float32)", "v"))
            if not self.values:
                self.load()
            stored = self.pick([self.value(self.pick(self.values[-4:])), self.value(self.pick(self.values)), "5.0"])
            self.line(f"tl.store({at}, {stored}{f', mask={guard}' if guard else ''})")

    def copy(self) -> None:
        """What a mask chooses, and nothing of what it does not."""
        if self.is_repeated:
            return
        name = f"out{self.outputs}"
        self.outputs += 1
        self.arrays.setdefault("x", Array(self.pick(KINDS), 7, 0))
        self.arrays[name] = Array(self.arrays["x"].dtype)
        mask = self.tile_mask()
        narrower = f"{mask} & {self.atom()[0]}" if self.chance(3) else mask
        loaded = self.let(f"tl.load(x - first_x + {self.place()}, mask={mask})")
        self.line(f"tl.store({name} - first_{name} + i * {self.pitch} + j, {loaded}, mask={narrower})")

    def draw_all(self, loops: bool) -> None:
        self.line("p, q, k = tl.program_id(0), tl.program_id(1), 0")
        self.line(f"r, c = tl.arange(0, {self.rows})[:, None], tl.arange(0, {self.columns})[None, :]")
        self.line(f"i = p * {self.rows} + r")
        if not loops:
            self.line(f"j = q * {self.columns} + c")
            self.statements()
            return
        end = self.pick([str(self.width), self.constant(self.width), "(p + 1) * 8" if self.width >= 32 else "16"])
        if end.startswith("(p"):
            end = f"tl.minimum({end}, {self.width})"
        with self.under(f"for k in range(0, {end}, {self.columns}):"):
            self.line("j = k + c")
            self.statements()

    def statements(self) -> None:
        for _ in range(1 + self.number(4)):
            self.pick([self.load, self.load, self.compute, self.store, self.store, self.copy])()
        self.store()
        # All that is loaded is asked for.
        total = " + ".join(self.value(each) for each in self.chosen) or "1.0 + 0 * (i + j)"
        self.arrays["sums"] = Array(FLOAT32)
        self.line(f"tl.store(sums - first_sums + i * {self.pitch} + j, {total})")


def mask_kernel(between: Between, machines: Machines) -> FittedCase:
    """A kernel and its launch."""
    masks = Masks(between)
    masks.rows, masks.columns = masks.pick([1, 2, 4, 8, 8, 16]), masks.pick([4, 16, 16, 32, 64])
    p, q = masks.pick([1, 2, 3, 5]), masks.pick([1, 1, 2, 3])
    masks.height, masks.width = p * masks.rows, q * masks.columns
    masks.pitch = masks.width + masks.pick([0, 0, 1, 7])
    masks.is_repeated = masks.rows > 1 and masks.chance(5)
    loops = masks.chance(3)
    masks.draw_all(loops)
    return fitted(masks, machines, masks.arrays, masks.numbers, (p, 1 if loops else q), ("x", "y"))
