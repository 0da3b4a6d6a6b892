"""Places in memory drawn at random, and loads from them: tiles, steps, rows found by an index, elements anywhere."""

from __future__ import annotations

import numpy as np

from tests.language.generated.axes import AxisExpressions
from tests.language.generated.expressions import Expression, Frame, Maker, Scope, Shape
from tests.language.generated.numbers import BOOL, INT32, INT64

GATHERED = 64  # elements that computed places choose from
ROWS = 16  # that an index chooses from
SLACK = 16  # elements that a program's own memory has beyond its tiles
FAR = 1 << 18  # elements beyond which nothing is loaded


def owned(frame: Frame) -> int:
    """Elements of a type that a program has for itself, to write and to read."""
    return max(9 * frame.sizes[0] * frame.sizes[1], GATHERED) + SLACK


def positions(shape: Shape, axis: int) -> Expression:
    """Positions along an axis, which broadcast over the others."""
    lengths = tuple(size if each == axis else 1 for each, size in enumerate(shape))
    index = "" if len(shape) == 1 else ("[:, None]", "[None, :]")[axis]
    array = np.arange(shape[axis], dtype=np.int32).reshape(lengths)
    return Expression.of(INT32, lengths, f"tl.arange(0, {shape[axis]}){index}", lambda: array)


def linear(shape: Shape, terms: list[tuple[Expression, int]], start: int) -> Expression:
    """A start and so many times each of some integers."""
    texts = [f"{{}} * {factor}" for _, factor in terms]

    def value(*parts: np.ndarray) -> np.ndarray:
        products = (part * np.int32(factor) for part, (_, factor) in zip(parts, terms, strict=True))
        return np.broadcast_to(sum(products, np.int32(start)), shape)

    return Expression.of(INT32, shape, f"({' + '.join([*texts, str(start)])})", value, *(each for each, _ in terms))


