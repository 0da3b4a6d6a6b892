"""Expressions of the language drawn at random, each as text and as what NumPy makes of the values of its variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from hypothesis import strategies as st

from tests.language.generated import numbers
from tests.language.generated.numbers import (
    BOOL,
    COMPARISONS,
    FLOAT32,
    INT32,
    INTEGERS,
    LOGIC,
    NUMBERS,
    SIGNED,
    Function,
    converted,
    is_float,
    promoted,
    triton,
)

Values = dict[str, np.ndarray]
Shape = tuple[int, ...]

CONSTANTS = [0, 1, 2, 3, 7, 100, 127]
FLOAT_CONSTANTS = [0.0, 1.0, -1.5, 0.1, 3.0, 1e4]
NESTED = 300  # characters of an expression that is made part of a longer one


@dataclass(frozen=True)
class Expression:
    """Text, and what it is for the values of the variables: an array of the element type and shape."""

    dtype: np.dtype
    shape: Shape
    text: str
    value: Callable[[Values], np.ndarray]

    @classmethod
    def of(cls, dtype: np.dtype, shape: Shape, text: str, function: Function, *operands: Expression) -> Expression:
        """A text with its operands' in place of ``{}``, and a function of their values."""
        return cls(
            dtype,
            shape,
            text.format(*(each.text for each in operands)),
            lambda values: function(*(each(values) for each in operands)),
        )

    def __call__(self, values: Values) -> np.ndarray:
        """The value, whose type and shape are what they were said to be."""
        result = np.asarray(self.value(values))
        assert (result.dtype, result.shape) == (self.dtype, self.shape), (self.text, result.dtype, result.shape)
        return result


@dataclass(frozen=True)
class Variable:
    """A name of the kernel.

    Attributes:
        limit: the greatest value of one that counts from zero; None of others, which may be assigned to.
    """

    name: str
    dtype: np.dtype
    shape: Shape
    limit: int | None = None

    def read(self) -> Expression:
        return Expression(self.dtype, self.shape, self.name, lambda values: values[self.name])


