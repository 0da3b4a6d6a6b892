"""What of a loop's body can run an iteration early or late: loads ahead of the rest, stores behind it.

A load moves ahead only if its address and geometry need nothing but scalar arithmetic, and if it is the first to touch
its buffer in each iteration. Where the loop also writes global memory, the next iteration's load could read what this
one stores: then it must come from another array than every store, and arrays of the launch must not overlap. Programs
of a grid need not see what others store: there this holds for stores that come before the load in the program.

Stores move behind only all together, so that they keep their order, and only if no other access to global memory
follows the first of them in the body: it might be meant to come later.

What the IO queue alone makes and takes never has to be waited for, and stays where it is, unless it is short and blocks
of iterations can take it together.

Gathers can move ahead too, with the arithmetic that makes their offsets. What that is made from is then loaded two
iterations ahead: so this is planned only for loops that can be arranged so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlutriton.codegen.pipelining.pointer_roots import PointerRoots, is_area
from mlutriton.codegen.tile_code import (
    Branch,
    Loop,
    Node,
    Ordering,
    RowExtent,
    Sharing,
    TileCode,
    While,
    buffers_of,
    children,
    instructions,
    registers_set,
    steps,
)
from mlutriton.isa.operands import ABSENT, GlobalAddress, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Access, Queue

# By how much a store is shorter than another one for it to be worth while that they change places.
_MUCH_SHORTER = 8


@dataclass
class Plan:
    """What runs one iteration ahead, and what one behind.

    Attributes:
        loads: top-level nodes that load ahead, in order.
        gathers: top-level gathers that run ahead, in order.
        offsets: top-level vector instructions that make what these gathers need, in order.
        early: top-level nodes that load what these instructions, gathers and lookups need, two iterations ahead.
        slice: top-level scalar instructions that the loads or the advance of their carried registers need.
        lookups: scalar loads on which addresses of the loads depend, and what is computed from them.
        recalled: scalar loads from tables on which all else depends, and what is computed from them.
        carried: carried registers that the loads depend on, as places in ``Loop.carried``.
        stores: top-level nodes that store behind, in order.
        late_stores: how many of them, the last ones, come behind the loads of a burst.
        serves: instructions that say which program is served, needed wherever a part of its work is done.
        remembered: registers of an iteration that its stores need in the next one.
        buffers: names of the buffers that become ping-pong.
        anew: names of the buffers that nothing outside the loop touches and that each iteration writes before all else.
        alone: those of them that the IO queue alone makes and takes.
        needs_disjoint_arrays: correct only if the arrays of the launch share no bytes.
        commutes: stores of different instructions may change their order.
        needs_blocks: something moves that is to move in blocks alone.
    """

    loads: list[Node] = field(default_factory=list[Node])
    gathers: list[Node] = field(default_factory=list[Node])
    offsets: list[Node] = field(default_factory=list[Node])
    early: list[Node] = field(default_factory=list[Node])
    slice: list[Instruction] = field(default_factory=list[Instruction])
    lookups: list[Instruction] = field(default_factory=list[Instruction])
    recalled: list[Instruction] = field(default_factory=list[Instruction])
    carried: list[int] = field(default_factory=list[int])
    stores: list[Node] = field(default_factory=list[Node])
    late_stores: int = 0
    serves: list[Instruction] = field(default_factory=list[Instruction])
    remembered: list[Register] = field(default_factory=list[Register])
    buffers: set[str] = field(default_factory=set[str])
    anew: set[str] = field(default_factory=set[str])
    alone: set[str] = field(default_factory=set[str])
    needs_disjoint_arrays: bool = False
    commutes: bool = False
    needs_blocks: bool = False

    @property
    def stores_first(self) -> list[Node]:
        """The stores that come before the loads of a burst."""
        return self.stores[: len(self.stores) - self.late_stores]

    @property
    def stores_last(self) -> list[Node]:
        """The stores that come behind the loads of a burst."""
        return self.stores[len(self.stores) - self.late_stores :]

    @property
    def arriving(self) -> list[Node]:
        """What brings in, an iteration ahead, what the rest works on."""
        return [*self.loads, *self.gathers]

    @property
    def transfers(self) -> list[Node]:
        """Every access to global memory that moves."""
        return [*self.early, *self.arriving, *self.stores]

    @property
    def moved(self) -> list[Node]:
        """Everything that moves."""
        return [*self.transfers, *self.offsets, *self.lookups]

    def looks_up(self, node: Node) -> bool:
        """True if a node needs what is looked up."""
        needed = free_registers([node])
        return any(each.written_register in needed for each in (*self.lookups, *self.recalled))

    @property
    def looking_up(self) -> set[int]:
        """Identities of the scalar instructions that look up, or compute from that."""
        return {id(each) for each in (*self.lookups, *self.recalled)}

    @property
    def is_empty(self) -> bool:
        """True if everything stays where it is."""
        return not self.moved


def plan_loop(
    code: TileCode,
    loop: Loop,
    roots: PointerRoots,
    touches: Counter[str],
    *,
    short_bytes: int | None = None,
    are_disjoint: bool = False,
    lookups: Collection[int] = (),
    recalls: Collection[int] = (),
) -> Plan:
    """What may be moved in a loop of the code.

    Args:
        code: the kernel.
        loop: one of its loops.
        roots: of the pointers in the code.
        touches: how often the code touches each buffer.
        short_bytes: plan for blocks of iterations: then gathers move too, and shorter transfers of what the IO queue
            alone makes and takes.
        are_disjoint: the loop runs only where the arrays of the launch share no bytes.
        lookups: identities of scalar loads at the top of the body by which addresses may be looked up.
        recalls: identities of those from tables that what is not loaded needs.
    """
    plan = Plan(serves=[node for node in loop.body if isinstance(node, Instruction) and node.row.name == "serve"])
    plan.anew = _made_anew(code, loop, touches)
    awaited = _touched_by_others(loop)
    plan.alone = plan.anew - awaited
    short = {name for name in plan.alone if code.buffers[name].bytes < (short_bytes or 0)}
    if _stored(loop.body, roots) != frozenset() and any(map(_reads_global, _chosen(loop, lookups))):
        lookups = ()
    plan.recalled = _depending(loop, recalls)
    _plan_loads(plan, loop, roots, awaited | short, gathers=short_bytes is not None, lookups=lookups)
    _plan_stores(plan, loop, awaited | short)
    plan.needs_blocks = bool(plan.gathers or plan.buffers & short)
    _order_stores(plan, code, loop, roots, are_disjoint=are_disjoint)
    return plan


def is_alike_in_blocks(plan: Plan, code: TileCode, loop: Loop, short_bytes: int) -> bool:
    """True if the plan for blocks of iterations is the same, as nothing is there that could move in blocks alone."""
    gathers = any(map(_is_gather, loop.body))
    return not gathers and all(code.buffers[name].bytes >= short_bytes for name in plan.alone)


def _is_gather(node: Node) -> bool:
    return isinstance(node, Instruction) and node.row.trace == "GATHER"


def _chosen(loop: Loop, identities: Collection[int]) -> list[Node]:
    return [node for node in loop.body if id(node) in identities]


def _reads_global(node: Node) -> bool:
    return any(isinstance(operand, GlobalAddress) for each in instructions([node]) for operand, _ in each.accesses)


def _depending(loop: Loop, lookups: Collection[int]) -> list[Instruction]:
    """These scalar loads at the top of a loop's body, and the plain instructions that compute from them."""
    found: dict[Register, Instruction] = {}
    for register, each in Definitions(loop, lookups).scalar.items():
        if id(each) in lookups or found.keys() & set(each.registers_read):
            found[register] = each
    return list(found.values())


