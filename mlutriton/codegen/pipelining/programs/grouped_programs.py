"""Programs with loops of one length, several at a time: their rows become one tile with a dimension more.

A program that walks along its row

    total = 0; for k: total += load x(row, k)
    store sum(total)

shows a latency for each of its loops, and each of its instructions works on one row. If its loops have the same length
in all programs, and programs have nothing to do with each other, a task takes V of its programs at a time:

    for rows of the task, V at a time:
        total(rows) = 0; for k: total(rows) += load x(rows, k)
        store sum(total(rows))

Transfers of neighbours are joined as in blocks of iterations
(:mod:`mlutriton.codegen.pipelining.blocks.merged_transfers`), and instructions count V times as many rows
(:mod:`mlutriton.codegen.pipelining.blocks.row_chunks`), so that values stay the same to the bit. What all programs load
and compute alike, a piece of the weights say, is there once for all V of them. Programs whose tiles are cut by masks go
together if the masks leave the same of all; otherwise the last one of a group, or else each, goes by itself. The
software pipeline then takes the loops within like any others.

Few programs do not fill what there is room for, and a program by itself could have several iterations of a long loop at
a time instead. So where a task has few of them and their loops are long, they go one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.codegen.allocate import most_alive_bytes
from mlutriton.codegen.pipelining.blocks.merged_transfers import (
    LongerDimension,
    Merge,
    Merging,
    NewDimension,
    joined,
    linear_definitions,
)
from mlutriton.codegen.pipelining.blocks.row_chunks import Group, group_of, over, shared_rows, uses_whole_buffers
from mlutriton.codegen.pipelining.blocks.size import arithmetic_cycles, flow_cycles, transfer_latency, working_cycles
from mlutriton.codegen.pipelining.blocks.whole_tiles import NONE, SameQuotient, Tests, are_whole
from mlutriton.codegen.pipelining.pipeline_plan import Definitions
from mlutriton.codegen.pipelining.programs.merged_loops import iterations
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import (
    READING,
    WRITING,
    Emitter,
    Loop,
    Node,
    ScalarOperand,
    TileCode,
    While,
    all_steps,
    buffers_of,
    instructions,
    registers_set,
    steps,
)
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue

_TRANSFERS = ("LOAD", "STORE")

# The tiles of a group flow for so many latencies: then the one that shows hardly counts.
_LATENCIES = 4

# More programs than this at a time are of no more use, however small their tiles.
MOST_PROGRAMS = 256


@dataclass(frozen=True)
class Groups:
    """Programs of a task, several at a time.

    Attributes:
        nodes: the code in front of the loop over groups, and that loop.
        capacity: the most programs that go together.
        pays: says when a task begins whether its programs better go together than one by one.
        begin: the first program of a task.
        end: the one behind its last.
    """

    nodes: list[Node]
    capacity: int
    pays: Register
    begin: ScalarOperand
    end: ScalarOperand


def group_programs(code: TileCode, loop: Loop, machine: Machine, most_programs: int) -> Groups | None:
    """A loop over all programs of a task as one over groups of them.

    Args:
        code: everything but the loop; gets buffers for groups if there are any.
        loop: over programs of the grid, along its lines.
        machine: decides how many go together, and whether that is of use.
        most_programs: that may go together.

    Returns:
        The code in place of the loop; None if its programs cannot be grouped, or need not be.
    """
    found = _analysed(code, loop)
    if found is None:
        return None
    capacity = min(_capacity(code, loop, found, machine), most_programs)
    return _Grouping(code, loop, found, capacity, machine).groups() if capacity > 1 else None


@dataclass(frozen=True)
class _Programs:
    """What is known of the programs.

    Attributes:
        definitions: of all scalars, those within loops too.
        own: names of the buffers that differ by program.
        merges: by the identity of a transfer of such, how those of a group are joined.
        groups: by the identity of the first instruction of a chain, what it works along.
        units: equal parts of a program.
        tests: what has to hold for the first and the last of programs that go together.
    """

    definitions: Definitions
    own: set[str]
    merges: dict[int, Merge]
    groups: dict[int, Group]
    units: int
    tests: Tests


def _analysed(code: TileCode, loop: Loop) -> _Programs | None:
    """What is known of programs; None if they cannot be taken several at a time."""
    every = list(instructions(loop.body))
    if not all(map(_is_plain, every)):
        return None
    differing = _differing(loop)
    if differing is None:
        return None
    varying, own = differing
    flat = replace(loop, body=[*every])
    definitions = Definitions(flat)
    merging = Merging(code, loop, definitions, own, linear_definitions(code.nodes))
    merges: dict[int, Merge] = {}
    tests = NONE
    chains: list[list[Instruction]] = []
    for step in all_steps(loop.body):
        first = step[0]
        if first.row.trace in _TRANSFERS and buffers_of(step) & own:
            merge = merging.merge(first, in_places=True)
            if merge is None:
                return None
            merges[id(first)] = merge
            tests |= merge.whole if isinstance(merge, NewDimension) else NONE
        elif first.row.queue is Queue.COMPUTE and buffers_of(step) & own:
            if not buffers_of(step, *WRITING) <= own or any(varying & set(each.registers_read) for each in step):
                return None
            chains.append(step)
    groups = _groups(code, chains, own)
    if groups is None or not _are_known_before_loops(tests, loop):
        return None
    units = math.gcd(*(group.limit for group in groups))
    units = next((some for some in (units, 1) if all(group.can_be_cut(some) for group in groups)), 0)
    if not units:
        return None
    by_first = {id(chain[0]): group for chain, group in zip(chains, groups, strict=True)}
    return _Programs(definitions, own, merges, by_first, units, tests)


def _are_known_before_loops(tests: Tests, loop: Loop) -> bool:
    """True if what tells whether masks leave the same of a program's tiles is not made of what its loops set."""
    needed = {each for test in tests for each in test.operands if isinstance(each, Register)}
    known = {each.written_register for each in _without_loops(loop)}
    return (needed & registers_set(loop.body)) <= known


