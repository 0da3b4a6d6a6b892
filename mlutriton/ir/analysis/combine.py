"""What a reduce or scan combines by: a known operation, found by what the region computes and not by its text.

Two kinds of regions are recognised, both with certainty:

* one commutative operation on the accumulator and the element;
* regions that only compare, select and join truth values. Such a region sees of its inputs only how they are ordered,
so a few pairs in every order (signed, unsigned, with zeros and NaN) stand for all, and evaluating it on them decides
what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlutriton.arithmetic import OPERATIONS, evaluate
from mlutriton.dtypes import DType
from mlutriton.ir.core import Array, Block, Value
from mlutriton.ir.ops import Constant, Elementwise, Reduce, Scan, evaluate_combine

_EXTREMES = ("smax", "smin", "umax", "umin", "fmax", "fmin", "fmaximum", "fminimum")
_ORDERING = frozenset(
    {*_EXTREMES, "and", "or", "xor", "select"} | {name for name, op in OPERATIONS.items() if op.result == "bool"}
)


@dataclass(frozen=True)
class ArgCombine:
    """How a region of (value, index) pairs picks one of two.

    Attributes:
        kind: argmax or argmin.
        unsigned: integers are compared as unsigned.
        ties: of equal values, the pair with the lesser index (signed), or that on one side whatever the indices.
        nan: where a value is NaN (or both), the pair on that side, the pair with the NaN, or that with the number; of
        two NaNs ``ties`` does not tell which. For integers ``right``.
    """

    kind: Literal["argmax", "argmin"]
    unsigned: bool
    ties: Literal["index", "left", "right"]
    nan: Literal["left", "right", "nan", "number"]


def combine_kind(op: Reduce | Scan) -> str | None:
    """The arithmetic operation by which an op of one operand combines, or ``argmax`` or ``argmin`` for one of two.

    Argmax is that of the machine: the first place of the extreme, a NaN counts as such. So it is none if the region
    compares unsigned integers or passes over NaNs. Where its answer depends on the order of combination (``ties`` and
    ``nan`` are sides), which is not defined, it counts as argmax.
    """
    if len(op.operands) == 2:
        arg = arg_combine(op)
        return arg.kind if arg is not None and not arg.unsigned and arg.nan != "number" else None
    if len(op.operands) != 1:
        return None
    region = op.region
    (result,) = region.terminator.operands
    single = result.defining_op
    if isinstance(single, Elementwise) and set(single.operands) == set(region.arguments):
        known = single.arithmetic.commutative and single.arithmetic.result == "same" and len(single.operands) == 2
        if known:
            return single.name
    return _extreme(region) if _only_orders(region) else None


def arg_combine(op: Reduce | Scan) -> ArgCombine | None:
    """How an op of a value and an index picks between two pairs; None if it does anything else."""
    if len(op.operands) != 2 or not _only_orders(op.region):
        return None
    value, index = (_dtype_of(argument) for argument in op.region.arguments[:2])
    if not index.is_int or value.is_bool:
        return None
    # NaNs are out of the question first: these pairs have numbers alone.
    left, right, picked = _picks(op.region, _numbers(value), index)
    if picked is None:
        return None
    signed = [a > b for a, b in zip(left[0].tolist(), right[0].tolist(), strict=True)]
    mask = (1 << value.bits) - 1
    as_unsigned = [_magnitude(a, mask) > _magnitude(b, mask) for a, b in zip(left[0], right[0], strict=True)]
    different = left[0] != right[0]
    for unsigned, greater in ((False, np.asarray(signed)), (True, np.asarray(as_unsigned))):
        for kind, wins in (("argmax", greater), ("argmin", ~greater)):
            if np.array_equal(picked[different], wins[different]):
                ties = _ties(left[1], right[1], picked, ~different)
                nan = _nan_side(op.region, value, index)
                if ties is None or nan is None:
                    return None
                return ArgCombine("argmax" if kind == "argmax" else "argmin", unsigned, ties, nan)
    return None


def _dtype_of(argument: Value) -> DType:
    assert isinstance(argument.type, DType)
    return argument.type


def _only_orders(region: Block) -> bool:
    """Whether comparisons of the accumulator with the element, slot by slot, are all that the results depend on."""
    count = len(region.arguments) // 2
    slots = {argument: i % count for i, argument in enumerate(region.arguments)}
    truths: set[Value] = set()
    for operation in region.operations[:-1]:
        if isinstance(operation, Constant):
            if not _dtype_of(operation.result).is_bool:
                return False
            truths.add(operation.result)
            continue
        if not isinstance(operation, Elementwise) or operation.name not in _ORDERING:
            return False
        operands = operation.operands
        if truths.issuperset(operands):
            truths.add(operation.result)
            continue
        if operation.name == "select":
            if operands[0] not in truths:
                return False
            operands = operands[1:]
        slot = slots.get(operands[0])
        if slot is None or any(slots.get(operand) != slot for operand in operands):
            return False
        if operation.arithmetic.result == "bool":
            truths.add(operation.result)
        elif operation.name in ("and", "or", "xor"):
            return False
        else:
            slots[operation.result] = slot
    return [slots.get(value) for value in region.terminator.operands] == list(range(count))


def _numbers(dtype: DType) -> list[int | float]:
    return [-2.0, -1.0, 0.0, 1.0, 2.0] if dtype.is_float else [-2, -1, 0, 1, 2]


def _pairs(values: Sequence[int | float], dtype: DType) -> tuple[Array, Array]:
    """Every value on the left with every one on the right."""
    array = np.asarray(values, dtype.numpy)
    return np.repeat(array, len(array)), np.tile(array, len(array))


def _extreme(region: Block) -> str | None:
    dtype = _dtype_of(region.arguments[0])
    if dtype.is_bool:
        return None
    special = [-0.0, float("nan"), float("inf"), float("-inf")] if dtype.is_float else []
    left, right = _pairs([*_numbers(dtype), *special], dtype)
    (found,) = evaluate_combine(region, [left, right])
    for name in _EXTREMES:
        if not OPERATIONS[name].accepts(dtype):
            continue
        wanted = evaluate(name, left, right, dtype=dtype)
        both_nan = (found != found) & (wanted != wanted)
        same_bits = found.view(f"u{found.itemsize}") == wanted.view(f"u{found.itemsize}")
        if np.all(same_bits | both_nan):
            return name
    return None


def _picks(
    region: Block, values: Sequence[int | float], index: DType
) -> tuple[tuple[Array, Array], tuple[Array, Array], Array | None]:
    """For all pairs of (value, index): left, right, and where left is picked; None if it is not the pair as a whole."""
    left_value, right_value = _pairs(values, _dtype_of(region.arguments[0]))
    left_index, right_index = _pairs([3, 7], index)
    left = (np.repeat(left_value, len(left_index)), np.tile(left_index, len(left_value)))
    right = (np.repeat(right_value, len(right_index)), np.tile(right_index, len(right_value)))
    # Equal indices on both sides would not tell which was picked.
    told = left[1] != right[1]
    left, right = (left[0][told], left[1][told]), (right[0][told], right[1][told])
    value, at = evaluate_combine(region, [*left, *right])
    picked = at == left[1]
    expected = np.where(picked, left[0], right[0])
    whole = np.all((value == expected) | ((value != value) & (expected != expected)))
    return left, right, picked if whole else None


def _magnitude(value: Array, mask: int) -> int | float:
    number = value.item() if value.dtype.kind == "i" else float(value)
    return number & mask if isinstance(number, int) else number


def _ties(left: Array, right: Array, picked: Array, equal: Array) -> Literal["index", "left", "right"] | None:
    chosen = picked[equal]
    if np.array_equal(chosen, (left < right)[equal]):
        return "index"
    if chosen.all():
        return "left"
    return "right" if not chosen.any() else None


def _nan_side(region: Block, value: DType, index: DType) -> Literal["left", "right", "nan", "number"] | None:
    if not value.is_float:
        return "right"
    left, right, picked = _picks(region, [1.0, float("nan"), float("-inf"), float("inf")], index)
    if picked is None:
        return None
    left_nan, right_nan = left[0] != left[0], right[0] != right[0]
    one = left_nan != right_nan
    either = left_nan | right_nan
    if picked[either].all():
        return "left"
    if not picked[either].any():
        return "right"
    if np.array_equal(picked[one], left_nan[one]):
        return "nan"
    return "number" if np.array_equal(picked[one], right_nan[one]) else None
