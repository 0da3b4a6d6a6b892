"""Boxes of tensors computed on demand: for every op, a box of its result from boxes of its operands.

The *source* function is read, new code is written to the current list of operations. A box that stands in a list, or in
one around it, is not computed again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlutriton.dtypes import F32, F64, I1, I32, I64, DType
from mlutriton.ir.analysis.scalars import Scalar
from mlutriton.ir.copying import copy_block, copy_operation
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    Assert,
    Broadcast,
    Constant,
    Dot,
    Elementwise,
    ExpandDims,
    For,
    Gather,
    GatherLoad,
    IntToPtr,
    Join,
    LocalMemory,
    LookUp,
    PtrCast,
    PtrToInt,
    Range,
    Reduce,
    Reshape,
    Splat,
    Split,
    TileGeometry,
    TileLoad,
    TileStore,
    Transpose,
    Window,
)
from mlutriton.ir.passes.strip_mine.boxes import Box, dense_strides, extents, halved, is_whole, whole
from mlutriton.ir.passes.strip_mine.reshapes import reshaped_box
from mlutriton.ir.passes.strip_mine.written_code import Code
from mlutriton.ir.types import (
    PointerType,
    TensorType,
    Type,
    element_type,
    shape_of,
    storage_dtype,
    with_element,
    with_shape,
)

# Strips that one box may hold of what is reduced, or picked from, as a whole on the way.
MAXIMUM_REDUCED_STRIPS = 2

POINTWISE = (Elementwise, AddPtr, PtrToInt, IntToPtr, PtrCast)
"""Ops whose result at a place depends on their operands at that place alone."""

REPEATED = (*POINTWISE, Constant, Range, Splat, ExpandDims, Broadcast, Transpose, Reshape)
"""Ops that are cheaper to do again for a box than to load the box."""


class NotByBoxesError(Exception):
    """A value cannot be computed box by box.

    Attributes:
        wanted: the value that would have to stand in local memory, if that would do.
    """

    def __init__(self, wanted: Value | None = None) -> None:
        self.wanted = wanted
        super().__init__()


@dataclass
class Carrying:
    """A loop being written that carries boxes of tensors.

    Attributes:
        loop: the loop of the source.
        body: the new loop's body.
        arguments: for each tensor that is carried its box and argument, by its place in the source.
    """

    loop: For
    body: Block
    arguments: dict[int, tuple[Box, Value]] = field(default_factory=dict[int, tuple[Box, Value]])

    def argument(self, value: Value, box: Box) -> Value:
        """A box of a carried tensor, which is the same wherever it is asked for."""
        place = value.index - 1
        if place not in self.arguments:
            type = with_shape(extents(box), element_type(value.type))
            argument = Value(type, self.body, len(self.body.arguments), value.name)
            self.body.arguments.append(argument)
            self.arguments[place] = box, argument
        known, argument = self.arguments[place]
        if known != box:
            raise NotByBoxesError
        return argument


@dataclass(frozen=True)
class Trial:
    """A strip of which the code is only tried.

    Attributes:
        strip: its box.
        kept: values of which the nest makes this box and no other.
        folded: values that exist when the nest is done.
    """

    strip: Box
    kept: Collection[Value]
    folded: Collection[Value]


@dataclass
class Slicer:
    """What stands where.

    Attributes:
        code: the code being written.
        values: of the source's values those that exist as a whole in the new code.
        stored: pointers to those that stand in local memory, row-major.
        strip_bytes: size of a box that fits well.
        areas: the areas of local memory in use.
        front: the list of operations in front of the strip loops being written.
        carrying: by the source's arguments, the loops being written that carry boxes.
        done: values of which the nest being written has made a strip; other boxes exist when it is done with all.
        trial: the strip that is tried.
    """

    code: Code
    strip_bytes: int
    areas: list[LocalMemory] = field(default_factory=list[LocalMemory])
    front: list[Operation] = field(default_factory=list[Operation])
    carrying: dict[Value, Carrying] = field(default_factory=dict[Value, "Carrying"])
    values: dict[Value, Value] = field(default_factory=dict[Value, Value])
    stored: dict[Value, Value] = field(default_factory=dict[Value, Value])
    done: set[Value] = field(default_factory=set[Value])
    trial: Trial | None = None

    def box(self, value: Value, box: Box) -> Value:
        """A box of a value of the source, of the box's extents."""
        if not shape_of(value.type):
            return self.scalar(value)
        key = (value, box)
        for known in reversed(self.code.boxes):
            if key in known:
                return known[key]
        with self.code.at(value.owner.location if isinstance(value.owner, Operation) else self.code.location):
            made = self._make(value, box)
        made.name = made.name or value.name
        self.code.boxes[-1][key] = made
        return made

    def scalar(self, value: Value) -> Value:
        """A scalar of the source.

        Raises:
            NotByBoxesError: the open nest gives it at its end.
        """
        if value not in self.values:
            raise NotByBoxesError
        return self.values[value]

    def boxes(self, values: Sequence[Value], box: Box) -> list[Value]:
        """The same box of several values."""
        return [self.box(value, box) for value in values]

    def whole(self, value: Value) -> Value:
        """All of a value."""
        return self.box(value, whole(shape_of(value.type)))

    def _make(self, value: Value, box: Box) -> Value:
        if value in self.stored:
            return self.load(self.stored[value], value, box)
        if value in self.values and is_whole(box, shape_of(value.type)):
            return self.values[value]
        if self._is_open(value):
            if self.trial is None or box != self.trial.strip or value in self.trial.folded:
                raise NotByBoxesError
            return Value(with_shape(extents(box), element_type(value.type)), Block(), 0)
        operation = value.defining_op
        if operation is None and value in self.carrying:
            return self.carrying[value].argument(value, box)
        if value in self.values and not isinstance(operation, REPEATED):
            self._park(value)
            return self.load(self.stored[value], value, box)
        type = TensorType(extents(box), element_type(value.type))
        add = self.code.add
        match operation:
            case Elementwise() | AddPtr() | PtrToInt():
                return add(operation.__class__(self.boxes(operation.operands, box), operation.attributes))
            case IntToPtr() | PtrCast():
                return add(operation.__class__(self.boxes(operation.operands, box), result_types=[type]))
            case Constant():
                return add(Constant.of(operation.value, type))
            case Range():
                return self._range(operation, box)
            case Splat():
                return add(Splat([self.scalar(operation.operands[0])], result_types=[type]))
            case ExpandDims():
                axis = operation.integer("axis")
                source = self.box(operation.operands[0], (*box[:axis], *box[axis + 1 :]))
                return add(ExpandDims([source], {"axis": axis}))
            case Broadcast():
                shape = shape_of(operation.operands[0].type)
                inner = tuple((0, 1) if extent == 1 else part for extent, part in zip(shape, box, strict=True))
                return add(Broadcast([self.box(operation.operands[0], inner)], result_types=[type]))
            case Transpose():
                places = [operation.order.index(d) for d in range(len(box))]
                source = self.box(operation.operands[0], tuple(box[place] for place in places))
                return add(Transpose([source], {"order": operation.order}))
            case Reshape():
                return self._viewed(operation.operands[0], shape_of(value.type), box)
            case Join():
                return self._join(operation, box)
            case Split():
                return self._split(operation, value, box)
            case TileLoad():
                return self._tile_load(operation, box)
            case GatherLoad():
                return self._gather_load(operation, box)
            case LookUp(operands=[table, base, *items, count]):
                chosen = self.boxes(items, box)
                return add(LookUp([self.whole(table), self.scalar(base), *chosen, self.scalar(count)]))
            case Window():
                axis, first = operation.integer("axis"), operation.integer("first")
                start, extent = box[axis]
                shifted = (self.code.binary("add", start, first), extent)
                return self.box(operation.operands[0], (*box[:axis], shifted, *box[axis + 1 :]))
            case Gather():
                return self._gather(operation, box)
            case Dot():
                return self._dot(operation, box)
            case Reduce():
                return self._reduce(operation, value, box)
            case For():
                return self._loop(operation, value, box)
            case _:
                raise NotByBoxesError

    def _range(self, operation: Range, box: Box) -> Value:
        ((start, extent),) = box
        first = operation.integer("start")
        if isinstance(start, int):
            return self.code.add(Range((), {"start": first + start, "end": first + start + extent}))
        places = self.code.add(Range((), {"start": first, "end": first + extent}))
        shift = self.code.add(Elementwise.of("trunc_int", start, to=I32))
        shifts = self.code.add(Splat([shift], result_types=[places.type]))
        return self.code.add(Elementwise.of("add", places, shifts))

    def _viewed(self, value: Value, shape: tuple[int, ...], box: Box) -> Value:
        """A box of a value as if it had another shape.

        Raises:
            NotByBoxesError: its elements are no box of the value, nor of what it is made from element for element.
        """
        type = TensorType(extents(box), element_type(value.type))
        inner = reshaped_box(self.code, shape_of(value.type), shape, box)
        if inner is not None:
            return self.code.add(Reshape([self.box(value, inner)], result_types=[type]))
        if value in self.stored:
            return self.load(self.stored[value], value, box, shape)
        if self._is_open(value):
            raise NotByBoxesError
        if value in self.values and not isinstance(value.defining_op, REPEATED):
            self._park(value)
            return self.load(self.stored[value], value, box, shape)
        match operation := value.defining_op:
            case Elementwise():
                operands = [self._viewed(operand, shape, box) for operand in operation.operands]
                return self.code.add(Elementwise(operands, operation.attributes))
            case Reshape():
                return self._viewed(operation.operands[0], shape, box)
            case Constant():
                return self.code.add(Constant.of(operation.value, type))
            case Splat():
                return self.code.add(Splat([self.scalar(operation.operands[0])], result_types=[type]))
            case _:
                raise NotByBoxesError(value)

    def _is_open(self, value: Value) -> bool:
        """True for what the nest being written, or tried, makes strip by strip."""
        trial = self.trial
        return value in self.done or (trial is not None and (value in trial.kept or value in trial.folded))

    def _join(self, operation: Join, box: Box) -> Value:
        """Both parts, or the one that is wanted."""
        *rest, (part, count) = box
        code, inner = self.code, tuple(rest)
        if count == len(operation.operands):
            return code.add(Join(self.boxes(operation.operands, inner)))
        if isinstance(part, int):
            chosen = self.box(operation.operands[part], inner)
        else:
            first, second = self.boxes(operation.operands, inner)
            is_first = code.add(Elementwise.of("eq", part, code.value(0)))
            is_first = code.add(Splat([is_first], result_types=[TensorType(extents(inner), I1)]))
            chosen = code.add(Elementwise.of("select", is_first, first, second))
        return code.add(ExpandDims([chosen], {"axis": len(inner)}))

    def _split(self, operation: Split, value: Value, box: Box) -> Value:
        halves = self.code.effect(Split([self.box(operation.operands[0], (*box, (0, 2)))]))
        for result, half in zip(operation.results, halves.results, strict=True):
            self.code.boxes[-1][result, box] = half
        return halves.results[value.index]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def area(self, type: Type) -> Value:
        """A pointer to a new area of local memory for a tensor; where it lies is decided in the end."""
        dtype = storage_dtype(element_type(type))
        count = math.prod(shape_of(type))
        area = LocalMemory.of(0, count * dtype.bytes, dtype)
        area.location = self.code.location
        self.areas.append(area)
        return area.result

    def place_type(self, type: Type) -> PointerType:
        """The type of pointers to tensors of a type in local memory."""
        return PointerType(storage_dtype(element_type(type)))

    def _park(self, value: Value) -> None:
        """Put a value of which a box is wanted into local memory, in front of the strip loops."""
        shape = shape_of(value.type)
        pointer = self.area(value.type)
        inside, self.code.operations = self.code.operations, self.front
        self.store(pointer, shape, whole(shape), self.values[value])
        self.code.operations = inside
        self.stored[value] = pointer

    def geometry(self, geometry: TileGeometry, box: Box) -> tuple[Scalar, list[Value]]:
        """How far a box of a tile begins behind the tile in elements, and its geometry."""
        code, offset = self.code, 0
        firsts: list[Value] = []
        limits: list[Value] = []
        wraps: list[tuple[Value, Value] | None] = []
        strides = [self.values[stride] for stride in geometry.strides]
        for d, (start, extent) in enumerate(box):
            limit, wrap = code.constant(self.values[geometry.limits[d]]), geometry.wraps[d]
            inside = isinstance(limit, int) and limit >= geometry.shape[d]
            limits.append(code.value(extent if inside else code.binary("sub", limit, start)))
            first_valid = code.constant(self.values[geometry.firsts[d]])
            is_free = isinstance(first_valid, int) and first_valid <= 0
            firsts.append(code.value(0 if is_free else code.binary("sub", first_valid, start)))
            if wrap is None:
                step = code.binary("mul", start, code.constant(strides[d]))
                offset = code.binary("add", offset, step)
                wraps.append(None)
                continue
            first, modulo = (self.values[each] for each in wrap)
            if start != 0:
                first = code.value(code.binary("srem", code.binary("add", code.constant(first), start), modulo))
            wraps.append((first, modulo))
        return offset, TileGeometry(extents(box), strides, firsts, limits, wraps).operands()

    def shifted(self, pointer: Value, offset: Scalar) -> Value:
        """A pointer some elements further on."""
        return pointer if offset == 0 else self.code.add(AddPtr([pointer, self.code.value(offset)]))

    def _tile_load(self, operation: TileLoad, box: Box) -> Value:
        offset, geometry = self.geometry(operation.geometry, box)
        base = self.shifted(self.values[operation.base], offset)
        type = with_shape(extents(box), element_type(operation.result.type))
        operands = [base, self.values[operation.other], *geometry]
        return self.code.add(TileLoad(operands, operation.attributes, result_types=[type]))

    def items(self, operation: Operation, limit: Value, box: Box) -> tuple[Box, Value, Value, int]:
        """For a box of elements of gathers, scatters, atomics: box of the offsets, base, limit and length of items."""
        base, limit = self.values[operation.operands[0]], self.values[limit]
        length = operation.integer("length")
        if length == 1:
            return box, base, limit, 1
        first, kept = box[-1]
        rest = self.code.binary("sub", self.code.constant(limit), first)
        return box[:-1], self.shifted(base, first), self.code.value(rest), kept

    def _gather_load(self, operation: GatherLoad, box: Box) -> Value:
        inner, base, limit, length = self.items(operation, operation.operands[4], box)
        operands = [base, *self.boxes(operation.operands[1:4], inner), limit]
        made = self.code.add(GatherLoad(operands, {**operation.attributes, "length": length}))
        wanted = TensorType(extents(box), element_type(operation.result.type))
        return made if made.type == wanted else self.code.add(Reshape([made], result_types=[wanted]))

    def load(self, pointer: Value, value: Value, box: Box, shape: tuple[int, ...] | None = None) -> Value:
        """A box of a value that stands in local memory, in its own shape or another."""
        element, shape = element_type(value.type), shape or shape_of(value.type)
        dtype = storage_dtype(element)
        fill = self.code.add(Constant.of(0, dtype))
        base, geometry, shape = self._dense(pointer, shape, box)
        flags = {"wraps": (0,) * len(shape)}
        loaded = self.code.add(TileLoad([base, fill, *geometry], flags, result_types=[TensorType(shape, dtype)]))
        type = TensorType(extents(box), dtype)
        if type != loaded.type:
            loaded = self.code.add(Reshape([loaded], result_types=[type]))
        if not isinstance(element, PointerType):
            return loaded
        return self.code.add(IntToPtr([loaded], result_types=[with_element(type, element)]))

    def store(self, pointer: Value, shape: Sequence[int], box: Box, value: Value) -> None:
        """Put a box of a tensor of that shape into local memory."""
        if isinstance(element_type(value.type), PointerType):
            value = self.code.add(PtrToInt([value]))
        base, geometry, shape = self._dense(pointer, shape, box)
        type = TensorType(shape, element_type(value.type))
        if type != value.type:
            value = self.code.add(Reshape([value], result_types=[type]))
        self.code.effect(TileStore([base, value, *geometry], {"wraps": (0,) * len(shape)}))

    def _dense(self, pointer: Value, shape: Sequence[int], box: Box) -> tuple[Value, list[Value], tuple[int, ...]]:
        """Where a box of a dense tensor begins; its geometry and shape, in as few dimensions as it takes."""
        strides = dense_strides(shape)
        steps = [self.code.binary("mul", start, stride) for (start, _), stride in zip(box, strides, strict=True)]
        merged: list[tuple[int, int]] = []
        for extent, stride in zip(extents(box), strides, strict=True):
            if merged and (merged[-1][0] == 1 or merged[-1][1] == extent * stride):
                merged[-1] = merged[-1][0] * extent, stride
            elif extent > 1 or not merged:
                merged.append((extent, stride))
        numbers = [*(stride for _, stride in merged), *(0 for _ in merged), *(extent for extent, _ in merged)]
        operands = [self.code.value(number) for number in numbers]
        return self.shifted(pointer, self.code.sum(steps)), operands, tuple(extent for extent, _ in merged)

    # ---- gathers and products --------------------------------------------------------------------------------------

    def _gather(self, operation: Gather, box: Box) -> Value:
        """Indices pick from local memory, where the whole source stands."""
        code, axis = self.code, operation.integer("axis")
        source, index = operation.operands
        shape = shape_of(source.type)
        places = self.box(index, box)
        if source not in self.stored:
            column = tuple((0, shape[d]) if d == axis else part for d, part in enumerate(box))
            column_bytes = math.prod(extents(column)) * storage_dtype(element_type(source.type)).bytes
            if column_bytes > MAXIMUM_REDUCED_STRIPS * self.strip_bytes:
                raise NotByBoxesError(source)
            return code.add(Gather([self.box(source, column), places], {"axis": axis}))
        type = with_element(places.type, I64)
        if element_type(places.type) != I64:
            places = code.add(Elementwise.of("sext", places, to=I64))
        self._check_indices(places, shape[axis])
        offsets = places
        for d, stride in enumerate(dense_strides(shape)):
            if d == axis:
                term = offsets if stride == 1 else code.add(Elementwise.of("mul", offsets, self._all(stride, type)))
                offsets = term
        for d, stride in enumerate(dense_strides(shape)):
            if d == axis:
                continue
            start, extent = box[d]
            steps = code.add(Range((), {"start": 0, "end": extent}))
            steps = code.add(Elementwise.of("sext", steps, to=I64))
            along = tuple(extent if e == d else 1 for e in range(len(box)))
            steps = code.add(Reshape([steps], result_types=[TensorType(along, I64)]))
            steps = code.add(Broadcast([steps], result_types=[type]))
            steps = code.add(Elementwise.of("add", steps, self._all(start, type)))
            steps = code.add(Elementwise.of("mul", steps, self._all(stride, type)))
            offsets = code.add(Elementwise.of("add", offsets, steps))
        element = element_type(source.type)
        dtype = storage_dtype(element)
        mask = code.add(Constant.of(1, with_element(type, I1)))
        other = code.add(Constant.of(0, with_element(type, dtype)))
        operands = [self.stored[source], offsets, mask, other, code.value(1)]
        found = code.add(GatherLoad(operands, {"scale_bytes": dtype.bytes, "length": 1}))
        if not isinstance(element, PointerType):
            return found
        return code.add(IntToPtr([found], result_types=[with_element(found.type, element)]))

    def _all(self, scalar: Scalar, type: TensorType | DType | PointerType) -> Value:
        if isinstance(scalar, int):
            return self.code.add(Constant.of(scalar, type))
        return self.code.add(Splat([scalar], result_types=[type]))

    def _check_indices(self, places: Value, extent: int) -> None:
        """An index outside must not read what lies beside the tensor in local memory."""
        code = self.code
        inside = code.add(Elementwise.of("ult", places, self._all(extent, places.type)))
        text = f"gather index is outside 0 to {extent - 1}"
        code.effect(Assert([inside], {"message": text}))

    def _dot(self, operation: Dot, box: Box) -> Value:
        """Rows and columns as the box has them; the depth in steps that fit, added up in the precision of products."""
        code = self.code
        a, b, c = operation.operands
        *batch, row, column = box
        depth = shape_of(a.type)[-1]
        step = depth
        widest_bytes = max(row[1], column[1]) * storage_dtype(element_type(a.type)).bytes
        while step > 1 and step * widest_bytes > self.strip_bytes:
            step = halved(step)
        total = self.box(c, box)
        attributes = operation.attributes

        def product(start: Scalar, count: int, total: Value) -> Value:
            left = self.box(a, (*batch, row, (start, count)))
            right = self.box(b, (*batch, (start, count), column))
            return code.add(Dot([left, right, total], attributes))

        if step == depth:
            return product(0, depth, total)
        kept = element_type(total.type)
        assert isinstance(kept, DType)
        wide = F32 if kept.is_float and kept not in (F32, F64) else kept
        if wide != kept:
            total = code.add(Elementwise.of("fpcast", total, to=wide))
        with code.loop(depth // step * step, step, [total]) as loop:
            code.finish([product(loop.index, step, loop.carried[0])])
        total = loop.results[0]
        if depth % step:
            with code.apart():
                total = product(depth // step * step, depth % step, total)
        return total if wide == kept else code.add(Elementwise.of("fpcast", total, to=kept))

    # ---- reductions and loops on the way ---------------------------------------------------------------------------

    def _reduce(self, operation: Reduce, value: Value, box: Box) -> Value:
        """A reduction whose axis is not split."""
        axis = operation.axis
        whole_axis = (0, shape_of(operation.operands[0].type)[axis])
        inner = (*box[:axis], whole_axis, *box[axis:])
        if 4 * math.prod(extents(inner)) > MAXIMUM_REDUCED_STRIPS * self.strip_bytes:
            raise NotByBoxesError(value)
        regions = [copy_block(operation.region, {})]
        reduced = self.code.effect(Reduce(self.boxes(operation.operands, inner), operation.attributes, regions=regions))
        for result, made in zip(operation.results, reduced.results, strict=True):
            self.code.boxes[-1][result, box] = made
        return reduced.results[value.index]

    def _loop(self, loop: For, value: Value, box: Box) -> Value:
        """A loop all of whose work on a box needs nothing of other boxes: it runs for the box alone."""
        code, body = self.code, Block()
        carrying = Carrying(loop, body)
        yielded = loop.body.terminator.operands
        scalars = [place for place, carried in enumerate(loop.carried) if not shape_of(carried.type)]
        with code.nested(body), self._carried(carrying):
            for source in (loop.index, *(loop.carried[place] for place in scalars)):
                self.values[source] = Value(source.type, body, len(body.arguments), source.name)
                body.arguments.append(self.values[source])
            for operation in loop.body.operations[:-1]:
                if operation.results and not any(shape_of(result.type) for result in operation.results):
                    code.operations.append(copy_operation(operation, self.values))
            carrying.argument(loop.carried[value.index], box)
            handed = [self.values[yielded[place]] for place in scalars]
            done: list[int] = []
            while len(done) < len(carrying.arguments):
                place = list(carrying.arguments)[len(done)]
                handed.append(self.box(yielded[place], carrying.arguments[place][0]))
                done.append(place)
                if len(done) == len(carrying.arguments):
                    self._carry_along(carrying, loop, value, box)
            code.finish(handed)
        initial = [self.values[loop.initial[place]] for place in scalars]
        initial += [self.box(loop.initial[place], known) for place, (known, _) in carrying.arguments.items()]
        made = For([*(self.values[bound] for bound in loop.operands[:3]), *initial], loop.attributes, regions=[body])
        code.effect(made)
        for place, result in zip(done, made.results[len(scalars) :], strict=True):
            code.boxes[-1][loop.results[place], carrying.arguments[place][0]] = result
        return code.boxes[-1][value, box]

    @contextmanager
    def _carried(self, carrying: Carrying) -> Generator[None]:
        """Let the arguments of a loop be what it carries, while its body is written."""
        outside, self.carrying = self.carrying, self.carrying | dict.fromkeys(carrying.loop.carried, carrying)
        try:
            yield
        finally:
            self.carrying = outside

    @staticmethod
    def _carry_along(carrying: Carrying, loop: For, value: Value, box: Box) -> None:
        """Ask for other tensors of the same rows, so that they need no loop of their own."""
        rows = shape_of(value.type)
        for place, carried in enumerate(loop.carried):
            shape = shape_of(carried.type)
            if shape and place not in carrying.arguments and shape == rows[: len(shape)]:
                carrying.argument(carried, box[: len(shape)])
                return