def _without_loops(loop: Loop) -> list[Instruction]:
    """The scalars of a program that are the same whether or not its loops have run."""
    by_loops = registers_set([node for node in loop.body if not isinstance(node, Instruction)])
    found: list[Instruction] = []
    for node in loop.body:
        if isinstance(node, Instruction) and node.row.queue is Queue.SCALAR:
            if by_loops.isdisjoint(node.registers_read):
                found.append(node)
            else:
                by_loops |= registers_set([node])
    return found


def _is_plain(instruction: Instruction) -> bool:
    """True for transfers, and for arithmetic on scalars or on chip."""
    row = instruction.row
    if row.trace:
        return row.trace in _TRANSFERS
    if row.queue is Queue.COMPUTE:
        return True
    if row.queue is not Queue.SCALAR:
        return False
    return row.name != "mm" and instruction.written_register is not None and not any(instruction.accesses)


def _differing(loop: Loop) -> tuple[set[Register], set[str]] | None:
    """Registers and buffers that differ by program; None if the programs' loops may differ as well."""
    varying, own = {loop.index}, set[str]()
    while True:
        before = len(varying), len(own)
        for step in all_steps(loop.body):
            reads = buffers_of(step, *READING)
            if not reads & own and not any(varying & set(each.registers_read) for each in step):
                continue
            varying.update(register for each in step if (register := each.written_register) is not None)
            # What all programs store alike stands there once for each.
            own |= reads if step[0].row.trace == "STORE" else buffers_of(step, *WRITING)
        if before == (len(varying), len(own)):
            break
    return (varying, own) if _are_alike(loop.body, varying) else None


def _are_alike(nodes: Sequence[Node], varying: set[Register]) -> bool:
    """True if loops, nested as they may be, and what they carry are the same for all programs, and all is loops."""
    for node in nodes:
        match node:
            case Instruction():
                if node.row.trace == "STORE" and not varying & set(node.registers_read):
                    return False
            case Loop(start=start, end=end, step=step, carried=carried, yielded=yielded, body=body):
                ends: list[Operand] = [start, end, step, *yielded, *(initial for _, initial in carried)]
                if varying & {each for each in ends if isinstance(each, Register)} or not _are_alike(body, varying):
                    return False
            case _:
                return False
    return True


