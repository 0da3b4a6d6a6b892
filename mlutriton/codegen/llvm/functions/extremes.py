"""Extremes along an axis and where they stand, as functions over pointers: the instructions red.argmax and red.argmin.

Sixteen elements are compared at a time, each lane with the best of its own and its place; at the end of a row the lanes
are compared by halves. Of equal elements the first one is taken, and NaNs are equal to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.codegen.llvm.elements import (
    LANES,
    Lanes,
    bits_kind,
    bits_of,
    constant,
    from_bits,
    kind,
    lanes_below,
    load,
    number_of,
    part_of,
    repeated,
    shuffled,
    splat,
    store,
    store_first,
    wide,
)
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.dtypes import F64, I32, DType


def place_of_extreme(library: Library, dtype: DType, is_max: bool) -> str:
    """``f(dst, index, a, outer, n, inner)``: the extreme along n and the first place where it stands."""
    name = f"mlu.{'argmax' if is_max else 'argmin'}.{dtype}"

    def define() -> str:
        e = Emitter(library)
        best = _Best(e, dtype, is_max)
        line = e.value(f"mul i64 %inner, {dtype.bytes}")
        plane = e.value(f"mul i64 %n, {line}")
        is_row = e.value("icmp eq i64 %inner, 1")
        whole = e.value(f"and i64 %n, {-LANES}")
        with e.when(is_row), e.loop("%outer") as outer:
            source = e.pointer("%a", e.value(f"mul i64 {outer}, {plane}"))
            best.begin(_first(e, load(e, source, dtype, LANES)))

            def compare(first: str, mask: str = "", source: str = source) -> None:
                value = load(e, e.pointer(source, e.multiply(first, dtype.bytes)), dtype, LANES)
                best.compare(value, _lanes_from(e, first), mask)

            with e.loop(whole, step=LANES) as first:
                compare(first)
            with e.when(e.value(f"icmp slt i64 {whole}, %n")):
                compare(whole, lanes_below(e, e.subtract("%n", whole)))
            extreme, place = best.of_all_lanes()
            store(e, extreme, e.pointer("%dst", e.multiply(outer, dtype.bytes)))
            store(e, place, e.pointer("%index", e.multiply(outer, I32.bytes)))
        with (
            e.when(e.value(f"xor i1 {is_row}, true")),
            e.loop("%outer") as outer,
            e.loop("%inner", step=LANES) as inner,
        ):
            source = e.pointer("%a", e.add(e.value(f"mul i64 {outer}, {plane}"), e.multiply(inner, dtype.bytes)))
            best.begin(load(e, source, dtype, LANES))
            with e.loop("%n", start=1) as k:
                value = load(e, e.pointer(source, e.value(f"mul i64 {k}, {line}")), dtype, LANES)
                best.compare(value, splat(e, Lanes(I32, 1, number=e.value(f"trunc i64 {k} to i32"))).number)
            result = e.add(e.value(f"mul i64 {outer}, %inner"), inner)
            inside = lanes_below(e, e.subtract("%inner", inner))
            extreme, place = best.of_each_lane()
            store_first(e, extreme, e.pointer("%dst", e.multiply(result, dtype.bytes)), inside)
            store_first(e, place, e.pointer("%index", e.multiply(result, I32.bytes)), inside)
        e.do("ret void")
        return e.function(
            f"define internal void @{name}(ptr %dst, ptr %index, ptr %a, i64 %outer, i64 %n, i64 %inner) noinline"
        )

    return library.require(name, define)


@dataclass
class _Best:
    """The best element so far of each lane, and its place; written where the loops of ``e`` stand.

    Elements are compared as integers, of which the greatest is the best: that is one simple instruction on any host,
    where the rules of NaN make it several, each waiting for the one before.

    Attributes:
        e: where the code is written.
        dtype: of the elements.
        is_max: whether the greatest is the best.
    """

    e: Emitter
    dtype: DType
    is_max: bool

    def __post_init__(self) -> None:
        held = kind(self.dtype)
        self._key_kind = {"float": "i32", "double": "i64", "i1": "i8"}.get(held, held)
        self._kinds = (self._key_kind, "i32", bits_kind(self.dtype))
        self._variables = [self.e.variable(wide(scalar, LANES)) for scalar in self._kinds]

    def begin(self, value: Lanes) -> None:
        """Take elements that stand at place 0 of their rows or columns."""
        self._keep([self._key(value), "zeroinitializer", bits_of(self.e, value)])

    def compare(self, value: Lanes, places: str, mask: str = "") -> None:
        """Compare with elements that stand behind all before them; with a mask, those of its lanes."""
        e, before = self.e, self._kept()
        new = [self._key(value), places, bits_of(e, value)]
        wins = e.value(f"icmp sgt {wide(self._key_kind, LANES)} {new[0]}, {before[0]}")
        if mask:
            wins = e.value(f"and {wide('i1', LANES)} {wins}, {mask}")
        self._keep(self._chosen(wins, new, before, LANES))

    def of_each_lane(self) -> tuple[Lanes, Lanes]:
        """The best of each lane and their places."""
        _, place, bits = self._kept()
        return Lanes(self.dtype, LANES, bits=bits), Lanes(I32, LANES, number=place)

    def of_all_lanes(self) -> tuple[Lanes, Lanes]:
        """The best of all lanes and its place, which is the first of equal ones."""
        e, kept, lanes = self.e, self._kept(), LANES
        while lanes > 1:
            lanes //= 2
            first, second = (
                [part_of(e, each, held, 2 * lanes, begin, lanes) for held, each in zip(self._kinds, kept, strict=True)]
                for begin in (0, lanes)
            )
            keys, flags = wide(self._key_kind, lanes), wide("i1", lanes)
            is_equal = e.value(f"icmp eq {keys} {second[0]}, {first[0]}")
            is_before = e.value(f"icmp slt {wide('i32', lanes)} {second[1]}, {first[1]}")
            wins_tie = e.value(f"and {flags} {is_equal}, {is_before}")
            wins = e.value(f"or {flags} {e.value(f'icmp sgt {keys} {second[0]}, {first[0]}')}, {wins_tie}")
            kept = self._chosen(wins, second, first, lanes)
        _, place, bits = kept
        return Lanes(self.dtype, 1, bits=bits), Lanes(I32, 1, number=place)

    def _kept(self) -> list[str]:
        pairs = zip(self._kinds, self._variables, strict=True)
        return [self.e.value(f"load {wide(scalar, LANES)}, ptr {variable}") for scalar, variable in pairs]

    def _keep(self, values: list[str]) -> None:
        for scalar, value, variable in zip(self._kinds, values, self._variables, strict=True):
            self.e.do(f"store {wide(scalar, LANES)} {value}, ptr {variable}")

    def _chosen(self, condition: str, yes: list[str], no: list[str], lanes: int) -> list[str]:
        flags, vectors = wide("i1", lanes), [wide(scalar, lanes) for scalar in self._kinds]
        return [
            self.e.value(f"select {flags} {condition}, {vector} {a}, {vector} {b}")
            for vector, a, b in zip(vectors, yes, no, strict=True)
        ]

    def _key(self, value: Lanes) -> str:
        """The integers in whose order elements are better; those of zeros are equal, and those of NaNs the greatest."""
        e, number, keys = self.e, number_of(self.e, value), wide(self._key_kind, LANES)
        if not self.dtype.is_float:
            if self.dtype.is_bool:
                number = e.value(f"zext {wide('i1', LANES)} {number} to {keys}")
            return number if self.is_max else e.value(f"xor {keys} {number}, {self._repeated(-1)}")
        numbers, bits = wide(kind(self.dtype), LANES), self.dtype.bits if self.dtype is F64 else 32
        if not self.is_max:
            number = e.value(f"fneg {numbers} {number}")
        # The sum of both zeros is +0.
        positive = e.value(f"fadd {numbers} {number}, {constant(0, self.dtype, LANES).number}")
        key = e.value(f"bitcast {numbers} {positive} to {keys}")
        sign = e.value(f"ashr {keys} {key}, {self._repeated(bits - 1)}")
        greatest = (1 << bits - 1) - 1
        key = e.value(f"xor {keys} {key}, {e.value(f'and {keys} {sign}, {self._repeated(greatest)}')}")
        is_nan = e.value(f"fcmp uno {numbers} {number}, {number}")
        return e.value(f"select {wide('i1', LANES)} {is_nan}, {keys} {self._repeated(greatest)}, {keys} {key}")

    def _repeated(self, value: int) -> str:
        return repeated(self._key_kind, value, LANES)


def _first(e: Emitter, value: Lanes) -> Lanes:
    """The first lane in all lanes."""
    bits = shuffled(e, [bits_of(e, value)], bits_kind(value.dtype), LANES, [0] * LANES)
    return from_bits(e, bits, value.dtype, LANES)


def _lanes_from(e: Emitter, first: str) -> str:
    """The numbers of the lanes, counted from ``first`` on."""
    places = wide("i32", LANES)
    start = splat(e, Lanes(I32, 1, number=e.value(f"trunc i64 {first} to i32"))).number
    return e.value(f"add {places} {start}, <{', '.join(f'i32 {lane}' for lane in range(LANES))}>")
