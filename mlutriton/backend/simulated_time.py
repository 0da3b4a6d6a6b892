"""Simulated time, as benchmarks ask for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence


class SimulatedClock:
    """Simulated time since the process began to ask for it, in milliseconds, and how many launches took it."""

    def __init__(self) -> None:
        self.milliseconds = 0.0
        self.launches = 0
        self.running = False

    def start(self) -> None:
        """Counts every launch from now on."""
        self.running = True

    def advance(self, milliseconds: float) -> None:
        """Adds the time of a launch."""
        self.milliseconds += milliseconds
        self.launches += 1


clock = SimulatedClock()


class SimulatedEvent:
    """A point in simulated time, with the methods of a CUDA event that Triton's benchmarks use."""

    def __init__(self, enable_timing: bool = True) -> None:
        clock.start()
        self._milliseconds = 0.0

    def record(self, stream: object = None) -> None:
        """Sets the event to the present."""
        self._milliseconds = clock.milliseconds

    def elapsed_time(self, end: SimulatedEvent) -> float:
        """Simulated milliseconds from this event to ``end``."""
        return end._milliseconds - self._milliseconds

    def synchronize(self) -> None:
        """Does nothing: launches are synchronous."""


def benchmark(
    kernel_call: Callable[[], object],
    *args: object,
    quantiles: Sequence[float] | None = None,
    return_mode: str = "mean",
    **kwargs: object,
) -> float | list[float]:
    """Simulated milliseconds of one call, in the form of ``triton.testing.do_bench``.

    Simulated time is the same each time, so one call tells every quantile; warm-up and repetition are ignored. What
    launches no kernel takes no time that could be known: NaN, with a warning.
    """
    clock.start()
    start, launches = clock.milliseconds, clock.launches
    kernel_call()
    elapsed = clock.milliseconds - start
    if clock.launches == launches:
        elapsed = math.nan
        warnings.warn(
            "what is benchmarked launches no kernel: the simulator knows the time of kernels alone, so this is NaN",
            RuntimeWarning,
            stacklevel=3,
        )
    if quantiles is not None:
        return elapsed if len(quantiles) == 1 else [elapsed] * len(quantiles)
    return [elapsed] if return_mode == "all" else elapsed
