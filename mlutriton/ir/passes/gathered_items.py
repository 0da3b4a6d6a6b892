"""Accesses of items that lie anywhere: of single elements, or of rows whose elements follow one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlutriton.diagnostics import Location
from mlutriton.dtypes import I1, I32, I64
from mlutriton.immutables import replace
from mlutriton.ir.analysis.linear_forms import Linear
from mlutriton.ir.analysis.rows import MaskSplit, Split
from mlutriton.ir.analysis.scalars import Scalar, Scalars, comes_from
from mlutriton.ir.core import Operation, Value
from mlutriton.ir.ops import (
    AddPtr,
    AtomicRmw,
    Broadcast,
    Constant,
    Elementwise,
    GatherAtomic,
    GatherLoad,
    IntToPtr,
    Load,
    PtrToInt,
    ScatterStore,
    Splat,
    Store,
    pointee,
)
from mlutriton.ir.types import PointerType, TensorType, element_type, shape_of


@dataclass(frozen=True)
class Items:
    """The operands that gathers and scatters of items have in common.

    Attributes:
        base: pointer from which offsets count.
        offsets: of each item, in ``scale_bytes``.
        mask: which items there are.
        limit: how many elements of each, from its first one on.
        scale_bytes: of an offset.
        length: elements of an item.
    """

    base: Value
    offsets: Value
    mask: Value
    limit: Value
    scale_bytes: int
    length: int

    @property
    def _attributes(self) -> dict[str, int]:
        return {"scale_bytes": self.scale_bytes, "length": self.length}

    def gather(self, other: Value, location: Location) -> Operation:
        """A load of them, which gives other values where there are none."""
        operands = [self.base, self.offsets, self.mask, other, self.limit]
        return GatherLoad(operands, self._attributes, location=location)

    def scatter(self, value: Value, location: Location) -> Operation:
        """A store to them."""
        operands = [self.base, self.offsets, value, self.mask, self.limit]
        return ScatterStore(operands, self._attributes, location=location)

    def atomic(self, kind: str, values: Sequence[Value], location: Location) -> Operation:
        """An atomic of a kind on them (:class:`~mlutriton.ir.ops.GatherAtomic`)."""
        operands = [self.base, self.offsets, self.mask, self.limit, *values]
        return GatherAtomic(operands, {"kind": kind, **self._attributes}, location=location)


def items_of_rows(split: Split, mask: MaskSplit, shape: tuple[int, ...], length: int, scalars: Scalars) -> Items:
    """Items of ``length`` elements, one for each place in ``shape``."""
    row, form = split.row, split.linear
    if row is None or form.base is not None:
        assert form.base is not None
        offsets = row or scalars.add(Constant.of(0, TensorType(shape, I32)))
        base, scale = form.base, pointee(form.base).bytes
    else:
        base, offsets, scale = _base_and_offsets(row, scalars.add)
    return Items(
        base_pointer(replace(form, base=base), scalars, scalars.location),
        _indexing(offsets, scalars.add),
        mask.row or scalars.add(Constant.of(1, TensorType(shape, I1))),
        limit_of(length, mask.limits, scalars),
        scale,
        length,
    )


def single_items(operation: Operation) -> Sequence[Operation]:
    """The access element by element."""
    pointer = operation.operands[0]
    made: list[Operation] = []

    def add(new: Operation) -> Value:
        new.location = operation.location
        made.append(new)
        return new.result

    base, offsets, scale = _base_and_offsets(pointer, add)
    offsets = _indexing(offsets, add)
    one = add(Constant.of(1, I64))
    location = operation.location
    match operation:
        case Load(operands=[_, mask, other]):
            return [*made, Items(base, offsets, mask, one, scale, 1).gather(other, location)]
        case Store(operands=[_, value, mask]):
            return [*made, Items(base, offsets, mask, one, scale, 1).scatter(value, location)]
        case AtomicRmw(operands=[_, value, mask]):
            return [*made, Items(base, offsets, mask, one, scale, 1).atomic(operation.text("kind"), [value], location)]
        case _:
            mask = add(Constant.of(1, TensorType(shape_of(pointer.type), I1)))
            run = Items(base, offsets, mask, one, scale, 1)
            return [*made, run.atomic("cas", operation.operands[1:], location)]


def limit_of(extent: int, limits: Sequence[Scalar], scalars: Scalars) -> Value:
    """Behind the last position of so many that is below all limits."""
    return scalars.value(scalars.minimum([extent, *limits]))


def base_pointer(form: Linear, scalars: Scalars, location: Location) -> Value:
    """The pointer to the first element; what comes from memory is added last, and by itself."""
    assert form.base is not None
    if not form.offset:
        return form.base
    pointer, before = _before_loaded(form.base)
    offset = (*before, *form.offset)
    loaded = {scalar for scalar in set(offset) if comes_from(scalar, Load)}
    for is_loaded in (False, True):
        addends = [scalar for scalar in offset if (scalar in loaded) is is_loaded]
        total = scalars.sum(addends)
        if total != 0:
            added = AddPtr([pointer, scalars.value(total)], location=location)
            scalars.operations.append(added)
            pointer = added.result
    return pointer


def _before_loaded(pointer: Value) -> tuple[Value, tuple[Value, ...]]:
    """What a pointer was before anything from memory was added to it, and all that was added since."""
    found, added, before = (pointer, ()), tuple[Value, ...](), pointer
    while isinstance(operation := before.defining_op, AddPtr):
        before, addend = operation.operands
        added = (addend, *added)
        if comes_from(addend, Load):
            found = before, added
    return found


def _base_and_offsets(pointer: Value, add: Callable[[Operation], Value]) -> tuple[Value, Value, int]:
    """(scalar base, offset tensor, bytes per offset) of a pointer tensor; without a common base, of byte addresses."""
    found = _split(pointer, add)
    if found is not None:
        return found
    null = add(IntToPtr([add(Constant.of(0, I64))], result_types=(element_type(pointer.type),)))
    return null, add(PtrToInt([pointer])), 1


def _indexing(offsets: Value, add: Callable[[Operation], Value]) -> Value:
    """Offsets of a type that indexes memory."""
    return offsets if element_type(offsets.type) in (I32, I64) else add(Elementwise.of("sext", offsets, to=I32))


def _split(pointer: Value, add: Callable[[Operation], Value]) -> tuple[Value, Value, int] | None:
    """What :func:`_base_and_offsets` looks for, of a pointer tensor that was made from one scalar pointer."""
    operation = pointer.defining_op
    pointer_type = element_type(pointer.type)
    assert isinstance(pointer_type, PointerType)
    scale = pointer_type.pointee.bytes
    shape = shape_of(pointer.type)
    match operation:
        case Splat():
            return operation.operands[0], add(Constant.of(0, TensorType(shape, I64))), scale
        case AddPtr():
            source, step = operation.operands
            found = _split(source, add)
            if found is None:
                return None
            base, offsets, _ = found
            zero = offsets.defining_op
            if isinstance(zero, Constant) and zero.value == 0:
                return base, step, scale
            return base, add(Elementwise.of("add", _widen(offsets, add), _widen(step, add))), scale
        case Broadcast():
            found = _split(operation.operands[0], add)
            if found is None:
                return None
            base, offsets, _ = found
            wide = TensorType(shape, element_type(offsets.type))
            return base, add(Broadcast([offsets], result_types=(wide,))), scale
        case _:
            return None


def _widen(offsets: Value, add: Callable[[Operation], Value]) -> Value:
    return offsets if element_type(offsets.type) == I64 else add(Elementwise.of("sext", offsets, to=I64))
