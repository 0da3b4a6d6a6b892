"""Ops on pointers and global memory, first as the kernel writes them, then in the forms that access analysis finds."""

# ruff: noqa: D102 - infer_types, check and evaluate are described at Operation.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import I1, I64, DType
from mlutriton.ir.core import Array, Attribute, Operation, Value
from mlutriton.ir.types import PointerType, TensorType, Type, element_type, shape_of, storage_dtype, with_element

ATOMIC_KINDS = ("add", "fadd", "smin", "smax", "umin", "umax", "fmin", "fmax", "and", "or", "xor", "xchg")

PRINT_STYLES = ("signed", "unsigned", "hexadecimal")


def pointee(value: Value) -> DType:
    """What a pointer, or a tensor of pointers, points to."""
    pointer = element_type(value.type)
    assert isinstance(pointer, PointerType)
    return pointer.pointee


def _not_pointer(value: Value) -> str | None:
    return None if isinstance(element_type(value.type), PointerType) else f"{value.type} is no pointer"


def _not_scalar_pointer(value: Value) -> str | None:
    return None if isinstance(value.type, PointerType) else f"the base is a scalar pointer, not {value.type}"


def _mismatch(what: str, value: Value, wanted: Type) -> str | None:
    return None if value.type == wanted else f"{what} has type {value.type}, not {wanted}"


def _bad_kind(kind: str, element: Type, kinds: Sequence[str]) -> str | None:
    if kind not in kinds:
        return f"kind {kind!r} is not one of {', '.join(kinds)}"
    scalar = element_type(element)
    on_float = kind.startswith("f")
    if kind in ("xchg", "cas") or (isinstance(scalar, DType) and scalar.is_float == on_float):
        return None
    return f"atomic {kind} is not defined on {scalar}"


class AddPtr(Operation):
    """Pointer plus offset in elements of the pointee."""

    NAME = "addptr"
    OPERANDS = ("pointer", "offset")

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[0].type,)

    def check(self) -> str | None:
        pointer, offset = self.operands
        element = element_type(offset.type)
        if not isinstance(element, DType) or not element.is_int or shape_of(offset.type) != shape_of(pointer.type):
            return f"the offset is of type {offset.type}, not integers in the shape of {pointer.type}"
        return _not_pointer(pointer)

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        pointer, offset = operands
        with np.errstate(all="ignore"):
            return (np.asarray(pointer + offset.astype(np.int64) * pointee(self.operands[0]).bytes),)


class _SameBits(Operation):
    """An op that changes the type of an address alone."""

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        return (operands[0],)


class PtrToInt(_SameBits):
    """The byte address as ``i64``."""

    NAME = "ptr_to_int"
    OPERANDS = ("pointer",)

    def infer_types(self) -> Sequence[Type]:
        return (with_element(self.operands[0].type, I64),)

    def check(self) -> str | None:
        return _not_pointer(self.operands[0])


class IntToPtr(_SameBits):
    """An ``i64`` byte address as pointer (type is free)."""

    NAME = "int_to_ptr"
    OPERANDS = ("address",)
    FREE_RESULTS = True

    def check(self) -> str | None:
        return _not_pointer(self.result) or _mismatch(
            "the address", self.operands[0], with_element(self.result.type, I64)
        )


class PtrCast(_SameBits):
    """The same address with another pointee (type is free)."""

    NAME = "ptr_cast"
    OPERANDS = ("pointer",)
    FREE_RESULTS = True

    def check(self) -> str | None:
        source = self.operands[0]
        if shape_of(source.type) != shape_of(self.result.type):
            return "ptr_cast keeps the shape"
        return _not_pointer(source) or _not_pointer(self.result)


class _Access(Operation):
    """An access to places that others may access, too.

    It may have the attributes ``volatile``, if others are meant to access the place meanwhile, and ``relaxed``, if it
    then says nothing of what was done before and behind it.
    """

    @property
    def is_volatile(self) -> bool:
        """Whether it meets accesses of other programs."""
        return bool(self.attributes.get("volatile", False))

    @property
    def is_relaxed(self) -> bool:
        """Whether it orders nothing but itself."""
        return bool(self.attributes.get("relaxed", False))

    def expected_attributes(self) -> Mapping[str, type]:
        return {**self.ATTRIBUTES, **{name: bool for name in ("volatile", "relaxed") if name in self.attributes}}


class Load(_Access):
    """The elements at the pointers where ``mask`` is set, else ``other``; ``volatile`` if others may write there."""

    NAME = "load"
    OPERANDS = ("pointer", "mask", "other")
    PURE = False
    READS = True

    def infer_types(self) -> Sequence[Type]:
        return (with_element(self.operands[0].type, pointee(self.operands[0])),)

    def check(self) -> str | None:
        pointer, mask, other = self.operands
        return (
            _not_pointer(pointer)
            or _mismatch("the mask", mask, with_element(pointer.type, I1))
            or _mismatch("other", other, with_element(pointer.type, pointee(pointer)))
        )


