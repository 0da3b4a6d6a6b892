"""Kernels drawn at random on records, whose fields stand side by side as those of pairs, pixels and boxes do.

A program reads some fields of records of its own: of a tile, or of its rows or columns, which all of the tile shares.
The axes of a tile stand in any order in memory, and so do those of the records that are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import FLOAT16, FLOAT32, INT8, INT32
from tests.language.generated.texts import Between, Machines, Text, TextCase, Value, integers

PROGRAMS = [1, 2, 5, 50, 130]
READ = 8  # the greatest integer that is read
# Sums over an axis of a tile of a kind, and the kind of what they are.
REDUCED = {("tile", 0): "column", ("tile", 1): "row"}


@dataclass
class Records(Text):
    """Draws the kernel.

    Attributes:
        arrays: by the name of an array that is read, its type and how many elements it has.
        outputs: by the name of an array that is written, how many elements it has.
        values: the variables that are there.
    """

    rows: int = 1
    columns: int = 1
    programs: int = 1
    arrays: dict[str, tuple[np.dtype, int]] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)

    def axes(self, kind: str) -> list[tuple[str, int]]:
        """The axes of a kind of shape: positions along each, and how many there are."""
        both = kind == "tile"
        found = [("i[:, None]" if both else "i", self.rows)] * (kind != "column")
        return found + [("j[None, :]" if both else "j", self.columns)] * (kind != "row")

    def places(self, kind: str, fields: int, trips: int = 0) -> tuple[str, int, int]:
        """Where records of a program begin, the step between their fields, and how many elements they are."""
        parts: list[tuple[str, int]] = self.axes(kind)
        if len(parts) == 2 and self.chance(3):
            parts.reverse()
        # Fields are side by side, or those of a row of records follow one another.
        parts.insert(self.pick([len(parts)] * 4 + [0, len(parts) - 1]), ("field", fields))
        texts, step, size = list[str](), 1, 1
        for text, count in reversed(parts):
            if text == "field":
                step = size
            else:
                texts.append(f"{text} * {size}")
            size *= count
        program = f"(p * {trips} + k)" if trips else "p"
        return f"{program} * {size} + {' + '.join(texts)}", step, size * max(trips, 1)

    def mask(self, kind: str) -> str:
        """A condition on one of the axes; perhaps there is none."""
        ends = {"i": "m", "j": "n"}
        return self.pick(["", "", "", "", *(f"{text} < {ends[text[0]]}" for text, _ in self.axes(kind))])

    def read(self, trips: int = 0) -> None:
        """Some fields of records."""
        kind, fields = self.pick(["tile", "tile", "row", "column"]), self.pick([1, 2, 2, 3, 4])
        place, step, size = self.places(kind, fields, trips)
        name = f"x{len(self.arrays)}"
        self.arrays[name] = self.pick([FLOAT32, FLOAT32, FLOAT16, INT8, INT32]), size * self.programs
        mask = self.mask(kind)
        guard = f", mask={mask}, other={self.pick([0, 3])}" if mask else ""
        for each in sorted({self.number(fields - 1) for _ in range(fields)}):
            loaded = self.let(f"tl.load({name} + {place} + {each * step}{guard})")
            self.values.append(self.value(kind, f"{loaded}.to(tl.float32)", READ))

    def known(self, *kinds: str) -> Value | None:
        """A variable of one of these kinds, which is seldom asked for again."""
        found = [each for each in self.values if each.kind in kinds]
        chosen = self.pick(found) if found else None
        if chosen and len(found) > 1 and not self.chance(4):
            self.values.remove(chosen)
        return chosen

    def anything(self) -> Value:
        """Any variable: there always is one."""
        chosen = self.known("tile", "row", "column")
        assert chosen is not None
        return chosen

    def compute(self, trips: int = 0) -> None:
        """A new variable, from records or from others."""
        form = self.pick(["read", "two", "two", "two", "two", "reduce", "scan", "turn"])
        if form == "two":
            self.values.append(self.combined(self.anything(), self.anything()))
            return
        tile = None if form == "read" else self.known("tile")
        if tile is None or (form == "turn" and self.rows != self.columns):
            self.read(trips)
            return
        axis = self.number(1)
        count = (self.rows, self.columns)[axis]
        if form == "reduce":
            name = self.pick(["sum", "max", "min", "argmax"])
            bound = {"sum": tile.bound * count, "argmax": count}.get(name, tile.bound)
            text = f"tl.{name}({tile.name}, {axis})" + (".to(tl.float32)" if name == "argmax" else "")
            self.values.append(self.value(REDUCED["tile", axis], text, bound))
        elif form == "scan":
            self.values.append(self.value("tile", f"tl.cumsum({tile.name}, {axis})", tile.bound * count))
        else:
            self.values.append(self.value("tile", f"tl.trans({tile.name})", tile.bound))

    def combined(self, one: Value, other: Value) -> Value:
        """An element-wise expression of two variables, of which those of rows and columns are broadcast."""
        kind = one.kind if one.kind == other.kind else "tile"
        x, y = self.spread(one, kind), self.spread(other, kind)
        forms = [(f"{x} + {y}", one.bound + other.bound), (f"{x} - {y}", one.bound + other.bound)]
        forms += [(f"{x} * {y}", one.bound * other.bound), (f"tl.maximum({x}, {y})", max(one.bound, other.bound))]
        return self.value(kind, *self.pick(forms))

    def spread(self, value: Value, kind: str) -> str:
        """The text of a variable in the shape of a kind."""
        if value.kind == kind:
            return value.name
        return f"{value.name}{'[:, None]' if value.kind == 'row' else '[None, :]'}"

    def loop(self) -> None:
        """Goes over records, and adds up what is made of them."""
        before = self.anything()
        trips, total = self.pick([1, 2, 3]), self.let(f"{before.name} * 1.0", "total")
        outside = [*self.values]
        with self.under(f"for k in range({trips}):"):
            for _ in range(1 + self.number(3)):
                self.compute(trips)
            added = self.known(before.kind) or before
            self.line(f"{total} = tl.minimum(tl.maximum({total} + {added.name}, -64.0), 64.0)")
        self.values = [*outside, Value(total, before.kind, 64)]

    def write(self) -> None:
        """Records whose fields are variables of a kind, in any order."""
        first = self.anything()
        fields = self.pick([1, 1, 2, 3])
        place, step, size = self.places(first.kind, fields)
        name, mask = f"out{len(self.outputs)}", self.mask(first.kind)
        self.outputs[name] = size * self.programs
        for each in self.pick([range(fields), reversed(range(fields))]):
            value = self.known(first.kind) or first
            self.line(f"tl.store({name} + {place} + {each * step}, {value.name}{f', mask={mask}' if mask else ''})")

    def draw_all(self) -> None:
        self.line("p = tl.program_id(0)")
        self.line(f"i, j = tl.arange(0, {self.rows}), tl.arange(0, {self.columns})")
        self.read()
        for _ in range(self.number(5)):
            self.compute()
        if self.chance(4):
            self.loop()
        for _ in range(1 + self.number(2)):
            self.write()


def record_kernel(between: Between, machines: Machines) -> TextCase:
    """A kernel and its launch."""
    records = Records(between)
    records.rows, records.columns = records.pick([1, 2, 2, 4, 8, 16]), records.pick([2, 8, 16, 32])
    records.programs = records.pick(PROGRAMS)
    records.draw_all()
    ends = {"m": 1 + records.number(records.rows), "n": 1 + records.number(records.columns)}
    names = ", ".join([*records.outputs, *records.arrays, *ends])
    text = f"@mlu.jit\ndef generated({names}):\n" + "\n".join(records.lines) + "\n"
    seed = records.number(1 << 20)

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        outputs = {name: np.full(size, 77, FLOAT32) for name, size in records.outputs.items()}
        arrays = {name: integers(random, size, dtype, READ) for name, (dtype, size) in records.arrays.items()}
        return {**outputs, **arrays, **ends}

    options = records.pick([{}, {}, {}, {"num_stages": 1}, {"num_warps": 4}])
    return TextCase(text, memory, (records.programs,), records.pick(machines), options)
