"""Import of tensor descriptors and block pointers: accesses by block become pointers, masks, loads and stores.

An access is written as a kernel would write it, so that the analysis of accesses sees no difference: the pointers are
the base plus stride times position in each dimension, the mask says that each position is inside the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import repeat

from mlutriton.dtypes import I1, I64
from mlutriton.frontend.importer.translation import Imported, Rule, TensorHandle, Translation, integer, integers, text
from mlutriton.frontend.ttir.text import BlockPointerType, TensorDescriptorType
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Value
from mlutriton.ir.ops import (
    AddPtr,
    AtomicRmw,
    Constant,
    Load,
    Range,
    Reshape,
    Store,
)
from mlutriton.ir.types import Type, element_type, shape_of, storage_dtype

_PAD_WITH_NAN = 2  # Triton's enumeration of padding: none or 1 is zero

_REDUCTION_KINDS = {"add": "add", "min": "smin", "max": "smax", "and": "and", "or": "or", "xor": "xor"}
_UNSIGNED_REDUCTION_KINDS = _REDUCTION_KINDS | {"min": "umin", "max": "umax"}
_FLOAT_REDUCTION_KINDS = {"add": "fadd", "min": "fmin", "max": "fmax"}


# ---- handles --------------------------------------------------------------------------------------------------------


def _make_descriptor(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    type = operation.results[0].type
    assert isinstance(type, TensorDescriptorType)
    pads_with_nan = translation.constant(integer(operation, "padding", 0) == _PAD_WITH_NAN, I1)
    return (TensorHandle(type, (*translation.values(operation.operands), pads_with_nan)),)


def _make_block_pointer(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    type = operation.results[0].type
    assert isinstance(type, BlockPointerType)
    return (TensorHandle(type, tuple(translation.values(operation.operands))),)


def _advance(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, *_ = translation.imported(operation.operands[:1])
    assert isinstance(handle, TensorHandle)
    steps = translation.values(operation.operands[1:])
    moved = [translation.elementwise("add", *pair) for pair in zip(handle.rest, steps, strict=True)]
    return (TensorHandle(handle.type, (*handle.components[: -handle.rank], *moved)),)


# ---- the general access ---------------------------------------------------------------------------------------------


def _access(
    translation: Translation, handle: TensorHandle, positions: Sequence[Value], is_checked: Iterable[bool]
) -> tuple[Value, Value]:
    """Pointers and mask of the elements at a row of positions along each dimension.

    Shapes: a result has the lengths of the rows as extents.
    """
    rank = handle.rank
    shape = tuple(length for row in positions for length in shape_of(row.type))
    pointers = translation.splat(handle.base, shape)
    mask: Value | None = None
    for axis, checked in zip(range(rank), is_checked, strict=False):
        row = positions[axis]
        stride = translation.splat(translation.resized(handle.strides[axis], I64), shape_of(row.type))
        offset = translation.elementwise("mul", translation.resized(row, I64), stride)
        spread = translation.broadcast(translation.along(offset, axis, rank), shape)
        pointers = translation.add(AddPtr([pointers, spread])).result
        if checked:
            inside = _inside(translation, row, handle.extents[axis])
            inside = translation.broadcast(translation.along(inside, axis, rank), shape)
            mask = inside if mask is None else translation.elementwise("and", mask, inside)
    return pointers, translation.true(shape) if mask is None else mask


def _inside(translation: Translation, row: Value, extent: Value) -> Value:
    """Where positions are at least zero and below the extent."""
    wide = max(storage_dtype(element_type(row.type)), storage_dtype(element_type(extent.type)), key=lambda t: t.bits)
    row = translation.resized(row, wide)
    bound = translation.splat(translation.resized(extent, wide), shape_of(row.type))
    below = translation.elementwise("slt", row, bound)
    positive = translation.elementwise("sge", row, translation.constant(0, row.type))
    return translation.elementwise("and", positive, below)


def _rows(translation: Translation, starts: Sequence[Value], shape: Sequence[int]) -> list[Value]:
    """The positions of a block that starts at ``starts``."""
    rows: list[Value] = []
    for start, extent in zip(starts, shape, strict=True):
        places = translation.add(Range((), {"start": 0, "end": extent})).result
        places = translation.resized(places, storage_dtype(element_type(start.type)))
        rows.append(translation.elementwise("add", translation.splat(start, (extent,)), places))
    return rows


# ---- accesses through descriptors -----------------------------------------------------------------------------------


def _handle_and_rest(translation: Translation, operation: TtirOperation) -> tuple[TensorHandle, list[Value]]:
    handle, *_ = translation.imported(operation.operands[:1])
    assert isinstance(handle, TensorHandle)
    return handle, translation.values(operation.operands[1:])


def _reshaped(translation: Translation, value: Value, type: Type) -> Value:
    return value if value.type == type else translation.add(Reshape([value], result_types=(type,))).result


def _load_padded(translation: Translation, handle: TensorHandle, access: tuple[Value, Value]) -> Value:
    """The elements of a block; those outside the tensor are what the descriptor pads with."""
    pointers, mask = access
    element = handle.block.element
    zero = translation.constant(0, element)
    padding = zero
    (pads_with_nan,) = handle.rest
    flag = pads_with_nan.defining_op
    if storage_dtype(element).is_float and not (isinstance(flag, Constant) and not flag.value):
        nan = translation.constant(math.nan, element)
        padding = translation.elementwise("select", pads_with_nan, nan, zero)
    return translation.add(Load([pointers, mask, translation.splat(padding, shape_of(pointers.type))])).result


def _descriptor_load(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, starts = _handle_and_rest(translation, operation)
    access = _access(translation, handle, _rows(translation, starts, handle.block.shape), repeat(True))
    loaded = _load_padded(translation, handle, access)
    return (_reshaped(translation, loaded, translation.result_type(operation)),)


def _descriptor_store(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, (*starts, value) = _handle_and_rest(translation, operation)
    pointers, mask = _access(translation, handle, _rows(translation, starts, handle.block.shape), repeat(True))
    value = _reshaped(translation, value, handle.block)
    return translation.add(Store([pointers, value, mask])).results


def _descriptor_reduce(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, (*starts, value) = _handle_and_rest(translation, operation)
    name = text(operation, "operation")
    element = storage_dtype(handle.block.element)
    if element.is_float:
        kinds = _FLOAT_REDUCTION_KINDS
    else:
        assert isinstance(handle.type, TensorDescriptorType)
        kinds = _UNSIGNED_REDUCTION_KINDS if handle.type.is_unsigned else _REDUCTION_KINDS
    kind = kinds.get(name)
    if kind is None:
        raise translation.refusal(f"the descriptor's atomic {name} is not supported on {element}")
    pointers, mask = _access(translation, handle, _rows(translation, starts, handle.block.shape), repeat(True))
    value = _reshaped(translation, value, handle.block)
    translation.add(AtomicRmw([pointers, value, mask], {"kind": kind}))
    return ()


def _picked_rows(translation: Translation, handle: TensorHandle, rows: Value, start: Value) -> tuple[Value, Value]:
    """The access of whole rows of blocks of one row each."""
    (columns,) = _rows(translation, [start], handle.block.shape[1:])
    return _access(translation, handle, [rows, columns], repeat(True))


def _descriptor_gather(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, (rows, start) = _handle_and_rest(translation, operation)
    return (_load_padded(translation, handle, _picked_rows(translation, handle, rows, start)),)


def _descriptor_scatter(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    handle, (rows, start, value) = _handle_and_rest(translation, operation)
    pointers, mask = _picked_rows(translation, handle, rows, start)
    return translation.add(Store([pointers, value, mask])).results


# ---- accesses through block pointers --------------------------------------------------------------------------------


def _block_access(translation: Translation, operation: TtirOperation, handle: TensorHandle) -> tuple[Value, Value]:
    checked = integers(operation, "boundaryCheck")
    rows = _rows(translation, handle.rest, handle.block.shape)
    return _access(translation, handle, rows, (axis in checked for axis in range(handle.rank)))


def load_block(translation: Translation, operation: TtirOperation, handle: TensorHandle) -> Value:
    """The block at a block pointer; only the dimensions of ``boundaryCheck`` are masked."""
    pointers, mask = _block_access(translation, operation, handle)
    pads_with_nan = integer(operation, "padding", 0) == _PAD_WITH_NAN
    other = translation.constant(math.nan if pads_with_nan else 0, handle.block)
    return translation.add(Load([pointers, mask, other])).result


def store_block(translation: Translation, operation: TtirOperation, handle: TensorHandle) -> None:
    """Write a block at a block pointer; only the dimensions of ``boundaryCheck`` are masked."""
    pointers, mask = _block_access(translation, operation, handle)
    (value,) = translation.values(operation.operands[1:])
    translation.add(Store([pointers, value, mask]))


RULES: dict[str, Rule] = {
    "tt.make_tensor_descriptor": _make_descriptor,
    "tt.descriptor_load": _descriptor_load,
    "tt.descriptor_store": _descriptor_store,
    "tt.descriptor_reduce": _descriptor_reduce,
    "tt.descriptor_gather": _descriptor_gather,
    "tt.descriptor_scatter": _descriptor_scatter,
    "tt.make_tensor_ptr": _make_block_pointer,
    "tt.advance": _advance,
}