class Store(_Access):
    """Write ``value`` to the pointers where ``mask`` is set, in row-major order; ``volatile`` if others look there."""

    NAME = "store"
    OPERANDS = ("pointer", "value", "mask")
    PURE = False

    def check(self) -> str | None:
        pointer, value, mask = self.operands
        return (
            _not_pointer(pointer)
            or _mismatch("the value", value, with_element(pointer.type, pointee(pointer)))
            or _mismatch("the mask", mask, with_element(pointer.type, I1))
        )


class AtomicRmw(_Access):
    """Read-modify-write of each element where ``mask`` is set, in row-major order; the result is the old value.

    ``kind`` is one of add, fadd, smin, smax, umin, umax, fmin, fmax, and, or, xor, xchg. Where the mask is clear the
    result is 0.
    """

    NAME = "atomic_rmw"
    OPERANDS = ("pointer", "value", "mask")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"kind": str}
    PURE = False

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[1].type,)

    def check(self) -> str | None:
        pointer, value, mask = self.operands
        return (
            _not_pointer(pointer)
            or _mismatch("the value", value, with_element(pointer.type, pointee(pointer)))
            or _mismatch("the mask", mask, with_element(pointer.type, I1))
            or _bad_kind(self.text("kind"), value.type, ATOMIC_KINDS)
        )


class AtomicCas(_Access):
    """Write ``value`` where memory holds ``expected``, bit for bit; the result is the old value."""

    NAME = "atomic_cas"
    OPERANDS = ("pointer", "expected", "value")
    PURE = False

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[2].type,)

    def check(self) -> str | None:
        pointer, expected, value = self.operands
        return (
            _not_pointer(pointer)
            or _mismatch("the expected value", expected, value.type)
            or _mismatch("the value", value, with_element(pointer.type, pointee(pointer)))
        )


class Assert(Operation):
    """The program faults with ``message`` where the condition is false (any element of a tensor)."""

    NAME = "assert"
    OPERANDS = ("condition",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"message": str}
    PURE = False

    def check(self) -> str | None:
        condition = self.operands[0]
        return _mismatch("the condition", condition, with_element(condition.type, I1))


class Print(Operation):
    """Values handed to the host with a prefix, all in one ``style``: signed, unsigned or hexadecimal."""

    NAME = "print"
    OPERANDS = ("values*",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"prefix": str, "style": str}
    PURE = False

    def check(self) -> str | None:
        style = self.text("style")
        return None if style in PRINT_STYLES else f"style {style!r} is not one of {', '.join(PRINT_STYLES)}"


# ---- memory access once its form is known


class TileLoad(_Access):
    """A rectangular tile of global memory.

    Element ``[i_0, ..., i_r-1]`` stands at ``base + sum_d position_d * stride_d`` elements, where ``position_d`` is
    ``i_d``, or ``(start_d + i_d) mod modulo_d`` where ``wraps[d]`` is 1. Elements with ``i_d < first_d`` or
    ``i_d >= limit_d`` for any d are ``other``.

    Operands: ``base`` (pointer), ``other`` (scalar), then the ``stride`` of each dimension, the ``first`` of each, the
    ``limit`` of each (any numbers, in elements), and for each dimension that wraps ``start`` and ``modulo``
    (0 <= start), all i64. The result type is free.
    """

    NAME = "tile_load"
    OPERANDS = ("base", "other", "geometry*")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"wraps": tuple}
    FREE_RESULTS = True
    PURE = False
    READS = True

    @property
    def base(self) -> Value:
        """Pointer to the tile's element 0."""
        return self.operands[0]

    @property
    def other(self) -> Value:
        """What stands outside the limits."""
        return self.operands[1]

    @property
    def geometry(self) -> TileGeometry:
        """Strides, bounds and wraps."""
        return TileGeometry.of(shape_of(self.result.type), self.operands[2:], self.attributes["wraps"])

    def check(self) -> str | None:
        if fault := _not_scalar_pointer(self.base):
            return fault
        element = pointee(self.base)
        return (
            _mismatch("other", self.other, element)
            or _mismatch("the result", self.result, with_element(self.result.type, element))
            or _bad_geometry(self.result.type, self.operands[2:], self.integers("wraps"))
        )


