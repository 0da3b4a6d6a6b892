"""Kernels drawn at random that walk along rows in loops: norms, softmaxes and scans that nobody wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32
from tests.language.generated.texts import Between, Machines, Text, TextCase, Value, integers

PAGE = 16  # elements of a place that a table names
STORED = [FLOAT32, FLOAT32, FLOAT32, FLOAT16, BFLOAT16, np.dtype(np.int8), np.dtype(ml_dtypes.float8_e5m2)]
GRIDS = [(1,), (2,), (7,), (13,), (3, 5), (1, 20), (4, 3), (50,), (97,)]


@dataclass
class Walk(Text):
    """Draws the kernel; programs have rows of their own, each walks along its rows block by block."""

    grid: tuple[int, ...] = (1,)
    height: int | None = None  # rows of a program; None where its tiles are vectors
    block: int = 16
    columns: int = 16
    stride: int = 16
    shift: int = 0  # elements between the places that are read and those that are written, where they are in one array
    aliased: bool = False
    is_ragged: bool = False  # the grid has more rows than there are
    types: dict[str, np.dtype] = field(default_factory=dict)
    outs: int = 0
    totals: int = 0
    values: list[Value] = field(default_factory=list)
    distances: list[str] = field(default_factory=list)  # small numbers that change from one iteration to the next

    @property
    def rows(self) -> int:
        return int(np.prod(self.grid)) * (self.height or 1)

    # ---- shapes

    def spread(self, value: Value) -> str:
        """A value in the shape of tiles."""
        return f"{value.name}[:, None]" if value.kind == "row" and self.height else value.name

    def of(self, kind: str) -> list[Value]:
        return [each for each in self.values if each.kind == kind]

    def place(self, row: str, column: str) -> str:
        if not self.height:
            return f"{row} * stride + {column}"
        return f"{row}[:, None] * stride + {column}[None, :]"

    def recent(self, values: list[Value]) -> Value:
        """One of the last that were made, for these are not used yet."""
        return self.pick(values[-4:])

    def mask(self, condition: str) -> str:
        """A mask of tiles from one of columns; perhaps the last rows are left out too."""
        if not self.is_ragged:
            return f"({condition})[None, :]" if self.height else condition
        return f"(row[:, None] < last) & ({condition})[None, :]" if self.height else f"(row < last) & ({condition})"

    def add(self, value: Value) -> Value:
        self.values.append(value)
        return value

    # ---- statements

    def load(self, column: str, inside: str) -> None:
        """A tile of what programs read."""
        other = self.pick(["0.0", "1.0", "-8.0"])
        choice = self.pick(["x", "x", "x", "y", "weights", "found", "near", "page", "uneven"])
        if choice == "found" and self.aliased:
            choice = "y"
        name, row, at = {"near": "x", "found": "y", "uneven": "y", "page": "pages"}.get(choice, choice), "row", column
        if choice == "near":
            at = self.let(f"{column} + {self.pick(['1', '2', '-1', 'far', *self.distances])}", "c")
            inside = f"({inside}) & ({at} < columns) & ({at} >= 0)"
        if choice == "found":
            rows = [
                "tl.load(ids + row)",
                "(row * 7 + 3) % ROWS",
                "tl.load(ids + row // 2)",
                "row // 2",
                "(row ^ 1) % ROWS",
            ]
            rows += [
                "tl.minimum(row, 3)",
                "row * row % ROWS",
                "(row + far) % ROWS",
                "tl.load(ids + (row + far) % ROWS)",
            ]
            row = self.let(self.pick(rows), "r")
        if choice == "uneven":  # rows at a distance that is none of the array's
            distance = self.pick([*self.distances, "far", "first % 5", "pitch", "pitch"])
            place = f"row[:, None] * ({distance}) + {at}[None, :]" if self.height else f"row * ({distance}) + {at}"
            if self.height and distance == "pitch":
                begin, down = f"program * {self.height} * stride", f"tl.arange(0, {self.height})[:, None] * pitch"
                place = f"{begin} + {down} + {at}[None, :]"
            text = f"tl.load(y + {place}, mask={self.mask(inside)}, other={other})"
        elif choice == "page" and not self.height:
            place = self.let(f"tl.load(table + row * 8 + ({column} // {PAGE}) % 8) * {PAGE} + {column} % {PAGE}", "q")
            text = f"tl.load(pages + {place}, mask={inside}, other={other})"
        elif choice in ("weights", "page"):
            name = "weights"
            at, inside = (f"{column}[None, :]", f"({inside})[None, :]") if self.height else (column, inside)
            text = f"tl.load(weights + {at}, mask={inside}, other={other})"
            if self.height:
                text = f"tl.broadcast_to({text}, ({self.height}, {self.block}))"
        else:
            text = f"tl.load({name} + {self.place(row, at)}, mask={self.mask(inside)}, other={other})"
        if self.types[name] != FLOAT32:
            text = f"{text}.to(tl.float32)"
        self.add(self.value("tile", text, 8))

    def compute(self) -> None:
        tiles = self.of("tile")
        if not tiles:
            return
        a, b = self.recent(tiles), self.recent([*tiles, *self.of("row")])
        self.add(self.computed("tile", a, b, self.spread))

    def reduce(self) -> None:
        tiles = self.of("tile")
        if not tiles:
            return
        of, axis = self.recent(tiles), 1 if self.height else 0
        name = self.pick(["sum", "sum", "max", "min", "argmax"] if self.exact else ["sum", "max", "min"])
        if name == "argmax":
            self.add(self.value("row", f"tl.argmax({of.name}, {axis}).to(tl.float32)", self.block))
            return
        bound = of.bound * (self.block if name == "sum" else 1)
        self.add(self.value("row", f"tl.{name}({of.name}, {axis})", bound))

    def scan(self) -> None:
        tiles = self.of("tile")
        if tiles:
            of = self.recent(tiles)
            self.add(self.value("tile", f"tl.cumsum({of.name}, {int(bool(self.height))})", of.bound * self.block))

    def rows_arithmetic(self) -> None:
        rows = self.of("row")
        if rows:
            self.add(self.computed("row", self.recent(rows), self.recent(rows), lambda each: each.name))

    def scalar(self) -> None:
        """A number of the row."""
        at = self.pick(["row", "row", "(row * 5 + 1) % ROWS", "row // 3"])
        self.add(self.value("row", f"tl.load(scales + {at})", 8))

    def store(self, column: str, inside: str) -> None:
        tiles = self.of("tile")
        if not tiles:
            return
        if self.aliased and self.chance(2):
            name = "shared"
        else:
            name = f"out{self.pick(range(self.outs + 1)) if self.outs < 2 else self.number(1)}"
            self.outs = max(self.outs, int(name[3:]) + 1)
        stored = self.recent(tiles)
        if name == "shared" or self.types[name] != FLOAT32:
            stored = self.value("tile", f"tl.minimum(tl.maximum({stored.name}, -8.0), 8.0)", 8)
        self.line(f"tl.store({name} + {self.place('row', column)}, {stored.name}, mask={self.mask(inside)})")

    def total(self, at: str) -> None:
        rows = self.of("row")
        if not rows:
            return
        name = f"total{self.totals}"
        self.totals += 1
        self.line(f"tl.store({name} + row * 16 + {at}, {self.recent(rows).name})")

    # ---- loops

    def header(self) -> tuple[str, str, str, str]:
        """A loop over blocks of columns: its head, its first and each block's first column, and where columns end."""
        stages = self.pick(["", "", "", ", num_stages=1", ", num_stages=3", ", num_stages=4"])
        end = self.pick(["columns"] * 5 + ["length"] * 2 + ["COLUMNS", "0", "first"])
        begin = self.pick(["0"] * 5 + ["first", "BLOCK"])
        match self.pick(["step", "step", "step", "index", "back", "while"]):
            case "step":
                return f"for k in tl.range({begin}, {end}, BLOCK{stages}):", begin, "k", end
            case "index":
                return f"for k in tl.range(0, tl.cdiv({end}, BLOCK){stages}):", "0", "k * BLOCK", end
            case "back":
                return f"for k in tl.range(tl.cdiv({end}, BLOCK) - 1, -1, -1{stages}):", "", "k * BLOCK", end
            case _:
                return f"while k < {end}:", "", "k", end

    def loop(self, most: int) -> None:
        head, begin, first, end = self.header()
        if head.startswith("while"):
            self.line("k = first * 0")
        tile = f"({self.height}, {self.block})" if self.height else f"({self.block},)"
        sums: list[Value] = []
        for _ in range(self.pick([1, 1, 2, 2, 3, 0])):
            if self.chance(3):
                sums.append(Value(self.let(f"tl.zeros({tile}, tl.float32)", "sum"), "tile", 8))
            elif self.of("row") and self.chance(3):
                sums.append(Value(self.let(self.pick(self.of("row")).name, "sum"), "row", GREATEST_SUM))
            else:
                shape = f"tl.full(({self.height},), 0.0, tl.float32)" if self.height else "0.0"
                sums.append(Value(self.let(shape, "sum"), "row", 8))
        outside = list(self.values)
        moved = bool(begin) and self.chance(4)
        if moved:
            self.line(f"moving = x + {self.place('row', self.let('tl.arange(0, BLOCK)', 'c'))} + {begin}")
        away = self.let("0", "away") if self.chance(3) else ""
        outer = self.distances
        with self.under(head):
            self.distances = [*outer, *([away, away] if away else []), "k % 3"]
            column = self.let(f"{first} + tl.arange(0, BLOCK)", "c")
            inside = f"{column} < {end}" if end != "0" else f"{column} < columns"
            if end in ("first",):
                inside = f"({inside}) & ({column} < columns)"
            self.values += [Value(each.name, each.kind, GREATEST_SUM) for each in sums if self.chance(3)]
            if moved:
                text = f"tl.load(moving, mask={self.mask(inside)}, other=0.0)"
                self.add(self.value("tile", text if self.types["x"] == FLOAT32 else f"{text}.to(tl.float32)", 8))
                self.line("moving += BLOCK")
            else:
                self.load(column, inside)
            self.body(column, inside, most)
            for each in sums:
                self.gather_up(each)
            if away:
                more = self.pick(["1", "2", "far", "k % 3", f"{away} + 1", "tl.load(lengths + k % 7) % 2"])
                self.line(f"{away} = ({away} + {more}) % 7")
            if head.startswith("while"):
                self.line("k += BLOCK")
        self.distances = [*outer, away] if away else outer
        self.values = outside
        self.values += [Value(each.name, each.kind, GREATEST_SUM) for each in sums]

    def straight(self) -> None:
        """One block of a row, without a loop."""
        column = self.let("tl.arange(0, BLOCK)", "c")
        self.line("k = 0")
        self.distances = ["program % 3", "program // 2 % 4", "(program ^ 1) % 5"]
        inside = f"{column} < {self.pick(['columns', 'length', 'first'])}"
        inside = f"({inside}) & ({column} < columns)"
        for _ in range(1 + self.number(2)):
            self.load(column, inside)
        self.body(column, inside, 6)
        self.store(column, inside)

    def gather_up(self, total: Value) -> None:
        """What an iteration adds to what the loop carries."""
        made = self.of(total.kind)
        made = [each for each in made if each.name != total.name and each.bound < 1 << 14]
        if not made:
            return
        each = self.recent(made).name
        form = self.pick(["+", "+", "+", "max", "min", "scaled"])
        if form == "+":
            self.line(f"{total.name} += {each}")
        elif form == "scaled":
            self.line(f"{total.name} = tl.minimum(tl.maximum({total.name} * 2.0 - {each}, -999.0), 999.0)")
        else:
            self.line(f"{total.name} = tl.{form}imum({total.name}, {each})")

    def body(self, column: str, inside: str, most: int) -> None:
        for _ in range(1 + self.number(most)):
            made = self.pick(
                [self.compute] * 4
                + [self.reduce, self.reduce, self.rows_arithmetic, self.scalar, self.scan]
                + ["load", "load", "store", "store", "branch", "inner"]
            )
            match made:
                case "load":
                    self.load(column, inside)
                case "store":
                    self.store(column, inside)
                case "branch":
                    kept = list(self.values)
                    condition = self.pick(["k % 32 == 0", "k > 20", "flag > 0", "length > k", "first < 1"])
                    with self.under(f"if {condition}:"):
                        self.compute()
                        self.store(column, inside)
                    self.values = kept
                case "inner":
                    kept = list(self.values)
                    if self.of("tile"):
                        carried = self.let(f"{self.pick(self.of('tile')).name} * 1.0", "sum")
                        with self.under(
                            f"for j in range({self.pick(['3', 'flag', 'flag + 1', '0', '1', 'k // BLOCK', 'far'])}):"
                        ):
                            around = self.distances
                            self.distances = [*around, "j", "j"]
                            if self.chance(2):
                                self.load(column, inside)
                            self.compute()
                            self.distances = around
                            new = self.of("tile")[-1].name
                            self.line(f"{carried} = tl.minimum(tl.maximum({carried} + {new}, -64.0), 64.0)")
                        self.values = [*kept, Value(carried, "tile", 64)]
                case _:
                    made()
        if self.chance(4) and self.totals < 4:
            self.total("(k % 16)")
        elif self.chance(2):
            self.store(column, inside)

    def scalar_loop(self) -> None:
        """A loop that finds out how far away something lies."""
        head = self.pick(
            ["for s in range(flag):", "for s in range(3):", "for s in range(first % 4, 9, 2):", "while far < flag:"]
        )
        with self.under(head):
            self.line("far += 1")
            if self.chance(2):
                self.line(f"far += tl.load(lengths + {self.pick(['far', 'program'])}) % 2")
        self.line(self.pick(["far = far % 3", "far = tl.minimum(far, 2)"]))

    # ---- the whole

    def draw_all(self) -> None:
        names = ["tl.program_id(0)"]
        if len(self.grid) == 2:
            names = ["tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)"] * 2
            names += ["tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)"]
        else:
            names += ["tl.program_id(0)"] * 3 + ["tl.num_programs(0) - 1 - tl.program_id(0)"]
        self.line(f"program = {self.pick(names)}")
        self.line(f"row = program * {self.height} + tl.arange(0, {self.height})" if self.height else "row = program")
        self.line(f"length = {self.pick(['columns', 'columns', 'tl.load(lengths + program)', 'columns - 3'])}")
        with self.under("if flag > 1:"):
            self.line("pitch = tl.load(pitches)")
        with self.under("else:"):
            self.line("pitch = stride")
        self.line("far = 0")
        if self.chance(4):
            self.scalar_loop()
        if self.chance(10):
            with self.under(f"if {self.pick(['program % 3 == 1', 'length < 5', 'flag > 5', 'program >= LIMIT'])}:"):
                self.line("return")
        if self.chance(3):
            self.scalar()
        if self.chance(4):
            self.line("c = tl.arange(0, BLOCK)")
            self.load("c", "c < columns")
            self.compute()
        is_straight = self.chance(4)
        if is_straight:
            self.straight()
        for _ in range(0 if is_straight else 1 + self.number(2)):
            if self.chance(4):
                with self.under(f"for h in range({self.pick(['flag', '2', 'far + 1'])}):"):
                    kept, around = list(self.values), self.distances
                    self.distances = [*around, "h", "h"]
                    self.loop(3)
                    self.total("h")
                    self.values, self.distances = kept, around
            else:
                self.loop(5)
            for _ in range(self.number(2)):
                self.pick([self.reduce, self.compute, self.rows_arithmetic, self.reduce])()
        if self.of("tile") and self.chance(2):
            column = self.let("tl.arange(0, BLOCK)", "c")
            self.store(column, f"{column} < columns")
        carried = [each for each in self.of("row") if each.name.startswith("sum")][:4]
        for k, each in enumerate(carried):
            self.line(f"tl.store(total{self.totals + k} + row * 16, {each.name})")
        self.totals += len(carried)
        if not carried:
            self.total("15")
        if not self.outs and not self.totals:
            self.line("tl.store(total0 + program * 16, 1.0)")
            self.totals = 1


