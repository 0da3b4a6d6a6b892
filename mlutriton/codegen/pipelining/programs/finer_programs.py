"""Programs of large tiles that continue each other, taken in smaller pieces than the kernel has them.

A tile of 64 KB leaves no choice: two phases of it fit, a third of the memory stays empty, the first load and the last
store are long, and cores that get 21 programs wait for those that get 22. Where the tiles of neighbours go on
where the one before ends, along their rows, and rows have nothing to do with each other, a resident task can as well
serve the n-th part of a program at a time. So the loop over programs

    for i: load x(i); compute y(i) from x(i); store y(i)

becomes one over pieces, of which ``parts`` make a program. Addresses and limits are linear in i: they take a part of
their step. Everything else is done by the pipeline, to which these are small tiles of many programs.

A piece is stored before the next ones are loaded, which a program does not do with its tiles. So arrays of the launch
must share no bytes, and what is loaded and stored through one parameter has to be in one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.merged_transfers import LongerDimension, Merging, Step, limiting
from mlutriton.codegen.pipelining.blocks.row_chunks import RowChunks, plan_chunks
from mlutriton.codegen.pipelining.pipeline_plan import Definitions, Plan, buffer_bytes, parameters_of
from mlutriton.codegen.pipelining.pointer_roots import PointerRoots
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import Emitter, Loop, Node, ScalarOperand, TileCode
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

# A piece of the longest tile has about so many bytes: still many a block, and few of them a program.
_PIECE_BYTES = 8192


def plan_pieces(
    code: TileCode, loop: Loop, plan: Plan, machine: Machine, surroundings: Surroundings, roots: PointerRoots
) -> Pieces | None:
    """How a loop over programs becomes one over pieces of them, if it can and that is of use.

    Args:
        code: the kernel.
        loop: over its programs.
        plan: what moves in it.
        machine: decides what is of use.
        surroundings: of the loop.
        roots: of the pointers in the code.

    Returns:
        What is right where the arrays of the launch share no bytes.
    """
    if not loop.independent or loop.line is not None or plan.gathers or loop.carried or not plan.transfers:
        return None
    longest = max(buffer_bytes(code, [node]) for node in plan.transfers)
    if longest < machine.core_dma_latency_bytes:
        return None
    merging = Merging(code, loop, Definitions(loop), plan.buffers, surroundings.linear)
    chunks = plan_chunks(code, loop, plan, merging)
    if chunks is None or chunks.is_within or chunks.numbers:
        return None
    merges = {id(node): merging.longer(node) for node in plan.transfers}
    parts = _parts(chunks, list(merges.values()), longest)
    known = {each: merge for each, merge in merges.items() if merge is not None}
    if parts == 1 or not _is_all(loop, plan) or not _stay_in_place(plan, known, roots):
        return None
    return Pieces(code, loop, plan, chunks, known, merging, parts)


def _parts(chunks: RowChunks, merges: Sequence[LongerDimension | None], longest: int) -> int:
    """How many pieces a program has."""
    extents = [merge.extent for merge in merges if merge is not None]
    if len(extents) < len(merges):
        return 1
    most = math.gcd(chunks.units, *extents)
    parts = 1
    while most % (2 * parts) == 0 and longest > _PIECE_BYTES * parts:
        parts *= 2
    return parts


def _stay_in_place(plan: Plan, merges: Mapping[int, LongerDimension], roots: PointerRoots) -> bool:
    """True if pieces of what is stored through a parameter are those of all else that is accessed through it."""
    accessed: dict[int, set[object]] = {}
    stored: set[int] = set()
    for node in plan.transfers:
        parameters = parameters_of(node, roots)
        if parameters is None or not isinstance(node, Instruction):
            return False
        merge = merges[id(node)]
        slots = [slot for slot in node.row.slot_index if slot.startswith(("global", "before"))]
        place = {slot: operand for slot in slots if (operand := node.operand(slot)) != Immediate(0)}
        address = next(operand for operand, _ in node.accesses if isinstance(operand, GlobalAddress))
        for parameter in parameters:
            known = (address, *place.items(), merge.dimension, merge.extent)
            accessed.setdefault(parameter, set()).add(known)
        stored |= parameters if node.row.trace == "STORE" else set()
    return all(len(accessed[parameter]) == 1 for parameter in stored)


def _is_all(loop: Loop, plan: Plan) -> bool:
    """True if all accesses to global memory are among the transfers that move."""
    moved = {id(node) for node in plan.transfers}
    return all(
        isinstance(node, Instruction)
        and (id(node) in moved or not (node.row.trace or any(isinstance(o, GlobalAddress) for o, _ in node.accesses)))
        for node in loop.body
    )


@dataclass
class Pieces:
    """How a loop over programs becomes one over pieces.

    Attributes:
        code: the kernel.
        loop: over its programs.
        plan: what moves in it.
        chunks: how its arithmetic can be divided.
        merges: by the identity of a transfer, how the tiles of programs continue each other.
        merging: knows steps.
        parts: pieces of a program.
    """

    code: TileCode
    loop: Loop
    plan: Plan
    chunks: RowChunks
    merges: dict[int, LongerDimension]
    merging: Merging
    parts: int

    def rewrite(self) -> list[Node]:
        """Rewrite the loop.

        Returns:
            What has to be computed before it.
        """
        loop, chunks = self.loop, self.chunks
        self.emitter = Emitter(self.code, loop.location)
        before = self.emitter.nodes = list[Node]()
        end = self.emitter.integer("mul", loop.end, Immediate(self.parts), loop.dtype)
        # Scalars of the first program, from which those of a piece go on.
        scalars = [node for node in loop.body if isinstance(node, Instruction) and node.written_register is not None]
        scalars = [node for node in scalars if node.row.queue is Queue.SCALAR]
        first = Renamer(self.code, {loop.index: Immediate(0)}, {})
        self.emitter.nodes += first.nodes(scalars)
        body = self.emitter.nodes = list[Node]()
        piece, program = self.code.register(), loop.index
        self.emitter.emit("udiv", (loop.dtype,), (program, piece, Immediate(self.parts)))
        loads: list[Node] = []
        stores: list[Node] = []
        for node in self.plan.transfers:
            assert isinstance(node, Instruction)
            made = self._piece(node, self.merges[id(node)], piece, first)
            (stores if node.row.trace == "STORE" else loads).append(made)
        units = chunks.units // self.parts
        arithmetic = chunks.instructions(Immediate(units), lambda factor: Immediate(units * factor), {}, {})
        body += [node for node in loop.body if isinstance(node, Instruction) and node.row.queue is Queue.SCALAR]
        body += [*loads, *(node for group in arithmetic for node in group), *stores]
        for name in chunks.unit_bytes:
            self.code.buffers[name].bytes //= self.parts
        loop.body, loop.index, loop.end = body, piece, end
        return before

    def _piece(self, node: Instruction, merge: LongerDimension, piece: Register, first: Renamer) -> Instruction:
        """The transfer of a piece."""
        extent = merge.extent // self.parts
        operands: list[Operand] = list(node.operands)
        for place, operand in enumerate(operands):
            if isinstance(operand, GlobalAddress):
                at = self._linear(operand.register, piece, first)
                assert isinstance(at, Register)
                operands[place] = replace(operand, register=at)
        valid: ScalarOperand = Immediate(extent)
        if merge.rest is not None:
            rest = self._linear(merge.rest, piece, first)
            least = self.emitter.integer("smin", rest, Immediate(extent))
            valid = self.emitter.integer("smax", least, Immediate(0))
        operands[node.row.slot_index[f"n{merge.dimension}"]] = Immediate(extent)
        operands[node.row.slot_index[limiting(node, merge.dimension)]] = valid
        return node.taking(operands)

    def _linear(self, register: Register, piece: Register, first: Renamer) -> ScalarOperand:
        """A number that grows evenly from program to program, for a piece."""
        step = self.merging.step(register)
        assert step is not None
        total = first.operand(register)
        for factor, times in _scaled(step, self.parts).items():
            term: ScalarOperand = self.emitter.integer("mul", piece, Immediate(times))
            for each in factor:
                term = self.emitter.integer("mul", term, each)
            total = self.emitter.integer("add", total, term)
        return total


def _scaled(step: Step, parts: int) -> Step:
    return {registers: factor // parts for registers, factor in step.items()}
