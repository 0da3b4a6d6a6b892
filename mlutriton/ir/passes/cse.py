"""Common subexpressions: a pure operation that was computed already, here or in a block around, is computed once.

What is loaded twice in a block, from the same places under the same conditions, is loaded once, if nothing that may
write, or look for what others write, is done in between.
"""

from __future__ import annotations

import math

from mlutriton.ir.core import Attribute, Block, Function, Operation, Value
from mlutriton.ir.ops import Elementwise, GatherLoad, Load, TileLoad

_Key = tuple[object, ...]


def run(function: Function) -> None:
    """Merge equal pure operations, and equal loads."""
    _Merger().block(function.body)


class _Merger:
    def __init__(self) -> None:
        self.known: dict[_Key, Operation] = {}
        self.replaced: dict[Value, Value] = {}

    def block(self, block: Block) -> None:
        added: list[_Key] = []
        loaded: dict[_Key, Operation] = {}
        code: list[Operation] = []
        for operation in block.operations:
            operation.operands = [self.replaced.get(operand, operand) for operand in operation.operands]
            looks_anew = isinstance(operation, Load | TileLoad | GatherLoad) and operation.is_volatile
            if looks_anew or not (operation.PURE or operation.READS):
                for region in operation.regions:
                    self.block(region)
                loaded.clear()
                code.append(operation)
                continue
            key = _key(operation)
            earlier = (loaded if operation.READS else self.known).setdefault(key, operation)
            if earlier is operation:
                if not operation.READS:
                    added.append(key)
                code.append(operation)
                continue
            for result, value in zip(operation.results, earlier.results, strict=True):
                self.replaced[result] = value
                value.name = value.name or result.name
        block.operations = code
        for key in added:
            del self.known[key]


def _key(operation: Operation) -> _Key:
    """Equal for operations that compute the same."""
    operands: tuple[object, ...] = tuple(operation.operands)
    if isinstance(operation, Elementwise) and operation.arithmetic.commutative:
        operands = (frozenset(operands[:2]), *operands[2:])
    types = tuple(result.type for result in operation.results)
    regions = tuple(_region_key(region) for region in operation.regions)
    return (operation.NAME, operands, _attributes_key(operation), types, regions)


def _attributes_key(operation: Operation) -> _Key:
    return tuple((name, *_exact(value)) for name, value in sorted(operation.attributes.items()))


def _exact(value: Attribute) -> _Key:
    """Tells -0.0 from 0.0, True from 1, and finds a NaN equal to itself."""
    if isinstance(value, float):
        return (float, value.hex(), math.copysign(1.0, value))
    return (type(value), value)


def _region_key(block: Block) -> _Key:
    numbers: dict[Value, int] = {argument: i for i, argument in enumerate(block.arguments)}
    lines: list[object] = [tuple(argument.type for argument in block.arguments)]
    for operation in block.operations:
        operands = tuple(numbers.get(operand, operand) for operand in operation.operands)
        types = tuple(result.type for result in operation.results)
        lines.append((operation.NAME, operands, _attributes_key(operation), types))
        for result in operation.results:
            numbers[result] = len(numbers)
    return tuple(lines)