def _order_stores(plan: Plan, code: TileCode, loop: Loop, roots: PointerRoots, *, are_disjoint: bool) -> None:
    """Decide which stores come before the loads of a burst, and which behind them.

    A short transfer behind a long one hides its latency, as does a long one behind a long one. So short stores are best
    last. What is stored from the place of a tile to be loaded has to be gone before, and what needs a table that is.
    """
    loaded = buffers_of(plan.arriving)
    # Others may wait for an atomic, and then want what was stored before it; but not within a loop over programs.
    is_free = loop.independent or not any(map(is_silent_atomic, instructions(plan.stores)))
    are_apart = is_free and _are_apart(plan.stores, roots)
    sizes = [buffer_bytes(code, [store]) for store in plan.stores]
    if loop.independent and are_apart and sizes and min(sizes) * _MUCH_SHORTER < max(sizes) and not are_disjoint:
        # Only then may they change places.
        plan.needs_disjoint_arrays = True
    if (plan.needs_disjoint_arrays or are_disjoint) and are_apart:
        plan.commutes = True
        plan.stores.sort(key=lambda node: (not buffers_of([node]) & loaded, -buffer_bytes(code, [node])))
    elif not loop.independent:
        return
    for node in reversed(plan.stores):
        if buffers_of([node]) & loaded or plan.looks_up(node):
            break
        plan.late_stores += 1


