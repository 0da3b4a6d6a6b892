"""Programs that do some of their work only if a condition holds become straight ones, whose accesses are masked by it.

    if length > 0: store(p, f(load(q)), mask)    ->    store(p, f(load(q, length > 0)), mask & (length > 0))

Kernels return early where there is nothing to do: a token that is padding, a slot that is not taken. A straight program
is served with others, one's transfers behind another's arithmetic; one that branches is not. What is computed in vain
takes less than what that saves, as long as it is no product.

What is the same for all programs of a launch is decided once, and stays a branch: nothing is done in vain then.

This holds for what may be done in vain: pure operations, loads and stores. A load by the scalar unit stays under its
condition, and with it everything else, if that comes from memory: the scalar unit would wait for both.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlutriton.diagnostics import Location
from mlutriton.dtypes import I1
from mlutriton.ir.analysis.scalars import comes_from
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import Constant, Dot, Elementwise, Gather, If, Load, ProgramId, Splat, Store, Yield
from mlutriton.ir.types import PointerType, TensorType, Type, element_type, shape_of


def run(function: Function) -> None:
    """Make a function straight, if conditions are all that it branches on."""
    operations = function.body.operations
    if any(isinstance(each, If) for each in operations) and all(_is_convertible(each, None) for each in operations):
        chosen: dict[Value, Value] = {}
        function.body.operations = list(_straight(function.body, None, chosen))
        replace_uses(function.body, chosen)


def _is_convertible(operation: Operation, condition: Value | None) -> bool:
    """True if an operation may as well be done in vain where its condition does not hold."""
    match operation:
        case If():
            of_pointers = any(isinstance(element_type(each.type), PointerType) for each in operation.results)
            nested = (each for region in operation.regions for each in region.operations)
            held = operation.operands[0]
            is_own = comes_from(held, Load, ProgramId)
            return is_own and not of_pointers and all(_is_convertible(each, held) for each in nested)
        case Load() if condition is not None:
            return bool(shape_of(operation.result.type)) or not comes_from(condition, Load)
        case Dot():
            return False
        case Gather():
            return condition is None
        case _:
            return operation.PURE or operation.TERMINATOR or isinstance(operation, Load | Store)


def _straight(block: Block, condition: Value | None, chosen: dict[Value, Value]) -> Iterator[Operation]:
    """The operations of a block, to be done under a condition, in a row; ``chosen`` takes what becomes of results."""
    for operation in block.operations:
        if isinstance(operation, If):
            yield from _converted(operation, condition, chosen)
        elif isinstance(operation, Yield):
            continue
        elif condition is None or not isinstance(operation, Load | Store):
            yield operation
        else:
            yield from _masked(operation, condition)


def _converted(branch: If, outer: Value | None, chosen: dict[Value, Value]) -> Iterator[Operation]:
    """What both regions do, each under its condition, and the choice between their results."""
    held, location = branch.operands[0], branch.location
    true = Constant.of(1, I1, location)
    failed = Elementwise.of("xor", held, true.result, location=location)
    yield from (true, failed)
    for region, condition in zip(branch.regions, (held, failed.result), strict=True):
        if len(region.operations) > 1:
            if outer is not None:
                both = Elementwise.of("and", outer, condition, location=location)
                yield both
                condition = both.result
            yield from _straight(region, condition, chosen)
    then, otherwise = (region.terminator.operands for region in branch.regions)
    for result, a, b in zip(branch.results, then, otherwise, strict=True):
        made, choice = _spread(held, result.type, location_of=branch)
        select = Elementwise.of("select", choice, a, b, location=location)
        select.result.name = result.name
        yield from (*made, select)
        chosen[result] = select.result


def _masked(operation: Load | Store, condition: Value) -> Iterator[Operation]:
    """An access under a condition; one of a number that memory decides on is one of a tensor, for the vector unit."""
    *others, mask = operation.operands if isinstance(operation, Store) else operation.operands[:2]
    if isinstance(operation, Store) and not shape_of(mask.type) and comes_from(condition, Load):
        single = [_single(each, operation.location) for each in (*others, mask)]
        yield from single
        *others, mask = (each.result for each in single)
    made, choice = _spread(condition, mask.type, location_of=operation)
    both = Elementwise.of("and", mask, choice, location=operation.location)
    yield from (*made, both)
    if isinstance(operation, Load):
        operation.operands[1] = both.result
    else:
        operation.operands = [*others, both.result]
    yield operation


def _single(value: Value, location: Location) -> Splat:
    """A scalar as a tensor of one element."""
    return Splat([value], result_types=[TensorType((1,), element_type(value.type))], location=location)


def _spread(condition: Value, type: Type, *, location_of: Operation) -> tuple[list[Operation], Value]:
    """A condition for each element of a type."""
    shape = shape_of(type)
    if not shape:
        return [], condition
    splat = Splat([condition], result_types=[TensorType(shape, I1)], location=location_of.location)
    return [splat], splat.result
