"""Positions that a kernel moves elsewhere where nothing of them is read or stored, left where they are.

Kernels for machines without masks on loads send rows and columns behind the end of a matrix to the first one, or to
the last:

    rows = where(rows < M, rows, 0)                       total = dot(load a[rows, k] where rows < M, load b, total)
    total = dot(load a[rows, k], load b, total)           store c[rows], total where rows < M
    store c[rows], total where rows < M

On the left, rows do not follow one another, so each of them is gathered; on the right they are a tile. What is read for
a row behind the end makes elements of results that the mask of their store drops, or a load masks it itself. The same
goes for rows that begin again behind the end, ``rows % M``, if none is negative: one below ``M`` is itself. No
facts of a launch are needed for that.

A load at places that another one has found, ``x[load ids[rows]]``, is masked with it: what is not loaded is no place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlutriton.ir.analysis.integer_signs import is_never_negative
from mlutriton.ir.analysis.layouts import WHOLE, Layouts, NotSplitError, operand_layouts
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus
from mlutriton.ir.analysis.uses import Uses
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    For,
    If,
    Load,
    Range,
    Splat,
    Store,
    Transpose,
    While,
    Yield,
)
from mlutriton.ir.types import is_index, shape_of

Condition = tuple[int, frozenset[tuple[tuple[Value, ...], int]]]
"""What is the same for conditions that hold for the same elements along an axis: how many elements there are, and how
many of them, from the first on, it holds for.
"""

_MOVED = (AddPtr, Broadcast, Elementwise, ExpandDims, Transpose)


def run(function: Function) -> None:
    """Drop choices of positions wherever only those are read or stored that they leave as they are."""
    least: dict[Value, int | None] = {}
    choices = [choice for each in function.walk() if (choice := _choice(each, least)) is not None]
    if not choices:
        return
    search = _Search(function)
    masks: dict[Operation, list[tuple[_Choice, int]]] = {}
    kept: dict[Value, Value] = {}
    for choice in choices:
        loads = search.loads_at(choice)
        if loads is None:
            continue
        kept[choice.chosen] = choice.position
        for load, axis in loads.items():
            masks.setdefault(load, []).append((choice, axis))
    _mask(function.body, masks)
    replace_uses(function.body, kept)


@dataclass(frozen=True)
class _Choice:
    """Positions along one axis that are kept where others are below a number.

    Attributes:
        chosen: the positions that come of it.
        position: those that are kept.
        below: what has to be below what for that.
        comparison: how that is written; under "sle" they may be equal as well.
    """

    chosen: Value
    position: Value
    below: tuple[Value, Value]
    comparison: str = "slt"


def _choice(operation: Operation, least: dict[Value, int | None]) -> _Choice | None:
    """The choice of positions that an operation makes; None if it makes none."""
    if not isinstance(operation, Elementwise) or not is_index(operation.result.type):
        return None
    if len(shape_of(operation.result.type)) != 1:
        return None
    match operation:
        case Elementwise(name="select", operands=[condition, one, other]):
            compared = condition.defining_op
            if isinstance(compared, Elementwise) and compared.name in ("slt", "sge"):
                position = one if compared.name == "slt" else other
                return _Choice(operation.result, position, (compared.operands[0], compared.operands[1]))
        case Elementwise(name="srem", operands=[position, end]) if is_never_negative(position, least):
            return _Choice(operation.result, position, (position, end))
        case Elementwise(name="smin", operands=[one, other]):
            position, last = (other, one) if isinstance(one.defining_op, Splat | Constant) else (one, other)
            return _Choice(operation.result, position, (position, last), "sle")
        case _:
            pass
    return None


class _Search:
    """Looks for loads of which nothing is read or stored at positions that are moved."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._uses = Uses(function)
        self._forms = ScalarForms()
        self._loops = [each for each in function.walk() if isinstance(each, For)]
        self._loads = [each for each in function.walk() if isinstance(each, Load)]
        self._stores = [each for each in function.walk() if isinstance(each, Store)]
        # What else is done with values is not known element by element.
        self._is_clear = all(_is_clear(each) for each in function.walk())
        self._layouts: dict[Condition, Layouts | None] = {}

    def loads_at(self, choice: _Choice) -> dict[Operation, int] | None:
        """The loads at chosen positions, with the axis of each along which they are; None if the choice counts."""
        condition = self._below(*choice.below, 0, beyond=int(choice.comparison == "sle"))
        loads = self._reached(choice.chosen) if condition is not None else None
        if condition is None or not loads:
            return None
        left_out: list[Operation] = []
        for load, axis in loads.items():
            if condition not in self._conditions(load.operands[1], axis):
                left_out.append(load)
                layouts = self._stored_where(condition)
                if layouts is None or layouts.wanted.get(load.results[0]) != {axis}:
                    return None
                loops = self._uses.loops_that_set([dict(condition[1])])
                if any(self._uses.is_carried_by(each, loops) for each in layouts.wanted):
                    return None  # stored under a condition of another iteration
        layouts = self._stored_where(condition) if left_out else None
        led_to = self._led_to(left_out, layouts) if layouts is not None else {}
        return None if led_to is None else {**led_to, **loads}

    def _led_to(self, loads: Sequence[Operation], layouts: Layouts) -> dict[Operation, int] | None:
        """The loads whose addresses or masks are made of what others load, with the axes of these; None if unknown."""
        found: dict[Operation, int] = {}
        reached = self._uses.reached([load.results[0] for load in loads])
        for load in (each for each in self._loads if not reached.keys().isdisjoint(each.operands[:2])):
            axes = layouts.wanted.get(load.results[0], {WHOLE})
            # A condition is known where control flow does not lead away from it.
            if any(reached.get(each) for each in load.operands[:2]) or len(axes) != 1 or WHOLE in axes:
                return None
            [found[load]] = axes
        return found

    def _reached(self, chosen: Value) -> dict[Operation, int] | None:
        """The loads to whose addresses positions go, with their axes; None if they go anywhere else.

        What a loop hands on to its next iteration is chosen under another condition there.
        """
        loads: dict[Operation, int] = {}
        around = {each.body.terminator for each in self._loops if chosen.owner in list(each.walk())}
        seen, pending = {(chosen, 0)}, [(chosen, 0)]
        while pending:
            value, axis = pending.pop()
            carried = self._uses.carried_with(value)
            if carried is None:
                return None
            found = [(each, axis) for group in carried for each in group if each is not group[0]]
            for user in self._uses.of(value):
                match user:
                    case Load() if user.operands[0] is value and value not in user.operands[1:]:
                        if loads.setdefault(user, axis) != axis:
                            return None
                    case _ if isinstance(user, _MOVED):
                        found.append((user.results[0], _axis_of_result(user, axis)))
                    case For() | Yield() if user not in around:
                        pass
                    case _:
                        return None
            fresh = [each for each in dict.fromkeys(found) if each not in seen]
            seen.update(fresh)
            pending += fresh
        return loads

    def _stored_where(self, condition: Condition) -> Layouts | None:
        """What stored tensors are made of, place by place along the axes that have a condition for each element."""
        if condition not in self._layouts:
            self._layouts[condition] = self._found(condition) if self._is_clear else None
        return self._layouts[condition]

    def _found(self, condition: Condition) -> Layouts | None:
        axes: dict[Operation, int] = {}
        for store in self._stores:
            places = range(len(shape_of(store.operands[1].type)))
            masked = (each for each in places if condition in self._conditions(store.operands[2], each))
            axes[store] = next(masked, WHOLE)
        try:
            return Layouts(self.function, 1, axes)
        except NotSplitError:
            return None

    # ---- conditions ------------------------------------------------------------------------------------------------

    def _conditions(self, mask: Value, axis: int) -> set[Condition]:
        """All conditions along an axis that have to hold where a mask is set."""
        found = (self._condition(*each) for each in _parts(mask, axis))
        return {each for each in found if each is not None}

    def _condition(self, value: Value, axis: int) -> Condition | None:
        """That consecutive positions are below a number; None for any other condition."""
        operation, axis = _source(value, axis)
        if not isinstance(operation, Elementwise) or operation.name != "slt":
            return None
        return self._below(operation.operands[0], operation.operands[1], axis)

    def _below(self, one: Value, other: Value, axis: int, beyond: int = 0) -> Condition | None:
        """That consecutive positions are below a number, or one so far beyond it; None for anything else."""
        position, end = (self._position(each, axis) for each in (one, other))
        if position is None or end is None or position[0] is None or end[0] is not None:
            return None
        return position[0], frozenset(plus(plus(end[1], position[1], -1), constant(beyond)).items())

    def _position(self, value: Value, axis: int) -> tuple[int | None, Form] | None:
        """An integer as a number and how many consecutive ones are added, None for the same along the axis."""
        operation, axis = _source(value, axis)
        match operation:
            case Range():
                return shape_of(operation.result.type)[0], constant(operation.integer("start"))
            case Splat(operands=[scalar]):
                return None, self._forms.of(scalar)
            case Constant(value=int(number)):
                return None, constant(number)
            case Elementwise(name="add", operands=operands):
                one, other = (self._position(each, axis) for each in operands)
                if one is None or other is None or (one[0] is not None and other[0] is not None):
                    return None
                return one[0] if one[0] is not None else other[0], plus(one[1], other[1])
            case Elementwise(name="sext", operands=[source]) if is_index(source.type):
                return self._position(source, axis)
            case _:
                return None


