"""Kernels drawn at random whose control flow and places depend on what they have loaded, and carry state of any type.

Loops follow lists from element to element, go as far as numbers from memory say, or until a sum is large. They carry
numbers and tensors of integers, conditions, and pointers that advance by what is loaded; descriptors and block pointers
are made in them, and what an atomic found is a place of another access. A program has elements of its own in every
array that it changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from tests.language.generated.numbers import BFLOAT16
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

TABLE = 64  # numbers of a table, and counters of a program
LAST = TABLE - 1
MIDDLE = 2048  # of arrays that pointers go along
ROOM = 2 * MIDDLE
MOST_BOUND = 1 << 12
MOST_LOOPS = 2  # around a statement
MOST_DEPTH = 4
INTERPRETED = 12  # programs, at most; the interpreter takes long for more
GRIDS = [(1,), (2,), (5,), (33,), (3, 2), (2, 2, 2)]
SHAPES = [(1, 16), (4, 16), (16, 16), (16, 16), (32, 32), (8, 64)]
KINDS = ["one", "row", "tile"]
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": BFLOAT16} | {
    name: np.dtype(name) for name in ("int8", "int16", "int32", "int64")
}


@dataclass(frozen=True)
class Thing:
    """A variable.

    Attributes:
        name: in the text.
        kind: one number, a row of a tile's columns, or a tile.
        of: "f" for float32, "i" for int32, "l" for int64, "b" for conditions, "p" for pointers.
        bound: the greatest size of numbers, which are whole.
    """

    name: str
    kind: str
    of: str
    bound: int = 0


@dataclass
class Flow(Text):
    """Draws the kernel."""

    rows: int = 4
    columns: int = 16
    things: list[Thing] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    loops: int = 0  # around what is drawn

    def recent(self, of: str, kind: str = "") -> Thing | None:
        found = [each for each in self.things if each.of in of and kind in ("", each.kind)]
        return self.pick(found[-4:]) if found else None

    def number_of(self, of: str = "il") -> str:
        """The name of an integer; there always is one."""
        found = self.recent(of, "one")
        assert found is not None
        return found.name

    def keep(self, text: str, kind: str, of: str, bound: int) -> Thing:
        """A new variable, cut to what stays exact."""
        if of == "f" and bound > MOST_BOUND:
            text, bound = f"tl.minimum(tl.maximum({text}, -64.0), 64.0)", 64
        if of in "il":
            text, bound = self.typed(text if bound <= MOST_BOUND else f"({text}) & {LAST}", of), min(bound, MOST_BOUND)
        thing = Thing(self.let(text), kind, of, bound)
        self.things.append(thing)
        return thing

    def typed(self, text: str, of: str) -> str:
        return f"({text}).to({'tl.int32' if of == 'i' else 'tl.int64'})"

    # ---- places

    def index(self, kind: str) -> str:
        """A place of a table for each element of a kind."""
        thing, one, row = self.recent("il", kind), self.number_of(), self.recent("il", "row")
        assert row is not None
        forms = {
            "one": [],
            "row": [f"((j + {one}) & {LAST})", f"(j & {LAST})", f"((j * {one}) & {LAST})"],
            "tile": [
                f"((i[:, None] * 8 + {row.name}[None, :]) & {LAST})",
                f"((i[:, None] + {one} + j[None, :]) & {LAST})",
            ],
        }[kind]
        found = [f"({thing.name} & {LAST})"] * 3 if thing else []
        return self.pick(found + forms)

    def mask(self, kind: str) -> str:
        """A condition on elements of a kind; perhaps there is none."""
        if kind == "one" or self.chance(2):
            return ""
        thing, one = self.recent("b", kind), self.number_of()
        if thing and self.chance(2):
            return thing.name
        return f"j < {one}" if kind == "row" else f"i[:, None] + j[None, :] < {one}"

    def masked(self, kind: str, others: list[str]) -> str:
        mask = self.mask(kind)
        return f", mask={mask}, other={self.pick(others)}" if mask else ""

    # ---- values

    def look(self) -> None:
        kind, table = self.pick(["one", "one", "row", "row", "tile"]), self.pick(["next", "next", "steps", "far"])
        text = f"tl.load({table} + {self.index(kind)}{self.masked(kind, ['0', '3'])})"
        self.keep(text, kind, "l" if table == "far" else "i", LAST)

    def load(self) -> None:
        kind = self.pick(["one", "row", "row", "tile"])
        places = [f"{self.pick(['x0', 'x1'])} + {self.index(kind)}"]
        if pointer := self.recent("p", kind):
            places.append(pointer.name)
        if pointer := self.recent("p", "one"):
            places.append(f"{pointer.name} + {self.index(kind)}")
        text = f"tl.load({self.pick(places)}{self.masked(kind, ['0', '1', '-1'])}).to(tl.float32)"
        self.keep(text, kind, "f", 8)

    def compute(self) -> None:
        of = self.pick(["f", "f", "il"])
        a, b = self.recent(of), self.recent(of)
        if a is None or b is None:
            return
        kind = max(a.kind, b.kind, key=KINDS.index)
        x, y = (f"{each.name}[None, :]" if (each.kind, kind) == ("row", "tile") else each.name for each in (a, b))
        sums, products, most = a.bound + b.bound, a.bound * b.bound, max(a.bound, b.bound)
        forms = [(f"{x} + {y}", sums), (f"{x} - {y}", sums), (f"{x} * {y}", products)]
        if of == "f":
            forms += [(f"tl.maximum({x}, {y})", most), (f"tl.where({x} > {y}, {x}, 1.0)", a.bound + 1)]
        else:
            forms += [(f"tl.minimum({x}, {y})", most), (f"{x} ^ {y}", 2 * MOST_BOUND)]
            forms += [(f"{x} // (({y} & 7) + 1)", a.bound), (f"{x} % (({y} & 3) + 1)", a.bound)]
        text, bound = self.pick(forms)
        self.keep(text, kind, "l" if "l" in (a.of, b.of) else a.of, bound)

    def compare(self) -> None:
        of, kind = self.pick(["f", "i"]), self.pick(KINDS)
        a, b, condition = self.recent(of, kind), self.recent(of, kind), self.recent("b", kind)
        if a is None or b is None:
            return
        forms = [f"{a.name} > {b.name}", f"{a.name} == {b.name}", f"{a.name} <= 2", f"{a.name} != 0"]
        if condition:
            forms += [f"({a.name} > 1) {form} {condition.name}" for form in "&|^"]
        self.keep(self.pick(forms), kind, "b", 1)

    def convert(self) -> None:
        if thing := self.recent("fib"):
            of = "i" if thing.of == "f" else "f"
            self.keep(f"{thing.name}.to({'tl.int32' if of == 'i' else 'tl.float32'})", thing.kind, of, thing.bound)

    def reduce(self) -> None:
        kind = self.pick(["row", "tile"])
        thing = self.recent("fi", kind)
        if thing is None:
            return
        smaller, sums = KINDS[KINDS.index(kind) - 1], thing.bound * max(self.rows, self.columns)
        forms = [("sum", smaller, thing.of, sums), ("max", smaller, thing.of, thing.bound)]
        if kind == "row":
            forms += [
                ("cumsum", kind, thing.of, sums),
                ("argmax", "one", "i", self.columns),
                ("argmin", "one", "i", self.columns),
            ]
        name, *rest = self.pick(forms)
        self.keep(f"tl.{name}({thing.name}, 0)", *rest)

    def product(self) -> None:
        a, b = self.recent("f", "tile"), self.recent("f", "tile")
        if a is not None and b is not None and self.rows == self.columns:
            cut = [f"tl.minimum(tl.maximum({each.name}, -4.0), 4.0).to(tl.float16)" for each in (a, b)]
            self.keep(f"tl.dot({', '.join(cut)})", "tile", "f", 16 * self.columns)

    def atomic(self) -> None:
        """What an atomic finds in the program's own counters, some of them more than once."""
        kind, form = self.pick(["one", "one", "row"]), self.pick(["add", "add", "max", "min", "xchg"])
        mask, value = self.mask(kind), self.pick(["1", "2"])
        value = f"j * 0 + {value}" if kind == "row" else value
        place = f"counts + p * {TABLE} + {self.index(kind)}"
        found = self.let(f"tl.atomic_{form}({place}, {value}{f', mask={mask}' if mask else ''})")
        self.keep(f"tl.where({mask}, {found}, 0) & {LAST}" if mask else f"{found} & {LAST}", kind, "i", LAST)

    def pointer(self) -> None:
        kind = self.pick(["one", "row"])
        text = f"{self.pick(['x0', 'x1'])} + {MIDDLE} + {self.index(kind)}"
        self.things.append(Thing(self.let(text, "q"), kind, "p"))

    def block(self) -> None:
        """A tile of a descriptor, or of a block pointer, that is made here."""
        base = f"{self.pick(['x0', 'x1'])} + ({self.number_of()} & 3) * {self.columns}"
        height = self.pick([str(self.rows), "3", f"({self.number_of('i')} & 7) + 1"])
        view = f"{base}, ({height}, {self.columns - self.number(3)}), ({self.columns}, 1)"
        down, along = self.pick(["0", "1", "-1", f"({self.number_of('i')} & 3)"]), self.pick(["0", "0", "2", "-3"])
        offsets = f"{down}, {along}"
        shape = f"({self.rows}, {self.columns})"
        if self.chance(2):
            made = self.let(f"tl.make_tensor_descriptor({view}, {shape})", "view")
            text = f"{made}.load([{offsets}])"
        else:
            made = self.let(f"tl.make_block_ptr({view}, ({offsets}), {shape}, (1, 0))", "view")
            if self.chance(2):
                made = self.let(f"tl.advance({made}, (({self.number_of('i')} & 1), 0))", "view")
            text = f"tl.load({made}, boundary_check=(0, 1), padding_option='zero')"
        self.keep(f"{text}.to(tl.float32)", "tile", "f", 8)

    def store(self, thing: Thing | None = None) -> None:
        thing = thing or self.recent("fil")
        assert thing is not None
        if len(self.stored) < 2 or (len(self.stored) < 4 and self.chance(2)):
            self.stored.append(self.pick(list(STORED)))
        name, mask = f"out{self.number(len(self.stored) - 1)}", self.mask(thing.kind)
        at = self.pick([f"({self.number_of()} & {LAST})", str(self.number(LAST))])
        place = {"one": "", "row": " + j", "tile": f" + i[:, None] * {self.columns} + j[None, :]"}[thing.kind]
        least, most = ("-64.0", "64.0") if thing.of == "f" else ("-64", "64")
        value = f"tl.minimum(tl.maximum({thing.name}, {least}), {most})"
        room = TABLE + self.rows * self.columns
        self.line(f"tl.store({name} + p * {room} + {at}{place}, {value}{f', mask={mask}' if mask else ''})")

    # ---- control flow

    def changed(self) -> list[Thing]:
        """Variables that a block changes."""
        return [each for each in self.things[-12:] if self.chance(3)]

    def change(self, thing: Thing) -> None:
        """A new value of a variable, of the same type and no greater."""
        # A loop before it in the same block may have made its bound, as it stands there, a greater one.
        like = [thing, *(each for each in self.things if replace(each, name=thing.name) == thing)]
        name, source = thing.name, self.recent(thing.of, thing.kind)
        assert source is not None
        if thing.of == "p":
            self.line(f"{name} {self.pick(['+=', '+=', '-='])} {self.index(self.pick(['one', thing.kind]))}")
        elif self.chance(4):
            other = self.pick(like).name
            self.line(f"{name}, {other} = {other}, {name}")
        elif thing.of == "f":
            bound = float(max(thing.bound, 1))
            value = f"{name} {self.pick('+-*')} {source.name}"
            self.line(f"{name} = tl.minimum(tl.maximum({value}, -{bound}), {bound})")
        elif thing.of == "b":
            self.line(f"{name} = {source.name} {self.pick('&|^')} {name}")
        elif thing.bound >= LAST:
            looked_up = f"tl.load({'next' if thing.of == 'i' else 'far'} + ({name} & {LAST}))"
            forms = [f"({name} + {source.name}) & {LAST}", f"({name} ^ {source.name}) & {LAST}", looked_up]
            self.line(f"{name} = {self.typed(self.pick(forms), thing.of)}")
        else:
            self.line(f"{name} = {self.pick(like).name}")

    def condition(self) -> str:
        one, other = self.number_of(), self.number_of()
        forms = [f"{one} > {other}", f"{one} % 2 == 0", f"tl.load(steps + ({one} & {LAST})) > 1"]
        if found := self.recent("b", "one"):
            forms += [found.name] * 2
        if found := self.recent("f", "one"):
            forms += [f"{found.name} > 1.0", f"{found.name} < 0.0"]
        return self.pick(forms)

    def inside(self, changed: list[Thing], count: int) -> None:
        """Statements of a block, whose own variables end with it."""
        kept = list(self.things)
        self.statements(count)
        for each in changed:
            self.change(each)
        self.things = kept

    def branch(self) -> None:
        for head in [f"if {self.condition()}:", "else:"][: self.pick([1, 2])]:
            with self.under(head):
                self.inside(self.changed(), self.between(1, 3))

    def leave(self) -> None:
        if self.depth == 1:
            with self.under(f"if {self.condition()}:"):
                if self.chance(2):
                    self.store()
                self.line("return")

    def loop(self) -> None:
        """As far as a number says, from one number of memory to another, along a list, or until a sum is large."""
        # What is carried may grow.
        self.things = [replace(each, bound=max(each.bound, LAST)) if each.of in "ilf" else each for each in self.things]
        changed, index, one = self.changed(), f"k{next(self.names)}", self.number_of()
        looked_up, more = f"tl.load(steps + ({one} & {LAST}))", ""
        hints = self.pick(["", "", ", num_stages=3", ", num_stages=1"])
        form = self.pick(["range", "range", "between", "static", "while", "list", "sum"])
        if form in ("while", "list", "sum"):
            self.line(f"{index} = p * 0")
            more = f"{index} += 1"
        match form:
            case "range":
                end = self.pick([looked_up, f"({one} & 3)", "trips"])
                head = f"for {index} in tl.range(0, {end}{hints}):"
            case "between":
                begin = self.let(f"tl.load(begins + (p & {LAST}))")
                head = f"for {index} in tl.range({begin}, tl.load(begins + (p & {LAST}) + 1){hints}):"
            case "static":
                head = f"for {index} in tl.static_range({self.number(3)}):"
            case "while":
                condition = self.pick([f"{looked_up} != 2", f"{one} != 7", self.condition()])
                head = f"while ({index} < {self.pick(['3', '5'])}) & ({condition}):"
            case "list":
                at = self.keep(f"{one} & {LAST}", "one", "i", LAST).name
                head = f"while ({at} != {self.number(7)}) & ({index} < 6):"
                more = f"{at} = tl.load(next + {at}); {more}"
            case _:
                total = self.let("0.0")
                head = f"while ({total} < 20.0) & ({index} < 5):"
                more = f"{total} += tl.sum(tl.abs(tl.load(x0 + {index} * 8 + j)).to(tl.float32), 0); {more}"
        with self.under(head):
            self.loops += 1
            kept = list(self.things)
            self.keep(f"{index} + p * 0", "one", "i", LAST)
            self.inside(changed, self.between(1, 4))
            self.things = kept
            self.line(more or "pass")
            self.loops -= 1

    def statements(self, count: int) -> None:
        made = [self.look, self.load, self.compute] * 3 + [self.reduce, self.product, self.store] * 2
        made += [self.compare, self.convert, self.atomic, self.pointer, self.block, self.leave]
        for _ in range(count):
            loops = [self.loop] * 5 if self.loops < MOST_LOOPS else []
            branches = [self.branch] * 4 if self.depth < MOST_DEPTH else []
            self.pick([*made, *loops, *branches])()

    def draw_all(self, axes: int) -> None:
        number = "tl.program_id(0)"
        for axis in range(1, axes):
            number = f"({number}) * tl.num_programs({axis}) + tl.program_id({axis})"
        self.line(f"p = {number}")
        self.line(f"i, j = tl.arange(0, {self.rows}), tl.arange(0, {self.columns})")
        for text, kind in ((f"p & {LAST}", "one"), (f"tl.load(next + (p & {LAST}))", "one"), (f"j & {LAST}", "row")):
            self.keep(text, kind, "i", LAST)
        self.pointer()
        self.load()
        self.statements(self.between(2, 5))
        self.loop()
        self.statements(self.between(0, 4))
        for each in [each for each in self.things if each.of in "fil"][-4:]:
            self.store(each)


