"""Time and work in native code: folds local work into three integers, writes the records of the trace, counts work.

The fold of :mod:`mlutriton.isa.trace_format` is max-plus affine, so that a run of instructions whose costs are known
becomes three constants; only costs that depend on registers leave code behind.
"""

from __future__ import annotations

from functools import cache

from mlutriton.codegen.llvm.emitter import Count, Emitter
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.places import Place
from mlutriton.isa.cost import environment, issue_cycles
from mlutriton.isa.exchanged import exchanging_steps
from mlutriton.isa.expression import parse
from mlutriton.isa.native_interface import NO_HEAD, Context, Counter, InstructionWork
from mlutriton.isa.operands import Forward
from mlutriton.isa.program import Instruction
from mlutriton.isa.repetition import repeated_steps
from mlutriton.isa.table import TABLE, Access, Queue, SlotKind
from mlutriton.isa.trace_format import (
    AMOUNT_SHIFT,
    FLAGS_SHIFT,
    INSTRUCTION_SHIFT,
    KIND_SHIFT,
    MAX_INSTRUCTION,
    Kind,
    signed,
)

# First byte and end of nothing: begins after, and ends before everything.
_NOWHERE = (1 << 62, 0)
# A fold is written as a record of its own before a field of the record can overflow.
_FOLD_LIMIT = 1 << 30
_CLASS_COUNTERS = {
    "simple": Counter.VECTOR_SIMPLE_BYTES,
    "fma": Counter.VECTOR_FMA_BYTES,
    "divide": Counter.VECTOR_DIVIDE_BYTES,
    "special": Counter.VECTOR_SPECIAL_BYTES,
}


