"""Round trip and every pass on generated functions: the text is the function, and no pass changes what is printed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutriton.arithmetic import OPERATIONS
from mlutriton.diagnostics import Location
from mlutriton.dtypes import BF16, F16, F32, I1, I8, I32, I64
from mlutriton.ir.core import Block, Builder, Function, Operation, Value
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import (
    Broadcast,
    Concatenate,
    Condition,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    If,
    Join,
    NumPrograms,
    Print,
    ProgramId,
    Range,
    Reduce,
    Reshape,
    Return,
    Scan,
    Splat,
    Split,
    Transpose,
    While,
    Yield,
)
from mlutriton.ir.parser import parse_function
from mlutriton.ir.passes import (
    canonicalize,
    carried_offsets,
    cse,
    dce,
    fields_of_words,
    loop_invariant,
    merge_dimensions,
    strip_mine,
)
from mlutriton.ir.printer import print_function
from mlutriton.ir.types import TensorType, Type, element_type, shape_of, with_shape
from mlutriton.ir.verifier import verify

DTYPES = (I1, I8, I32, I64, F16, BF16, F32)
SHAPES = ((), (2,), (4,), (2, 4), (1, 4))
# A NaN's sign and payload are open, so what reads them may differ after a rewrite.
ROWS = sorted(set(OPERATIONS) - {"bitcast", "copysign"})
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    127,
    -128,
    1 << 31,
    0.0,
    -0.0,
    0.5,
    -1.0,
    1e-7,
    1e30,
    float("inf"),
    float("-inf"),
    float("nan"),
]


class Generator:
    """Draws operations over the values in scope."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.depth = 0

    def pick(self, values):
        return self.draw(st.sampled_from(values))

    def scalar(self, scope: list[Value], builder: Builder, type: Type) -> Value:
        found = [value for value in scope if value.type == type]
        if found and self.draw(st.integers(0, 3)):
            return self.pick(found)
        return builder.add(Constant.of(self.number(type), type)).result

    def number(self, type: Type):
        floats = element_type(type).is_float
        return self.pick([number for number in NUMBERS if floats or isinstance(number, int)])

    def block(self, block: Block, scope: list[Value], length: int) -> list[Value]:
        """Fill a block; the values then in scope."""
        builder = Builder(block)
        scope = list(scope)
        for _ in range(self.draw(st.integers(0, length))):
            operation = self.operation(builder, scope)
            if operation is not None:
                operation.location = Location("kernel.py", self.draw(st.integers(1, 99)), 5)
                for result in operation.results:
                    result.name = self.pick(["", "x", "acc", "x_1", "tmp.3"])
                scope += operation.results
        return scope

    def operation(self, builder: Builder, scope: list[Value]) -> Operation | None:
        makers = [self.elementwise] * 6 + [self.shape] * 3 + [self.constant, self.grid]
        if self.depth < 2:
            makers += [self.loop, self.branch, self.countdown, self.combine]
        return self.pick(makers)(builder, scope)

    def constant(self, builder: Builder, scope: list[Value]) -> Operation:
        type = with_shape(self.pick(SHAPES), self.pick(DTYPES))
        return builder.add(Constant.of(self.number(type), type))

    def grid(self, builder: Builder, scope: list[Value]) -> Operation:
        return builder.add(self.pick([ProgramId, NumPrograms])((), {"axis": self.pick([0, 1, 2])}))

    def elementwise(self, builder: Builder, scope: list[Value]) -> Operation | None:
        operation = OPERATIONS[self.pick(ROWS)]
        model = self.pick(scope)
        dtype = element_type(model.type)
        to = self.pick(DTYPES) if operation.is_cast else None
        if not operation.accepts(dtype, to):
            return None
        types = [model.type] * operation.arity
        if operation.name == "select":
            types[0] = with_shape(shape_of(model.type), I1)
        operands = [self.scalar(scope, builder, type) for type in types]
        return builder.add(Elementwise.of(operation.name, *operands, to=to))

    def shape(self, builder: Builder, scope: list[Value]) -> Operation | None:
        value = self.pick(scope)
        shape, element = shape_of(value.type), element_type(value.type)
        if not shape:
            return builder.add(Splat([value], result_types=[TensorType(self.pick(SHAPES[1:]), element)]))
        choices: list[Operation] = []
        if len(shape) < 3:
            choices.append(ExpandDims([value], {"axis": self.draw(st.integers(0, len(shape)))}))
        choices.append(Transpose([value], {"order": tuple(reversed(range(len(shape))))}))
        choices.append(Reshape([value], result_types=[TensorType((TensorType(shape, element).count,), element)]))
        choices.append(Join([value, value]))
        choices.append(Concatenate([value, value]))
        choices.append(Range((), {"start": 3, "end": 3 + self.pick([1, 4])}))
        if shape[-1] == 2:
            choices.append(Split([value]))
        if 1 in shape:
            wide = tuple(4 if extent == 1 else extent for extent in shape)
            choices.append(Broadcast([value], result_types=[TensorType(wide, element)]))
        return builder.add(self.pick(choices))

    def combine(self, builder: Builder, scope: list[Value]) -> Operation | None:
        tensors = [value for value in scope if shape_of(value.type)]
        if not tensors:
            return None
        value = self.pick(tensors)
        element = element_type(value.type)
        names = [
            name for name in ("add", "smax", "xor", "fmax", "fmin", "umin", "or") if OPERATIONS[name].accepts(element)
        ]
        region = Block([element, element])
        inside = Builder(region)
        left, right = region.arguments
        if element.is_int and self.draw(st.booleans()):
            less = inside.add(Elementwise.of("slt", left, right)).result
            result = inside.add(Elementwise.of("select", less, left, right)).result
        else:
            result = inside.add(Elementwise.of(self.pick(names), left, right)).result
        inside.add(Yield([result]))
        axis = self.draw(st.integers(0, len(shape_of(value.type)) - 1))
        if self.draw(st.booleans()):
            return builder.add(Reduce([value], {"axis": axis}, regions=[region]))
        return builder.add(Scan([value], {"axis": axis, "reverse": self.draw(st.booleans())}, regions=[region]))

    def nested(self, block: Block, scope: list[Value], results: list[Type]) -> list[Value]:
        """Fill an inner block that yields these types, sometimes what it was given."""
        self.depth += 1
        inner = self.block(block, scope + block.arguments, 4)
        builder = Builder(block)
        values = [self.scalar(inner, builder, type) for type in results]
        self.depth -= 1
        return values

    def loop(self, builder: Builder, scope: list[Value]) -> Operation:
        bounds = [builder.add(Constant.of(self.draw(st.integers(0, 3)), I32)).result for _ in range(2)]
        bounds.append(builder.add(Constant.of(self.draw(st.integers(1, 2)), I32)).result)
        initial = [self.pick(scope) for _ in range(self.draw(st.integers(0, 3)))]
        body = Block([I32, *(value.type for value in initial)], ["i"])
        values = self.nested(body, scope, [value.type for value in initial])
        body.operations.append(Yield(values))
        return builder.add(For([*bounds, *initial], {"stages": 0}, regions=[body]))

    def branch(self, builder: Builder, scope: list[Value]) -> Operation:
        condition = self.scalar(scope, builder, I1)
        types = [self.pick(scope).type for _ in range(self.draw(st.integers(0, 2)))]
        regions = [Block(), Block()]
        for region in regions:
            region.operations.append(Yield(self.nested(region, scope, types)))
        return builder.add(If([condition], result_types=types, regions=regions))

    def countdown(self, builder: Builder, scope: list[Value]) -> Operation:
        """A while loop that counts three down beside whatever it carries."""
        initial = [
            builder.add(Constant.of(3, I32)).result,
            *(self.pick(scope) for _ in range(self.draw(st.integers(0, 2)))),
        ]
        types = [value.type for value in initial]
        before, after = Block(types), Block(types)
        inside = Builder(before)
        zero = inside.add(Constant.of(0, I32)).result
        go_on = inside.add(Elementwise.of("sgt", before.arguments[0], zero)).result
        inside.add(Condition([go_on, *before.arguments]))
        values = self.nested(after, scope, types[1:])
        inside = Builder(after)
        less = inside.add(Elementwise.of("sub", after.arguments[0], inside.add(Constant.of(1, I32)).result)).result
        inside.add(Yield([less, *values]))
        return builder.add(While(initial, result_types=types, regions=[before, after]))