def _are_apart(stores: Sequence[Node], roots: PointerRoots) -> bool:
    """True if, on disjoint arrays, every two of the stores touch different memory."""
    parameters = [parameters_of(store, roots) for store in stores]
    known = [each for each in parameters if each is not None]
    apart = sum(map(len, known)) == len(frozenset[int]().union(*known))
    return len(known) == len(parameters) and apart


def ordinary_bytes(code: TileCode, nodes: Sequence[Node]) -> float:
    """Bytes that nodes can be expected to touch."""
    buffers = [code.buffers[name] for name in buffers_of(nodes)]
    return sum(each.bytes * (RowExtent.ORDINARY_SHARE if each.extent else 1) for each in buffers)


def buffer_bytes(code: TileCode, nodes: Sequence[Node]) -> int:
    """Size of all buffers that nodes touch."""
    return sum(code.buffers[name].bytes for name in buffers_of(nodes))


# ---- loads ---------------------------------------------------------------------------------------------------------


def _plan_loads(
    plan: Plan, loop: Loop, roots: PointerRoots, awaited: set[str], *, gathers: bool, lookups: Collection[int]
) -> None:
    stored = frozenset[int]() if loop.independent else _stored(loop.body, roots)
    definitions = Definitions(loop, lookups)
    tells = _nodes_that_tell(loop)
    needed = definitions.closure(free_registers(plan.serves)) or set[Register]()
    touched: set[str] = set()
    loads: dict[int, set[str]] = {}
    gathered: dict[int, set[str]] = {}
    passed: dict[int, frozenset[int]] = {}
    for node in loop.body:
        if stored is None:
            break
        if loop.independent:
            written = _stored([node], roots)
            stored = None if written is None else stored | written
        targets = _load_targets(node)
        found = loads
        if gathers and isinstance(node, Instruction) and _is_gather(node):
            targets, found = {name for name, access in node.buffers if access is Access.WRITE}, gathered
        is_first = not targets & touched
        touched |= buffers_of([node])
        if stored is None or not (targets and is_first and targets <= plan.anew):
            continue
        if stored and not _is_apart(node, stored, roots):
            continue
        if id(node) not in tells and _closure(definitions, node) is not None:
            found[id(node)] = targets
            passed[id(node)] = stored
    if gathered:
        _plan_gathers(plan, loop, definitions, loads, gathered)
    tables = buffers_of(_chosen(loop, lookups), Access.READ)
    plan.early += [node for node in loop.body if loads.get(id(node), set[str]()) & tables]
    early = {id(node) for node in plan.early}
    plan.loads = [
        node for node in loop.body if id(node) in loads and id(node) not in early and loads[id(node)] & awaited
    ]
    plan.buffers |= buffers_of([*plan.loads, *plan.early, *plan.offsets]) & plan.anew
    for node in (*plan.loads, *plan.early, *plan.gathers, *plan.offsets):
        needed |= _closure(definitions, node) or set[Register]()
        plan.needs_disjoint_arrays |= not all(is_area(root) for root in passed.get(id(node), ()))
    plan.carried = [place for place, (register, _) in enumerate(loop.carried) if register in needed]
    plan.slice = definitions.instructions(needed)
    if lookups:
        plan.lookups = _looked_up(plan, loop, lookups)
        looked_up = {id(each) for each in plan.lookups}
        plan.slice = [each for each in plan.slice if id(each) not in looked_up]


