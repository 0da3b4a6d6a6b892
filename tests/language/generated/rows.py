"""Kernels drawn at random that do a row or two of any type in each program of a large grid, as most kernels do.

Programs of such kernels go several at a time through the pipeline of a core, in blocks; what they do to a row is
whatever a kernel may do: look elements up, take them apart, exchange them with memory, write where they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import BFLOAT16, BOOL, FLOAT16, FLOAT32, INT32, INT64, INTEGERS, is_float, triton
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

UINT32 = np.dtype(np.uint32)
KINDS = [*INTEGERS, INT32, INT32, FLOAT16, BFLOAT16, FLOAT32, FLOAT32, FLOAT32]
STORED = [*KINDS, BOOL]
INTERPRETED = 5000  # elements of all rows, at most
BEHIND = 8  # elements of an array behind the last row
ROWS_OF_WEIGHTS = 4

FUNCTIONS = """
@mlu.jit
def greatest_and_where(a, i, b, j):
    return tl.where((a > b) | ((a == b) & (i < j)), a, b), tl.where((a > b) | ((a == b) & (i < j)), i, j)


@mlu.jit
def latest(a, i, b, j):
    return tl.where(j != 0, b, a), i | j


@mlu.jit
def either(a, b):
    return a ^ b


"""


@dataclass(frozen=True)
class Made:
    """A variable: a row, or a scalar if ``is_row`` is false."""

    name: str
    dtype: np.dtype
    is_row: bool = True


@dataclass
class Rows(Text):
    """Draws the kernel.

    Attributes:
        width: elements of a row.
        block: of the tensors that have it, a power of two.
        types: of the arrays, by name.
        forms: how the rows of outputs lie.
        in_place: an input that is written too; empty if none is.
        shared: what programs do to numbers that they share.
    """

    width: int = 16
    block: int = 16
    types: dict[str, np.dtype] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    in_place: str = ""
    shared: str = "add"
    values: list[Made] = field(default_factory=list)

    @contextmanager
    def scope(self, head: str) -> Iterator[None]:
        kept = list(self.values)
        with self.under(head):
            yield
        self.values = kept

    # ---- values

    def add(self, dtype: np.dtype, text: str, *, is_row: bool = True) -> Made:
        made = Made(self.let(text), dtype, is_row)
        self.values.append(made)
        return made

    def row(self, dtype: np.dtype | None = None) -> Made:
        """One of the last rows, converted if another type is wanted."""
        found = self.pick([each for each in self.values if each.is_row][-5:])
        return found if dtype in (None, found.dtype) else self.cast(found, dtype)

    def cast(self, value: Made, dtype: np.dtype) -> Made:
        text = value.name
        if is_float(value.dtype) and dtype in INTEGERS:
            text = f"tl.minimum(tl.maximum({text}.to(tl.float32), 0.0), 100.0)"
        elif is_float(dtype) and value.dtype in INTEGERS:
            text = f"({text} & 15)"
        return self.add(dtype, f"{text}.to({triton(dtype)})", is_row=value.is_row)

    def small(self, value: Made) -> Made:
        """A row of small integers in 32 bits, sums of which every type holds."""
        if is_float(value.dtype):
            return self.add(FLOAT32, f"tl.floor(tl.minimum(tl.maximum({value.name}.to(tl.float32), -8.0), 8.0))")
        return self.cast(value, self.pick([INT32, UINT32, INT64, INT32]))

    # ---- places

    def mask(self) -> str:
        simple = ["c < width", "c < width", "c < width"]
        rows = [each.name for each in self.values if each.is_row]
        scalars = [each.name for each in self.values if not each.is_row and each.dtype in (INT32, INT64)]
        more = ["(c < n)", "(c >= 1)", "(c % 3 != 1)", "(p % 2 == 0)", "(n > c + p % 4)", "(c < 0)"]
        more += [f"({each} != 0)" for each in rows[-3:]] + [f"(c < {each})" for each in scalars[-3:]]
        return self.pick(simple + [f"(c < width) & {self.pick(more)}" for _ in range(2)])

    def place(self, form: str) -> str:
        match form:
            case "plain":
                return "p * width + c"
            case "far":
                return "p.to(tl.int64) * width + c"
            case "up":
                return "(programs - 1 - p) * width + c"
            case "backwards":
                return "p * width + (width - 1 - c)"
            case "columns":
                return "c * programs + p"
            case "found":
                return "tl.load(ids + p) * width + c"
            case "every second":
                return "(p * width + c) * 2"
            case "every second but one":
                return "(p * width + c) * 2 + 1"
            case "weights":
                return self.pick(["c", "c", f"(p % {ROWS_OF_WEIGHTS}) * width + c", "tl.load(few + p) * width + c"])
            case _:
                return f"p * width + ({self.row(INT32).name} & 1023) % width"

    def load(self) -> None:
        name = self.pick(["x0", "x1", "w"])
        forms = ["plain", "plain", "far", "up", "backwards", "columns", "found", "every second", "anywhere"]
        form = "weights" if name == "w" else "plain" if name == self.in_place else self.pick(forms)
        if form == "anywhere" and not self.values:
            form = "plain"
        dtype, place = self.types[name], self.place(form)
        other = f"{self.pick([0, 1, 3])}" + (".0" if is_float(dtype) else "")
        self.loaded(dtype, f"tl.load({name} + {place}, mask={self.mask()}, other={other})")

    def load_scalar(self) -> None:
        name = self.pick(["s32", "s64", "sf", "x1"])
        ends = ["p * width", "p * width + width - 1"]
        place = self.pick(ends if name == "x1" else ["p", "tl.load(ids + p)"])
        self.loaded(self.types[name], f"tl.load({name} + {place})", is_row=False)

    def loaded(self, dtype: np.dtype, text: str, *, is_row: bool = True) -> None:
        """Keep what is loaded; truth as a number."""
        kept, convert = (INT32, ".to(tl.int32)") if dtype == BOOL else (dtype, "")
        self.add(kept, text + convert, is_row=is_row)

    # ---- statements

    def elementwise(self) -> None:
        a = self.row()
        same = [each for each in self.values if each.dtype == a.dtype]
        b = self.pick(same[-6:]) if not self.chance(3) else self.row(a.dtype)
        # One of both may be a scalar: what has one operand is of the row.
        x, y = (a.name, b.name) if self.chance(2) else (b.name, a.name)
        signs = ["+", "-", "*"] if is_float(a.dtype) else ["+", "-", "*", "&", "|", "^"]
        forms = [f"{x} {self.pick(signs)} {y}" for _ in range(4)]
        forms += [f"tl.where({x} > {y}, {x}, {y})", f"tl.where({self.mask()}, {a.name}, {b.name})", f"-{a.name}"]
        if a.dtype in INTEGERS:
            shift = self.pick([1, 3, 7])
            forms += [f"{a.name} >> {shift}", f"{a.name} << {shift}", f"{a.name} // {self.pick([3, 8, 100])}"]
            forms += [f"{a.name} % {self.pick([5, 16])}", f"{x} // (({y} & 7) + 1)", f"{x} % (({y} & 7) + 1)"]
        elif a.dtype == FLOAT32:
            forms += [f"tl.abs({a.name})", f"tl.floor({a.name})", f"tl.maximum({x}, {y})", f"{a.name} * 0.5 + 1.0"]
        self.add(a.dtype, f"({self.pick(forms)}).to({triton(a.dtype)})")

    def converted(self) -> None:
        self.cast(self.row(), self.pick(KINDS))

    def reduced(self) -> None:
        a = self.small(self.row())
        match self.pick(["sum", "max", "min", "place", "pair", "own"]):
            case "place":
                self.add(INT32, f"tl.{self.pick(['argmax', 'argmin'])}({a.name}, 0)", is_row=False)
            case "pair":
                names = [self.let("0", "h") for _ in range(2)]
                self.line(f"{', '.join(names)} = tl.reduce(({a.name}, c), 0, greatest_and_where)")
                self.values += [Made(names[0], a.dtype, False), Made(names[1], INT32, False)]
            case "own" if a.dtype in INTEGERS:
                self.add(a.dtype, f"tl.reduce({a.name}, 0, either)", is_row=False)
            case "max" | "min" as name:
                self.add(a.dtype, f"tl.{name}({a.name}, 0)", is_row=False)
            case _:
                self.add(a.dtype, f"tl.sum({a.name}, 0)", is_row=False)

    def scanned(self) -> None:
        a, reverse = self.small(self.row()), f", reverse={self.chance(3)}"
        if self.chance(2):
            self.add(a.dtype, f"tl.cumsum({a.name}, 0{reverse})")
            return
        b = self.row(INT32)
        names = [self.let("0", "h") for _ in range(2)]
        self.line(f"{', '.join(names)} = tl.associative_scan(({a.name}, {b.name} & 1), 0, latest{reverse})")
        self.values += [Made(names[0], a.dtype), Made(names[1], INT32)]

    def looked_up(self) -> None:
        a, index = self.row(), self.row(INT32)
        self.add(a.dtype, f"tl.gather({a.name}, {index.name} & {self.block - 1}, 0)")

    def ordered(self) -> None:
        a = self.small(self.row())
        if self.chance(2):
            self.add(a.dtype, f"tl.flip({a.name}, 0)")
        elif self.block <= 128:
            self.add(a.dtype, f"tl.sort({a.name}, 0, {self.chance(2)})")

    def apart(self) -> None:
        """Halves that are changed apart and joined again, or a matrix that is turned."""
        a, half = self.row(), self.block // 2
        if half < 2:
            return
        if self.chance(2):
            rows = self.pick([each for each in (2, 4, 8) if each <= half])
            shape = (rows, self.block // rows)
            turned = f"tl.trans(tl.reshape({a.name}, {shape}))"
            self.add(a.dtype, f"tl.reshape({turned}, ({self.block},))")
            return
        names = [self.let("0", "h") for _ in range(2)]
        pairs = [f"tl.reshape({a.name}, ({half}, 2))", f"tl.trans(tl.reshape({a.name}, (2, {half})))"]
        self.line(f"{', '.join(names)} = tl.split({self.pick(pairs)})")
        x, y = names if self.chance(2) else names[::-1]
        y = self.pick([y, f"({x} + {y}).to({triton(a.dtype)})", f"tl.where({x} > {y}, {x}, {y})"])
        joined = f"tl.reshape(tl.join({x}, {y}), ({self.block},))"
        self.add(a.dtype, self.pick([joined, f"tl.interleave({x}, {y})"]))

    def exchanged(self) -> None:
        """An atomic operation on the program's own memory, whose results are used."""
        a, mask = self.row(INT32), self.let(self.mask(), "m")
        place = self.pick(["c", "c", f"({self.row(INT32).name} & {self.block - 1})"])
        name = self.pick(["add", "max", "min", "xchg", "and", "or", "xor"])
        old = f"tl.atomic_{name}(own + p * BLOCK + {place}, {a.name}, mask={mask})"
        self.add(INT32, f"tl.where({mask}, {old}, 0)")

    def counted(self) -> None:
        """What all programs change, in any order: counters, and rows of them."""
        whole = ["c", f"(p % {ROWS_OF_WEIGHTS}) * width + c", "tl.load(few + p) * width + c", "tl.load(few + c % 2)"]
        place, mask = self.pick([*whole, f"({self.row(INT32).name} & 7)"]), self.pick([self.mask(), "c < width"])
        if place in whole[:3] and self.chance(3):
            place, mask = place.removesuffix(" + c").removesuffix("c") or "1", "p != 3"
            a = self.pick(
                [each for each in self.values if not each.is_row and each.dtype == INT32] or [Made("p", INT32)]
            )
            self.line(f"tl.atomic_{self.shared}(totals + {place}, {a.name}, mask={mask})")
        elif self.chance(2):
            self.line(f"tl.atomic_{self.shared}(totals + {place}, {self.row(INT32).name}, mask={mask})")
        else:
            self.line(f"tl.atomic_add(sums + {place}, {self.small(self.row(FLOAT32)).name}, mask={mask})")

    def looped(self) -> None:
        a = self.add(INT32, f"{self.row(INT32).name} + 0")
        head = self.pick(
            [
                "for turn in range(trips):",
                "for turn in range(tl.load(few + p)):",
                "for turn in range(2):",
                "if p % 3 == 1:",
                "if tl.load(few + p) > 1:",
                "if n > 2:",
            ]
        )
        with self.scope(head):
            if head.startswith("for") and self.chance(2):
                self.loaded(self.types["w"], f"tl.load(w + turn * width + c, mask={self.mask()}, other=0)")
            self.statements(self.between(1, 3))
            self.line(f"{a.name} = {a.name} ^ ({self.row(INT32).name} + 1)")
        self.values.append(a)

    def store(self) -> None:
        names = [*self.forms, *([self.in_place] if self.in_place else [])]
        name = self.pick(names)
        form = self.forms.get(name, "plain")
        if form == "every second" and self.chance(2):
            form = "every second but one"
        dtype, mask = self.types[name], self.mask()
        value = f"{self.row(INT32).name} > 2" if dtype == BOOL else self.row(dtype).name
        self.line(f"tl.store({name} + {self.place(form)}, {value}, mask={mask})")

    def store_scalar(self) -> None:
        scalars = [each for each in self.values if not each.is_row]
        if scalars:
            a = self.pick(scalars[-4:])
            text = a.name if a.dtype in INTEGERS else f"tl.minimum(tl.maximum({a.name}.to(tl.float32), -99.0), 99.0)"
            self.line(f"tl.store(numbers + p * 2 + {self.number(1)}, {text}.to(tl.int64))")

    def statements(self, count: int) -> None:
        makers = [self.load] * 5 + [self.elementwise] * 8 + [self.converted] * 2 + [self.load_scalar] * 2
        makers += [
            self.reduced,
            self.scanned,
            self.looked_up,
            self.apart,
            self.ordered,
            self.exchanged,
            self.counted,
            self.counted,
        ]
        makers += [self.store] * 4 + [self.store_scalar]
        if self.depth < 2:
            makers += [self.looped] * 2
        for _ in range(count):
            self.pick(makers)()


