"""Kernels drawn at random around where they load and store: quotients and remainders, neighbours, interleaved elements.

A place is drawn with the least and the greatest that it can be, so that arrays are as long as they have to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, INT64, triton
from tests.language.generated.texts import Between, Machines, Text, TextCase, Value, integers

GRIDS = [(1,), (2,), (5,), (13,), (37,), (3, 4), (1, 9), (6, 5), (4, 2, 3), (150,)]
RUNTIME = [1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 32, 48, 64, 100, 256]
LEAST, MOST = -(1 << 31), (1 << 31) - 1
REACH = 1 << 13  # elements over which one load may be spread
TABLE = 64  # entries of the tables that are looked up


@dataclass(frozen=True)
class Index:
    """An integer of a kernel, a scalar or of a shape that broadcasts to the tile's, from ``low`` to ``high``."""

    text: str
    low: int
    high: int
    axes: frozenset[str] = frozenset()  # the axes along which it may change: r and c

    def __add__(self, number: int) -> Index:
        sign = "-" if number < 0 else "+"
        text = f"({self.text} {sign} {abs(number)})" if number else self.text
        return Index(text, self.low + number, self.high + number, self.axes)


@dataclass
class Places(Text):
    """Draws the kernel.

    Attributes:
        shape: of a program's tile, one or two extents.
        scale: how many elements of an output lie between two neighbours of a tile.
    """

    grid: tuple[int, ...] = (1,)
    shape: tuple[int, ...] = (16,)
    scale: int = 1
    kind: np.dtype = INT32
    types: dict[str, np.dtype] = field(default_factory=dict)
    runtime: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    atoms: list[Index] = field(default_factory=list)
    values: list[tuple[Value, frozenset[str]]] = field(default_factory=list)
    outs: int = 0
    is_stencil: bool = False  # a tile and its neighbours, with little else
    has_holes: bool = False  # arrays of floats have elements that are no numbers

    # ---- indices

    @property
    def lanes(self) -> list[Index]:
        return [each for each in self.atoms if each.text in ("r", "c")]

    def fitted(self, text: str, low: int, high: int, *parts: Index) -> Index:
        """An expression of some parts, which wraps as 32-bit integers do."""
        if low < LEAST or high > MOST:
            low, high = LEAST, MOST
        return Index(text, low, high, frozenset().union(*(each.axes for each in parts)))

    def divisor(self, of: Index) -> tuple[str, int]:
        name = self.pick([*self.runtime, "", "", ""])
        if name:
            return name, self.runtime[name]
        span = of.high - of.low + 1
        near = [each for each in (span, span // 2, span + 1, self.shape[-1], self.shape[0]) if 0 < each < REACH]
        number = self.pick([1, 2, 3, 4, 5, 7, 8, 16, 33, 64, *near])
        return str(number), number

    def index(self, depth: int) -> Index:
        """An integer that is made of the atoms."""
        if depth == 0:
            return self.pick(self.atoms)
        a = self.index(depth - 1)
        match self.pick(
            ["+", "+", "-", "*", "*", "//", "//", "%", "%", "bits", "extreme", "runtime", "where", "unary"]
        ):
            case "+":
                b = self.index(self.number(depth - 1))
                return self.fitted(f"({a.text} + {b.text})", a.low + b.low, a.high + b.high, a, b)
            case "-":
                b = self.index(self.number(depth - 1))
                return self.fitted(f"({a.text} - {b.text})", a.low - b.high, a.high - b.low, a, b)
            case "*":
                factor = self.pick([2, 3, 4, 5, 16, self.shape[-1], self.shape[0], -1, -3, 1_000_003, 65_536])
                ends = sorted((a.low * factor, a.high * factor))
                return self.fitted(f"({a.text} * {factor})", *ends, a)
            case "runtime":
                name = self.pick(self.runtime)
                ends = sorted((a.low * self.runtime[name], a.high * self.runtime[name]))
                if self.chance(2):
                    return self.fitted(f"({a.text} * {name})", *ends, a)
                return self.fitted(f"({a.text} + {name})", *(each + self.runtime[name] for each in (a.low, a.high)), a)
            case "//":
                name, number = self.divisor(a)
                ends = [math.trunc(each / number) for each in (a.low, a.high)]
                return self.fitted(f"({a.text} // {name})", *ends, a)
            case "%":
                return self.remainder(a)
            case "bits":
                if a.low < 0:
                    return self.fitted(f"({a.text} & 31)", 0, 31, a)
                form = self.pick(["& 15", "& 48", ">> 1", ">> 3", "^ 1", "^ 5", "| 2"])
                ends = {"& 15": (0, 15), "& 48": (0, 48), ">> 1": (a.low >> 1, a.high >> 1)}
                ends |= {">> 3": (a.low >> 3, a.high >> 3)}
                low, high = ends.get(form, (max(0, a.low - 7), min(MOST, a.high + 7)))
                return self.fitted(f"({a.text} {form})", low, high, a)
            case "extreme":
                limit = self.pick([a.low, a.high, (a.low + a.high) // 2, 3])
                if self.chance(2):
                    return self.fitted(f"tl.minimum({a.text}, {limit})", min(a.low, limit), min(a.high, limit), a)
                return self.fitted(f"tl.maximum({a.text}, {limit})", max(a.low, limit), max(a.high, limit), a)
            case "where":
                b = self.index(self.number(depth - 1))
                condition, axes = self.condition()
                text = f"tl.where({condition}, {a.text}, {b.text})"
                return Index(text, min(a.low, b.low), max(a.high, b.high), a.axes | b.axes | axes)
            case _:
                if a.low > LEAST and self.chance(2):
                    return self.fitted(f"(-{a.text})", -a.high, -a.low, a)
                return self.converted(a)

    def converted(self, a: Index) -> Index:
        """An integer by way of another type, which may not hold it."""
        match self.pick(["wide", "narrow", "narrow", "unsigned"]):
            case "wide":
                return Index(f"({a.text}).to(tl.int64)", a.low, a.high, a.axes)
            case "unsigned":
                divisor = self.pick([3, 16, 24, 100])
                return Index(f"(({a.text}).to(tl.uint32) % {divisor}).to(tl.int32)", 0, divisor - 1, a.axes)
            case _:
                name, low, high = self.pick([("int8", -128, 127), ("uint8", 0, 255), ("int16", -(1 << 15), 1 << 15)])
                more = self.pick(["", " + 100", " * 3"])
                if not more and low <= a.low and a.high <= high:
                    low, high = a.low, a.high
                return Index(f"(({a.text}).to(tl.{name}){more}).to(tl.int32)", low, high, a.axes)

    def remainder(self, a: Index) -> Index:
        name, number = self.divisor(a)
        low = 0 if a.low >= 0 else -min(number - 1, -a.low)
        return self.fitted(f"({a.text} % {name})", low, max(0, min(number - 1, a.high)), a)

    def condition(self) -> tuple[str, frozenset[str]]:
        """A mask, and the axes along which it may change."""
        a = self.index(self.number(2))
        limit = self.pick([(a.low + a.high) // 2, a.low, a.high, 3, *self.runtime])
        simple = f"{a.text} {self.pick(['<', '>=', '!='])} {limit}"
        return self.pick([simple, simple, f"{self.remainder(a).text} == {self.number(2)}"]), a.axes

    def near(self, a: Index) -> Index:
        """The same integer, or one that is not as far from zero."""
        while a.high - a.low > REACH or max(abs(a.low), abs(a.high)) > 1 << 20:
            a = self.remainder(a)
        return a

    def tile_place(self) -> Index:
        """What most kernels begin with: places one after another, or in steps, of a tile of the grid's."""
        step = self.pick([1, 1, 1, self.scale, self.scale, 2, 3])
        columns = self.pick([f"(p0 * {self.shape[-1]} + c)", "c"])
        high = self.shape[-1] * (self.grid[0] if "p0" in columns else 1) - 1
        if len(self.shape) == 1:
            return Index(f"{columns} * {step}", 0, high * step, frozenset("c"))
        rows = self.pick([f"(p1 * {self.shape[0]} + r)", "r"])
        most = self.shape[0] * ((*self.grid, 1)[1] if "p1" in rows else 1) - 1
        name = self.pick([*self.runtime, ""])
        pitch, number = (name, self.runtime[name]) if name else (str((high + 5) * step), (high + 5) * step)
        return Index(f"({rows} * {pitch} + {columns} * {step})", 0, most * number + high * step, frozenset("rc"))

    # ---- loads and stores

    def taps(self) -> None:
        """Loads at distances from one place, each perhaps under a mask of its own."""
        place = self.near(self.tile_place() if self.chance(2) else self.index(self.between(1, 4)))
        if self.chance(3):
            place = Index(self.let(place.text, "i"), place.low, place.high, place.axes)
        name = self.pick(["x", "x", "x", "y", "both", "pool"])
        spread = self.pick([0, 1, 2, self.scale, 5, self.shape[-1]])
        for _ in range(self.pick([1, 1, 2, 3, 4, 6])):
            self.tap(name if not self.chance(6) else "y", place + self.between(-spread, spread))
            if self.chance(8):
                self.store()

    def tap(self, name: str, place: Index) -> None:
        mask, other = "", self.pick([0, 0, 1, -3])
        low, high, axes = place.low, place.high, place.axes
        match self.pick(["", "", "inside", "inside", "lanes", "condition", "nothing"]):
            case "inside":
                limit = self.pick([*self.runtime, "", ""])
                number = self.runtime[limit] if limit else max(1, min(high, REACH))
                mask = f"({place.text} >= 0) & ({place.text} < {limit or number})"
                low, high = 0, number - 1
            case "lanes" if axes:
                lane = self.pick([each for each in self.lanes if each.text in axes])
                limit = self.pick([*self.runtime, str(self.number(lane.high)), str(lane.high + 1)])
                mask = f"{lane.text} < {limit}"
            case "condition":
                mask, masked = self.condition()
                if place.axes:  # a mask does not make more elements of a scalar
                    axes |= masked
                elif masked:
                    mask = ""
            case "nothing":
                mask = f"{place.text} < {min(low, 0)}"
                low, high = 0, 0
        shift = 0 if low >= 0 else -low
        self.lengths[name] = max(self.lengths.get(name, 0), high + shift + 1)
        array = name
        if name == "both":
            name = "both + program * BOTH"
        elif name == "pool":
            name, of = self.row_of_pool(place)
            axes |= of
        tail = f", mask={mask}, other={other}" if mask else ""
        if mask and self.kind == FLOAT32 and self.types[array].kind != "i":
            tail += ".0"
        address = f"{name} + {shift} + {place.text}" if shift else f"{name} + {place.text}"
        address += "".join(f" + {each} * 0" for each in sorted(axes - place.axes))
        text = f"tl.load({address}{tail})"
        stored = self.types[array]
        if stored != self.kind:
            text += ".to(tl.float32)" if self.kind == FLOAT32 else ".to(tl.int32)"
        if self.has_holes and stored != INT8:
            loaded = self.let(text)
            text = f"tl.where({loaded} == {loaded}, {loaded}, 2.0)"
        bound = 1 << 14 if stored == INT32 else 8
        self.keep(text, bound if self.kind == FLOAT32 else 0, axes)

    def row_of_pool(self, place: Index) -> tuple[str, frozenset[str]]:
        """A pointer from a table of addresses, or one for each of some elements."""
        row = self.near(self.index(self.number(2)))
        if row.axes and not place.axes:
            row = self.atoms[0]
        shift = max(0, -row.low)
        text = f"tl.load(rows + (({row.text}) + {shift}) % {TABLE}).to(tl.pointer_type({triton(self.types['pool'])}))"
        return self.let(text, "a"), row.axes

    def keep(self, text: str, bound: float, axes: frozenset[str]) -> None:
        self.values.append((self.value("tile", text, bound), axes))

    def recent(self) -> tuple[Value, frozenset[str]]:
        return self.pick(self.values[-6:])

    def store(self) -> None:
        """A store of a whole tile to memory of the program's own."""
        if not self.values:
            return
        value = self.recent()[0]
        name = self.pick(["out", "out", "both"])
        stored = self.types[name]
        distance = self.number(self.scale) if name == "both" else self.number(self.scale - 1)
        step = self.scale
        columns, high = f"c * {step}", (self.shape[-1] - 1) * step
        place, base = columns, ""
        if len(self.shape) == 2:
            pitch = self.shape[-1] * step + self.pick([0, 0, 3])
            place, high = f"r * {pitch} + {columns}", high + (self.shape[0] - 1) * pitch
        if name == "out" and len(self.shape) == 1 and self.chance(2):
            place, base = f"(program * {self.shape[0]} + c) * {step}", "close"
        else:
            place = f"program * {name.upper()} + {place}"
            self.lengths[name] = max(self.lengths.get(name, 0), high + distance + 1)
        if base:
            name = "close"
        limit = self.pick([*self.runtime, self.shape[-1] - 1])
        mask = self.pick(["", "", f"c < {limit}", self.condition()[0], "c < 0"])
        text = value.name
        if self.kind == FLOAT32 and stored != FLOAT32:
            text = f"tl.minimum(tl.maximum({text}, -8.0), 8.0)"
        elif self.kind == INT32 and stored in (FLOAT16, BFLOAT16, FLOAT32):
            text = f"({text} & 7)"
        tail = f", mask={mask}" if mask else ""
        self.line(f"tl.store({name} + {place} + {distance}, {text}{tail})")
        self.outs += 1

    # ---- what is loaded and stored together

    def stencil(self) -> None:
        """Loads of one tile's neighbours, or of all elements of its steps, as most kernels of such write them."""
        name, (rows, columns) = self.pick(["x", "x", "y"]), (self.shape[0], self.shape[-1])
        high = columns * self.grid[0]
        self.line(f"j = p0 * {columns} + c")
        place, pitch, axes = f"j * {self.scale}", 0, frozenset("c")
        if len(self.shape) == 2:
            pitch = self.pick([high * self.scale + 7, *self.runtime.values()])
            pitch_text = next((text for text, number in self.runtime.items() if number == pitch), str(pitch))
            self.line(f"i = p1 * {rows} + r")
            place, axes = f"i * {pitch_text} + {place}", frozenset("rc")
        ends = {"j": self.pick([high, high - 3, self.number(high)])}
        if pitch:
            most = rows * (*self.grid, 1)[1]
            ends["i"] = self.pick([most, most - 1, self.number(most)])
        last = high * self.scale + (rows * (*self.grid, 1)[1] * pitch if pitch else 0)
        shift = 4 * (pitch + self.scale)
        self.lengths[name] = max(self.lengths.get(name, 0), shift + last + shift)
        kind, reach = self.pick(["", "own", "own", "inside", "any"]), self.pick([1, 2, 4])
        taps = [(self.between(-1, 1) if pitch else 0, self.between(-reach, reach)) for _ in range(self.between(2, 7))]
        if self.scale > 1 and self.chance(2):
            taps = [(0, k) for k in range(self.scale)]
            if self.chance(2):
                taps.reverse()
        other = self.pick(["0", "1"]) + (".0" if self.types[name].kind != "i" else "")
        for down, right in taps:
            moved = {"i": f"i + {down}", "j": f"j + {right}"}
            masks = {
                "own": [f"({each} < {end})" for each, end in ends.items()],
                "inside": [f"({moved[each]} >= 0) & ({moved[each]} < {end})" for each, end in ends.items()],
            }
            mask = masks.get(self.pick(["own", "inside", ""]) if kind == "any" else kind)
            away = down * pitch + right
            tail = f", mask={' & '.join(mask)}, other={other}" if mask else ""
            text = f"tl.load({name} + {shift + away} + {place}{tail})"
            if self.types[name] != self.kind:
                text += ".to(tl.float32)" if self.kind == FLOAT32 else ".to(tl.int32)"
            if self.has_holes and self.types[name] != INT8:
                loaded = self.let(text)
                text = f"tl.where({loaded} == {loaded}, {loaded}, 2.0)"
            bound = 1 << 14 if self.types[name] == INT32 else 8
            self.keep(text, bound if self.kind == FLOAT32 else 0, axes)
            if self.chance(12):
                self.store()
        tapped = [value for value, _ in self.values[-len(taps) :]]
        factors = [self.pick(["", "", " * 2", " * -3"]) for _ in tapped]
        text = " + ".join(f"{value.name}{factor}" for value, factor in zip(tapped, factors, strict=True))
        self.keep(text, 3 * sum(value.bound for value in tapped), axes)
        for _ in range(self.pick([0, 0, 1, 3])):
            self.compute()
        own = f"program * OWN + {'r * ' + str(columns * self.scale) + ' + ' if pitch else ''}c * {self.scale}"
        self.lengths["own"] = rows * columns * self.scale if pitch else columns * self.scale
        mask = f", mask={' & '.join(f'({each} < {end})' for each, end in ends.items())}"
        if self.chance(4):
            mask = ""
        order = list(range(self.scale))
        if self.chance(2):
            order.reverse()
        for k in order:
            self.line(f"tl.store(own + {own} + {k}, {self.values[-1][0].name}{mask})")
            self.compute()

    # ---- values

    def compute(self) -> None:
        if not self.values:
            return
        (a, a_axes), (b, b_axes) = self.recent(), self.recent()
        if self.kind == FLOAT32:
            made = self.computed("tile", a, b, lambda each: each.name)
            self.values.append((made, a_axes & b_axes))
            return
        forms = [
            "{} + {}",
            "{} - {}",
            "{} * {}",
            "tl.maximum({}, {})",
            "{} * 3 + {}",
            "{} ^ {}",
            "tl.where({} > 0, {}, 7)",
        ]
        self.keep(self.pick(forms).format(a.name, b.name), 0, a_axes & b_axes)

    def reduce(self) -> None:
        whole = [value for value, axes in self.values if len(axes) == len(self.shape)]
        if not whole:
            return
        value, axis = self.pick(whole[-4:]), self.number(len(self.shape) - 1)
        name, bound = self.pick([("sum", value.bound * self.shape[axis]), ("max", value.bound), ("min", value.bound)])
        kept = ", keep_dims=True" if len(self.shape) == 2 else ""
        axes = frozenset("rc"[each] for each in range(2) if len(self.shape) == 2 and each != axis)
        self.keep(f"tl.{name}({value.name}, {axis}{kept})", bound, axes)

    def looped(self, depth: int) -> None:
        """A loop that loads at places which change with it, and adds up."""
        counter = f"j{next(self.names)}"
        end = self.pick([*self.runtime, "3", "4", "0"])
        last = self.runtime.get(end, int(end) if end.isdigit() else 0)
        if last > 16:
            end, last = f"{end} // 8", last // 8
        step = self.pick([1, 1, 1, 2, 3])
        begin = self.pick([0, 0, 1])
        form = self.pick(["up", "up", "up", "down", "while"])
        turns = list(range(begin, last, step))
        if form == "down":
            turns = list(range(last, begin, -step))
        head = {
            "up": f"for {counter} in range({begin}, {end}, {step}):",
            "down": f"for {counter} in range({end}, {begin}, -{step}):",
            "while": f"while {counter} < {end}:",
        }[form]
        if form == "while":
            self.line(f"{counter} = program * 0 + {begin}")
        total = self.let(f"tl.zeros({self.shape}, tl.{self.kind.name})", "sum")
        carried, change = None, 0
        if self.chance(3):
            first, change = self.near(self.index(2)), self.pick([1, 3, self.shape[-1], -2])
            name = self.let(f"{first.text} + program * 0", "q")
            reach = change * len(turns)
            carried = Index(name, first.low + min(0, reach), first.high + max(0, reach), first.axes)
        atoms, values = list(self.atoms), list(self.values)
        with self.under(head):
            self.atoms.append(Index(counter, min(turns, default=0), max(turns, default=0)))
            self.atoms += [self.atoms[-1]] * 2 + ([carried] * 3 if carried else [])
            self.body(2, depth)
            value = self.recent()[0].name
            self.line(f"{total} = {total} + {value}" if self.chance(3) else f"{total} += {value}")
            if self.kind == FLOAT32:
                self.line(f"{total} = tl.minimum(tl.maximum({total}, -999.0), 999.0)")
            if carried:
                self.line(f"{carried.text} += {change}")
            if form == "while":
                self.line(f"{counter} += {step}")
        self.atoms, self.values = atoms, values
        self.values.append((Value(total, "tile", 999), frozenset(each.text for each in self.lanes)))

    def body(self, most: int, depth: int) -> None:
        self.taps()
        for _ in range(self.number(most)):
            made = self.pick([self.taps, self.taps, self.compute, self.compute, self.reduce, self.store, "loop"])
            if made != "loop":
                made()
            elif depth < 2:
                self.looped(depth + 1)

    def draw_all(self) -> None:
        for axis, size in enumerate(self.grid):
            self.line(f"p{axis} = tl.program_id({axis})")
            self.atoms.append(Index(f"p{axis}", 0, size - 1))
        terms = [f"p{axis} * {math.prod(self.grid[:axis])}" for axis in range(len(self.grid))]
        self.line(f"program = {' + '.join(terms)}")
        if len(self.shape) == 2 and len(self.grid) == 1:
            self.line("p1 = program * 0")
        rows, columns = ("[:, None]", "[None, :]") if len(self.shape) == 2 else ("", "")
        if rows:
            self.line(f"r = tl.arange(0, {self.shape[0]}){rows}")
            self.atoms += [Index("r", 0, self.shape[0] - 1, frozenset("r"))] * 2
        self.line(f"c = tl.arange(0, {self.shape[-1]}){columns}")
        self.atoms += [Index("c", 0, self.shape[-1] - 1, frozenset("c"))] * 3
        if self.chance(3):
            place = self.near(self.index(2))
            shift = max(0, -place.low)
            self.line(f"found = tl.load(table + (({place.text}) + {shift}) % {TABLE})")
            self.atoms.append(Index("found", 0, TABLE - 1, place.axes))
        if self.is_stencil:
            self.stencil()
            return
        if self.chance(3):
            self.looped(1)
        self.body(5, 0)
        for _ in range(self.between(1, 3)):
            if self.chance(2):
                self.compute()
            self.store()
        value = self.recent()[0].name
        place = "r * 0 + c * 0" if len(self.shape) == 2 else "c * 0"
        whole = f"program * {math.prod(self.shape)} + " + (f"r * {self.shape[1]} + c" if rows else "c")
        self.line(f"tl.store(last + {whole}, {value} + {place})")


def place_kernel(between: Between, machines: Machines, grids: list[tuple[int, ...]] = GRIDS) -> TextCase:
    """Kernels that load and store at places of many forms."""
    text = Places(between)
    text.is_stencil = text.chance(3)
    text.grid = text.pick([each for each in grids if math.prod(each) < 14] if text.is_stencil else grids)
    programs = math.prod(text.grid)
    wide = [[16], [32], [64], [128], [8], [4, 8], [8, 16], [2, 32], [16, 16]]
    if (programs < 14 and text.chance(2)) or text.is_stencil:
        wide = [[1024], [1024], [2048], [32, 64], [16, 128], [64, 64], [4096]]
    text.shape = tuple(text.pick(wide))
    text.scale = text.pick([1, 1, 1, 1, 1, 2, 3] if text.is_stencil else [1, 1, 2, 3, 4])
    text.kind = text.pick([INT32, FLOAT32])
    kinds = [INT32, INT32, INT8, INT64] if text.kind == INT32 else [FLOAT32, FLOAT32, FLOAT16, BFLOAT16, INT8]
    text.types = {name: text.pick(kinds) for name in ("x", "y", "both", "pool")} | {
        "out": text.pick([text.kind, kinds[2]])
    }
    text.runtime = {name: text.pick(RUNTIME) for name in ("n", "w", "h")}
    text.has_holes = text.kind == FLOAT32 and text.chance(3)
    # One program may write what it reads by another name.
    is_aliased = programs == 1 and text.types["x"] == text.types["both"] and text.chance(2)
    text.draw_all()
    types, scale, has_holes, apart = text.types, text.scale, text.has_holes, text.pick([0, 1, 3, 16, text.shape[-1]])
    sizes = {name: text.lengths.get(name, 0) + 8 for name in ("x", "y", "both", "out", "pool", "own")}
    size, runtime, skew = math.prod(text.shape), dict(text.runtime), text.pick([0, 0, 3])

    def memory() -> dict[str, object]:
        random = np.random.default_rng(4)

        def array(name: str, count: int = 1) -> np.ndarray:
            made = integers(random, sizes[name] * count + skew, types[name])[skew:]
            if has_holes and types[name] != INT8:
                made[random.random(made.size) < 0.1] = np.nan
            return made

        x, both, pool = array("x"), array("both", programs), array("pool", TABLE)
        if is_aliased:
            both = array("x", 1 - (-apart - sizes["both"]) // sizes["x"])
            x = both[apart:]
        rows = pool.ctypes.data + random.permutation(TABLE) * sizes["pool"] * pool.itemsize
        return {
            "out": np.zeros(programs * sizes["out"], types["out"]),
            "close": np.zeros(programs * size * scale + scale, types["out"]),
            "own": np.zeros(programs * sizes["own"], text.kind),
            "last": np.zeros(programs * size, text.kind),
            "both": both,
            "x": x,
            "y": array("y"),
            "pool": pool,
            "rows": rows.astype(np.int64),
            "table": random.integers(0, TABLE, TABLE).astype(np.int32),
            **runtime,
            "OUT": sizes["out"],
            "OWN": sizes["own"],
            "BOTH": sizes["both"],
        }

    arguments = [name if name.islower() else f"{name}: tl.constexpr" for name in memory()]
    lines = [f"def generated({', '.join(arguments)}):", *text.lines]
    options = {"num_warps": text.pick([1, 1, 4]), "num_stages": text.pick([2, 1, 3])}
    return TextCase("\n".join(lines) + "\n", memory, text.grid, text.pick(machines), options, addresses="rows")