class TileStore(Operation):
    """The counterpart of ``tile_load``: elements within the limits are written."""

    NAME = "tile_store"
    OPERANDS = ("base", "value", "geometry*")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"wraps": tuple}
    PURE = False

    @property
    def base(self) -> Value:
        """Pointer to the tile's element 0."""
        return self.operands[0]

    @property
    def value(self) -> Value:
        """The tensor written."""
        return self.operands[1]

    @property
    def geometry(self) -> TileGeometry:
        """Strides, bounds and wraps."""
        return TileGeometry.of(shape_of(self.value.type), self.operands[2:], self.attributes["wraps"])

    def check(self) -> str | None:
        if fault := _not_scalar_pointer(self.base):
            return fault
        return _mismatch("the value", self.value, with_element(self.value.type, pointee(self.base))) or _bad_geometry(
            self.value.type, self.operands[2:], self.integers("wraps")
        )


def _bad_geometry(type: Type, operands: Sequence[Value], wraps: tuple[int, ...]) -> str | None:
    rank = len(shape_of(type))
    if len(wraps) != rank:
        return f"wraps has {len(wraps)} flags for {rank} dimensions"
    wanted = 3 * rank + 2 * sum(wraps)
    if len(operands) != wanted:
        return f"the geometry has {len(operands)} operands, not {wanted}"
    wrong = next((operand for operand in operands if operand.type != I64), None)
    return None if wrong is None else f"strides, firsts, limits, starts and moduli are i64, not {wrong.type}"


class TileGeometry:
    """Strides, bounds and wraps of a tile access, by dimension.

    Attributes:
        shape: extents.
        strides: i64 scalars, in elements.
        firsts: i64 scalars, the first valid element.
        limits: i64 scalars, the one behind the last valid element.
        wraps: per dimension None or (start, modulo), i64 scalars.
    """

    __slots__ = ("firsts", "limits", "shape", "strides", "wraps")

    def __init__(
        self,
        shape: tuple[int, ...],
        strides: Sequence[Value],
        firsts: Sequence[Value],
        limits: Sequence[Value],
        wraps: Sequence[tuple[Value, Value] | None],
    ) -> None:
        self.shape = shape
        self.strides = tuple(strides)
        self.firsts = tuple(firsts)
        self.limits = tuple(limits)
        self.wraps = tuple(wraps)

    @classmethod
    def of(cls, shape: tuple[int, ...], operands: Sequence[Value], flags: Attribute) -> TileGeometry:
        """Read the variadic operands of a tile op."""
        assert isinstance(flags, tuple)
        rank = len(shape)
        rest = iter(operands[3 * rank :])
        wraps = [(next(rest), next(rest)) if flag else None for flag in flags]
        return cls(shape, operands[:rank], operands[rank : 2 * rank], operands[2 * rank : 3 * rank], wraps)

    def operands(self) -> list[Value]:
        """The variadic operands that :meth:`of` reads."""
        pairs = [value for wrap in self.wraps if wrap is not None for value in wrap]
        return [*self.strides, *self.firsts, *self.limits, *pairs]

    def flags(self) -> tuple[int, ...]:
        """The ``wraps`` attribute."""
        return tuple(int(wrap is not None) for wrap in self.wraps)


class GatherLoad(_Access):
    """Items of global memory, each a run of ``length`` consecutive elements.

    ``result[k, j] = element j of those from base + offsets[k] * scale_bytes on`` where ``mask[k]`` and ``j < limit``,
    else ``other[k]``; ``k`` is a position in ``offsets``. Without the dimension ``j`` if ``length`` is 1.
    """

    NAME = "gather_load"
    OPERANDS = ("base", "offsets", "mask", "other", "limit")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"scale_bytes": int, "length": int}
    PURE = False
    READS = True

    def infer_types(self) -> Sequence[Type]:
        return (_items_type(self.operands[3].type, self.integer("length")),)

    def check(self) -> str | None:
        base, offsets, mask, other, limit = self.operands
        return (
            _bad_offsets(base, offsets, mask)
            or _mismatch("other", other, with_element(mask.type, pointee(base)))
            or _bad_run(limit, self.integer("length"))
        )


class LookUp(Operation):
    """The elements of an array, all of which stands in a tensor: ``gather_load`` of single elements, on chip.

    ``result[k] = table[index[k]]`` where ``mask[k]``, else ``other[k]``. The array has ``count`` elements and begins at
    ``base``; what an index outside of it names is an access to memory that misses it.
    """

    NAME = "look_up"
    OPERANDS = ("table", "base", "index", "mask", "other", "count")

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[4].type,)

    def check(self) -> str | None:
        table, base, index, mask, other, count = self.operands
        return (
            _bad_offsets(base, index, mask)
            or _mismatch("the table", table, TensorType((math.prod(shape_of(table.type)),), pointee(base)))
            or _mismatch("other", other, with_element(mask.type, pointee(base)))
            or _mismatch("the count", count, I64)
        )

    def evaluate(self, operands: Sequence[Array]) -> tuple[Array, ...]:
        table, base, index, mask, other, count = operands
        wanted = index[mask].astype(np.int64)
        outside = wanted[(wanted < 0) | (wanted >= int(count))]
        if outside.size:
            width = pointee(self.operands[1]).bytes
            place = int(base) + int(outside[0]) * width
            raise KernelFault(
                "E0301", f"access of {width} bytes at {place:#x} misses its array", location=self.location
            )
        result = np.array(other)
        result[mask] = table[wanted]
        return (result,)