def in_order(shape: Shape) -> Expression:
    """Places of elements one after another."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return linear(shape, [(positions(shape, axis), stride) for axis, stride in enumerate(strides)], 0)


class Accesses(AxisExpressions):
    """Draws places, masks and loads too."""

    def __init__(self, draw, frame: Frame) -> None:
        super().__init__(draw, frame)
        self.lengths: dict[np.dtype, int] = {}  # of the arrays that are read

    def makers(self, dtype: np.dtype, shape: Shape) -> list[Maker]:
        return super().makers(dtype, shape) + ([] if dtype == BOOL else [self.loaded] * 3)

    def leaf(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A tile of an array too."""
        if dtype == BOOL or not self.chance(3):
            return super().leaf(scope, dtype, shape, depth)
        place, length = self.affine(scope, shape)
        return self.load_all(dtype, self.array(dtype, length), place)

    def array(self, dtype: np.dtype, length: int) -> str:
        """The name of an array that no program writes, which is at least so long."""
        self.lengths[dtype] = max(self.lengths.get(dtype, 0), length)
        return f"array_{dtype.name}"

    def loaded(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A load from an array that no program writes."""
        choice = self.pick(["affine", "affine", "row" if shape else "affine", "computed"])
        if choice == "affine":
            place, length = self.affine(scope, shape)
        elif choice == "row":
            place, length = self.row(scope, shape, depth), ROWS * shape[-1]
        else:
            place, length = self.computed(scope, shape, depth), GATHERED
            if self.chance(2):  # counted from a place of the program's own, or of an iteration's
                base, reach = self.affine(scope, ())
                place, length = Expression.of(place.dtype, shape, "({} + {})", np.add, base, place), length + reach
        return self.load(scope, dtype, self.array(dtype, length), place, depth)

    def load_all(self, dtype: np.dtype, array: str, place: Expression) -> Expression:
        text = f"tl.load({array} + {place.text})"
        return Expression(dtype, place.shape, text, lambda values: values[array][place(values)])

    def load(self, scope: Scope, dtype: np.dtype, array: str, place: Expression, depth: int) -> Expression:
        """A load at places that are all there, perhaps under a mask."""
        shape, address, whole = place.shape, f"{array} + {place.text}", self.load_all(dtype, array, place)
        if self.chance(2):
            return whole
        mask, other = self.mask(scope, shape, depth), self.leaf(scope, dtype, shape, 0)
        text = f"tl.load({address}, mask={mask.text}, other={other.text})"
        if self.chance(3):  # without another value the rest is open
            text = f"tl.where({mask.text}, tl.load({address}, mask={mask.text}), {other.text})"
        return Expression(dtype, shape, text, lambda values: np.where(mask(values), whole(values), other(values)))

    def mask(self, scope: Scope, shape: Shape, depth: int) -> Expression:
        """A mask that broadcasts to a shape: of axes that end somewhere, or any condition."""
        if not shape or self.chance(3):
            return self.expression(scope, BOOL, shape, depth)
        axes = self.pick([[0], [1], [0, 1]]) if len(shape) == 2 else [0]
        ends = [
            Expression.of(BOOL, each.shape, "({} < {})", np.less, each, self.leaf(scope, INT32, (), 0))
            for each in (positions(shape, axis) for axis in axes)
        ]
        if len(ends) == 1:
            return ends[0]
        return Expression.of(BOOL, shape, "({} & {})", np.logical_and, *ends)

    # ---- places

    def affine(self, scope: Scope, shape: Shape) -> tuple[Expression, int]:
        """Places that are linear in positions and in what counts, and how many elements they reach over."""
        if len(shape) == 2:
            rows, columns = shape
            tiles = [(columns, 1), (1, rows), (columns + 3, 1), (2 * columns, 2), (-columns, 1), (columns, -1)]
            strides = self.pick([*tiles, (0, 1), (1, 0), (1, 1)])
        else:
            strides = (self.pick([1, 1, 2, 3, -1, -3, 0]),) if shape else ()
        terms = [(positions(shape, axis), stride) for axis, stride in enumerate(strides)]
        limits = [size - 1 for size in shape]
        for each in scope:
            factor = self.pick([0, 0, 0, 1, 3, shape[-1] if shape else 2, int(np.prod(shape))])
            if each.limit is not None and 0 < factor * each.limit < FAR:
                terms.append((each.read(), factor))
                limits.append(each.limit)
        reaches = [factor * limit for (_, factor), limit in zip(terms, limits, strict=True)]
        start = self.number(18) - sum(min(reach, 0) for reach in reaches)
        return linear(shape, terms, start), start + sum(max(reach, 0) for reach in reaches) + 1

    def computed(self, scope: Scope, shape: Shape, depth: int) -> Expression:
        """Places anywhere among the first of an array."""
        index = self.expression(scope, self.pick([INT32, INT64]), shape, depth)
        return Expression.of(index.dtype, shape, f"({{}} & {GATHERED - 1})", lambda i: i & GATHERED - 1, index)

    def row(self, scope: Scope, shape: Shape, depth: int) -> Expression:
        """Places of whole rows that an index says."""
        dtype, width = self.pick([INT32, INT64]), shape[-1]
        index = (self.loaded if self.chance(2) else self.expression)(scope, dtype, shape[:-1], depth)
        spread = "({})[:, None]" if len(shape) == 2 else "({})"
        return Expression.of(
            dtype,
            shape,
            f"(({spread} & {ROWS - 1}) * {width} + {{}})",
            lambda i, j: (i[..., None] & ROWS - 1) * dtype.type(width) + j,
            index,
            positions(shape, len(shape) - 1),
        )

    def own(self, scope: Scope, shape: Shape) -> Expression:
        """Places in a program's own memory, each of which occurs once."""
        size = int(np.prod(shape))
        ordered = in_order(shape)
        match self.pick(["strided", "strided", "turned", "exclusive", "multiple"]):
            case "exclusive":
                turn = self.number(size - 1)
                return Expression.of(INT32, shape, f"({{}} ^ {turn})", lambda i: i ^ turn, ordered)
            case "multiple":
                text = f"(({{}} * 5 + 3) & {size - 1})"
                return Expression.of(INT32, shape, text, lambda i: i * 5 + 3 & size - 1, ordered)
            case "turned" if len(shape) == 2:
                strides = [1, shape[0]]
            case _:
                gap = self.pick([1, 1, 2])
                strides = [gap * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        start = self.number(7)
        terms = [(positions(shape, axis), stride) for axis, stride in enumerate(strides)]
        if self.chance(2):
            # A tile for each iteration of a loop, or tiles that overlap.
            counters = [each for each in scope if each.limit is not None and each.limit < 8]
            moved = self.pick(counters).read() if counters else self.leaf(scope, INT32, (), 0)
            terms.append((Expression.of(INT32, (), "({} & 7)", lambda i: i & 7, moved), self.pick([size, 1])))
        return linear(shape, terms, start)