class Scoreboard:
    """The timing side of a program's translation.

    The context holds the fold since the last record and the work done, variables hold the bytes that the last COMPUTE
    instruction wrote; what is known at translation time is kept in ``_static_*`` and ``_last`` instead and written
    there when it has to be.

    Attributes:
        counters: of work, that a thread has.
        terms: how the table of work follows from these, by ``WorkTerm``.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.counters = 0
        self.terms: list[tuple[int, int, int, int]] = []
        writes = max((len(_slots(i.row.name, Access.WRITE)) for i in frame.program.instructions), default=0)
        self._written = [(frame.variable(), frame.variable()) for _ in range(writes)]
        self._product = frame.variable()
        self._static_scalar = self._static_compute = 0
        self._static_head = NO_HEAD
        self._static_counts: dict[Counter, int] = {}
        # Words of the fold as this block has them, and those that the context has otherwise.
        self._fold: dict[int, Count] = {}
        self._changed = set[int]()
        self._dynamic_counts: dict[Counter, Count] = {}
        # Writes of the last COMPUTE instruction of this block, and whether it was an mm; None before the first.
        self._last: tuple[list[Place], bool] | None = None
        # First instruction of this block, and the cycles of those of its instructions where they are known.
        self._block_start = 0
        self._block_cycles: dict[int, int] = {}
        self._chain_reads: list[tuple[str, Place]] = []
        self._chain_cycles: Count = 0
        # What does no work that another compilation would have to do too.
        self._left_out = repeated_steps(frame.program) | exchanging_steps(frame.program)
        # By row, and by mnemonic: evaluated once.
        self._issue_cycles: dict[str, int] = {}
        self._environments: dict[str, dict[str, int]] = {}
        self._static_occupancies: dict[tuple[Count, ...], Count] = {}

    def begin_fold(self) -> None:
        """Nothing has happened since the last record."""
        for word, nothing in ((Context.FOLD_SCALAR, 0), (Context.FOLD_COMPUTE, 0), (Context.FOLD_HEAD, NO_HEAD)):
            self.frame.e.store64(nothing, self.frame.e.word(word))

    def _add(self, amount: Count, place: str) -> None:
        e = self.frame.e
        e.store64(e.add(e.load64(place), amount), place)

    # ---- folding ----------------------------------------------------------------------------------------------------

    def account(self) -> None:
        """Fold the current instruction: its issue and, on the COMPUTE queue, its occupancy."""
        instruction = self.frame.instruction
        name = instruction.row.name
        if name not in self._issue_cycles:
            self._issue_cycles[name] = issue_cycles(instruction, self.frame.machine)
        self._static_scalar += self._issue_cycles[name]
        if instruction.row.queue is Queue.COMPUTE:
            self._account_compute(instruction)

    def _account_compute(self, instruction: Instruction) -> None:
        frame, row = self.frame, instruction.row
        occupancy = self._occupancy(instruction)
        self._chain_cycles = frame.e.maximum(self._chain_cycles, occupancy) if self._chain_cycles != 0 else occupancy
        for name in _slots(row.name, Access.READ):
            place = frame.place(name)
            if place is not None:
                self._chain_reads.append((name, place))
        writes = [place for name in _slots(row.name, Access.WRITE) if (place := frame.place(name)) is not None]
        if isinstance(instruction.operands[0], Forward):
            return
        self._count_in_block(Counter.BUSY_CYCLES, self._chain_cycles)
        wait = self._wait(is_product=row.name == "mm")
        cycles = frame.e.add(self._chain_cycles, wait)
        self._count_compute(cycles)
        self._fold_compute(cycles)
        self._last = (writes, row.name == "mm")
        self._chain_reads, self._chain_cycles = [], 0

    def _occupancy(self, instruction: Instruction) -> Count:
        frame, row = self.frame, instruction.row
        key = instruction.mnemonic
        if key not in self._environments:
            self._environments[key] = environment(instruction, frame.machine)
        counts = frame.counts()
        names = {**self._environments[key], **counts}
        cycles = self._static_occupancies.get((key, *counts.values()))
        if cycles is None:
            cycles = frame.formulas.expression(parse(row.occupancy), names)
            if isinstance(cycles, int):
                self._static_occupancies[key, *counts.values()] = cycles
        if row.name == "mm":
            self._count_in_block(Counter.TENSOR_CYCLES, cycles)
            macs = frame.e.multiply(frame.e.multiply(counts["rows"], counts["columns"]), counts["depth"])
            self._count_in_block(Counter.MACS, macs)
        elif not row.work or frame.index in self._left_out:
            beat = frame.machine.vector_bytes_per_cycle
            self._count_in_block(Counter.VECTOR_OTHER_BYTES, frame.e.multiply(cycles, beat))
        else:
            operation = row.operation
            counter = _CLASS_COUNTERS[operation.cost_class] if operation else Counter.VECTOR_REDUCTION_BYTES
            self._count_in_block(counter, frame.formulas.expression(parse(row.work), names))
        return cycles

    def _wait(self, *, is_product: bool) -> Count:
        """Cycles between the instruction before in the COMPUTE queue and this one: the interlock."""
        frame, machine = self.frame, self.frame.machine
        e, held, unknown = frame.e, False, ""
        for name, place in self._chain_reads:
            chained = is_product and name == "c"
            if self._last is None:
                condition = self._meets_variables(place, chained=chained)
                unknown = e.value(f"or i1 {unknown}, {condition}") if unknown and condition else unknown or condition
                continue
            writes, wrote_product = self._last
            for written in writes:
                if (chained and wrote_product) or not place.may_overlap(written):
                    continue
                if place.must_overlap(written):
                    held = True
                    continue
                condition = self._meets(place, *_ends(e, written))
                unknown = e.value(f"or i1 {unknown}, {condition}") if unknown else condition
        gap, latency = machine.vector_gap_cycles, machine.vector_latency_cycles
        if held or not unknown:
            return latency if held else gap
        return e.value(f"select i1 {unknown}, i64 {latency}, i64 {gap}")

    def _meets(self, place: Place, start: Count, end: Count) -> str:
        e = self.frame.e
        own_start, own_end = _ends(e, place)
        before = e.value(f"icmp slt i64 {own_start}, {end}")
        return e.value(f"and i1 {before}, {e.value(f'icmp slt i64 {start}, {own_end}')}")

    def _meets_variables(self, place: Place, *, chained: bool) -> str:
        if place.buffer.space != "nram":
            return ""
        e, result = self.frame.e, ""
        for start, end in self._written:
            condition = self._meets(place, e.load64(start), e.load64(end))
            result = e.value(f"or i1 {result}, {condition}") if result else condition
        if chained and result:
            free = e.value(f"icmp eq i64 {e.load64(self._product)}, 0")
            result = e.value(f"and i1 {result}, {free}")
        return result

    def _fold_compute(self, cycles: Count) -> None:
        if isinstance(cycles, int):
            self._static_head = max(self._static_head, self._static_scalar) + cycles
            self._static_compute += cycles
            return
        self._settle()
        head = self.frame.e.maximum(self._word(Context.FOLD_HEAD), self._word(Context.FOLD_SCALAR))
        self._set_word(Context.FOLD_HEAD, self.frame.e.add(head, cycles))
        self._set_word(Context.FOLD_COMPUTE, self.frame.e.add(self._word(Context.FOLD_COMPUTE), cycles))

    def _count_in_block(self, counter: Counter, amount: Count) -> None:
        """Add to a counter of work at the end of the block, which whatever gets here gets to."""
        if isinstance(amount, int):
            self._static_counts[counter] = self._static_counts.get(counter, 0) + amount
        else:
            self._dynamic_counts[counter] = self.frame.e.add(self._dynamic_counts.get(counter, 0), amount)

    def count(self, counter: Counter, amount: Count) -> None:
        """Add to a counter of work."""
        if isinstance(amount, int):
            self._count_in_block(counter, amount)
        else:
            self._add(amount, self.frame.e.word(Context.COUNTERS + counter))

    def _count_compute(self, cycles: Count) -> None:
        """Put cycles of the COMPUTE queue down to the current instruction."""
        if isinstance(cycles, int):
            self._block_cycles[self.frame.index] = cycles
        else:
            counter = self._count_work(cycles)
            self.terms.append((InstructionWork.COMPUTE_CYCLES, self.frame.index, counter, 1))

    def _count_block(self) -> None:
        """Count that this block was executed, of which known cycles of its instructions are multiples."""
        counter = self._count_work(1)
        self.terms.append((InstructionWork.EXECUTIONS, self._block_start, counter, 1))
        known = self._block_cycles.items()
        self.terms += [(InstructionWork.COMPUTE_CYCLES, index, counter, cycles) for index, cycles in known]
        self._block_cycles.clear()

    def _count_work(self, amount: Count) -> int:
        """Add to a counter that nothing else adds to, and return its number."""
        counter, self.counters = self.counters, self.counters + 1
        self._add(amount, self.frame.e.pointer("%work", 8 * counter))
        return counter

    def _word(self, word: int) -> Count:
        if word not in self._fold:
            self._fold[word] = self.frame.e.load64(self.frame.e.word(word))
        return self._fold[word]

    def _set_word(self, word: int, value: Count) -> None:
        self._fold[word] = value
        self._changed.add(word)

    def _settle(self) -> None:
        """Fold what is known into the words."""
        e, scalar, compute = self.frame.e, self._static_scalar, self._static_compute
        if not scalar and self._static_head == NO_HEAD:
            return
        before = self._word(Context.FOLD_SCALAR)
        if self._static_head > NO_HEAD:
            head = e.maximum(e.add(self._word(Context.FOLD_HEAD), compute), e.add(before, self._static_head))
            self._set_word(Context.FOLD_HEAD, head)
            self._set_word(Context.FOLD_COMPUTE, e.add(self._word(Context.FOLD_COMPUTE), compute))
        self._set_word(Context.FOLD_SCALAR, e.add(before, scalar))
        self._static_scalar = self._static_compute = 0
        self._static_head = NO_HEAD

    def flush(self) -> None:
        """Move what is known of the fold into the context."""
        self._settle()
        for word in sorted(self._changed):
            self.frame.e.store64(self._fold[word], self.frame.e.word(word))
        self._fold.clear()
        self._changed.clear()

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def begin_block(self, start: int) -> None:
        """A place where control paths meet, before the instruction ``start``: only variables know what ran last."""
        self._last = None
        self._block_start = start

    def end_block(self) -> None:
        """Leave everything in variables; call it before the branch."""
        e = self.frame.e
        self.flush()
        if self._last is not None:
            writes, is_product = self._last
            ends = [_ends(e, place) for place in writes if place.buffer.space == "nram"]
            ends += [_NOWHERE] * (len(self._written) - len(ends))
            for (start_place, end_place), (start, end) in zip(self._written, ends, strict=True):
                e.store64(start, start_place)
                e.store64(end, end_place)
            e.store64(int(is_product), self._product)
        for counter in sorted(self._static_counts.keys() | self._dynamic_counts.keys()):
            amount = e.add(self._dynamic_counts.get(counter, 0), self._static_counts.get(counter, 0))
            self._add(amount, self.frame.e.word(Context.COUNTERS + counter))
        self._static_counts.clear()
        self._dynamic_counts.clear()
        self._count_block()

    def split_fold(self) -> None:
        """At the way back of a loop: keep the fold within what a record holds."""
        e = self.frame.e
        scalar, compute = (e.load64(e.word(word)) for word in (Context.FOLD_SCALAR, Context.FOLD_COMPUTE))
        full = e.value(f"icmp sge i64 {e.maximum(scalar, compute)}, {_FOLD_LIMIT}")
        with e.when(full):
            self.record(Kind.LOCAL)

    # ---- records ----------------------------------------------------------------------------------------------------

    def record(self, kind: Kind, amount: Count = 0, payload: Count = 0, flags: int = 0) -> None:
        """Write a record of a shared operation; the fold begins anew."""
        self.flush()
        self.frame.call("record", ("%context", *self.fields(kind, amount, payload, flags)), pointers=1)

    def fields(self, kind: Kind, amount: Count = 0, payload: Count = 0, flags: int = 0) -> tuple[Count, Count]:
        """Words 1 and 2 of a record of the current instruction, but for the fold."""
        e = self.frame.e
        middle = e.add(e.multiply(amount, 1 << AMOUNT_SHIFT), kind << KIND_SHIFT | flags << FLAGS_SHIFT)
        instruction = min(self.frame.index, MAX_INSTRUCTION) << INSTRUCTION_SHIFT
        return middle, e.add(payload, signed(instruction))


@cache
def _slots(name: str, access: Access) -> tuple[str, ...]:
    """Names of the on-chip slots of a row with this effect."""
    return tuple(
        slot.name
        for slot in TABLE[name].slots
        if slot.access in (access, Access.READ_WRITE) and slot.kind is not SlotKind.GLOBAL
    )


def _ends(e: Emitter, place: Place) -> tuple[Count, Count]:
    """First byte and end of a place; where it is empty, such that it overlaps nothing."""
    if place.size == 0:
        return _NOWHERE
    start = e.add(place.base or 0, place.start)
    end = e.add(start, place.size)
    if isinstance(place.size, str):
        empty = e.value(f"icmp eq i64 {place.size}, 0")
        start = e.value(f"select i1 {empty}, i64 {_NOWHERE[0]}, i64 {start}")
    return start, end
