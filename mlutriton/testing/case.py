"""One launch of a kernel together with the NumPy values it has to produce."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arguments = dict[str, Any]
Grid = tuple[int, ...] | Callable[[Mapping[str, Any]], tuple[int, ...]]


class SimulatedRun(Protocol):
    """What a case needs to know of the report that a launch returns."""

    @property
    def cycles(self) -> int:
        """Simulated cycles from launch to the end of the last program."""
        ...

    @property
    def time_us(self) -> float:
        """Simulated time in microseconds."""
        ...

    @property
    def work_bound_cycles(self) -> int:
        """Fewest cycles the kernel's work needs on the machine, however it is compiled."""
        ...

    @property
    def schedule_bound_cycles(self) -> int:
        """Cycles of the compiled program if nothing were shared between cores."""
        ...

    @property
    def gb_per_s(self) -> float:
        """Achieved DRAM traffic."""
        ...

    @property
    def tflop_per_s(self) -> float:
        """Achieved arithmetic."""
        ...

    def timeline(self, path: str) -> object:
        """Write the run as a file that Perfetto opens."""
        ...


class Launcher(Protocol):
    """A kernel with its grid: called with the kernel's arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> SimulatedRun:
        """Launch the kernel."""
        ...


class Kernel(Protocol):
    """A function decorated with ``mlu.jit``."""

    def __getitem__(self, grid: Any) -> Launcher:
        """Bind the grid."""
        ...


@dataclass(frozen=True)
class CaseResult:
    """What one case did.

    Attributes:
        run: the simulator's report.
        max_error: largest absolute difference from the reference over all outputs.
        mismatches: one line for every output that misses the tolerance.
        host_seconds: wall time of the launch, compilation included.
        reference_seconds: wall time of the NumPy reference.
    """

    run: SimulatedRun
    max_error: float
    mismatches: tuple[str, ...]
    host_seconds: float
    reference_seconds: float


@dataclass(frozen=True)
class Case:
    """A kernel, its arguments and the values to expect.

    Attributes:
        name: the kernel as a reader would call it.
        shape: sizes and element types, unique among the cases of an example.
        kernel: the ``mlu.jit`` function.
        arguments: makes fresh arrays (from a fixed seed) and scalars, in the order of the kernel's parameters.
        grid: what stands in the brackets of a launch.
        outputs: names of the arguments the kernel writes.
        reference: the same work in NumPy; takes the arguments by name, returns one array an output.
        constants: ``tl.constexpr`` parameters and launch options.
        tolerance: relative and absolute error allowed, as in ``numpy.isclose``.
        flops: floating-point (or integer) operations a person would count, or None where bytes are what matters.
    """

    name: str
    shape: str
    kernel: Kernel
    arguments: Callable[[], Arguments]
    grid: Grid
    outputs: tuple[str, ...]
    reference: Callable[..., dict[str, Array]]
    constants: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tolerance: tuple[float, float] = (0.0, 0.0)
    flops: int | None = None

    @property
    def label(self) -> str:
        """Name and shape in one string."""
        return f"{self.name} {self.shape}"

    def run(self) -> CaseResult:
        """Launch the kernel once and compare its outputs with the reference."""
        arguments = self.arguments()
        # The reference goes first: a kernel may update its inputs in place.
        started = time.perf_counter()
        expected = self.reference(**arguments)
        reference_seconds = time.perf_counter() - started
        if set(expected) != set(self.outputs):
            raise ValueError(f"{self.label}: the reference gives {sorted(expected)}, outputs are {self.outputs}")
        started = time.perf_counter()
        run = self.kernel[self.grid](**arguments, **self.constants)
        host_seconds = time.perf_counter() - started
        comparisons = [(name, *self.compare(arguments[name], expected[name])) for name in self.outputs]
        return CaseResult(
            run,
            max(error for _, error, _ in comparisons),
            tuple(f"{name}: {count} elements differ by up to {error:g}" for name, error, count in comparisons if count),
            host_seconds,
            reference_seconds,
        )

    def check(self) -> CaseResult:
        """Run the case and insist on the tolerance.

        Raises:
            AssertionError: an output differs from the reference by more than the tolerance.
        """
        result = self.run()
        if result.mismatches:
            raise AssertionError(f"{self.label}: " + "; ".join(result.mismatches))
        return result

    def compare(self, actual: Array, expected: Array) -> tuple[float, int]:
        """Largest absolute difference, and how many elements miss the tolerance; a NaN matches only a NaN.

        Raises:
            ValueError: the reference has another shape or dtype than the output.
        """
        if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
            kinds = f"output {actual.dtype}{actual.shape}, reference {expected.dtype}{expected.shape}"
            raise ValueError(f"{self.label}: {kinds}")
        if not actual.size:
            return 0.0, 0
        # Narrow types are compared in float32, wide integers in float64 (exact up to 2**53).
        wide = np.result_type(actual.dtype, np.float32)
        actual, expected = actual.astype(wide, copy=False), expected.astype(wide, copy=False)
        with np.errstate(invalid="ignore"):
            difference = np.abs(actual - expected)
            same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
            relative, absolute = self.tolerance
            # A bound that is not finite (an infinite reference) would admit anything: only equality counts there.
            bound = absolute + relative * np.abs(expected)
            wrong = ~(same | ((difference <= bound) & np.isfinite(bound)))
        difference[same] = 0
        return float(np.nan_to_num(difference, nan=np.inf).max()), int(np.count_nonzero(wrong))


def show(cases: Iterable[Case]) -> None:
    """Run cases one after the other and print each report."""
    for case in cases:
        result = case.check()
        print(f"{case.label}: max error {result.max_error:g}")
        print(result.run)
