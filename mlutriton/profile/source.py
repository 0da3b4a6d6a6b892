"""The kernel's own text, each line beside what it cost."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlutriton.isa.table import Queue
from mlutriton.profile.waits import QUEUE_CAUSES, waits
from mlutriton.simulator.line_costs import LineCost
from mlutriton.simulator.replay.timing import Cause
from mlutriton.simulator.report import Run

_QUEUES = {Queue.COMPUTE: "compute", Queue.IO: "DMA", Queue.MOVE: "moves"}
_TEXT_OF_CAUSE = {
    Cause.WAIT_IO_SETUP: "DMA set-up",
    Cause.WAIT_IO_LATENCY: "DMA latency",
    Cause.WAIT_IO_TRANSFER: "DMA transfer",
    Cause.WAIT_IO_CONTENTION: "shared bandwidth",
    Cause.WAIT_MOVE: "moves",
    Cause.WAIT_COMPUTE: "compute",
    Cause.SYNC: "syncs",
    Cause.SCALAR_MEMORY: "scalar memory",
    Cause.ATOMIC: "atomics",
    Cause.BARRIER: "barriers",
}


@dataclass(frozen=True)
class SourceLine:
    """A line of a kernel.

    Attributes:
        number: in its file, from 1.
        text: without the line's end.
        cost: None if no instruction stems from it.
        share: of the cycles of queues and stalls of the launch, those of this line.
        awaited: lines of the file whose work cores wait for here, with the name of the queue that does it.
    """

    number: int
    text: str
    cost: LineCost | None
    share: float
    awaited: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def stalls(self) -> list[tuple[str, int]]:
        """What cores waited for here, in words and cycles, the longest first."""
        if self.cost is None:
            return []
        named = [(_TEXT_OF_CAUSE[cause], cycles) for cause, cycles in self.cost.stall_cycles.items() if cycles]
        return sorted(named, key=lambda pair: -pair[1])


@dataclass(frozen=True)
class SourcePart:
    """Consecutive lines of a file: a function that has costs, or a line whose function is not known."""

    file: str
    lines: tuple[SourceLine, ...]

    @property
    def share(self) -> float:
        """Of the costs of the launch."""
        return sum(line.share for line in self.lines)


def weight(cost: LineCost) -> int:
    """What lines are compared by: cycles of the queues that they keep busy, and of cores that wait at them."""
    return cost.scalar_cycles + cost.compute_cycles + cost.io_cycles + cost.move_cycles + cost.stalled_cycles


def annotated(run: Run, lines: Mapping[tuple[str, int], LineCost]) -> list[SourcePart]:
    """The functions that costs stem from, with their costs; the costliest first, and none that costs nothing."""
    total = max(sum(weight(cost) for cost in lines.values()), 1)
    by_file: dict[str, dict[int, LineCost]] = {}
    for (file, number), cost in lines.items():
        by_file.setdefault(file, {})[number] = cost
    awaited = _awaited(run)
    parts: list[SourcePart] = []
    for file, costs in by_file.items():
        texts = run.sources.get(file, "").splitlines()
        for first, last in _spans("\n".join(texts), sorted(costs)):
            parts.append(
                SourcePart(
                    file,
                    tuple(
                        SourceLine(
                            number,
                            texts[number - 1] if 0 < number <= len(texts) else "",
                            costs.get(number),
                            weight(costs[number]) / total if number in costs else 0.0,
                            awaited.get((file, number), ()),
                        )
                        for number in range(first, last + 1)
                    ),
                )
            )
    return sorted((part for part in parts if part.share), key=lambda part: -part.share)


def _awaited(run: Run) -> dict[tuple[str, int], tuple[tuple[str, tuple[int, ...]], ...]]:
    """For each line with a sync at which cores stall: the lines that are waited for, by queue."""
    stalls = run.timing_with_events.stalls
    assert stalls is not None
    found: dict[tuple[str, int], dict[str, set[int]]] = {}
    instructions = run.program.instructions
    for (number, queue), wait in waits(run.program).items():
        here = instructions[number].location
        if not any(stalls[number, cause] for cause in QUEUE_CAUSES[queue]):
            continue
        lines = {at.line for each in wait.under_way if (at := instructions[each].location).file == here.file}
        found.setdefault((here.file, here.line), {}).setdefault(_QUEUES[queue], set()).update(lines)
    return {
        place: tuple((queue, tuple(sorted(lines))) for queue, lines in by_queue.items())
        for place, by_queue in found.items()
    }


def _spans(text: str, numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and last line of each function that holds one of the lines; a line outside all of them by itself."""
    functions = sorted(_functions(text))
    reached = 0
    for number in numbers:
        if number <= reached and number:
            continue
        # The outermost: a kernel with functions within is one text.
        holding = [span for span in functions if span[0] <= number <= span[1]]
        first, last = holding[0] if holding else (number, number)
        yield first, last
        reached = last


def _functions(text: str) -> Iterator[tuple[int, int]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield first, node.end_lineno or node.lineno
