"""Tiles that wrap, as if none did, for launches of which that is right.

Kernels written for machines without masks on loads read ``(start + range) % size``: what stands behind the end is read
from the beginning. Without wraps a tile is one transfer, and can be shared and deepened like any. There are two ways:

* What is read from the beginning makes rows or columns of a result that the mask of its store, ``start + range <
  size``, drops. Then the tile may as well end there. Only the signs of numbers have to be known of a launch.
* A tile that begins at a multiple of its extent reaches the end only where ``size`` is no multiple of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.ir.analysis.edges import FormKey, edges_of
from mlutriton.ir.analysis.launch_bounds import Bounds
from mlutriton.ir.analysis.launch_facts import Fact, Factors, Multiple, condition_function, is_of_the_launch
from mlutriton.ir.analysis.layouts import WHOLE, Layouts, NotSplitError
from mlutriton.ir.analysis.scalar_forms import ScalarForms, plus
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.analysis.uses import Uses
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import AddPtr, GatherLoad, TileGeometry, TileLoad, TileStore
from mlutriton.ir.types import shape_of


@dataclass(frozen=True)
class _Straight:
    """A tile without a wrap along a dimension: where it begins there, and where it ends if it would wrap."""

    start: Value
    end: Value | None


@dataclass(frozen=True)
class Unwrapped:
    """A function without wraps.

    Attributes:
        function: the function.
        condition: what has to hold of a launch for it to be right.
        is_usual: the condition holds for all sizes: tiles rather end than wrap.
    """

    function: Function
    condition: Function
    is_usual: bool


_Found = dict[tuple[Operation, int], _Straight]


def run(function: Function) -> Unwrapped | None:
    """The function without wraps.

    Args:
        function: whose memory accesses are known.

    Returns:
        None if nothing wraps, or it depends on more than the arguments of the launch whether anything does.
    """
    made = copy_function(function)
    search = _Search(made)
    accesses = [each for each in made.walk() if isinstance(each, TileLoad | TileStore)]
    found: _Found = {}
    for access in accesses:
        for dimension, wrap in enumerate(access.geometry.wraps):
            if wrap is not None:
                straight = search.straight(access, dimension)
                if straight is None:
                    return None
                found[access, dimension] = straight
    if not found:
        return None
    search.ask()
    condition = condition_function(made, search.facts)
    _straighten(made.body, found)
    return Unwrapped(made, condition, is_usual=not any(isinstance(each, Multiple) for each in search.facts))


class _Search:
    """Finds how tiles can do without wraps.

    Attributes:
        facts: what has to hold of a launch for that.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.facts: list[Fact] = []
        self._bounds = Bounds(function)
        self._factors = Factors(function)
        self._forms = ScalarForms()
        self._uses = Uses(function)
        self._layouts: dict[tuple[FormKey, int], Layouts | None] = {}

    def ask(self) -> None:
        """Have the function compute what facts are about."""
        self.function.body.operations[-1:-1] = self._bounds.code.operations

    def straight(self, access: TileLoad | TileStore, dimension: int) -> _Straight | None:
        """How a tile does without its wrap along a dimension; None if no facts of the launch say that."""
        wrap = access.geometry.wraps[dimension]
        remainder = wrap[0].defining_op if wrap is not None else None
        if wrap is None or remainder is None or remainder.name != "srem" or remainder.operands[1] is not wrap[1]:
            return None
        start, size = remainder.operands
        if isinstance(access, TileLoad) and self._is_unread_behind(access, dimension, start, size):
            signs = self._bounds.at_least(start, 0), self._bounds.at_least(size, 1)
            if signs[0] is not None and signs[1] is not None:
                self.facts += [*signs[0], *signs[1]]
                return _Straight(start, size)
        extent = access.geometry.shape[dimension]
        # Provided that the size is a multiple of the extent, the tile begins at one.
        if self._factors.of(start) % extent or not is_of_the_launch(size, self.function):
            return None
        self.facts.append(Multiple(size, extent))
        return _Straight(wrap[0], None)

    def _is_unread_behind(self, load: TileLoad, dimension: int, start: Value, size: Value) -> bool:
        """True if all that is made of a tile's elements that wrap is never stored, nor a place of others."""
        end = plus(self._forms.of(size), self._forms.of(start), -1)
        layouts = self._stored_up_to(frozenset(end.items()), load.geometry.shape[dimension])
        if layouts is None or layouts.wanted.get(load.result) != {dimension}:
            return False
        # Nothing is looked up at places that are not loaded.
        reached = self._uses.reached([load.result])
        lookups = (each for each in self.function.walk() if isinstance(each, GatherLoad))
        if not all(reached.keys().isdisjoint(each.operands) for each in lookups):
            return False
        # What a loop hands on is stored up to the end of another iteration.
        loops = self._uses.loops_that_set([end])
        return not any(self._uses.is_carried_by(each, loops) for each in layouts.wanted)

    def _stored_up_to(self, end: FormKey, extent: int) -> Layouts | None:
        """What stored tensors are made of, place by place along axes of an extent that their stores end at a number."""
        if (end, extent) not in self._layouts:
            axes: dict[Operation, int] = {}
            for store in (each for each in self.function.walk() if isinstance(each, TileStore)):
                dimensions = (at for at, each in enumerate(shape_of(store.value.type)) if each == extent)
                ending = (each for each in dimensions if end in edges_of(store, each, self._forms)[1].keys)
                axes[store] = next(ending, WHOLE)
            try:
                self._layouts[end, extent] = Layouts(self.function, 1, axes)
            except NotSplitError:
                self._layouts[end, extent] = None
        return self._layouts[end, extent]


def _straighten(block: Block, found: _Found) -> None:
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _straighten(region, found)
        if isinstance(operation, TileLoad | TileStore) and any(operation.geometry.flags()):
            rewritten += _moved_to_start(operation, found)
        rewritten.append(operation)
    block.operations = rewritten


def _moved_to_start(operation: TileLoad | TileStore, found: _Found) -> list[Operation]:
    """Let a tile begin where its wraps do; returns the arithmetic for that."""
    scalars, geometry = Scalars(operation.location), operation.geometry
    base, limits = operation.base, list(geometry.limits)
    for dimension, stride in enumerate(geometry.strides):
        straight = found.get((operation, dimension))
        if straight is None:
            continue
        base = scalars.add(AddPtr([base, scalars.value(scalars.binary("mul", straight.start, stride))]))
        if straight.end is not None:
            rest = scalars.value(scalars.binary("sub", straight.end, straight.start))
            limits[dimension] = scalars.value(scalars.minimum([limits[dimension], rest]))
    straight = TileGeometry(geometry.shape, geometry.strides, geometry.firsts, limits, [None] * len(geometry.shape))
    operation.operands = [base, operation.operands[1], *straight.operands()]
    operation.attributes = {**operation.attributes, "wraps": straight.flags()}
    return scalars.operations
