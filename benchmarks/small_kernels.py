"""What the average small kernel takes, compiled and run, as in a test suite of thousands of items.

The kernels are as varied as such a suite's: every class of operation of the language, in several element types and
shapes. Each is compiled once, past all caches, and run once, in a process that has compiled others before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from benchmarks.figure import Figure, Measured, Unit
from benchmarks.fresh_process import empty_caches
from benchmarks.stopwatch import duration

_INTEGERS = ("int8", "int32", "uint16", "int64")
_FLOATS = ("float16", "float32", "float64")


@mlu.jit
def _unary(out, x, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    value = tl.load(x + place)
    if OPERATION == "exp":
        result = tl.exp(value)
    elif OPERATION == "log":
        result = tl.log(value)
    elif OPERATION == "sin":
        result = tl.sin(value)
    elif OPERATION == "sqrt":
        result = tl.sqrt(value)
    elif OPERATION == "floor":
        result = tl.floor(value)
    elif OPERATION == "abs":
        result = tl.abs(value)
    elif OPERATION == "sigmoid":
        result = tl.sigmoid(value)
    elif OPERATION == "invert":
        result = ~value
    else:
        result = -value
    tl.store(out + place, result)


@mlu.jit
def _binary(out, x, y, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    left = tl.load(x + place)
    right = tl.load(y + place)
    if OPERATION == "add":
        result = left + right
    elif OPERATION == "multiply":
        result = left * right
    elif OPERATION == "divide":
        result = left / right
    elif OPERATION == "quotient":
        result = left // right
    elif OPERATION == "remainder":
        result = left % right
    elif OPERATION == "less":
        result = left < right
    elif OPERATION == "xor":
        result = left ^ right
    elif OPERATION == "shift":
        result = left << right
    elif OPERATION == "maximum":
        result = tl.maximum(left, right)
    else:
        result = tl.where(left > right, left, right)
    tl.store(out + place, result)


@mlu.jit
def _convert(out, x, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    tl.store(out + place, tl.load(x + place).to(out.dtype.element_ty))


@mlu.jit
def _reduce(out, x, OPERATION: tl.constexpr, AXIS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    value = tl.load(x + row[:, None] * COLUMNS + column[None, :])
    if OPERATION == "sum":
        result = tl.sum(value, AXIS)
    elif OPERATION == "max":
        result = tl.max(value, AXIS)
    else:
        result = tl.argmin(value, AXIS)
    tl.store(out + (column if AXIS == 0 else row), result)


@mlu.jit
def _scan(out, x, OPERATION: tl.constexpr, AXIS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    place = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    value = tl.load(x + place)
    if OPERATION == "cumsum":
        result = tl.cumsum(value, AXIS)
    elif OPERATION == "cumprod":
        result = tl.cumprod(value, AXIS)
    elif OPERATION == "sort":
        result = tl.sort(value, 1)
    else:
        result = tl.flip(value, 1)
    tl.store(out + place, result)


@mlu.jit
def _dot(out, x, y, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TRANSPOSED: tl.constexpr):
    row = tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    left = tl.load(x + row[:, None] * DEPTH + depth[None, :])
    if TRANSPOSED:
        right = tl.trans(tl.load(y + column[:, None] * DEPTH + depth[None, :]))
    else:
        right = tl.load(y + depth[:, None] * COLUMNS + column[None, :])
    product = tl.dot(left, right, input_precision="ieee")
    tl.store(out + row[:, None] * COLUMNS + column[None, :], product)


@mlu.jit
def _masked(out, x, size, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < size
    tl.store(out + place, tl.load(x + place, mask=mask, other=1) * 3, mask=mask)


@mlu.jit
def _shapes(out, x, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    value = tl.load(x + place)
    if OPERATION == "transpose":
        result = tl.ravel(tl.trans(tl.reshape(value, [8, SIZE // 8])))
    elif OPERATION == "permute":
        result = tl.ravel(tl.permute(tl.reshape(value, [4, 2, SIZE // 8]), [2, 0, 1]))
    elif OPERATION == "join":
        result = tl.ravel(tl.join(*tl.split(tl.reshape(value, [SIZE // 2, 2]))))
    elif OPERATION == "gather":
        result = tl.gather(value, (place * 5) % SIZE, 0)
    else:
        result = tl.ravel(tl.broadcast_to(tl.reshape(value, [SIZE, 1]), [SIZE, 4]))
        place = tl.arange(0, SIZE * 4)
    tl.store(out + place, result)


@mlu.jit
def _indexed(out, x, index, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    tl.store(out + place, tl.load(x + tl.load(index + place)))


@mlu.jit
def _atomic(out, x, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    value = tl.load(x + place)
    if OPERATION == "add":
        tl.atomic_add(out + place % 4, value)
    else:
        tl.atomic_max(out + place % 4, value)


@mlu.jit
def _control(out, x, count, OPERATION: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    value = tl.load(x + place)
    if OPERATION == "for":
        for step in range(count):
            value += step * tl.load(x + step * SIZE + place)
    elif OPERATION == "while":
        step = 0
        while step < count:
            value = value * 2 + step
            step += 1
    elif OPERATION == "static":
        for step in tl.static_range(6):
            value = value * 3 + step
    else:
        value = value + 1 if tl.program_id(0) < count else value * 2
    tl.store(out + place, value)


@dataclass(frozen=True)
class _Item:
    """A kernel with its arguments."""

    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]


def _numbers(shape: int | tuple[int, ...], dtype: str) -> Any:
    return (np.random.default_rng(0).uniform(1, 5, shape)).astype(dtype)


def _items() -> Iterator[_Item]:
    for dtype in _FLOATS:
        x = _numbers(512, dtype)
        for name in ("exp", "log", "sin", "sqrt", "floor", "abs", "sigmoid", "negate"):
            if dtype != "float16" or name in ("abs", "negate"):
                yield _Item(_unary, (np.empty_like(x), x), {"OPERATION": name, "SIZE": 512})
        for name in ("add", "multiply", "divide", "less", "maximum", "where"):
            out = np.empty(128, bool) if name == "less" else np.empty(128, dtype)
            yield _Item(_binary, (out, x, x[128:]), {"OPERATION": name, "SIZE": 128})
    for dtype in _INTEGERS:
        x = _numbers(128, dtype)
        yield _Item(_unary, (np.empty_like(x), x), {"OPERATION": "invert", "SIZE": 128})
        for name in ("add", "quotient", "remainder", "xor", "shift", "where"):
            yield _Item(_binary, (np.empty_like(x), x, x), {"OPERATION": name, "SIZE": 128})
        for other in ("float32", "int16"):
            yield _Item(_convert, (np.empty(64, other), x), {"SIZE": 64})
    for dtype in ("int32", "float16", "float32"):
        x = _numbers((32, 64), dtype)
        for axis in (0, 1):
            for name in ("sum", "max", "argmin"):
                out = np.empty(64, "int32" if name == "argmin" else dtype)
                yield _Item(_reduce, (out, x), {"OPERATION": name, "AXIS": axis, "ROWS": 32, "COLUMNS": 64})
        for name in ("cumsum", "flip"):
            yield _Item(_scan, (np.empty_like(x), x), {"OPERATION": name, "AXIS": 0, "ROWS": 32, "COLUMNS": 64})
    x = _numbers((8, 16), "float32")
    for name in ("cumprod", "sort"):
        yield _Item(_scan, (np.empty_like(x), x), {"OPERATION": name, "AXIS": 1, "ROWS": 8, "COLUMNS": 16})
    for dtype, result in (("float16", "float32"), ("float32", "float32"), ("int8", "int32")):
        x, y = _numbers((32, 64), dtype), _numbers((64, 32), dtype)
        for transposed in (False, True):
            sizes = {"ROWS": 32, "COLUMNS": 32, "DEPTH": 64, "TRANSPOSED": transposed}
            yield _Item(_dot, (np.empty((32, 32), result), x, y), sizes)
    for dtype in ("int16", "float32"):
        x = _numbers(256, dtype)
        yield _Item(_masked, (np.empty_like(x), x, 201), {"BLOCK": 256})
        for name in ("transpose", "permute", "join", "gather", "broadcast"):
            yield _Item(_shapes, (np.empty(1024, dtype), x), {"OPERATION": name, "SIZE": 256})
        index = np.random.default_rng(0).integers(0, 256, 256)
        yield _Item(_indexed, (np.empty_like(x), x, index), {"SIZE": 256})
    for dtype in ("int32", "float32"):
        x = _numbers(1024, dtype)
        for name in ("add", "max"):
            yield _Item(_atomic, (np.zeros(4, dtype), x), {"OPERATION": name, "SIZE": 256})
        for name in ("for", "while", "static", "if"):
            yield _Item(_control, (np.empty(256, dtype), x, 3), {"OPERATION": name, "SIZE": 256})


def measure_kernels(quick: bool) -> Measured:
    """Mean over the kernels; a first round compiles what kernels share, and warms the process up."""
    items = list(_items())
    samples: list[list[float]] = [[] for _ in items]
    for repetition in range(2 if quick else 4):
        with empty_caches() as environment, patch.dict(os.environ, {**environment, "TRITON_ALWAYS_COMPILE": "0"}):
            for item, sample in zip(items, samples, strict=True):
                item.kernel.device_caches.clear()
                start = time.perf_counter()
                _ = item.kernel[1,](*item.arguments, **item.constants).cycles
                if repetition:
                    sample.append(time.perf_counter() - start)
    each = [median(sample) for sample in samples]
    slowest = max(range(len(items)), key=each.__getitem__)
    text = f"{len(items)} kernels, slowest {items[slowest].kernel.__name__} {duration(each[slowest])}"
    return Measured(1e3 * sum(each) / len(each), text, {"each_seconds": each})


FIGURES = (
    Figure("compile and run a small kernel, mean", Unit.MILLISECONDS, measure_kernels, goal=60, less_is_better=True),
)
