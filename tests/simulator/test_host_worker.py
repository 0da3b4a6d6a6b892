"""Threads of the host that wait in native code for what launches hand them."""

from __future__ import annotations

import ctypes
import threading

from mlutriton.isa.native_interface import CONTEXT_WORDS
from mlutriton.simulator import host_worker
from mlutriton.simulator.host_core import int64_array
from mlutriton.simulator.host_worker import HostWorker, give_back, take_worker

Call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def test_a_worker_calls_what_it_is_handed_on_a_thread_of_its_own(runtime):
    seen = []
    note = Call(lambda context, task: seen.append((context, task, threading.get_ident())))
    worker = HostWorker(runtime(None))
    for number in range(3):
        context = int64_array([0] * CONTEXT_WORDS)
        worker.begin(address(note), ctypes.addressof(context), 7 + number)
        while not worker.has_ended(10**9):
            pass
        assert seen[number][:2] == (ctypes.addressof(context), 7 + number)
        assert worker.busy_ns > 0
    assert len({thread for _, _, thread in seen} - {threading.get_ident()}) == 1


def test_nobody_waits_longer_than_he_wants_to(runtime):
    gate = threading.Event()
    stand = Call(lambda context, task: gate.wait() and None)
    worker = HostWorker(runtime(None))
    assert worker.has_ended(0)
    worker.begin(address(stand), 1, 1)
    assert not worker.has_ended(1000)
    gate.set()
    while not worker.has_ended(10**9):
        pass


def test_a_worker_that_was_left_while_it_runs_is_not_taken_again(runtime):
    gate = threading.Event()
    stand = Call(lambda context, task: gate.wait() and None)
    idle, busy = (take_worker(runtime(None)) for _ in range(2))
    busy.begin(address(stand), 1, 1)
    give_back(idle)
    give_back(busy)
    assert idle in host_worker._idle
    assert busy not in host_worker._idle
    gate.set()
    while not busy.has_ended(10**9):
        pass