def _looked_up(plan: Plan, loop: Loop, lookups: Collection[int]) -> list[Instruction]:
    """The lookups in a plan's slice, and what depends on them; empty if more than its loads does."""
    found: dict[Register, Instruction] = {}
    for each in plan.slice:
        written = each.written_register
        if written is not None and (id(each) in lookups or found.keys() & set(each.registers_read)):
            found[written] = each
    moved = {id(node) for node in (*plan.loads, *found.values())}
    rest = [node for node in loop.body if id(node) not in moved]
    is_theirs = not found.keys() & {*free_registers(rest), *_registers(loop.yielded)}
    return list(found.values()) if is_theirs else []


def _closure(definitions: Definitions, node: Node) -> set[Register] | None:
    return definitions.closure(free_registers([node]))


def _plan_gathers(
    plan: Plan,
    loop: Loop,
    definitions: Definitions,
    loads: Mapping[int, set[str]],
    gathered: Mapping[int, set[str]],
) -> None:
    """Which of the gathers can run ahead with all that makes their offsets, masks and fills.

    Loads and gathers that may run ahead are given by their identity, with their targets.
    """
    body = list(steps(loop.body))
    users: dict[str, list[list[Node]]] = {}
    for step in body:
        for name in buffers_of(step):
            users.setdefault(name, []).append(step)
    made = {name for each in instructions(loop.body) for name, access in each.buffers if access is not Access.READ}
    ahead: dict[int, Node] = {}
    judged: set[str] = set()
    for step in body:
        if id(step[0]) not in gathered:
            continue
        # The gather, and whoever touches what it reads, what that reads, and so on: nobody else may. Gathers of which
        # one touches what another one reads have all of this in common, which is followed once.
        reads = buffers_of(step[:1], Access.READ) & made
        if reads & judged:
            continue
        chosen, pending, may_run_ahead = {id(step[0]): step[0]}, [*reads], True
        while pending:
            name = pending.pop()
            if name in judged:
                continue
            judged.add(name)
            may_run_ahead &= name in plan.anew
            for user in users[name]:
                is_known = id(user[0]) in loads or id(user[0]) in gathered
                targets = gathered.get(id(user[0]), set[str]())
                may_run_ahead &= name not in targets and (is_known or _is_arithmetic(user, definitions))
                if name in targets:
                    continue  # what that gather reads may still do without the rest
                chosen |= {id(node): node for node in user}
                pending += buffers_of(user) & made - targets
        if may_run_ahead:
            ahead |= chosen
    plan.gathers = [node for node in loop.body if id(node) in ahead and id(node) in gathered]
    plan.early = [node for node in loop.body if id(node) in ahead and id(node) in loads]
    plan.offsets = [
        node for node in loop.body if id(node) in ahead and id(node) not in gathered and id(node) not in loads
    ]
    plan.buffers |= {name for node in plan.gathers for name in gathered[id(node)]}


def _is_arithmetic(step: Sequence[Node], definitions: Definitions) -> bool:
    """True for an instruction or chain of the COMPUTE queue that needs plain scalars alone."""
    return all(
        isinstance(node, Instruction)
        and node.row.queue is Queue.COMPUTE
        and not node.row.trace
        and _closure(definitions, node) is not None
        for node in step
    )


def _stored(nodes: Sequence[Node], roots: PointerRoots) -> frozenset[int] | None:
    """The pointer parameters through which nodes write; None if one is not known."""
    found: set[int] = set()
    for instruction in instructions(nodes):
        for operand, access in instruction.accesses:
            if isinstance(operand, GlobalAddress) and access is not Access.READ:
                parameters = roots.of(operand.register)
                if parameters is None:
                    return None
                found |= parameters
    return frozenset(found)


