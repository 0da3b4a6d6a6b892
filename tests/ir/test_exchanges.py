"""Exchanges by halves keep values, to the bit, whatever is made of the other sides."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.dtypes import F32, I1, I32
from mlutriton.ir.core import Block, Builder, Function, Value
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import (
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    Print,
    Range,
    Reduce,
    Reshape,
    Return,
    Splat,
    Transpose,
    Yield,
)
from mlutriton.ir.passes import exchanges
from mlutriton.ir.types import TensorType, element_type, shape_of
from mlutriton.ir.verifier import verify


class Drawing:
    """Draws what is computed from tensors whose axes have two elements, among others."""

    def __init__(self, draw: st.DrawFn, builder: Builder) -> None:
        self.draw, self.builder = draw, builder

    def add(self, operation) -> Value:
        return self.builder.add(operation).result

    def pick(self, values):
        return self.draw(st.sampled_from(values))

    def combined(self, value: Value, axis: int, name: str) -> Value:
        dtype = element_type(value.type)
        region = Block([dtype, dtype])
        builder = Builder(region)
        builder.add(Yield([builder.add(Elementwise.of(name, *region.arguments)).result]))
        return self.add(Reduce([value], {"axis": axis}, regions=[region]))

    def partner(self, value: Value, axis: int) -> Value:
        bits = self.add(Elementwise.of("bitcast", value, to=I32))
        both = self.combined(bits, axis, "xor")
        kept = self.add(ExpandDims([both], {"axis": axis}))
        repeated = self.add(Broadcast([kept], result_types=[bits.type]))
        other = self.add(Elementwise.of("xor", *self.draw(st.permutations([bits, repeated]))))
        return self.add(Elementwise.of("bitcast", other, to=F32))

    def mask(self, shape: tuple[int, ...]) -> Value:
        """Positions along some axes, or over all elements, of which one bit counts."""
        if self.draw(st.booleans()):
            numbers = self.add(Range((), {"start": 0, "end": math.prod(shape)}))
            bit = self.add(Constant.of(1 << self.draw(st.integers(0, 4)), numbers.type))
            numbers = self.add(Elementwise.of("and", numbers, bit))
            numbers = self.add(Reshape([numbers], result_types=[TensorType(shape, I32)]))
        else:
            numbers = None
            for axis in self.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1, max_size=2)):
                line = self.add(Range((), {"start": 0, "end": shape[axis]}))
                alone = tuple(extent if each == axis else 1 for each, extent in enumerate(shape))
                line = self.add(Reshape([line], result_types=[TensorType(alone, I32)]))
                line = self.add(Broadcast([line], result_types=[TensorType(shape, I32)]))
                numbers = line if numbers is None else self.add(Elementwise.of("xor", numbers, line))
        zero = self.add(Constant.of(0, numbers.type))
        return self.add(Elementwise.of("ne", numbers, zero))

    def step(self, value: Value, others: list[Value]) -> Value:
        """An exchange, or something else that is done to a tensor."""
        shape = shape_of(value.type)
        axes = [axis for axis, extent in enumerate(shape) if extent == 2]
        kind = self.pick(["exchange"] * 4 + ["other", "combine", "shape", "arithmetic", "flip"])
        if kind == "shape":
            turned = tuple(self.draw(st.permutations(shape)))
            return self.add(Reshape([value], result_types=[TensorType(turned, F32)]))
        if kind == "arithmetic" or not axes:
            same = [each for each in others if each.type == value.type]
            other = self.pick(same) if same else self.add(Constant.of(2.0, value.type))
            return self.add(Elementwise.of("fmin", value, other))
        axis = self.pick(axes)
        if kind == "combine":
            return self.combined(value, axis, "fmax") if len(shape) > 2 else value
        if kind == "other":
            order = tuple(self.draw(st.permutations(range(len(shape)))))
            return self.add(Transpose([value], {"order": order}))
        other = self.partner(value, axis)
        if kind == "flip":
            return other
        greater = self.add(Elementwise.of("fogt", value, other))
        mask = self.mask(shape) if self.draw(st.booleans()) else self.add(Constant.of(True, greater.type))
        swaps = self.add(Elementwise.of("ne", greater, mask))
        assert element_type(swaps.type) == I1
        return self.add(Elementwise.of("select", swaps, other, value))


@st.composite
def functions(draw) -> Function:
    shape = draw(st.sampled_from([(2, 2, 2, 2), (2, 3, 2), (4, 2, 2), (2, 1, 2, 3), (2,)]))
    body = Block([TensorType(shape, F32), I32], ["x", "n"])
    builder = Builder(body)
    drawing = Drawing(draw, builder)
    value, others = body.arguments[0], [body.arguments[0]]
    for _ in range(draw(st.integers(1, 6))):
        value = drawing.step(value, others)
        others.append(value)
    if draw(st.booleans()):
        bounds = [builder.add(Constant.of(number, I32)).result for number in (0, 3, 1)]
        inside = Block([I32, value.type])
        drawing.builder = Builder(inside)
        inner = drawing.add(Elementwise.of("fmin", inside.arguments[1], drawing.pick([value, inside.arguments[1]])))
        axes = [axis for axis, extent in enumerate(shape_of(value.type)) if extent == 2]
        if axes:
            inner = drawing.partner(inner, drawing.pick(axes))
        drawing.builder.add(Yield([inner]))
        looped = builder.add(For([*bounds, value], {"stages": 0}, regions=[inside], result_types=[value.type])).result
        others.append(looped)
    number = builder.add(Elementwise.of("sitofp", body.arguments[1], to=F32)).result
    others.append(builder.add(Splat([number], result_types=[value.type])).result)
    builder.add(Print([each for each in others if draw(st.booleans())], {"prefix": "", "style": "signed"}))
    builder.add(Return())
    return Function("generated", body, [])


def printed(function: Function) -> list[list[bytes]]:
    count = math.prod(shape_of(function.body.arguments[0].type))
    numbers = np.array([1.5, -0.0, 0.0, np.nan, -3.0, np.inf, 7.0, 7.0, -np.inf, 2.0, 9.0, 1.0] * 2, np.float32)
    x = numbers[:count].reshape(shape_of(function.body.arguments[0].type))
    records = evaluate(function, (1, 1), [x, 3], ArrayMemory())
    return [[np.asarray(value).tobytes() for value in record.values] for record in records]


@given(functions())
@settings(max_examples=150, deadline=None)
def test_exchanges_by_halves_keep_the_values(function: Function) -> None:
    verify(function)
    wanted = printed(function)
    exchanges.run(function)
    verify(function, "exchanges")
    assert printed(function) == wanted
