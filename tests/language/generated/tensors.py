"""Kernels drawn at random on tensors of up to four dimensions: other shapes and orders, along axes, by descriptors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT32, triton
from tests.language.generated.texts import GREATEST, Between, Machines, Text, TextCase, integers

Shape = tuple[int, ...]
STORED = [FLOAT32, FLOAT32, FLOAT16, BFLOAT16, np.dtype(np.int8)]

# Functions that kernels call, of which some are not inlined.
FUNCTIONS = """
@mlu.jit
def least_and_most(a, b, c, d):
    return tl.minimum(a, c), tl.maximum(b, d)


@mlu.jit
def total_and_all(a, b, c, d):
    return (a + c) & 127, b | d


@mlu.jit
def latest(a, b, c, d):
    return tl.where(d != 0, c, a), b | d


@mlu.jit
def affine(a, b, c, d):
    return a & c, (b & c) | d


@mlu.jit
def most(a, b):
    return tl.maximum(a, b)


@mlu.jit(noinline=True)
def both(a, b):
    if b > 2:
        return a + 1, b
    return a, b * 2


@mlu.jit
def swapped(a, b):
    return tl.minimum(b, a), tl.maximum(a, b)


@mlu.jit
def doubled(a):
    return tl.minimum(tl.maximum(a * 2, -64), 64)


