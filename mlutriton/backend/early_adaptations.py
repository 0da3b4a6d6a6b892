"""What is replaced in Triton before anybody can have it in hand: benchmarks, how launches fail, the list of backends.

Triton imports the plug-in while it is itself being imported. The replacements in a module are made as soon as it is
there: ``from triton.testing import do_bench`` finds the new one, and so does the launch that first asks for a driver.
All else waits for that, see ``adaptations``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from mlutriton.backend.simulated_time import benchmark
from mlutriton.backend.tools_of_gpus import answer_peaks, refuse_profilers

BACKEND_NAME = "mlu"
_TORCH_DEVICE = "cpu"
_BENCHMARKS = ("do_bench", "do_bench_cudagraph", "do_bench_proton", "do_bench_cudagraph_proton")


def adapt_early() -> None:
    """Makes the replacements, now or as soon as it can be done."""
    for name, adapt in _ADAPTED.items():
        if name in sys.modules:
            adapt(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def is_simulated() -> bool:
    """True if the simulator is Triton's device; finds out which is, if nobody has asked yet."""
    return hasattr(sys.modules["triton.runtime.driver"].driver.active, "last_run")


class _Finder(MetaPathFinder):
    """Finds the modules that are adapted where they are, and adapts each when it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification that is found without this finder; nothing for any other module."""
        if fullname not in _ADAPTED:
            return None
        specification = PathFinder.find_spec(fullname, path, target)
        if specification is not None and specification.loader is not None:
            loader: Any = specification.loader
            execute = loader.exec_module

            def execute_and_adapt(module: ModuleType) -> None:
                execute(module)
                _ADAPTED[fullname](module)

            loader.exec_module = execute_and_adapt
        return specification


class _Backends(dict[str, Any]):
    """Triton's backends, with the simulator by the name of torch's CPU as well; who looks through all sees it once.

    Torch asks for this name before ``torch.compile`` takes a launch for one, of which it otherwise compiles the code.
    """

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (name == _TORCH_DEVICE and is_simulated())

    def __missing__(self, name: str) -> Any:
        if name in self:
            return self[BACKEND_NAME]
        raise KeyError(name)


def _adapt_testing(testing: ModuleType) -> None:
    package: Any = sys.modules["triton.backends"]
    package.backends = _Backends(package.backends)
    _explain_launches()
    answer_peaks(testing, is_simulated)
    for name in _BENCHMARKS:
        original = getattr(testing, name, None)
        if original is not None:  # not all versions have all of them
            setattr(testing, name, _simulated_or(original))


def _adapt_profile(profile: ModuleType) -> None:
    refuse_profilers(profile, is_simulated)


_ADAPTED = {"triton.testing": _adapt_testing, "triton.profiler.profile": _adapt_profile}


@functools.cache
def _explain_launches() -> None:
    function: Any = sys.modules["triton.runtime.jit"].JITFunction
    function.run = _explaining(function.run)
    function.__call__ = _refusing_without_grid(function.__call__)


def _refusing_without_grid(original: Callable[..., Any]) -> Callable[..., Any]:
    """Adds to the refusal of a call without a grid what a launch looks like, as a note."""

    @functools.wraps(original)
    def call(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(kernel, *args, **kwargs)
        except RuntimeError as problem:
            if is_simulated():
                from mlutriton.frontend.refusals import without_a_grid  # needs Triton whole

                problem.add_note(f"{without_a_grid(kernel.fn.__name__)}")
            raise

    return call


def _simulated_or(original: Callable[..., Any]) -> Callable[..., Any]:
    """The original calls the kernel for 125 ms of device time, thousands of times: of a simulator, all the same."""

    @functools.wraps(original)
    def do_bench(fn: Callable[[], object], *args: Any, **kwargs: Any) -> Any:
        return benchmark(fn, *args, **kwargs) if is_simulated() else original(fn, *args, **kwargs)

    return do_bench


def _explaining(original: Callable[..., Any]) -> Callable[..., Any]:
    """Adds place and remedy to what Triton refuses, as a note: who catches the error finds it as it was.

    Kernels of ``mlu.jit`` raise better errors in its place.
    """

    @functools.wraps(original)
    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        try:
            return original(kernel, *args, grid=grid, warmup=warmup, **kwargs)
        except Exception as problem:
            if type(kernel).__module__ == "triton.runtime.jit" and is_simulated():
                # These load what Triton does not have yet when it imports this.
                from mlutriton.backend.options import FOREIGN_OPTIONS, OPTION_NAMES
                from mlutriton.frontend.refusals import explained

                better = explained(problem, kernel, args, kwargs, OPTION_NAMES | FOREIGN_OPTIONS, grid)
                if better is not problem:
                    problem.add_note(f"{better}")
            raise

    return run
