"""Copies of tile code under other registers and, for ping-pong buffers, at other addresses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    Ordering,
    ScalarOperand,
    Sharing,
    TileCode,
    While,
    children,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, GlobalAddress, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE


class Renamer:
    """Copies nodes with fresh result registers, given substitutes, and phase offsets on ping-pong addresses.

    ``phases`` has the register of the phase offset, in bytes, for each buffer that is not to be used in phase 0.
    """

    def __init__(
        self,
        code: TileCode,
        substitutes: dict[Register, ScalarOperand],
        phases: dict[str, Register],
        *,
        keep: bool = False,
    ) -> None:
        self.code = code
        self.substitutes: dict[Register, ScalarOperand] = dict(substitutes)
        self.phases = phases
        self.keep = keep
        self.renamed: set[Register] = set()

    def operand(self, operand: ScalarOperand) -> ScalarOperand:
        """A scalar operand under the renaming."""
        return self.substitutes.get(operand, operand) if isinstance(operand, Register) else operand

    def nodes(self, nodes: Sequence[Node]) -> list[Node]:
        """Copies of nodes, in order."""
        result: list[Node] = []
        for node in nodes:
            match node:
                case Instruction():
                    result += self._instruction(node)
                case While():
                    carried = [(self._define(register), self.operand(initial)) for register, initial in node.carried]
                    head, body = self.nodes(node.head), self.nodes(node.body)
                    yielded = [self.operand(operand) for operand in node.yielded]
                    condition = self.operand(node.condition)
                    result.append(
                        replace(node, condition=condition, carried=carried, head=head, body=body, yielded=yielded)
                    )
                case Loop():
                    ends = [self.operand(operand) for operand in (node.start, node.end, node.step)]
                    carried = [(self._define(register), self.operand(initial)) for register, initial in node.carried]
                    index = self._define(node.index)
                    body = self.nodes(node.body)
                    yielded = [self.operand(operand) for operand in node.yielded]
                    start, end, step = ends
                    result.append(
                        replace(node, index=index, start=start, end=end, step=step, carried=carried, body=body,
                                yielded=yielded)
                    )  # fmt: skip
                case Branch():
                    condition = self.operand(node.condition)
                    then, otherwise = self.nodes(node.then), self.nodes(node.otherwise)
                    result.append(replace(node, condition=condition, then=then, otherwise=otherwise))
                case Sharing():
                    result.append(replace(node, load=self.nodes(node.load), take=self.nodes(node.take)))
                case Ordering():
                    result.append(replace(node))
        return result

    def _define(self, register: Register) -> Register:
        if self.keep:
            return register
        # A register that several paths of a branch set keeps one new name.
        if register not in self.renamed:
            self.renamed.add(register)
            self.substitutes[register] = self.code.register()
        fresh = self.substitutes[register]
        assert isinstance(fresh, Register)
        return fresh

    def _instruction(self, instruction: Instruction) -> list[Node]:
        before: list[Node] = []
        written = instruction.written_register
        operands: list[Operand] = []
        for place, operand in enumerate(instruction.operands):
            match operand:
                case Register() if place == 0 and written is not None:
                    operands.append(operand)  # renamed below, after its old value may have been read
                case Register():
                    operands.append(self.operand(operand))
                case GlobalAddress():
                    register = self._address_register(operand.register, before)
                    operands.append(GlobalAddress(register, operand.offset_bytes))
                case Address():
                    operands.append(self._phased(operand, before))
                case _:
                    operands.append(operand)
        if written is not None:
            operands[0] = self._define(written)
        return [*before, instruction.taking(operands)]

    def _address_register(self, register: Register, before: list[Node]) -> Register:
        operand = self.operand(register)
        if isinstance(operand, Register):
            return operand
        made = self.code.register()
        before.append(Instruction(TABLE["mov"], (I64,), (made, operand)))
        return made

    def _phased(self, address: Address, before: list[Node]) -> Address:
        register = address.register and self._address_register(address.register, before)
        phase = self.phases.get(address.buffer)
        if phase is None:
            return address.counted_from(register)
        if register is None:
            return address.counted_from(phase)
        total = self.code.register()
        self.code.keep_phase(total, phase)
        before.append(Instruction(TABLE["add"], (I64,), (total, register, phase)))
        return address.counted_from(total)


def rename_buffers(nodes: list[Node], names: Mapping[str, str]) -> None:
    """Let nodes use other buffers, by the names of those that they use."""
    for place, node in enumerate(nodes):
        if not isinstance(node, Instruction):
            for nested in children(node):
                rename_buffers(nested, names)
        elif any(isinstance(operand, Address) and operand.buffer in names for operand in node.operands):
            nodes[place] = node.taking(_in_buffer(operand, names) for operand in node.operands)


def _in_buffer(operand: Operand, names: Mapping[str, str]) -> Operand:
    return operand.in_buffer(names.get(operand.buffer, operand.buffer)) if isinstance(operand, Address) else operand


def with_own_buffers(code: TileCode, nodes: Sequence[Node], names: Collection[str]) -> list[Node]:
    """Copies of nodes that use new buffers instead of these."""
    copies = Renamer(code, {}, {}, keep=True).nodes(nodes)
    new: dict[str, str] = {}
    for name in sorted(names):
        new[name] = code.buffer_name(f"{name}.")
        code.buffers[new[name]] = replace(code.buffers[name], name=new[name])
    rename_buffers(copies, new)
    return copies
