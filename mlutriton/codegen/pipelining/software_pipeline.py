"""Software pipelining: transfers of the iterations around run while this one computes, over ping-pong buffers.

A loop

    for i: load x(i); compute y(i) from x(i); store y(i)

becomes, with the loads' scalar work (addresses, limits) running one iteration ahead in registers of its own, and what
the stores need remembered from the iteration before,

    load x(0) -> phase 0; sync
    for i: if there was an iteration before: store y(i - 1) <- other phase
           if there is a next iteration: load x(i + 1) -> other phase
           compute this phase; sync; swap phases
    if there was an iteration: store the last y

The one ``sync`` at the end of an iteration is the machine's way: a queue can only be waited for as a whole. So an
iteration takes the longer of its arithmetic and its transfers, which run as one burst that shows its latency once. What
is moved where is decided in :mod:`mlutriton.codegen.pipelining.pipeline_plan`. Where loads may only move if the arrays
of the launch do not overlap, the plain loop is kept beside the pipelined one, and the special register
``arrays_disjoint`` decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from mlutriton.codegen.pipelining.blocks.plan import BlockPlan, plan_blocks
from mlutriton.codegen.pipelining.blocks.rotation import rotate_blocks
from mlutriton.codegen.pipelining.in_place import share_buffers
from mlutriton.codegen.pipelining.lookups import WithTables, lookups_of, with_tables
from mlutriton.codegen.pipelining.own_offsets import with_own_offsets
from mlutriton.codegen.pipelining.pipeline_plan import Plan, buffer_bytes, is_alike_in_blocks, loads_apart, plan_loop
from mlutriton.codegen.pipelining.pointer_roots import PointerRoots
from mlutriton.codegen.pipelining.programs.finer_programs import plan_pieces
from mlutriton.codegen.pipelining.programs.residence import hoist, short_fills
from mlutriton.codegen.pipelining.rotation import Rotation
from mlutriton.codegen.pipelining.shared_pipeline import end_of_beginning, is_only_issued, plan_shared, rotate_shared
from mlutriton.codegen.pipelining.single_places import rotate_in_place
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.renaming import with_own_buffers
from mlutriton.codegen.synchronize import ALL_QUEUES
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    Ordering,
    Sharing,
    TileCode,
    buffers_of,
    children,
    sync,
    touch_counts,
)
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Immediate
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import SPECIAL_REGISTERS, SYNC_COMPUTE, SYNC_MOVE, TABLE, Access, Queue


def pipeline_loops(
    code: TileCode,
    default_stages: int,
    machine: Machine,
    *,
    are_disjoint: bool = False,
    in_place: bool = False,
    whole_beside_pieces: bool = True,
) -> None:
    """Pipeline every loop that wants more than one stage and has transfers that can move.

    Args:
        code: is rewritten.
        default_stages: depth of loops that do not ask for one themselves.
        machine: decides what fits and what is worth while.
        are_disjoint: the code runs only where the arrays of the launch share no bytes.
        in_place: there is no room for ping-pong buffers.
        whole_beside_pieces: where pieces of programs need arrays that share no bytes, there is room for whole programs
            that are pipelined as well; otherwise these are as they were written.
    """
    pipeliner = _Pipeliner(code, default_stages, machine, in_place=in_place, whole_beside_pieces=whole_beside_pieces)
    pipeliner.visit(code.nodes, are_disjoint=are_disjoint)


class _Pipeliner:
    def __init__(
        self, code: TileCode, default_stages: int, machine: Machine, *, in_place: bool, whole_beside_pieces: bool
    ) -> None:
        self.code = code
        self.in_place, self.whole_beside_pieces = in_place, whole_beside_pieces
        self.default_stages = default_stages
        self.machine = machine
        self.roots = PointerRoots(code)
        self.surroundings = Surroundings(code.nodes)

    def visit(self, nodes: list[Node], *, are_disjoint: bool) -> None:
        """Pipeline the loops among nodes; of those where the arrays of the launch are known to be disjoint, once."""
        result: list[Node] = []
        for node in nodes:
            with self.surroundings.visiting(node):
                for nested in children(node):
                    tested = (
                        isinstance(node, Branch) and nested is node.then and node.condition in self.roots.disjoint_flags
                    )
                    self.visit(nested, are_disjoint=are_disjoint or tested)
                rotated = self._rotated(node, result, are_disjoint=are_disjoint) if isinstance(node, Loop) else None
                if rotated is not None:
                    self.surroundings.replaced(node, rotated)
            made = [node] if rotated is None else rotated
            if not isinstance(node, Branch):
                self.surroundings.passed(made)
            result += made
        nodes[:] = result

    def _rotated(
        self, loop: Loop, outside: list[Node], *, are_disjoint: bool, may_part: bool = True
    ) -> list[Node] | None:
        """The pipelined loop, if there is something to pipeline; it may take nodes from what comes before.

        Args:
            loop: is rewritten.
            outside: what comes before.
            are_disjoint: the loop runs only where the arrays of the launch share no bytes.
            may_part: programs may be taken in pieces.
        """
        if (loop.stages or self.default_stages) == 1:
            return None
        if self.in_place:
            return self._rotated_in_place(loop, are_disjoint=are_disjoint)
        if any(isinstance(node, Sharing | Ordering) for node in loop.body):
            return self._rotated_shared(loop, are_disjoint=are_disjoint)
        plain, alike = replace(loop, stages=1), list[Node]()
        plan = plan_loop(self.code, loop, self.roots, self.surroundings.touches) if loop.independent else Plan()
        if plan.needs_disjoint_arrays:
            before, whole = touch_counts(loop.body), [*loop.body]
            fills = short_fills(self.code, loop, self.machine.core_dma_latency_bytes)
            alike = hoist(loop, loads_apart(loop, self.roots), fills)
            if alike:
                plain.body = with_own_buffers(self.code, whole, plan.anew)
                self.surroundings.changed(before, loop.body)
        if loop.independent and (alike or are_disjoint):
            plan = plan_loop(self.code, loop, self.roots, self.surroundings.touches, are_disjoint=True)
        has_own = bool(alike) or are_disjoint
        pieces = self._in_pieces(loop, plain, plan, has_own=has_own) if may_part else []
        known = plan if loop.independent and not pieces else None
        plan, blocks = self._planned(loop, known, are_disjoint=are_disjoint or bool(alike))
        if plan.is_empty and not alike and not pieces:
            return None
        is_guarded = bool(alike or pieces or plan.needs_disjoint_arrays) and not are_disjoint
        if is_guarded and not alike and not pieces:
            # Buffers of both versions would live through both. Those of chunks are not those of whole iterations.
            has_chunks = blocks is not None and blocks.shape.chunks is not None
            names = plan.anew if has_chunks else plan.anew - plan.buffers
            plain.body = with_own_buffers(self.code, loop.body, names)
        latency_bytes = self.machine.core_dma_latency_bytes
        late = take_late(self.code, outside, plan, blocks, latency_bytes) if plan.arriving else []
        self.surroundings.taken_back(late)
        if blocks:
            rotated = rotate_blocks(self.code, loop, plan, blocks, late)
        else:
            rotated = [loop] if plan.is_empty else _rotate(self.code, loop, plan, late)
        rotated = [*alike, *pieces, *rotated]
        if not is_guarded:
            return rotated
        others = self._rotated_whole(loop, plain) if pieces and self.whole_beside_pieces else [plain]
        return _guarded(self.code, [*late, *others], rotated)

    def _rotated_whole(self, loop: Loop, plain: Loop) -> list[Node]:
        """A loop over programs that has buffers of its own, pipelined beside the one over pieces of them."""
        whole, parted = replace(plain, stages=loop.stages), [*loop.body]
        self.surroundings.changed(touch_counts(parted), whole.body)
        rotated = self._rotated(whole, [], are_disjoint=False, may_part=False)
        self.surroundings.changed(touch_counts(whole.body), parted)
        return rotated or [plain]

    def _rotated_in_place(self, loop: Loop, *, are_disjoint: bool) -> list[Node] | None:
        """The same of a loop whose tiles have one place each."""
        if any(isinstance(node, Sharing | Ordering) for node in loop.body):
            return None
        plan = self._plan(loop, None, are_disjoint=are_disjoint)
        if not plan.loads:
            return None
        is_guarded = plan.needs_disjoint_arrays and not are_disjoint
        plain = replace(loop, stages=1)
        if is_guarded:
            plain.body = with_own_buffers(self.code, loop.body, plan.anew)
        before = touch_counts(loop.body)
        if share_buffers(self.code, loop, plan, self.machine):
            self.surroundings.changed(before, loop.body)
            plan = self._plan(loop, None, are_disjoint=are_disjoint)
        rotated = rotate_in_place(self.code, loop, plan, self.machine)
        return _guarded(self.code, [plain], rotated) if is_guarded else rotated

    def _in_pieces(self, loop: Loop, plain: Loop, plan: Plan, *, has_own: bool) -> list[Node]:
        """Take programs in pieces if that is of use; what has to be computed before.

        The plain version of the loop gets buffers of its own, unless it ``has_own`` or is not needed.
        """
        if not loop.independent:
            return []
        pieces = plan_pieces(self.code, loop, plan, self.machine, self.surroundings, self.roots)
        if pieces is None:
            return []
        if not has_own:
            # None of them may be what the loop over pieces makes another buffer of.
            touched, touches = touch_counts(loop.body), self.surroundings.touches
            names = {name for name, count in touched.items() if count == touches[name]}
            plain.body = with_own_buffers(self.code, loop.body, plan.anew | names)
        before, self.code.has_pieces = touch_counts(loop.body), True
        nodes = pieces.rewrite()
        self.roots.learn([*nodes, loop])
        self.surroundings.learn([*nodes, loop])
        self.surroundings.changed(before, loop.body)
        return nodes

    def _planned(self, loop: Loop, known: Plan | None, *, are_disjoint: bool) -> tuple[Plan, BlockPlan | None]:
        """What moves in a loop, and how it is worked through in blocks if it is.

        What moves in whole iterations may be ``known``.
        """
        own = with_own_offsets(self.code, loop) if loop.independent else None
        if own is not None:
            body, before, buffers = loop.body, touch_counts(loop.body), {**self.code.buffers}
            loop.body = own
            self.surroundings.changed(before, own)
            plan, blocks = self._planned_as_it_is(loop, None, are_disjoint=are_disjoint)
            if blocks and plan.gathers:
                return plan, blocks
            self.surroundings.changed(touch_counts(loop.body), body)
            loop.body = body
            # Some may have been merged meanwhile.
            self.code.buffers.update(buffers)
        return self._planned_as_it_is(loop, known, are_disjoint=are_disjoint)

    def _planned_as_it_is(self, loop: Loop, known: Plan | None, *, are_disjoint: bool) -> tuple[Plan, BlockPlan | None]:
        latency_bytes, plan = self.machine.core_dma_latency_bytes, known
        if plan is None or not is_alike_in_blocks(plan, self.code, loop, latency_bytes):
            plan = self._plan(loop, latency_bytes, are_disjoint=are_disjoint)
        for short_bytes in (latency_bytes, None):
            # Where nothing moves in blocks alone, both plans are one.
            if plan.needs_blocks and not short_bytes:
                plan = self._plan(loop, None, are_disjoint=are_disjoint)
            if plan.is_empty or (short_bytes and not plan.needs_blocks):
                continue
            before = touch_counts(loop.body)
            if share_buffers(self.code, loop, plan, self.machine):
                self.surroundings.changed(before, loop.body)
                plan = self._plan(loop, short_bytes, are_disjoint=are_disjoint)
            blocks = plan_blocks(self.code, loop, plan, self.machine, self.surroundings)
            if blocks:
                return plan, blocks
            if not short_bytes:
                break
        else:
            plan = Plan()
        found = self._looked_up(loop, are_disjoint=are_disjoint)
        return (plan, None) if found is None else found

    def _looked_up(self, loop: Loop, *, are_disjoint: bool) -> tuple[Plan, BlockPlan | None] | None:
        """The same of a loop that looks up where to load from: in blocks from tables, else one iteration ahead."""
        lookups = frozenset(map(id, lookups_of(loop)))
        tables = with_tables(self.code, loop) if lookups and not loop.carried else None
        if tables is not None:
            body, before = loop.body, touch_counts(loop.body)
            loop.body = tables.body
            self.roots.learn([loop])
            self.surroundings.learn([loop])
            self.surroundings.changed(before, loop.body)
            for short_bytes in (self.machine.core_dma_latency_bytes, None):
                plan = self._plan(loop, short_bytes, are_disjoint=are_disjoint, tables=tables)
                if (short_bytes and not plan.needs_blocks) or not tables.ahead <= plan.looking_up:
                    continue
                blocks = plan_blocks(self.code, loop, plan, self.machine, self.surroundings)
                if blocks:
                    return plan, blocks
            self.surroundings.changed(touch_counts(loop.body), body)
            loop.body = body
        plan = self._plan(loop, None, are_disjoint=are_disjoint, lookups=lookups)
        return (plan, None) if plan.lookups else None

    def _plan(
        self,
        loop: Loop,
        short_bytes: int | None,
        *,
        are_disjoint: bool,
        lookups: Collection[int] = (),
        tables: WithTables | None = None,
    ) -> Plan:
        ahead, behind = (tables.ahead, tables.behind) if tables else (lookups, ())
        return plan_loop(
            self.code, loop, self.roots, self.surroundings.touches, short_bytes=short_bytes, are_disjoint=are_disjoint,
            lookups=ahead, recalls=behind,
        )  # fmt: skip

    def _rotated_shared(self, loop: Loop, *, are_disjoint: bool) -> list[Node] | None:
        """The same of a loop in which cores load together or keep an order."""
        shared = plan_shared(self.code, loop, self.roots, self.surroundings.touches)
        if shared is None:
            return None
        rotated = rotate_shared(self.code, loop, shared, self.machine)
        is_guarded = shared.plan.needs_disjoint_arrays and not are_disjoint
        return _guarded(self.code, [replace(loop, stages=1)], rotated) if is_guarded else rotated


def take_late(
    code: TileCode, before: list[Node], plan: Plan, blocks: BlockPlan | None, latency_bytes: int
) -> list[Node]:
    """Take from the end of a list what may as well come behind the first loads of a loop: arithmetic and short loads.

    All loads are then waited for at once, and short ones are hidden behind the longer ones of the loop. What gathers
    ahead need has to be there before, and what only they need has to fit beside the first block.
    """
    temporaries: set[str] = set()
    kept: deque[Node] = deque()
    kept_buffers = buffers_of([*plan.gathers, *plan.offsets], Access.READ)
    taken: deque[Node] = deque()
    while before and isinstance(before[-1], Instruction):
        node = before[-1]
        is_load = node.row.trace == "LOAD"
        if node.row.queue is Queue.COMPUTE or (is_load and buffer_bytes(code, [node]) < latency_bytes):
            temporaries |= buffers_of([node]) - (blocks.beside if blocks else set[str]())
            is_crowded = blocks is not None and sum(code.buffers[n].bytes for n in temporaries) > blocks.spare_bytes
            if buffers_of([node]) & kept_buffers or is_crowded:
                break
            taken.appendleft(node)
        elif is_load or (node.written_register is not None and not node.row.trace and not any(node.accesses)):
            kept.appendleft(node)
            kept_buffers |= buffers_of([node])
        else:
            break
        before.pop()
    while taken and before and isinstance(before[-1], Instruction) and before[-1].hands_on:
        before.append(taken.popleft())  # a fused chain stays together
    before += kept
    return list(taken)


def _guarded(code: TileCode, plain: list[Node], rotated: list[Node]) -> list[Node]:
    """The pipelined loop where the arrays of the launch are disjoint, else the plain one."""
    disjoint, location = code.register(), plain[-1].location
    index = Immediate(SPECIAL_REGISTERS.index("arrays_disjoint"))
    return [
        Instruction(TABLE["sreg"], (), (disjoint, index), location),
        Branch(disjoint, rotated, plain, location=location),
    ]


def _rotate(code: TileCode, loop: Loop, plan: Plan, late: Sequence[Node]) -> list[Node]:
    for name in plan.buffers:
        code.buffers[name].phases = 2
    rotation = Rotation(code, loop, plan)
    before = [*rotation.load_first(), *late]
    scalars, loads = rotation.load_ahead()
    transfers = [*rotation.store_behind(plan.stores_first), *loads, *rotation.store_behind(plan.stores_last)]
    compute = rotation.compute()
    # The COMPUTE queue has its work while the scalar unit looks up where to load from.
    if plan.lookups and is_only_issued(compute):
        parts = [*compute, *transfers]
    else:
        # A program may load before others store, but not an iteration of its loop.
        begin = end_of_beginning(compute) if loop.independent else 0
        # What a program loads in its first iteration is waited for, what is loaded ahead is not.
        parts = [*compute[:begin], *transfers, *compute[begin:]]
    # Where to load from is known by the time that the iteration before has been waited for.
    body = [*scalars, sync(ALL_QUEUES, loop.location), *parts]
    # Stores stand behind all transfers in a queue that works in order.
    behind = [sync(SYNC_COMPUTE | SYNC_MOVE, loop.location), *rotation.store_behind(plan.stores)] if plan.stores else []
    return [*before, rotation.rotated(body), *behind]
