"""Where the mask of a tile begins and ends along a dimension, as numbers that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlutriton.immutables import replace
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, constant, plus
from mlutriton.ir.core import Value
from mlutriton.ir.ops import Constant, Elementwise, TileLoad, TileStore
from mlutriton.ir.types import shape_of

FormKey = frozenset[tuple[tuple[Value, ...], int]]
"""A form that can be an element of a set."""


@dataclass(frozen=True)
class Part:
    """A number that takes part in an edge: ``value + shift``, which is ``form``."""

    value: Value
    shift: int
    form: Form

    @property
    def key(self) -> FormKey:
        """What is the same for equal numbers."""
        return frozenset(self.form.items())


@dataclass(frozen=True)
class Edge:
    """The greatest of some numbers, where a mask begins, or the least of some, where it ends.

    Attributes:
        parts: the numbers; without any the tile has no edge but its own.
        gates: numbers of which one that is not positive leaves nothing of the tile; else they say nothing.
    """

    parts: tuple[Part, ...] = ()
    gates: tuple[Value, ...] = ()

    @property
    def keys(self) -> frozenset[FormKey]:
        """What is the same for equal parts."""
        return frozenset(part.key for part in self.parts)

    def moved(self, by: int) -> Edge:
        """The edge so many positions later."""
        parts = (replace(each, shift=each.shift + by, form=plus(each.form, constant(by))) for each in self.parts)
        return replace(self, parts=tuple(parts))


def edges_of(access: TileLoad | TileStore, dimension: int, forms: ScalarForms) -> tuple[Edge, Edge]:
    """Where the mask of an access begins and ends along a dimension."""
    tile = access.result if isinstance(access, TileLoad) else access.value
    extent, geometry = shape_of(tile.type)[dimension], access.geometry
    first, limit = geometry.firsts[dimension], geometry.limits[dimension]
    begins = [each for each in parts_of(first, "smax") if not _is_known(each, 0, -1)]
    ends = [each for each in parts_of(limit, "smin") if not _is_known(each, extent, 1)]
    gates = {each: gate for each in ends if (gate := _gate(each, extent)) is not None}
    parts = tuple(Part(each, 0, forms.of(each)) for each in ends if each not in gates)
    return Edge(tuple(Part(each, 0, forms.of(each)) for each in begins)), Edge(parts, tuple(gates.values()))


def parts_of(value: Value, name: str) -> Iterator[Value]:
    """The numbers of which a value is the least, or the greatest."""
    match value.defining_op:
        case Elementwise() as operation if operation.name == name:
            for operand in operation.operands:
                yield from parts_of(operand, name)
        case _:
            yield value


def _is_known(value: Value, end: int, direction: int) -> bool:
    """True for a number at the end of a tile or beyond."""
    match value.defining_op:
        case Constant(value=int(number)):
            return number * direction >= end * direction
        case _:
            return False


def _gate(value: Value, extent: int) -> Value | None:
    """The number that decides if a value is 0 or less, or ``extent`` or more."""
    match value.defining_op:
        case Elementwise(name="mul", operands=[least, times]) if _is_known(times, extent, 1):
            match least.defining_op:
                case Elementwise(name="smin", operands=operands) if any(map(_is_one, operands)):
                    return least
                case _:
                    return None
        case Elementwise(name="select", operands=[_, a, b]):
            choices = (a, b), (b, a)
            return value if any(_is_known(x, extent, 1) and _is_known(y, 0, -1) for x, y in choices) else None
        case _:
            return None


def _is_one(value: Value) -> bool:
    match value.defining_op:
        case Constant(value=int(number)):
            return number == 1
        case _:
            return False