@st.composite
def functions(draw: st.DrawFn) -> Function:
    body = Block([I32, F32, F16, I1, TensorType((4,), F32), TensorType((4,), I32)], ["n", "x", "x", "flag", "v", "n"])
    generator = Generator(draw)
    scope = generator.block(body, body.arguments, 12)
    builder = Builder(body)
    chosen = [value for value in scope if draw(st.booleans())]
    builder.add(Print(chosen, {"prefix": 'a "quoted" \\ one', "style": "signed"}))
    builder.add(Return())
    facts = [{"divisibility": 16}, {}, {}, {}, {}, {}] if draw(st.booleans()) else []
    return Function("generated", body, facts, Location("kernel.py", 3))


def arguments() -> list[object]:
    return [
        5, -1.5, 0.1, True,
        np.array([0.0, -0.0, np.nan, 3.5], np.float32), np.array([0, -1, 1 << 30, 7], np.int32),
    ]  # fmt: skip


def printed(function: Function) -> list[tuple[object, ...]]:
    values = evaluate(function, (2, 1), arguments(), ArrayMemory())
    return [(record.program, *map(exact, record.values)) for record in values]


def exact(array: np.ndarray) -> tuple[object, ...]:
    """The bits, with one NaN for all."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    return (array.shape, array.dtype.name, array.tobytes())


@given(functions())
@settings(max_examples=50, deadline=None)
def test_text_round_trips(function: Function) -> None:
    verify(function)
    text = print_function(function, locations=True)
    again = parse_function(text)
    verify(again)
    assert print_function(again, locations=True) == text
    assert print_function(again) == print_function(function)


PASSES = {"canonicalize": [canonicalize], "cse": [cse], "dce": [dce], "loop_invariant": [loop_invariant]}
PASSES["carried_offsets"] = [carried_offsets]
PASSES["fields_of_words"] = [fields_of_words]
PASSES["all"] = [canonicalize, cse, loop_invariant, dce, canonicalize, cse, dce]


@pytest.mark.parametrize("name", PASSES)
@given(function=functions())
@settings(max_examples=40, deadline=None)
def test_passes_keep_the_values(name: str, function: Function) -> None:
    wanted = printed(function)
    for step in PASSES[name]:
        step.run(function)
        verify(function, step.__name__)
    assert printed(function) == wanted


@given(function=functions(), maximum=st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_merged_dimensions_keep_the_values(function: Function, maximum: int) -> None:
    wanted = printed(function)
    merge_dimensions.run(function, maximum)
    verify(function, "merge_dimensions")
    assert printed(function) == wanted


@pytest.mark.parametrize("strip_bytes", [4, 8])
@given(function=functions())
@settings(max_examples=25, deadline=None)
def test_strips_keep_the_values(strip_bytes: int, function: Function) -> None:
    wanted = printed(function)
    mined = strip_mine.run(function, strip_bytes)
    verify(mined, "strip_mine")
    assert printed(mined) == wanted
