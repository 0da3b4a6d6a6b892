"""Import of constants, the program's place in the grid, and what rearranges and combines tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.frontend.translation import Imported, Rule, Translation, flatten, integer, integers, text
from mlutriton.frontend.ttir_tree import TtirOperation
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import (
    Broadcast,
    Concatenate,
    Constant,
    Dot,
    Elementwise,
    ExpandDims,
    Gather,
    Histogram,
    Join,
    NumPrograms,
    ProgramId,
    Range,
    Reduce,
    Reshape,
    Scan,
    Splat,
    Split,
    Transpose,
    Yield,
)
from mlutriton.ir.types import TensorType, element_type, shape_of, storage_dtype

_GRID_AXES = {"x": 0, "y": 1, "z": 2}


def _constant(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    value = operation.attributes["value"]
    if isinstance(value, int | float):
        return (translation.constant(value, translation.result_type(operation)),)
    assert isinstance(value, np.ndarray)
    return (_listed_constant(translation, operation, value),)


def _listed_constant(translation: Translation, operation: TtirOperation, array: NDArray[Any]) -> Value:
    """A tensor constant that is given element by element: one repeated value, or an arithmetic progression."""
    type = translation.result_type(operation)
    assert isinstance(type, TensorType)
    items: list[int | float] = array.reshape(-1).tolist()
    if len(set(items)) == 1:
        return translation.constant(items[0], type)
    dtype = storage_dtype(type.element)
    step = items[1] - items[0]
    if not dtype.is_int or any(item != items[0] + step * place for place, item in enumerate(items)):
        raise translation.refusal(
            f"a constant of type {type} with elements in no regular order is not supported",
            help="compute it, from tl.arange, or pass it as an array",
        )
    places = translation.add(Range((), {"start": 0, "end": len(items)})).result
    row = translation.resized(places, dtype)
    row = translation.elementwise("mul", row, translation.constant(step, row.type))
    row = translation.elementwise("add", row, translation.constant(items[0], row.type))
    return row if row.type == type else translation.add(Reshape([row], result_types=(type,))).result


def _poison(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return (translation.constant(0, translation.result_type(operation)),)


def _range(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return translation.add(Range((), {name: integer(operation, name) for name in ("start", "end")})).results


def _grid_query(op: type[ProgramId | NumPrograms]) -> Rule:
    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        return translation.add(op((), {"axis": _GRID_AXES[text(operation, "axis")]})).results

    return rule


def _same_operands(op: type[Operation]) -> Rule:
    """The rule of an op with the same operands, whose result types follow from them."""

    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        return translation.add(op(translation.values(operation.operands))).results

    return rule


def _to_result_type(op: type[Operation]) -> Rule:
    """The rule of an op with the same operands, whose result type is free."""

    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        inputs = translation.values(operation.operands)
        return translation.add(op(inputs, result_types=(translation.result_type(operation),))).results

    return rule


def _along_axis(op: type[ExpandDims | Gather]) -> Rule:
    def rule(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
        inputs = translation.values(operation.operands)
        return translation.add(op(inputs, {"axis": integer(operation, "axis")})).results

    return rule


def _transpose(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    return translation.add(Transpose(inputs, {"order": integers(operation, "order")})).results


def _dot(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    return translation.add(Dot(inputs, {"precision": text(operation, "inputPrecision", "ieee")})).results


def _histogram(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    source, *mask = translation.values(operation.operands)
    if not mask:
        mask = [translation.true(shape_of(source.type))]
    return translation.add(Histogram([source, *mask], result_types=(translation.result_type(operation),))).results


# ---- reductions and scans -------------------------------------------------------------------------------------------


def _reduce(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs, region = _combining(translation, operation)
    return translation.add(Reduce(inputs, {"axis": integer(operation, "axis")}, regions=(region,))).results


def _scan(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs, region = _combining(translation, operation)
    attributes = {"axis": integer(operation, "axis"), "reverse": bool(operation.attributes.get("reverse", False))}
    return translation.add(Scan(inputs, attributes, regions=(region,))).results


def _combining(translation: Translation, operation: TtirOperation) -> tuple[list[Value], Block]:
    """The inputs and the combine function of a reduction."""
    inputs = translation.values(operation.operands)
    (source,) = operation.regions[0].blocks
    region = Block([element_type(value.type) for value in inputs] * 2)
    translation.bind(source.arguments, region.arguments)
    outer_combining, translation.is_combining = translation.is_combining, True
    with translation.inside(region):
        translation.add(Yield(flatten(translation.body(source))))
    translation.is_combining = outer_combining
    _isolate(translation, region)
    return inputs, region


def _isolate(translation: Translation, region: Block) -> None:
    """Bring the constants that Triton moved out of a combine function back, and refuse what it may not hold."""
    own = {*region.arguments, *(result for inner in region.operations for result in inner.results)}
    copies: dict[Value, Constant] = {}
    for inner in region.operations:
        if not isinstance(inner, Elementwise | Constant | Yield):
            raise translation.refusal(
                f"the combine function of a reduction or scan holds {inner.name}",
                note="it works on single elements, in an order that the machine chooses",
                help="use scalar arithmetic, comparisons and tl.where alone",
            )
        for place, operand in enumerate(inner.operands):
            if operand in own:
                continue
            constant = operand.defining_op
            if not isinstance(constant, Constant):
                raise translation.refusal("the combine function of a reduction or scan uses a value of the kernel")
            if operand not in copies:
                copies[operand] = Constant.of(constant.value, operand.type, constant.location)
            inner.operands[place] = copies[operand].result
    region.operations[:0] = copies.values()


RULES: dict[str, Rule] = {
    "arith.constant": _constant,
    "ub.poison": _poison,
    "tt.make_range": _range,
    "tt.get_program_id": _grid_query(ProgramId),
    "tt.get_num_programs": _grid_query(NumPrograms),
    "tt.splat": _to_result_type(Splat),
    "tt.unsplat": _to_result_type(Reshape),
    "tt.reshape": _to_result_type(Reshape),
    "tt.broadcast": _to_result_type(Broadcast),
    "tt.expand_dims": _along_axis(ExpandDims),
    "tt.gather": _along_axis(Gather),
    "tt.trans": _transpose,
    "tt.join": _same_operands(Join),
    "tt.split": _same_operands(Split),
    "tt.cat": _same_operands(Concatenate),
    "tt.dot": _dot,
    "tt.histogram": _histogram,
    "tt.reduce": _reduce,
    "tt.scan": _scan,
}
