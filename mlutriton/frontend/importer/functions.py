"""Import of operations that hold a function of single elements: reductions, scans and ``tl.map_elementwise``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlutriton.frontend.importer import step_by_step
from mlutriton.frontend.importer.control import import_body
from mlutriton.frontend.importer.translation import Imported, Rule, Translation, flatten, integer
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Block, Value
from mlutriton.ir.ops import Assert, Condition, Constant, Elementwise, Join, Reduce, Scan, Split, While, Yield
from mlutriton.ir.types import element_type, shape_of


def _reduce(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    region = _element_function(translation, operation, inputs * 2)
    axis = integer(operation, "axis")
    if not _has_effects(region):
        return translation.add(Reduce(inputs, {"axis": axis}, regions=(region,))).results
    return step_by_step.reduce(translation, region, inputs, axis)


def _scan(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    region = _element_function(translation, operation, inputs * 2)
    axis, reverse = integer(operation, "axis"), bool(operation.attributes.get("reverse", False))
    if not _has_effects(region):
        return translation.add(Scan(inputs, {"axis": axis, "reverse": reverse}, regions=(region,))).results
    return step_by_step.scan(translation, region, inputs, axis, reverse)


def _map(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """The function's arithmetic, on whole tensors: with ``pack``, on those of every first, second, ... element."""
    pack = integer(operation, "pack", 1)
    inputs = translation.values(operation.operands)
    shape = shape_of(inputs[0].type)
    lanes = [lane for value in inputs for lane in _dealt(translation, value, pack)]
    region = _element_function(translation, operation, lanes)
    mapped = step_by_step.mapped(translation, region, lanes)
    return [_gathered(translation, mapped[first : first + pack], shape) for first in range(0, len(mapped), pack)]


def _dealt(translation: Translation, value: Value, count: int) -> list[Value]:
    """The elements in turn on ``count`` tensors of one dimension, a power of two; the value itself if it is one."""
    if count == 1:
        return [value]
    pairs = translation.reshape(value, (math.prod(shape_of(value.type)) // 2, 2))
    even, odd = (_dealt(translation, half, count // 2) for half in translation.add(Split([pairs])).results)
    return [lane for two in zip(even, odd, strict=True) for lane in two]


def _gathered(translation: Translation, lanes: Sequence[Value], shape: tuple[int, ...]) -> Value:
    """The inverse of ``_dealt``, for a value of that shape."""
    if len(lanes) == 1:
        return translation.reshape(lanes[0], shape)
    count = math.prod(shape) // 2
    even, odd = (_gathered(translation, lanes[first::2], (count,)) for first in (0, 1))
    return translation.reshape(translation.add(Join([even, odd])).result, shape)


def _element_function(translation: Translation, operation: TtirOperation, inputs: Sequence[Value]) -> Block:
    """The function that an operation holds: it takes an element of each input and yields scalars."""
    region = Block([element_type(value.type) for value in inputs])
    (source,) = operation.regions
    translation.bind(source.blocks[0].arguments, region.arguments)
    outer, translation.is_element_function = translation.is_element_function, True
    with translation.inside(region):
        translation.add(Yield(flatten(import_body(translation, source))))
    translation.is_element_function = outer
    _isolate(translation, region)
    return region


def _isolate(translation: Translation, region: Block) -> None:
    """Bring the constants that Triton moved out of a function back, and refuse what it may not hold."""
    every = region.walk()
    own = {*region.arguments, *(result for inner in every for result in inner.results)}
    own.update(argument for inner in every for block in inner.regions for argument in block.arguments)
    copies: dict[Value, Constant] = {}
    for inner in every:
        if not isinstance(inner, Assert | Condition | Constant | Elementwise | While | Yield):
            translation.builder.location = inner.location
            raise translation.refusal(
                f"a function of single elements holds {inner.name}",
                note="it works on one element, or pair of elements, in an order that the machine chooses",
                help="use scalar arithmetic, comparisons, tl.where, if, loops and tl.device_assert alone;"
                " what else it needs may be an argument of tl.map_elementwise",
            )
        for place, operand in enumerate(inner.operands):
            if operand in own:
                continue
            constant = operand.defining_op
            if not isinstance(constant, Constant):
                raise translation.refusal("a function of single elements uses a value of the kernel")
            if operand not in copies:
                copies[operand] = Constant.of(constant.value, operand.type, constant.location)
            inner.operands[place] = copies[operand].result
    region.operations[:0] = copies.values()


def _has_effects(region: Block) -> bool:
    return any(not inner.PURE for inner in region.operations[:-1])


RULES: dict[str, Rule] = {
    "tt.reduce": _reduce,
    "tt.scan": _scan,
    "tt.map_elementwise": _map,
}
