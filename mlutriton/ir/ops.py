"""The op table of the tile IR. Each op is one class; printer, parser, verifier, evaluator and docs derive from it.

Grammar of a program::

    function  := name, block
    block     := arguments, operation*, terminator
    operation := results = name operands {attributes} : result types  regions

Element-wise ops of every scalar and tensor type are one class, :class:`Elementwise`, over the table of
:mod:`mlutriton.arithmetic`.

Masks and ``other`` values of loads are always present: an unmasked load has a mask of constant true.
"""

from __future__ import annotations

from mlutriton.arithmetic import OPERATIONS
from mlutriton.ir.control_ops import (
    CONTROL_OPS,
    Condition,
    For,
    If,
    Return,
    While,
    Yield,
)
from mlutriton.ir.core import Operation
from mlutriton.ir.member_ops import MEMBER_OPS, Assemble, Member, Order
from mlutriton.ir.memory_ops import (
    ATOMIC_KINDS,
    MEMORY_OPS,
    AddPtr,
    ArraysDisjoint,
    Assert,
    AtomicCas,
    AtomicRmw,
    GatherAtomic,
    GatherLoad,
    IntToPtr,
    Load,
    LocalMemory,
    LookUp,
    Print,
    PtrCast,
    PtrToInt,
    ReachableBytes,
    ScatterStore,
    Store,
    TileGeometry,
    TileLoad,
    TileStore,
    pointee,
)
from mlutriton.ir.tensor_ops import (
    PRECISIONS,
    TENSOR_OPS,
    Broadcast,
    Collect,
    Concatenate,
    Constant,
    Dot,
    Elementwise,
    ExpandDims,
    Gather,
    Histogram,
    Join,
    NumPrograms,
    ProgramId,
    Range,
    Reduce,
    Reshape,
    Scan,
    Splat,
    Split,
    Transpose,
    Window,
    evaluate_combine,
    normal_value,
)

OPS: dict[str, type[Operation]] = {op.NAME: op for op in (*TENSOR_OPS, *MEMORY_OPS, *MEMBER_OPS, *CONTROL_OPS)}

assert len(OPS) == sum(map(len, (TENSOR_OPS, MEMORY_OPS, MEMBER_OPS, CONTROL_OPS))), "two ops have one name"
assert OPS.keys().isdisjoint(OPERATIONS), "an op has the name of an arithmetic operation"
assert all(op.__doc__ for op in OPS.values()), "an op is not documented"

__all__ = [
    "ATOMIC_KINDS",
    "OPS",
    "PRECISIONS",
    "AddPtr",
    "ArraysDisjoint",
    "Assemble",
    "Assert",
    "AtomicCas",
    "AtomicRmw",
    "Broadcast",
    "Collect",
    "Concatenate",
    "Condition",
    "Constant",
    "Dot",
    "Elementwise",
    "ExpandDims",
    "For",
    "Gather",
    "GatherAtomic",
    "GatherLoad",
    "Histogram",
    "If",
    "IntToPtr",
    "Join",
    "Load",
    "LocalMemory",
    "LookUp",
    "Member",
    "NumPrograms",
    "Order",
    "Print",
    "ProgramId",
    "PtrCast",
    "PtrToInt",
    "Range",
    "ReachableBytes",
    "Reduce",
    "Reshape",
    "Return",
    "Scan",
    "ScatterStore",
    "Splat",
    "Split",
    "Store",
    "TileGeometry",
    "TileLoad",
    "TileStore",
    "Transpose",
    "While",
    "Window",
    "Yield",
    "evaluate_combine",
    "normal_value",
    "pointee",
]
