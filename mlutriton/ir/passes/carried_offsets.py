"""Offsets and pointers that loops carry and advance by the same amount each time become functions of the loop's index.

A kernel that moves its pointers on, ``pointers += BLOCK``, then looks like one that computes them from the index, and
what takes several iterations at a time can tell where each is. That is for loops that count from 0 in steps of 1, or in
steps that divide what is added.
"""

from __future__ import annotations

from mlutriton.dtypes import I64
from mlutriton.ir.analysis.access import advances
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Function, Value, replace_uses, use_counts
from mlutriton.ir.ops import AddPtr, Elementwise, For
from mlutriton.ir.passes.canonicalize.arithmetic_rules import constant_of
from mlutriton.ir.passes.carried_values import keep_carried
from mlutriton.ir.types import PointerType


def run(function: Function) -> None:
    """Compute carried places from the index where that is known to be the same."""
    uses = use_counts(function.body)
    for operation in list(function.walk()):
        if isinstance(operation, For):
            _compute(operation, uses)


def _compute(loop: For, uses: dict[Value, int]) -> None:
    step = constant_of(loop.operands[2])
    if constant_of(loop.operands[0]) != 0 or not isinstance(step, int):
        return
    inside = {*loop.body.arguments, *(value for each in loop.body.walk() for value in each.results)}
    scalars = Scalars(loop.location)
    known: dict[Value, Value] = {}
    slots = zip(loop.carried, loop.initial, loop.body.terminator.operands, loop.results, strict=True)
    for carried, initial, yielded, result in slots:
        is_pointer = isinstance(carried.type, PointerType)
        is_place = is_pointer or carried.type == I64
        addends = advances(yielded, carried, loop) if is_place and not uses.get(result) else None
        if addends is None or not inside.isdisjoint(addends):
            continue
        each_time = [_quotient(addend, step, scalars) for addend in addends]
        if None in each_time:
            continue
        advance = scalars.sum([quotient for quotient in each_time if quotient is not None])
        advanced = scalars.binary("mul", loop.index, advance)
        known[carried] = (
            scalars.add(AddPtr([initial, scalars.value(advanced)]))
            if is_pointer
            else scalars.value(scalars.sum([initial, advanced]))
        )
    loop.body.operations[:0] = scalars.operations
    replace_uses(loop.body, known)
    keep_carried(loop, [carried not in known for carried in loop.carried])


def _quotient(value: Value, divisor: int, scalars: Scalars) -> Scalar | None:
    """A number by a divisor, if it is known to be a multiple."""
    constant = constant_of(value)
    if isinstance(constant, int):
        return constant // divisor if constant % divisor == 0 else None
    if divisor == 1:
        return value
    match value.defining_op:
        case Elementwise(name="sext") as cast:
            return _quotient(cast.operands[0], divisor, scalars)
        case Elementwise(name="mul", operands=[factor, other]):
            times = constant_of(other)
            if isinstance(times, int) and times % divisor == 0:
                return scalars.binary("mul", factor, times // divisor)
        case _:
            pass
    return None
