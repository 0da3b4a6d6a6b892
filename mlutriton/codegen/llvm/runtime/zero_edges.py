"""Edges of a matrix product that hold nothing but zeros, as tiles do that reach past the end of a matrix.

A sum that is +0 stays +0 when +0 times something finite is added to it, and any sum is the same after one addition of
+0 * +0 as after many. So one step along k stands for all steps that only do this, to the bit. What decides are the
values as they are in memory, wherever they come from; where no edge is zero, three loads find that out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlutriton.codegen.llvm.elements import LANES, lanes_below
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.isa.table import WRAM_STRIP_COLUMNS

_STRIP_ROW_BYTES = 4 * WRAM_STRIP_COLUMNS
_ALL_BITS = 0xFFFFFFFF
_WITHOUT_SIGN = 0x7FFFFFFF
_LARGEST_FINITE = 0x7F7FFFFF


@dataclass(frozen=True)
class Extents:
    """How much of a product has to be computed: blocks of c that begin beyond it take one step along k.

    Attributes:
        rows: rows of a before those that are zero.
        columns: columns of w before the blocks that are zero.
        depth: steps along k, of which the last one may stand for others.
    """

    rows: Count
    columns: Count
    depth: Count

    def steps(self, e: Emitter, row: Count, column: Count, depth: Count) -> Count:
        """Steps along k, out of ``depth``, of the block of c that begins at a row and a column."""
        inside = [e.value(f"icmp slt i64 {row}, {self.rows}"), e.value(f"icmp slt i64 {column}, {self.columns}")]
        return e.choose(e.both(*inside), depth, 1)


def extents_without_zeros(e: Emitter, a: str, lda: str, block_columns: int, *, integer: bool) -> Extents:
    """What has to be computed of ``%c += a * %w``, a product of ``%rows``, ``%columns``, ``%depth``, ``%accumulate``.

    Args:
        e: writes the function that has these parameters.
        a: float32, as it is multiplied.
        lda: stride of a in elements.
        block_columns: columns of c that are computed at a time.
        integer: whether what is multiplied stands for integers, which are finite and have one zero.
    """
    stride = e.multiply(lda, 4)
    strips = e.value(f"sdiv i64 {e.add('%columns', WRAM_STRIP_COLUMNS - 1)}, {WRAM_STRIP_COLUMNS}")
    strip_bytes = e.multiply("%depth", _STRIP_ROW_BYTES)
    all_of_a = _Matrix(a, "%rows", "%depth", stride)
    all_weights = _Matrix("%w", e.multiply(strips, "%depth"), WRAM_STRIP_COLUMNS, _STRIP_ROW_BYTES)

    def weights_of_step(k: Count) -> _Matrix:
        return _Matrix(e.pointer("%w", e.multiply(k, _STRIP_ROW_BYTES)), strips, WRAM_STRIP_COLUMNS, strip_bytes)

    def weights_of_block(column: Count) -> _Matrix:
        first = e.pointer("%w", e.multiply(element_of_weights(e, 0, column), 4))
        return _Matrix(first, "%depth", block_columns, _STRIP_ROW_BYTES)

    def row(number: Count) -> _Matrix:
        return _Matrix(e.pointer(a, e.multiply(number, stride)), 1, "%depth", stride)

    def sums(row: Count, column: Count) -> _Matrix:
        first = e.pointer("%c", e.multiply(e.add(e.multiply(row, "%columns"), column), 4))
        return _Matrix(first, e.subtract("%rows", row), e.subtract("%columns", column), e.multiply("%columns", 4))

    def unless_it_shows(first: Count, end: str, c: _Matrix, other: _Matrix) -> str:
        """Where zeros begin, if c there is +0 and all that they are multiplied with is finite; else the end."""
        if integer:
            return str(first)
        chosen = e.variable("i64")
        e.store64(end, chosen)
        with e.when(e.value(f"icmp slt i64 {first}, {end}")):
            c_is_zero = e.value(f"or i1 {e.value('icmp eq i64 %accumulate, 0')}, {c.is_zero(e)}")
            stays = e.value(f"and i1 {c_is_zero}, {other.is_finite(e)}")
            e.store64(e.choose(stays, first, end), chosen)
        return e.load64(chosen)

    rows = _before_zeros(e, "%rows", 1, row)
    rows = unless_it_shows(rows, "%rows", sums(rows, 0), all_weights)
    whole = e.value(f"and i64 {e.add('%columns', block_columns - 1)}, {-block_columns}")
    columns = e.minimum(_before_zeros(e, whole, block_columns, weights_of_block), "%columns")
    columns = unless_it_shows(columns, "%columns", sums(0, columns), all_of_a)

    steps = _before_zeros(e, "%depth", 1, weights_of_step)
    depth = e.variable("i64")
    e.store64("%depth", depth)
    left = e.subtract("%depth", steps)
    with e.when(e.value(f"icmp sgt i64 {left}, 1")):
        rest = _Matrix(e.pointer(a, e.multiply(steps, 4)), "%rows", left, stride)
        e.store64(e.choose(rest.is_zero(e), e.add(steps, 1), "%depth"), depth)
    return Extents(rows, columns, e.load64(depth))


def element_of_weights(e: Emitter, depth: Count, column: Count) -> Count:
    """Which element of ``%w``, of ``%depth`` rows, the weight of a step along k and a column is."""
    strip = e.value(f"lshr i64 {column}, {WRAM_STRIP_COLUMNS.bit_length() - 1}")
    inside = e.value(f"and i64 {column}, {WRAM_STRIP_COLUMNS - 1}")
    row = e.add(e.value(f"mul i64 {strip}, %depth"), depth)
    return e.add(e.multiply(row, WRAM_STRIP_COLUMNS), inside)


def _before_zeros(e: Emitter, end: str, step: int, part: Callable[[Count], _Matrix]) -> str:
    """The greatest number, ``end`` or less, before which a part is not zero; parts are ``step`` wide."""
    place = e.variable("i64")
    e.store64(end, place)
    head, look, found, done = (e.fresh(name) for name in ("head", "look", "found", "done"))
    e.jump(head)
    e.label(head)
    before = e.load64(place)
    e.branch(e.value(f"icmp sgt i64 {before}, 0"), look, done)
    e.label(look)
    start = e.subtract(before, step)
    e.branch(part(start).is_zero(e), found, done)
    e.label(found)
    e.store64(start, place)
    e.jump(head)
    e.label(done)
    return e.load64(place)


@dataclass(frozen=True)
class _Matrix:
    """Rows of float32.

    Attributes:
        pointer: address of the first element.
        rows: how many rows.
        columns: elements of a row.
        stride: bytes from row to row.
    """

    pointer: str
    rows: Count
    columns: Count
    stride: Count

    def is_zero(self, e: Emitter) -> str:
        """Whether all elements are +0."""
        return self._is_at_most(e, _ALL_BITS, 0)

    def is_finite(self, e: Emitter) -> str:
        """Whether no element is infinite or NaN."""
        return self._is_at_most(e, _WITHOUT_SIGN, _LARGEST_FINITE)

    def _is_at_most(self, e: Emitter, mask: int, limit: int) -> str:
        extents = f"i64 {self.rows}, i64 {self.columns}, i64 {self.stride}"
        return e.value(f"call i1 @{_at_most(e.library)}(ptr {self.pointer}, {extents}, i32 {mask}, i32 {limit})")


def _at_most(library: Library) -> str:
    """``mlu.at_most(pointer, rows, columns, stride, mask, limit)``: whether no element is, masked, above a limit.

    It reads whole vectors, past the end of a row too, and stops at the first row that has such an element.
    """
    name = "mlu.at_most"

    def define() -> str:
        e = Emitter(library)
        vector = f"<{LANES} x i32>"
        mask, limit = (e.in_all_lanes("i32", value, LANES) for value in ("%mask", "%limit"))
        greatest = e.variable(vector)
        larger = library.declare(f"llvm.umax.v{LANES}i32", f"{vector} {{}}({vector}, {vector})")
        reduce = library.declare(f"llvm.vector.reduce.or.v{LANES}i1", f"i1 {{}}(<{LANES} x i1>)")
        whole = e.value(f"and i64 %columns, {-LANES}")
        left = e.subtract("%columns", whole)
        inside = lanes_below(e, left)

        def look(first: str, column: Count, inside: str) -> None:
            bits = e.value(f"load {vector}, ptr {e.pointer(first, e.multiply(column, 4))}, align 1")
            bits = e.value(f"and {vector} {bits}, {mask}")
            if inside:
                bits = e.value(f"select <{LANES} x i1> {inside}, {vector} {bits}, {vector} zeroinitializer")
            before = e.value(f"load {vector}, ptr {greatest}")
            after = e.value(f"call {vector} @{larger}({vector} {before}, {vector} {bits})")
            e.do(f"store {vector} {after}, ptr {greatest}")

        e.do(f"store {vector} zeroinitializer, ptr {greatest}")
        with e.loop("%rows") as row:
            first = e.pointer("%pointer", e.multiply(row, "%stride"))
            with e.loop(whole, step=LANES) as column:
                look(first, column, "")
            with e.when(e.value(f"icmp sgt i64 {left}, 0")):
                look(first, whole, inside)
            above = e.value(f"icmp ugt {vector} {e.value(f'load {vector}, ptr {greatest}')}, {limit}")
            with e.when(e.value(f"call i1 @{reduce}(<{LANES} x i1> {above})")):
                e.leave("i1 false")
        e.do("ret i1 true")
        return e.function(
            f"define internal i1 @{name}(ptr %pointer, i64 %rows, i64 %columns, i64 %stride, i32 %mask, i32 %limit)"
            " noinline"
        )

    return library.require(name, define)
