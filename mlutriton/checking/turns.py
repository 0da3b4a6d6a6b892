"""Programs that take turns: each runs until it ends, or until it waits for what another one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from mlutriton.ir.core import Array, Operation
from mlutriton.ir.ops import AtomicCas, AtomicRmw, Load, Store

# Who has looked so often at the same, and found the same, waits.
_MOST_LOOKS = 32
# If nobody finds anything else so often, all wait for each other.
_MOST_LOOKS_OF_ALL = 100_000


class WaitingError(Exception):
    """A program does not end as long as nobody else does anything."""


class Turn:
    """A program on a thread of its own, which runs only while it has its turn.

    Attributes:
        has_advanced: whether it has done anything but look at the same, in its last turn.
        is_given_up: whether it is to end where it is.

    Args:
        work: what the program does.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._taken, self._passed_on = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._has_ended = self.has_advanced = self.is_given_up = False
        self._last: tuple[Operation, list[bytes]] | None = None
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name="mlutriton-check", daemon=True)
        self._thread.start()

    def take(self) -> bool:
        """Let the program go on, until it has ended, which is true then, or waits.

        Raises:
            Exception: what the program raised.
        """
        self._looks, self.has_advanced = 0, False
        self._taken.release()
        self._passed_on.acquire()
        if self._error is not None:
            raise self._error
        return self._has_ended

    def waits(self, operation: Operation, results: Iterable[Array]) -> bool:
        """Whether the program does nothing but look at what others have not done yet, after an operation of it."""
        if not isinstance(operation, AtomicRmw | AtomicCas | Load | Store):
            return False
        found = operation, [each.tobytes() for each in results]
        if found == self._last:
            self._looks += 1
        else:
            self._last, self._looks, self.has_advanced = found, 0, True
        return self._looks >= _MOST_LOOKS and not isinstance(operation, Store)

    def pass_on(self) -> None:
        """Wait for the next turn; the program's own thread calls this.

        Raises:
            WaitingError: there is none.
        """
        self._passed_on.release()
        self._taken.acquire()
        if self.is_given_up:
            raise WaitingError

    def give_up(self) -> None:
        """End the program where it waits."""
        self.is_given_up = True
        self._taken.release()
        self._thread.join()

    def _run(self) -> None:
        self._taken.acquire()
        try:
            self._work()
        except BaseException as error:  # whoever let it go on is told
            self._error = error
        self._has_ended = True
        self._passed_on.release()


def take_turns(turns: Iterable[Turn], take: Callable[[Turn], bool]) -> None:
    """Let programs run in order, and those that wait go on again and again, until all have ended.

    Args:
        turns: of the programs, each made when those before it have ended or wait.
        take: takes a turn, and says whether the program has ended.

    Raises:
        WaitingError: all that are left wait for each other.
        Exception: what a program raised.
    """
    waiting: list[Turn] = []
    looks = 0
    try:
        for each in turns:
            waiting.append(each)
            if take(each):
                waiting.pop()
        while waiting:
            ended = [each for each in waiting if take(each)]
            has_advanced = any(each.has_advanced for each in waiting)
            looks = 0 if has_advanced else looks + _MOST_LOOKS * len(waiting)
            if looks > _MOST_LOOKS_OF_ALL:
                raise WaitingError
            waiting = [each for each in waiting if each not in ended]
    finally:
        for each in waiting:
            each.give_up()
