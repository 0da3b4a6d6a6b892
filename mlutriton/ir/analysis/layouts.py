"""How the tensors of a function can be split among the members of a program, so that each computes its part alone.

A *layout* of a tensor is the axis along which member ``m`` of ``n`` has the ``m``-th of ``n`` equal parts, or
``WHOLE``: every member has all of it. What an operation computes in a layout follows from its operands in certain
layouts; a value may be wanted in several, and is then made in each. So all layouts follow from those of what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlutriton.diagnostics import Location
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Broadcast,
    Concatenate,
    Constant,
    Dot,
    Elementwise,
    ExpandDims,
    For,
    Gather,
    GatherLoad,
    If,
    IntToPtr,
    Join,
    Load,
    LookUp,
    PtrCast,
    PtrToInt,
    Range,
    Reduce,
    Reshape,
    Scan,
    ScatterStore,
    Splat,
    Split,
    Store,
    TileLoad,
    TileStore,
    Transpose,
    While,
    Window,
)
from mlutriton.ir.types import element_type, shape_of, storage_dtype

WHOLE = -1

_LOOP_WEIGHT = 16
# What a byte costs to load, in bytes of a vector operation: by a member for itself, or by each a part of it.
_LOAD_WEIGHT = 6
_SHARED_WEIGHT = 2
# Multiply-accumulates that take as long as a byte.
_PRODUCTS = 16
_PRODUCT_COLUMNS = 64

_POINTWISE = (Elementwise, AddPtr, PtrToInt, IntToPtr, PtrCast, Split, Load, Store)


class NotSplitError(Exception):
    """A tensor cannot be had in parts.

    Attributes:
        reason: why, in words.
        location: the line that it is about.
    """

    def __init__(self, reason: str, location: Location) -> None:
        super().__init__(reason)
        self.reason = reason
        self.location = location


def part_shape(shape: tuple[int, ...], layout: int, members: int) -> tuple[int, ...]:
    """The shape of what a member has of a tensor."""
    return tuple(extent // members if axis == layout else extent for axis, extent in enumerate(shape))


def can_be_split(shape: tuple[int, ...], axis: int, members: int) -> bool:
    """True if the axis has as many elements for each member."""
    return axis < len(shape) and shape[axis] % members == 0


def operand_layouts(operation: Operation, axis: int) -> Sequence[int]:
    """The layouts of an operation's operands from which its results follow along an axis.

    Of a store the axis is that of the value. Scalars are whole.

    Raises:
        NotSplitError: they don't, whatever the operands are.
    """
    operands = operation.operands
    match operation:
        case Constant() | Range() | Splat() | TileLoad():
            layouts = [WHOLE] * len(operands)
        case TileStore():
            layouts = [axis if place == 1 else WHOLE for place in range(len(operands))]
        case GatherLoad() | ScatterStore():
            # Along the elements of an item, every member has a part of each.
            items = axis if axis < len(shape_of(operands[1].type)) else WHOLE
            layouts = [items if shape_of(operand.type) else WHOLE for operand in operands]
            if isinstance(operation, ScatterStore):
                layouts[2] = axis
        case LookUp():
            layouts = [WHOLE, WHOLE, axis, axis, axis, WHOLE]
        case Join() if axis < len(shape_of(operands[0].type)):
            layouts = [axis, axis]
        case _ if isinstance(operation, _POINTWISE):
            layouts = [axis] * len(operands)
        case ExpandDims():
            layouts = [axis - (axis > operation.integer("axis"))]
        case Broadcast():
            layouts = [WHOLE if shape_of(operands[0].type)[axis] == 1 else axis]
        case Reshape():
            layouts = [_reshaped_axis(operation, axis)]
        case Transpose():
            layouts = [operation.order[axis]]
        case Gather():
            layouts = [WHOLE if axis == operation.integer("axis") else axis, axis]
        case Dot():
            row = len(shape_of(operands[2].type)) - 2
            layouts = [axis if axis <= row else WHOLE, WHOLE if axis == row else axis, axis]
        case Reduce():
            layouts = [axis + (axis >= operation.axis)] * len(operands)
        case Window() if axis != operation.integer("axis"):
            layouts = [axis]
        case Concatenate() if axis > 0:
            layouts = [axis, axis]
        case Scan() if axis != operation.axis:
            layouts = [axis] * len(operands)
        case _:
            raise NotSplitError(f"the cores of a cluster cannot share out {operation.name}", operation.location)
    return layouts


def _reshaped_axis(operation: Reshape, axis: int) -> int:
    source, target = (shape_of(value.type) for value in (operation.operands[0], operation.result))
    before = math.prod(target[:axis])
    for place, extent in enumerate(source):
        # Parts of both hold the same elements if what stands outside of the axis is the same.
        if math.prod(source[:place]) == before and extent > 1:
            return place
    raise NotSplitError("the cores of a cluster cannot share out reshape", operation.location)


def _is_done_anyway(operation: Operation) -> bool:
    """True for what is done even if nothing wants a tensor of it: it has an effect, or gives scalars."""
    if operation.TERMINATOR or isinstance(operation, For | While | If):
        return False
    has_effect = not (operation.PURE or operation.READS)
    return has_effect or not any(shape_of(result.type) for result in operation.results)


class Layouts:
    """The layouts in which each value of a function is wanted.

    Attributes:
        wanted: by tensor; those that nothing wants are not there.
    """

    def __init__(self, function: Function, members: int, stored: Mapping[Operation, int]) -> None:
        """Derive all layouts from those of operations with an effect.

        Raises:
            NotSplitError: something is wanted in parts that cannot be had so.
        """
        self.function = function
        self.members = members
        self.wanted: dict[Value, set[int]] = {}
        self._whole_weight = _LOAD_WEIGHT
        self._parents: dict[Block, Operation] = {}
        self._pending: list[tuple[Value, int]] = []
        # What products take as right operands, on the way to which a transpose costs nothing.
        self._weights: set[Value] = set()
        for operation in function.walk():
            self._parents.update((region, operation) for region in operation.regions)
            if isinstance(operation, Dot):
                self._weights.add(operation.operands[1])
        for operation in function.walk():
            layout = stored.get(operation, WHOLE)
            if layout != WHOLE:
                self._want_all(operation.operands, operand_layouts(operation, layout))
            elif _is_done_anyway(operation):
                self._want_all(operation.operands, [WHOLE] * len(operation.operands))
        while self._pending:
            self._spread(*self._pending.pop())

    def layouts_of(self, operation: Operation) -> list[int]:
        """The layouts in which an operation is done; none if nothing wants it."""
        if not any(shape_of(result.type) for result in operation.results):
            return [WHOLE]
        wanted: set[int] = set()
        for result in operation.results:
            wanted |= self.wanted.get(result, set())
        return sorted(wanted)

    def layouts(self, value: Value) -> list[int]:
        """The layouts in which a value is handed on."""
        return sorted(self.wanted.get(value, ())) if shape_of(value.type) else [WHOLE]

    def _want_all(self, values: Sequence[Value], layouts: Sequence[int]) -> None:
        for value, layout in zip(values, layouts, strict=True):
            self._want(value, layout)

    def _want(self, value: Value, layout: int) -> None:
        shape = shape_of(value.type)
        if not shape or layout in self.wanted.setdefault(value, set()):
            return
        if layout != WHOLE and not can_be_split(shape, layout, self.members):
            place = value.owner.location if isinstance(value.owner, Operation) else self.function.location
            raise NotSplitError(f"{shape[layout]} elements are not as many for each of {self.members} cores", place)
        self.wanted[value].add(layout)
        self._pending.append((value, layout))

    def _spread(self, value: Value, layout: int) -> None:
        """Want whatever a value is made of."""
        owner, index = value.owner, value.index
        operation = owner if isinstance(owner, Operation) else self._parents.get(owner)
        match operation:
            case None:
                # What a function is given is there as a whole.
                if layout != WHOLE:
                    raise NotSplitError(f"the argument {value.name} is no array", self.function.location)
                return
            case For():
                place = index if owner is operation else index - 1
                yielded = operation.body.terminator.operands[place]
                tied = (operation.results[place], operation.carried[place], operation.initial[place], yielded)
            case While() if owner is operation.regions[0]:
                tied = (operation.operands[index], operation.regions[1].terminator.operands[index])
            case While():
                before, after = operation.regions
                tied = (before.terminator.operands[1 + index], after.arguments[index], operation.results[index])
            case If():
                tied = tuple(region.terminator.operands[index] for region in operation.regions)
            case _ if layout == WHOLE:
                tied = tuple(operation.operands)
            case _:
                self._want_all(operation.operands, operand_layouts(operation, layout))
                return
        self._want_all(tied, [layout] * len(tied))

    # ---- what it costs ---------------------------------------------------------------------------------------------

    def work(self) -> int:
        """What a member has to do, in bytes of a vector operation; only to be compared.

        What every member needs the whole of is taken to be loaded by all together, unless nothing is split.
        """
        self._whole_weight = _SHARED_WEIGHT if any(each != {WHOLE} for each in self.wanted.values()) else _LOAD_WEIGHT
        return self._work(self.function.body, 1)

    def _work(self, block: Block, times: int) -> int:
        total = 0
        for operation in block.operations:
            match operation:
                case For() | While():
                    total += sum(self._work(region, times * _LOOP_WEIGHT) for region in operation.regions)
                case If():
                    total += sum(self._work(region, times) for region in operation.regions)
                case _:
                    total += times * sum(self._work_of(operation, layout) for layout in self.layouts_of(operation))
        return total

    def _work_of(self, operation: Operation, layout: int) -> int:
        if not operation.results or isinstance(operation, Constant | Splat | Broadcast | ExpandDims | Reshape):
            return 0
        measured, along = operation.results[0], layout
        if isinstance(operation, Transpose) and measured in self._weights:
            return 0
        size = storage_dtype(element_type(measured.type)).bytes
        if isinstance(operation, Reduce | Scan):
            measured = operation.operands[0]
            along = layout if layout == WHOLE else operand_layouts(operation, layout)[0]
        shape = part_shape(shape_of(measured.type), along, self.members)
        if isinstance(operation, Dot):
            columns = -(-shape[-1] // _PRODUCT_COLUMNS) * _PRODUCT_COLUMNS
            depth = shape_of(operation.operands[0].type)[-1]
            return math.prod(shape[:-1]) * columns * depth // _PRODUCTS
        weight = 1 if shape else 0
        if isinstance(operation, TileLoad | GatherLoad):
            weight = self._whole_weight if layout == WHOLE else _LOAD_WEIGHT
        return math.prod(shape) * size * weight

    def most_repeated(self) -> Operation | None:
        """The operation that most work goes into of those that every member does as a whole."""
        costs = {
            operation: self._work_of(operation, WHOLE)
            for operation in self.function.walk()
            if WHOLE in self.layouts_of(operation) and not isinstance(operation, For | While | If | TileLoad)
        }
        most = max(costs, key=lambda operation: costs[operation], default=None)
        return most if most is not None and costs[most] > 0 else None