def _groups(code: TileCode, chains: Sequence[list[Instruction]], own: set[str]) -> list[Group] | None:
    """What each chain works along; None if rows depend on each other."""
    if not chains or shared_rows(chains, own):
        return None
    groups: list[Group] = []
    for chain in chains:
        group = group_of(code, chain, own, set(), {})
        if group is None or not uses_whole_buffers(code, chain, own, {}):
            return None
        groups.append(group)
    return groups


def _capacity(code: TileCode, loop: Loop, programs: _Programs, machine: Machine) -> int:
    """How many programs are to go together; 1 if a program's own tiles are long."""
    transferred = {
        name: code.buffers[name].bytes
        for each in instructions(loop.body)
        if each.row.trace
        for name in buffers_of([each])
    }
    longest = max((size for name, size in transferred.items() if name in programs.own), default=0)
    if not longest:
        return 1
    # What a loop transfers stands there twice.
    bytes_of = {name: code.buffers[name].bytes * (2 if name in transferred else 1) for name in code.buffers}
    own = {name: size for name, size in bytes_of.items() if name in programs.own}
    alike = {name: size for name, size in bytes_of.items() if name not in programs.own}
    room = machine.usable_nram_bytes - most_alive_bytes([*code.nodes, loop], alike)
    fitting = room // max(1, most_alive_bytes(loop.body, own))
    wanted = math.ceil(_LATENCIES * machine.core_dma_latency_bytes / longest)
    return min(fitting, wanted)


