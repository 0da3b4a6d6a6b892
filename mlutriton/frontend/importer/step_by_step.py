"""Functions of single elements as arithmetic on whole tensors, and reductions and scans made of its steps.

The ops ``reduce`` and ``scan`` combine in an order that the machine chooses, with arithmetic alone. What combines with
a function that also asserts (as every sum of integers does where overflows are checked) is spelled out here instead:
neighbours are combined in pairs, all pairs at once, then the results, in as many steps as the extent has bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.dtypes import I1
from mlutriton.frontend.importer.translation import Translation
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import (
    Assert,
    Condition,
    Constant,
    Elementwise,
    Gather,
    Join,
    Range,
    Reduce,
    Split,
    Transpose,
    While,
    Yield,
)
from mlutriton.ir.types import element_type, shape_of, with_shape


def mapped(
    translation: Translation, region: Block, inputs: Sequence[Value], excused: Value | None = None
) -> list[Value]:
    """What a function of single elements yields, for all elements of its inputs.

    Args:
        translation: appends the operations.
        region: the function.
        inputs: a tensor for each of its arguments, all of one shape.
        excused: where the function may not fail.
    """
    outside = translation.builder.location
    tensors = dict(zip(region.arguments, inputs, strict=True))
    active = None if excused is None else _inverted(translation, excused)
    shape = shape_of(inputs[0].type)
    _append(translation, region.operations[:-1], tensors, shape, active)
    translation.builder.location = outside
    return [tensors[operand] for operand in region.terminator.operands]


def _append(
    translation: Translation,
    scalars: Sequence[Operation],
    tensors: dict[Value, Value],
    shape: tuple[int, ...],
    active: Value | None,
) -> None:
    """Append operations on single elements as operations on tensors.

    Args:
        translation: appends them.
        scalars: the operations.
        tensors: the tensor that stands for each value; their results are added.
        shape: of the tensors.
        active: the elements that come here; None for all.
    """
    for scalar in scalars:
        translation.builder.location = scalar.location
        match scalar:
            case Constant():
                type = with_shape(shape, element_type(scalar.result.type))
                tensors[scalar.result] = translation.constant(scalar.value, type)
            case Assert():
                condition = tensors[scalar.operands[0]]
                if active is not None:
                    condition = translation.elementwise("or", condition, _inverted(translation, active))
                translation.add(Assert([condition], dict(scalar.attributes)))
            case While():
                _append_loop(translation, scalar, tensors, shape, active)
            case _:
                assert isinstance(scalar, Elementwise)
                operands = [tensors[operand] for operand in scalar.operands]
                tensors[scalar.result] = translation.elementwise(scalar.name, *operands, to=scalar.to)


def _append_loop(
    translation: Translation, loop: While, tensors: dict[Value, Value], shape: tuple[int, ...], active: Value | None
) -> None:
    """A loop of single elements: it goes on as long as it does for any of them, and the others stay as they are."""
    head, body = loop.regions
    before = translation.true(shape) if active is None else active
    initial = [before, *(tensors[value] for value in loop.operands)]
    heads = Block([value.type for value in initial])
    tensors.update(zip(head.arguments, heads.arguments[1:], strict=True))
    with translation.inside(heads):
        _append(translation, head.operations[:-1], tensors, shape, heads.arguments[0])
        condition, *passed = (tensors[operand] for operand in head.terminator.operands)
        going_on = translation.elementwise("and", heads.arguments[0], condition)
        handed = [going_on, *heads.arguments[1:], *passed]
        translation.add(Condition([_any(translation, going_on), *handed]))
    bodies = Block([value.type for value in handed])
    going_on, *rest = bodies.arguments
    carried, entering = rest[: len(loop.operands)], rest[len(loop.operands) :]
    tensors.update(zip(body.arguments, entering, strict=True))
    with translation.inside(bodies):
        _append(translation, body.operations[:-1], tensors, shape, going_on)
        yielded = [tensors[operand] for operand in body.terminator.operands]
        kept = [translation.elementwise("select", going_on, *pair) for pair in zip(yielded, carried, strict=True)]
        translation.add(Yield([going_on, *kept]))
    types = [value.type for value in handed]
    whole = translation.add(While(initial, result_types=types, regions=(heads, bodies)))
    tensors.update(zip(loop.results, whole.results[1 + len(carried) :], strict=True))


def _any(translation: Translation, truths: Value) -> Value:
    """Whether one of the elements is true."""
    row = translation.reshape(truths, (math.prod(shape_of(truths.type)),))
    either = Block([I1, I1])
    with translation.inside(either):
        translation.add(Yield([translation.elementwise("or", *either.arguments)]))
    return translation.add(Reduce([row], {"axis": 0}, regions=(either,))).result


def _inverted(translation: Translation, truths: Value) -> Value:
    return translation.elementwise("xor", truths, translation.true(shape_of(truths.type)))


def reduce(translation: Translation, region: Block, inputs: Sequence[Value], axis: int) -> list[Value]:
    """The inputs reduced along an axis, with the results of an op ``reduce``."""
    shape = shape_of(inputs[0].type)
    rows = [_rows(translation, value, axis) for value in inputs]
    for _ in range(shape[axis].bit_length() - 1):
        evens, odds = _halves(translation, rows)
        rows = mapped(translation, region, [*evens, *odds])
    return [translation.reshape(row, shape[:axis] + shape[axis + 1 :]) for row in rows]


def scan(translation: Translation, region: Block, inputs: Sequence[Value], axis: int, reverse: bool) -> list[Value]:
    """The running combinations of the inputs along an axis, with the results of an op ``scan``."""
    shape = shape_of(inputs[0].type)
    order = _axis_last(len(shape), axis)
    rows = [_rows(translation, value, axis) for value in inputs]
    scanned = _scanned_rows(translation, region, rows, shape[axis], reverse)
    inverse = tuple(order.index(dimension) for dimension in range(len(shape)))
    results = [translation.reshape(row, tuple(shape[dimension] for dimension in order)) for row in scanned]
    if inverse == tuple(range(len(shape))):
        return results
    return [translation.add(Transpose([result], {"order": inverse})).result for result in results]


def _scanned_rows(
    translation: Translation, region: Block, rows: Sequence[Value], extent: int, reverse: bool
) -> list[Value]:
    """The scan of rows that stand one behind the other.

    The scan of the pairs is that of every second element; between two of its results one element is missing.
    """
    if extent == 1:
        return list(rows)
    evens, odds = _halves(translation, rows)
    before, after = (odds, evens) if reverse else (evens, odds)
    pairs = mapped(translation, region, [*before, *after])
    whole = _scanned_rows(translation, region, pairs, extent // 2, reverse)
    count = math.prod(shape_of(whole[0].type))
    place = translation.add(Range((), {"start": 0, "end": count})).result
    in_row = translation.elementwise("and", place, translation.constant(extent // 2 - 1, place.type))
    is_first = translation.elementwise(
        "eq", in_row, translation.constant(extent // 2 - 1 if reverse else 0, place.type)
    )
    step = translation.constant(1 if reverse else -1, place.type)
    neighbour = translation.elementwise("select", is_first, place, translation.elementwise("add", place, step))
    done = [translation.add(Gather([value, neighbour], {"axis": 0})).result for value in whole]
    single = mapped(translation, region, [*done, *before], is_first)
    single = [
        translation.elementwise("select", is_first, alone, combined)
        for alone, combined in zip(before, single, strict=True)
    ]
    ordered = zip(whole, single, strict=True) if reverse else zip(single, whole, strict=True)
    return [translation.reshape(translation.add(Join(list(pair))).result, (2 * count,)) for pair in ordered]


def _axis_last(rank: int, axis: int) -> tuple[int, ...]:
    return (*(dimension for dimension in range(rank) if dimension != axis), axis)


def _rows(translation: Translation, value: Value, axis: int) -> Value:
    """The elements as rows along an axis, one behind the other, in one dimension."""
    shape = shape_of(value.type)
    order = _axis_last(len(shape), axis)
    if order != tuple(range(len(shape))):
        value = translation.add(Transpose([value], {"order": order})).result
    return translation.reshape(value, (math.prod(shape),))


def _halves(translation: Translation, rows: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """The elements at even places of each row, and those at odd places."""
    count = math.prod(shape_of(rows[0].type)) // 2
    pairs = [translation.add(Split([translation.reshape(row, (count, 2))])).results for row in rows]
    return [even for even, _ in pairs], [odd for _, odd in pairs]
