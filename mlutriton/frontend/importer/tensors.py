"""Import of constants, the program's place in the grid, and what rearranges tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.dtypes import I32
from mlutriton.frontend.importer.translation import Imported, Rule, Translation, integer, integers, text
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    Broadcast,
    Concatenate,
    ExpandDims,
    Gather,
    Histogram,
    Join,
    NumPrograms,
    ProgramId,
    Range,
    Reshape,
    Splat,
    Split,
    Transpose,
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


def same_operands(op: type[Operation]) -> Rule:
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


def _expand_dims(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    return translation.add(ExpandDims(inputs, {"axis": integer(operation, "axis")})).results


def _gather(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    source, index = translation.values(operation.operands)
    if storage_dtype(element_type(index.type)).bits < I32.bits:
        # No index in range is negative, so that the types without a sign, which look the same, are read right.
        index = translation.resized(index, I32, "zext")
    return translation.add(Gather([source, index], {"axis": integer(operation, "axis")})).results


def _transpose(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    return translation.add(Transpose(inputs, {"order": integers(operation, "order")})).results


def _histogram(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    source, *mask = translation.values(operation.operands)
    if storage_dtype(element_type(source.type)).bits < I32.bits:
        # Up to Triton 3.8. TTIR does not say whether these have a sign; the pixels of a picture have none.
        source = translation.elementwise("zext", source, to=I32)
    if not mask:
        mask = [translation.true(shape_of(source.type))]
    return translation.add(Histogram([source, *mask], result_types=(translation.result_type(operation),))).results


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
    "tt.expand_dims": _expand_dims,
    "tt.gather": _gather,
    "tt.trans": _transpose,
    "tt.join": same_operands(Join),
    "tt.split": same_operands(Split),
    "tt.cat": same_operands(Concatenate),
    "tt.histogram": _histogram,
}