@dataclass(frozen=True)
class _Straight:
    """What nodes without loops take of the queues of a core.

    Attributes:
        transfers: how many there are.
        latency: cycles until the first byte of each.
        flow: cycles for which the bytes of a program flow, and the set-up of its segments.
        waiting: cycles for which instructions wait for each other.
        working: cycles in which they work, on the tiles of one program.
    """

    transfers: int
    latency: int
    flow: int
    waiting: int
    working: int

    @classmethod
    def of(cls, code: TileCode, nodes: Sequence[Node], machine: Machine) -> _Straight:
        """Of some nodes, those within loops left out."""
        every = [each for each in nodes if isinstance(each, Instruction)]
        moved = [each for each in every if each.row.trace in _TRANSFERS]
        flow = sum(
            flow_cycles(each, sum(code.buffers[name].bytes for name in buffers_of([each])), (), machine)
            for each in moved
        )
        working = working_cycles(every, machine)
        return cls(
            len(moved),
            transfer_latency(machine),
            math.ceil(flow) + len(moved) * machine.dma_segment_cycles,
            arithmetic_cycles(every, machine) - working,
            working,
        )

    @property
    def latencies(self) -> int:
        """Cycles of transfers of which none hides another one's latency."""
        return self.transfers * self.latency

    def alone(self, iterations: int) -> tuple[int, int]:
        """Cycles of transfers, and of arithmetic, for an iteration of one program of which so many go together."""
        shown = max(0, self.transfers - 1) * max(0, self.latency - iterations * self.flow // max(1, self.transfers))
        first = min(self.transfers, 1) * self.latency
        return self.flow + (first + shown) // iterations, self.waiting + self.working

    def cycles(self, emitter: Emitter, members: ScalarOperand) -> tuple[ScalarOperand, ScalarOperand]:
        """Cycles of transfers, and of arithmetic, of so many programs together."""
        integer = emitter.integer
        transfers: ScalarOperand = Immediate(0)
        if self.transfers:
            flow = integer("mul", members, Immediate(self.flow))
            transfers = integer("add", flow, Immediate(self.latency))
        if self.transfers > 1:
            hidden = integer("mul", members, Immediate(self.flow // self.transfers))
            shown = integer("smax", integer("sub", Immediate(self.latency), hidden), Immediate(0))
            transfers = integer("add", transfers, integer("mul", shown, Immediate(self.transfers - 1)))
        arithmetic = integer("add", integer("mul", members, Immediate(self.working)), Immediate(self.waiting))
        return transfers, arithmetic


class _Grouping:
    """Writes the loop over groups. Its index is that of the first program of a group."""

    def __init__(self, code: TileCode, loop: Loop, programs: _Programs, capacity: int, machine: Machine) -> None:
        self.code, self.loop, self.programs, self.capacity = code, loop, programs, capacity
        self.machine = machine
        self.emitter = Emitter(code, loop.location)
        self.tile_bytes = {name: code.buffers[name].bytes for name in programs.own}
        self.scaled: dict[int, ScalarOperand] = {}
        self.steps: dict[int, ScalarOperand] = {}
        self.head: list[Node] = []
        self.members: ScalarOperand = Immediate(1)
        self.units: ScalarOperand = Immediate(1)

    def groups(self) -> Groups:
        """The loop over all lines of the grid that a task has programs on, and over groups on each."""
        loop, integer = self.loop, self.emitter.integer
        assert loop.line is not None
        self.emitter.nodes = nodes = list[Node]()
        self._measure_steps()
        share = integer("mul", loop.end, loop.start)
        lower = integer("sdiv", share, loop.step)
        upper = integer("sdiv", integer("add", share, loop.end), loop.step)
        count = integer("sub", upper, lower)
        size = self._balanced(count)
        pays = self._pays(lower, count, size)
        first_line = integer("udiv", lower, loop.line)
        end_line = integer("udiv", integer("add", upper, integer("sub", loop.line, Immediate(1))), loop.line)
        number, end = self.code.register(), self.code.register()
        self.emitter.nodes = on_line = list[Node]()
        line_begin = integer("mul", number, loop.line)
        begin = integer("smax", lower, line_begin)
        self.emitter.emit("smin", (I64,), (end, upper, integer("add", line_begin, loop.line)))
        on_line.append(self._groups_of_line(begin, end, size))
        lines = Loop(I64, number, first_line, end_line, Immediate(1), [], on_line, stages=1, location=loop.location)
        for name, size_bytes in self.tile_bytes.items():
            self.code.buffers[name].bytes = size_bytes * self.capacity
        return Groups([*nodes, lines], self.capacity, pays, lower, upper)

    def _pays(self, first: ScalarOperand, count: ScalarOperand, size: ScalarOperand) -> Register:
        """Whether the programs of a task take less so many at a time than one by one.

        Args:
            first: of the programs.
            count: how many there are.
            size: of a group where nothing ends it before.
        """
        integer = self.emitter.integer
        groups = self._number_of_groups(first, count, size)
        members = self._quotient_up(count, groups)
        together, alone = self._cycles(self.loop.body, members)
        return self.emitter.scalar("sle", (I64,), integer("mul", groups, together), integer("mul", count, alone))

    def _cycles(self, nodes: Sequence[Node], members: ScalarOperand) -> tuple[ScalarOperand, ScalarOperand]:
        """About how long nodes take for a group, and for each of its programs where these go one by one.

        Together, a core waits for the transfers of each iteration. One by one, a program has as many iterations of a
        loop at a time as programs would fit. In either way the longer one of transfers and arithmetic counts, and
        loops begin and end with a wait for transfers.
        """
        integer = self.emitter.integer
        straight = _Straight.of(self.code, nodes, self.machine)
        together, alone = integer("add", *straight.cycles(self.emitter, members)), Immediate(sum(straight.alone(1)))
        inside = registers_set(self.loop.body)
        for node in nodes:
            if not isinstance(node, Loop):
                continue
            ends = {each for each in (node.start, node.end, node.step) if isinstance(each, Register)}
            count = iterations(self.emitter, node) if ends.isdisjoint(inside) else Immediate(1)
            if any(isinstance(each, Loop) for each in node.body):
                turn, own = self._cycles(node.body, members)
            else:
                turns = _Straight.of(self.code, node.body, self.machine)
                turn = integer("smax", *turns.cycles(self.emitter, members))
                own = Immediate(max(turns.alone(self.capacity)))
                alone = integer("add", alone, Immediate(turns.latencies))
            together = integer("add", together, integer("mul", count, turn))
            alone = integer("add", alone, integer("mul", count, own))
        return together, alone

    def _number_of_groups(self, first: ScalarOperand, count: ScalarOperand, size: ScalarOperand) -> ScalarOperand:
        """How many groups the programs of a task are, if dividends grow as from the first one of all to the second."""
        integer = self.emitter.integer
        groups = self._quotient_up(count, size)
        divisions = self._divisions()
        if divisions:
            begin, here, there = map(self._before_loops, (first, Immediate(0), Immediate(1)))
            for dividend, divisor in divisions:
                by = begin.operand(divisor)
                step = integer("sub", there.operand(dividend), here.operand(dividend))
                behind = integer("add", integer("srem", begin.operand(dividend), by), integer("mul", count, step))
                groups = integer("smax", groups, self._quotient_up(behind, by))
        return integer("smax", groups, Immediate(1))

    def _groups_of_line(self, begin: ScalarOperand, end: Register, size: ScalarOperand) -> Loop | While:
        """The loop over the groups of a line, each in parts of which masks leave all tiles alike."""
        loop = self.loop
        if not self.programs.tests:
            body = self._group(size, end)
            return Loop(I64, loop.index, begin, end, size, [], body, stages=1, location=loop.location)
        if any(isinstance(test, SameQuotient) for test in self.programs.tests):
            return self._groups_of_quotients(begin, end, size)
        group = self.code.register()
        with self.emitter.into([]) as parts:
            rest = self.emitter.integer("sub", end, group)
            members = self.emitter.integer("smin", rest, size)
            behind = self.emitter.integer("add", group, members)
            part = self._alike(group, members)
            body = self._group(part, behind)
            parts.append(Loop(I64, loop.index, group, behind, part, [], body, stages=1, location=loop.location))
        return Loop(I64, group, begin, end, size, [], parts, stages=1, location=loop.location)

    def _groups_of_quotients(self, begin: ScalarOperand, end: Register, size: ScalarOperand) -> While:
        """The same where a group goes no further than to where a quotient changes."""
        loop, integer = self.loop, self.emitter.integer
        groups = While(Immediate(0), [(loop.index, begin)], location=loop.location)
        with self.emitter.into(groups.head):
            groups.condition = self.emitter.scalar("slt", (I64,), loop.index, end)
        with self.emitter.into(groups.body):
            members = integer("smin", integer("sub", end, loop.index), size)
            part = self._alike(loop.index, self._before_other_quotients(members))
            groups.body += self._group(part, end)
            groups.yielded = [integer("add", loop.index, part)]
        return groups

    def _before_other_quotients(self, members: ScalarOperand) -> ScalarOperand:
        """How many of the programs from one on have the same quotients, if dividends grow; at least one."""
        integer, index = self.emitter.integer, self.loop.index
        here, there = map(self._before_loops, (index, integer("add", index, Immediate(1))))
        for dividend, divisor in self._divisions():
            begin, by = here.operand(dividend), here.operand(divisor)
            step = integer("smax", integer("sub", there.operand(dividend), begin), Immediate(1))
            left = integer("sub", by, integer("srem", begin, by))
            members = integer("smin", members, self._quotient_up(left, step))
        return integer("smax", members, Immediate(1))

    def _divisions(self) -> list[tuple[Register | Immediate, Register | Immediate]]:
        """Dividends and divisors of quotients that have to be the same for all programs of a group."""
        return [
            (dividend, divisor)
            for test in sorted(self.programs.tests, key=str)
            if isinstance(test, SameQuotient)
            for dividend, divisor in [[each for each in test.operands if isinstance(each, Register | Immediate)]]
        ]

    def _alike(self, group: Register, members: ScalarOperand) -> ScalarOperand:
        """How many programs of a group go together: all, all but the last one, or one at a time."""
        integer, emitter = self.emitter.integer, self.emitter
        one = Immediate(1)
        fewer = integer("smax", integer("sub", members, one), one)
        first, *lasts = (
            self._before_loops(integer("sub", integer("add", group, count), one)) for count in (one, members, fewer)
        )
        tests = sorted(self.programs.tests, key=str)
        all_alike, fewer_alike = (are_whole(emitter, tests, [first, last]) for last in lasts)
        rest = emitter.scalar("select", (I64,), fewer_alike, fewer, one)
        return emitter.scalar("select", (I64,), all_alike, members, rest)

    def _before_loops(self, program: ScalarOperand) -> Renamer:
        """Names under which the scalars of a program are known that have nothing to do with its loops."""
        renamer = Renamer(self.code, {self.loop.index: program}, {})
        self.emitter.nodes += renamer.nodes(_without_loops(self.loop))
        return renamer

    def _balanced(self, count: ScalarOperand) -> ScalarOperand:
        """How many programs a group has so that, of so many, all groups have about as many."""
        groups = self._quotient_up(count, Immediate(self.capacity))
        size = self._quotient_up(count, self.emitter.integer("smax", groups, Immediate(1)))
        return self.emitter.integer("smax", size, Immediate(1))

    def _quotient_up(self, a: ScalarOperand, b: ScalarOperand) -> ScalarOperand:
        integer = self.emitter.integer
        return integer("sdiv", integer("sub", integer("add", a, b), Immediate(1)), b)

    def _measure_steps(self) -> None:
        """By how many elements the place of each joined transfer grows from one program to the next."""
        self._measure_between(Immediate(0), Immediate(1), is_local=False)

    def _measure_between(self, program: ScalarOperand, following: ScalarOperand, *, is_local: bool) -> None:
        """Measure those that are the same all over the grid, or else those that are so in a group alone."""
        merges = self.programs.merges
        if not any(isinstance(each, NewDimension) and each.is_local == is_local for each in merges.values()):
            return
        here, there = map(self._first_iterations, (program, following))
        for each in instructions(self.loop.body):
            merge = merges.get(id(each))
            if isinstance(merge, NewDimension) and merge.is_local == is_local:
                (place,) = (operand.register for operand, _ in each.accesses if isinstance(operand, GlobalAddress))
                distance = self.emitter.integer("sub", there.operand(place), here.operand(place))
                self.steps[id(each)] = self.emitter.integer("sdiv", distance, Immediate(each.dtypes[0].bytes))

    def _first_iterations(self, program: ScalarOperand) -> Renamer:
        """Names under which all scalars of a program are known, those of loops in their first iterations."""
        renamer = Renamer(self.code, {self.loop.index: program}, {})

        def visit(nodes: Sequence[Node]) -> None:
            for node in nodes:
                if isinstance(node, Instruction):
                    if node.row.queue is Queue.SCALAR:
                        self.emitter.nodes += renamer.nodes([node])
                elif isinstance(node, Loop):
                    starts = {register: renamer.operand(initial) for register, initial in node.carried}
                    renamer.substitutes |= {node.index: renamer.operand(node.start), **starts}
                    visit(node.body)

        visit(self.loop.body)
        return renamer

    def _group(self, size: ScalarOperand, end: ScalarOperand) -> list[Node]:
        """The programs of a group."""
        loop = self.loop
        with self.emitter.into([]) as head:
            self.emitter.emit("serve", (), (loop.index,))
            rest = self.emitter.integer("sub", end, loop.index)
            self.members = self.emitter.integer("smin", rest, size)
            self.units = self.emitter.integer("mul", self.members, Immediate(self.programs.units))
            self.head = head
            self._measure_between(loop.index, self.emitter.integer("add", loop.index, Immediate(1)), is_local=True)
            body = self._several(loop.body)
        return [*head, *body]

    def _several(self, nodes: Sequence[Node]) -> list[Node]:
        """Nodes for all programs of a group."""
        with self.emitter.into([]) as made:
            for step in steps(nodes):
                first = step[0]
                group = self.programs.groups.get(id(first))
                if isinstance(first, Loop):
                    made.append(replace(first, body=self._several(first.body)))
                elif id(first) in self.programs.merges and isinstance(first, Instruction):
                    made.append(self._joined(first))
                elif group is not None:
                    counts = group.counts(self.programs.units, self._scaled)
                    made += [over(each, counts, group.modes(each), {}) for each in group.instructions]
                else:
                    made += step
        return made

    def _joined(self, node: Instruction) -> Instruction:
        merge = self.programs.merges[id(node)]
        rest = merge.rest if isinstance(merge, LongerDimension) else None
        return joined(self.emitter, node, merge, self.members, self.tile_bytes, self.steps.get(id(node)), rest)

    def _scaled(self, factor: int) -> ScalarOperand:
        """So many times the units of a group, which is computed before its loops."""
        if factor not in self.scaled:
            with self.emitter.into(self.head):
                self.scaled[factor] = self.emitter.integer("mul", self.units, Immediate(factor))
        return self.scaled[factor]
