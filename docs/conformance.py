"""Operations of Triton's language on every element type: small kernels, and what NumPy says that they write."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from triton.compiler.errors import CompilationError

import mlutriton as mlu
from mlutriton.frontend.block_pointers import install_block_pointers

Array = NDArray[Any]

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOAT8 = ("float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*INTEGERS, *FLOAT8, *FLOATS)
ALL = ("bool", *NUMBERS)

# What Triton's language calls the types whose name is another one there.
LANGUAGE_NAMES = {
    "bool": "int1",
    "float8_e5m2": "float8e5",
    "float8_e4m3fn": "float8e4nv",
    "float8_e5m2fnuz": "float8e5b16",
    "float8_e4m3fnuz": "float8e4b8",
}

# Of one outcome of a cell; any other is the code of our error.
RIGHT, WRONG, REFUSED = "right", "wrong", "refused by Triton"

_MODULE = """\
import triton
import mlutriton as mlu
import mlutriton.language as tl
from triton.language.extra import libdevice

@mlu.jit
def larger(a, b):
    return tl.maximum(a, b)

@triton.constexpr_function
def format_of(dtype):
    return {"fp8e5": "e5m2", "fp8e4nv": "e4m3"}.get(dtype.name, dtype.name)
"""

_KERNEL = """
@mlu.jit
def kernel_{number}(out, x_pointer, y_pointer, s_pointer, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    x, y, s = tl.load(x_pointer + place), tl.load(y_pointer + place), tl.load(s_pointer + place)
    {body}
    tl.store(out + place, result)
"""


@dataclass(frozen=True)
class Row:
    """An operation, and the element types to try it on.

    Attributes:
        source: an expression of ``x`` (-6 to 6), ``y`` (1 to 6) and ``s`` (-1 to 2, whose sums and products stay
            small), or statements that define ``result``; none of ``x`` and ``s`` is negative in unsigned types.
        expected: the same in NumPy, of arrays of 64 bits.
        dtypes: element types of ``x``, ``y`` and ``s``.
        result: element type of the result, if it is another one.
        name: of statements.
        count: of elements.
    """

    source: str
    expected: Callable[[Array, Array, Array], Array | np.generic | float]
    dtypes: Sequence[str] = NUMBERS
    result: str = ""
    name: str = ""
    count: int = 16

    @property
    def label(self) -> str:
        """What the page calls the row."""
        return self.name or self.source


def _pick(rows: Array, places: Array) -> Array:
    return rows[places % len(rows)]


def _conversion(target: str) -> Row:
    return Row(f"y.to(tl.{LANGUAGE_NAMES.get(target, target)})", lambda x, y, s: y, ALL, target)


def _matrix(values: Array, height: int = 16) -> Array:
    return values.reshape(height, -1)


def _looped(x: Array, y: Array, s: Array) -> Array:
    return x + 3 * s


# fmt: off
AREAS: dict[str, tuple[Row, ...]] = {
    "Memory": (
        Row("tl.load(x_pointer + place)", lambda x, y, s: x, ALL),
        Row("tl.load(x_pointer + place, mask=place < 5, other=1)",
            lambda x, y, s: np.where(np.arange(16) < 5, x, 1), ALL),
        Row("tl.load(x_pointer + place * place % COUNT)", lambda x, y, s: _pick(x, np.arange(16) ** 2), ALL),
        Row(
            "descriptor = tl.make_tensor_descriptor(x_pointer, [7, 16], [16, 1], [8, 16])\n"
            "result = tl.ravel(descriptor.load([0, 0]))",
            lambda x, y, s: np.where(np.arange(128) < 112, x, 0), ALL, name="tl.make_tensor_descriptor", count=128,
        ),
        Row(
            "block = tl.make_block_ptr(x_pointer, (12,), (1,), (0,), (16,), (0,))\n"
            "result = tl.load(tl.advance(block, (4,)), boundary_check=(0,), padding_option='zero')",
            lambda x, y, s: np.where(np.arange(16) < 8, np.roll(x, -4), 0), ALL, name="tl.make_block_ptr",
        ),
        *(
            Row(f"tl.store(out + place, x)\ntl.{name}(out + place, y)\nresult = tl.load(out + place)",
                expected, dtypes, name=f"tl.{name}")
            for name, expected, dtypes in (
                ("atomic_add", lambda x, y, s: x + y, NUMBERS),
                ("atomic_max", lambda x, y, s: np.maximum(x, y), NUMBERS),
                ("atomic_min", lambda x, y, s: np.minimum(x, y), NUMBERS),
                ("atomic_and", lambda x, y, s: x & y, INTEGERS),
                ("atomic_or", lambda x, y, s: x | y, INTEGERS),
                ("atomic_xor", lambda x, y, s: x ^ y, INTEGERS),
                ("atomic_xchg", lambda x, y, s: y, NUMBERS),
            )
        ),
        Row("tl.store(out + place, x)\ntl.atomic_cas(out + place, y, s)\nresult = tl.load(out + place)",
            lambda x, y, s: np.where(x == y, s, x), name="tl.atomic_cas"),
        Row("tl.atomic_load(x_pointer + place)", lambda x, y, s: x),
    ),
    "Arithmetic": (
        Row("x + y", lambda x, y, s: x + y),
        Row("x - y", lambda x, y, s: x - y),
        Row("x * y", lambda x, y, s: x * y),
        Row("x / y", lambda x, y, s: x / y, FLOATS),
        Row("x / y", lambda x, y, s: x / y, INTEGERS, "float32", "x / y, of integers"),
        Row("x // y", lambda x, y, s: np.trunc(x / y), INTEGERS),
        Row("x % y", lambda x, y, s: np.fmod(x, y), (*INTEGERS, *FLOATS)),
        Row("-x", lambda x, y, s: -x),
        Row("x & y", lambda x, y, s: x & y, ("bool", *INTEGERS)),
        Row("x | y", lambda x, y, s: x | y, ("bool", *INTEGERS)),
        Row("x ^ y", lambda x, y, s: x ^ y, ("bool", *INTEGERS)),
        Row("~x", lambda x, y, s: ~x, INTEGERS),
        Row("x << y", lambda x, y, s: x << y, INTEGERS),
        Row("x >> y", lambda x, y, s: x >> y, INTEGERS),
        Row("x < y", lambda x, y, s: x < y, ALL, "bool"),
        Row("x == y", lambda x, y, s: x == y, ALL, "bool"),
        Row("tl.where(x < y, x, s)", lambda x, y, s: np.where(x < y, x, s), ALL),
        Row("tl.abs(x)", lambda x, y, s: abs(x)),
        Row("tl.maximum(x, y)", lambda x, y, s: np.maximum(x, y)),
        Row("tl.minimum(x, y)", lambda x, y, s: np.minimum(x, y)),
        Row("tl.clamp(x, s, y)", lambda x, y, s: np.clip(x, s, y), (*FLOAT8, *FLOATS)),
        Row("tl.fma(x, y, s)", lambda x, y, s: x * y + s, FLOATS),
        Row("tl.cdiv(y, s * s)", lambda x, y, s: -(-y // (s * s)), INTEGERS),
        Row("tl.umulhi(x, y)", lambda x, y, s: 0 * x, ("uint32", "uint64")),
        Row("tl.div_rn(x, y)", lambda x, y, s: x / y, FLOATS),
        Row("tl.map_elementwise(larger, x, y)", lambda x, y, s: np.maximum(x, y)),
    ),
    "Functions": (
        *(
            Row(f"tl.{name}({argument})", lambda x, y, s, of=argument, f=function: f(x if of == "x" else y), FLOATS)
            for name, argument, function in (
                ("exp", "x", np.exp), ("exp2", "x", np.exp2), ("log", "y", np.log), ("log2", "y", np.log2),
                ("sin", "x", np.sin), ("cos", "x", np.cos), ("sqrt", "y", np.sqrt), ("sqrt_rn", "y", np.sqrt),
                ("floor", "x", np.floor), ("ceil", "x", np.ceil),
            )
        ),
        Row("tl.rsqrt(y)", lambda x, y, s: 1 / np.sqrt(y), FLOATS),
        Row("tl.sigmoid(x)", lambda x, y, s: 1 / (1 + np.exp(-x)), FLOATS),
        Row("tl.softmax(x)", lambda x, y, s: np.exp(x) / np.exp(x).sum(), FLOATS),
        Row("libdevice.tanh(x)", lambda x, y, s: np.tanh(x), FLOATS),
        Row("libdevice.pow(y, s)", lambda x, y, s: y**s, FLOATS),
    ),
    "Conversions": tuple(map(_conversion, ALL)),
    "Shapes": (
        Row("tl.ravel(tl.trans(tl.reshape(x, (2, 8))))", lambda x, y, s: _matrix(x, 2).T.ravel(), ALL),
        Row("tl.flip(x)", lambda x, y, s: x[::-1], ALL),
        Row("left, right = tl.split(tl.join(x, y))\nresult = tl.where(place < 5, left, right)",
            lambda x, y, s: np.where(np.arange(16) < 5, x, y), ALL, name="tl.split(tl.join(x, y))"),
        Row("left, right = tl.split(tl.reshape(tl.interleave(x, y), (COUNT, 2)))\nresult = right",
            lambda x, y, s: y, ALL, name="tl.interleave(x, y)"),
        Row("tl.gather(x, (place * 3) % COUNT, 0)", lambda x, y, s: _pick(x, 3 * np.arange(16)), ALL),
    ),
    "Reductions and scans": (
        Row("tl.sum(s)", lambda x, y, s: s.sum()),
        Row("tl.max(x)", lambda x, y, s: x.max()),
        Row("tl.min(x)", lambda x, y, s: x.min()),
        Row("tl.argmax(x, 0)", lambda x, y, s: x.argmax(), result="int32"),
        Row("tl.argmin(x, 0)", lambda x, y, s: x.argmin(), result="int32"),
        Row("tl.xor_sum(x)", lambda x, y, s: np.bitwise_xor.reduce(x), INTEGERS),
        Row("tl.reduce(x, 0, larger)", lambda x, y, s: x.max()),
        Row("tl.cumsum(s)", lambda x, y, s: s.cumsum()),
        Row("tl.cumprod(s)", lambda x, y, s: s.cumprod()),
        Row("tl.associative_scan(x, 0, larger)", lambda x, y, s: np.maximum.accumulate(x)),
        Row("tl.sort(x)", lambda x, y, s: np.sort(x)),
        Row("tl.histogram(y, COUNT)", lambda x, y, s: np.bincount(y, minlength=16), INTEGERS, "int32"),
    ),
    "Products of matrices": (
        Row("tl.ravel(tl.dot(tl.reshape(x, (16, 16)), tl.reshape(y, (16, 16))))",
            lambda x, y, s: (_matrix(x) @ _matrix(y)).ravel(), ("int8", "uint8", *FLOAT8, *FLOATS), "float32",
            "tl.dot", 256),
        Row("one = tl.full((16, 1), 127, tl.uint8)\n"
            "left, right = tl.reshape(x, (16, 32)), tl.reshape(y, (32, 16))\n"
            "matrix = tl.dot_scaled(left, one, format_of(x.dtype), right, one, format_of(x.dtype))\n"
            "result = tl.ravel(tl.join(matrix, matrix))",
            lambda x, y, s: np.repeat((_matrix(x) @ _matrix(y, 32)).ravel(), 2),
            ("float8_e5m2", "float8_e4m3fn", "float16", "bfloat16"), "float32", "tl.dot_scaled", 512),
    ),
    "Control flow": (
        Row("result = x\nfor _ in range(3):\n    result += s", _looped, name="for"),
        Row("result = x\ni = 0\nwhile i < 3:\n    result += s\n    i += 1", _looped, name="while"),
        Row("result = x\nif tl.max(x) > tl.min(y):\n    result = y", lambda x, y, s: y, name="if"),
    ),
}
# fmt: on

ROWS = tuple(row for rows in AREAS.values() for row in rows)


def outcome(row: Row, dtype: str) -> str:
    """What comes of a row on an element type, with the Triton that is installed.

    Returns:
        ``RIGHT``, ``WRONG``, ``REFUSED``, or the code of an error.
    """
    x, y, s = _inputs(dtype, row.count)
    out = np.zeros(row.count, _numpy_type(row.result or dtype))
    wide = np.float64 if dtype in FLOATS + FLOAT8 else np.int64
    expected = np.asarray(row.expected(*(array.astype(wide) for array in (x, y, s)))).astype(out.dtype)
    try:
        getattr(_kernels(), f"kernel_{ROWS.index(row)}")[(1,)](out, x, y, s, row.count)
    except CompilationError:
        return REFUSED
    except mlu.MluError as error:
        return error.code
    tolerance = _tolerance(out.dtype)
    return RIGHT if np.allclose(*(a.astype(np.float64) for a in (out, expected)), tolerance, tolerance) else WRONG


def _tolerance(dtype: np.dtype[Any]) -> float:
    if dtype.name not in FLOATS + FLOAT8:
        return 0
    return float(ml_dtypes.finfo(dtype).eps) * (1 if dtype.name in FLOAT8 else 4)


def _numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _inputs(dtype: str, count: int) -> tuple[Array, Array, Array]:
    place = np.arange(count)
    x, y, s = place * 5 % 13 - 6, place % 6 + 1, np.array([1, -1, 2, -1])[place % 4]
    if dtype == "bool":
        x, s = x % 2, s % 2
    if dtype in UNSIGNED:
        x, s = abs(x), abs(s)
    return x.astype(_numpy_type(dtype)), y.astype(_numpy_type(dtype)), s.astype(_numpy_type(dtype))


@cache
def _kernels() -> ModuleType:
    """A module with the kernel of every row; Triton reads the source of a kernel from its file."""
    install_block_pointers()
    text = _MODULE
    for number, row in enumerate(ROWS):
        body = row.source if row.name and "\n" in row.source else f"result = {row.source}"
        text += _KERNEL.format(number=number, body=body.replace("\n", "\n    "))
    directory = tempfile.TemporaryDirectory()
    path = Path(directory.name, "conformance_kernels.py")
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.__dict__["directory"] = directory  # errors quote the file as long as there are kernels
    return module
