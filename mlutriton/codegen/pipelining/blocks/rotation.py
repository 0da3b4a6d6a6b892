"""Pipelined loops that take several iterations at a time, so that one burst of transfers is long.

A queue can only be waited for as a whole, so each turn of a pipelined loop shows a latency; and a transfer that is
shorter than the latency of the next one does not hide it. So a loop

    for i: load x(i); compute y(i) from x(i); store y(i)

of small tiles becomes

    load block 0 -> phase 0
    for block of U iterations: sync
                               if there is a next one: load its tiles -> other phase
                               if there was one before: store its tiles <- other phase
                               for i of block: compute y(i) from x(i), in members of this phase; swap phases
    sync; store the last block

where evenly spaced short tiles are loaded and stored as one transfer of a dimension more, others one by one. U is what
memory allows, but no more than an eighth of a task's iterations: at both ends of the loop a block stands alone.
Programs of a grid are dealt out in blocks of neighbours.

Short results beyond the first would show a latency in each turn, as only one short transfer hides behind a long one.
Such are collected: several blocks make a group, whose results lie behind each other in one phase, and are stored when
the group is full, while the next one fills the other phase.

Gathers of the next block run with its loads. Their offsets are made right before, from what was loaded a block earlier
still: it lies in the phase of the block that it is for, where that of the block before last has been used up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from mlutriton.codegen.pipelining.blocks.chunk_loop import ChunkLoop
from mlutriton.codegen.pipelining.blocks.extents import BlockExtents
from mlutriton.codegen.pipelining.blocks.merged_transfers import (
    LongerDimension,
    NewDimension,
    joined,
)
from mlutriton.codegen.pipelining.blocks.plan import BlockPlan
from mlutriton.codegen.pipelining.blocks.row_chunks import RowChunks
from mlutriton.codegen.pipelining.blocks.whole_tiles import NONE, Test, Tests, are_whole
from mlutriton.codegen.pipelining.pipeline_plan import Definitions, Plan, free_registers
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.synchronize import ALL_QUEUES
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    LoopEmitter,
    Node,
    Part,
    ScalarOperand,
    TileCode,
    buffers_of,
    instructions,
    sync,
)
from mlutriton.dtypes import I1, I64
from mlutriton.isa.operands import GlobalAddress, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SYNC_COMPUTE, SYNC_MOVE, Queue


def rotate_blocks(code: TileCode, loop: Loop, plan: Plan, blocks: BlockPlan, late: Sequence[Node]) -> list[Node]:
    """The pipelined loop, with these nodes behind the loads of the first block."""
    return _BlockRotation(code, loop, plan, blocks).nodes(late)


@dataclass(frozen=True)
class _Group:
    """The blocks whose short results are stored at once.

    Attributes:
        begin: position at which the group begins that is filled.
        is_full: the block before was the last of its group.
        phase: by part, where the phase of the group begins.
        other: by part, where that of the group before does.
        span: iterations of a group.
    """

    begin: Register
    is_full: Register
    phase: dict[Part, Register]
    other: dict[Part, Register]
    span: ScalarOperand


class _BlockRotation:
    """The parts of a loop over blocks. Positions count iterations, of the loop or of the grid."""

    def __init__(self, code: TileCode, loop: Loop, plan: Plan, blocks: BlockPlan) -> None:
        self.code, self.loop, self.plan, self.blocks = code, loop, plan, blocks
        self.shape = blocks.shape
        self.emitter = LoopEmitter(code, loop)
        self._integer, self._scalar = self.emitter.index_integer, self.emitter.index_scalar
        self.members = {
            name: Part(code.buffers[name].bytes, code.buffers[name].extent, name in blocks.collected)
            for name in sorted(plan.buffers)
        }
        self.sizes = list(dict.fromkeys(self.members.values()))
        self.now, self.other = ({size: code.register() for size in self.sizes} for _ in range(2))
        code.phases |= {phase: phase for phase in (*self.now.values(), *self.other.values())}
        self.collected = [node for node in plan.stores if buffers_of([node]) & blocks.collected]
        self.steps: dict[int, ScalarOperand] = {}
        for name in plan.buffers:
            code.buffers[name].bytes *= self._room(self.members[name])
            code.buffers[name].phases = 2

    def nodes(self, late: Sequence[Node]) -> list[Node]:
        """The loop over blocks with what comes before and behind it."""
        loop = self.loop
        with self.emitter.into([]) as nodes:
            self.extents = BlockExtents(self.emitter, loop, self.shape)
            self._measure_steps()
            position, last, ran = (self.code.register() for _ in range(3))
            group = self._group() if self.collected else None
            nodes += [*self._first(), *late]
            with self.emitter.into([]) as body:
                # What the scalar unit computes for all of a turn, and hands from one to the next, is done by the time
                # that it has waited for the turn before.
                transfers = [
                    *self._store_before(self._one_by_one(self.plan.stores_first), position, ran),
                    *self._next(position),
                    *self._store_before(self._one_by_one(self.plan.stores_last), position, ran),
                    *(self._store_full(group) if group else []),
                ]
                arithmetic = self._compute(position)
                parts = (
                    [*arithmetic, *transfers] if self._is_arithmetic_first(arithmetic) else [*transfers, *arithmetic]
                )
                body += [self._sync(), *parts]
            carried: list[tuple[Register, ScalarOperand, ScalarOperand]] = [
                (ran, Immediate(0), Immediate(1)),
                (last, Immediate(0), position),
            ]
            for size in self.sizes:
                now, other = self.now[size], self.other[size]
                if not size.is_collected:
                    carried += [(now, Immediate(0), other), (other, Immediate(size.bytes * self._room(size)), now)]
            if group:
                with self.emitter.into(body):
                    carried += self._fill(group, position)
            turn = Loop(
                loop.dtype, position, self.extents.first, self.extents.upper, self.extents.block,
                [(register, initial) for register, initial, _ in carried], body,
                [operand for *_, operand in carried], location=loop.location,
            )  # fmt: skip
            nodes.append(turn)
            begin = self.extents.begin(last)
            members = self._integer("sub", self.extents.upper, begin)
            stores = self._store(self._one_by_one(self.plan.stores), ran, begin, members, self.other)
            stores += self._store_rest(group, ran) if group else []
            # Stores stand behind all transfers in a queue that works in order; tables are read at once.
            nodes += [self._sync(ALL_QUEUES if self.plan.recalled else SYNC_COMPUTE | SYNC_MOVE), *stores]
        return nodes

    def _one_by_one(self, stores: Sequence[Node]) -> list[Node]:
        """Those of the stores that are not collected."""
        return [node for node in stores if not any(node is each for each in self.collected)]

    def _room(self, size: Part) -> int:
        """Parts that a phase has room for."""
        return self.shape.capacity * (self.blocks.collected_blocks if size.is_collected else 1)

    def _is_arithmetic_first(self, arithmetic: Sequence[Node]) -> bool:
        """True if the arithmetic is to be handed over before the transfers, which then do not wait for it."""
        queues = {each.row.queue for each in instructions(arithmetic)}
        touches = any(any(each.accesses) for each in instructions(arithmetic) if each.row.queue is Queue.SCALAR)
        return self.shape.arithmetic_first and queues <= {Queue.COMPUTE, Queue.SCALAR} and not touches

    # ---- transfers --------------------------------------------------------------------------------------------------

    def _measure_steps(self) -> None:
        """By how many elements the address of each merged transfer grows from one iteration to the next."""
        if not any(isinstance(merge, NewDimension) for merge in self.blocks.merged.values()):
            return
        places = [self._scalars_of(Immediate(position)) for position in range(2)]
        for node in self.plan.transfers:
            merge = self.blocks.merged.get(id(node))
            if isinstance(merge, NewDimension) and not merge.is_local and isinstance(node, Instruction):
                self.steps[id(node)] = self._elements_between(node, *places)

    def _elements_between(self, node: Instruction, here: Renamer, there: Renamer) -> ScalarOperand:
        """Elements from the place of a transfer in one iteration to that in another."""
        places = (each.operand(_place(node).register) for each in (there, here))
        size = Immediate(node.dtypes[0].bytes)
        return self.emitter.scalar("sdiv", (I64,), self.emitter.scalar("sub", (I64,), *places), size)

    def _first(self) -> list[Node]:
        """What the first block needs, and what the gathers of the second one will."""
        extents, plan = self.extents, self.plan
        members = extents.first_members()
        if not plan.early:
            return [self._arrive(extents.lower, members, {})]
        early = self._if_any(extents.lower, lambda: self._transfer(plan.early, extents.lower, members, {}))
        before = [early, self._sync()]
        following = self._integer("add", extents.first, extents.block)
        phases = {
            size: self.emitter.scalar("mov", (I64,), Immediate(size.bytes * self._room(size))) for size in self.sizes
        }
        self.code.phases |= {phase: phase for phase in phases.values()}
        return [*before, self._arrive(extents.lower, members, {}), self._early(following, phases)]

    def _next(self, position: Register) -> list[Node]:
        """What the next block needs, and what the gathers of the one after that will."""
        following = self._integer("add", position, self.extents.block)
        arrive = self._arrive(following, self.extents.members(following), self.other)
        if not self.plan.early:
            return [arrive]
        return [arrive, self._early(self._integer("add", following, self.extents.block), self.now)]

    def _arrive(self, begin: ScalarOperand, members: ScalarOperand, phases: dict[Part, Register]) -> Node:
        """The gathers and loads of a block, if there is one."""

        def transfers() -> None:
            if self.blocks.offsets is not None:
                self._make_offsets(self.blocks.offsets, members, phases)
            elif self.plan.offsets:
                self.emitter.nodes.append(self._each(self.plan.offsets, begin, members, phases))
            self._transfer([*self.plan.gathers, *self.plan.loads], begin, members, phases)

        return self._if_any(begin, transfers)

    def _early(self, begin: ScalarOperand, phases: dict[Part, Register]) -> Node:
        """The loads that the gathers of a block need, if there is one."""
        members = self.extents.members(begin)
        return self._if_any(begin, lambda: self._transfer(self.plan.early, begin, members, phases))

    def _make_offsets(self, chunks: RowChunks, members: ScalarOperand, phases: dict[Part, Register]) -> None:
        """The arithmetic that makes the offsets of a block's gathers, for all of them at once."""
        places = {name: (name, phase) for name, phase in self._phases(phases).items()}
        units = self._integer("mul", members, Immediate(chunks.units))

        def scale(factor: int) -> ScalarOperand:
            return self._integer("mul", units, Immediate(factor))

        self.emitter.nodes += chain.from_iterable(chunks.instructions(units, scale, places, {}))

    def _if_any(self, begin: ScalarOperand, emit: Callable[[], None]) -> Node:
        """What is emitted for a block, if there is one."""
        exists = self._scalar("slt", begin, self.extents.upper)
        with self.emitter.into([]) as nodes:
            emit()
        return Branch(exists, nodes, location=self.loop.location)

    def _store_before(self, stores: Sequence[Node], position: Register, ran: Register) -> list[Node]:
        if not stores:
            return []
        begin = self.extents.begin(self._integer("sub", position, self.extents.block))
        return self._store(stores, ran, begin, self._integer("sub", position, begin), self.other)

    def _store(
        self,
        stores: Sequence[Node],
        ran: Register,
        begin: ScalarOperand,
        members: ScalarOperand,
        phases: dict[Part, Register],
    ) -> list[Node]:
        """Stores of a block, if it ran."""
        if not stores:
            return []
        with self.emitter.into([]) as nodes:
            self._transfer(stores, begin, members, phases)
        return [Branch(ran, nodes, location=self.loop.location)]

    def _transfer(
        self, transfers: Sequence[Node], position: ScalarOperand, members: ScalarOperand, phases: dict[Part, Register]
    ) -> None:
        """The transfers of a block, merged or one by one; where it lies on several lines of the grid, line by line."""
        line = self.loop.line
        if line is None or not any(id(node) in self.blocks.merged for node in transfers):
            self._transfer_line(transfers, position, members, phases)
            return
        end, number = self._integer("add", position, members), self.code.register()
        with self.emitter.into([]) as nodes:
            line_begin = self._integer("mul", number, line)
            begin = self._integer("smax", position, line_begin)
            on_line = self._integer("sub", self._integer("smin", end, self._integer("add", line_begin, line)), begin)
            before, places = self._integer("sub", begin, position), dict[Part, Register]()
            for size in self.sizes:
                places[size] = self._scalar("mul", size.size(self.emitter), before)
                if size in phases:
                    places[size] = self._scalar("add", places[size], phases[size])
                    self.code.keep_phase(places[size], phases[size])
            self._transfer_line(transfers, begin, on_line, places)
        first = self._scalar("udiv", position, line)
        # A task without programs has no block in any line, be it the first task or one behind it.
        behind = self._integer("add", end, self._integer("sub", line, Immediate(1)))
        end_line = self._scalar("udiv", behind, line)
        lines = Loop(
            self.loop.dtype, number, first, end_line, Immediate(1), [], nodes, location=self.loop.location
        )  # fmt: skip
        self.emitter.nodes.append(lines)

    def _transfer_line(
        self, transfers: Sequence[Node], position: ScalarOperand, members: ScalarOperand, phases: dict[Part, Register]
    ) -> None:
        """The transfers of neighbours in a block, merged or one by one."""
        nodes = self.emitter.nodes
        at_block = self._scalars_of(position, phases)
        if any(id(node) in self.blocks.merged for node in transfers):
            nodes += at_block.nodes(self.plan.serves)
        # Stores keep their order.
        loads_first = sorted(transfers, key=lambda node: not self.plan.looks_up(node) or self._is_store(node))
        for (looks_up, is_cut), together in groupby(loads_first, self._how):
            group = [*together]
            if looks_up:
                looking_up = self.plan.recalled if self._is_store(group[0]) else self.plan.lookups
                nodes.append(self._each([*looking_up, *group], position, members, phases))
            elif is_cut:
                cut = [node for node in group if isinstance(node, Instruction)]
                nodes.append(self._of_whole_tiles(cut, position, members, phases, at_block))
            else:
                for node in group:
                    if isinstance(node, Instruction) and id(node) in self.blocks.merged:
                        nodes += at_block.nodes([self._merged(node, members, at_block)])
                    else:
                        nodes.append(self._each([node], position, members, phases))

    def _how(self, node: Node) -> tuple[bool, bool]:
        """Whether a transfer needs what is looked up, and whether masks may cut some of its tiles."""
        return self.plan.looks_up(node), bool(self._tests(node))

    def _is_store(self, node: Node) -> bool:
        return any(node is each for each in self.plan.stores)

    def _tests(self, node: Node) -> Tests:
        """What has to hold for the tiles of a transfer to be whole, and go together."""
        merge = self.blocks.merged.get(id(node))
        return merge.whole if isinstance(merge, NewDimension) else NONE

    def _of_whole_tiles(
        self,
        transfers: Sequence[Instruction],
        position: ScalarOperand,
        members: ScalarOperand,
        phases: dict[Part, Register],
        at_block: Renamer,
    ) -> Branch:
        """Transfers of a block of which masks may cut tiles: those of whole tiles go together."""
        tests = list(dict.fromkeys(test for node in transfers for test in sorted(self._tests(node), key=str)))
        whole = self._are_whole(tests, position, members)
        together = at_block.nodes([self._merged(node, members, at_block) for node in transfers])
        with self.emitter.into([]) as otherwise:
            otherwise.append(self._in_pieces(transfers, tests, position, members, phases))
        return Branch(whole, together, otherwise, location=self.loop.location)

    def _in_pieces(
        self,
        transfers: Sequence[Instruction],
        tests: Sequence[Test],
        position: ScalarOperand,
        members: ScalarOperand,
        phases: dict[Part, Register],
    ) -> Loop:
        """Transfers of a block of which masks cut some tiles, a piece at a time.

        These are three if none is cut but the first or the last, as at the edges of an array; else each tile is one.
        """
        integer, one = self._integer, Immediate(1)
        inner, rest = integer("add", position, one), integer("sub", members, Immediate(2))
        is_inner_whole = self._are_whole(tests, inner, rest)
        are_three = self._scalar("sgt", rest, Immediate(0))
        but_ends = self.emitter.scalar("and", (I1,), is_inner_whole, are_three)
        pieces = self._scalar("select", but_ends, Immediate(3), members)
        piece, begin = self.code.register(), self.code.register()
        names = buffers_of(transfers) & self.plan.buffers
        sizes = [size for size in self.sizes if size in {self.members[name] for name in names}]
        places = {size: self.code.register() for size in sizes}
        for size in sizes:
            self.code.keep_phase(places[size], phases.get(size, Immediate(0)))
        with self.emitter.into([]) as nodes:
            is_second = self._scalar("eq", piece, one)
            is_middle = self.emitter.scalar("and", (I1,), but_ends, is_second)
            count = self._scalar("select", is_middle, rest, one)
            at_piece = self._scalars_of(begin, places)
            nodes += at_piece.nodes(self.plan.serves)
            nodes += at_piece.nodes([self._merged(node, count, at_piece) for node in transfers])
            steps = [self._scalar("mul", size.size(self.emitter), count) for size in sizes]
            behind = [integer("add", places[size], step) for size, step in zip(sizes, steps, strict=True)]
            yielded = [integer("add", begin, count), *behind]
        carried: list[tuple[Register, ScalarOperand]] = [(begin, position)]
        carried += [(places[size], phases.get(size, Immediate(0))) for size in sizes]
        return Loop(
            self.loop.dtype, piece, Immediate(0), pieces, one, carried, nodes, yielded, location=self.loop.location
        )

    def _are_whole(self, tests: Sequence[Test], position: ScalarOperand, members: ScalarOperand) -> ScalarOperand:
        """Whether masks leave the same of all tiles of a block: so it is if that can be told of the first and last."""
        last = self._integer("sub", self._integer("add", position, members), Immediate(1))
        return are_whole(self.emitter, tests, [self._scalars_of(place) for place in (position, last)])

    def _merged(self, node: Instruction, members: ScalarOperand, at_block: Renamer) -> Instruction:
        """A transfer for all members of a block, to be renamed as one of the first of them."""
        merge = self.blocks.merged[id(node)]
        rest = at_block.operand(merge.rest) if isinstance(merge, LongerDimension) and merge.rest is not None else None
        tile_bytes = {name: part.bytes for name, part in self.members.items()}
        step = self.steps.get(id(node))
        if isinstance(merge, NewDimension) and merge.is_local:
            following = self._integer("add", at_block.operand(self.loop.index), self.extents.step)
            step = self._elements_between(node, at_block, self._scalars_at(following))
        return joined(self.emitter, node, merge, members, tile_bytes, step, rest)

    def _each(
        self, nodes: Sequence[Node], position: ScalarOperand, members: ScalarOperand, phases: dict[Part, Register]
    ) -> Loop:
        names = buffers_of(nodes)
        sizes = [size for size in self.sizes if size in {self.members[name] for name in names & self.plan.buffers}]
        index = self.code.register()

        def body(places: dict[Part, Register]) -> list[Node]:
            renamer = Renamer(self.code, {self.loop.index: index}, self._phases(places))
            return renamer.nodes([*self.blocks.scalars, *self.plan.serves, *nodes])

        starts = {size: phases.get(size, Immediate(0)) for size in sizes}
        return self._for_members(index, position, members, starts, body)

    # ---- results that are collected ---------------------------------------------------------------------------------

    def _group(self) -> _Group:
        parts = [size for size in self.sizes if size.is_collected]
        span = self._integer("mul", self.extents.block, Immediate(self.blocks.collected_blocks))
        phase, other = {part: self.code.register() for part in parts}, {part: self.other[part] for part in parts}
        return _Group(self.code.register(), self.code.register(), phase, other, span)

    def _store_full(self, group: _Group) -> list[Node]:
        """Stores of the group that the block before has filled, if it has."""
        begin = self._first_of_full(group)
        members = self._integer("sub", group.begin, begin)
        return self._store(self.collected, group.is_full, begin, members, group.other)

    def _fill(self, group: _Group, position: Register) -> list[tuple[Register, ScalarOperand, ScalarOperand]]:
        """What the loop carries for a group: registers, what they are at first, and what at the end of a turn."""
        integer, scalar = self.emitter.integer, self.emitter.scalar
        following = self._integer("add", position, self.extents.block)
        filled = self._integer("sub", following, group.begin)
        is_full = scalar("sge", (self.loop.dtype,), filled, group.span)
        carried: list[tuple[Register, ScalarOperand, ScalarOperand]] = [
            (group.begin, self.extents.first, self._scalar("select", is_full, following, group.begin)),
            (group.is_full, Immediate(0), is_full),
        ]
        end = self._integer("smin", following, self.extents.upper)
        members = self._integer("sub", end, self.extents.begin(position))
        for part, phase in group.phase.items():
            other, now = group.other[part], self.now[part]
            behind = integer("add", now, integer("mul", part.size(self.emitter), members))
            second = Immediate(part.bytes * self._room(part))
            carried += [
                (phase, Immediate(0), scalar("select", (I64,), is_full, other, phase)),
                (other, second, scalar("select", (I64,), is_full, phase, other)),
                (now, Immediate(0), scalar("select", (I64,), is_full, other, behind)),
            ]
        return carried

    def _store_rest(self, group: _Group, ran: Register) -> list[Node]:
        """Stores of the last group, which may be the one that the last block has filled."""
        scalar, is_full = self.emitter.scalar, group.is_full
        begin = self._scalar("select", is_full, self._first_of_full(group), self.extents.begin(group.begin))
        phases = {
            part: scalar("select", (I64,), is_full, group.other[part], phase) for part, phase in group.phase.items()
        }
        self.code.phases |= {phase: phase for phase in phases.values()}
        return self._store(self.collected, ran, begin, self._integer("sub", self.extents.upper, begin), phases)

    def _first_of_full(self, group: _Group) -> ScalarOperand:
        """The first iteration of the group before."""
        return self.extents.begin(self._integer("sub", group.begin, group.span))

    # ---- arithmetic -------------------------------------------------------------------------------------------------

    def _compute(self, position: Register) -> list[Node]:
        """All that is not moved, for the members of the block."""
        begin = self.extents.begin(position)
        end = self._integer("smin", self._integer("add", position, self.extents.block), self.extents.upper)
        members = self._integer("sub", end, begin)
        if self.shape.chunks is not None and self.shape.chunks.is_within:
            within = self.shape.chunks

            def halves(places: dict[Part, Register]) -> list[Node]:
                with self.emitter.into([]) as nodes:
                    phases = self._phases(places)
                    ChunkLoop(self.emitter, within, within.units, phases).halves_of_one()
                return nodes

            return [self._for_members(self.loop.index, begin, members, self.now, halves)]
        if self.shape.chunks is not None:
            of_begin = self._scalars_of(begin)
            numbers = {each.register: of_begin.operand(each.register) for each in self.shape.chunks.numbers}
            phases, units = self._phases(self.now), self.shape.chunk_units
            chunks = ChunkLoop(self.emitter, self.shape.chunks, units, phases, numbers)
            return [chunks.loop(members, in_halves=self.shape.in_halves)]
        moved = {id(node) for node in self.plan.moved}
        needed = free_registers([node for node in self.loop.body if id(node) not in moved | self.plan.looking_up])
        needed = Definitions(self.loop, self.plan.looking_up).closure(needed) or set()
        moved |= {id(each) for each in self.plan.recalled if each.written_register not in needed}
        rest = [node for node in self.loop.body if id(node) not in moved]
        if all(each.row.queue is Queue.SCALAR and each.written_register is not None for each in instructions(rest)):
            return []  # numbers that only what is moved has need of

        def body(places: dict[Part, Register]) -> list[Node]:
            return Renamer(self.code, {}, self._phases(places), keep=True).nodes(rest)

        return [self._for_members(self.loop.index, begin, members, self.now, body)]

    def _for_members(
        self,
        index: Register,
        position: ScalarOperand,
        members: ScalarOperand,
        starts: Mapping[Part, ScalarOperand],
        body: Callable[[dict[Part, Register]], list[Node]],
    ) -> Loop:
        """A loop over the members of a block; it carries their index and, by size, their place in buffers."""
        places = {size: self.code.register() for size in starts}
        for size, start in starts.items():
            self.code.keep_phase(places[size], start)
        carried: list[tuple[Register, ScalarOperand]] = [(index, self.extents.index(position))]
        carried += [(places[size], start) for size, start in starts.items()]
        with self.emitter.into([]) as nodes:
            nodes += body(places)
            yielded = [self._integer("add", index, self.extents.step)]
            yielded += [self.emitter.integer("add", places[size], size.size(self.emitter)) for size in starts]
        loop, counter = self.loop, self.code.register()
        return Loop(
            loop.dtype, counter, Immediate(0), members, Immediate(1), carried, nodes, yielded, location=loop.location
        )

    # ---- small parts ------------------------------------------------------------------------------------------------

    def _scalars_of(self, position: ScalarOperand, phases: dict[Part, Register] | None = None) -> Renamer:
        """Names under which addresses and extents of an iteration are known, which this computes."""
        return self._scalars_at(self.extents.index(position), phases)

    def _scalars_at(self, index: ScalarOperand, phases: dict[Part, Register] | None = None) -> Renamer:
        """The same for an index of the loop."""
        renamer = Renamer(self.code, {self.loop.index: index}, self._phases(phases or {}))
        self.emitter.nodes += renamer.nodes(self.blocks.scalars)
        return renamer

    def _phases(self, places: dict[Part, Register]) -> dict[str, Register]:
        return {name: places[size] for name, size in self.members.items() if size in places}

    def _sync(self, queues: int = ALL_QUEUES) -> Instruction:
        return sync(queues, self.loop.location)


def _place(transfer: Instruction) -> GlobalAddress:
    """Where in global memory a transfer begins."""
    (place,) = (operand for operand, _ in transfer.accesses if isinstance(operand, GlobalAddress))
    return place
