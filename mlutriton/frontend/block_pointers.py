"""Block pointers for Triton 3.9, which removed them: an opt-in for kernels that still use them.

``tl.make_block_ptr`` and ``tl.advance`` work again, and ``tl.load`` and ``tl.store`` take what they return, with
``boundary_check`` and ``padding_option``. A block pointer is a base pointer and the extents, strides and offsets of a
block in 64 bits; a load spells out its pointers and its mask, which the compiler turns into one transfer with bounds.

Source: the documentation of ``tl.make_block_ptr``, ``tl.advance`` and ``tl.load`` of Triton 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any

import triton.language as tl
from triton.language import core

from mlutriton.frontend.triton_versions import HAS_BLOCK_POINTERS


@cache
def install_block_pointers() -> None:
    """Replaces the functions of Triton's language that no longer know block pointers, for the rest of the process."""
    if HAS_BLOCK_POINTERS:
        return
    modules: tuple[Any, ...] = (tl, core)
    for module in modules:
        for function in (make_block_ptr, advance):
            setattr(module, function.__name__, function)
        module.load = _loading(module.load)
        module.store = _storing(module.store)


@dataclass(frozen=True)
class BlockPointerType(core.base_type):
    """The type of a block pointer.

    Attributes:
        pointer: the type of a pointer to one element.
        block_shape: extents of the block.
    """

    pointer: Any
    block_shape: tuple[int, ...]

    @property
    def element_ty(self) -> Any:
        """The type of an element, by the name that pointer types have for it."""
        return self.pointer.element_ty

    def mangle(self) -> str:
        """Names the type in the names of functions that take it."""
        return f"block_pointer<{self.pointer.mangle()}, {'x'.join(map(str, self.block_shape))}>"

    def _flatten_ir_types(self, builder: Any, out: list[Any]) -> None:
        for kind in (self.pointer, *[tl.int64] * (3 * len(self.block_shape))):
            kind._flatten_ir_types(builder, out)

    def _unflatten_ir(self, handles: list[Any], cursor: int) -> tuple[BlockPointer, int]:
        base, cursor = self.pointer._unflatten_ir(handles, cursor)
        rank = len(self.block_shape)
        numbers: list[Any] = []
        for _ in range(3 * rank):
            number, cursor = tl.int64._unflatten_ir(handles, cursor)
            numbers.append(number)
        extents, strides, offsets = numbers[:rank], numbers[rank : 2 * rank], numbers[2 * rank :]
        return BlockPointer(base, extents, strides, offsets, self.block_shape), cursor


@dataclass(eq=False)
class BlockPointer(core.base_value):
    """A block of an array in memory.

    Attributes:
        base: pointer to the array's first element.
        extents: of the array.
        strides: of the array, in elements.
        offsets: of the block in the array.
        block_shape: extents of the block.
    """

    base: Any
    extents: list[Any]
    strides: list[Any]
    offsets: list[Any]
    block_shape: tuple[int, ...]

    @property
    def type(self) -> BlockPointerType:
        """What a block pointer keeps when it goes through a loop or into a function."""
        return BlockPointerType(self.base.type, self.block_shape)

    @property
    def dtype(self) -> BlockPointerType:
        """The same: as with any pointer, ``dtype.element_ty`` is the type of what it points to."""
        return self.type

    def _set_name(self, builder: Any, name: str) -> None:
        self.base._set_name(builder, name)

    def _flatten_ir(self, handles: list[Any]) -> None:
        for value in (self.base, *self.extents, *self.strides, *self.offsets):
            value._flatten_ir(handles)


@core.builtin
def make_block_ptr(
    base: Any, shape: Any, strides: Any, offsets: Any, block_shape: Any, order: Any, _semantic: Any = None
) -> BlockPointer:
    """A pointer to the block of ``block_shape`` at ``offsets`` of an array; ``order`` is a hint that is not needed.

    Raises:
        ValueError: ``base`` is no pointer to a scalar, or the tuples differ in length.
    """
    if not base.type.is_ptr() or base.type.is_block():
        raise ValueError("make_block_ptr: base must be a scalar pointer")
    if len({len(each) for each in (shape, strides, offsets, block_shape, order)}) != 1:
        raise ValueError("make_block_ptr: shape, strides, offsets, block_shape and order must have the same length")
    extents, steps, places = (_integers(each, _semantic) for each in (shape, strides, offsets))
    return BlockPointer(base, extents, steps, places, tuple(map(_constant, block_shape)))