"""
# Of pairs: those of reductions do not ask for an order, which Triton does not promise.
REDUCTIONS = ["least_and_most", "total_and_all"]
SCANS = [*REDUCTIONS, "latest", "affine"]


@dataclass(frozen=True)
class Made:
    """A variable: a tensor of integers that stand in float32 or int32."""

    name: str
    shape: Shape
    dtype: np.dtype
    bound: float


@dataclass
class Tensors(Text):
    """Draws a kernel, each statement of which makes a tensor of those that there are."""

    total: int = 64  # elements of the largest tensors
    odd: bool = False  # extents that are no powers of two
    values: list[Made] = field(default_factory=list)
    types: dict[str, np.dtype] = field(default_factory=dict)
    stores: int = 0
    own: int = 0

    # ---- shapes

    def shape(self, elements: int | None = None) -> Shape:
        """A shape of so many elements."""
        left = elements or (self.total if self.chance(2) else self.total // self.pick([1, 2, 4, 8]) or 1)
        made: list[int] = []
        while left > 1 and len(made) < 3:
            divisors = [each for each in range(1, left + 1) if left % each == 0]
            if len(divisors) > 6:
                divisors = divisors[: self.pick([4, 6, len(divisors)])]
            size = self.pick(divisors)
            made.append(size)
            left //= size
        if left > 1 or not made:
            made.append(left)
        made.sort(key=lambda each: self.number(9))
        return tuple(made[:4])

    def place(self, shape: Shape, strides: list[int]) -> str:
        terms = []
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            index = ", ".join(":" if each == axis else "None" for each in range(len(shape)))
            position = f"tl.arange(0, {size})" + (f"[{index}]" if len(shape) > 1 else "")
            terms.append(f"{position} * {stride}")
        return " + ".join(terms)

    def strides(self, shape: Shape, order: list[int]) -> list[int]:
        strides, reached = [0] * len(shape), 1
        for axis in order:
            strides[axis] = reached
            reached *= shape[axis]
        return strides

    def order(self, rank: int) -> list[int]:
        left, made = list(range(rank))[::-1], []
        if self.chance(2):
            return left
        while left:
            made.append(left.pop(self.number(len(left) - 1)))
        return made

    # ---- values

    def add(self, shape: Shape, dtype: np.dtype, text: str, bound: float) -> Made:
        if bound > GREATEST:
            zero = ".0" if dtype == FLOAT32 else ""
            text, bound = f"tl.minimum(tl.maximum({text}, -64{zero}), 64{zero})", 64
        made = Made(self.let(text), shape, dtype, bound)
        self.values.append(made)
        return made

    def recent(self) -> Made:
        return self.pick(self.values[-4:])

    def like(self, value: Made) -> Made:
        """Another value that broadcasts to the first one's shape."""
        found = [
            each
            for each in self.values
            if each.dtype == value.dtype
            and len(each.shape) in (len(value.shape), 0)
            and all(a in (1, b) for a, b in zip(each.shape, value.shape, strict=False))
        ]
        if self.chance(3):
            return self.load(value.shape, value.dtype)
        return self.pick(found)

    def load(self, shape: Shape, dtype: np.dtype) -> Made:
        name = "x" if dtype == FLOAT32 else "i"
        count = math.prod(shape)
        convert = "" if self.types[name] == dtype else f".to({triton(dtype)})"
        start = self.pick(["0", "0", "program * 3", "first", "called"])
        if start == "called":  # a function that is not inlined takes and returns scalars alone
            start = self.let("0", "h")
            self.line(f"{start}, ignored = both(first, program)")
        strides = self.strides(shape, self.order(len(shape)))
        kind = self.pick(
            ["plain", "plain", "plain", "mask", "selected", "descriptor", "descriptor", "moved", "stretched"]
        )
        if kind == "descriptor" and self.odd:
            kind = "mask"
        match kind:
            case "mask":
                axis = self.number(len(shape) - 1)
                index = ", ".join(":" if each == axis else "None" for each in range(len(shape)))
                position = f"tl.arange(0, {shape[axis]})" + (f"[{index}]" if len(shape) > 1 else "")
                limit = self.pick([f"{self.number(shape[axis])}", "first", "program + 1", "0"])
                text = f"tl.load({name} + {start} + {self.place(shape, strides)}, mask={position} < {limit}, other=1)"
            case "selected":
                condition = self.pick(["first > 2", "program % 2 == 0", "first < 100"])
                pointer = self.let(f"tl.where({condition}, {name}, {name} + {count})", "p")
                text = f"tl.load({pointer} + {self.place(shape, strides)})"
            case "moved":
                pointer = self.let(f"{name} + {self.place(shape, strides)}", "p")
                with self.under(f"for step in range({self.pick(['first % 4', '3', '0', 'program + 1'])}):"):
                    self.line(f"{pointer} += 2")
                text = f"tl.load({pointer})"
            case "stretched":
                strides = [self.pick([0, each, 2 * each]) for each in strides]
                text = f"tl.load({name} + {start} + {self.place(shape, strides)})"
            case "descriptor" if (
                count * self.types[name].itemsize >= 16 and shape[-1] * self.types[name].itemsize >= 16
            ):
                text = self.described(name, shape)
            case _:
                text = f"tl.load({name} + {start} + {self.place(shape, strides)})"
        return self.add(shape, dtype, f"({text}){convert}", 8)

    def described(self, name: str, shape: Shape) -> str:
        """A block of a tensor that a descriptor tells of, perhaps partly outside."""
        itemsize = self.types[name].itemsize
        sizes, strides, reached = [], [], 1
        for size in reversed(shape):
            extent = self.pick([size, size + self.number(5), max(1, size - 1)])
            if not strides:
                sizes.append(extent)
                strides.append(1)
                reached = -(-extent * itemsize // 16) * 16 // itemsize
            else:
                sizes.append(extent)
                strides.append(reached)
                reached *= extent
        sizes, strides = sizes[::-1], strides[::-1]
        descriptor = self.let(f"tl.make_tensor_descriptor({name}, {sizes}, {strides}, {list(shape)})", "d")
        offsets = [self.pick(["0", "0", "1", "program", "first % 3"]) for _ in shape]
        offsets = [each if size > 1 else "0" for each, size in zip(offsets, shape, strict=True)]
        return f"{descriptor}.load([{', '.join(offsets)}])"

    # ---- statements

    def elementwise(self) -> None:
        a = self.recent()
        b = self.like(a)
        x, y = (a.name, b.name) if self.chance(2) else (b.name, a.name)
        sums, products, most = a.bound + b.bound, a.bound * b.bound, max(a.bound, b.bound)
        forms = [
            (f"{x} + {y}", sums),
            (f"{x} - {y}", sums),
            (f"{x} * {y}", products),
            (f"tl.maximum({x}, {y})", most),
            (f"tl.where({x} > {y}, {x}, {y})", most),
            (f"tl.abs({a.name})", a.bound),
            (f"-{a.name}", a.bound),
        ]
        if a.dtype == INT32:
            forms += [(f"{a.name} & 7", 7), (f"{x} ^ {y}", 2 * most + 1), (f"({a.name} >> 1)", a.bound)]
        self.add(a.shape, a.dtype, *self.pick(forms))

    def converted(self) -> None:
        a = self.recent()
        if a.dtype == INT32:
            self.add(a.shape, FLOAT32, f"{a.name}.to(tl.float32)", a.bound)
        else:
            self.add(a.shape, INT32, f"{a.name}.to(tl.int32)", a.bound)

    def reshaped(self) -> None:
        a = self.recent()
        shape = self.shape(math.prod(a.shape))
        self.add(shape, a.dtype, f"tl.reshape({a.name}, {shape})", a.bound)

    def permuted(self) -> None:
        a = self.recent()
        order = self.order(len(a.shape))
        if len(a.shape) > 1:
            shape = tuple(a.shape[each] for each in order)
            self.add(shape, a.dtype, f"tl.permute({a.name}, {', '.join(map(str, order))})", a.bound)

    def joined(self) -> None:
        a = self.recent()
        if math.prod(a.shape) * 2 > self.total or len(a.shape) > 3:
            return
        b = self.load(a.shape, a.dtype)
        if self.chance(2):
            self.add((*a.shape, 2), a.dtype, f"tl.join({a.name}, {b.name})", max(a.bound, b.bound))
        else:
            shape = (*a.shape[:-1], 2 * a.shape[-1])
            self.add(shape, a.dtype, f"tl.interleave({a.name}, {b.name})", max(a.bound, b.bound))

    def parted(self) -> None:
        a = self.recent()
        if a.shape[-1] % 2 or math.prod(a.shape) < 4:
            return
        shape = a.shape if a.shape[-1] == 2 and len(a.shape) > 1 else (*a.shape[:-1], a.shape[-1] // 2, 2)
        if len(shape) > 4:
            return
        names = [self.let("0", "h"), self.let("0", "h")]
        self.line(f"{names[0]}, {names[1]} = tl.split(tl.reshape({a.name}, {shape}))")
        for name in names:
            self.values.append(Made(name, shape[:-1], a.dtype, a.bound))

    def reduced(self) -> None:
        a = self.recent()
        axis = self.number(len(a.shape) - 1)
        keeps = len(a.shape) == 1 or self.chance(3)
        shape = (*a.shape[:axis], *([1] if keeps else []), *a.shape[axis + 1 :])
        kept = f", keep_dims={keeps}"
        name = self.pick(["sum", "sum", "max", "min", "argmax", "own", "pair"])
        if name == "sum":
            self.add(shape, a.dtype, f"tl.sum({a.name}, {axis}{kept})", a.bound * a.shape[axis])
        elif name in ("max", "min"):
            self.add(shape, a.dtype, f"tl.{name}({a.name}, {axis}{kept})", a.bound)
        elif name == "own":
            self.add(shape, a.dtype, f"tl.reduce({a.name}, {axis}, most{kept})", a.bound)
        elif name == "argmax" and not keeps:
            self.add(shape, INT32, f"tl.{self.pick(['argmax', 'argmin'])}({a.name}, {axis})", a.shape[axis])
        elif name == "pair" and a.dtype == INT32 and not keeps:
            self.pair(a, axis, shape, "tl.reduce", "")

    def pair(self, a: Made, axis: int, shape: Shape, call: str, rest: str) -> None:
        b = self.load(a.shape, INT32)
        x, y = (self.let(f"{each.name} & 127") for each in (a, b))
        combiner = self.pick(REDUCTIONS if call == "tl.reduce" else SCANS)
        names = [self.let("0", "h"), self.let("0", "h")]
        self.line(f"{names[0]}, {names[1]} = {call}(({x}, {y}), {axis}, {combiner}{rest})")
        for name in names:
            self.values.append(Made(name, shape, INT32, 127))

    def scanned(self) -> None:
        a = self.recent()
        axis, reverse = self.number(len(a.shape) - 1), f", reverse={self.chance(2)}"
        kind = self.pick(["cumsum", "own", "pair", "pair"])
        if kind == "cumsum":
            self.add(a.shape, a.dtype, f"tl.cumsum({a.name}, {axis}{reverse})", a.bound * a.shape[axis])
        elif kind == "own":
            self.add(a.shape, a.dtype, f"tl.associative_scan({a.name}, {axis}, most{reverse})", a.bound)
        elif a.dtype == INT32:
            self.pair(a, axis, a.shape, "tl.associative_scan", reverse)

    def ordered(self) -> None:
        a = self.recent()
        last = a.shape[-1]
        if math.prod(a.shape) & (math.prod(a.shape) - 1):  # as Triton's own functions want it
            return
        match self.pick(["sort", "topk", "flip", "histogram"]):
            case "sort":
                text = f"tl.sort({a.name}, {len(a.shape) - 1}, {self.chance(2)})"
                self.add(a.shape, a.dtype, text, a.bound)
            case "topk":
                k = self.pick([each for each in (1, 2, 4, 8) if each <= last])
                self.add((*a.shape[:-1], k), a.dtype, f"tl.topk({a.name}, {k})", a.bound)
            case "flip":
                axis = self.number(len(a.shape) - 1)
                if a.shape[axis] > 1 and not a.shape[axis] & (a.shape[axis] - 1):
                    self.add(a.shape, a.dtype, f"tl.flip({a.name}, {axis})", a.bound)
            case _:
                if a.dtype == INT32 and len(a.shape) == 1:
                    self.add((16,), INT32, f"tl.histogram({a.name} & 31, 16)", last)

    def gathered(self) -> None:
        a = self.recent()
        axis = self.number(len(a.shape) - 1)
        index = self.load(a.shape, INT32)
        text = f"tl.gather({a.name}, tl.abs({index.name}) % {a.shape[axis]}, {axis})"
        self.add(a.shape, a.dtype, text, a.bound)

    def product(self) -> None:
        a = self.recent()
        if len(a.shape) not in (2, 3) or a.dtype != FLOAT32 or a.bound > 64 or a.shape[-1] > 64:
            return
        if self.odd and self.chance(2):
            return
        columns = self.pick([1, 2, 4, 16])
        if (
            math.prod(a.shape[:-1]) * columns > self.total
            or math.prod(a.shape[:-2]) * a.shape[-1] * columns > self.total
        ):
            return
        b = self.load((*a.shape[:-2], a.shape[-1], columns), FLOAT32)
        kind = self.pick(["float16", "float32", "bfloat16"])
        ieee = ", input_precision='ieee'" if kind == "float32" else ""
        text = f"tl.dot({a.name}.to(tl.{kind}), {b.name}.to(tl.{kind}){ieee})"
        self.add((*a.shape[:-1], b.shape[-1]), FLOAT32, text, 64 * 8 * a.shape[-1])

    def called(self) -> None:
        a = self.recent()
        b = self.load(a.shape, a.dtype)
        if a.dtype == FLOAT32 and self.chance(2):
            self.add(a.shape, a.dtype, f"doubled({a.name})", 64)
            return
        names = [self.let("0", "h"), self.let("0", "h")]
        self.line(f"{names[0]}, {names[1]} = swapped({a.name}, {b.name})")
        self.values += [Made(name, a.shape, a.dtype, max(a.bound, b.bound)) for name in names]

    def looped(self) -> None:
        """A loop or a branch that exchanges and changes tensors."""
        a = self.recent()
        b = self.load(a.shape, a.dtype)
        names = [self.let(f"{each.name} + 0", "w") for each in (a, b)]
        zero = ".0" if a.dtype == FLOAT32 else ""
        head = self.pick(
            [
                f"for turn in range({self.pick(['first % 4', '3', '0', '1', 'program'])}):",
                f"for turn in tl.range({self.pick(['first % 7, 0, -2', '2, 9, 3', '0, program, 1'])}):",
                "while turn < first % 5:",
                f"if {self.pick(['first > 2', 'program > 0', 'first > 99'])}:",
            ]
        )
        if head.startswith("while"):
            self.line("turn = program * 0")
        kept = list(self.values)
        with self.under(head):
            self.values += [Made(name, a.shape, a.dtype, 64) for name in names]
            for _ in range(self.number(2)):
                self.pick([self.elementwise, self.permuted, self.scanned, self.gathered, self.elementwise])()
            found = [each for each in self.values[-3:] if (each.shape, each.dtype) == (a.shape, a.dtype)]
            new = self.pick(found).name if found else names[0]
            self.line(
                f"{names[0]}, {names[1]} = {names[1]}, tl.minimum(tl.maximum({new} - {names[0]}, -64{zero}), 64{zero})"
            )
            if head.startswith("while"):
                self.line("turn += 1")
        self.values = [*kept, *(Made(name, a.shape, a.dtype, 64) for name in names)]

    def exchanged(self) -> None:
        """An atomic operation on the program's own memory, whose result is used."""
        a = self.recent()
        if a.dtype != INT32 or a.bound > 1 << 16:
            return
        name = self.pick(["add", "max", "min", "xchg", "and", "or", "xor"])
        place = self.place(a.shape, self.strides(a.shape, self.order(len(a.shape))))
        self.add(a.shape, INT32, f"tl.atomic_{name}(own + program * OWN + {place}, {a.name}) & 1023", 1023)

    def part(self) -> None:
        """A slice of a tensor, or a tensor of which a slice is another's."""
        a = self.recent()
        if not self.odd:
            return
        ends, shape = [], []
        for size in a.shape:
            low = self.number(size - 1)
            high = self.between(low + 1, size)
            step = self.pick([1, 1, 1, 2])
            ends.append(f"{low}:{high}" + (f":{step}" if step > 1 else ""))
            shape.append(len(range(low, high, step)))
        index = ", ".join(ends)
        if self.chance(2):
            self.add(tuple(shape), a.dtype, f"{a.name}[{index}]", a.bound)
            return
        b = self.load(tuple(shape), a.dtype)
        made = self.add(a.shape, a.dtype, f"{a.name} + 0", max(a.bound, 8))
        self.line(f"{made.name}[{index}] = {b.name}")

    def store(self) -> None:
        a = self.recent()
        name = f"out{self.stores}"
        self.stores += 1
        self.types[name] = a.dtype
        strides = self.strides(a.shape, self.order(len(a.shape)))
        kind = self.pick(["plain", "plain", "mask", "descriptor"])
        wide = a.shape[-1] * 4 >= 16 and not self.odd
        if kind == "descriptor" and wide:
            plain = self.strides(a.shape, list(range(len(a.shape)))[::-1])
            extents = [max(1, size - self.number(1)) for size in a.shape]
            text = f"tl.make_tensor_descriptor({name} + program * OWN, {extents}, {plain}, {list(a.shape)})"
            self.line(f"{self.let(text, 'd')}.store([{', '.join('0' for _ in a.shape)}], {a.name})")
            return
        place = f"{name} + program * OWN + {self.place(a.shape, strides)}"
        masked = ""
        if kind == "mask":
            index = ", ".join(":" if each == 0 else "None" for each in range(len(a.shape)))
            position = f"tl.arange(0, {a.shape[0]})" + (f"[{index}]" if len(a.shape) > 1 else "")
            mask = f"({position} < first)" + (f" & ({a.name} > 0)" if self.chance(3) else "")
            masked = f", mask={mask}"
        self.line(f"tl.store({place}, {a.name}{masked})")

    def draw_all(self, count: int) -> None:
        self.line("program = tl.program_id(0)")
        self.load(self.shape(), self.pick([FLOAT32, FLOAT32, INT32]))
        makers = [self.elementwise] * 4 + [self.reshaped, self.permuted, self.joined, self.parted, self.reduced] * 2
        makers += [self.scanned, self.scanned, self.ordered, self.gathered, self.product, self.called, self.looped] * 2
        makers += [self.exchanged, self.part, self.part, self.part, self.converted]
        for _ in range(count):
            self.pick(makers)()
            if self.chance(5) and self.stores < 4:
                self.store()
        self.store()


def tensor_kernel(
    between: Between, machines: Machines, totals: Sequence[int] = (16, 64, 512), odd: bool = False
) -> TextCase:
    """Kernels on tensors of several dimensions."""
    text = Tensors(between)
    text.odd = odd
    text.total = text.pick([each * text.pick([1, 3, 5, 7]) // 2 for each in totals]) if odd else text.pick(totals)
    text.types = {"x": text.pick(STORED), "i": text.pick([INT32, np.dtype(np.int8)])}
    text.draw_all(text.between(2, 9))
    programs = text.pick([1, 2, 5, 60]) if text.total < 1024 else text.pick([1, 2])
    types, total, stores = text.types, text.total * 2 + 64, text.stores
    first = text.pick([0, 1, 3, 7, 100])

    def memory() -> dict[str, object]:
        random = np.random.default_rng(3)
        made: dict[str, object] = {f"out{k}": np.zeros(programs * total, types[f"out{k}"]) for k in range(stores)}
        made["own"] = random.integers(-99, 99, programs * total).astype(INT32)
        made["x"] = integers(random, total * 32 + programs * 8 + 4096, types["x"])
        made["i"] = integers(random, total * 32 + programs * 8 + 4096, types["i"])
        return made | {"first": first, "OWN": total}

    arguments = [name if name.islower() else f"{name}: tl.constexpr" for name in memory()]
    body = "\n".join([f"@mlu.jit\ndef generated({', '.join(arguments)}):", *text.lines])
    options = {"num_warps": text.pick([1, 1, 4]), "num_stages": text.pick([2, 1, 3])}
    return TextCase(FUNCTIONS + body + "\n", memory, (programs,), text.pick(machines), options)
