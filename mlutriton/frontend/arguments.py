"""Launch arguments: arrays of any library become pointers that know what memory they may reach."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any, Protocol, Self, cast, runtime_checkable

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from mlutriton.diagnostics import ArgumentError
from mlutriton.dtypes import ALL, BF16, F8E4B8, F8E4M3, F8E5B16, F8E5M2, F16, F32, F64, I1, host_address

# Unsigned arrays share the signless element types of equal width; Triton keeps the sign in its own types.
ARRAY_DTYPES: frozenset[np.dtype[Any]] = frozenset(
    {dtype.numpy for dtype in ALL} | {np.dtype(f"uint{dtype.bits}") for dtype in ALL if dtype.is_int}
)
_DTYPES_BY_NAME: dict[str, np.dtype[Any]] = {str(dtype): dtype for dtype in ARRAY_DTYPES}


class Float8Name(str):
    """The name of a type of 8-bit floats, in the place of its dtype: descriptors ask it for the size of an element."""

    __slots__ = ()
    itemsize = 1


_NAMES_OF_FLOAT8 = {dtype.numpy: Float8Name(dtype.numpy) for dtype in ALL if dtype.is_float8}

# Names of Triton's language and of its signatures, as far as they are other names.
_TRITON_NAMES: dict[str, np.dtype[Any]] = {
    "int1": I1.numpy,
    "i1": I1.numpy,
    **{f"i{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "fp16": F16.numpy,
    "bf16": BF16.numpy,
    "fp32": F32.numpy,
    "fp64": F64.numpy,
    "fp8e5": F8E5M2.numpy,
    "fp8e4nv": F8E4M3.numpy,
    "fp8e5b16": F8E5B16.numpy,
    "fp8e4b8": F8E4B8.numpy,
    "fp8e4b15": np.dtype(np.uint8),
}

# What is kept of a program that does nothing: 48 bytes. So many programs fit the memory of an ordinary host.
MAXIMUM_PROGRAMS = 1 << 26


@dataclass(slots=True, eq=False)
class PointerArgument:
    """A pointer to the first element of an array, with the bytes that the array spans.

    ``data_ptr`` and ``dtype`` make it an argument that Triton takes, ``shape`` and ``stride`` a tensor for descriptors;
    ``zero_``, ``clone`` and ``copy_`` serve ``triton.autotune(reset_to_zero=..., restore_value=...)``. It has the
    array's other attributes as well: grids that are functions, and hooks, ask the arguments of a launch for them.

    Attributes:
        owner: what keeps the memory alive: an ndarray, or a tensor of another library.
        address: the host address of element ``[0, ..., 0]``; the kernel receives this one.
        first_address: the lowest address that the view reaches, below ``address`` where a stride is negative.
        bytes: how many bytes from ``first_address`` the view spans.
        writable: whether a kernel may store to it.
        dtype: type of the elements, see :func:`distinct_dtype`.
    """

    owner: object = field(repr=False)
    address: int
    first_address: int
    bytes: int
    writable: bool
    dtype: np.dtype[Any] | str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "owner":
            raise AttributeError(name)
        return getattr(self.owner, name)

    def __len__(self) -> int:
        return len(self.array)

    def data_ptr(self) -> int:
        """The address that the kernel receives."""
        return self.address

    @property
    def array(self) -> NDArray[Any]:
        """The NumPy array behind the pointer.

        Raises:
            ArgumentError: E0101, the owner is a tensor of another library.
        """
        owner = self.owner
        if not isinstance(owner, np.ndarray):
            raise ArgumentError("E0101", f"a {_type_name(owner)} argument is not a NumPy array")
        return cast("NDArray[Any]", owner)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the array."""
        return self.array.shape

    def stride(self, axis: int | None = None) -> int | tuple[int, ...]:
        """Strides in elements, all or that of one axis, as torch tensors give them."""
        strides = tuple(stride // self.array.itemsize for stride in self.array.strides)
        return strides if axis is None else strides[axis]

    def zero_(self) -> Self:
        """Clears the array."""
        self.array[...] = 0
        return self

    def clone(self) -> PointerArgument:
        """A pointer to a copy of the array."""
        return array_argument(self.array.copy())

    def copy_(self, other: PointerArgument) -> Self:
        """Copies the other array's elements into this one."""
        self.array[...] = other.array
        return self


@runtime_checkable
class DlpackProducer(Protocol):
    """An array of any library that speaks DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Exports the memory."""
        ...

    def __dlpack_device__(self) -> tuple[Any, Any]:
        """Says where the memory is."""
        ...


def distinct_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | str:
    """A dtype as Triton can tell it from others: by its hash, which some 8-bit floats share; those by their names."""
    return _NAMES_OF_FLOAT8.get(dtype, dtype)


def dtype_named(name: str) -> np.dtype[Any] | None:
    """The dtype of a name of NumPy's, ``ml_dtypes``' or of Triton's language, such as ``fp16``; None if it is none."""
    return _DTYPES_BY_NAME.get(name) or _TRITON_NAMES.get(name)


def array_argument(array: NDArray[Any], name: str = "") -> PointerArgument:
    """Wraps an array of any strides.

    Raises:
        ArgumentError: E0101, its strides are no multiples of its elements, or it has a mask; E0103, no element type of
            the machine fits its dtype.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentError(
            "E0101",
            "a masked array cannot be passed as a pointer" + f" for {name}" * bool(name),
            note="a kernel would use the elements that its mask leaves out",
            help="pass array.filled(0.0), or array.data where they do not matter",
        )
    dtype = array.dtype
    if dtype not in ARRAY_DTYPES:
        raise unknown_dtype(dtype, name)
    return PointerArgument(array, *reach_of(array), distinct_dtype(dtype))


def reach_of(array: NDArray[Any]) -> tuple[int, int, int, bool]:
    """What a kernel may touch of an array: its pointer's ``address``, ``first_address``, ``bytes`` and ``writable``.

    Raises:
        ArgumentError: E0101, its elements are not a whole number of elements apart, so no pointer reaches them.
    """
    flags = array.flags
    address = host_address(array)
    if flags.c_contiguous or not array.size:
        return address, address, array.nbytes, flags.writeable
    apart = [stride for stride, extent in zip(array.strides, array.shape, strict=True) if extent > 1]
    if any(stride % array.itemsize for stride in apart):
        raise ArgumentError(
            "E0101",
            f"strides of {array.strides} bytes are no multiples of the {array.itemsize}-byte elements of an array",
            note="it is a field of records whose length is no multiple of the field's",
            help="pass a copy: np.ascontiguousarray(array)",
        )
    first, end = byte_bounds(array)
    return address, first, end - first, flags.writeable


def pointer_argument(value: object, name: str = "") -> PointerArgument:
    """Wraps an ndarray, a tensor with ``data_ptr`` (torch, ``triton.reinterpret``) or a DLPack object.

    Raises:
        ArgumentError: E0101, it is none of these, or has no memory of the host's; E0103, its dtype is not known.
    """
    if isinstance(value, PointerArgument):
        return value
    if isinstance(value, np.ndarray):
        return array_argument(cast("NDArray[Any]", value), name)
    if hasattr(value, "data_ptr"):
        return _tensor_argument(value)
    if isinstance(value, DlpackProducer):
        return _dlpack_argument(value)
    raise ArgumentError(
        "E0101", f"a {_type_name(value)} cannot be passed as a pointer" + f" for {name}" * bool(name), help=_HELP
    )


def launch_argument(value: object, name: str = "") -> object:
    """Turns a user's argument into one that Triton's launcher takes; what it takes already stays as it is.

    Arrays become pointers, NumPy scalars Python numbers, tuples are converted item by item.

    Raises:
        ArgumentError: E0101 or E0103, the argument cannot be passed.
    """
    if type(value) in _NO_ARRAYS:
        return value
    if isinstance(value, np.ndarray):
        return array_argument(cast("NDArray[Any]", value), name)
    if isinstance(value, np.generic):
        return _scalar(cast("np.generic[Any]", value), name)
    if isinstance(value, tuple):
        return _converted_tuple(cast("tuple[object, ...]", value), name)
    if not hasattr(value, "data_ptr") and isinstance(value, DlpackProducer):
        return _dlpack_argument(value)
    return value


def unpassable(arguments: Iterable[tuple[str, object]]) -> ArgumentError:
    """The error for a launch whose arguments Triton refused; names the first one that has no place in a kernel."""
    for name, given in arguments:
        value = launch_argument(given, name)
        if value is not None and not isinstance(value, int | float | tuple) and not hasattr(value, "data_ptr"):
            return ArgumentError("E0101", f"the argument {name} is a {_type_name(value)}", help=_HELP)
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return ArgumentError("E0101", f"the argument {name} = {value} does not fit 64 bits", help=_HELP)
    return ArgumentError("E0101", "an argument has a type that cannot be passed", help=_HELP)


def checked_grid(grid: object) -> tuple[int, int, int]:
    """Completes a grid to three extents.

    Raises:
        ArgumentError: E0104, it is not one to three non-negative integers, or their product is too large.
    """
    if type(grid) is tuple and cast("tuple[object, ...]", grid)[1:] in ((), (1, 1)):  # the usual ones, in a hurry
        extent = next(iter(cast("tuple[object, ...]", grid)), None)
        if type(extent) is int and 0 <= extent <= MAXIMUM_PROGRAMS:
            return extent, 1, 1
    try:
        extents = [operator.index(extent) for extent in cast("Iterable[Any]", grid)]
    except TypeError:
        extents = []
    if not 1 <= len(extents) <= 3 or min(extents) < 0:
        raise ArgumentError(
            "E0104",
            f"the grid {grid!r} is not one to three non-negative integers",
            help="kernel[(programs,)](...), or a function of the meta-parameters that returns such a tuple",
        )
    if prod(extents) > MAXIMUM_PROGRAMS:
        raise ArgumentError(
            "E0104",
            f"the grid {grid!r} has {prod(extents):,} programs; a launch has at most {MAXIMUM_PROGRAMS:,}",
            note="the host keeps the trace of every program until the launch is over",
            help="let a program do the work of many: for tile in range(tl.program_id(0), tiles, tl.num_programs(0))",
        )
    x, y, z = (*extents, 1, 1)[:3]
    return x, y, z


# Of these, texts are options of a launch.
_NO_ARRAYS = frozenset({int, float, bool, str, type(None)})
_HELP = "pass NumPy arrays, torch CPU tensors, DLPack arrays, int, float, bool or None; anything else as tl.constexpr"


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def unknown_dtype(dtype: object, name: str = "") -> ArgumentError:
    """The error E0103 for an array, or for the name of a type that one is asked for with; for the caller to raise."""
    known = ", ".join(sorted(_DTYPES_BY_NAME))
    if isinstance(dtype, str):
        close = get_close_matches(dtype, [*_DTYPES_BY_NAME, *_TRITON_NAMES], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "Triton's names do as well, such as fp32"
        return ArgumentError("E0103", f"there is no element type {dtype!r}", note=f"known are {known}", help=hint)
    help = "convert it: array.astype(np.float32)"
    if isinstance(dtype, np.dtype) and cast("np.dtype[Any]", dtype).newbyteorder("=") in ARRAY_DTYPES:
        help = "convert it to the byte order of the host: array.astype(array.dtype.newbyteorder('='))"
    return ArgumentError(
        "E0103", f"the array {name or 'argument'} has the dtype {dtype}", note=f"known are {known}", help=help
    )


def _scalar(value: np.generic[Any], name: str) -> object:
    number = value.item()
    if not isinstance(number, int | float):
        raise ArgumentError("E0101", f"the argument {name} is a {value.dtype} scalar", help=_HELP)
    return number


def _converted_tuple(values: tuple[object, ...], name: str) -> tuple[object, ...]:
    converted = [launch_argument(value, f"{name}[{index}]") for index, value in enumerate(values)]
    # A NamedTuple takes its fields one by one, and the kernel reads them by name.
    make: Any = type(values)
    return make(*converted) if hasattr(values, "_fields") else tuple(converted)


GRANULE_BYTES = 16
"""No allocator of a host gives less: whatever begins at a multiple of it owns all of them."""


@dataclass(slots=True)
class _Rounding:
    granule_bytes: int = 0


_rounding = _Rounding()


def round_small_storages() -> None:
    """Lets kernels touch all ``GRANULE_BYTES`` of a tensor's storage that has fewer, for the rest of the process.

    Allocators of devices round up, and kernels that were only run on those may rely on it. It cannot harm the host.
    """
    _rounding.granule_bytes = GRANULE_BYTES


def _dlpack_argument(value: DlpackProducer) -> PointerArgument:
    try:
        array = np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as problem:
        raise ArgumentError(
            "E0101", f"a {_type_name(value)} could not be read through DLPack", note=str(problem), help=_HELP
        ) from problem
    return array_argument(array)


def _tensor_argument(tensor: Any) -> PointerArgument:
    device = getattr(tensor, "device", "cpu")
    if getattr(device, "type", str(device)) != "cpu":
        raise ArgumentError(
            "E0101", f"a tensor on the device {device} cannot be passed", help="move it to the host: tensor.cpu()"
        )
    dtype = dtype_named(str(tensor.dtype).rpartition(".")[2])
    if dtype is None:
        raise unknown_dtype(tensor.dtype)
    if is_negated(tensor):
        raise ArgumentError(
            "E0101",
            "a tensor that torch negates when it is read cannot be passed",
            note="it has the memory of its base, as the imaginary part of a conjugated one, and a kernel sees no sign",
            help="pass a copy: tensor.resolve_neg()",
        )
    address: int = tensor.data_ptr()
    first, size_bytes = _reach(tensor, address, dtype.itemsize)
    if size_bytes and not first:
        raise ArgumentError(
            "E0101",
            f"a {_type_name(tensor)} without memory cannot be passed",
            note="it stands for a tensor while torch traces a function",
            help="launch in a torch.library.custom_op with a register_fake of its own, or on real tensors",
        )
    return PointerArgument(tensor, address, first, size_bytes, True, distinct_dtype(dtype))


def is_negated(tensor: Any) -> bool:
    """True of a tensor whose memory has the negatives of its elements: torch negates them when it reads them."""
    return hasattr(tensor, "is_neg") and tensor.is_neg()


def reach_of_tensor(tensor: Any) -> tuple[int, int, int, bool]:
    """As ``reach_of``, of a tensor of torch.

    Raises:
        NotImplementedError, RuntimeError: it has no storage.
    """
    return tensor.data_ptr(), *_storage_reach(tensor), True


def _storage_reach(tensor: Any) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    first, size_bytes = storage.data_ptr(), storage.nbytes()
    if 0 < size_bytes < _rounding.granule_bytes and not first % _rounding.granule_bytes:
        return first, _rounding.granule_bytes
    return first, size_bytes


def _reach(tensor: Any, address: int, itemsize: int) -> tuple[int, int]:
    """First address and length of the bytes that a kernel may touch through a tensor.

    A view reaches all of its storage: kernels are passed views with other strides than those that they use.

    Raises:
        ArgumentError: E0101, it does not say.
    """
    if hasattr(tensor, "reach"):  # what is not there, and only described
        return tensor.reach[1:3]
    if hasattr(tensor, "untyped_storage"):
        return _storage_reach(tensor)
    if not (hasattr(tensor, "shape") and hasattr(tensor, "stride")):
        raise ArgumentError(
            "E0101",
            f"a {_type_name(tensor)} tells an address, but not how much memory is there",
            note="kernels may touch nothing but the arrays that they are passed",
            help="give it untyped_storage, or shape and stride, of the tensor that it stands for",
        )
    if not all(tensor.shape):
        return address, 0
    steps = [(extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    lowest, highest = (sum(pick(step, 0) for step in steps) for pick in (min, max))
    return address + lowest * itemsize, (highest - lowest + 1) * itemsize
