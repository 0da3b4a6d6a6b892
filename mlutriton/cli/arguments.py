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
from mlutriton.frontend.arguments import dtype_named, unknown_dtype

Array = NDArray[Any]

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
_NOT_FINITE = re.compile(r"[+-]?(nan|inf)")
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
        number = float(said) if _NOT_FINITE.fullmatch(said) else ast.literal_eval(said)
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
    dtype = dtype_named(said)
    if dtype is None:
        raise unknown_dtype(said, name)
    return dtype


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