def parameters_of(transfer: Node, roots: PointerRoots) -> frozenset[int] | None:
    """The pointer parameters through which a node accesses global memory; None if one is not known."""
    found: set[int] = set()
    for instruction in instructions([transfer]):
        for operand, _ in instruction.accesses:
            if isinstance(operand, GlobalAddress):
                parameters = roots.of(operand.register)
                if parameters is None:
                    return None
                found |= parameters
    return frozenset(found)


def loads_apart(loop: Loop, roots: PointerRoots) -> Callable[[Node], bool]:
    """Tells of a load whether, on disjoint arrays, it reads nothing that the loop writes."""
    stored = _stored(loop.body, roots)
    return lambda load: stored is not None and _is_apart(load, stored, roots)


def _is_apart(load: Node, stored: frozenset[int], roots: PointerRoots) -> bool:
    """True if a load reads through other parameters than these."""
    parameters = parameters_of(load, roots)
    return parameters is not None and not parameters & stored


def is_load(node: Node) -> bool:
    """True if a node only loads tiles."""
    return bool(_load_targets(node))


def is_transfer(node: Node) -> bool:
    """True if a node only loads or only stores tiles."""
    return bool(_load_targets(node) or _store_sources(node))


def _load_targets(node: Node) -> set[str]:
    """Buffers that a node loads from global memory, if that and scalar arithmetic is all it does; else nothing."""
    return _transferred(node, lambda each: each.row.trace == "LOAD", Access.WRITE)


def _store_sources(node: Node) -> set[str]:
    """Buffers that a node stores to global memory, if that and scalar arithmetic is all it does; else nothing."""
    return _transferred(node, _stores, Access.READ)


def _stores(instruction: Instruction) -> bool:
    """True for what hands values to global memory and gets nothing back; so do atomics whose old values none wants."""
    return instruction.row.trace in ("STORE", "SCATTER") or is_silent_atomic(instruction)


def is_silent_atomic(instruction: Instruction) -> bool:
    """True for atomics of the IO queue that tell nobody what was there before."""
    return instruction.row.trace == "ATOMIC_VECTOR" and instruction.operand("old") == ABSENT


def _transferred(node: Node, transfers: Callable[[Instruction], bool], wanted: Access) -> set[str]:
    if isinstance(node, Instruction):
        return buffers_of([node], wanted) if transfers(node) else set()
    found: set[str] = set()
    for instruction in instructions([node]):
        if transfers(instruction):
            found |= buffers_of([instruction], wanted)
        elif instruction.row.queue is not Queue.SCALAR or instruction.row.trace or any(instruction.accesses):
            return set()
    return found


def _touched_by_others(loop: Loop) -> set[str]:
    """Buffers that another queue than IO reads or writes."""
    return buffers_of([each for each in instructions(loop.body) if each.row.queue is not Queue.IO])


# ---- stores --------------------------------------------------------------------------------------------------------


def _plan_stores(plan: Plan, loop: Loop, awaited: set[str]) -> None:
    stores = [node for node in loop.body if _store_sources(node)]
    sources = {name for node in stores for name in _store_sources(node)}
    if not sources & awaited or _other_global_accesses(loop, stores, [*plan.arriving, *plan.early]):
        return
    tells = _nodes_that_tell(loop)
    if not sources <= plan.anew or any(id(node) in tells for node in stores):
        return
    plan.stores = stores
    plan.buffers |= sources
    own = registers_set([loop])
    plan.remembered = sorted(free_registers([*plan.serves, *stores]) & own, key=lambda register: register.index)


def _other_global_accesses(loop: Loop, stores: Sequence[Node], loads: Sequence[Node]) -> bool:
    """True if the loop writes global memory by other means than ``stores``, or reads it behind the first of them."""
    moved = {id(node) for node in (*stores, *loads)}
    behind = False
    for node in loop.body:
        behind |= node is stores[0]
        if id(node) in moved:
            continue
        for instruction in instructions([node]):
            for operand, access in instruction.accesses:
                if isinstance(operand, GlobalAddress) and (behind or access is not Access.READ):
                    return True
    return False