@dataclass(frozen=True)
class Frame:
    """What a kernel is drawn in.

    Attributes:
        sizes: of the axes that its tensors have.
        grid: programs along x and y.
        n: an argument of the kernel.
    """

    sizes: tuple[int, int]
    grid: tuple[int, int]
    n: int

    @property
    def programs(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def shapes(self) -> list[Shape]:
        a, b = self.sizes
        return [(), (a,), (b,), (a, b), (b, a)]


Scope = list[Variable]
Maker = Callable[[Scope, np.dtype, Shape, int], Expression]


class Expressions:
    """Draws expressions over the variables in scope."""

    def __init__(self, draw: st.DrawFn, frame: Frame) -> None:
        self.draw = draw
        self.frame = frame
        self.numbers = count()

    # ---- choices

    def pick(self, choices):
        return self.draw(st.sampled_from(list(choices)))

    def number(self, greatest: int) -> int:
        return self.draw(st.integers(0, greatest))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def entry(self, table: Mapping[str, Function], dtype: np.dtype, *operands: Expression) -> Expression:
        """An entry of a table on operands of one shape; its result has the type."""
        text = self.pick(table)
        return Expression.of(dtype, operands[0].shape, text, table[text], *operands)

    # ---- expressions of any kind

    def expression(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """An expression of an element type and shape, of at most so many operations one in another."""
        if depth <= 0:
            return self.leaf(scope, dtype, shape, 0)
        if shape and self.chance(6):
            return self.spread(scope, dtype, shape, depth - 1)
        made = self.pick(self.makers(dtype, shape))(scope, dtype, shape, depth - 1)
        return made if len(made.text) < NESTED else self.leaf(scope, dtype, shape, 0)

    def makers(self, dtype: np.dtype, shape: Shape) -> list[Maker]:
        """Methods that make expressions of an element type and shape; of some several times, to have more of those."""
        if dtype == BOOL:
            return [self.truth]
        return [self.chosen, self.cast, self.leaf, self.mixed] + [self.float if is_float(dtype) else self.integer] * 4

    def leaf(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A variable or a constant, or a comparison of two."""
        found = [each for each in scope if (each.dtype, each.shape) == (dtype, shape)]
        if found and not self.chance(4):
            return self.pick(found).read()
        if dtype == BOOL:
            of = self.pick([INT32, FLOAT32])
            return self.entry(COMPARISONS, BOOL, *(self.leaf(scope, of, shape, 0) for _ in range(2)))
        number = self.pick(FLOAT_CONSTANTS if is_float(dtype) else CONSTANTS)
        array = np.full(shape, number, dtype)
        return Expression.of(dtype, shape, f"tl.full({shape}, {number}, {triton(dtype)})", lambda: array)

    def spread(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A scalar everywhere, or a vector in every row or column."""
        axis = self.pick(range(len(shape))) if len(shape) > 1 else None
        if axis is None or self.chance(3):
            thin = self.expression(scope, dtype, (), depth)
        else:
            thin = self.thin(scope, dtype, tuple(size if each == axis else 1 for each, size in enumerate(shape)), depth)
        return Expression.of(
            dtype, shape, f"tl.broadcast_to({{}}, {shape})", lambda value: np.broadcast_to(value, shape), thin
        )

    def thin(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """An expression of the frame's shapes, or of a matrix' with one row or column."""
        if shape in self.frame.shapes:
            return self.expression(scope, dtype, shape, depth)
        axis = 0 if shape[1] == 1 else 1
        vector = self.expression(scope, dtype, (shape[axis],), depth)
        text = "({})[:, None]" if axis == 0 else "({})[None, :]"
        return Expression.of(dtype, shape, text, lambda value: value.reshape(shape), vector)

    def chosen(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        condition = self.expression(scope, BOOL, shape, depth)
        arms = [self.expression(scope, dtype, shape, depth) for _ in range(2)]
        return Expression.of(dtype, shape, "tl.where({}, {}, {})", np.where, condition, *arms)

    def cast(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        return self.cast_of(self.expression(scope, self.pick([*NUMBERS, BOOL]), shape, depth), dtype)

    def cast_of(self, source: Expression, dtype: np.dtype) -> Expression:
        """A conversion; floats that become integers are brought into a range that is every one's before."""
        if not (dtype in INTEGERS and is_float(source.dtype)):
            text = f"({{}}).to({triton(dtype)})"
            return Expression.of(dtype, source.shape, text, lambda x: converted(x, dtype), source)
        least, greatest = -100 if dtype in SIGNED else 0, 100
        return Expression.of(
            dtype,
            source.shape,
            f"tl.minimum(tl.maximum({{}}, {least:.1f}), 100.0).to({triton(dtype)})",
            lambda x: converted(np.fmin(np.fmax(x, x.dtype.type(least)), x.dtype.type(greatest)), dtype),
            source,
        )

    def truth(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        table, of = (LOGIC, BOOL) if self.chance(3) else (COMPARISONS, self.pick(NUMBERS))
        return self.entry(table, BOOL, *(self.expression(scope, of, shape, depth) for _ in range(2)))

    # ---- arithmetic

    def integer(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        first = self.expression(scope, dtype, shape, depth)
        if self.chance(4):
            return self.entry(numbers.INTEGER_FUNCTIONS, dtype, first)
        second = self.expression(scope, dtype, shape, depth)
        return self.entry(numbers.INTEGER_OPERATORS | numbers.INTEGER_OPERATIONS, dtype, first, second)

    def float(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        first = self.expression(scope, dtype, shape, depth)
        if self.chance(4):
            more = numbers.FLOAT32_FUNCTIONS if dtype == FLOAT32 else {}
            return self.entry(numbers.FLOAT_FUNCTIONS | more, dtype, first)
        second = self.expression(scope, dtype, shape, depth)
        if not self.chance(4):
            return self.operator(dtype, first, second)
        made = self.entry(numbers.FLOAT_EXTREMES, dtype, first, second)
        return Expression(dtype, shape, f"{made.text}.to({triton(dtype)})", made.value)  # bfloat16's are float32

    def mixed(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """An operator of two types, on shapes that broadcast."""
        kinds = NUMBERS if is_float(dtype) else INTEGERS
        thinner = [shape, (), (shape[0], 1), (1, shape[1])] if len(shape) == 2 else [shape, ()]
        shapes = [shape, self.pick(thinner)][:: self.pick([1, -1])]
        return self.operator(dtype, *(self.thin(scope, self.pick(kinds), of, depth) for of in shapes))

    def operator(self, dtype: np.dtype, a: Expression, b: Expression) -> Expression:
        """An operator on operands that it promotes and broadcasts; its result is converted."""
        floats = is_float(a.dtype) or is_float(b.dtype)
        table = numbers.FLOAT_OPERATORS if floats else numbers.INTEGER_OPERATORS
        text = self.pick(table)
        meeting = promoted(a.dtype, b.dtype, divides="/" in text)
        made = Expression.of(
            meeting,
            np.broadcast_shapes(a.shape, b.shape),
            text,
            lambda x, y: table[text](converted(x, meeting), converted(y, meeting)),
            a,
            b,
        )
        return made if meeting == dtype else self.cast_of(made, dtype)
