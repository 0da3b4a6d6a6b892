"""Where the faults of a translated program meet, and end it."""

from __future__ import annotations

from mlutriton.codegen.llvm.emitter import Count, Emitter
from mlutriton.isa.native_interface import FAILED, Context, Fault

# Where faults meet, one number has the fault, the slot and the instruction: what leads there shall cost next to nothing
# where all is well. LLVM takes long where very many meet.
_FAULT_BITS = _SLOT_BITS = 8
_FAULTS_TOGETHER = 64


def record_fault(e: Emitter, fault: Fault, address: Count, size_bytes: Count) -> None:
    """Note a fault in the context; the caller adds the instruction and the program."""
    e.store64(int(fault), e.word(Context.FAULT))
    e.store64(address, e.word(Context.FAULT_ADDRESS))
    e.store64(size_bytes, e.word(Context.FAULT_BYTES))


class Faults:
    """The faults of a program so far."""

    def __init__(self, e: Emitter) -> None:
        self._e = e
        # Where they come from: block and values; those that a runtime function has noted, and others.
        self._failures: list[tuple[str, int]] = []
        self._faults: list[tuple[str, int, str, str]] = []

    def where(self, condition: str, fault: Fault, index: int, slot: int, address: str, size_bytes: str) -> None:
        """Stop the program where a condition holds.

        Args:
            condition: IR value.
            fault: what it means.
            index: number of the instruction.
            slot: of the operand that has the fault.
            address: IR value that the fault is about.
            size_bytes: likewise.
        """
        e = self._e
        on = e.fresh("on")
        what = (index << _SLOT_BITS | slot) << _FAULT_BITS | fault
        label = f"fault{len(self._faults) // _FAULTS_TOGETHER}"
        self._faults.append((e.current, what, address, size_bytes))
        e.branch(condition, label, on)
        e.go_on(on)

    def where_failed(self, result: str, index: int) -> None:
        """Stop the program where a runtime function gave -1, having noted the fault of an instruction."""
        e = self._e
        on = e.fresh("on")
        label = f"failure{len(self._failures) // _FAULTS_TOGETHER}"
        self._failures.append((e.current, index))
        e.branch(e.value(f"icmp eq i64 {result}, -1"), label, on)
        e.go_on(on)

    def finish(self) -> None:
        """Write the ends of the function at which all faults meet."""
        e = self._e

        def meet(values: list[tuple[Count, str]]) -> str:
            return e.value("phi i64 " + ", ".join(f"[ {value}, %{block} ]" for value, block in values))

        for first in range(0, len(self._faults), _FAULTS_TOGETHER):
            faults = self._faults[first : first + _FAULTS_TOGETHER]
            e.label(f"fault{first // _FAULTS_TOGETHER}")
            what = meet([(each[1], each[0]) for each in faults])
            address, size = (meet([(each[field], each[0]) for each in faults]) for field in (2, 3))
            rest = e.value(f"lshr i64 {what}, {_FAULT_BITS}")
            fault = e.value(f"and i64 {what}, {(1 << _FAULT_BITS) - 1}")
            slot = e.value(f"and i64 {rest}, {(1 << _SLOT_BITS) - 1}")
            words = {
                Context.FAULT: fault,
                Context.FAULT_ADDRESS: address,
                Context.FAULT_BYTES: size,
                Context.FAULT_SLOT: slot,
            }
            for word, value in words.items():
                e.store64(value, e.word(word))
            self._stop(e.value(f"lshr i64 {rest}, {_SLOT_BITS}"))
        for first in range(0, len(self._failures), _FAULTS_TOGETHER):
            e.label(f"failure{first // _FAULTS_TOGETHER}")
            failures = self._failures[first : first + _FAULTS_TOGETHER]
            self._stop(meet([(index, block) for block, index in failures]))

    def _stop(self, instruction: str) -> None:
        self._e.store64(instruction, self._e.word(Context.FAULT_INSTRUCTION))
        self._e.do(f"ret i64 {FAILED}")
