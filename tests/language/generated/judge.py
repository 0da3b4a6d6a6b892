"""Triton's language said with NumPy: runs the text of a kernel, program after program, to judge what a machine wrote.

Only what generated kernels use is here. Tensors are arrays that never change; what a mask leaves out of a load without
another value is a number that no kernel expects, and a place outside an array fails.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import patch

import ml_dtypes
import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT32, INT32, converted, is_float, promoted, quotient

OPEN = 77  # where a mask leaves an element out


class Tensor(np.ndarray):
    """An array with Triton's operators; what looks like a change in place makes a new one."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(Tensor)

    def to(self, dtype: np.dtype | PointerType, bitcast: bool = False) -> Tensor | Pointer:
        if isinstance(dtype, PointerType):
            return dtype.at(np.asarray(self))
        dtype = np.dtype(dtype)
        return tensor(np.asarray(self).view(dtype) if bitcast else converted(np.asarray(self), dtype))

    def trans(self, *order: int) -> Tensor:
        return self.transpose(order or None)

    def __getitem__(self, index) -> Tensor:
        return np.asarray(np.asarray(self)[index]).view(Tensor)


def tensor(value, dtype: np.dtype | None = None) -> Tensor:
    return np.asarray(value, dtype).view(Tensor)


def _of_numbers(value) -> np.ndarray:
    """A number of Python is of the narrowest of Triton's types that count."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if isinstance(value, bool):
        return np.asarray(value)
    return np.asarray(value, FLOAT32 if isinstance(value, float) else INT32)


def _met(a, b, divides: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two operands in the type that they are promoted to: a tensor's where the other one is a number of Python."""
    x, y = _of_numbers(a), _of_numbers(b)
    if not isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and (is_float(y.dtype) or not isinstance(a, float)):
        x = x.astype(y.dtype)
    elif (
        not isinstance(b, np.ndarray) and isinstance(a, np.ndarray) and (is_float(x.dtype) or not isinstance(b, float))
    ):
        y = y.astype(x.dtype)
    if x.dtype == y.dtype and not divides:
        return x, y
    x, y = (each.astype(INT32) if each.dtype == np.bool_ else each for each in (x, y))
    dtype = promoted(x.dtype, y.dtype, divides)
    return converted(x, dtype), converted(y, dtype)


def _operator(function: Callable, divides: bool = False) -> Callable:
    return lambda a, b: NotImplemented if isinstance(b, Pointer) else tensor(function(*_met(a, b, divides)))


def _turned(operator: Callable) -> Callable:
    return lambda a, b: operator(b, a)


_OPERATORS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "floordiv": quotient,
    "mod": np.fmod,
    "truediv": np.divide,
}
for _name, _function in _OPERATORS.items():
    _made = _operator(_function, _name == "truediv")
    setattr(Tensor, f"__{_name}__", _made)
    setattr(Tensor, f"__i{_name}__", _made)
    setattr(Tensor, f"__r{_name}__", _turned(_made))
for _name, _function in {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}.items():
    setattr(Tensor, f"__{_name}__", _operator(_function))


