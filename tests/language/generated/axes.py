"""Expressions that work along axes: other orders of elements, scans, reductions and products of matrices."""

from __future__ import annotations

import numpy as np

from tests.language.generated import numbers
from tests.language.generated.expressions import Expression, Expressions, Maker, Scope, Shape
from tests.language.generated.numbers import BOOL, FLOAT32, FLOAT64, INT8, INT32, INTEGERS, triton


class AxisExpressions(Expressions):
    """Draws expressions along axes too."""

    def makers(self, dtype: np.dtype, shape: Shape) -> list[Maker]:
        more: list[Maker] = []
        if shape and dtype != BOOL:
            more += [self.rearranged]
        if dtype in INTEGERS:
            more += [self.rearranged] if len(shape) == 2 else [self.reduced]
        if dtype in (FLOAT32, FLOAT64) and len(shape) < 2:
            more += [self.total, self.extreme]
        if len(shape) == 2:
            more += {FLOAT32: [self.product], INT32: [self.integer_product]}.get(dtype, [])
        return super().makers(dtype, shape) + more

    def rearranged(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """Elements in another order, or sums and products of those so far."""
        makers = [self.flipped, self.gathered, self.turned if len(shape) == 2 else self.dealt]
        if dtype in INTEGERS:
            makers += [self.scanned, self.scanned, self.sorted]
        return self.pick(makers)(scope, dtype, shape, depth)

    def flipped(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        axis = self.pick(range(len(shape)))
        operand = self.expression(scope, dtype, shape, depth)
        if shape[axis] == 1:  # Triton makes another shape of it
            return operand
        return Expression.of(dtype, shape, f"tl.flip({{}}, {axis})", lambda x: np.flip(x, axis), operand)

    def gathered(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        axis = self.pick(range(len(shape)))
        last = shape[axis] - 1
        operands = [self.expression(scope, of, shape, depth) for of in (dtype, INT32)]
        text = f"tl.gather({{}}, {{}} & {last}, {axis})"
        return Expression.of(dtype, shape, text, lambda x, i: np.take_along_axis(x, i & last, axis), *operands)

    def sorted(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        operand = self.expression(scope, dtype, shape, depth)
        return Expression.of(dtype, shape, f"tl.sort({{}}).to({triton(dtype)})", np.sort, operand)

    def turned(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A matrix of the other shape, transposed or read in the order of its elements."""
        operand = self.expression(scope, dtype, shape[::-1], depth)
        if self.chance(2):
            return Expression.of(dtype, shape, "tl.trans({})", np.transpose, operand)
        return Expression.of(dtype, shape, f"tl.reshape({{}}, {shape})", lambda x: x.reshape(shape), operand)

    def dealt(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A vector that is split into its even and odd elements, which are put together in one way or the other."""
        operand = self.expression(scope, dtype, shape, depth)
        if shape == (1,):
            return operand
        parts = f"tl.split(tl.reshape({{}}, ({shape[0] // 2}, 2)))"
        if self.chance(2):
            return Expression.of(dtype, shape, f"tl.interleave(*{parts})", lambda x: x, operand)
        text = f"tl.reshape(tl.trans(tl.join(*{parts})), {shape})"
        return Expression.of(dtype, shape, text, lambda x: np.concatenate([x[::2], x[1::2]]), operand)

    def scanned(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """Sums or products so far, which wrap."""
        axis, name, back = self.pick(range(len(shape))), self.pick(numbers.SCANS), self.pick([False, True])

        def value(x: np.ndarray) -> np.ndarray:
            scan = numbers.SCANS[name]
            return np.flip(scan(np.flip(x, axis), axis, dtype), axis) if back else scan(x, axis, dtype)

        text = f"tl.{name}({{}}, {axis}, reverse={back}).to({triton(dtype)})"
        return Expression.of(dtype, shape, text, value, self.expression(scope, dtype, shape, depth))

    def longer(self, shape: Shape) -> tuple[Shape, int]:
        """A shape of the frame, and the axis without which it is the given one."""
        return self.pick(
            (each, axis)
            for each in self.frame.shapes
            for axis in range(len(each))
            if each[:axis] + each[axis + 1 :] == shape
        )

    def reduced(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """What is left of a vector for a scalar, of a matrix for a vector."""
        of, axis = self.longer(shape)
        if dtype == INT32 and self.chance(3):
            name, function = self.pick([("argmax", np.argmax), ("argmin", np.argmin)])
            operand = self.expression(scope, self.pick(INTEGERS), of, depth)
        else:
            name, function = self.pick(numbers.REDUCTIONS.items())
            operand = self.expression(scope, dtype, of, depth)
        text = f"tl.{name}({{}}, {axis}).to({triton(dtype)})"
        # NumPy sums in a wider type, which comes to the same.
        return Expression.of(dtype, shape, text, lambda x: np.asarray(function(x, axis=axis)).astype(dtype), operand)

    def extreme(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """The greatest or least of floats, of which NaN is neither; of zeros the positive one."""
        of, axis = self.longer(shape)
        name, function = self.pick([("max", np.fmax), ("min", np.fmin)])
        text, zero = f"(tl.{name}({{}}, {axis}) + 0.0)", dtype.type(0)
        operand = self.expression(scope, dtype, of, depth)
        return Expression.of(dtype, shape, text, lambda x: np.asarray(function.reduce(x, axis) + zero), operand)

    def total(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A sum of floats that is exact in any order."""
        of, axis = self.longer(shape)
        text = f"tl.sum(({{}}).to({triton(dtype)}), {axis})"
        return Expression.of(
            dtype, shape, text, lambda x: np.asarray(x.sum(axis)).astype(dtype), self.small(scope, of, depth)
        )

    def small(self, scope: Scope, shape: Shape, depth: int) -> Expression:
        """Integers from 0 to 7: sums and products of them are exact in any format."""
        return Expression.of(INT32, shape, "({} & 7)", lambda x: x & 7, self.matrix(scope, INT32, shape, depth))

    def matrix(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """An expression of any shape: of what is none of the frame's, the sum of a column and a row."""
        if shape in self.frame.shapes:
            return self.expression(scope, dtype, shape, depth)
        column, row = (self.thin(scope, dtype, each, depth) for each in ((shape[0], 1), (1, shape[1])))
        return Expression.of(dtype, shape, "({} + {})", np.add, column, row)

    def integer_product(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A product of matrices of 8-bit integers, added to integers of 32 bits."""
        inner = self.pick(self.frame.sizes)
        factors = [self.matrix(scope, INT8, of, depth) for of in ((shape[0], inner), (inner, shape[1]))]
        before = self.expression(scope, INT32, shape, depth)
        return Expression.of(
            dtype,
            shape,
            "tl.dot({}, {}, acc={}, out_dtype=tl.int32)",
            lambda a, b, c: a.astype(INT32) @ b.astype(INT32) + c,
            *factors,
            before,
        )

    def product(self, scope: Scope, dtype: np.dtype, shape: Shape, depth: int) -> Expression:
        """A product of matrices of small integers, in one of the formats that are multiplied; perhaps added to more."""
        inner = self.pick(self.frame.sizes)
        factors = [self.small(scope, of, depth) for of in ((shape[0], inner), (inner, shape[1]))]
        of = self.pick([INT8, numbers.FLOAT16, numbers.BFLOAT16, FLOAT32])
        text = f"tl.dot(({{}}).to({triton(of)}), ({{}}).to({triton(of)}), input_precision='ieee')"
        if of in INTEGERS:
            return Expression.of(dtype, shape, f"{text}.to(tl.float32)", lambda a, b: (a @ b).astype(dtype), *factors)
        if self.chance(2):
            return Expression.of(dtype, shape, text, lambda a, b: (a @ b).astype(dtype), *factors)
        before = self.small(scope, shape, depth)
        text = f"{text[:-1]}, acc=({{}}).to(tl.float32))"
        return Expression.of(dtype, shape, text, lambda a, b, c: (a @ b + c).astype(dtype), *factors, before)
