"""Ops of programs that several members run together: each runs the same code, on its part of the tensors."""

# ruff: noqa: D102 - infer_types, check and evaluate are described at Operation.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mlutriton.dtypes import I64
from mlutriton.ir.core import Operation
from mlutriton.ir.types import TensorType, Type, element_type, shape_of


class Member(Operation):
    """The number of the member of the program that runs this, 0 to ``members - 1``."""

    NAME = "member"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"members": int}

    def infer_types(self) -> Sequence[Type]:
        return (I64,)

    def check(self) -> str | None:
        return None if self.integer("members") > 1 else "a program has several members or no need to tell them apart"


class Assemble(Operation):
    """The whole of a tensor of which every member has a part: parts follow each other along ``axis``.

    If ``kept`` is another axis, each member goes on with its part of the whole along that; with all of it if it is -1.
    All members come here together.
    """

    NAME = "assemble"
    OPERANDS = ("part",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int, "kept": int, "members": int}
    PURE = False
    READS = True

    def infer_types(self) -> Sequence[Type]:
        shape = list(shape_of(self.operands[0].type))
        shape[self.integer("axis")] *= self.integer("members")
        if self.integer("kept") >= 0:
            shape[self.integer("kept")] //= self.integer("members")
        return (TensorType(tuple(shape), element_type(self.operands[0].type)),)

    def check(self) -> str | None:
        shape = shape_of(self.operands[0].type)
        axis, kept = self.integer("axis"), self.integer("kept")
        if not 0 <= axis < len(shape):
            return f"axis {axis} is not in 0 to {len(shape) - 1}"
        if kept == axis or kept not in range(-1, len(shape)):
            return f"parts along axis {axis} are not kept along axis {kept}"
        return "members keep equal parts" if kept >= 0 and shape[kept] % self.integer("members") else None


class Order(Operation):
    """Members wait for each other: what any of them did to memory before is done when any goes on.

    With ``unless_disjoint`` there is no need to wait if no two arrays of the launch share bytes.
    """

    NAME = "order"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"unless_disjoint": bool}
    PURE = False


MEMBER_OPS: tuple[type[Operation], ...] = (Member, Assemble, Order)
