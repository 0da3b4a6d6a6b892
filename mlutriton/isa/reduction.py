"""The architectural order of reductions: how many lanes, and what they start from."""

from __future__ import annotations

import math

import numpy as np

from mlutriton.dtypes import F32, DType

REDUCTION_GROUP_BYTES = 128
"""Bytes that a row reduction combines side by side."""


def lanes(width_bytes: int) -> int:
    """Elements of a width that a row reduction combines side by side."""
    return REDUCTION_GROUP_BYTES // width_bytes


_ROUNDING = frozenset({"fadd", "fmul"})


def accumulator_type(name: str, dtype: DType) -> DType:
    """The type in which what was combined so far is kept: f32 for sums and products of narrower floats."""
    return F32 if name in _ROUNDING and dtype.is_float and dtype.bytes < F32.bytes else dtype


def reduction_identity(name: str, dtype: DType) -> int | float:
    """What the lanes of a row reduction hold at the start; combined with x it gives x.

    Raises:
        KeyError: no reduction combines by this operation.
    """
    if dtype.is_float:
        finite = float("nan") if dtype.name == "f8e4m3" else math.inf
        if name in ("fminimum", "fmaximum") and math.isnan(finite):
            finite = float(np.finfo(np.float32).max)
        return {
            "fadd": -0.0,
            "fmul": 1.0,
            "fmin": math.nan,
            "fmax": math.nan,
            "fminimum": finite,
            "fmaximum": -finite,
        }[name]
    all_ones = 1 if dtype.is_bool else -1
    highest = (1 << (dtype.bits - 1)) - 1
    return {
        "add": 0,
        "mul": 1,
        "and": all_ones,
        "or": 0,
        "xor": 0,
        "smin": highest,
        "smax": -highest - 1,
        "umin": -1,
        "umax": 0,
    }[name]
