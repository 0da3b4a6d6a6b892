"""Where the cycles of the cores went, and how busy each queue was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlutriton.isa.native_interface import Counter, InstructionWork
from mlutriton.isa.table import Queue
from mlutriton.profile import alterations
from mlutriton.profile.waits import QUEUE_BITS, QUEUE_CAUSES, Reason, Wait, waits
from mlutriton.simulator.replay import replay
from mlutriton.simulator.replay.timing import Cause
from mlutriton.simulator.report import Run

REUSE = "buffer re-use"
MATMUL = "matmul"
VECTOR = "vector work"

# In the order in which they are shown. What is said of a wait is what the core would have to be rid of.
CATEGORIES: dict[str, str] = {
    "launch": "the launch on the device, and each wave of tasks after the first",
    "dispatch": "handing tasks to cores",
    "issue": "scalar instructions and handing instructions to queues",
    "DMA set-up": "waiting for descriptors, segments and items of DMA",
    "DMA latency": "waiting for the first byte",
    "DMA transfer": "waiting for bytes at the core's own rate",
    "shared bandwidth": "waiting for bytes beyond that, as cores share DRAM, L2 and ports",
    MATMUL: "waiting for tensor instructions",
    VECTOR: "waiting for vector instructions",
    "moves": "waiting for moves within the chip",
    REUSE: "waiting for a buffer that another queue still uses; a further buffer would spare it",
    "synchronization": "the syncs themselves",
    "scalar memory": "scalar loads and stores of DRAM",
    "atomics": "scalar atomics",
    "barriers": "waiting for other cores",
    "tail": "cores without a program",
}

_OF_CAUSE = {
    Cause.LAUNCH: "launch",
    Cause.DISPATCH: "dispatch",
    Cause.ISSUE: "issue",
    Cause.WAIT_IO_SETUP: "DMA set-up",
    Cause.WAIT_IO_LATENCY: "DMA latency",
    Cause.WAIT_IO_TRANSFER: "DMA transfer",
    Cause.WAIT_IO_CONTENTION: "shared bandwidth",
    Cause.WAIT_MOVE: "moves",
    Cause.WAIT_COMPUTE: VECTOR,
    Cause.SYNC: "synchronization",
    Cause.SCALAR_MEMORY: "scalar memory",
    Cause.ATOMIC: "atomics",
    Cause.BARRIER: "barriers",
    Cause.TAIL_IDLE: "tail",
}
assert set(_OF_CAUSE) == set(Cause)
assert set(_OF_CAUSE.values()) | {MATMUL, REUSE} == set(CATEGORIES)


@dataclass(frozen=True)
class QueueUse:
    """How much of the launch a kind of queue was at work, over all cores.

    Attributes:
        queue: which.
        busy_cycles: all cores together.
        share: of the cycles of all cores.
        note: what kind of work it was.
    """

    queue: Queue
    busy_cycles: int
    share: float
    note: str = ""


def core_cycles(run: Run) -> dict[str, int]:
    """Cycles of all cores by category; every cycle of every core stands in one.

    Waits at syncs that merely free a buffer are put down to that as far as a replay without them is shorter; beyond
    that, they are put down to the queue that uses the buffer, which would have been waited for elsewhere.
    """
    timing = run.timing_with_events
    assert timing.stalls is not None
    cycles = dict.fromkeys(CATEGORIES, 0)
    for cause, category in _OF_CAUSE.items():
        cycles[category] += timing.cycles_of(cause)
    reuse: dict[str, int] = {}
    masks: dict[int, int] = {}
    for (number, queue), wait in waits(run.program).items():
        for cause in QUEUE_CAUSES[queue]:
            stalled = int(timing.stalls[number, cause])
            if not stalled:
                continue
            tensor = round(stalled * _tensor_share(run, wait)) if queue is Queue.COMPUTE else 0
            cycles[_OF_CAUSE[cause]] -= tensor
            cycles[MATMUL] += tensor
            if wait.reason is Reason.REUSE:
                masks[number] = masks.get(number, 0) | QUEUE_BITS[queue]
                for category, part in ((MATMUL, tensor), (_OF_CAUSE[cause], stalled - tensor)):
                    reuse[category] = reuse.get(category, 0) + part
    if masks:
        without = replay(alterations.without_waits(run.trace, masks), run.machine)
        spared = max(run.cycles - without.cycles, 0) * run.machine.cores
        waited = sum(reuse.values())
        for category, stalled in reuse.items():
            part = stalled * min(spared, waited) // waited
            cycles[category] -= part
            cycles[REUSE] += part
    return cycles


def _tensor_share(run: Run, wait: Wait) -> float:
    """The share of tensor instructions in the compute cycles of those that a wait is for."""
    if run.instruction_work is None:
        return 0.0
    cycles = run.instruction_work[InstructionWork.COMPUTE_CYCLES]
    total = int(cycles[list(wait.under_way)].sum())
    tensor = sum(int(cycles[number]) for number in wait.under_way if run.program.instructions[number].row.name == "mm")
    return tensor / max(total, 1)


def queue_uses(run: Run) -> list[QueueUse]:
    """The four queues of a core and how busy they were."""
    timing = run.timing
    total = max(run.cycles * run.machine.cores, 1)
    busy = {
        Queue.SCALAR: timing.cycles_of(Cause.ISSUE) + timing.cycles_of(Cause.SYNC),
        Queue.COMPUTE: int(np.sum(timing.compute_busy_cycles)),
        Queue.IO: int(np.sum(timing.io_busy_cycles)),
        Queue.MOVE: int(np.sum(timing.move_busy_cycles)),
    }
    notes = {Queue.COMPUTE: _compute_note(run), Queue.IO: "set-up and latency included"}
    if not run.machine.has_move_queue:
        notes[Queue.MOVE] = "moves go through IO on this machine"
    return [QueueUse(queue, cycles, cycles / total, notes.get(queue, "")) for queue, cycles in busy.items()]


def _compute_note(run: Run) -> str:
    if run.counters is None:
        return "not counted by the interpreter"
    return (
        f"tensor units {run.counters[Counter.TENSOR_CYCLES] / max(run.cycles * run.machine.cores, 1):.1%}, "
        f"vector units {run.vector_utilization:.1%}"
    )
