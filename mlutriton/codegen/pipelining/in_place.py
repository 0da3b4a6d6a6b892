"""Buffers of a loop's body that take over the memory of another one, before the loop is pipelined.

What a loop loads and what it stores stands in ping-pong buffers, of which each takes twice its memory. The longer a
burst of transfers is, the less shows its latency, so memory is what limits the rate of a loop that DRAM binds. These
rules save it:

* An element-wise result takes the place of an operand that it is the last to read.
* A tile to be stored takes the place of a loaded one that is dead by then. The IO queue works in order: it stores the
  tile of the iteration before, and then loads that of the next one to the same place.

* Where transfers take longer than arithmetic, a tile that cannot be made in such a place, a transposed one say, is
  copied to it.

Only buffers of one size that each iteration makes anew take part; so every place has one owner at a time, whatever
phase of a ping-pong buffer it becomes. A row that all rows of an iteration share and what each row makes for itself do
not take each other's place, be they of one size: the rows are cut into parts, of which the first alone makes what is
shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlutriton.codegen.pipelining.blocks.row_chunks import rows_that_stay_whole
from mlutriton.codegen.pipelining.blocks.size import arithmetic_cycles, transfer_rate
from mlutriton.codegen.pipelining.pipeline_plan import Plan, buffer_bytes
from mlutriton.codegen.renaming import rename_buffers
from mlutriton.codegen.tile_code import WRITING, Loop, TileCode, buffers_of, instructions, steps
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, Immediate, Mode
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.table import TABLE, Access, SlotKind


def share_buffers(code: TileCode, loop: Loop, plan: Plan, machine: Machine) -> bool:
    """Let buffers of a loop take over others, if what it loads and stores can share memory; True if any did."""
    if not plan.arriving or not plan.stores:
        return False
    sharing = _Sharing(code, loop, plan)
    sharing.take_over_operands()
    sharing.take_over_loaded(buffers_of(plan.stores), buffers_of(plan.arriving))
    copies = _copies(code, loop, plan, sharing, machine)
    for name, host in copies:
        _copy(code, loop, name, host)
    if not sharing.owners:
        return bool(copies)
    rename_buffers(loop.body, {name: sharing.owner(name) for name in sharing.owners})
    for name in sharing.owners:
        del code.buffers[name]
    return True


def _copies(code: TileCode, loop: Loop, plan: Plan, sharing: _Sharing, machine: Machine) -> list[tuple[str, str]]:
    """Tiles to be stored that are to be copied to the place of a loaded one, with that."""
    pairs = sharing.dead_places(buffers_of(plan.stores), buffers_of(plan.arriving))
    pairs = [(name, host) for name, host in pairs if _is_filled(loop, name)]
    copied_bytes = sum(code.buffers[name].bytes for name, _ in pairs)
    moved = {sharing.owner(name) for name in plan.buffers}
    moved_bytes = sum(code.buffers[name].bytes for name in moved)
    # Blocks are of two phases of what is moved; copies leave less to move, but need a place of their own before.
    before = machine.usable_nram_bytes // (2 * moved_bytes)
    after = (machine.usable_nram_bytes - copied_bytes) // (2 * max(1, moved_bytes - copied_bytes))
    transfers = (buffer_bytes(code, plan.arriving) + buffer_bytes(code, plan.stores)) / transfer_rate(machine)
    copying = copied_bytes / machine.vector_bytes_per_cycle + machine.vector_latency_cycles
    return pairs if after > before and arithmetic_cycles(loop.body, machine) + copying < transfers else []


def _is_filled(loop: Loop, name: str) -> bool:
    """True if all of a buffer is made; of programs that go together, there may be fewer than have room."""
    return all(
        isinstance(operand, Immediate)
        for each in instructions(loop.body)
        if name in buffers_of([each], *WRITING)
        for slot, operand in zip(each.row.slots, each.operands, strict=True)
        if slot.kind is SlotKind.COUNT
    )


def _copy(code: TileCode, loop: Loop, name: str, host: str) -> None:
    """Copy a tile to another's place before it is stored, and store it from there."""
    first, store = next(
        (place, each)
        for place, node in enumerate(loop.body)
        for each in instructions([node])
        if each.row.trace and name in buffers_of([each], Access.READ)
    )
    dtype = store.dtypes[0]
    count = code.buffers[name].bytes // dtype.bytes
    operands = (Address(host), Address(name), Immediate(1), Immediate(count))
    after = loop.body[first:]
    rename_buffers(after, {name: host})
    loop.body[first:] = [Instruction(TABLE["v.mov"], (dtype,), operands, store.location), *after]


