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

    All members come here together.
    """

    NAME = "assemble"
    OPERANDS = ("part",)
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"axis": int, "members": int}
    PURE = False
    READS = True

    def infer_types(self) -> Sequence[Type]:
        shape = list(shape_of(self.operands[0].type))
        shape[self.integer("axis")] *= self.integer("members")
        return (TensorType(tuple(shape), element_type(self.operands[0].type)),)

    def check(self) -> str | None:
        rank = len(shape_of(self.operands[0].type))
        axis = self.integer("axis")
        return None if 0 <= axis < rank else f"axis {axis} is not in 0 to {rank - 1}"


class Order(Operation):
    """Members wait for each other: what any of them did to memory before is done when any goes on.

    With ``unless_disjoint`` there is no need to wait if no two arrays of the launch share bytes.
    """

    NAME = "order"
    ATTRIBUTES: ClassVar[Mapping[str, type]] = {"unless_disjoint": bool}
    PURE = False


MEMBER_OPS: tuple[type[Operation], ...] = (Member, Assemble, Order)
