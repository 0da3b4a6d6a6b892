"""Programs of the virtual ISA to LLVM IR: one function that runs a share of a grid's programs and writes their trace.

Two things happen to each instruction. Its *time* is folded into the scoreboard at its place in the program. Its
*values* are computed there too, except for element-wise instructions: these wait in a group until somebody needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from math import prod

from mlutriton.codegen.llvm.common_weights import CommonWeights, forget_all
from mlutriton.codegen.llvm.control_flow import Block, Liveness, basic_blocks, is_backward, register_life
from mlutriton.codegen.llvm.cooperation import cooperation
from mlutriton.codegen.llvm.elements import Lanes, apply, load, number_of, store
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.functions import collectives
from mlutriton.codegen.llvm.functions.extremes import place_of_extreme
from mlutriton.codegen.llvm.functions.items import reach
from mlutriton.codegen.llvm.loans import Loans
from mlutriton.codegen.llvm.loops.fusion import Group, emit_group, group_of, reduction_group
from mlutriton.codegen.llvm.loops.known import KnownValues
from mlutriton.codegen.llvm.loops.reductions import is_short, short_reduction
from mlutriton.codegen.llvm.loops.steps import COPY, Exchange, Step, elementwise_step, exchange, iota_step, repeat_step
from mlutriton.codegen.llvm.loops.tables import Table
from mlutriton.codegen.llvm.places import Place
from mlutriton.codegen.llvm.runtime.tasks import turn
from mlutriton.codegen.llvm.scoreboard import Scoreboard
from mlutriton.codegen.llvm.transfers import Transfers
from mlutriton.dtypes import I64, DType
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    AT_BARRIER,
    OVER,
    PROGRAM,
    PROGRAM_TABLE,
    TOGETHER,
    Begin,
    Context,
    Fault,
    NativeText,
)
from mlutriton.isa.operands import FORWARD, Mode, Register
from mlutriton.isa.program import Program
from mlutriton.isa.table import SPECIAL_REGISTERS, TABLE, Access, Queue, Row, SlotKind

_PROGRAM_ARGUMENTS = (
    "ptr noalias %context, ptr noalias %nram, ptr noalias %wram, ptr noalias %sram, ptr noalias %scratch,"
    " ptr noalias %runtime, ptr noalias %parameters, ptr noalias %work, ptr %limit, i64 %number, i64 %x, i64 %y, i64 %z"
)


def translate(
    program: Program,
    machine: Machine,
    *,
    with_values: bool = True,
    disjoint: bool | None = None,
    untaken: Collection[int] = (),
    begin: Begin | None = None,
) -> NativeText:
    """The LLVM IR of a legal program; it exports ``PROGRAM_TABLE`` (see :mod:`mlutriton.isa.native_interface`).

    Args:
        program: what to run.
        machine: decides the cycles of the trace.
        with_values: False leaves out all arithmetic and data; then no path, address or count may depend on loaded data.
        disjoint: whether the arrays of all launches that will run the code are disjoint; None if they may be either.
        untaken: first instructions of versions that none of these launches takes, which are left out.
        begin: told of texts before the rest is translated.
    """
    control, loops = Library(begin), Library(begin)
    translation = _Translation(program, machine, control, loops, with_values, disjoint, untaken)
    functions = [translation.text()]
    if program.cores_per_program > 1:
        has_common = translation.common_weights.is_used
        before = partial(forget_all, program=program, machine=machine) if has_common else None
        together = cooperation(control, _PROGRAM_ARGUMENTS, program.cores_per_program, translation.saved_words, before)
        functions.append(together)
    functions.append(translation.table())
    shared = {**control.modules, **loops.modules}
    parts = [*loops.parts, *filter(None, [loops.text()])]
    return NativeText("\n".join([control.text(), *functions, "!0 = !{}", ""]), tuple(parts), tuple(shared.values()))


class _Translation:
    """The function that runs one program."""

    def __init__(
        self,
        program: Program,
        machine: Machine,
        control: Library,
        loops: Library,
        with_values: bool,
        disjoint: bool | None,
        untaken: Collection[int],
    ) -> None:
        self.e = Emitter(control)
        self.program = program
        self.is_cooperative = program.cores_per_program > 1
        self.with_values = with_values
        self.blocks = basic_blocks(program, disjoint=disjoint, untaken=untaken)
        life = register_life(program, self.blocks)
        # Who goes on behind a barrier finds only what has a place.
        lasting = 0 if self.is_cooperative else life.lasting
        self.frame = Frame(self.e, loops, program, machine, life.live, lasting)
        self.scoreboard = Scoreboard(self.frame)
        run = [each for block in self.blocks for each in program.instructions[block.start : block.end]]
        self.loans = Loans(self.frame, machine, run, with_values=with_values)
        self.common_weights = CommonWeights(self.frame, machine, with_values=with_values)
        self.transfers = Transfers(
            self.frame, self.scoreboard, self.loans, self.common_weights, with_values=with_values
        )
        self.liveness = Liveness(program, self.blocks)
        # Element-wise instructions whose loops are not written yet, and the steps of a chain that is not complete.
        self.groups: list[Group] = []
        self.chain: list[Step] = []
        # Reductions by twos whose results are handed on to an instruction that comes later in the block, by its number.
        self.exchanges: dict[int, Exchange] = {}
        self.block_end = 0
        self.known = KnownValues(program)
        # What the current instruction has written, as far as it is known, and the groups that write what is known: most
        # are never needed.
        self.learnt: list[tuple[Place, Table]] = []
        self.unwritten: list[Group] = []

    @property
    def saved_words(self) -> int:
        """Words that a core keeps while it waits at a barrier: where it goes on, and its variables."""
        return 1 + len(self.frame.variables)

    def text(self) -> str:
        """The whole function; it returns ``OVER``, ``FAILED`` or ``AT_BARRIER``."""
        e = self.e
        if self.is_cooperative:
            self._resume()
        self.loans.begin()
        for place in self.frame.cleared:
            e.store64(0, place)
        self.scoreboard.begin_fold()
        e.jump("b0")
        last = max((place for place, block in enumerate(self.blocks) if self._has_loops(block)), default=None)
        for place, block in enumerate(self.blocks):
            self._block(block)
            if place == last:
                # What is left to write takes as long as to compile the last loops.
                self.frame.loops.end_part(is_last=True)
        self.frame.faults.finish()
        arguments = f"{_PROGRAM_ARGUMENTS}, ptr noalias %saved" if self.is_cooperative else _PROGRAM_ARGUMENTS
        return e.function(f"define i64 @{PROGRAM}({arguments})")

    def _has_loops(self, block: Block) -> bool:
        """Whether a block computes on tiles."""
        return any(each.row.queue is Queue.COMPUTE for each in self.program.instructions[block.start : block.end])

    def table(self) -> str:
        """The ``PROGRAM_TABLE`` of the function that is written."""
        terms = [word for term in self.scoreboard.terms for word in term]
        words = self.scoreboard.counters, len(self.scoreboard.terms), *terms
        kind, name = f"[{len(words)} x i64]", TOGETHER if self.is_cooperative else PROGRAM
        values = ", ".join(f"i64 {word}" for word in words)
        return f"@{PROGRAM_TABLE} = constant {{ ptr, {kind} }} {{ ptr @{name}, {kind} [{values}] }}"

    def _resume(self) -> None:
        """Go on behind the barrier at which the program was left, if it was."""
        e, instructions = self.e, self.program.instructions
        ends = [block.end for block in self.blocks if block.end > block.start]
        behind = [end for end in ends if instructions[end - 1].row.name == "barrier.cluster"]
        place = e.load64("%saved")
        e.branch(e.value(f"icmp eq i64 {place}, 0"), "begin", "resume")
        e.label("resume")
        for index, variable in enumerate(self.frame.variables, 1):
            e.store64(e.load64(e.pointer("%saved", 8 * index)), variable)
        e.do(f"switch i64 {place}, label %begin [ {' '.join(f'i64 {start}, label %b{start}' for start in behind)} ]")
        e.label("begin")

    def _suspend(self, behind: int) -> None:
        """Leave the program at a barrier, to be resumed at the instruction behind it.

        What is not read there is not kept: of a program with many versions, that is nearly all of it.
        """
        e = self.e
        for number, variable in self.frame.variables_behind():
            e.store64(e.load64(variable), e.pointer("%saved", 8 * (number + 1)))
        e.store64(behind, "%saved")
        e.do(f"ret i64 {AT_BARRIER}")

    def _block(self, block: Block) -> None:
        e, frame = self.e, self.frame
        e.label(f"b{block.start}")
        frame.begin_block(block.start)
        if block.start == block.end:
            frame.begin(block.start)
            frame.fault_if("true", Fault.UNTAKEN)
            e.do("unreachable")
            return
        self.known.begin_block()
        self.block_end = block.end
        self.scoreboard.begin_block(block.start)
        for index in range(block.start, block.end):
            frame.begin(index)
            self.scoreboard.account()
            row = frame.instruction.row
            if row.memory_slots:
                self._write_what_is_left()
                self._instruction(row)
                self._note_what_is_written()
            else:
                self._instruction(row)
        name = frame.instruction.row.name
        condition = frame.flag("condition") if name == "cbr" and len(block.successors) > 1 else ""
        for group in self.unwritten:
            if any(self.liveness.is_live(frame.index, place.low, place.high) for place in group.writes):
                self._join(group)
        self.unwritten = []
        self._finish_groups()
        self.scoreboard.end_block()
        if name == "exit":
            e.do(f"ret i64 {OVER}")
            return
        if name == "barrier.cluster" and self.is_cooperative:
            self._suspend(block.end)
            return
        if is_backward(block):
            self._loop_closes()
        targets = [f"b{successor}" for successor in block.successors]
        if condition:
            e.branch(condition, *targets)
        else:
            e.jump(targets[0])

    def _loop_closes(self) -> None:
        """Stop if the host wants it, and keep the fold within bounds."""
        e = self.e
        self.scoreboard.split_fold()
        limit = e.value("load atomic i64, ptr %limit monotonic, align 8")
        self.frame.fault_if(e.value(f"icmp slt i64 {limit}, 0"), Fault.STOPPED)

    # ---- one instruction --------------------------------------------------------------------------------------------

    def _instruction(self, row: Row) -> None:
        if row.trace:
            if row.queue is not Queue.SCALAR or row.name == "exit":
                self._finish_groups()
            self.transfers.emit()
        elif row.queue is Queue.SCALAR:
            self._scalar(row)
        else:
            self._check_windows()
            if self.with_values and not self.frame.is_surely_empty:
                self._compute(row)

    def _places(self, *access: Access) -> list[Place]:
        """What the current instruction touches on the chip."""
        row, found = self.frame.instruction.row, list[Place]()
        for slot, how in row.memory_slots:
            if how in access and (place := self.frame.place(row.slots[slot].name)) is not None:
                found.append(place)
        return found

    def _write_what_is_left(self) -> None:
        """Let what is known be written, if the current instruction writes over a part of it and it is read by then.

        It may be the current instruction that reads it, or one before in its chain.
        """
        written = self._places(Access.WRITE, Access.READ_WRITE)
        for group in [each for each in self.unwritten if each.touches(written)]:
            self.unwritten.remove(group)
            steps = [*self.chain, *(each.step for each in self.exchanges.values())]
            read = [source for step in steps for source in step.sources if isinstance(source, Place)]
            is_read = group.touches([*read, *self._places(Access.READ, Access.READ_WRITE)])
            outlives = (self.liveness.outlives(self.frame.index, place.low, place.high) for place in group.writes)
            if is_read or any(outlives):
                self._join(group)

    def _note_what_is_written(self) -> None:
        for place in self._places(Access.WRITE, Access.READ_WRITE):
            self.known.forget(place)
        for place, table in self.learnt:
            self.known.remember(place, table)
        self.learnt = []

    def _check_windows(self) -> None:
        row = self.frame.instruction.row
        for slot, _ in row.memory_slots:
            self.frame.check_window(row.slots[slot].name)

    def _place(self, name: str) -> Place:
        place = self.frame.place(name)
        assert place is not None
        return place

    def _pointer(self, name: str) -> str:
        return self.frame.pointer(self._place(name))

    def _source(self, name: str) -> str:
        """The address at which an operand is read: what is lent lies outside the chip."""
        place = self._place(name)
        if not self.loans.concern(place):
            return self.frame.pointer(place)
        return self.e.pointer("%nram", self.loans.source(place))

    # ---- scalar instructions ----------------------------------------------------------------------------------------

    def _scalar(self, row: Row) -> None:
        frame, e = self.frame, self.e
        if row.operation is not None:
            to = frame.instruction.dtypes[1] if row.operation.is_cast else None
            operands = [frame.scalar(slot.name) for slot in row.slots[1:]]
            result = apply(e, row.operation.name, operands, to)
            frame.set_result(result)
            if row.operation.name in ("add", "sub", "mul") and result.dtype is I64:
                frame.learn(result.number, row.operation.name, [number_of(e, operand) for operand in operands])
            return
        match row.name:
            case "mov":
                frame.set_result(frame.scalar("a"))
            case "param":
                index = frame.integer("index")
                assert isinstance(index, int)
                frame.set_register(frame.operand("rd"), e.load64(e.pointer("%parameters", 8 * index)))
            case "sreg":
                self._special_register()
            case "reach":
                name = reach(e.library)
                address = frame.scalar_bits("address")
                call = f"call i64 @{name}(ptr %context, i64 {address}, i64 {frame.integer('stored')})"
                frame.set_register(frame.operand("rd"), e.value(call))
            case "serve":
                served = frame.operand("program")
                value = frame.register(served) if isinstance(served, Register) else str(served)
                e.store64(value, e.word(Context.SERVED))
            case "lds" | "sts":
                self._check_windows()
                self._scalar_access(row.name)
            case "br" | "cbr":
                pass
            case "pause":
                self._finish_groups()
                self.loans.settle()
                unchanged = e.value(f"zext i1 {frame.flag('unchanged')} to i64")
                stopped = turn(e, "%number", frame.index, unchanged, frame.scalar_bits("attempt"))
                frame.fault_if(e.value(f"icmp ne i64 {stopped}, 0"), Fault.STOPPED)
            case "assert":
                failed = e.value(f"xor i1 {frame.flag('condition')}, true")
                frame.fault_if(failed, Fault.ASSERTION, str(frame.integer("message")))
            case _:
                assert row.name.startswith("print."), row.name
                if self.with_values:
                    self._print()

    def _special_register(self) -> None:
        frame, e = self.frame, self.e
        index = frame.integer("index")
        assert isinstance(index, int)
        grid = {f"num_programs.{axis}": word for axis, word in zip("xyz", _GRID_WORDS, strict=True)}
        match SPECIAL_REGISTERS[index]:
            case "core_in_cluster":
                value = e.load64(e.word(Context.MEMBER))
            case "cores_per_cluster":
                value = e.value(f"add i64 0, {self.program.cores_per_program}")
            case "local_memory":
                value = e.load64(e.word(Context.LOCAL))
            case "arrays_disjoint":
                value = e.load64(e.word(Context.DISJOINT))
            case "task":
                value = "%number"
            case "tasks":
                value = e.load64(e.word(Context.TASKS))
            case "programs":
                extents = [e.load64(e.word(word)) for word in _GRID_WORDS]
                value = str(e.multiply(e.multiply(extents[0], extents[1]), extents[2]))
            case name if name in grid:
                value = e.load64(e.pointer("%context", 8 * grid[name]))
            case name:
                value = "%" + name.removeprefix("program_id.")
        frame.set_register(frame.operand("rd"), value)

    def _scalar_access(self, name: str) -> None:
        frame, dtype = self.frame, self.frame.instruction.dtypes[0]
        if not self.with_values:
            if name == "lds":
                frame.set_result(Lanes(dtype, 1, bits="0"))
            return
        self._finish_groups()
        self.loans.settle()
        if name == "lds":
            frame.set_result(load(self.e, self._pointer("a"), dtype, 1))
        else:
            store(self.e, frame.scalar("value"), self._pointer("dst"))

    def _print(self) -> None:
        frame, e = self.frame, self.e
        name = frame.instruction.row.name
        pointer: str
        count: Count
        match name:
            case "print.vector":
                self._check_windows()
                self._finish_groups()
                self.loans.settle()
                pointer, count, width = self._pointer("a"), frame.count("n"), frame.dtype("a").bytes
            case "print.scalar":
                pointer, count, width = self.transfers.vector_operand("value")[0], 1, frame.dtype("value").bytes
            case _:
                pointer, count, width = "null", 0, 0
        size = e.multiply(count, width)
        served = e.load64(e.word(Context.SERVED))
        values = e.value(f"ptrtoint ptr {pointer} to i64")
        arguments = ("%context", served, frame.index, count, size, values)
        if isinstance(count, str):
            with e.when(e.value(f"icmp ne i64 {count}, 0")):
                frame.call("print", arguments, pointers=1)
        elif count or name == "print.text":
            frame.call("print", arguments, pointers=1)

    # ---- vector and tensor instructions -----------------------------------------------------------------------------

    def _compute(self, row: Row) -> None:
        frame = self.frame
        handed_on = self.exchanges.pop(frame.index, None)
        if handed_on:
            self.chain.append(handed_on.step)
        if row.is_elementwise or row.name == "v.mov":
            pairs = handed_on and replace(handed_on.pairs, mode=Mode.ROW)
            rows, columns, step = elementwise_step(frame, pairs)
            self.chain.append(step)
            if frame.instruction.operands[0] != FORWARD:
                chain, self.chain = self.chain, []
                self._join_steps(rows, columns, chain)
        elif row.name == "v.iota":
            self._join_steps(1, frame.count("n"), [iota_step(frame)])
        elif row.name == "v.repeat" and handed_on:
            chain, self.chain = [*self.chain, Step(COPY, None, (None,), frame.place("dst"))], []
            self._join_steps(1, self._elements(), chain)
        elif row.name == "v.repeat" and (repeated := repeat_step(frame)) is not None:
            self._join_steps(repeated[0], repeated[1], [repeated[2]])
        elif row.name.startswith("red.") and row.combine is not None and self._is_long_row():
            group = reduction_group(frame)
            group.end = frame.index
            self._write_known(group.reads)
            self._join(group)
        elif row.name.startswith("red.") and (found := exchange(frame, self.liveness, self.block_end)) is not None:
            self.exchanges[found.reader] = found
            read = self._place("a")
            self.liveness.defer_read(frame.index, found.reader, read.low, read.high)
        else:
            self._finish_groups()
            self.loans.settle()
            empty = frame.is_empty()
            if isinstance(empty, str):
                with frame.conditional(self.e.value(f"xor i1 {empty}, true")):
                    self._collective(row)
            else:
                self._collective(row)

    def _elements(self) -> int:
        """The product of the extents, which are known."""
        return prod(int(self.frame.count(name)) for name in self.frame.instruction.row.extents)

    def _is_long_row(self) -> bool:
        n, inner = self.frame.count("n"), self.frame.count("inner")
        return inner == 1 and not is_short(n, inner)

    def _join_steps(self, rows: Count, columns: Count, steps: list[Step]) -> None:
        """Let element-wise instructions join an earlier group, with what is known of their sources."""
        steps, self.learnt = self.known.within(rows, columns, steps)
        group = group_of(rows, columns, steps)
        group.end = self.frame.index
        if self.learnt and not group.reads:
            self.unwritten.append(group)
            return
        self._write_known(group.reads)
        self._join(group)

    def _write_known(self, places: list[Place]) -> None:
        """Let what is known be written, before something reads it that does not know it."""
        for group in [each for each in self.unwritten if each.touches(places)]:
            self.unwritten.remove(group)
            self._join(group)

    def _join(self, group: Group) -> None:
        """Let the instructions of a group join an earlier one if they can.

        They may pass by groups that have nothing to do with either: instructions over one half of some rows may stand
        between those over the other half. What only they need, such as a mask that is made in between, goes first.
        """
        later: list[Group] = []
        for place in reversed(range(len(self.groups))):
            earlier = self.groups[place]
            order = _around(group, later)
            if order is not None and all(each.is_apart(earlier) for each in order[0]) and earlier.accepts(group):
                earlier.join(group)
                earlier.needed += [read for each in order[1] for read in each.reads]
                self.groups[place:] = [*order[0], earlier, *order[1]]
                return
            if len(later) == _MAXIMUM_SKIPPED:
                break
            later.insert(0, earlier)
        self.groups.append(group)

    def _finish_groups(self) -> None:
        """Write the loops of the waiting groups: something needs their results, or cannot be joined with them."""
        self._write_known(self._places(Access.READ, Access.READ_WRITE))
        groups, self.groups = self.groups, []
        for group in groups:
            emit_group(self.frame, group, self.liveness, self.loans)

    def _transpose(self, counts: Sequence[Count], dtype: DType) -> None:
        """Write a transpose: in registers where its extents are known to suit these."""
        frame, (batch, rows, columns, inner) = self.frame, counts
        target, source = self._pointer("dst"), self._pointer("a")
        width = self.e.multiply(inner, dtype.bytes)
        tile = collectives.transpose_tile(width, rows, columns) if isinstance(width, int) else None
        if tile is None:
            frame.call("transpose", (target, source, batch, rows, columns, width), pointers=2)
            return
        function = frame.shared_function(collectives.transpose, width, tile)
        extents = f"i64 {batch}, i64 {rows}, i64 {columns}"
        self.e.do(f"call void @{function}(ptr {target}, ptr {source}, {extents})")

    def _collective(self, row: Row) -> None:
        """Write a vector or tensor instruction that is a call."""
        frame, e = self.frame, self.e
        dtype = frame.instruction.dtypes[0]
        counts = [frame.count(slot.name) for slot in row.slots if slot.kind is SlotKind.COUNT]
        extents = ", ".join(f"i64 {count}" for count in counts)
        match row.name.split("."):
            case ["mm"]:
                addresses = [self._pointer(name) for name in "caw"]
                if self.loans.concern(left := self._place("a")):
                    depth_bytes, row_bytes = (e.multiply(count, dtype.bytes) for count in counts[2:])
                    offset, stride = self.loans.source_rows(left, row_bytes, depth_bytes)
                    addresses[1], counts[3] = e.pointer("%nram", offset), e.value(f"sdiv i64 {stride}, {dtype.bytes}")
                if self.common_weights.is_used:
                    addresses[2] = self.common_weights.pointer(self._place("w"))
                accumulate = frame.scalar_bits("accumulate")
                frame.call(f"mm_{dtype}", (*addresses, "%scratch", *counts, accumulate), pointers=4)
            case ["v", "transpose"]:
                self._transpose(counts, dtype)
            case ["v", "repeat"]:
                outer, n, inner = counts
                line = e.multiply(inner, dtype.bytes)
                arguments = (
                    self._pointer("dst"),
                    self._pointer("a"),
                    line,
                    n,
                    outer,
                    line,
                    e.multiply(n, line),
                    0,
                    line,
                )
                frame.call("copy", arguments, pointers=2)
            case ["v", "gather"]:
                function = frame.shared_function(collectives.local_gather, dtype, frame.instruction.dtypes[1])
                pointers = ", ".join(f"ptr {self._pointer(name)}" for name in ("dst", "a", "index"))
                frame.stop_if_failed(e.value(f"call i64 @{function}(ptr %context, {pointers}, {extents})"))
            case ["v", "lookup"]:
                function = frame.shared_function(collectives.look_up, dtype, frame.instruction.dtypes[1])
                pointers = ", ".join(f"ptr {self._pointer(name)}" for name in ("dst", "a", "index"))
                chosen = (self.transfers.vector_operand(name) for name in ("mask", "fill"))
                operands = ", ".join(f"ptr {pointer}, i64 {stride}" for pointer, stride in chosen)
                operands = f"{pointers}, i64 {frame.scalar_bits('src')}, {operands}, {extents}"
                operands = f"{operands}, i64 {frame.scalar_bits('elements')}"
                frame.stop_if_failed(e.value(f"call i64 @{function}(ptr %context, {operands})"))
            case ["v", "histogram" | "collect" as which]:
                mask, stride = self.transfers.vector_operand("mask")
                define = collectives.histogram if which == "histogram" else collectives.collect
                function = frame.shared_function(define, dtype)
                pointers = f"ptr {self._pointer('dst')}, ptr {self._pointer('a')}, ptr {mask}, i64 {stride}"
                e.do(f"call void @{function}({pointers}, {extents})")
            case ["red", "argmax" | "argmin" as which]:
                function = frame.shared_function(place_of_extreme, dtype, which == "argmax")
                pointers = f"ptr {self._pointer('dst')}, ptr {self._pointer('index')}, ptr {self._source('a')}"
                e.do(f"call void @{function}({pointers}, {extents})")
            case ["scan", operation]:
                function = frame.shared_function(collectives.scan, operation, dtype)
                pointers = f"ptr {self._pointer('dst')}, ptr {self._source('a')}"
                e.do(f"call void @{function}({pointers}, {extents}, i64 {frame.integer('reverse')})")
            case ["red", operation]:
                self._column_reduction(operation)
            case _:
                raise AssertionError(row.name)

    def _column_reduction(self, operation: str) -> None:
        """A reduction whose inner extent is not 1, or known only when it runs."""
        frame, e = self.frame, self.e
        n, inner = frame.count("n"), frame.count("inner")
        dtype = frame.instruction.dtypes[0]
        if isinstance(n, int) and isinstance(inner, int) and is_short(n, inner):
            # It reads further past the end than what is lent may be.
            self.loans.bring(self._place("a"))
            function = frame.shared_function(short_reduction, operation, dtype, n, inner)
            pointers = f"ptr {self._pointer('dst')}, ptr {self._pointer('a')}"
            e.do(f"call void @{function}({pointers}, i64 {frame.count('outer')})")
            return
        function = frame.shared_function(collectives.column_reduction, operation, dtype)
        counts = ", ".join(f"i64 {frame.count(name)}" for name in ("outer", "n", "inner"))
        pointers = f"ptr {self._pointer('dst')}, ptr {self._source('a')}"
        call = f"call void @{function}({pointers}, {counts})"
        if isinstance(inner, int):
            e.do(call)
            return
        group, is_row = reduction_group(frame), e.value(f"icmp eq i64 {inner}, 1")
        group.end = frame.index
        with e.when(is_row):
            emit_group(frame, group, self.liveness, self.loans)
        with e.when(e.value(f"xor i1 {is_row}, true")):
            e.do(call)


# More waiting groups to look past only take time.
_MAXIMUM_SKIPPED = 3


def _around(group: Group, others: list[Group]) -> tuple[list[Group], list[Group]] | None:
    """Which groups have to go before one that follows them, and which may go behind it; None if they cannot part."""
    before: list[Group] = []
    behind: list[Group] = []
    for other in others:
        if other.is_apart(group):
            behind.append(other)
        elif all(each.is_apart(other) for each in behind):
            before.append(other)
        else:
            return None
    return before, behind


_GRID_WORDS = (Context.GRID_X, Context.GRID_Y, Context.GRID_Z)


_FAMILIES = ("red.", "scan.", "print.")
_CALLS = {"mm", "v.mov", "v.iota", "v.repeat", "v.transpose", "v.gather", "v.lookup", "v.histogram", "v.collect"}
_SCALARS = {"mov", "param", "sreg", "reach", "serve", "lds", "sts", "br", "cbr", "assert", "pause"}
_unknown = {
    row.name
    for row in TABLE.values()
    if not (row.operation or row.trace or row.name in _CALLS | _SCALARS or row.name.startswith(_FAMILIES))
}
assert not _unknown, f"instructions without a translation: {sorted(_unknown)}"
