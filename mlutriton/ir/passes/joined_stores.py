"""Stores to the same places, one right behind the other, are one where that leaves fewer conditions.

Kernels that fill what a mask chooses store twice:

    tl.store(out + i, x, mask=(i < n) & ~chosen)
    tl.store(out + i, value, mask=(i < n) & chosen)

Neither mask is a box, so each element would be scattered by itself, twice. Together they store all of ``i < n``, once:
what the second does not choose is what the first stores. The same goes for a store that writes over parts of the one
before, or all of it.

Elements that are stored both by one and by the other have to be the same ones: of two places of a tensor that have one
address the later one counts, and not the one of the second store.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.diagnostics import UNKNOWN_LOCATION
from mlutriton.ir.analysis.access import AccessAnalysis, conjuncts
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Constant, Elementwise, Store
from mlutriton.ir.types import shape_of

_OPPOSITES = {"eq": "ne", "ne": "eq", "slt": "sge", "sge": "slt", "sgt": "sle", "sle": "sgt"}


def run(function: Function) -> None:
    """Join stores of tensors."""
    _join(function.body)


def _join(block: Block) -> None:
    joined: list[Operation] = []
    # Where the last store is among them, if nothing behind it has anything to do with memory.
    before: int | None = None
    for operation in block.operations:
        for region in operation.regions:
            _join(region)
        if isinstance(operation, Store) and shape_of(operation.operands[0].type):
            first = joined[before] if before is not None else None
            found = _joined(first, operation) if isinstance(first, Store) else None
            if found is not None and before is not None:
                del joined[before]
                joined += found
            else:
                joined.append(operation)
            before = len(joined) - 1
        else:
            joined.append(operation)
            before = before if operation.PURE else None
    block.operations = joined


def _joined(first: Store, second: Store) -> Sequence[Operation] | None:
    """What does as two stores do; None if masks would become no simpler."""
    if first.operands[0] is not second.operands[0]:
        return None
    pointer, value, mask = second.operands
    _, below, wider = first.operands
    ours, theirs = dict.fromkeys(conjuncts(mask)), dict.fromkeys(conjuncts(wider))
    added = [each for each in ours if each not in theirs]
    dropped = [each for each in theirs if each not in ours]
    code = _Code(second)
    if not added:
        return [Store(second.operands, second.attributes, location=second.location)]
    if not _are_apart(pointer):
        return None
    if not dropped:
        chosen = code.select(code.all(added), value, below)
    elif len(added) == len(dropped) == 1 and _are_opposite(added[0], dropped[0]):
        wider = code.all([each for each in ours if each not in added])
        chosen = code.select(added[0], value, below)
    else:
        return None
    return [*code.operations, Store([pointer, chosen, wider], second.attributes, location=second.location)]


class _Code:
    """Element-wise operations in the place of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.operations: list[Operation] = []

    def all(self, masks: Sequence[Value]) -> Value:
        """Where all of some masks are true."""
        if not masks:
            return self._add(Constant.of(1, self.store.operands[2].type))
        result = masks[0]
        for each in masks[1:]:
            result = self._add(Elementwise.of("and", result, each))
        return result

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        """One value where a mask is true, else the other."""
        return self._add(Elementwise.of("select", mask, a, b))

    def _add(self, operation: Operation) -> Value:
        operation.location = self.store.location
        self.operations.append(operation)
        return operation.result


def _are_apart(pointer: Value) -> bool:
    """True if no two places of a tensor of pointers have the same address, for certain."""
    form = AccessAnalysis().linear(pointer, Scalars(UNKNOWN_LOCATION))
    if form is None:
        return False
    reached = 0
    strides: list[tuple[int, int]] = []
    for term, extent in zip(form.terms, shape_of(pointer.type), strict=True):
        if extent == 1:
            continue
        if term is None or term.wrap or term.repeats > 1 or not isinstance(term.stride, int):
            return False
        strides.append((abs(term.stride), extent))
    for stride, extent in sorted(strides):
        if stride <= reached:
            return False
        reached += stride * (extent - 1)
    return True


def _are_opposite(one: Value, other: Value) -> bool:
    """True if one mask is true just where the other is not."""
    a, b = one.defining_op, other.defining_op
    if not isinstance(a, Elementwise) or not isinstance(b, Elementwise):
        return False
    if _OPPOSITES.get(a.name) == b.name:
        return all(x is y for x, y in zip(a.operands, b.operands, strict=True))
    return any(_is_negated(each, than) for each, than in ((a, other), (b, one)))


def _is_negated(operation: Elementwise, mask: Value) -> bool:
    """True if an operation is the opposite of a mask."""
    if operation.name != "xor" or mask not in operation.operands:
        return False
    others = [each.defining_op for each in operation.operands if each is not mask]
    return any(isinstance(each, Constant) and bool(each.value) for each in others)