GREATEST_SUM = 1 << 18  # bound of what a loop carries


def walk(between: Between, machines: Machines, grids: list[tuple[int, ...]] = GRIDS) -> TextCase:
    """Kernels that walk along rows."""
    text = Walk(between)
    text.exact = not text.chance(4)
    text.grid = text.pick(grids)
    text.height = text.pick([None, None, None, 1, 2, 4, 8])
    # Long ones are shared by the cores of a cluster, and are loaded and stored one by one.
    is_long = text.chance(6) and int(np.prod(text.grid)) < 30
    text.block = text.pick([2048, 4096] if is_long else [16, 16, 32, 64, 128])
    most = 5 if np.prod(text.grid) < 100 else 3
    text.columns = text.pick([text.block * text.between(1, most), text.between(1, text.block * most)])
    text.shift = text.pick([0, 0, 0, 1, 5, text.block])
    text.stride = text.columns + text.shift + text.pick([0, 0, 0, 1, 3, 16])
    text.aliased = text.chance(4)
    text.is_ragged = text.chance(4)
    text.types = {name: text.pick(STORED) for name in ("x", "y", "weights", "pages")}
    text.types |= {f"out{k}": text.pick([FLOAT32, FLOAT32, FLOAT16, BFLOAT16]) for k in range(3)}
    text.draw_all()
    names = [f"out{k}" for k in range(text.outs)] + [f"total{k}" for k in range(text.totals)]
    names += ["shared"] if text.aliased else []
    scalars = {
        "columns": text.columns,
        "stride": text.stride,
        "first": text.pick([0, 1, 16, 1000]),
        "flag": text.pick([0, 1, 2]),
    }
    scalars["last"] = text.rows - text.pick([0, 1, text.height or 1]) * text.is_ragged
    constants = {"BLOCK": text.block, "COLUMNS": text.columns, "ROWS": text.rows, "LIMIT": text.pick([0, 3, 40])}
    read = ["x", "y", "weights", "pages", "table", "scales", "ids", "lengths", "pitches"]
    types, rows, stride, columns, shift = text.types, text.rows, text.stride, text.columns, text.shift
    pitch = text.pick([stride, 3, stride // 2])
    programs, wide, index = int(np.prod(text.grid)), text.block, text.pick([np.int32, np.int64])

    def memory() -> dict[str, object]:
        random = np.random.default_rng(1)
        base = integers(random, rows * stride + shift + wide, types["x"])
        made: dict[str, object] = {}
        for name in names:
            if name == "shared":
                made[name] = base[shift:]
            elif name.startswith("out"):
                made[name] = np.zeros(rows * stride + wide, types[name])
            else:
                made[name] = np.zeros(rows * 16, np.float32)
        made |= {
            "x": base,
            "y": integers(random, rows * max(stride, 7) + columns + 2 * wide, types["y"]),
            "weights": integers(random, columns + wide, types["weights"]),
            "pages": integers(random, 32 * PAGE, types["pages"]),
            "table": random.integers(0, 32, rows * 8).astype(np.int32),
            "scales": integers(random, rows, np.float32),
            "ids": random.permutation(rows).astype(index),
            "lengths": random.integers(0, columns + 1, programs + 32).astype(np.int32),
            "pitches": np.array([pitch], np.int32),
        }
        return made | scalars | constants

    arguments = [*names, *read, *scalars, *(f"{name}: tl.constexpr" for name in constants)]
    lines = [f"def generated({', '.join(arguments)}):", *text.lines]
    options = {"num_warps": text.pick([1, 1, 1, 4]), "num_stages": text.pick([2, 2, 1, 3, 4, 5])}
    return TextCase(
        "\n".join(lines) + "\n", memory, text.grid, text.pick(machines), options, 0.0 if text.exact else 1e-3
    )