def _is_clear(operation: Operation) -> bool:
    return operation.PURE or operation.TERMINATOR or isinstance(operation, Load | Store | For | If | While)


def _axis_of_result(operation: Operation, axis: int) -> int:
    """Where an axis of an operand is in the result."""
    places = range(len(shape_of(operation.results[0].type)))
    if isinstance(operation, ExpandDims):
        return axis + (axis >= operation.integer("axis"))
    if isinstance(operation, Transpose):
        return next(each for each in places if operand_layouts(operation, each)[0] == axis)
    return axis


def _source(value: Value, axis: int) -> tuple[Operation | None, int]:
    """What a value repeats beside an axis, and where that is there."""
    operation = value.defining_op
    while isinstance(operation, ExpandDims | Broadcast):
        [operand] = operation.operands
        if isinstance(operation, ExpandDims):
            if axis == operation.integer("axis"):
                return None, axis
            axis -= axis > operation.integer("axis")
        elif shape_of(operand.type)[axis] != shape_of(operation.results[0].type)[axis]:
            return None, axis
        operation = operand.defining_op
    return operation, axis


def _parts(mask: Value, axis: int) -> Iterator[tuple[Value, int]]:
    """The conditions that a mask is made of, each with the axis there."""
    operation, place = _source(mask, axis)
    if isinstance(operation, Elementwise) and operation.name == "and":
        for each in operation.operands:
            yield from _parts(each, place)
    else:
        yield mask, axis


# ---- masks -----------------------------------------------------------------------------------------------------------


def _mask(block: Block, masks: dict[Operation, list[tuple[_Choice, int]]]) -> None:
    """Let loads read only where conditions hold."""
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _mask(region, masks)
        for choice, axis in masks.get(operation, ()):
            added = _masked(operation, choice, axis)
            operation.operands[1] = added[-1].results[0]
            rewritten += added
        rewritten.append(operation)
    block.operations = rewritten


def _masked(load: Operation, choice: _Choice, axis: int) -> Sequence[Operation]:
    """A load's mask where positions are kept along one of its axes."""
    code: list[Operation] = [Elementwise.of(choice.comparison, *choice.below, location=load.location)]
    type = load.operands[1].type
    for place in range(len(shape_of(type))):
        if place != axis:
            code.append(ExpandDims(code[-1].results, {"axis": place}, location=load.location))
    code.append(Broadcast(code[-1].results, result_types=[type], location=load.location))
    code.append(Elementwise.of("and", load.operands[1], code[-1].results[0], location=load.location))
    return code
