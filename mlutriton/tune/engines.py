"""Where units of work are done: in this process, in processes of this host, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any, Protocol

from mlutriton.configuration import THREADS_VARIABLE
from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.evaluation import Evaluator, one_by_one
from mlutriton.tune.recipe import Recipe
from mlutriton.tune.trial import Outcome, Status, Unit

Completed = tuple[int, list[Outcome]]

_WATCH_SECONDS = 1.0
_CONNECT_SECONDS = 10


class Engine(Protocol):
    """Evaluates units, several at a time."""

    def start(self, evaluator: Evaluator, recipe: Recipe | None) -> None:
        """Begin a search: what to evaluate with here, and how to make the same elsewhere."""
        ...

    def submit(self, number: int, unit: Unit) -> None:
        """Have a unit evaluated."""
        ...

    def completed(self) -> list[Completed]:
        """Wait until a unit is done; numbers and outcomes of those that are."""
        ...

    def stop(self) -> None:
        """End it, whatever is still under way."""
        ...


class LocalEngine:
    """Processes of this host, forked so that they have everything that this process has loaded.

    Args:
        workers: how many; 1 works in this process. By default as many as this process may use cores.

    A worker that dies takes its unit with it: each of its configurations is then tried in a process of its own, and one
    that ends that as well has failed.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pending: dict[int, tuple[Unit, Future[list[Outcome]] | None]] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._evaluator: Evaluator | None = None
        self._key = 0

    def start(self, evaluator: Evaluator, recipe: Recipe | None) -> None:
        """Fork the workers."""
        self._evaluator = evaluator
        if self.workers > 1:
            self._key = next(_keys)
            _inherited[self._key] = evaluator
            self._pool = _new_pool(self.workers)
            self._pool.submit(os.getpid).result()  # forks all of them, before this process has other threads

    def submit(self, number: int, unit: Unit) -> None:
        """Have a unit evaluated; in this process when it is asked for."""
        future = None if self._pool is None else self._submitted(self._pool, unit)
        self._pending[number] = unit, future

    def _submitted(self, pool: ProcessPoolExecutor, unit: Unit) -> Future[list[Outcome]]:
        try:
            return pool.submit(_evaluate_inherited, self._key, unit)
        except BrokenProcessPool as broken:
            future: Future[list[Outcome]] = Future()
            future.set_exception(broken)
            return future

    def completed(self) -> list[Completed]:
        """Wait until a unit is done."""
        if self._pool is None:
            assert self._evaluator is not None
            number = min(self._pending)
            unit, _ = self._pending.pop(number)
            return [(number, self._evaluator.evaluate(unit))]
        futures = {number: future for number, (_, future) in self._pending.items() if future is not None}
        wait(futures.values(), return_when=FIRST_COMPLETED)
        done: list[Completed] = []
        is_broken = False
        for number, future in futures.items():
            if not future.done():
                continue
            if isinstance(future.exception(), BrokenProcessPool):
                is_broken = True
            else:
                done.append((number, future.result()))
        for number, _ in done:
            del self._pending[number]
        return done + self._recovered() if is_broken else done

    def _recovered(self) -> list[Completed]:
        """What the units come to that were under way when a worker died."""
        _end(self._pool)
        done = [(number, one_by_one(unit, self._evaluated_alone)) for number, (unit, _) in self._pending.items()]
        self._pending.clear()
        self._pool = _new_pool(self.workers)
        return done

    def _evaluated_alone(self, unit: Unit) -> list[Outcome]:
        pool = _new_pool(1)
        try:
            return pool.submit(_evaluate_inherited, self._key, unit).result()
        except BrokenProcessPool:
            return died(unit)
        finally:
            _end(pool)

    def stop(self) -> None:
        """End the workers."""
        _end(self._pool)
        _inherited.pop(self._key, None)
        self._pool = None
        self._pending.clear()


def died(unit: Unit) -> list[Outcome]:
    """The outcomes of a unit that has ended the processes that tried it."""
    reason = "the process that tried it died; it may have run out of memory"
    return [Outcome(trial, Status.FAILED, reason=reason) for trial in unit.trials]


# What the processes that are forked next find; a number names each search of this process.
_inherited: dict[int, Evaluator] = {}
_keys = itertools.count(1)


