"""Kernels drawn at random whose accesses meet in memory: what is stored is loaded again, and stored over.

Each program has a stretch of memory of its own, which it sees through one array or several that share their bytes. All
that it does there happens in the order of the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import FLOAT16, FLOAT32, INT8, INT32, INT64
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

SIZES = [16, 32, 64, 64, 128, 256, 512, 1024, 2048]
GRIDS = [(1,), (1,), (2,), (7,), (40,), (3, 2)]
KINDS = [INT32, INT32, FLOAT32, FLOAT16, INT8, INT64, np.dtype(np.int16)]
STRIDES = [[1], [1, 1, 2], [2], [2, 3], [1, -1], [1, 2, -2, 3, 4]]
MOST_LOOPS = 2
MOST_TRIPS = 8


@dataclass
class Meetings(Text):
    """Draws the kernel.

    Attributes:
        size: elements of a tile.
        columns: of its rows; 0 of vectors.
        indices: of the loops that are open.
        tiles: names of tiles.
    """

    kind: np.dtype = INT32
    size: int = 64
    columns: int = 0
    arrays: list[str] = field(default_factory=list)
    strides: list[int] = field(default_factory=lambda: [1])
    offsets: list[int] = field(default_factory=lambda: [0])
    indices: list[str] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)

    @property
    def reach(self) -> int:
        """Elements of a program's stretch, at least."""
        return 6 * self.size + MOST_LOOPS * MOST_TRIPS * MOST_TRIPS + 64

    # ---- places

    def offset(self) -> str:
        """What all elements of a tile are moved by."""
        text = str(self.pick(self.offsets))
        if self.indices and not self.chance(3):
            text += f" + {self.pick(self.indices)} * {self.pick([1, 1, 2, 3, 4, 8])}"
        return text + self.pick([""] * 8 + [" + s", " + p % 2"])

    def place(self) -> str:
        base, step, offset = f"at_{self.pick(self.arrays)}", self.pick(self.strides), self.offset()
        if not self.columns:
            lane = f"({self.size - 1} - i)" if step < 0 else "i"
            return f"{base} + {lane} * {abs(step)} + {offset}"
        rows, step = self.size // self.columns, max(-2, min(2, step))
        if step < 0:
            return f"{base} + i * {self.columns} + ({self.columns - 1} - j) * {-step} + {offset}"
        if self.chance(5):
            return f"{base} + j * {rows} + i + {offset}"
        pitch = self.columns + self.pick([0, 0, 0, 1, 3, self.columns])
        return f"{base} + i * {pitch} + j * {step} + {offset}"

    def mask(self) -> str:
        if not self.chance(3):
            return ""
        if self.columns:
            forms = [f"i < n // {self.columns}", f"j < {self.columns - 1}", "i < 0"]
            return self.pick([*forms, f"(i < n // {self.columns}) & (j > 0)"])
        return self.pick(
            ["i < n", "i < n", "i >= 3", "(i >= 2) & (i < n)", "i < 0", "i % 3 == 1", f"i < {self.size - 1}"]
        )

    # ---- statements

    def cut(self, text: str) -> str:
        """An expression within what every type holds."""
        # Sums of two fit 8 bits: up to Triton 3.8, a minimum with a number is one of 32, and does not wrap around.
        return f"tl.minimum(tl.maximum({text}, -60), 60)"

    def tile(self) -> str:
        """One of the last tiles; loads one if there is none."""
        if not self.tiles:
            self.load()
        return self.pick(self.tiles[-3:])

    def load(self) -> None:
        mask = self.mask()
        rest = f", mask={mask}, other={self.pick(['0', '5'])}" if mask else ""
        self.tiles.append(self.let(f"tl.load({self.place()}{rest})"))

    def look_up(self) -> None:
        if self.columns:
            self.load()
            return
        place = f"at_{self.pick(self.arrays)} + tl.load(ids + i) + {self.pick(self.offsets)}"
        if self.chance(2):
            self.tiles.append(self.let(f"tl.load({place})"))
        else:
            self.line(f"tl.store({place}, {self.tile()})")

    def compute(self) -> None:
        a, b = self.tile(), self.tile()
        forms = [f"{a} + {b}", f"{a} - {b}", f"{a} * 2", f"{a} + 1", f"tl.where({a} > {b}, {a}, 3)"]
        self.tiles.append(self.let(self.cut(self.pick(forms))))

    def store(self) -> None:
        tile, mask = self.tile(), self.mask()
        self.line(f"tl.store({self.place()}, {tile}{f', mask={mask}' if mask else ''})")

    def weave(self) -> None:
        """Accesses to every second or third element one after the other, some of which overlap."""
        step, base = self.pick([2, 2, 3]), f"at_{self.pick(self.arrays)}"
        lane = f"(i * {self.columns} + j)" if self.columns else "i"
        tiles = [self.tile() for _ in range(self.between(step, step + 2))]
        for tile in tiles:
            place = f"{base} + {lane} * {step} + {self.pick([*range(step), step, 's'])}"
            if self.chance(5):
                self.tiles.append(self.let(f"tl.load({place})"))
            else:
                self.line(f"tl.store({place}, {tile})")

    def scalar(self) -> None:
        place = f"at_{self.pick(self.arrays)} + {self.offset()}"
        match self.pick(["store", "load", "load", "add"]):
            case "store":
                self.line(f"tl.store({place}, {self.pick(['7', 'p', 'n', 's'])})")
            case "add" if self.kind in (INT32, INT64):
                self.line(f"tl.atomic_add({place}, 1)")
            case _:
                number = self.let(f"tl.load({place})", "number")
                self.tiles.append(self.let(self.cut(f"{self.tile()} + {number}")))

    def loop(self) -> None:
        index = f"k{next(self.names)}"
        stages = self.pick([1, 2, 3])
        ranges = ["range(trips)", "range(4)", "range(1, trips)", "tl.static_range(3)"]
        ranges.append(f"tl.range(0, trips, num_stages={stages})")
        kept, total = list(self.tiles), ""
        if self.chance(2):
            total = self.let(f"({self.tile()} + 0).to(a.dtype.element_ty)", "total")
            kept = [*self.tiles, total]
        with self.under(f"for {index} in {self.pick(ranges)}:"):
            self.indices.append(index)
            self.tiles = list(kept)
            self.statements(self.between(1, 5))
            if total:
                self.line(f"{total} = {self.cut(f'{total} + {self.tile()}')}.to(a.dtype.element_ty)")
            self.indices.pop()
        self.tiles = kept

    def branch(self) -> None:
        kept = list(self.tiles)
        with self.under(f"if {self.pick(['n > 9', 'p % 2 == 0', 's > 0'])}:"):
            self.statements(self.between(1, 3))
        self.tiles = kept

    def statements(self, count: int) -> None:
        for _ in range(count):
            made = (
                [self.load] * 6
                + [self.compute] * 4
                + [self.store] * 5
                + [self.look_up, self.look_up, self.scalar, self.weave]
            )
            if self.depth <= MOST_LOOPS:
                made += [self.loop, self.loop, self.branch]
            self.pick(made)()

    def draw_all(self) -> None:
        self.line("p = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)")
        if self.columns:
            self.line(f"i = tl.arange(0, {self.size // self.columns})[:, None]")
            self.line(f"j = tl.arange(0, {self.columns})[None, :]")
        else:
            self.line(f"i = tl.arange(0, {self.size})")
        for name in self.arrays:
            self.line(f"at_{name} = {name} + p * STRETCH")
        self.statements(self.between(4, 14))
        self.store()


