"""Which kernel parameters a pointer may have been made from, and so which accesses may meet in memory."""

from __future__ import annotations

from collections.abc import Iterable

from mlutriton.ir.core import Function, Operation, Value
from mlutriton.ir.memory_ops import (
    AddPtr,
    AtomicCas,
    AtomicRmw,
    GatherAtomic,
    GatherLoad,
    Load,
    LocalMemory,
    PtrCast,
    ScatterStore,
    Store,
    TileLoad,
    TileStore,
)
from mlutriton.ir.ops import Broadcast, Elementwise, ExpandDims, For, If, Reshape, Splat, Transpose, While
from mlutriton.ir.types import PointerType, element_type

Roots = frozenset[Value] | None
"""Parameters; None if an address may come from anywhere."""

_ACCESSES = (TileLoad, TileStore, GatherLoad, ScatterStore, GatherAtomic, Load, Store, AtomicRmw, AtomicCas)


def writes(operation: Operation) -> bool:
    """True if the operation writes global memory."""
    return isinstance(operation, TileStore | ScatterStore | Store | GatherAtomic | AtomicRmw | AtomicCas)


def may_write(operation: Operation) -> bool:
    """True unless all that stands in an operation, itself included, is known to leave global memory as it is."""
    return any(
        writes(each) or not (each.PURE or each.READS or each.TERMINATOR or each.regions) for each in operation.walk()
    )


class Aliasing:
    """Origins of the addresses of a function.

    Attributes:
        written: the parameters through which any operation of the function writes.
    """

    def __init__(self, function: Function) -> None:
        self._parameters = frozenset(function.body.arguments)
        self._sources: dict[Value, list[Value]] = {}
        for operation in function.walk():
            match operation:
                case For():
                    yielded = operation.body.terminator.operands
                    self._flow(operation.carried, operation.initial, yielded)
                    self._flow(operation.results, operation.initial, yielded)
                case While():
                    before, after = operation.regions
                    self._flow(before.arguments, operation.operands, after.terminator.operands)
                    self._flow(after.arguments, before.terminator.operands[1:])
                    self._flow(operation.results, before.terminator.operands[1:])
                case If():
                    for region in operation.regions:
                        self._flow(operation.results, region.terminator.operands)
                case _:
                    pass
        self.written = self._union(operation for operation in function.walk() if writes(operation))

    def _flow(self, targets: list[Value], *sources: list[Value]) -> None:
        for operands in sources:
            for target, operand in zip(targets, operands, strict=True):
                self._sources.setdefault(target, []).append(operand)

    def _union(self, operations: Iterable[Operation]) -> Roots:
        found: set[Value] = set()
        for operation in operations:
            origins = self._origins(operation.operands[0])
            if origins is None:
                return None
            found |= origins
        return frozenset(found & self._parameters)

    def roots(self, operation: Operation) -> Roots:
        """The parameters from which an access gets its address."""
        assert isinstance(operation, _ACCESSES)
        origins = self._origins(operation.operands[0])
        return origins if origins is not None and origins <= self._parameters else None

    def _origins(self, pointer: Value) -> frozenset[Value] | None:
        """The parameters and pointers to local memory from which a pointer is made; None if there may be others."""
        if not isinstance(element_type(pointer.type), PointerType):
            return None
        found: set[Value] = set()
        seen: set[Value] = set()
        pending = [pointer]
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            operation = value.defining_op
            match operation:
                case _ if value in self._parameters or isinstance(operation, LocalMemory):
                    found.add(value)
                case AddPtr() | PtrCast() | Splat() | ExpandDims() | Broadcast() | Reshape() | Transpose():
                    pending.append(operation.operands[0])
                case Elementwise() if operation.name == "select":
                    pending += operation.operands[1:]
                case _ if value in self._sources:
                    pending += self._sources[value]
                case _:
                    return None
        return frozenset(found) or None


def may_meet(a: Roots, b: Roots) -> bool:
    """True if accesses of these origins may touch the same bytes though the launch's arrays are disjoint."""
    return a is None or b is None or not a.isdisjoint(b)


def reads_what_it_writes(function: Function) -> bool:
    """True if anything may be read through a parameter that is written."""
    aliasing = Aliasing(function)
    written = [aliasing.roots(each) for each in function.walk() if writes(each)]
    read = [aliasing.roots(each) for each in function.walk() if isinstance(each, TileLoad | GatherLoad | Load)]
    return any(may_meet(store, load) for store in written for load in read)