def _evaluate_inherited(key: int, unit: Unit) -> list[Outcome]:
    return _inherited[key].evaluate(unit)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(os.getpid(),))


def _begin_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, be one of as many as there are cores, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[THREADS_VARIABLE] = "1"
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _end(pool: ProcessPoolExecutor | None) -> None:
    if pool is None:
        return
    processes: Any = getattr(pool, "_processes", None) or {}
    for process in list(processes.values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


class DaskEngine:
    """The workers of a Dask cluster, each of which needs mlutriton.

    The kernel's file goes there with the work, and with it what it imports from its own directory.

    Args:
        address: of the scheduler, ``dask://HOST:PORT``.

    What a worker had under way when it was lost, Dask gives to another; a unit that has ended several is tried
    configuration by configuration.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None
        self._recipe: Recipe | None = None
        self._pending: dict[Any, tuple[int, Unit]] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run = uuid.uuid4().hex

    def start(self, evaluator: Evaluator, recipe: Recipe | None) -> None:
        """Connect to the scheduler.

        Raises:
            ArgumentError: E0504, Dask is not installed; E0501, no scheduler answers, or the kernel is in no file.
        """
        try:
            from distributed import Client
        except ModuleNotFoundError as error:
            raise missing_package("distributed", "--engine dask://...", error) from error
        if recipe is None:
            raise ArgumentError(
                "E0501", "the kernel is in no file that could be sent to the workers", help="write it to a file"
            )
        host = self.address.removeprefix("dask://")
        try:
            self._client = Client(f"tcp://{host}", timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as problem:
            raise ArgumentError(
                "E0501",
                f"no Dask scheduler answers at {self.address}",
                note=str(problem).partition("\n")[0],
                help="start one: dask scheduler; and on each machine: dask worker tcp://HOST:8786 --nthreads 1",
            ) from None
        self._recipe = recipe

    def submit(self, number: int, unit: Unit) -> None:
        """Send a unit to the cluster."""
        future = self._client.submit(
            _evaluate_by_recipe,
            self._recipe,
            unit,
            key=f"mlutriton-{self._run}-{number}-{len(unit.trials)}",
            pure=False,
        )
        self._pending[future] = number, unit
        future.add_done_callback(self._done.put)

    def completed(self) -> list[Completed]:
        """Wait until a unit is done."""
        from distributed.scheduler import KilledWorker

        future = self._done.get()
        number, unit = self._pending.pop(future)
        try:
            outcomes = future.result()
        except KilledWorker:
            outcomes = one_by_one(unit, self._evaluated_alone)
        return [(number, outcomes)]

    def _evaluated_alone(self, unit: Unit) -> list[Outcome]:
        from distributed.scheduler import KilledWorker

        try:
            return self._client.submit(_evaluate_by_recipe, self._recipe, unit, pure=False).result()
        except KilledWorker:
            return died(unit)

    def stop(self) -> None:
        """Cancel what is under way and leave the cluster."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to cancel
                self._client.cancel(list(self._pending))
            self._client.close()
            self._client = None
        self._pending.clear()


def _evaluate_by_recipe(recipe: Recipe, unit: Unit) -> list[Outcome]:
    return _made(recipe).evaluate(unit)


@lru_cache(maxsize=8)
def _made(recipe: Recipe) -> Evaluator:
    return recipe.evaluator()


def engine_of(text: str, workers: int | None) -> Engine:
    """The engine of ``local`` or ``dask://HOST:PORT``.

    Raises:
        ArgumentError: E0502, it is neither.
    """
    if text == "local":
        return LocalEngine(workers)
    if text.startswith("dask://") and len(text) > len("dask://"):
        return DaskEngine(text)
    raise ArgumentError("E0502", f"there is no engine {text}", help="type local, or dask://HOST:PORT")


def missing_package(package: str, wanted: str, error: ModuleNotFoundError) -> Exception:
    """The error E0504 for whoever wants what an optional package does; the error itself if it is of another package."""
    if (error.name or package).partition(".")[0] != package:
        return error
    return ArgumentError(
        "E0504", f"{wanted} needs {package}, which is not installed", help="pip install 'mlutriton[tune]'"
    )
