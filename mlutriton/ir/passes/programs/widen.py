"""Neighbouring programs as one, whose tiles are as many times as long.

Tiles that suit other machines are small here: their rows take longer to set up than to flow. The tiles of neighbouring
programs mostly lie side by side, and other tiles are the same for all of them:

    columns = program * 32 + range(0, 32)                 columns = programs * 128 + range(0, 128)
    store c[columns], exp(load a[columns])                store c[columns], exp(load a[columns])

Whether tiles lie side by side follows from the arithmetic on the number of the program
(:mod:`mlutriton.ir.analysis.neighbours`), in part only from facts of the launch. No sum changes its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mlutriton.ir.analysis.launch_facts import Multiple
from mlutriton.ir.analysis.layouts import WHOLE, Layouts, NotSplitError
from mlutriton.ir.analysis.neighbours import ALIKE, Neighbours
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.ops import (
    Constant,
    Elementwise,
    For,
    If,
    Load,
    NumPrograms,
    ProgramId,
    Range,
    Store,
)
from mlutriton.ir.passes.programs.layout_emission import Emission
from mlutriton.ir.types import element_type, shape_of, with_shape


@dataclass(frozen=True)
class Widened:
    """Programs as one.

    Attributes:
        facts: what has to hold of a launch, of values of the function of one of them.
    """

    facts: list[Multiple]
    _emission: _Emission

    @cached_property
    def function(self) -> Function:
        """What does what all of them do; its number is that of the first, divided by how many they are."""
        return self._emission.run()


def may_be_widened(function: Function) -> bool:
    """False if programs do anything one by one, or that depends on how many there are."""
    return all(_may_be_widened(each) for each in function.walk())


def run(function: Function, axis: int, count: int) -> Widened | None:
    """So many neighbouring programs along an axis as one; None if their tiles do not lie side by side.

    Args:
        function: of which :func:`may_be_widened` is true.
        axis: of the queries for a program's number.
        count: a power of two.
    """
    neighbours = Neighbours(function, axis, count)
    found = Search(function, neighbours)
    found.run()
    if found.layouts is None:
        return None
    emission = _Emission(function, found.layouts, found.stored, neighbours.facts, axis, count)
    return Widened(neighbours.facts, emission)


def _may_be_widened(operation: Operation) -> bool:
    if isinstance(operation, Store):
        return bool(shape_of(operation.operands[1].type))
    is_control = isinstance(operation, For | If) or operation.TERMINATOR
    return is_control or (operation.PURE and not isinstance(operation, NumPrograms)) or isinstance(operation, Load)


class Search:
    """Looks for the axes along which tiles that are stored lie side by side.

    Attributes:
        stored: the axis of each store; none if there is none for one of them.
        layouts: of all values, if there are any.
    """

    def __init__(self, function: Function, neighbours: Neighbours) -> None:
        self.function, self.neighbours = function, neighbours
        self.stored: dict[Operation, int] = {}
        self.layouts: Layouts | None = None

    def run(self) -> None:
        """Find them, and the layouts that follow from them."""
        self.neighbours.settle(self.look)
        if not self.stored:
            return
        try:
            layouts = Layouts(self.function, 1, self.stored)
        except NotSplitError:
            return
        # What is computed along an axis of one element could have come from elsewhere.
        is_clear = all(
            axis == WHOLE or shape_of(value.type)[axis] > 1 for value, axes in layouts.wanted.items() for axis in axes
        )
        self.layouts = layouts if is_clear else None

    def look(self) -> None:
        """Choose an axis for each store."""
        self.stored = {}
        stored: dict[Operation, int] = {}
        for operation in self.function.walk():
            if isinstance(operation, For) and not all(map(self.neighbours.is_alike, operation.operands[:3])):
                return
            if isinstance(operation, If) and not self.neighbours.is_alike(operation.operands[0]):
                return
            if isinstance(operation, Store):
                axis = self._axis(operation)
                if axis is None:
                    return
                stored[operation] = axis
        self.stored = stored

    def _axis(self, store: Store) -> int | None:
        for axis in range(len(shape_of(store.operands[1].type))):
            is_beside = all(self.neighbours.lie_beside(each, axis) for each in store.operands)
            if is_beside and self.neighbours.of(store.operands[0], axis) != ALIKE:
                return axis
        return None


class _Emission(Emission):
    """Writes the function of all neighbours."""

    def __init__(
        self,
        function: Function,
        layouts: Layouts,
        stored: dict[Operation, int],
        facts: Sequence[Multiple],
        axis: int,
        count: int,
    ) -> None:
        super().__init__(function, layouts)
        self.stored, self.axis, self.count = stored, axis, count
        self.multiples = {each.value: each.of for each in facts}

    def shape(self, shape: tuple[int, ...], layout: int) -> tuple[int, ...]:
        """That of the tensors of all neighbours, side by side."""
        return tuple(extent * self.count if axis == layout else extent for axis, extent in enumerate(shape))

    def with_effect(self, operation: Operation) -> None:
        """Store the tiles of all neighbours."""
        layout = self.stored[operation]
        self.effect(operation.__class__([self.values[each, layout] for each in operation.operands], {}))

    def made(self, operation: Operation, layout: int) -> Sequence[Value]:
        """Do an operation for all neighbours; what is known to be a multiple is written as one."""
        made = self._made(operation, layout)
        multiple = self.multiples.get(operation.results[0]) if len(operation.results) == 1 else None
        return made if multiple is None else [self._times(self._quotient(made[0], multiple), multiple)]

    def _times(self, value: Value, factor: int) -> Value:
        return self.code.add(Elementwise.of("mul", value, self.code.add(Constant.of(factor, value.type))))

    def _quotient(self, value: Value, divisor: int) -> Value:
        return self.code.add(Elementwise.of("sdiv", value, self.code.add(Constant.of(divisor, value.type))))

    def _made(self, operation: Operation, layout: int) -> Sequence[Value]:
        types = [
            with_shape(self.shape(shape_of(result.type), layout), element_type(result.type))
            for result in operation.results
        ]
        match operation:
            case ProgramId() if operation.axis == self.axis:
                number = self.code.add(ProgramId((), operation.attributes))
                return [self._times(number, self.count)]
            case Range() if layout != WHOLE:
                start = operation.integer("start")
                return [self.code.add(Range((), {"start": start, "end": start + types[0].shape[0]}))]  # type: ignore[union-attr]
            case Constant():
                return [self.code.add(Constant.of(operation.value, types[0]))]
            case _:
                regions = [copy_block(region, {}) for region in operation.regions]
                operands = self.operands(operation, layout)
                made = operation.__class__(operands, operation.attributes, result_types=types, regions=regions)
                return self.effect(made).results


def power_of_two_up_to(number: int) -> int:
    """The greatest power of two that is no more than a number; 0 of 0."""
    return 1 << number.bit_length() >> 1