def meeting_kernel(between: Between, machines: Machines, sizes: Sequence[int] = SIZES) -> TextCase:
    """A kernel on tensors of one of these sizes, and its launch."""
    drawn = Meetings(between)
    drawn.kind = drawn.pick(KINDS)
    drawn.size = drawn.pick(sizes)
    drawn.columns = drawn.pick([0, 0, 4, 8, 16])
    drawn.arrays = ["a", "b", "c"][: drawn.pick([1, 1, 2, 3])]
    drawn.strides = drawn.pick(STRIDES)
    size = drawn.size
    drawn.offsets = drawn.pick(
        [[0, 1, 2, 3], [0, 1], [0, 2, 1, 4], [0, size, 2 * size], [0, size // 2, size], [0, 7, 8]]
    )
    drawn.draw_all()
    grid = drawn.pick(GRIDS)
    shift = drawn.pick([0, 1, 3, 16, size]) if len(drawn.arrays) > 1 and drawn.chance(2) else None
    stretch = drawn.reach + 2 * (shift or 0)
    total = (math.prod(grid) + 1) * stretch
    numbers = {
        "n": drawn.pick([size, size - 1, size // 2 + 1, 3, 0]),
        "trips": drawn.pick([0, 1, 2, 3, 5, MOST_TRIPS]),
        "s": drawn.pick([0, 1, 2, 4, 16]),
    }
    seed = drawn.number(1 << 20)
    text = f"@mlu.jit\ndef generated({', '.join([*drawn.arrays, 'ids', *numbers])}, STRETCH: tl.constexpr):\n"

    def memory() -> dict[str, object]:
        random = np.random.default_rng(seed)
        shared = integers(random, total, drawn.kind)
        arrays = {
            name: integers(random, total, drawn.kind) if shift is None else shared[number * shift :]
            for number, name in enumerate(drawn.arrays)
        }
        return {**arrays, "ids": random.permutation(size).astype(np.int32), **numbers, "STRETCH": stretch}

    options = drawn.pick([{}, {}, {}, {"num_stages": 1}, {"num_stages": 4}, {"num_warps": 4}])
    return TextCase(text + "\n".join(drawn.lines) + "\n", memory, grid, drawn.pick(machines), options)
