"""Fusion groups: what is computed in one nest of strip loops, and the code of that nest.

All members of a group go over tensors of one shape. The loops of a nest run over the dimensions that are split, the one
along which members combine elements innermost, where it carries what they have combined so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlutriton.immutables import replace
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import (
    Assert,
    Broadcast,
    Constant,
    Elementwise,
    ExpandDims,
    GatherAtomic,
    Histogram,
    Reduce,
    Scan,
    ScatterStore,
    Splat,
    TileStore,
    Yield,
)
from mlutriton.ir.passes.strip_mine.boxes import Box, extents, strip_shape, strips, whole
from mlutriton.ir.passes.strip_mine.slices import Slicer
from mlutriton.ir.types import (
    TensorType,
    Type,
    element_type,
    shape_of,
    storage_dtype,
    with_shape,
)

# Loops of one nest, apart from that over the axis; more dimensions share one loop.
MAXIMUM_LOOPS = 2


@dataclass(frozen=True)
class Effect:
    """A store, atomic or assertion, box by box."""

    operation: TileStore | ScatterStore | GatherAtomic | Assert


@dataclass(frozen=True)
class Keep:
    """A value that is put into local memory; it begins ``first`` elements behind the pointer."""

    value: Value
    pointer: Value
    first: int = 0


@dataclass(frozen=True)
class Fold:
    """A reduction or histogram, combined strip by strip."""

    operation: Reduce | Histogram


@dataclass(frozen=True)
class Running:
    """A scan, whose last slice goes on to the next strip."""

    operation: Scan


Member = Effect | Keep | Fold | Running


@dataclass
class Group:
    """Members that go over tensors of one shape together.

    Attributes:
        shape: of the tensors.
        axis: the dimension along which a member combines; None if none does.
        backward: strips follow each other from the end of the axis.
        members: in program order.
        folded: results of the source that are known only when all strips are done.
        kept: pointers to values that members put into local memory; later members find each strip when they come to it.
        reads: loads of the members that are not repeated later.
        writes: stores and atomics of the members.
        width_bytes: of the widest elements that members work on, 4 at least.
        in_order: elements are written one after the other.
        square: products are among what is computed.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    backward: bool | None = None
    members: list[Member] = field(default_factory=list[Member])
    folded: set[Value] = field(default_factory=set[Value])
    kept: dict[Value, Value] = field(default_factory=dict[Value, Value])
    reads: list[Operation] = field(default_factory=list[Operation])
    writes: list[Operation] = field(default_factory=list[Operation])
    width_bytes: int = 4
    in_order: bool = False
    square: bool = False

    def admits(self, shape: tuple[int, ...], axis: int | None, backward: bool | None) -> bool:
        """True if a member of this form may join."""
        if shape != self.shape or (None not in (axis, self.axis) and axis != self.axis):
            return False
        return None in (backward, self.backward) or backward == self.backward

    def admitting(self, member: Member, axis: int | None, backward: bool | None, *, square: bool) -> Group:
        """The group in the form that a new member gives it; the member is not yet among the others."""
        return replace(
            self,
            axis=axis if self.axis is None else self.axis,
            backward=backward if self.backward is None else self.backward,
            width_bytes=max(self.width_bytes, *map(_width_bytes, _operands(member))),
            square=self.square or square,
        )

    def strip(self, strip_bytes: int) -> tuple[int, ...]:
        """Extents of the group's strips, of about so many bytes."""
        limit = max(1, strip_bytes // self.width_bytes)
        return strip_shape(self.shape, self.axis, limit, square=self.square and not self.in_order)


class Nest:
    """Writes the loops of a group; what reductions give is known to the slicer afterwards."""

    def __init__(self, slicer: Slicer, group: Group) -> None:
        self.slicer, self.code, self.group = slicer, slicer.code, group
        self.strip = group.strip(slicer.strip_bytes)
        self.folds = [member for member in group.members if isinstance(member, Fold | Running)]

    def write(self) -> None:
        """Write the nest into the current list."""
        split = [d for d, (all, part) in enumerate(zip(self.group.shape, self.strip, strict=True)) if part < all]
        outer = [d for d in split if d != self.group.axis]
        self._loops(outer, whole(self.group.shape), is_outermost=not outer)

    def _loops(self, dimensions: Sequence[int], box: Box, *, is_outermost: bool) -> None:
        if not dimensions:
            self._along_axis(box, is_outermost=is_outermost)
            return
        d, *rest = dimensions
        is_ragged = any(self.group.shape[each] % self.strip[each] for each in dimensions)
        if len(dimensions) > MAXIMUM_LOOPS and not is_ragged:
            trips = [self.group.shape[d] // self.strip[d] for d in dimensions]
            with self.code.loop(math.prod(trips), 1) as loop:
                for place, d in enumerate(dimensions):
                    count = self.code.binary("sdiv", loop.index, math.prod(trips[place + 1 :]))
                    start = self.code.binary("mul", self.code.binary("srem", count, trips[place]), self.strip[d])
                    box = _at(box, d, start, self.strip[d])
                self._loops([], box, is_outermost=is_outermost)
                self.code.finish()
            return
        for start, count in strips(self.group.shape[d], self.strip[d]):
            if start is not None:
                with self.code.apart():
                    self._loops(rest, _at(box, d, start, count), is_outermost=is_outermost)
                continue
            with self.code.loop(self.group.shape[d] // count * count, count) as loop:
                self._loops(rest, _at(box, d, loop.index, count), is_outermost=is_outermost)
                self.code.finish()

    def _along_axis(self, box: Box, *, is_outermost: bool) -> None:
        """The strips of a box one after the other, each of which goes on from what those before have combined."""
        axis = self.group.axis
        if axis is None or self.strip[axis] == self.group.shape[axis]:
            for fold, results in zip(self.folds, self._strip(box, None, []), strict=True):
                self._finish(fold, results, box, is_outermost=is_outermost)
            return
        types = [type for fold in self.folds for type in self._carried_types(fold, box)]
        initial = [self.code.add(Constant.of(0, type)) for type in types]
        step, extent = self.strip[axis], self.group.shape[axis]
        _, *short = strips(extent, step)
        with self.code.loop(extent // step * step, step, initial) as loop:
            zero = self.code.value(0)
            first = self.code.add(Elementwise.of("eq", loop.index, zero))
            start = self.code.binary("sub", extent - step, loop.index) if self.group.backward else loop.index
            results = self._strip(_at(box, axis, start, step), first, loop.carried)
            self.code.finish([value for values in results for value in values])
        combined = loop.results
        for end, count in short:
            last = _at(box, axis, 0 if self.group.backward else end or 0, count)
            with self.code.apart():
                combined = [value for values in self._strip(last, None, combined) for value in values]
        done = iter(combined)
        for fold in self.folds:
            results = [next(done) for _ in self._carried_types(fold, box)]
            self._finish(fold, results, box, is_outermost=is_outermost)

    def _finish(self, fold: Fold | Running, results: Sequence[Value], box: Box, *, is_outermost: bool) -> None:
        """Hand on what a reduction gives for the box of its other dimensions."""
        if isinstance(fold, Running):
            return
        axis = fold.operation.axis if isinstance(fold.operation, Reduce) else 0
        rest = (*box[:axis], *box[axis + 1 :])
        for result, value in zip(fold.operation.results, results, strict=True):
            value.name = value.name or result.name
            shape = shape_of(result.type)
            if is_outermost or not shape:
                self.slicer.values[result] = value
                continue
            if result not in self.slicer.stored:
                self.slicer.stored[result] = self.slicer.area(result.type)
            self.slicer.store(self.slicer.stored[result], shape, rest, value)

    # ---- one strip -------------------------------------------------------------------------------------------------

    def _strip(self, box: Box, first: Value | None, carried: Sequence[Value]) -> list[list[Value]]:
        """The members' code for a box; for each that combines, what it hands on.

        Args:
            box: of the group's tensors.
            first: whether nothing is carried yet; None if that is known from whether there are carried values.
            carried: what the strips before handed on.
        """
        self.slicer.done.clear()
        handed: list[list[Value]] = []
        rest = iter(carried)
        for member in self.group.members:
            match member:
                case Effect(operation=operation):
                    with self.code.at(operation.location):
                        self._effect(operation, box)
                case Keep(value=value, pointer=pointer, first=place):
                    strip = self.slicer.box(value, box)
                    target = self.slicer.shifted(pointer, place)
                    self.slicer.store(target, self.group.shape, box, strip)
                    if value in self.group.kept:  # else it is only handed on: other boxes may be computed still
                        self.slicer.done.add(value)
                case Fold() | Running():
                    types = self._carried_types(member, box)
                    before = [next(rest) for _ in types] if carried else []
                    with self.code.at(member.operation.location):
                        handed.append(self._handed_on(member, box, first, before))
        return handed

    def _handed_on(self, member: Fold | Running, box: Box, first: Value | None, before: Sequence[Value]) -> list[Value]:
        if isinstance(member, Running):
            return self._scan(member.operation, box, first, before)
        return self._fold(member.operation, box, first, before)

    def _effect(self, operation: Operation, box: Box) -> None:
        slicer, code, values = self.slicer, self.code, self.slicer.values
        match operation:
            case TileStore():
                offset, geometry = slicer.geometry(operation.geometry, box)
                operands = [slicer.shifted(values[operation.base], offset), slicer.box(operation.value, box), *geometry]
                code.effect(TileStore(operands, operation.attributes))
            case ScatterStore():
                base, offsets, value, mask, limit = operation.operands
                inner, pointer, limit, length = slicer.items(operation, limit, box)
                kept = slicer.box(value, box)
                wanted = (*extents(inner), length) if length > 1 else extents(inner)
                assert shape_of(kept.type) == wanted, base
                operands = [pointer, slicer.box(offsets, inner), kept, slicer.box(mask, inner), limit]
                attributes = {"scale_bytes": operation.integer("scale_bytes"), "length": length}
                code.effect(ScatterStore(operands, attributes))
            case GatherAtomic():
                _, offsets, mask, limit, *each = operation.operands
                inner, pointer, limit, length = slicer.items(operation, limit, box)
                operands = [pointer, *slicer.boxes([offsets, mask], inner), limit, *slicer.boxes(each, box)]
                made = code.effect(GatherAtomic(operands, {**operation.attributes, "length": length}))
                if operation.result in self.group.kept:
                    self._keep(operation.result, box, made.result)
            case _:
                code.effect(operation.__class__(slicer.boxes(operation.operands, box), operation.attributes))

    def _keep(self, source: Value, box: Box, strip: Value) -> None:
        """Put a box of a result into local memory, and let members after this one find it."""
        self.code.boxes[-1][source, box] = strip
        self.slicer.done.add(source)
        self.slicer.store(self.group.kept[source], self.group.shape, box, strip)

    def _carried_types(self, member: Fold | Running, box: Box) -> list[Type]:
        """Types of what a member carries from strip to strip of a box."""
        operation = member.operation
        if isinstance(operation, Histogram):
            return [operation.result.type]
        axis = operation.axis
        rest = extents((*box[:axis], *box[axis + 1 :]))
        return [with_shape(rest, element_type(operand.type)) for operand in operation.operands]

    def _fold(
        self, operation: Reduce | Histogram, box: Box, first: Value | None, before: Sequence[Value]
    ) -> list[Value]:
        operands = self.slicer.boxes(operation.operands, box)
        if isinstance(operation, Histogram):
            counts = self.code.add(Histogram(operands, result_types=[operation.result.type]))
            return [self.code.add(Elementwise.of("add", before[0], counts)) if before else counts]
        regions = [copy_block(operation.region, {})]
        reduced = self.code.effect(Reduce(operands, operation.attributes, regions=regions)).results
        if not before:
            return list(reduced)
        combined = self._combine(operation.region, [*before, *reduced])
        return self._either(first, reduced, combined)

    def _scan(self, operation: Scan, box: Box, first: Value | None, before: Sequence[Value]) -> list[Value]:
        operands = self.slicer.boxes(operation.operands, box)
        regions = [copy_block(operation.region, {})]
        results = self.code.effect(Scan(operands, operation.attributes, regions=regions)).results
        if before:
            spread = [self._spread(value, operation.axis, box) for value in before]
            results = self._either(first, results, self._combine(operation.region, [*spread, *results]))
        for source, strip in zip(operation.results, results, strict=True):
            self._keep(source, box, strip)
        return [self._last(strip, operation) for strip in results] if before else list(results)

    def _spread(self, value: Value, axis: int, box: Box) -> Value:
        shape, element = extents(box), element_type(value.type)
        if not shape_of(value.type):
            return self.code.add(Splat([value], result_types=[TensorType(shape, element)]))
        row = self.code.add(ExpandDims([value], {"axis": axis}))
        return self.code.add(Broadcast([row], result_types=[TensorType(shape, element)]))

    def _last(self, strip: Value, scan: Scan) -> Value:
        """The slice of a scan's strip that holds everything so far: a reduction that keeps one side."""
        element = element_type(strip.type)
        region = Block([element, element])
        kept = region.arguments[0 if scan.attributes["reverse"] else 1]
        region.operations.append(Yield([kept]))
        return self.code.add(Reduce([strip], {"axis": scan.axis}, regions=[region]))

    def _combine(self, region: Block, arguments: Sequence[Value]) -> list[Value]:
        """The combine function on whole tensors."""
        values = dict(zip(region.arguments, arguments, strict=True))
        shape = shape_of(arguments[0].type)
        for operation in region.operations[:-1]:
            if isinstance(operation, Constant):
                type = with_shape(shape, element_type(operation.result.type))
                values[operation.result] = self.code.add(Constant.of(operation.value, type))
            else:
                operands = [values[operand] for operand in operation.operands]
                values[operation.result] = self.code.add(Elementwise(operands, operation.attributes))
        return [values[operand] for operand in region.terminator.operands]

    def _either(self, first: Value | None, own: Sequence[Value], combined: Sequence[Value]) -> list[Value]:
        """A strip's own values if it is the first, else those combined with the strips before."""
        if first is None:
            return list(combined)
        chosen: list[Value] = []
        for alone, both in zip(own, combined, strict=True):
            shape, condition = shape_of(alone.type), first
            if shape:
                condition = self.code.add(Splat([first], result_types=[TensorType(shape, element_type(first.type))]))
            chosen.append(self.code.add(Elementwise.of("select", condition, alone, both)))
        return chosen


def _at(box: Box, dimension: int, start: Value | int, extent: int) -> Box:
    return (*box[:dimension], (start, extent), *box[dimension + 1 :])


def _operands(member: Member) -> Sequence[Value]:
    return [member.value] if isinstance(member, Keep) else member.operation.operands


def _width_bytes(value: Value) -> int:
    return storage_dtype(element_type(value.type)).bytes if shape_of(value.type) else 0
