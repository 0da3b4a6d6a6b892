"""Reuse of scalars: an address or limit that two accesses need is computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    While,
    children,
    instructions,
)
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction


def reuse_scalars(code: TileCode) -> None:
    """Drop scalar instructions that compute again what is known where they stand."""
    writes = Counter(w for each in instructions(code.nodes) if (w := each.written_register) is not None)
    reuse = _Reuse(writes)
    reuse.block(code.nodes, {})
    for buffer in code.buffers.values():
        if buffer.extent is not None:
            buffer.extent = replace(
                buffer.extent, register=reuse.same.get(buffer.extent.register, buffer.extent.register)
            )


# What was computed, and the register that has it.
_Known = dict[tuple[object, ...], Register]


class _Reuse:
    def __init__(self, writes: Counter[Register]) -> None:
        self.writes = writes
        self.same: dict[Register, Register] = {}
        self.definitions: dict[Register, Instruction] = {}

    def block(self, nodes: list[Node], known: _Known) -> None:
        """Rewrite nodes where ``known`` is known; what they compute is known to those that follow them."""
        kept: list[Node] = []
        for node in nodes:
            if isinstance(node, Instruction):
                node = self._renamed(node)
                if self._is_new(node, known):
                    kept.append(node)
                continue
            self._rename_ends(node)
            for nested in children(node):
                self.block(nested, known.copy())
            if isinstance(node, Loop | While):
                node.yielded = self._scalars(node.yielded)
            if isinstance(node, While):
                node.condition = self._scalar(node.condition)
            kept.append(node)
        nodes[:] = kept

    def _is_new(self, node: Instruction, known: _Known) -> bool:
        register = node.written_register
        if register is None or node.row.trace or any(node.accesses) or self.writes[register] != 1:
            return True
        key = (node.row.name, node.dtypes, *node.operands[1:])
        found = known.get(key) or self._limited_already(node)
        if found is not None:
            self.same[register] = found
            return False
        known[key] = register
        self.definitions[register] = node
        return True

    def _limited_already(self, node: Instruction) -> Register | None:
        """The operand of a minimum or maximum with a constant, if it is one of the same constant."""
        if node.row.name not in ("smin", "smax"):
            return None
        operand = node.operands[1]
        inner = self.definitions.get(operand) if isinstance(operand, Register) else None
        if inner is not None and isinstance(node.operands[2], Immediate):
            same = inner.row == node.row and inner.dtypes == node.dtypes and inner.operands[2] == node.operands[2]
            return inner.written_register if same else None
        return None

    # ---- renaming ---------------------------------------------------------------------------------------------------

    def _scalar(self, operand: ScalarOperand) -> ScalarOperand:
        return self.same.get(operand, operand) if isinstance(operand, Register) else operand

    def _scalars(self, operands: Sequence[ScalarOperand]) -> list[ScalarOperand]:
        return [self._scalar(operand) for operand in operands]

    def _renamed(self, node: Instruction) -> Instruction:
        if not self.same:
            return node
        return node.taking(self._operand(operand) for operand in node.operands)

    def _operand(self, operand: Operand) -> Operand:
        match operand:
            case Register():
                return self._scalar(operand)
            case Address(register=Register() as register) | GlobalAddress(register=register):
                return replace(operand, register=self._scalar(register))
            case _:
                return operand

    def _rename_ends(self, node: Node) -> None:
        if isinstance(node, Branch):
            node.condition = self._scalar(node.condition)
        if not isinstance(node, Loop | While):
            return
        if isinstance(node, Loop):
            node.start, node.end, node.step = self._scalars((node.start, node.end, node.step))
        node.carried = [(register, self._scalar(initial)) for register, initial in node.carried]
