"""Kernels drawn at random that load and store by block pointers: in loops, in any order of axes, beyond any bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT8
from tests.language.generated.texts import Between, Machines, Text, TextCase, Value, integers

STORED = [FLOAT32, FLOAT32, FLOAT16, BFLOAT16, INT8]


@dataclass(frozen=True)
class Tensor:
    """An array as block pointers see it: sizes and strides by axis, and names of the sizes that the launch says."""

    name: str
    sizes: list[int]
    strides: list[int]
    names: list[str]


@dataclass
class Blocks(Text):
    """Draws the kernel, all blocks of which have one shape."""

    shape: tuple[int, ...] = (16,)
    programs: int = 1
    types: dict[str, np.dtype] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    runtime: dict[str, int] = field(default_factory=dict)

    def array(self, name: str) -> None:
        """A tensor of so many blocks along each axis, or of any size."""
        sizes = [self.pick([size * self.between(1, 3), self.between(1, 3 * size), size]) for size in self.shape]
        left, strides, reached = list(range(len(sizes))), [0] * len(sizes), 1
        while left:
            axis = left.pop(self.pick([-1, -1, self.number(len(left) - 1)]))
            strides[axis] = reached
            reached *= sizes[axis] + self.pick([0, 0, 3])
        names = [f"{name}_{axis}" for axis in range(len(sizes))]
        self.runtime |= dict(zip(names, sizes, strict=True))
        self.arrays[name] = Tensor(name, sizes, strides, names)

    def span(self, name: str) -> int:
        """Elements of an array."""
        tensor = self.arrays[name]
        return 1 + sum((size - 1) * stride for size, stride in zip(tensor.sizes, tensor.strides, strict=True))

    def offset(self, axis: int) -> tuple[str, int, int]:
        """Where a block begins along an axis: its text, the least and the greatest that it can be."""
        size, last = self.shape[axis], self.programs - 1
        return self.pick(
            [
                ("0", 0, 0),
                (f"p * {size}", 0, last * size),
                (f"(p % 2) * {size}", 0, min(last, 1) * size),
                (f"p // 2 * {size // 2 or 1} - 3", -3, last // 2 * (size // 2 or 1) - 3),
                ("p * 3", 0, last * 3),
                ("-1", -1, -1),
                (f"{size}", size, size),
            ]
        )

    def checks(self, tensor: Tensor, reach: list[tuple[int, int]]) -> str:
        """The axes that have to be checked, and perhaps others."""
        axes = [
            axis
            for axis, ((low, high), size) in enumerate(zip(reach, tensor.sizes, strict=True))
            if low < 0 or high + self.shape[axis] > size or self.chance(2)
        ]
        return f", boundary_check=({''.join(f'{axis}, ' for axis in axes)})" if axes else ""

    def block(self, name: str, offsets: list[str], base: str = "") -> str:
        tensor = self.arrays[name]
        sizes = [self.pick([text, str(size)]) for text, size in zip(tensor.names, tensor.sizes, strict=True)]
        order = sorted(range(len(self.shape)), key=lambda axis: tensor.strides[axis])
        parts = (", ".join(map(str, each)) for each in (sizes, tensor.strides, offsets, self.shape, order))
        return self.let(f"tl.make_block_ptr({base or name}, {', '.join(f'({each},)' for each in parts)})", "b")

    def load(self, name: str, pointer: str, reach: list[tuple[int, int]]) -> None:
        checks = self.checks(self.arrays[name], reach)
        text = f"tl.load({pointer}{checks}" + (', padding_option="zero")' if checks else ")")
        if checks and self.types[name] != INT8 and self.chance(2):
            loaded = self.let(f'tl.load({pointer}{checks}, padding_option="nan")')
            text = f"tl.where({loaded} == {loaded}, {loaded}, 3.0)"
        if self.types[name] != FLOAT32:
            text = f"({text}).to(tl.float32)"
        self.values.append(self.value("tile", text, 8))

    def loaded(self) -> None:
        name = self.pick(["x", "y"])
        offsets = [self.offset(axis) for axis in range(len(self.shape))]
        pointer = self.block(name, [text for text, _, _ in offsets])
        reach = [(low, high) for _, low, high in offsets]
        if self.chance(3):
            moves = [self.pick([0, 1, -2, self.shape[axis]]) for axis in range(len(self.shape))]
            reach = [(low + by, high + by) for (low, high), by in zip(reach, moves, strict=True)]
            pointer = self.let(f"tl.advance({pointer}, ({', '.join(map(str, moves))},))", "b")
        self.load(name, pointer, reach)

    def compute(self) -> None:
        a, b = self.pick(self.values[-4:]), self.pick(self.values[-4:])
        self.values.append(self.computed("tile", a, b, lambda each: each.name))

    def looped(self) -> None:
        """A loop along one axis, or around one block."""
        names = [self.pick(["x", "y"]) for _ in range(self.between(1, 2))]
        most = self.pick([1, 2, 3, 5, 0])
        turns = self.pick([str(most), "turns"])
        count = most if turns != "turns" else self.runtime["turns"]
        total = self.let(f"tl.zeros({self.shape}, tl.float32)", "sum")
        moving: list[tuple[str, str, list[tuple[int, int]], list[int]]] = []
        for name in names:
            offsets = [self.offset(axis) for axis in range(len(self.shape))]
            axis = self.number(len(self.shape) - 1)
            step = self.pick([self.shape[axis], self.shape[axis], 1, -self.shape[axis], 0])
            moves = [step if each == axis else 0 for each in range(len(self.shape))]
            reach = [
                (low + min(0, by * (count - 1)), high + max(0, by * (count - 1)))
                for (_, low, high), by in zip(offsets, moves, strict=True)
            ]
            moving.append((name, self.block(name, [text for text, _, _ in offsets]), reach, moves))
        kept = list(self.values)
        stages = self.pick(["", "", ", num_stages=3", ", num_stages=1"])
        with self.under(f"for j in tl.range(0, {turns}{stages}):"):
            for name, pointer, reach, moves in moving:
                self.load(name, pointer, reach)
                if self.chance(2):
                    self.compute()
                self.line(f"{total} += {self.values[-1].name}")
                self.line(f"{pointer} = tl.advance({pointer}, ({', '.join(map(str, moves))},))")
            self.line(f"{total} = tl.minimum(tl.maximum({total}, -999.0), 999.0)")
        self.values = [*kept, Value(total, "tile", 999)]

    def store(self, name: str) -> None:
        offsets = [self.pick([("0", 0, 0), ("0", 0, 0), ("1", 1, 1), ("-1", -1, -1)]) for _ in self.shape]
        base = f"{name} + p * SPAN"
        pointer = self.block(name, [text for text, _, _ in offsets], base)
        checks = self.checks(self.arrays[name], [(low, high) for _, low, high in offsets])
        value = self.pick(self.values[-3:])
        text = value.name if self.types[name] == FLOAT32 else f"tl.minimum(tl.maximum({value.name}, -8.0), 8.0)"
        # Casts are left to the store of block pointers for some element types alone.
        kind = {FLOAT16: "tl.float16", BFLOAT16: "tl.bfloat16", INT8: "tl.int8"}.get(self.types[name])
        self.line(f"tl.store({pointer}, {f'({text}).to({kind})' if kind else text}{checks})")

    def draw_all(self) -> None:
        self.line("p = tl.program_id(0)")
        self.loaded()
        for _ in range(self.number(5)):
            self.pick([self.loaded, self.compute, self.compute, self.looped])()
        for _ in range(self.between(1, 2)):
            self.store(self.pick(["out0", "out1"]))


def block_kernel(between: Between, machines: Machines) -> TextCase:
    """Kernels of block pointers."""
    text = Blocks(between)
    text.programs = text.pick([1, 2, 5, 13, 40])
    text.shape = tuple(text.pick([[16], [128], [8, 16], [16, 8], [32, 64], [4, 4, 8], [1024], [1, 32]]))
    text.types = {name: text.pick(STORED) for name in ("x", "y", "out0", "out1")}
    text.runtime = {"turns": text.pick([0, 1, 3, 4])}
    for name in text.types:
        text.array(name)
    text.draw_all()
    spans = {name: text.span(name) for name in text.types}
    programs, types, runtime = text.programs, text.types, dict(text.runtime)
    span = max(spans["out0"], spans["out1"])

    def memory() -> dict[str, object]:
        random = np.random.default_rng(5)
        return {
            "out0": np.zeros(programs * span, types["out0"]),
            "out1": np.zeros(programs * span, types["out1"]),
            "x": integers(random, spans["x"], types["x"]),
            "y": integers(random, spans["y"], types["y"]),
            **runtime,
            "SPAN": span,
        }

    arguments = [name if name.islower() else f"{name}: tl.constexpr" for name in memory()]
    lines = [f"def generated({', '.join(arguments)}):", *text.lines]
    options = {"num_warps": text.pick([1, 1, 4]), "num_stages": text.pick([2, 1, 3])}
    return TextCase("\n".join(lines) + "\n", memory, (programs,), text.pick(machines), options)
