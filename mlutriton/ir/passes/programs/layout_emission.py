"""Functions written anew with tensors of other shapes, as their layouts say: control flow and bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.ir.analysis.layouts import WHOLE, Layouts, operand_layouts
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Assert, For, If, Print, ScatterStore, Store, TileStore, While
from mlutriton.ir.types import element_type, shape_of, with_shape


class Emission:
    """Writes a function in which a value stands once for each layout in which it is wanted.

    Subclasses say what shape a tensor has in a layout, and how an operation is done in one.

    Attributes:
        function: the source.
        layouts: in which layouts its values are wanted.
        values: what stands for a value in a layout.
        code: appends operations.
        front: what stands at the beginning of the function, for all of it.
        depth: how many loops the operation at hand stands in.
    """

    def __init__(self, function: Function, layouts: Layouts) -> None:
        self.function = function
        self.layouts = layouts
        self.values: dict[tuple[Value, int], Value] = {}
        self.code = Scalars(function.location)
        self.front = Scalars(function.location)
        self.depth = 0

    def shape(self, shape: tuple[int, ...], layout: int) -> tuple[int, ...]:
        """The shape in a layout of a tensor that has this one in the source."""
        raise NotImplementedError

    def made(self, operation: Operation, layout: int) -> Sequence[Value]:
        """Do an operation for its results in a layout."""
        raise NotImplementedError

    def with_effect(self, operation: Operation) -> None:
        """Do an operation that has no results."""
        raise NotImplementedError

    def run(self) -> Function:
        """The function."""
        source = self.function
        body = Block([each.type for each in source.body.arguments], [each.name for each in source.body.arguments])
        for old, new in zip(source.body.arguments, body.arguments, strict=True):
            self.values[old, WHOLE] = new
        operations = self._block(source.body, ())
        body.operations = [*self.front.operations, *operations]
        return Function(source.name, body, source.argument_attributes, source.location)

    # ---- blocks and control flow -----------------------------------------------------------------------------------

    def _block(self, block: Block, receivers: Sequence[Value]) -> list[Operation]:
        """The operations of a block, whose terminator hands values to those receivers."""
        outside, self.code.operations = self.code.operations, []
        for operation in block.operations[:-1]:
            self.code.location = operation.location
            self._operation(operation)
        last = block.terminator
        self.code.location = last.location
        kept = len(last.operands) - len(receivers)
        handed = [*(self.values[each, WHOLE] for each in last.operands[:kept])]
        handed += self._handed(last.operands[kept:], receivers)
        self.effect(last.__class__(handed, last.attributes))
        inside, self.code.operations = self.code.operations, outside
        return inside

    def effect(self, operation: Operation) -> Operation:
        """Append an operation."""
        operation.location = self.code.location
        self.code.operations.append(operation)
        return operation

    def _handed(self, values: Sequence[Value], receivers: Sequence[Value]) -> list[Value]:
        """Values in all layouts in which those that they become are wanted."""
        pairs = zip(values, receivers, strict=True)
        return [self.values[value, layout] for value, become in pairs for layout in self.layouts.layouts(become)]

    def _bind(self, values: Sequence[Value], made: Sequence[Value]) -> None:
        keys = [(value, layout) for value in values for layout in self.layouts.layouts(value)]
        for key, new in zip(keys, made, strict=True):
            new.name = key[0].name
            self.values[key] = new

    def _arguments(self, values: Sequence[Value]) -> Block:
        """A block whose arguments are those of the source, in all their layouts."""
        types = [
            with_shape(self.shape(shape_of(value.type), layout), element_type(value.type))
            for value in values
            for layout in self.layouts.layouts(value)
        ]
        block = Block(types)
        self._bind(values, block.arguments)
        return block

    def _operation(self, operation: Operation) -> None:
        match operation:
            case For() | While() | If():
                self._control(operation)
            case TileStore() | ScatterStore() | Store() | Print() | Assert():
                self.with_effect(operation)
            case _:
                for layout in self.layouts.layouts_of(operation):
                    self._done(operation, layout)

    def _control(self, operation: For | While | If) -> None:
        match operation:
            case For():
                operands = [self.values[each, WHOLE] for each in operation.operands[:3]]
                operands += self._handed(operation.initial, operation.carried)
                receivers = [operation.carried]
            case While():
                before, after = operation.regions
                operands = self._handed(operation.operands, before.arguments)
                receivers = [after.arguments, before.arguments]
            case If():
                operands = [self.values[operation.operands[0], WHOLE]]
                receivers = [operation.results] * 2
        self.depth += isinstance(operation, For)
        regions = [self._arguments(region.arguments) for region in operation.regions]
        for region, source, become in zip(regions, operation.regions, receivers, strict=True):
            region.operations = self._block(source, become)
        self.depth -= isinstance(operation, For)
        types = self._arguments(operation.results).arguments
        made = operation.__class__(
            operands,
            operation.attributes,
            result_types=[each.type for each in types],
            regions=regions,
        )
        self.effect(made)
        self._bind(operation.results, made.results)

    # ---- operations ------------------------------------------------------------------------------------------------

    def operands(self, operation: Operation, layout: int) -> list[Value]:
        """The operands that an operation needs for its results in a layout."""
        if layout == WHOLE:
            return self.whole(operation)
        pairs = zip(operation.operands, operand_layouts(operation, layout), strict=True)
        return [self.values[operand, part if shape_of(operand.type) else WHOLE] for operand, part in pairs]

    def _done(self, operation: Operation, layout: int) -> None:
        """Do an operation for its results in a layout."""
        made = self.made(operation, layout)
        for old, new in zip(operation.results, made, strict=True):
            new.name = old.name
            self.values[old, layout if shape_of(old.type) else WHOLE] = new

    def whole(self, operation: Operation) -> list[Value]:
        """The operands of an operation, all of them whole."""
        return [self.values[operand, WHOLE] for operand in operation.operands]