@dataclass
class _Life:
    """From which to which position of the body a buffer is touched; what is stored or says where to gather, to its end.

    Stores are behind the body, and gathers behind all that makes offsets.
    """

    first: int
    last: int


class _Sharing:
    """Which buffer takes over which.

    Attributes:
        owners: by the name of a buffer that is given up, the one whose memory it takes.
        shared: names of buffers of which all rows of an iteration take the same.
    """

    def __init__(self, code: TileCode, loop: Loop, plan: Plan) -> None:
        self.code = code
        self.owners: dict[str, str] = {}
        self.steps = list(steps(loop.body))
        chains = [[node for node in step if isinstance(node, Instruction)] for step in self.steps]
        self.shared = rows_that_stay_whole(chains, plan.anew)
        self.lives: dict[str, _Life] = {}
        for position, step in enumerate(self.steps):
            for name in buffers_of(step) & plan.anew:
                self.lives.setdefault(name, _Life(position, position)).last = position
        for name in (buffers_of(plan.stores) | buffers_of(plan.gathers, Access.READ)) & plan.anew:
            self.lives[name].last = len(self.steps)

    def take_over_operands(self) -> None:
        """Element-wise results take the place of operands that die there."""
        for position, step in enumerate(self.steps):
            chain = [node for node in step if isinstance(node, Instruction)]
            target = chain[-1].operands[0] if chain and chain[-1].operands else None
            if not all(each.row.is_elementwise or each.row.name == "v.mov" for each in chain) or not chain:
                continue
            if not isinstance(target, Address) or not self._is_born(target, position):
                continue
            width = slot_dtype(chain[-1].row.slots[0], chain[-1].dtypes).bytes
            for source in self._dying(chain, position):
                if source.buffer != target.buffer and self._take(target.buffer, source.buffer, chain, width):
                    break

    def take_over_loaded(self, stored: set[str], loaded: set[str]) -> None:
        """Tiles to be stored take the place of loaded tiles that are dead before they are made."""
        free = sorted(self.owner(name) for name in loaded if name in self.lives)
        for name in sorted(stored):
            owner = self.owner(name)
            if owner not in self.lives or owner in free:
                continue
            for host in free:
                if self._fits(owner, host) and self.lives[host].last < self.lives[owner].first:
                    self._give(owner, host)
                    break

    def dead_places(self, stored: set[str], loaded: set[str]) -> list[tuple[str, str]]:
        """Tiles to be stored that have a place of their own, each with that of a loaded tile that is dead by then."""
        found: list[tuple[str, str]] = []
        free = sorted({self.owner(name) for name in loaded if name in self.lives} - {self.owner(n) for n in stored})
        for name in sorted(stored):
            if name in self.owners or name not in self.lives or name in loaded:
                continue
            for host in free:
                if self._fits(name, host) and self.lives[host].last <= self.lives[name].first:
                    found.append((name, host))
                    free.remove(host)
                    break
        return found

    def owner(self, name: str) -> str:
        """The buffer whose memory a buffer has."""
        while name in self.owners:
            name = self.owners[name]
        return name

    def _is_born(self, target: Address, position: int) -> bool:
        life = self.lives.get(target.buffer)
        return life is not None and life.first == position and target.is_at_begin

    def _dying(self, chain: Sequence[Instruction], position: int) -> Iterator[Address]:
        """Operands of a chain that are read as a whole, element for element, for the last time."""
        for instruction in chain:
            for operand in instruction.operands[1:]:
                if isinstance(operand, Address) and operand.is_at_begin and operand.mode is Mode.FULL:
                    life = self.lives.get(self.owner(operand.buffer))
                    if life is not None and life.last == position:
                        yield operand

    def _take(self, name: str, source: str, chain: Sequence[Instruction], width: int) -> bool:
        """Let a chain's target take over one of its sources, if every read of that source allows it."""
        host = self.owner(source)
        if not self._fits(name, host):
            return False
        for instruction in chain:
            for slot, operand in zip(instruction.row.slots[1:], instruction.operands[1:], strict=True):
                if isinstance(operand, Address) and self.owner(operand.buffer) == host:
                    same_width = slot_dtype(slot, instruction.dtypes).bytes == width
                    if not (same_width and operand.is_at_begin and operand.mode is Mode.FULL):
                        return False
        self._give(name, host)
        return True

    def _fits(self, name: str, host: str) -> bool:
        mine, other = self.code.buffers[name], self.code.buffers[host]
        if (name in self.shared) != (host in self.shared):
            return False
        return name != host and mine.bytes == other.bytes and mine.space == other.space and mine.extent == other.extent

    def _give(self, name: str, host: str) -> None:
        self.owners[name] = host
        self.lives[host].last = max(self.lives[host].last, self.lives.pop(name).last)