class ScatterStore(Operation):
    """The counterpart of ``gather_load``, in row-major order."""

    NAME = "scatter_store"
    OPERANDS = ("base", "offsets", "value", "mask", "limit")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"scale_bytes": int, "length": int}
    PURE = False

    def check(self) -> str | None:
        base, offsets, value, mask, limit = self.operands
        length = self.integer("length")
        return (
            _bad_offsets(base, offsets, mask)
            or _bad_run(limit, length)
            or _mismatch("the value", value, _items_type(with_element(mask.type, pointee(base)), length))
        )


class GatherAtomic(Operation):
    """``atomic_rmw`` (or ``cas`` with operands expected, value) on the elements of items of global memory.

    Items are those of ``gather_load``; the old values, 0 where there is no element, and the order is row-major.
    """

    NAME = "gather_atomic"
    OPERANDS = ("base", "offsets", "mask", "limit", "values*")
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"kind": str, "scale_bytes": int, "length": int}
    PURE = False

    def infer_types(self) -> Sequence[Type]:
        return (self.operands[-1].type,)

    def check(self) -> str | None:
        base, offsets, mask, limit, *values = self.operands
        count = 2 if self.text("kind") == "cas" else 1
        if len(values) != count:
            return f"atomic {self.text('kind')} takes {count} values, not {len(values)}"
        length = self.integer("length")
        if fault := _bad_offsets(base, offsets, mask) or _bad_run(limit, length):
            return fault
        wanted = _items_type(with_element(mask.type, pointee(base)), length)
        wrong = next((value for value in values if value.type != wanted), None)
        if wrong is not None:
            return _mismatch("a value", wrong, wanted)
        return _bad_kind(self.text("kind"), wanted, (*ATOMIC_KINDS, "cas"))


def _items_type(item: Type, length: int) -> Type:
    """The type of runs of ``length`` elements, given that of their first elements."""
    return item if length == 1 else TensorType((*shape_of(item), length), element_type(item))


def _bad_run(limit: Value, length: int) -> str | None:
    return _mismatch("the limit", limit, I64) if length > 0 else f"an item has {length} elements"


def _bad_offsets(base: Value, offsets: Value, mask: Value) -> str | None:
    if not isinstance(offsets.type, TensorType) or not storage_dtype(offsets.type.element).is_int:
        return f"offsets are a tensor of integers, not {offsets.type}"
    return _not_scalar_pointer(base) or _mismatch("the mask", mask, with_element(offsets.type, I1))


class LocalMemory(Operation):
    """Bytes ``offset_bytes`` to ``offset_bytes + bytes`` of the program's local memory (the pointee is free).

    Local memory is private DRAM: what a program leaves there is lost when it ends, and nothing is known of it before.
    """

    NAME = "local_memory"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"offset_bytes": int, "bytes": int}
    FREE_RESULTS = True

    @classmethod
    def of(cls, offset_bytes: int, bytes: int, pointee: DType) -> LocalMemory:
        """An area for elements of a type."""
        return cls((), {"offset_bytes": offset_bytes, "bytes": bytes}, result_types=[PointerType(pointee)])

    @property
    def end_bytes(self) -> int:
        """Where the area ends."""
        return self.integer("offset_bytes") + self.integer("bytes")

    def check(self) -> str | None:
        if self.integer("offset_bytes") < 0 or self.integer("bytes") < 1:
            return "an area begins in local memory and has bytes"
        return _not_scalar_pointer(self.result)


class ArraysDisjoint(Operation):
    """True if no two arrays that the launch was given share bytes."""

    NAME = "arrays_disjoint"

    def infer_types(self) -> Sequence[Type]:
        return (I1,)


class ReachableBytes(Operation):
    """How many bytes from a pointer on lie in its array, or in others that share bytes with it; 0 outside of all.

    Also 0 if they are to be ``stored`` to and all of these arrays are read-only.
    """

    NAME = "reachable_bytes"
    OPERANDS = ("pointer",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"stored": bool}

    def infer_types(self) -> Sequence[Type]:
        return (I64,)

    def check(self) -> str | None:
        return _not_scalar_pointer(self.operands[0])


MEMORY_OPS: tuple[type[Operation], ...] = (
    AddPtr, PtrToInt, IntToPtr, PtrCast, Load, Store, AtomicRmw, AtomicCas, Assert, Print, TileLoad, TileStore,
    GatherLoad, LookUp, ScatterStore, GatherAtomic, LocalMemory, ArraysDisjoint,
    ReachableBytes,
)  # fmt: skip
