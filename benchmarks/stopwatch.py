"""How durations are taken: medians, of repetitions in which the two sides of a comparison take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.figure import Measured

Action = Callable[[], object]

# A measurement repeats until it has taken so long, within these numbers of repetitions.
_SECONDS, _QUICK_SECONDS = 4.0, 0.5
_LEAST, _QUICK_LEAST, _MOST = 5, 3, 1000
# Threads of BLAS look for more work before they sleep, for 2**28 ticks of a clock of the host's choice: some 100 ms.
# Whoever comes next shall not share cores with them, so that this waits until they rest for so long.
_REST_SECONDS = 0.02
_LONGEST_SETTLE_SECONDS = 1.0


def seconds_of(action: Action) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def medians(actions: Sequence[Action], *, quick: bool, settle: bool = True) -> list[float]:
    """Median wall time of each action; they take turns, after each has been called once to warm up.

    Args:
        actions: what to measure.
        quick: whether to repeat less.
        settle: whether to wait before each call; without BLAS around, nobody has to.
    """
    for action in actions:
        action()
    samples: list[list[float]] = [[] for _ in actions]
    limit = time.perf_counter() + (_QUICK_SECONDS if quick else _SECONDS)
    least = _QUICK_LEAST if quick else _LEAST
    while len(samples[0]) < least or (time.perf_counter() < limit and len(samples[0]) < _MOST):
        for action, durations in zip(actions, samples, strict=True):
            if settle:
                _settle()
            durations.append(seconds_of(action))
    return [median(durations) for durations in samples]


def _settle() -> None:
    """Wait until the other threads of this process rest.

    Awake, for a host that has fallen asleep takes a millisecond to be what it was, on whichever side it falls.
    """
    limit = time.perf_counter() + _LONGEST_SETTLE_SECONDS
    is_busy = True
    while is_busy and time.perf_counter() < limit:
        others = time.process_time() - time.thread_time()
        end = time.perf_counter() + _REST_SECONDS
        while time.perf_counter() < end:
            pass
        is_busy = time.process_time() - time.thread_time() - others > _REST_SECONDS / 10


def comparison(ours_seconds: float, theirs_seconds: float, theirs: str) -> Measured:
    """How many times faster than the other side we are."""
    return Measured(
        theirs_seconds / ours_seconds,
        f"{duration(ours_seconds)}, {theirs} {duration(theirs_seconds)}",
        {"seconds": ours_seconds, "other_seconds": theirs_seconds},
    )


def duration(seconds: float) -> str:
    """A duration for people, with three digits."""
    factor, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{seconds * factor:.3g} {unit}"
