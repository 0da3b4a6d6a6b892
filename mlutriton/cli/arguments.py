"""Arguments of a launch as they are typed: ``n=98432 scale=0.5 x=x.npy y=random:fp32[98432] out=empty:bf16[64,64]``.

A value is a number, ``True``, ``False``, the path of a ``.npy`` file, or an array that is made: how it is filled, its
element type (Triton's names, or NumPy's) and its shape. NumPy stores element types that it does not know, such as
bf16, as bytes: ``bf16:x.npy`` says what they are.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import ArgumentError
from mlutriton.dtypes import BF16, F8E4B8, F8E4M3, F8E5B16, F8E5M2, F16, F32, F64, I1, I8, I16, I32, I64

Array = NDArray[Any]

_NUMPY_NAMES: dict[str, np.dtype[Any]] = {
    dtype.numpy.name: dtype.numpy
    for dtype in (I1, I8, I16, I32, I64, F16, BF16, F32, F64, F8E5M2, F8E4M3, F8E5B16, F8E4B8)
}
# fmt: off
_TRITON_NAMES: dict[str, np.dtype[Any]] = {
    "i1": I1.numpy, "i8": I8.numpy, "i16": I16.numpy, "i32": I32.numpy, "i64": I64.numpy,
    "fp16": F16.numpy, "bf16": BF16.numpy, "fp32": F32.numpy, "fp64": F64.numpy,
    "fp8e5": F8E5M2.numpy, "fp8e4nv": F8E4M3.numpy, "fp8e5b16": F8E5B16.numpy, "fp8e4b8": F8E4B8.numpy,
}
# fmt: on
_UNSIGNED: dict[str, np.dtype[Any]] = {
    name: np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64) for name in (f"u{bits}", f"uint{bits}")
}
ELEMENT_TYPES = _TRITON_NAMES | _NUMPY_NAMES | _UNSIGNED

Fill = Callable[[tuple[int, ...], np.dtype[Any], np.random.Generator], Array]


def _random(shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator) -> Array:
    """Standard normal numbers; integers of the whole range of the type, booleans evenly."""
    if dtype == np.bool_:
        return generator.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return generator.standard_normal(shape).astype(dtype)


def _range(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    numbers: Array = np.arange(math.prod(shape))
    return numbers.astype(dtype).reshape(shape)


FILLS: dict[str, Fill] = {
    "zeros": lambda shape, dtype, generator: np.zeros(shape, dtype),
    "ones": lambda shape, dtype, generator: np.ones(shape, dtype),
    "random": _random,
    "range": lambda shape, dtype, generator: _range(shape, dtype),
}

_MADE = re.compile(r"(?P<fill>\w+):(?P<type>\w+)\[(?P<shape>[^\]]*)\]")
_STORED = re.compile(r"(?:(?P<type>\w+):)?(?P<path>.*\.npy)")
_HELP = f"write NAME=VALUE: a number, a .npy file, or e.g. random:fp32[1024,64]; it is one of {', '.join(FILLS)}"


def launch_arguments(texts: Iterable[str], seed: int) -> dict[str, Any]:
    """The values of ``NAME=VALUE`` texts, by name.

    Args:
        texts: see the module.
        seed: of random arrays; the same for the same texts.

    Raises:
        ArgumentError: E0101, a text is none of these, or a file is no array.
        OSError: a file cannot be read.
    """
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, said = text.partition("=")
        if not equals or not name or name in values:
            raise ArgumentError(
                "E0101", f"{text!r} is said twice" if name in values else f"{text!r} names no argument", help=_HELP
            )
        values[name] = _value(name, said, generator)
    return values


def _value(name: str, said: str, generator: np.random.Generator) -> Any:
    if made := _MADE.fullmatch(said):
        if made["fill"] not in FILLS:
            raise ArgumentError("E0101", f"{name}={said}: there is no fill {made['fill']}", help=_HELP)
        try:
            shape = tuple(int(extent) for extent in made["shape"].split(",") if extent.strip())
            return FILLS[made["fill"]](shape, element_type(made["type"], name), generator)
        except (ValueError, MemoryError) as error:
            raise ArgumentError("E0101", f"{name}={said} is no array: {error}", help=_HELP) from error
    if stored := _STORED.fullmatch(said):
        return _stored(name, Path(stored["path"]), stored["type"])
    try:
        number = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        number = None
    if not isinstance(number, bool | int | float):
        raise ArgumentError("E0101", f"{name}={said} is neither a number nor an array", help=_HELP)
    return number


def element_type(said: str, name: str) -> np.dtype[Any]:
    """The dtype that a name of Triton's or NumPy's stands for.

    Raises:
        ArgumentError: E0103, none.
    """
    if said not in ELEMENT_TYPES:
        known = ", ".join(ELEMENT_TYPES)
        raise ArgumentError("E0103", f"the array {name} has the element type {said}", note=f"known are {known}")
    return ELEMENT_TYPES[said]


def _stored(name: str, path: Path, type_name: str | None) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError("E0101", f"{name}: {path} is no array file: {error}") from error
    if type_name is None:
        return array
    dtype = element_type(type_name, name)
    if dtype.itemsize != array.itemsize:
        raise ArgumentError(
            "E0101", f"{name}: elements of {path} have {array.itemsize} bytes, those of {type_name} {dtype.itemsize}"
        )
    return array.view(dtype)