def flow(between: Between, machines: Machines) -> TextCase:
    """A kernel whose control flow depends on what it loads, and its launch."""
    text = Flow(between)
    grid = text.pick(GRIDS)
    text.rows, text.columns = text.pick(SHAPES)
    text.draw_all(len(grid))
    programs, seed, trips = math.prod(grid), text.number(1 << 20), text.pick([0, 1, 2, 5])
    types = [text.pick([np.float32, np.float32, np.float16, np.int8]) for _ in range(2)]
    steps = text.pick([np.int32, np.int32, np.int8, np.int64])
    room = TABLE + text.rows * text.columns

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        outputs = {f"out{number}": np.zeros(programs * room, STORED[name]) for number, name in enumerate(text.stored)}
        return {
            **outputs,
            "counts": random.integers(0, 4, programs * TABLE).astype(np.int32),
            **{f"x{number}": integers(random, ROOM, dtype) for number, dtype in enumerate(types)},
            "next": random.integers(0, TABLE, TABLE).astype(np.int32),
            "far": random.integers(0, TABLE, TABLE),
            "steps": random.integers(0, 4, TABLE).astype(steps),
            "begins": np.cumsum(random.integers(0, 4, TABLE + 1)).astype(np.int32),
            "trips": trips,
        }

    head = f"def generated({', '.join(memory())}):"
    options = {"num_warps": text.pick([1, 1, 4]), "num_stages": text.pick([2, 2, 1, 3])}
    engines = ("native", "interpreter") if programs <= INTERPRETED else ("native",)
    return TextCase("\n".join([head, *text.lines]) + "\n", memory, grid, text.pick(machines), options, 0.0, "", engines)
