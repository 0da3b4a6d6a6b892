"""Programs that wait for one another: they run one at a time, and each that waits lets the next have its turn.

A program gives its turn away where it has looked at memory in vain (``pause``), and at its end if others wait. Turns go
round; behind the last of those that wait a core that is still idle takes the next program of the grid. So as many
programs wait at once as the machine has cores, and the order in which they meet depends on nothing of the host.

The trace holds the looks that were taken here. The replay knows no wait but these: how long a program really waits, and
how often it looks meanwhile, is decided by time that has not been computed yet.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod

from mlutriton.diagnostics import KernelFault
from mlutriton.isa.native_interface import ENDED
from mlutriton.isa.program import Program

# Rounds in which every program looks in vain, after which nothing is going to change. One would do, if looking changed
# nothing: an atomic may count.
MOST_ROUNDS = 64
_INTERRUPT_SECONDS = 0.1
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)


@dataclass(frozen=True, slots=True)
class Pause:
    """A program has looked at memory and lets others run.

    Attributes:
        program: its number.
        instruction: where it waits.
        unchanged: it will do the same again unless memory changes.
        attempt: how often it has looked, from 1.
    """

    program: int
    instruction: int
    unchanged: bool
    attempt: int


@dataclass
class Turns:
    """Whose turn it is. Cores are numbered in the order in which they began.

    Attributes:
        most: cores that may hold programs at once.
        waiting: where the program of a core waits, by core.
    """

    most: int
    waiting: dict[int, Pause] = field(default_factory=dict[int, Pause])
    _round: list[int] = field(default_factory=lambda: [0])
    _begun: int = 1
    _in_vain: int = 0

    def pause(self, core: int, pause: Pause, *, more: bool) -> int | None:
        """The core that goes on when one pauses; None if no program ever will.

        Args:
            core: the one that pauses.
            pause: why.
            more: there are programs that no core has taken.
        """
        self.waiting[core] = pause
        self._in_vain = self._in_vain + 1 if pause.unchanged and pause.attempt > 1 else 0
        if self._in_vain > MOST_ROUNDS * len(self._round):
            return None
        place = self._round.index(core) + 1
        if place == len(self._round) < self.most and more:
            self._round.append(self._begun)
            self._begun += 1
        return self._round[place % len(self._round)]

    def end(self, core: int) -> int:
        """The core that goes on when a core's program is over and it can take another."""
        self.waiting.pop(core, None)
        self._in_vain = 0
        return self._round[(self._round.index(core) + 1) % len(self._round)]

    def leave(self, core: int) -> int | None:
        """The core that goes on when one has no program any more; None if it was the last."""
        following = self.end(core)
        self._round.remove(core)
        return following if self._round else None


class TurnTaking:
    """Native programs in turns: each core has a host thread, of which one runs.

    Attributes:
        callback: what native code calls with the number of its core, and the four of a ``Pause``.
        deadlocked: where programs wait, if every one does.
    """

    def __init__(
        self, most: int, run: Callable[[int], bool], more: Callable[[], bool], stop: Callable[[], None]
    ) -> None:
        """Nothing runs yet.

        Args:
            most: cores that may hold programs at once.
            run: run programs as the core of that number until none is left; False after a fault.
            more: whether there are programs that no core has taken.
            stop: end the program that runs soon.
        """
        self.turns = Turns(most)
        self.deadlocked: tuple[Pause, ...] = ()
        self._stopped = False
        self.callback = _Callback(self._turn)
        self._run, self._more, self._stop = run, more, stop
        self._awake: dict[int, threading.Semaphore] = {}
        self._over = threading.Event()
        self._problem: BaseException | None = None

    def run(self) -> None:
        """Run all programs; an interrupt ends them."""
        self._hand_over(0)
        try:
            while not self._over.wait(_INTERRUPT_SECONDS):
                pass
        except BaseException:
            self._stopped = True
            self._stop()
            self._over.wait()
            raise
        if self._problem is not None:
            raise self._problem

    def _hand_over(self, core: int) -> None:
        if core in self._awake:
            self._awake[core].release()
        else:
            self._awake[core] = threading.Semaphore(0)
            threading.Thread(target=self._work, args=(core,), daemon=True).start()

    def _work(self, core: int) -> None:
        try:
            if not self._run(core):
                self._stopped = True
        except BaseException as problem:
            self._problem, self._stopped = problem, True
        following = self.turns.leave(core)
        if following is None:
            self._over.set()
        else:
            self._hand_over(following)

    def _turn(self, core: int, program: int, instruction: int, unchanged: int, attempt: int) -> int:
        if instruction == ENDED:
            following = self.turns.end(core)
        else:
            pause = Pause(program, instruction, bool(unchanged), attempt)
            following = self.turns.pause(core, pause, more=self._more() and not self._stopped)
        if following is None:
            self.deadlocked, self._stopped = tuple(self.turns.waiting.values()), True
        elif following != core:
            self._hand_over(following)
            self._awake[core].acquire()
        return int(self._stopped)


def deadlock(program: Program, pauses: Iterable[Pause], grid: tuple[int, int, int], most: int) -> KernelFault:
    """The error of programs that all wait for what none of them will write."""
    waiting = sorted(pauses, key=lambda pause: pause.program)
    x, y, _ = grid
    names = [str((each.program % x, each.program // x % y, each.program // (x * y))) for each in waiting]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    full = len(waiting) == most < prod(grid)
    return KernelFault(
        "E0306",
        f"{len(waiting)} of {prod(grid)} programs of {program.name} wait for memory that no program changes",
        location=program.instructions[waiting[0].instruction].location,
        context=f"{program.name}, program {names[0]}",
        note=f"these wait: {shown}"
        + ("\nevery core of the machine holds one of them; no other program can begin before it ends" * full),
        help=f"launch at most {most} programs where they wait for one another"
        if full
        else "see that whatever is waited for is written, and that locks are given back",
    )
