"""Tensors whose rows become longer: a part of a loaded box then lies like the tensors that it is computed with.

What a tile does not store of its longer rows may be anything.
"""

from __future__ import annotations

from mlutriton.dtypes import I64
from mlutriton.ir.analysis.families import Family
from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Constant, Elementwise, For, TileLoad, TileStore
from mlutriton.ir.types import TensorType, element_type, shape_of


def lengthen(function: Function, family: Family, shape: tuple[int, ...]) -> None:
    """Give the tensors of a family a shape that is longer along dimensions behind the first."""
    _Lengthening(family, shape).block(function.body)
    for value in family.values:
        value.type = TensorType(shape, element_type(value.type))


class _Lengthening:
    """The walk.

    Attributes:
        longer: of tensors that others use in their old shape, those of the new one.
    """

    def __init__(self, family: Family, shape: tuple[int, ...]) -> None:
        self.family, self.shape = family, shape
        self.longer: dict[Value, Value] = {}

    def block(self, block: Block) -> None:
        code: list[Operation] = []
        for operation in block.operations:
            match operation:
                case Elementwise() if operation.result in self.family.values:
                    operation.operands = [self.longer.get(each, each) for each in operation.operands]
                case TileLoad() if operation.result in self.family.values:
                    code += _keep_limits(operation, shape_of(operation.result.type))
                case TileStore() if operation.value in self.family.values:
                    code += _keep_limits(operation, shape_of(operation.value.type))
                case _:
                    pass
            for region in operation.regions:
                self.block(region)
            if isinstance(operation, For):
                self._carry(operation)
            code.append(operation)
            if any(result in self.family.repeated for result in operation.results):
                copied = copy_operation(operation, self.longer)
                copied.result.type = TensorType(self.shape, element_type(copied.result.type))
                code.append(copied)
        block.operations = code

    def _carry(self, loop: For) -> None:
        yielded = loop.body.terminator.operands
        for place, carried in enumerate(loop.carried):
            if carried in self.family.values:
                loop.operands[3 + place] = self.longer.get(loop.initial[place], loop.initial[place])
                yielded[place] = self.longer.get(yielded[place], yielded[place])


def _keep_limits(access: TileLoad | TileStore, shape: tuple[int, ...]) -> list[Operation]:
    """Make sure that limits say where the rows of a shape end; what that takes stands before the access."""
    before: list[Operation] = []
    first = len(access.operands) - len(access.geometry.operands()) + 2 * len(shape)
    for d, extent in enumerate(shape):
        limit = access.operands[first + d]
        if not _is_at_most(limit, extent):
            end = Constant.of(extent, I64, access.location)
            clamped = Elementwise.of("smin", limit, end.result, location=access.location)
            before += [end, clamped]
            access.operands[first + d] = clamped.result
    return before


def _is_at_most(value: Value, extent: int) -> bool:
    match value.defining_op:
        case Constant(value=int(number)):
            return number <= extent
        case Elementwise(name="smin", operands=operands):
            return any(_is_at_most(each, extent) for each in operands)
        case _:
            return False