class Pointer:
    """Places of elements of an array.

    Attributes:
        seen: called with the array and the places that an access touches.
    """

    seen: ClassVar[Callable[[np.ndarray, np.ndarray], object]] = staticmethod(lambda array, places: None)

    def __init__(self, array: np.ndarray, places) -> None:
        self.array = array
        self.places = np.asarray(places, np.int64)
        self.dtype = SimpleNamespace(element_ty=array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.places.shape

    def __add__(self, distance) -> Pointer:
        return Pointer(self.array, self.places + np.asarray(distance).astype(np.int64))

    __radd__ = __add__

    def __sub__(self, distance) -> Pointer:
        return Pointer(self.array, self.places - np.asarray(distance).astype(np.int64))

    def __getitem__(self, index) -> Pointer:
        return Pointer(self.array, self.places[index])

    def found(self, mask) -> tuple[np.ndarray, np.ndarray]:
        """Places and mask of one shape, of which all that are masked in exist."""
        where = True if mask is None else np.asarray(mask)
        places, where = np.broadcast_arrays(self.places, where)
        assert ((places >= 0) & (places < self.array.size))[where].all(), "a kernel was generated that leaves an array"
        Pointer.seen(self.array, places[where])
        return places, where


class PointerType:
    """The type of pointers to elements of arrays, which are made of addresses."""

    arrays: ClassVar[list[np.ndarray]] = []  # the kernel's

    def __init__(self, element: np.dtype) -> None:
        self.element = element

    def at(self, addresses: np.ndarray) -> Pointer:
        """Pointers to what lies at some addresses, all of one array."""
        for array in self.arrays:
            away = addresses - array.ctypes.data
            if array.dtype == self.element and ((away >= 0) & (away < array.nbytes)).all():
                return Pointer(array, away // array.itemsize)
        raise AssertionError("a kernel was generated that takes a number for an address")


class Descriptor:
    """A view of a base pointer, of which blocks are loaded and stored; what lies outside is zero and is not stored."""

    def __init__(self, base: Pointer, shape, strides, block_shape) -> None:
        self.base, self.shape, self.strides = base, [int(each) for each in shape], [int(each) for each in strides]
        self.block_shape = tuple(block_shape)

    def _block(self, offsets) -> tuple[Pointer, np.ndarray]:
        place, inside = np.zeros(self.block_shape, np.int64), np.ones(self.block_shape, np.bool_)
        for axis, (offset, size, stride) in enumerate(zip(offsets, self.shape, self.strides, strict=True)):
            index = self.index(axis, int(offset))
            place, inside = place + index * stride, inside & (index >= 0) & (index < size)
        return self.base + place, inside

    def index(self, axis: int, offset: int) -> np.ndarray:
        """Positions along an axis, which broadcast over the others."""
        lengths = [-1 if each == axis else 1 for each in range(len(self.block_shape))]
        return (offset + np.arange(self.block_shape[axis])).reshape(lengths)

    def load(self, offsets) -> Tensor:
        pointer, inside = self._block(offsets)
        return load(pointer, inside, 0)

    def store(self, offsets, value) -> None:
        pointer, inside = self._block(offsets)
        store(pointer, value, inside)


class Block:
    """A block pointer: what it points to, some of whose axes end at a tensor's bounds if it is asked for."""

    def __init__(self, base: Pointer, shape, strides, offsets, block_shape, order=None) -> None:
        self.base, self.shape, self.strides, self.block_shape = base, shape, strides, block_shape
        self.offsets = [int(each) for each in offsets]

    def advanced(self, offsets) -> Block:
        moved = [here + int(by) for here, by in zip(self.offsets, offsets, strict=True)]
        return Block(self.base, self.shape, self.strides, moved, self.block_shape)

    def place(self, checked) -> tuple[Pointer, np.ndarray]:
        descriptor = Descriptor(self.base, self.shape, self.strides, self.block_shape)
        pointer, inside = np.zeros(self.block_shape, np.int64), np.ones(self.block_shape, np.bool_)
        for axis, offset in enumerate(self.offsets):
            index = descriptor.index(axis, offset)
            pointer = pointer + index * int(self.strides[axis])
            if axis in checked:
                inside = inside & (index >= 0) & (index < int(self.shape[axis]))
        return self.base + pointer, inside


# ---- memory


def load(pointer, mask=None, other=None, boundary_check=(), padding_option="", **hints) -> Tensor:
    if isinstance(pointer, Block):
        (pointer, mask), other = pointer.place(boundary_check), np.nan if padding_option == "nan" else 0
    places, where = pointer.found(mask)
    dtype = pointer.array.dtype
    rest = np.asarray(OPEN if other is None else other).astype(dtype)
    flat = pointer.array.reshape(-1)
    return tensor(np.where(where, flat[np.where(where, places, 0)], rest))


def store(pointer, value, mask=None, boundary_check=(), **hints) -> None:
    if isinstance(pointer, Block):
        pointer, mask = pointer.place(boundary_check)
    places, where = pointer.found(mask)
    value = converted(_of_numbers(value), pointer.array.dtype)
    pointer.array.reshape(-1)[places[where]] = np.broadcast_to(value, places.shape)[where]


def _atomic(function: Callable) -> Callable:
    def atomic(pointer, value, mask=None, **hints) -> Tensor:
        places, where = pointer.found(mask)
        value, flat = np.broadcast_to(_of_numbers(value), places.shape), pointer.array.reshape(-1)
        before = np.full(places.shape, OPEN, flat.dtype)
        for index in product(*(range(size) for size in places.shape)):
            if where[index]:
                before[index] = flat[places[index]]
                flat[places[index]] = function(before[index], value[index].astype(flat.dtype))
        return tensor(before)

    return atomic


# ---- along axes


def _sum(x, axis=None, keep_dims=False, dtype=None) -> Tensor:
    kind = x.dtype if is_float(x.dtype) or x.dtype.itemsize >= 4 else INT32
    return tensor(np.sum(np.asarray(x), axis, dtype or kind, keepdims=keep_dims))


def _extreme(function: Callable, place: Callable) -> Callable:
    def extreme(x, axis=None, return_indices=False, keep_dims=False, **rest):
        value = tensor(function(np.asarray(x), axis, keepdims=keep_dims))
        if return_indices:
            return value, tensor(place(np.asarray(x), axis, keepdims=keep_dims).astype(INT32))
        return value

    return extreme


def _fold(parts: list, combine: Callable):
    return functools.reduce(combine, parts)


def _taken(x, axis: int, index: int) -> Tensor:
    return tensor(np.take(np.asarray(x), index, axis))


def reduce(x, axis: int, combine: Callable, keep_dims=False):
    """A reduction by a function of the kernel's own, of one tensor or of a tuple."""
    parts = x if isinstance(x, tuple) else (x,)
    total = tuple(_taken(each, axis, 0) for each in parts)
    for index in range(1, parts[0].shape[axis]):
        made = combine(*total, *(_taken(each, axis, index) for each in parts))
        total = made if isinstance(made, tuple) else (made,)
    if keep_dims:
        total = tuple(tensor(np.expand_dims(each, axis)) for each in total)
    return total if isinstance(x, tuple) else total[0]


def associative_scan(x, axis: int, combine: Callable, reverse=False):
    """What a reduction is after each element."""
    parts = x if isinstance(x, tuple) else (x,)
    order = range(parts[0].shape[axis])
    order = list(reversed(order) if reverse else order)
    total = tuple(_taken(each, axis, order[0]) for each in parts)
    found = {order[0]: total}
    for index in order[1:]:
        made = combine(*total, *(_taken(each, axis, index) for each in parts))
        total = made if isinstance(made, tuple) else (made,)
        found[index] = total
    stacked = tuple(tensor(np.stack([found[index][k] for index in sorted(found)], axis)) for k in range(len(parts)))
    return stacked if isinstance(x, tuple) else stacked[0]


def _scan(function: Callable) -> Callable:
    def scan(x, axis=0, reverse=False) -> Tensor:
        array = np.flip(x, axis) if reverse else x
        kind = x.dtype if is_float(x.dtype) or x.dtype.itemsize >= 4 else INT32
        made = function(np.asarray(array), axis, kind)
        return tensor(np.flip(made, axis) if reverse else made)

    return scan


def sort(x, dim=None, descending=False) -> Tensor:
    made = np.sort(np.asarray(x), -1)
    return tensor(made[..., ::-1] if descending else made)


def topk(x, k: int, dim=None) -> Tensor:
    return tensor(np.sort(np.asarray(x), -1)[..., ::-1][..., :k])


def histogram(x, bins: int, mask=None) -> Tensor:
    chosen = np.asarray(x)[np.broadcast_to(True if mask is None else mask, x.shape)]
    return tensor(np.bincount(chosen[(chosen >= 0) & (chosen < bins)], minlength=bins).astype(INT32))


def dot(a, b, acc=None, out_dtype=FLOAT32, **rest) -> Tensor:
    kind = FLOAT32 if is_float(a.dtype) or (a.dtype.itemsize == 1 and a.dtype.kind == "V") else INT32
    made = np.matmul(np.asarray(a).astype(kind), np.asarray(b).astype(kind))
    return tensor(made if acc is None else made + np.asarray(acc))


def where(condition, a, b):
    if isinstance(a, Pointer):
        if a.array is b.array:
            return Pointer(a.array, np.where(condition, a.places, b.places))
        return a if condition else b
    return tensor(np.where(condition, *_met(a, b)))


def _of_float(function: Callable) -> Callable:
    return lambda x: tensor(function(np.asarray(x)))


def _pair(function: Callable) -> Callable:
    return lambda a, b, **rest: tensor(function(*_met(a, b)))


def swizzled(i, j, rows, columns, height):
    """The place of a tile among groups of so many rows, which are taken column by column."""
    number = i * columns + j
    first = number // (height * columns) * height
    of_group, inside = np.fmin(rows - first, height), number % (height * columns)
    return tensor(first + inside % of_group), tensor(inside // of_group)


def _jit(function: Callable | None = None, **options) -> Callable:
    return function if function is not None else lambda each: each


class Language(SimpleNamespace):
    """The name ``tl`` of a kernel that NumPy runs."""

    def __init__(self) -> None:
        types = {f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
        types |= {f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)}
        types |= {"bfloat16": BFLOAT16, "int1": np.dtype(np.bool_), "constexpr": int}
        types |= {"float8e5": np.dtype(ml_dtypes.float8_e5m2), "float8e4nv": np.dtype(ml_dtypes.float8_e4m3fn)}
        axes = {
            "sum": _sum,
            "max": _extreme(np.fmax.reduce, np.argmax),
            "min": _extreme(np.fmin.reduce, np.argmin),
            "xor_sum": lambda x, axis: tensor(np.bitwise_xor.reduce(np.asarray(x), axis)),
            "argmax": lambda x, axis: tensor(np.argmax(np.asarray(x), axis).astype(INT32)),
            "argmin": lambda x, axis: tensor(np.argmin(np.asarray(x), axis).astype(INT32)),
            "cumsum": _scan(np.cumsum),
            "cumprod": _scan(np.cumprod),
            "reduce": reduce,
            "associative_scan": associative_scan,
            "sort": sort,
            "topk": topk,
            "histogram": histogram,
            "gather": lambda x, i, axis: tensor(np.take_along_axis(np.asarray(x), np.asarray(i), axis)),
            "flip": lambda x, dim: tensor(np.flip(np.asarray(x), dim)),
            "dot": dot,
        }
        shapes = {
            "arange": lambda first, end: tensor(np.arange(first, end, dtype=INT32)),
            "zeros": lambda shape, dtype: tensor(np.zeros(shape, dtype)),
            "full": lambda shape, value, dtype: tensor(np.full(shape, value, dtype)),
            "reshape": lambda x, *shape: tensor(np.asarray(x).reshape(*shape)),
            "trans": lambda x, *order: tensor(np.transpose(np.asarray(x), order or None)),
            "permute": lambda x, *order: tensor(np.transpose(np.asarray(x), order)),
            "broadcast_to": lambda x, *shape: tensor(
                np.broadcast_to(np.asarray(x), shape[0] if len(shape) == 1 else shape)
            ),
            "expand_dims": lambda x, axis: tensor(np.expand_dims(np.asarray(x), axis)),
            "join": lambda a, b: tensor(np.stack([np.asarray(a), np.asarray(b)], -1)),
            "split": lambda x: (x[..., 0], x[..., 1]),
            "interleave": lambda a, b: tensor(np.stack([a, b], -1).reshape(*a.shape[:-1], -1)),
            "cat": lambda a, b, can_reorder: tensor(np.concatenate([a, b])),
        }
        functions = {
            "where": where,
            "maximum": _pair(np.fmax),
            "minimum": _pair(np.fmin),
            "clamp": lambda x, low, high: tensor(np.fmin(np.fmax(x, x.dtype.type(low)), x.dtype.type(high))),
            "cdiv": lambda a, b: (a + (b - 1)) // b,
            "swizzle2d": swizzled,
            "exp": _of_float(np.exp),
            "exp2": _of_float(np.exp2),
            "log": _of_float(np.log),
            "sqrt": _of_float(np.sqrt),
            "rsqrt": _of_float(lambda x: FLOAT32.type(1) / np.sqrt(x)),
            "sigmoid": _of_float(lambda x: FLOAT32.type(1) / (FLOAT32.type(1) + np.exp(-x))),
            "abs": _of_float(np.abs),
            "floor": _of_float(np.floor),
            "ceil": _of_float(np.ceil),
        }
        memory = {
            "load": load,
            "store": store,
            "pointer_type": PointerType,
            "make_block_ptr": Block,
            "advance": lambda block, offsets: block.advanced(offsets),
            "make_tensor_descriptor": lambda base, shape, strides, block_shape: Descriptor(
                base, shape, strides, block_shape
            ),
            "debug_barrier": lambda: None,
            "range": lambda *ends, **hints: (tensor(each, INT32) for each in range(*(int(each) for each in ends))),
            "static_range": lambda *ends, **hints: range(*ends),
            "multiple_of": lambda x, value: x,
            "assume": lambda x: None,
        }
        for name, function in {
            "add": np.add,
            "max": np.maximum,
            "min": np.minimum,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "xor": np.bitwise_xor,
            "xchg": lambda before, new: new,
        }.items():
            memory[f"atomic_{name}"] = _atomic(function)
        super().__init__(**types, **axes, **shapes, **functions, **memory)
        self.place, self.grid = (0, 0, 0), (1, 1, 1)

    def program_id(self, axis: int) -> Tensor:
        return tensor(self.place[axis], INT32)

    def num_programs(self, axis: int) -> Tensor:
        return tensor(self.grid[axis], INT32)


Reached = dict[str, list[tuple[tuple[int, int, int], int, int]]]
"""By array: programs, and the first and the last place that an access of theirs touches."""


def reached(text: str, grid: tuple[int, ...], arguments: dict[str, object]) -> Reached:
    """Run a kernel, and tell what its programs touch."""
    names = {id(value): name for name, value in arguments.items()}
    found: Reached = {name: [] for name in names.values()}

    def seen(array: np.ndarray, places: np.ndarray) -> None:
        if places.size:
            found[names[id(array)]].append((language.place, int(places.min()), int(places.max())))

    language = Language()
    with patch.object(Pointer, "seen", staticmethod(seen)):
        run(text, grid, arguments, language)
    return found


def run(text: str, grid: tuple[int, ...], arguments: dict[str, object], language: Language | None = None) -> None:
    """Run the kernel named ``generated`` of a text for every program of a grid; arrays are written in place."""
    language = Language() if language is None else language
    namespace: dict = {
        "tl": language,
        "range": language.range,
        "mlu": SimpleNamespace(jit=_jit),
        "math": math,
        "__name__": "judge",
    }
    exec(compile(text, "<judged>", "exec"), namespace)
    language.grid = (*grid, 1, 1)[:3]
    values = {}
    PointerType.arrays = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            values[name] = Pointer(value, 0)
        else:
            values[name] = value if name.isupper() else tensor(_of_numbers(value))
    with np.errstate(all="ignore"):
        for z, y, x in product(*(range(size) for size in reversed(language.grid))):
            language.place = (x, y, z)
            namespace["generated"](**values)
