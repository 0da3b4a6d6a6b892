"""Operations whose order of evaluation is part of the architecture, in NumPy: reductions, scans, matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.arithmetic import evaluate
from mlutriton.dtypes import F32, DType
from mlutriton.isa.reduction import accumulator_type, lanes, reduction_identity
from mlutriton.isa.table import WRAM_PANEL_COLUMNS, WRAM_STRIP_COLUMNS

Array = NDArray[Any]


def reduce(values: Array, name: str, dtype: DType) -> Array:
    """Combine [outer, n, inner] along n.

    Along columns (inner > 1) from the first to the last. Along rows element k goes to lane k % lanes, whose accumulator
    starts from the identity; then halves of the lanes are combined until one is left. Accumulators of sums and products
    are at least f32, and rounded once.
    """
    accumulator = accumulator_type(name, dtype)
    if accumulator is not dtype:
        wide = evaluate("fpcast", values, dtype=dtype, to=accumulator)
        return evaluate("fpcast", _reduce(wide, name, accumulator, lanes(dtype.bytes)), dtype=accumulator, to=dtype)
    return _reduce(values, name, dtype, lanes(dtype.bytes))


def _reduce(values: Array, name: str, dtype: DType, width: int) -> Array:
    outer, n, inner = values.shape
    if inner > 1:
        result = values[:, 0]
        for k in range(1, n):
            result = evaluate(name, result, values[:, k], dtype=dtype)
        return result
    identity = np.asarray(reduction_identity(name, dtype)).astype(dtype.numpy)
    groups = np.full((outer, -(-n // width), width), identity)
    groups.reshape(outer, -1)[:, :n] = values[:, :, 0]
    result = np.full((outer, width), identity)
    for k in range(groups.shape[1]):
        result = evaluate(name, result, groups[:, k], dtype=dtype)
    while width > 1:
        width //= 2
        result = evaluate(name, result[:, :width], result[:, width:], dtype=dtype)
    return result


def scan(values: Array, name: str, dtype: DType, *, from_end: bool) -> Array:
    """Running combination of [outer, n, inner] along n, one element after another; each result is rounded once."""
    accumulator = accumulator_type(name, dtype)
    if accumulator is not dtype:
        wide = evaluate("fpcast", values, dtype=dtype, to=accumulator)
        combined = scan(wide, name, accumulator, from_end=from_end)
        return evaluate("fpcast", combined, dtype=accumulator, to=dtype)
    if from_end:
        values = values[:, ::-1]
    result = values.copy()
    for k in range(1, values.shape[1]):
        result[:, k] = evaluate(name, result[:, k - 1], values[:, k], dtype=dtype)
    return result[:, ::-1] if from_end else result


def place_of_extreme(values: Array, dtype: DType, *, is_max: bool) -> NDArray[np.int64]:
    """First place along n of the extreme of [outer, n, inner]; a NaN is the extreme."""
    if dtype.is_float and dtype.bytes < F32.bytes:
        values = values.astype(np.float32)
    return values.argmax(axis=1) if is_max else values.argmin(axis=1)


def matrix_product(a: Array, w: Array, c: Array) -> Array:
    """``c + a @ w``: one fused multiply-add in f32 for each k in order; integers wrap in i32."""
    if c.dtype == np.int32:
        exact = c.astype(np.int64) + a.astype(np.int64) @ w.astype(np.int64)
        return exact.astype(np.int32)
    a, w = a.astype(np.float32), w.astype(np.float32)
    for k in range(a.shape[1]):
        c = evaluate("fma", a[:, k, None], w[None, k], c, dtype=F32)
    return c


def weight_offsets(depth: int, columns: int, first_column: int = 0) -> NDArray[np.int64]:
    """Element offsets of [depth, columns] in WRAM: ``w[c // 32, k, c % 32]`` with c counted from ``first_column``."""
    column = np.arange(first_column, first_column + columns)
    strip, place = column // WRAM_STRIP_COLUMNS, column % WRAM_STRIP_COLUMNS
    return (strip * depth + np.arange(depth)[:, None]) * WRAM_STRIP_COLUMNS + place


def pad_columns(matrix: Array, first_column: int) -> Array:
    """A matrix with columns of zeros that fill up its last panel."""
    missing = -(first_column + matrix.shape[1]) % WRAM_PANEL_COLUMNS
    return np.concatenate([matrix, np.zeros((matrix.shape[0], missing), matrix.dtype)], axis=1)
