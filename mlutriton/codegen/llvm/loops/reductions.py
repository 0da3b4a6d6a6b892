"""Reductions along rows: values are combined lane by lane, and the lanes of a row by halves once it is over.

The lanes of sixteen rows are combined side by side: the halves of two rows become one vector.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import pairwise

from mlutriton.codegen.llvm.elements import (
    LANES,
    Lanes,
    bits_kind,
    from_bits,
    kind,
    lanes_below,
    number_of,
    part_of,
    store,
    store_first,
)
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library, wide
from mlutriton.codegen.llvm.functions.combination import Combination
from mlutriton.dtypes import DType
from mlutriton.isa.reduction import lanes as reduction_lanes

# So many rows are worth a square.
_ROWS_OF_SQUARE = 4


class RowReduction:
    """Combines the elements of each row of a loop nest, and stores one result for each.

    Args:
        e: where the loops are written.
        operation: name in :mod:`mlutriton.arithmetic`.
        dtype: of the elements.
        rows: how many there are.
        columns: elements of each.
        target: address of the first result.
    """

    def __init__(self, e: Emitter, operation: str, dtype: DType, rows: Count, columns: Count, target: str) -> None:
        self._e, self._dtype, self._columns, self._target = e, dtype, columns, target
        self._combination = Combination(operation, dtype)
        self._vector = wide(kind(self._combination.held), LANES)
        # Of what is not rounded any order gives the same; the fewest vectors are the least work at the end of a row.
        count = reduction_lanes(dtype.bytes) // LANES if self._combination.is_ordered else 1
        self._vectors = [e.variable(self._vector) for _ in range(count)]
        self._rows = rows
        self._square = ""
        if kind(dtype) != "i1" and (isinstance(rows, str) or rows >= _ROWS_OF_SQUARE):
            self._square = e.variable(f"[{LANES} x {self._vector}]")

    def begin_row(self) -> None:
        """Forget the row before."""
        for place in self._vectors:
            self._e.do(f"store {self._vector} {self._combination.identity}, ptr {place}")

    def add(self, value: Lanes, mask: str) -> None:
        """Combine with the vector whose turn it is, the first, and move it to the end: the next one takes its place.

        Args:
            value: the next ``LANES`` elements of the row.
            mask: where it is not empty, only its lanes count.
        """
        e = self._e
        before = e.value(f"load {self._vector}, ptr {self._vectors[0]}")
        value = self._combination.begin(e, value)
        after = number_of(e, self._combination.combine(e, self._combination.of(before), value))
        if mask:
            after = e.value(f"select <{LANES} x i1> {mask}, {self._vector} {after}, {self._vector} {before}")
        self._take_turns(after)

    def end_row(self, row: Count) -> None:
        """Combine the vectors of a row, and store its result, or those of all rows of a square that it fills."""
        e = self._e
        combination = self._combination
        parts = [combination.of(vector) for vector in self._in_order()]
        combined = _halved(e, combination, parts)
        if not self._square:
            store(e, combination.end(e, _combined_lanes(e, combination, combined)), self._place(row))
            return
        inside = row % LANES if isinstance(row, int) else e.value(f"and i64 {row}, {LANES - 1}")
        vector_bytes = LANES * _bytes_of(combination.held)
        place = e.pointer(self._square, e.multiply(inside, vector_bytes))
        e.do(f"store {self._vector} {number_of(e, combined)}, ptr {place}")
        with e.when(e.value(f"icmp eq i64 {inside}, {LANES - 1}")):
            self._store_square(e.subtract(row, LANES - 1), LANES)

    def finish(self) -> None:
        """Store the results of the last rows, which fill no square."""
        e = self._e
        if not self._square:
            return
        left: Count
        if isinstance(self._rows, int):
            left = self._rows % LANES
            if left:
                self._store_square(self._rows - left, left)
            return
        left = e.value(f"and i64 {self._rows}, {LANES - 1}")
        with e.when(e.value(f"icmp ne i64 {left}, 0")):
            self._store_square(e.subtract(self._rows, left), left)

    def _store_square(self, first: Count, count: Count) -> None:
        function = self._e.library.borrow(_square_reduction, self._combination)
        self._e.do(f"call void @{function}(ptr {self._place(first)}, ptr {self._square}, i64 {count})")

    def _place(self, row: Count) -> str:
        return self._e.pointer(self._target, self._e.multiply(row, self._dtype.bytes))

    def _take_turns(self, last: str) -> None:
        e = self._e
        for place, following in pairwise(self._vectors):
            e.do(f"store {self._vector} {e.value(f'load {self._vector}, ptr {following}')}, ptr {place}")
        e.do(f"store {self._vector} {last}, ptr {self._vectors[-1]}")

    def _in_order(self) -> list[str]:
        """The vectors in the order of their lanes, after a row whose steps have moved them around."""
        e, count = self._e, len(self._vectors)
        vectors = [e.value(f"load {self._vector}, ptr {place}") for place in self._vectors]
        if count == 1:
            return vectors
        if isinstance(self._columns, int):
            steps = -(-self._columns // LANES)
            return [vectors[(number - steps) % count] for number in range(count)]
        steps = e.value(f"lshr i64 {e.add(self._columns, LANES - 1)}, {LANES.bit_length() - 1}")
        missing = e.subtract(0, steps)
        for bit in range(count.bit_length() - 1):
            moves = e.value(f"icmp ne i64 {e.value(f'and i64 {missing}, {1 << bit}')}, 0")
            moved = vectors[1 << bit :] + vectors[: 1 << bit]
            pairs = zip(moved, vectors, strict=True)
            vectors = [e.value(f"select i1 {moves}, {self._vector} {a}, {self._vector} {b}") for a, b in pairs]
        return vectors


# More vectors than that at a time no host has registers for.
_LONGEST_SHORT_ROW = 8


def is_short(n: Count, inner: Count) -> bool:
    """True if ``short_reduction`` can combine the lines of [n, inner]."""
    if isinstance(n, str) or isinstance(inner, str):
        return False
    return n in (2, 4, _LONGEST_SHORT_ROW) and inner in (1, 2, 4, 8)


def short_reduction(library: Library, operation: str, dtype: DType, n: int, inner: int) -> str:
    """``f(dst, a, outer)``: combine the lines of each [n, inner], which are short: many of them at a time.

    Vectors are sorted into one for each line; the order is that of longer rows.
    """
    name = f"mlu.short.{operation}.{dtype}.{n}.{inner}"

    def define() -> str:
        e = Emitter(library)
        vector = wide(bits_kind(dtype), LANES)
        results = e.value(f"mul i64 %outer, {inner}")
        with e.loop(results, step=LANES) as first:
            source = e.pointer("%a", e.multiply(first, n * dtype.bytes))
            loaded = [
                e.value(f"load {vector}, ptr {e.pointer(source, LANES * dtype.bytes * i)}, align 1") for i in range(n)
            ]
            combination = Combination(operation, dtype)
            lines = [from_bits(e, bits, dtype, LANES) for bits in _sorted_lines(e, loaded, vector, inner)]
            lines = [combination.begin(e, line) for line in lines]
            result = _halved(e, combination, lines) if inner == 1 else reduce(partial(combination.combine, e), lines)
            target = e.pointer("%dst", e.multiply(first, dtype.bytes))
            store_first(e, combination.end(e, result), target, lanes_below(e, e.subtract(results, first)))
        e.do("ret void")
        return e.function(f"define internal void @{name}(ptr %dst, ptr %a, i64 %outer) noinline")

    return library.require(name, define)


def _sorted_lines(e: Emitter, vectors: list[str], vector: str, length: int) -> list[str]:
    """Vectors of the first, second, ... of every ``len(vectors)`` lines of ``length`` elements."""
    if len(vectors) == 1:
        return vectors
    even, odd = (_sorted_lines(e, _lines(e, vectors, vector, length, which), vector, length) for which in range(2))
    return [line for pair in zip(even, odd, strict=True) for line in pair]


def _lines(e: Emitter, vectors: list[str], vector: str, length: int, which: int) -> list[str]:
    """The even or the odd lines of ``length`` elements of each two neighbouring vectors, in their order."""
    chosen = [lane for lane in range(2 * LANES) if lane // length % 2 == which]
    mask = ", ".join(f"i32 {lane}" for lane in chosen)
    return [
        e.value(f"shufflevector {vector} {vectors[i]}, {vector} {vectors[i + 1]}, <{LANES} x i32> <{mask}>")
        for i in range(0, len(vectors), 2)
    ]


def _bytes_of(dtype: DType) -> int:
    """Bytes of the form in which an element is computed with."""
    return {"float": 4, "double": 8}.get(kind(dtype), dtype.bytes)


def _halved(e: Emitter, combination: Combination, parts: list[Lanes]) -> Lanes:
    """Combine the second half with the first until one is left."""
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [combination.combine(e, parts[i], parts[i + half]) for i in range(half)]
    return parts[0]


def _combined_lanes(e: Emitter, combination: Combination, value: Lanes) -> Lanes:
    """Combine the halves of a vector until one element is left."""
    dtype, vector = value.dtype, wide(kind(value.dtype), LANES)
    name = f"mlu.tree.{combination.name}.{combination.dtype}"

    def define() -> str:
        inner = Emitter(e.library)
        part = Lanes(dtype, LANES, number="%x")
        while part.lanes > 1:
            halves = [_lanes_of(inner, part, first, part.lanes // 2) for first in (0, part.lanes // 2)]
            part = combination.combine(inner, *halves)
        inner.do(f"ret {kind(dtype)} {number_of(inner, part)}")
        return inner.function(f"define internal {kind(dtype)} @{name}({vector} %x)")

    e.library.require(name, define)
    return Lanes(dtype, 1, number=e.value(f"call {kind(dtype)} @{name}({vector} {number_of(e, value)})"))


def _lanes_of(e: Emitter, value: Lanes, first: int, count: int) -> Lanes:
    """Some lanes of a vector."""
    number = part_of(e, number_of(e, value), kind(value.dtype), value.lanes, first, count)
    return Lanes(value.dtype, count, number=number)


def _square_reduction(library: Library, combination: Combination) -> str:
    """``f(target, vectors, count)``: as ``_combined_lanes`` of each vector; stores the first ``count`` results."""
    name, held = f"mlu.trees.{combination.name}.{combination.dtype}", kind(combination.held)
    vector = wide(held, LANES)

    def define() -> str:
        inner = Emitter(library)
        vector_bytes = LANES * _bytes_of(combination.held)
        rows = [inner.value(f"load {vector}, ptr {inner.pointer('%vectors', vector_bytes * i)}") for i in range(LANES)]
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            pairs = zip(*(_lines(inner, rows, vector, lanes, which) for which in range(2)), strict=True)
            halves = [[combination.of(number) for number in pair] for pair in pairs]
            rows = [number_of(inner, combination.combine(inner, *pair)) for pair in halves]
        result = combination.end(inner, combination.of(rows[0]))
        store_first(inner, result, "%target", lanes_below(inner, "%count"))
        inner.do("ret void")
        return inner.function(f"define internal void @{name}(ptr %target, ptr %vectors, i64 %count) noinline")

    return library.require(name, define)
