"""From structured tile code to a program: labels, branches and register moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlutriton.codegen.tile_code import Branch, Loop, Node, Ordering, ScalarOperand, Sharing, TileCode, While
from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I64, DType
from mlutriton.isa.operands import Label, Operand, Register
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program
from mlutriton.isa.table import TABLE


def flatten(
    code: TileCode,
    parameters: Sequence[Parameter],
    buffers: Mapping[str, Buffer],
    isa: int,
    metadata: Mapping[str, object],
    cores_per_program: int,
) -> Program:
    """The finished program."""
    flattener = _Flattener(code)
    flattener.block(code.nodes)
    return Program(
        name=code.name,
        isa=isa,
        parameters=tuple(parameters),
        buffers=buffers,
        instructions=tuple(flattener.instructions),
        labels=flattener.labels,
        register_count=code.register_count,
        strings=tuple(code.strings),
        cores_per_program=cores_per_program,
        local_bytes=code.local_bytes,
        metadata=metadata,
    )


class _Flattener:
    def __init__(self, code: TileCode) -> None:
        self.code = code
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.location: Location = UNKNOWN_LOCATION

    def block(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            match node:
                case Instruction():
                    self.instructions.append(node)
                case Loop():
                    self._loop(node)
                case While():
                    self._while(node)
                case Branch():
                    self._branch(node)
                case Sharing() | Ordering():
                    raise AssertionError(f"{type(node).__name__} has been made of barriers before")

    def _emit(self, name: str, dtypes: tuple[DType, ...], *operands: Operand) -> None:
        self.instructions.append(Instruction(TABLE[name], dtypes, operands, self.location))

    def _label(self, hint: str) -> str:
        return f"{hint}_{len(self.labels)}"

    def _place(self, label: str) -> None:
        self.labels[label] = len(self.instructions)

    def _reserve(self, hint: str) -> str:
        label = self._label(hint)
        self.labels[label] = -1
        return label

    def _assign(self, targets: Sequence[tuple[Register, ScalarOperand]]) -> None:
        """All moves at once: a source that another move overwrites is kept aside first."""
        moves = [(target, source) for target, source in targets if target != source]
        overwritten = {target for target, _ in moves}
        kept: dict[Register, Register] = {}
        for _, source in moves:
            if isinstance(source, Register) and source in overwritten and source not in kept:
                kept[source] = self.code.register()
                self._emit("mov", (I64,), kept[source], source)
        for target, source in moves:
            self._emit("mov", (I64,), target, kept.get(source, source) if isinstance(source, Register) else source)

    def _loop(self, loop: Loop) -> None:
        self.location = loop.location
        body, after = self._reserve("loop"), self._reserve("end")
        condition = self.code.register()
        self._assign([(loop.index, loop.start), *loop.carried])
        self._emit("sge", (loop.dtype,), condition, loop.index, loop.end)
        self._emit("cbr", (), condition, Label(after))
        self._place(body)
        self.block(loop.body)
        self.location = loop.location
        self._assign([(register, y) for (register, _), y in zip(loop.carried, loop.yielded, strict=True)])
        self._emit("add", (loop.dtype,), loop.index, loop.index, loop.step)
        self._emit("slt", (loop.dtype,), condition, loop.index, loop.end)
        self._emit("cbr", (), condition, Label(body))
        self._place(after)

    def _while(self, loop: While) -> None:
        self.location = loop.location
        head, body, after = self._reserve("while"), self._reserve("do"), self._reserve("end")
        self._assign(loop.carried)
        self._place(head)
        self.block(loop.head)
        self.location = loop.location
        self._emit("cbr", (), loop.condition, Label(body))
        self._emit("br", (), Label(after))
        self._place(body)
        self.block(loop.body)
        self.location = loop.location
        self._assign([(register, y) for (register, _), y in zip(loop.carried, loop.yielded, strict=True)])
        self._emit("br", (), Label(head))
        self._place(after)

    def _branch(self, branch: Branch) -> None:
        self.location = branch.location
        then, after = self._reserve("then"), self._reserve("endif")
        self._emit("cbr", (), branch.condition, Label(then))
        self.block(branch.otherwise)
        self.location = branch.location
        self._emit("br", (), Label(after))
        self._place(then)
        self.block(branch.then)
        self._place(after)