def row_kernel(between: Between, machines: Machines, grids: list[int]) -> TextCase:
    """A kernel and its launch."""
    text = Rows(between)
    programs = text.pick(grids)
    text.width = text.pick([1, 2, 3, 7, 16, 17, 31, 32, 64, 100, 128] + ([250, 512, 1000] if programs < 300 else []))
    text.block = max(2, 1 << (text.width - 1).bit_length()) * text.pick([1, 1, 1, 2])
    text.types = {name: text.pick(STORED) for name in ("x0", "x1", "w", "out0", "out1")}
    text.types |= {"s32": INT32, "s64": INT64, "sf": FLOAT32}
    text.in_place = text.pick(["", "", "x0", "x1"])
    text.shared = text.pick(["add", "add", "max", "min", "and", "or", "xor"])
    forms = ["plain", "plain", "plain", "far", "up", "backwards", "columns", "found", "every second"]
    text.forms = {name: text.pick(forms) for name in ("out0", "out1")}
    across = text.pick([each for each in (1, 1, 1, 2, 5, 8) if programs % each == 0])
    grid = (programs // across, across) if across > 1 else (programs,)
    text.line("p = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)" if across > 1 else "p = tl.program_id(0)")
    text.line("programs = tl.num_programs(0) * tl.num_programs(1)")
    text.line("c = tl.arange(0, BLOCK)")
    text.load()
    text.statements(text.between(3, 12))
    text.store()
    numbers = {"n": text.pick([text.width, text.width // 2, 3, 0]), "trips": text.pick([0, 1, 2, 3])}
    seed, width, types = text.number(1 << 20), text.width, text.types
    total = 2 * programs * width + BEHIND

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        made: dict[str, object] = {name: np.zeros(total, types[name]) for name in text.forms}
        made |= {name: integers(random, total, types[name], 60) for name in ("x0", "x1")}
        made["w"] = integers(random, ROWS_OF_WEIGHTS * width, types["w"])
        made |= {name: integers(random, programs, types[name], 40) for name in ("s32", "s64", "sf")}
        made["ids"] = random.permutation(programs).astype(np.int32)
        made["few"] = random.integers(0, ROWS_OF_WEIGHTS, programs + 1).astype(np.int32)
        made["own"] = integers(random, programs * text.block, INT32)
        shared = ROWS_OF_WEIGHTS * width + BEHIND
        made["totals"], made["sums"] = integers(random, shared, INT32), np.zeros(shared, np.float32)
        made["numbers"] = np.zeros(2 * programs, np.int64)
        return made | {"width": width} | numbers | {"BLOCK": text.block}

    arguments = [name if name.islower() else f"{name}: tl.constexpr" for name in memory()]
    body = "\n".join([f"@mlu.jit\ndef generated({', '.join(arguments)}):", *text.lines])
    options = {"num_warps": text.pick([1, 4]), "num_stages": text.pick([2, 1, 3])}
    engines = ("native", "interpreter") if programs * text.block <= INTERPRETED else ("native",)
    return TextCase(FUNCTIONS + body + "\n", memory, grid, text.pick(machines), options, engines=engines)