@core.builtin
def advance(base: Any, offsets: Any, _semantic: Any = None) -> BlockPointer:
    """The block pointer moved by ``offsets`` elements along each axis.

    Raises:
        ValueError: ``base`` is no block pointer, or there is not one offset an axis.
    """
    if not isinstance(base, BlockPointer):
        raise ValueError("advance: base must be a block pointer")
    if len(offsets) != len(base.offsets):
        raise ValueError(f"advance: {len(base.offsets)} offsets are expected, not {len(offsets)}")
    steps = _integers(offsets, _semantic)
    moved = [_semantic.add(old, step, False) for old, step in zip(base.offsets, steps, strict=True)]
    return replace(base, offsets=moved)


def _loading(original: Any) -> Any:
    @wraps(original)
    def load(
        pointer: Any,
        mask: Any = None,
        other: Any = None,
        boundary_check: Any = (),
        padding_option: Any = "",
        *,
        cache_modifier: Any = "",
        eviction_policy: Any = "",
        volatile: Any = False,
        _semantic: Any = None,
    ) -> Any:
        if isinstance(pointer, BlockPointer):
            if mask is not None or other is not None:
                raise ValueError("load: a block pointer takes boundary_check, not mask and other")
            pointer, mask = _spelled_out(pointer, boundary_check, _semantic)
            other = _padding(_constant(padding_option), pointer.dtype.element_ty)
        hints = {"cache_modifier": cache_modifier, "eviction_policy": eviction_policy, "volatile": volatile}
        return original(pointer, mask, other, **hints, _semantic=_semantic)

    return load


def _storing(original: Any) -> Any:
    @wraps(original)
    def store(
        pointer: Any,
        value: Any,
        mask: Any = None,
        boundary_check: Any = (),
        *,
        cache_modifier: Any = "",
        eviction_policy: Any = "",
        _semantic: Any = None,
    ) -> Any:
        if isinstance(pointer, BlockPointer):
            if mask is not None:
                raise ValueError("store: a block pointer takes boundary_check, not mask")
            pointer, mask = _spelled_out(pointer, boundary_check, _semantic)
        hints = {"cache_modifier": cache_modifier, "eviction_policy": eviction_policy}
        return original(pointer, value, mask, **hints, _semantic=_semantic)

    return store


def _integers(values: Sequence[Any], semantic: Any) -> list[Any]:
    """The values as 64-bit scalars."""
    return [semantic.cast(semantic.to_tensor(value), tl.int64) for value in values]


def _constant(value: Any) -> Any:
    """A constant that a kernel gives, as Python's."""
    return value.value if isinstance(value, core.constexpr) else value


def _spelled_out(block: BlockPointer, boundary_check: Any, semantic: Any) -> tuple[Any, Any]:
    """Pointers to every element of a block, and the mask of those inside the array along the axes to check."""
    shape = list(block.block_shape)
    axes = {_constant(axis) for axis in _constant(boundary_check) or ()}
    if not axes <= set(range(len(shape))):
        raise ValueError(f"boundary_check: the axes are 0 to {len(shape) - 1}")
    pointers, mask = block.base, None
    for axis, extent in enumerate(shape):
        place = semantic.add(semantic.cast(semantic.arange(0, extent), tl.int64), block.offsets[axis], False)
        for other in range(len(shape)):
            if other != axis:
                place = semantic.expand_dims(place, other)
        pointers = semantic.add(pointers, semantic.mul(place, block.strides[axis], False), False)
        if axis in axes:
            inside = semantic.and_(
                semantic.greater_equal(place, semantic.to_tensor(0)), semantic.less_than(place, block.extents[axis])
            )
            mask = inside if mask is None else semantic.and_(mask, inside)
    return pointers, mask if mask is None else semantic.broadcast_impl_shape(mask, shape)


def _padding(option: str | None, element: Any) -> float | int | None:
    match option:
        case "" | None:
            return None
        case "zero":
            return 0.0 if element.is_floating() else 0
        case "nan" if element.is_floating():
            return float("nan")
        case _:
            raise ValueError(f"padding_option: {option!r} is not '', 'zero' or, for floating-point elements, 'nan'")
