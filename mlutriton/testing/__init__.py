"""Checks of kernels against NumPy: what the examples, the demo, the tests and the benchmarks share."""

from mlutriton.testing.case import Arguments, Case, CaseResult, Kernel, SimulatedRun, show
from mlutriton.testing.example import Example, load_examples

__all__ = ["Arguments", "Case", "CaseResult", "Example", "Kernel", "SimulatedRun", "load_examples", "show"]
