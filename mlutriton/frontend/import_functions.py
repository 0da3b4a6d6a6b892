"""Import of operations that hold a function of single elements: reductions, scans and ``tl.map_elementwise``."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.frontend.import_control import import_body
from mlutriton.frontend.translation import Imported, Rule, Translation, flatten, integer
from mlutriton.frontend.ttir_tree import TtirOperation
from mlutriton.ir.core import Block, Value
from mlutriton.ir.ops import Constant, Elementwise, Reduce, Scan, Yield
from mlutriton.ir.types import element_type, with_element


def _reduce(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    region = _element_function(translation, operation, inputs * 2)
    return translation.add(Reduce(inputs, {"axis": integer(operation, "axis")}, regions=(region,))).results


def _scan(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    inputs = translation.values(operation.operands)
    region = _element_function(translation, operation, inputs * 2)
    attributes = {"axis": integer(operation, "axis"), "reverse": bool(operation.attributes.get("reverse", False))}
    return translation.add(Scan(inputs, attributes, regions=(region,))).results


def _map(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """The function's arithmetic, on whole tensors."""
    if integer(operation, "pack", 1) != 1:
        raise translation.refusal(
            "a function that maps several neighbouring elements at once is not supported", help="use pack=1"
        )
    inputs = translation.values(operation.operands)
    region = _element_function(translation, operation, inputs)
    shape_like = inputs[0].type
    tensors: dict[Value, Value] = dict(zip(region.arguments, inputs, strict=True))
    for scalar in region.operations:
        match scalar:
            case Constant():
                type = with_element(shape_like, element_type(scalar.result.type))
                tensors[scalar.result] = translation.constant(scalar.value, type)
            case Elementwise():
                operands = [tensors[operand] for operand in scalar.operands]
                tensors[scalar.result] = translation.elementwise(scalar.name, *operands, to=scalar.to)
            case _:
                return [tensors[operand] for operand in scalar.operands]
    raise AssertionError("the function does not end in yield")


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
    own = {*region.arguments, *(result for inner in region.operations for result in inner.results)}
    copies: dict[Value, Constant] = {}
    for inner in region.operations:
        if not isinstance(inner, Elementwise | Constant | Yield):
            raise translation.refusal(
                f"a function of single elements holds {inner.name}",
                note="it works on one element, or pair of elements, in an order that the machine chooses",
                help="use scalar arithmetic, comparisons, tl.where and if alone",
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


RULES: dict[str, Rule] = {
    "tt.reduce": _reduce,
    "tt.scan": _scan,
    "tt.map_elementwise": _map,
}
