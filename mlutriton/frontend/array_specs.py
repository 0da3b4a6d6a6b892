"""Arrays that are not there, for launches of which only the cycles are wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from copy import copy
from itertools import count
from math import prod
from operator import index
from typing import Any, cast

import numpy as np

from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.arguments import (
    ARRAY_DTYPES,
    GRANULE_BYTES,
    PointerArgument,
    distinct_dtype,
    dtype_named,
    reach_of,
    reach_of_tensor,
    unknown_dtype,
)

ArrayReach = tuple[int, int, int, bool]
"""See :func:`mlutriton.frontend.arguments.reach_of`."""


class Spec:
    """An array that is not there: shape, dtype and strides, for launches of which only the cycles are wanted.

    It has the methods by which kernels take tensors. Its address is one that no memory of a process has.

    Attributes:
        shape: extents.
        dtype: NumPy dtype of the elements; the name of one of the 8-bit floats.
        strides: in elements; dense and row-major unless given.
        reach: as that of an array, see :func:`mlutriton.frontend.arguments.reach_of`.
    """

    device = "cpu"
    # User space ends below; a device has 48 bits of address. Specs begin on pages, with a page between them.
    _PAGE_BYTES = 1 << 12
    _LARGEST_BYTES = 1 << 44
    _FIRST_ADDRESS = 1 << 47
    _addresses = count(_FIRST_ADDRESS, _PAGE_BYTES)

    def __init__(self, shape: Sequence[int], dtype: Any, strides: Sequence[int] | None = None) -> None:
        known = _dtype(dtype)
        self.dtype = distinct_dtype(known)
        try:
            self.shape = tuple(index(extent) for extent in shape)
            dense = [prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
            self.strides = tuple(dense if strides is None else map(index, strides))
        except TypeError:
            raise _no_array(shape, dtype, strides) from None
        if len(self.strides) != len(self.shape) or min((*self.shape, *self.strides), default=0) < 0:
            raise _no_array(shape, dtype, strides)
        span = 1 + sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides, strict=True))
        pages = 2 + span * known.itemsize // self._PAGE_BYTES
        if pages * self._PAGE_BYTES > self._LARGEST_BYTES:
            raise _no_array(shape, dtype, strides)
        self._address = next(self._addresses)
        Spec._addresses = count(self._address + pages * self._PAGE_BYTES, self._PAGE_BYTES)
        self.reach = self._address, self._address, span * known.itemsize if all(self.shape) else 0, True

    @classmethod
    @contextlib.contextmanager
    def placed_anew(cls) -> Generator[None]:
        """Specs that are made inside begin at the first address, whatever this process has made before.

        So the same launch takes the same cycles in every process: the L2 tells arrays apart by their addresses. Specs
        from outside are not to be passed to the same launch.
        """
        before = cls._addresses
        cls._addresses = count(cls._FIRST_ADDRESS, cls._PAGE_BYTES)
        try:
            yield
        finally:
            cls._addresses = before

    def data_ptr(self) -> int:
        """The address that a kernel receives."""
        return self._address

    def moved_to(self, reach: ArrayReach) -> Spec:
        """Itself, where another array may be too."""
        self._address, self.reach = reach[0], reach
        return self

    def zero_(self) -> Spec:
        """Nothing, as there is no memory: what clears arrays before a launch need not know that they are not there."""
        return self

    def __setitem__(self, index: object, value: object) -> None:
        """Nothing, as there is no memory."""

    def stride(self, axis: int | None = None) -> int | tuple[int, ...]:
        """Strides in elements, all or that of one axis."""
        return self.strides if axis is None else self.strides[axis]

    def __repr__(self) -> str:
        return f"spec({self.shape}, {str(self.dtype)!r})"


def spec(shape: Sequence[int], dtype: Any, strides: Sequence[int] | None = None) -> Spec:
    """The shape and dtype of an array without its memory, for ``estimate``; strides in elements.

    Every spec is an array of its own, and one that is passed twice is one array, as the kernel changes it in place.

    Raises:
        ArgumentError: E0101, there is no such array; E0103, its dtype is not known.
    """
    return Spec(shape, dtype, strides)


def described(value: object) -> object:
    """The spec of an array; anything else as it is.

    Raises:
        ArgumentError: E0103, the array's dtype is not known.
    """
    if isinstance(value, Spec) or not (hasattr(value, "shape") and hasattr(value, "dtype")) or np.isscalar(value):
        return value
    array = cast("Any", value)
    dtype = _dtype(array.dtype)
    if isinstance(value, np.ndarray):
        return Spec(array.shape, dtype, [abs(stride) // dtype.itemsize for stride in array.strides])
    return Spec(array.shape, dtype, array.stride() if hasattr(value, "stride") else None)


def described_together(values: Sequence[object]) -> list[object]:
    """The specs of the arrays of a launch, and anything else as it is: arrays that share bytes do so as specs.

    Tuples and descriptors of arrays become those of specs.

    Raises:
        ArgumentError: E0101, no pointer reaches the elements of an array; E0103, its dtype is not known.
    """
    found: list[tuple[ArrayReach, Spec]] = []
    specs = [_described_within(value, found) for value in values]
    together: list[tuple[ArrayReach, Spec]] = []
    end = 0
    for reach, one in sorted(found, key=lambda each: each[0][1]):
        if reach[1] >= end:
            _keep_together(together)
            together = []
        together.append((reach, one))
        end = max(end, reach[1] + reach[2])
    _keep_together(together)
    return specs


def _described_within(value: Any, found: list[tuple[ArrayReach, Spec]]) -> object:
    """As ``described``, also of what holds arrays; adds those that are somewhere in memory to what was found."""
    if isinstance(value, tuple):
        held = cast("tuple[object, ...]", value)
        items = [_described_within(item, found) for item in held]
        make: Any = type(held)
        return make(*items) if hasattr(held, "_fields") else tuple(items)
    if hasattr(value, "block_shape") and hasattr(value, "base"):  # a descriptor, which checks no spec
        descriptor = copy(value)
        descriptor.base = _described_within(value.base, found)
        return descriptor
    one = described(value)
    reach = reach_of_any(value)
    if reach and isinstance(one, Spec):
        found.append((reach, one))
    return one


def _keep_together(arrays: Sequence[tuple[ArrayReach, Spec]]) -> None:
    """Move specs to where they lie to each other as the arrays do whose reaches these are.

    Triton asks which addresses are multiples of 16 bytes: those of specs are if those of the arrays are.
    """
    begin = min((first for (_, first, _, _), _ in arrays), default=0) & -GRANULE_BYTES
    end = max((first + size_bytes for (_, first, size_bytes, _), _ in arrays), default=0)
    distance = Spec((end - begin,), np.int8).data_ptr() - begin
    for (address, first, size_bytes, writable), one in arrays:
        one.moved_to((address + distance, first + distance, size_bytes, writable))


def reach_of_any(value: object) -> ArrayReach | None:
    """As ``reach_of``, of an array of any library; None of a spec, and of what has no byte in memory.

    Raises:
        ArgumentError: E0101, no pointer reaches its elements.
    """
    found: ArrayReach | None
    if isinstance(value, Spec):
        return None
    if isinstance(value, PointerArgument):
        found = value.address, value.first_address, value.bytes, value.writable
    elif isinstance(value, np.ndarray):
        found = reach_of(cast("np.ndarray[Any, Any]", value))
    elif hasattr(value, "untyped_storage"):
        try:
            found = reach_of_tensor(value)
        except (NotImplementedError, RuntimeError):  # it stands for a tensor, and has no storage
            return None
    else:
        found = getattr(value, "reach", None)
    return found if found and found[1] and found[2] else None


def _dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype that a dtype of any library names."""
    try:
        named: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = dtype_named(str(dtype).rpartition(".")[2])
        if found is None:
            raise unknown_dtype(dtype) from None
        named = found
    if named not in ARRAY_DTYPES:
        raise unknown_dtype(named)
    return named


def _no_array(shape: object, dtype: object, strides: object) -> ArgumentError:
    return ArgumentError(
        "E0101",
        f"spec({shape}, {dtype}, {strides}) is no array",
        help="give a tuple of non-negative extents, as many strides, in elements, and 16 TiB at most",
    )
