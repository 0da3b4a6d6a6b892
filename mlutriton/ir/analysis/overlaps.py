"""Loads of one array at constant distances from each other, and the box of elements that several of them make up.

Positions are counted from element 0 of the first load of a group. Along each dimension a load asks for the positions
from ``low`` to ``high`` of which a mask may leave out some at either end. Loads whose positions differ along one
dimension alone and leave no gap make up a longer box, which differs from others in turn.

Where masks leave out the same places of the array, a box has exactly the elements that its loads ask for. Where each
load leaves out the same of its own positions, and those matter to nobody, it has all from the first that is asked for
to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlutriton.immutables import replace
from mlutriton.ir.analysis.edges import Edge, edges_of
from mlutriton.ir.analysis.scalar_forms import ScalarForms, constant, multiples, plus
from mlutriton.ir.core import Value
from mlutriton.ir.ops import TileLoad
from mlutriton.ir.types import shape_of


@dataclass(frozen=True)
class Span:
    """A box along one dimension.

    Attributes:
        low: the first position.
        high: the one behind the last.
        reach: positions of a single load.
        first: where the mask begins.
        limit: where it ends.
        own_first: ``first`` is counted in each load's own positions.
        own_limit: ``limit`` is.
    """

    low: int
    high: int
    reach: int
    first: Edge
    limit: Edge
    own_first: bool = False
    own_limit: bool = False

    @property
    def extent(self) -> int:
        """How many positions."""
        return self.high - self.low

    @property
    def identity(self) -> object:
        """What is the same for the same positions under the same mask."""
        edges = self.first.keys, self.limit.keys, frozenset(self.limit.gates)
        return self.low, self.high, self.own_first, self.own_limit, edges


@dataclass(frozen=True)
class Member:
    """A load of a box, ``shifts`` positions from the first load of its group."""

    load: TileLoad
    shifts: tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """Elements that one or several loads ask for."""

    spans: tuple[Span, ...]
    members: tuple[Member, ...]


IsUnread = Callable[[Value, int, Edge, Edge], bool]
"""Whether the elements of a tensor before one edge along a dimension, and from the other one on, matter to nobody."""


def boxes(loads: Sequence[TileLoad], forms: ScalarForms, is_unread: IsUnread, lowest: int) -> list[Box]:
    """The boxes that loads of equal shape make up along the dimensions from ``lowest`` down to 0."""
    first = loads[0]
    _, origin = forms.place(first.base)
    strides = [forms.of(stride) for stride in first.geometry.strides]
    found: list[Box] = []
    for load in loads:
        _, place = forms.place(load.base)
        shifts = multiples(plus(place, origin, -1), strides)
        if shifts is not None:
            spans = tuple(_span(load, d, shift, forms) for d, shift in enumerate(shifts))
            found.append(Box(spans, (Member(load, tuple(shifts)),)))
    for d in range(lowest, -1, -1):
        found = [merged for row in _rows(found, d) for merged in _merged(row, d, forms, is_unread)]
    return found


def _span(load: TileLoad, dimension: int, shift: int, forms: ScalarForms) -> Span:
    extent = shape_of(load.result.type)[dimension]
    first, limit = edges_of(load, dimension, forms)
    return Span(shift, shift + extent, extent, first.moved(shift), limit.moved(shift))


def _rows(found: Iterable[Box], d: int) -> list[list[Box]]:
    """Boxes that differ along one dimension alone."""
    rows: dict[object, list[Box]] = {}
    for box in found:
        others = tuple(span.identity for k, span in enumerate(box.spans) if k != d)
        rows.setdefault(others, []).append(box)
    return list(rows.values())


def _merged(row: list[Box], d: int, forms: ScalarForms, is_unread: IsUnread) -> list[Box]:
    """Boxes of a row, neighbours as one where that has no other elements."""
    done: list[Box] = []
    for box in sorted(row, key=lambda box: (box.spans[d].low, box.spans[d].high)):
        if done and (span := _union(done[-1], box, d, forms, is_unread)) is not None:
            before = done.pop()
            done.append(Box((*before.spans[:d], span, *before.spans[d + 1 :]), (*before.members, *box.members)))
        else:
            done.append(box)
    return done


def _union(before: Box, box: Box, d: int, forms: ScalarForms, is_unread: IsUnread) -> Span | None:
    a, b = before.spans[d], box.spans[d]
    if b.low > a.high or set(a.limit.gates) != set(b.limit.gates):
        return None
    joined = replace(a, high=max(a.high, b.high))
    first = None if a.own_first else _common_first(a, b, forms)
    same_limit = not a.own_limit and a.limit.keys == b.limit.keys
    if first is not None and same_limit:
        return replace(joined, first=first)
    ours, theirs = _own(a), _own(b)
    if ours is None or theirs is None or ours[1].keys != theirs[1].keys:
        return None
    limit, members = ours[1], (*before.members, *box.members)
    if first is not None and first.parts and not same_limit:
        # The mask begins in one place of the array: loads that begin right behind each other leave no gap there.
        is_whole, begin = b.low - (a.high - a.reach) <= 1, Edge()
    else:
        first = begin = ours[0]
        is_own = a.own_first or not (a.own_limit and begin.parts)
        is_whole = is_own and begin.keys == theirs[0].keys and not (same_limit and limit.parts)
    if not is_whole or not all(is_unread(each.load.result, d, begin, limit) for each in members):
        return None
    return replace(joined, first=first, limit=limit, own_first=begin is first, own_limit=True)


def _common_first(a: Span, b: Span, forms: ScalarForms) -> Edge | None:
    """Where the masks of two spans begin in the array; what does not bound one must lie before it."""
    parts = {part.key: part for part in (*a.first.parts, *b.first.parts)}
    for span in (a, b):
        for key in parts.keys() - span.first.keys:
            if not forms.is_never_negative(plus(constant(span.low), parts[key].form, -1)):
                return None
    return Edge(tuple(parts.values()))


def _own(span: Span) -> tuple[Edge, Edge] | None:
    """The edges of a span in the positions of each of its loads, if those of all are the same."""
    if span.own_limit:
        return span.first, span.limit
    if span.extent != span.reach:
        return None
    return span.first.moved(-span.low), span.limit.moved(-span.low)
