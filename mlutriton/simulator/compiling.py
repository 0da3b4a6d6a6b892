"""Who may compile: one thread at a time for whoever wants code, others beside it, and none while a process forks."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

_Result = TypeVar("_Result")

# Whoever compiles holds it, and whoever forks: a child would wait forever for a lock that another thread of its parent
# held, be it one of LLVM's or one of Python's.
compiling = threading.RLock()


@contextmanager
def uncollected() -> Generator[None]:
    """While this lasts, Python does not look for objects that only hold one another.

    A compilation makes many objects and drops most of them when it is over: to look through them, and through all that
    the process has, again and again meanwhile finds nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Beside(Generic[_Result]):
    """Work that another thread does; a process forks only when it is done.

    It must not wait for ``compiling``, which whoever waits for the work may hold.
    """

    _under_way: ClassVar[set[Beside[Any]]] = set()

    def __init__(self, work: Callable[[], _Result]) -> None:
        self._work = work
        self._results: list[_Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mlutriton-compile")
        Beside._under_way.add(self)
        self._thread.start()

    def result(self) -> _Result:
        """What the work gave, once it is done.

        Raises:
            BaseException: what the work raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # whoever asks for the result is told
            self._error = error
        finally:
            Beside._under_way.discard(self)

    @classmethod
    def _finish(cls) -> None:
        for each in list(cls._under_way):
            each._thread.join()


def _hold() -> None:
    compiling.acquire()
    Beside._finish()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(before=_hold, after_in_parent=compiling.release, after_in_child=compiling.release)
