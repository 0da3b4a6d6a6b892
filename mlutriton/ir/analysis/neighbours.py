"""What changes from a program of the grid to the next ones, and whether their tensors lie side by side.

Programs ``number``, ``number + 1``, ... of so many neighbours are looked at, ``number`` being a multiple of how many
they are. For neighbour ``a``, an integer or pointer is its value for the first one plus ``step * a`` if its *step* is
known. Along an axis of a tensor, elements may have an *increment* too: element ``i`` is element 0 plus ``increment *
i``. Where the step is the increment times the extent of the axis, the tensors of all neighbours are one tensor that is
as many times as long; and so is what is computed from such tensors element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from mlutriton.ir.analysis.depth_first import Search, depth_first
from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.launch_facts import Factors, Multiple, is_of_the_launch
from mlutriton.ir.analysis.layouts import WHOLE, NotSplitError, operand_layouts
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Dot,
    Elementwise,
    ExpandDims,
    For,
    If,
    Load,
    NumPrograms,
    ProgramId,
    Range,
    Reduce,
    Reshape,
    Scan,
    Splat,
    Transpose,
)
from mlutriton.ir.types import is_index, shape_of


class Opaque(Enum):
    """What is known of values that no step describes."""

    BESIDE = auto()  # those of neighbours lie side by side along the axis
    UNKNOWN = auto()


@dataclass(frozen=True)
class Progression:
    """The step of a value from neighbour to neighbour, and its increment along an axis."""

    step: int
    increment: int

    def __add__(self, other: Progression) -> Progression:
        return Progression(self.step + other.step, self.increment + other.increment)

    def times(self, factor: int) -> Progression:
        """Of the value times a number."""
        return Progression(self.step * factor, self.increment * factor)


Relation = Progression | Opaque
_Search = Search[tuple[Value, int], Relation]
ALIKE = Progression(0, 0)

_OPAQUE = (Elementwise, AddPtr, Load, Dot, Reduce, Reshape, Scan)


class Neighbours:
    """The relations of a function's values.

    Attributes:
        facts: what has to hold of a launch for them.
    """

    def __init__(self, function: Function, axis: int, count: int) -> None:
        """Look at so many neighbours along an axis of the grid, a power of two."""
        self.function, self.axis, self.count = function, axis, count
        self.facts: list[Multiple] = []
        self._factors = Factors(function)
        self._least: dict[Value, int | None] = {}
        self._parents: dict[Block, Operation] = {}
        for operation in function.walk():
            self._parents.update((region, operation) for region in operation.regions)
            if isinstance(operation, ProgramId) and operation.integer("axis") == axis:
                self._factors.assumed[operation.result] = count
        # Of what loops carry, as it is taken to be; looked at again until that is so.
        self._carried: dict[tuple[Value, int], Relation] = {}
        self._known: dict[tuple[Value, int], Relation] = {}

    def settle(self, wanted: Callable[[], None]) -> None:
        """Ask for relations until what loops carry is as they take it to be."""
        while True:
            self._known.clear()
            wanted()
            carried = list(self._carried)
            is_settled = not sum(self._unsettled(value, axis) for value, axis in carried)
            # What a loop yields may be what one inside of it carries, which is met then, and has to be asked too.
            if is_settled and len(carried) == len(self._carried):
                return

    def _unsettled(self, value: Value, axis: int) -> bool:
        loop = self._parents[value.owner] if isinstance(value.owner, Block) else value.owner
        assert isinstance(loop, For)
        place = value.index - 1
        begun = joined = self._carried[value, axis]
        # A loop within a loop may begin with what the outer one carries, of which less is known by now.
        for each in (loop.initial[place], loop.body.terminator.operands[place]):
            joined = self._joined(joined, self.of(each, axis), value, axis)
        self._carried[value, axis] = joined
        return joined != begun

    def _joined(self, one: Relation, other: Relation, value: Value, axis: int) -> Relation:
        if one == other:
            return one
        extent = _extent(value, axis)
        return Opaque.BESIDE if axis != WHOLE and _lies_beside(one, extent) and _lies_beside(other, extent) else \
            Opaque.UNKNOWN  # fmt: skip

    def is_alike(self, value: Value) -> bool:
        """True if a value is the same for all neighbours."""
        return self.of(value, WHOLE) == ALIKE

    def lie_beside(self, value: Value, axis: int) -> bool:
        """True if the tensors of neighbours are one that is as many times as long along an axis."""
        return _lies_beside(self.of(value, axis), _extent(value, axis))

    def of(self, value: Value, axis: int) -> Relation:
        """The relation of a value, along an axis or (``WHOLE``) from neighbour to neighbour alone."""
        return depth_first(self._search, (value, axis))

    def _search(self, wanted: tuple[Value, int]) -> _Search:
        if wanted not in self._known:
            self._known[wanted] = yield from self._find(*wanted)
        return self._known[wanted]

    def _find(self, value: Value, axis: int) -> _Search:
        owner = value.owner
        operation = owner if isinstance(owner, Operation) else self._parents.get(owner)
        match operation:
            case None | Constant() | NumPrograms():
                return ALIKE
            case For():
                return (yield from self._of_loop(operation, value, axis))
            case If() if (yield operation.operands[0], WHOLE) == ALIKE:
                one, other = (region.terminator.operands[value.index] for region in operation.regions)
                return self._joined((yield one, axis), (yield other, axis), value, axis)
            case ProgramId():
                return Progression(1, 0) if operation.integer("axis") == self.axis else ALIKE
            case Range():
                return Progression(0, 0 if axis == WHOLE else 1)
            case Splat():
                return (yield operation.operands[0], WHOLE)
            case ExpandDims() | Broadcast() | Transpose():
                return (yield self._source(operation, axis))
            case AddPtr():
                return (yield from self._sum(operation, axis, 1))
            case _:
                return (yield from self._of_operation(operation, axis))

    def _of_loop(self, loop: For, value: Value, axis: int) -> _Search:
        for bound in loop.operands[:3]:
            if (yield bound, WHOLE) != ALIKE:
                return Opaque.UNKNOWN
        place = value.index if value.owner is loop else value.index - 1
        if place < 0:
            return ALIKE
        carried = loop.carried[place], axis
        if carried not in self._carried:
            self._carried[carried] = yield loop.initial[place], axis
        return self._carried[carried]

    @staticmethod
    def _source(operation: ExpandDims | Broadcast | Transpose, axis: int) -> tuple[Value, int]:
        """The operand, and the axis of it that is an axis of the result."""
        operand = operation.operands[0]
        if axis == WHOLE or (isinstance(operation, ExpandDims) and axis == operation.integer("axis")):
            return operand, WHOLE
        return operand, operand_layouts(operation, axis)[0]

    def _of_operation(self, operation: Operation, axis: int) -> _Search:
        operands = operation.operands
        if len(operation.results) != 1 or not is_index(operation.result.type):
            return (yield from self._of_opaque(operation, axis))
        match operation.name:
            case "add":
                return (yield from self._sum(operation, axis, 1))
            case "sub":
                return (yield from self._sum(operation, axis, -1))
            case "mul" if (factor := constant_of(operands[1])) is not None:
                return _scaled((yield operands[0], axis), factor)
            case "mul" if (factor := constant_of(operands[0])) is not None:
                return _scaled((yield operands[1], axis), factor)
            case "sext" | "trunc_int":
                return (yield operands[0], axis)
            case "zext" if is_never_negative(operands[0], self._least):
                return (yield operands[0], axis)
            case "sdiv" | "udiv" | "srem" | "urem" if not shape_of(operation.result.type):
                return (yield from self._divided(operation))
            case _:
                return (yield from self._of_opaque(operation, axis))

    def _sum(self, operation: Operation, axis: int, sign: int) -> _Search:
        one = yield operation.operands[0], axis
        other = yield operation.operands[1], axis
        if isinstance(one, Progression) and isinstance(other, Progression):
            return one + other.times(sign)
        return (yield from self._of_opaque(operation, axis))

    def _of_opaque(self, operation: Operation, axis: int) -> _Search:
        """Of what is computed element by element, or from whole rows of the axis."""
        if not isinstance(operation, _OPAQUE):
            return Opaque.UNKNOWN
        try:
            layouts = [WHOLE] * len(operation.operands) if axis == WHOLE else operand_layouts(operation, axis)
        except NotSplitError:
            return Opaque.UNKNOWN
        pairs = [
            (each, layout if shape_of(each.type) else WHOLE)
            for each, layout in zip(operation.operands, layouts, strict=True)
        ]
        relations = list[Relation]()
        for pair in pairs:
            relation = yield pair
            relations.append(relation)
        if all(each == ALIKE for each in relations):
            return ALIKE
        beside = all(_lies_beside(each, _extent(*pair)) for each, pair in zip(relations, pairs, strict=True))
        return Opaque.BESIDE if axis != WHOLE and beside else Opaque.UNKNOWN

    def _divided(self, operation: Operation) -> _Search:
        """Of a quotient or remainder: a divisor that is a multiple of what neighbours span has all in one period."""
        dividend, divisor = operation.operands
        relation = yield dividend, WHOLE
        if (yield divisor, WHOLE) != ALIKE or not isinstance(relation, Progression):
            return Opaque.UNKNOWN
        if relation == ALIKE:
            return ALIKE
        span = relation.step * self.count
        is_safe = is_never_negative(dividend, self._least)
        if span < 0 or not is_safe or self._factors.of(dividend) % span or not self._take_as_multiple(divisor, span):
            return Opaque.UNKNOWN
        return ALIKE if operation.name in ("sdiv", "udiv") else relation

    def _take_as_multiple(self, value: Value, of: int) -> bool:
        """True if an integer is a multiple of a number, or if that is a fact of the launch from now on."""
        if self._factors.of(value) % of == 0:
            return True
        if isinstance(value.defining_op, Constant):
            return False  # nor will it be in any launch
        if is_of_the_launch(value, self.function):
            self.facts.append(Multiple(value, of))
            self._factors.assumed[value] = of
            return True
        operation = value.defining_op
        if operation is not None and operation.name in ("add", "sub", "smin", "smax", "sext", "zext"):
            return all(self._take_as_multiple(each, of) for each in operation.operands)
        return False


def _scaled(relation: Relation, factor: int) -> Relation:
    return relation.times(factor) if isinstance(relation, Progression) else relation


def _lies_beside(relation: Relation, extent: int) -> bool:
    if isinstance(relation, Progression):
        return relation.step == relation.increment * extent
    return relation is Opaque.BESIDE


def _extent(value: Value, axis: int) -> int:
    return 0 if axis == WHOLE else shape_of(value.type)[axis]


def constant_of(value: Value) -> int | None:
    """The number that an integer, or every element of a tensor, is."""
    operation = value.defining_op
    if isinstance(operation, Splat):
        return constant_of(operation.operands[0])
    return operation.value if isinstance(operation, Constant) and isinstance(operation.value, int) else None
