"""Threads of the host that work for launches. They wait in native code, without the interpreter and its lock."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

from mlutriton.isa.native_interface import BEGIN, SERVE, WAIT, WORKER_WORDS, Worker
from mlutriton.simulator.host_core import int64_array
from mlutriton.simulator.native import NativeModule

_libc = ctypes.CDLL(None)
_libc.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]


class HostWorker:
    """A thread that calls what it is handed, again and again.

    A semaphore wakes it, and nothing but native code runs until it calls: a thread that waits in Python also has to
    get the interpreter's lock, and to bring half of the interpreter into the caches of its core.
    """

    def __init__(self, basic: NativeModule) -> None:
        """Let the thread begin.

        Args:
            basic: the runtime's basic functions.

        Raises:
            OSError: the host has no semaphores without names.
        """
        self._words = int64_array([0] * WORKER_WORDS)
        self._address = ctypes.addressof(self._words)
        for semaphore in (Worker.WANTED, Worker.FINISHED):
            if _libc.sem_init(self._address + 8 * semaphore, 0, 0):
                raise OSError("this host has no semaphores without names")
        self._wait: Any = basic.function(WAIT, [ctypes.c_void_p, ctypes.c_int64], ctypes.c_int64)
        self._serve = basic.function(SERVE, [ctypes.c_void_p])
        self._begin = basic.function(BEGIN, [ctypes.c_void_p, *[ctypes.c_int64] * 3])
        # The thread's own frame keeps this object.
        threading.Thread(target=self._work, name="mlutriton", daemon=True).start()

    def _work(self) -> None:
        self._serve(self._address)

    def begin(self, run: int, context: int, task: int) -> None:
        """Let it call the function at ``run`` with two addresses."""
        self._begin(self._address, run, context, task)

    def has_ended(self, limit_ns: int) -> bool:
        """Wait for it; False after so long, or after a signal."""
        return not self._words[Worker.IS_BUSY] or self._wait(self._address, limit_ns) == 1

    @property
    def busy_ns(self) -> int:
        """Time of the processor that the last call took, in nanoseconds."""
        return self._words[Worker.BUSY_NS]


# Workers that no launch uses. Lists are appended to and popped by one thread at a time.
_idle: list[HostWorker] = []
# A forked child has no threads but its own.
os.register_at_fork(after_in_child=_idle.clear)


def take_worker(basic: NativeModule) -> HostWorker:
    """A worker that nobody uses, to be given back; a new one if all are busy."""
    try:
        return _idle.pop()
    except IndexError:
        return HostWorker(basic)


def give_back(worker: HostWorker) -> None:
    """Keep a worker for others, unless it was left while it ran."""
    if worker.has_ended(0):
        _idle.append(worker)