def _made_anew(code: TileCode, loop: Loop, touches: Counter[str]) -> set[str]:
    """Buffers that nothing outside the loop touches, and that each iteration writes before all else.

    Ping-pong buffers of loops inside are not among them.
    """
    first: dict[str, bool] = {}
    inside: Counter[str] = Counter()
    for node in loop.body:
        certain = isinstance(node, Instruction) or bool(_load_targets(node))
        for instruction in instructions([node]):
            touched = instruction.buffers
            inside.update(name for name, _ in touched)
            for name, _ in touched:
                if name not in first:
                    first[name] = certain and all(a is Access.WRITE for other, a in touched if other == name)
    return {
        name
        for name, is_written in first.items()
        if is_written and inside[name] == touches[name] and code.buffers[name].phases == 1
    }


# ---- registers -----------------------------------------------------------------------------------------------------


def _nodes_that_tell(loop: Loop) -> set[int]:
    """Identities of the loops and branches that transfer and set registers which the rest of the body reads.

    What these registers hold belongs to the iteration, so that the nodes stay in their places.
    """
    compound = [node for node in loop.body if not isinstance(node, Instruction) and is_transfer(node)]
    if not compound:
        return set()
    read = set(_registers(loop.yielded)).union(*(free_registers([node]) for node in loop.body))
    return {id(node) for node in compound if registers_set([node]) & read}


def free_registers(nodes: Sequence[Node]) -> set[Register]:
    """Registers that nodes read but do not define themselves."""
    read: set[Register] = set()
    for node in nodes:
        if isinstance(node, Instruction):
            read.update(node.registers_read)
            continue
        match node:
            case While():
                read.update(_registers([node.condition, *node.yielded, *(initial for _, initial in node.carried)]))
            case Loop():
                ends = [node.start, node.end, node.step, *node.yielded, *(initial for _, initial in node.carried)]
                read.update(_registers(ends))
            case Branch():
                read.update(_registers([node.condition]))
            case Sharing() | Ordering():
                pass
        for nested in children(node):
            read |= free_registers(nested)
    return read - registers_set(nodes)


def _registers(operands: Sequence[Operand]) -> Iterator[Register]:
    return (operand for operand in operands if isinstance(operand, Register))


class Definitions:
    """Where the registers of a loop body come from.

    Attributes:
        scalar: by register, the plain scalar instruction at the top of the body that sets it; those of which the
            identity is among the ``lookups`` count as plain too.
    """

    def __init__(self, loop: Loop, lookups: Collection[int] = ()) -> None:
        self.loop = loop
        self.scalar: dict[Register, Instruction] = {}
        self.opaque: set[Register] = set()
        self._carried = {register: place for place, (register, _) in enumerate(loop.carried)}
        for node in loop.body:
            if isinstance(node, Instruction):
                written = node.written_register
                if written is not None:
                    pure = not node.row.trace and not any(node.accesses)
                    pure |= id(node) in lookups
                    if pure and written not in self.scalar:
                        self.scalar[written] = node
                    else:
                        self.opaque.add(written)
            else:
                self.opaque |= registers_set([node])

    def closure(self, registers: set[Register]) -> set[Register] | None:
        """All registers of the loop that these depend on, carried ones too; None if one is not plain arithmetic."""
        found: set[Register] = set()
        pending = list(registers)
        while pending:
            register = pending.pop()
            if register in found:
                continue
            if register in self.opaque:
                return None
            if register in self.scalar:
                found.add(register)
                pending += self.scalar[register].registers_read
            elif register in self._carried:
                found.add(register)
                pending += _registers([self.loop.yielded[self._carried[register]]])
            elif register == self.loop.index:
                found.add(register)
        return found

    def instructions(self, registers: set[Register]) -> list[Instruction]:
        """The instructions of the body that set some of its registers, in order."""
        return [instruction for register, instruction in self.scalar.items() if register in registers]
