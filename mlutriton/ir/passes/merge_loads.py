"""Loads that overlap become one load of all that they ask for, of which each takes its part.

A stencil or a convolution loads an array once for each of its taps, at constant distances. What is loaded once crosses
the memory's ports once, in one descriptor. Parts at another row lie in place. For those at another column all that is
computed from them gets rows as long as those of what is loaded: a part then begins so many elements later, and goes on
as the loaded rows do. What stands behind the old end of a row is never stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.ir.analysis.aliasing import may_write
from mlutriton.ir.analysis.edges import Edge
from mlutriton.ir.analysis.families import Family, family_of
from mlutriton.ir.analysis.overlaps import Box, Span, boxes
from mlutriton.ir.analysis.scalar_forms import ScalarForms
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.analysis.uses import Uses
from mlutriton.ir.core import Block, Function, Value, replace_uses
from mlutriton.ir.ops import AddPtr, Constant, Reshape, TileLoad, Window
from mlutriton.ir.passes.insertion import put
from mlutriton.ir.passes.longer_rows import lengthen
from mlutriton.ir.types import TensorType, element_type, shape_of, storage_bytes

# Of what loads ask for together, so much may be loaded for one load to be worth its longer rows; and so long rows may
# get by it.
MOST_LOADED, MOST_LENGTHENED = 0.75, 1.25
# Parts of a load lie too far apart for an instruction to work on those of several programs: short ones are better off
# as tiles of their own.
LEAST_PART_BYTES = 4096


def run(function: Function) -> bool:
    """Make one load of those that overlap; returns whether there are any."""
    return _Merger(function).run()


@dataclass
class _Merge:
    """A box to be loaded at once.

    Attributes:
        block: where its loads are.
        box: they, and what they ask for.
        family: what gets longer rows with them; None if nothing does.
        shape: of their parts.
    """

    block: Block
    box: Box
    family: Family | None
    shape: tuple[int, ...] = field(default=())


class _Merger:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.forms = ScalarForms()
        self.uses = Uses(function)

    def run(self) -> bool:
        merges = [
            merge
            for block in _blocks(self.function)
            for group in _groups(block, self.forms)
            for merge in self._merges(block, group)
        ]
        families = _families(merges, self.uses)
        for merge in merges:
            merge.shape = self._shape(merge, merges)
        for family in families:
            shape = next(merge.shape for merge in merges if merge.family is family)
            lengthen(self.function, family, shape)
        for merge in merges:
            _load_at_once(merge)
        return bool(merges)

    def _merges(self, block: Block, group: Sequence[TileLoad]) -> list[_Merge]:
        """The boxes of a group that are worth a load of their own."""
        type = group[0].result.type
        inner = len(shape_of(type)) - 1
        if storage_bytes(type) < LEAST_PART_BYTES:
            return []
        for lowest in dict.fromkeys((inner, 0)):
            found = boxes(group, self.forms, self._is_unread, lowest)
            merges: list[_Merge] = []
            for box in found:
                if len(box.members) > 1 and _loaded(box) <= MOST_LOADED * _asked(box):
                    longer = math.prod(span.extent / span.reach for span in box.spans[1:])
                    family = family_of((each.load.result for each in box.members), self.uses) if longer > 1 else None
                    if longer > MOST_LENGTHENED or (longer > 1 and family is None):
                        break
                    merges.append(_Merge(block, box, family))
            else:
                return merges
        return []

    def _is_unread(self, value: Value, dimension: int, first: Edge, limit: Edge) -> bool:
        return self.uses.is_unread_outside(value, dimension, first, limit, self.forms)

    @staticmethod
    def _shape(merge: _Merge, merges: Sequence[_Merge]) -> tuple[int, ...]:
        """The shape of the parts of a box: rows are as long as those of all boxes that they are computed with."""
        rows = merge.box.spans[0].reach
        if merge.family is None:
            return (rows, *(span.extent for span in merge.box.spans[1:]))
        related = [each for each in merges if each.family is merge.family]
        return (rows, *(max(each.box.spans[d].extent for each in related) for d in range(1, len(merge.box.spans))))


def _families(merges: list[_Merge], uses: Uses) -> list[Family]:
    """All that gets longer rows, apart from each other; each box gets the family of its parts.

    Boxes are dropped that have parts that get them beside parts that cannot.
    """
    families: list[Family] = []
    pending = [merge for merge in merges if merge.family is not None]
    while pending:
        for merge in pending:
            assert merge.family is not None
            met = [each for each in families if not each.values.isdisjoint(merge.family.values)]
            families = [each for each in families if each not in met]
            families.append(
                Family(
                    merge.family.values.union(*(each.values for each in met)),
                    merge.family.repeated.union(*(each.repeated for each in met)),
                )
            )
        longer = set[Value]().union(*(each.values for each in families))
        pending = list[_Merge]()
        for merge in [each for each in merges if each.family is None]:
            parts = [each.load.result for each in merge.box.members]
            if not longer.isdisjoint(parts):
                merge.family = family_of(parts, uses)
                if merge.family is None:
                    merges.remove(merge)
                else:
                    pending.append(merge)
    for merge in merges:
        part = merge.box.members[0].load.result
        merge.family = next((each for each in families if part in each.values), None)
    return families


def _blocks(function: Function) -> list[Block]:
    return [function.body, *(region for each in function.walk() for region in each.regions)]


def _groups(block: Block, forms: ScalarForms) -> list[list[TileLoad]]:
    """Loads of a block that may overlap: of one array, alike but for where they begin, with no write between them."""
    groups: dict[object, list[TileLoad]] = {}
    written = 0
    for operation in block.operations:
        written += may_write(operation)
        if isinstance(operation, TileLoad) and not any(operation.geometry.wraps) and not operation.is_volatile:
            pointer, place = forms.place(operation.base)
            strides = tuple(frozenset(forms.of(stride).items()) for stride in operation.geometry.strides)
            steps = {factors for stride in strides for factors, _ in stride}
            apart = frozenset((factors, count) for factors, count in place.items() if factors and factors not in steps)
            other = operation.other.defining_op
            fill = repr(other.value) if isinstance(other, Constant) else operation.other
            key = (written, pointer, apart, strides, fill, operation.result.type)
            groups.setdefault(key, []).append(operation)
    return [group for group in groups.values() if len(group) > 1]


def _loaded(box: Box) -> int:
    return math.prod(span.extent for span in box.spans)


def _asked(box: Box) -> int:
    return len(box.members) * math.prod(span.reach for span in box.spans)


def _load_at_once(merge: _Merge) -> None:
    """Replace the loads of a box by one of them all, where the first of them is."""
    block, box = merge.block, merge.box
    places = {operation: place for place, operation in enumerate(block.operations)}
    earliest = min(box.members, key=lambda member: places[member.load])
    code = Scalars(earliest.load.location)
    pitches = [math.prod(merge.shape[d + 1 :]) for d in range(len(merge.shape))]
    begins = {
        member.load: sum(
            (shift - span.low) * pitch for shift, span, pitch in zip(member.shifts, box.spans, pitches, strict=True)
        )
        for member in box.members
    }
    part = math.prod(merge.shape)
    rows = -(-(max(begins.values()) + part) // pitches[0])
    whole = _whole(earliest.load, earliest.shifts, box.spans, (max(rows, box.spans[0].extent), *merge.shape[1:]), code)
    element = element_type(whole.type)
    count = math.prod(shape_of(whole.type))
    line = code.add(Reshape([whole], result_types=[TensorType((count,), element)]))
    replaced: dict[Value, Value] = {}
    for load, first in begins.items():
        taken = code.add(Window([line], {"axis": 0, "first": first, "count": part}))
        shaped = code.add(Reshape([taken], result_types=[TensorType(merge.shape, element)]))
        shaped.name = load.result.name
        replaced[load.result] = shaped
    replace_uses(block, replaced)
    put(block, earliest.load, code.operations, set(begins))


def _whole(
    load: TileLoad, shifts: tuple[int, ...], spans: Sequence[Span], shape: tuple[int, ...], code: Scalars
) -> Value:
    """The load of a box, whose base and strides are those of one of its loads."""
    geometry = load.geometry
    steps = [
        code.binary("mul", stride, span.low - shift)
        for stride, span, shift in zip(geometry.strides, spans, shifts, strict=True)
    ]
    base = code.add(AddPtr([load.base, code.value(code.sum(steps))]))
    firsts = [code.value(_first(span, code)) for span in spans]
    limits = [code.value(_limit(span, code)) for span in spans]
    operands = [base, load.other, *geometry.strides, *firsts, *limits]
    type = TensorType(shape, element_type(load.result.type))
    return code.add(TileLoad(operands, {"wraps": (0,) * len(spans)}, result_types=[type]))


def _first(span: Span, code: Scalars) -> Scalar:
    origin = 0 if span.own_first else span.low
    return code.maximum([0, *_positions(span.first, origin, code)])


def _limit(span: Span, code: Scalars) -> Scalar:
    gates = [code.binary("mul", code.minimum([1, gate]), span.extent) for gate in span.limit.gates]
    if not span.own_limit:
        return code.minimum([span.extent, *_positions(span.limit, span.low, code), *gates])
    # Counted in one load: the box goes on by what its last load begins later, if there is anything at all.
    limit = code.minimum([span.reach, *_positions(span.limit, 0, code)])
    end = code.binary("add", limit, span.extent - span.reach)
    left = code.binary("sub", limit, _first(span, code)) if span.own_first else limit
    some = code.binary("mul", code.maximum([0, left]), span.extent)
    return code.minimum([span.extent, end, some, *gates])


def _positions(edge: Edge, origin: int, code: Scalars) -> list[Scalar]:
    return [code.binary("add", code.value(part.value), part.shift - origin) for part in edge.parts]
