"""``@mlu.jit``: Triton's own ``jit`` whose kernels always run on the MLU, return the run and explain their errors.

Decorators that wrap a ``JITFunction`` (``triton.autotune``, ``triton.heuristics``) and kernels that call one work on
the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from types import FunctionType
from typing import Any, overload

from triton import jit as triton_jit
from triton import knobs
from triton.backends import backends
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.arguments import checked_grid
from mlutriton.frontend.known_launches import KnownLaunches, key_and_reach
from mlutriton.frontend.refusals import explained, without_a_grid

BACKEND_NAME = "mlu"


class Kernel(JITFunction):
    """A function for the MLU: ``kernel[grid](*arguments, **constants)`` compiles, runs and returns the run.

    Attributes:
        known_launches: those that Triton need not be asked about again.
        takes_cambricon_language: whether it may use what Cambricon's Triton has beyond Triton; False for what stands in
            for a kernel of ``triton.jit``.
    """

    takes_cambricon_language = True

    def __init__(self, fn: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        """Takes what Triton's ``JITFunction`` takes."""
        super().__init__(fn, *args, **keywords)
        self.known_launches = KnownLaunches()

    @property
    def cache_key(self) -> str:
        """Names what the kernel compiles to in Triton's cache: with the file, which its messages tell."""
        return f"{super().cache_key}-{self.fn.__code__.co_filename}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses a launch without a grid.

        Raises:
            ArgumentError: E0104.
        """
        raise without_a_grid(self.fn.__name__)

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        """Launches the kernel, or only compiles it if ``warmup``.

        Returns:
            The run; the compiled kernel if ``warmup``.

        Raises:
            MluError: an argument, the compilation or the program failed.
        """
        mlu = activate()
        try:
            key, reach = key_and_reach(args, kwargs)
            if (
                key
                and not warmup
                and (run := self.known_launches.again(self, mlu, grid, key, reach, args, kwargs)) is not None
            ):
                return run
            compiled = super().run(*args, grid=_checked(grid), warmup=warmup, **kwargs)
        except Exception as problem:
            compiler: Any = backends[BACKEND_NAME].compiler
            better = explained(problem, self, args, kwargs, compiler.option_names, grid)
            if better is problem:
                raise
            raise better from problem
        # A hook of Triton's may have the kernel compiled elsewhere: then there is neither kernel nor run.
        if warmup or compiled is None:
            return compiled
        if key:
            self.known_launches.learn(self, compiled, key, len(args), kwargs)
        return driver.active.last_run()


def activate() -> Any:
    """Makes the MLU Triton's active driver, and returns it: kernels of ``mlu.jit`` run on it even where a GPU is."""
    mlu = _mlu_driver()
    if driver.active is not mlu:
        driver.set_active(mlu)
    return mlu


@cache
def _mlu_driver() -> Any:
    mlu = backends[BACKEND_NAME].driver()
    driver.set_active(mlu)  # before anyone asks which driver is active: Triton would import torch to find out
    return mlu


def _checked(grid: Any) -> Any:
    """A grid that Triton takes, or a function that returns one."""
    if callable(grid):

        def checked(meta: Any) -> tuple[int, int, int]:
            return checked_grid(grid(meta))

        return checked
    return checked_grid(grid)


@overload
def jit(function: Callable[..., Any]) -> Kernel: ...


@overload
def jit(
    *,
    version: str | None = None,
    repr: Callable[..., str] | None = None,
    launch_metadata: Callable[..., object] | None = None,
    do_not_specialize: Iterable[int | str] | None = None,
    do_not_specialize_on_alignment: Iterable[int | str] | None = None,
    debug: bool | None = None,
    noinline: bool | None = None,
) -> Callable[[Callable[..., Any]], Kernel]: ...


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compiles a Python function for the MLU; takes what ``triton.jit`` takes.

    Under ``TRITON_INTERPRET=1`` it is ``triton.jit`` itself, Triton's own interpreter.

    Example:
        @mlu.jit
        def add(out, x, y, n, BLOCK: tl.constexpr): ...

        run = add[(8,)](out, x, y, n, BLOCK=1024)

    Raises:
        ArgumentError: E0112, there is no Python function whose text can be read.
    """
    if function is None:
        return partial(jit, **options)
    if not isinstance(function, FunctionType):
        raise ArgumentError(
            "E0112", f"a {type(function).__name__} cannot become a kernel", help="put @mlu.jit above a def"
        )
    if knobs.runtime.interpret:
        return triton_jit(function, **options)
    mlu: Any = backends[BACKEND_NAME].driver
    mlu.prepare_triton()  # a tuner that is made for this kernel may choose now how it will measure time
    try:
        return Kernel(function, **options)
    except (OSError, ValueError) as problem:  # Triton reads the text of the function
        name = function.__name__
        raise ArgumentError(
            "E0112", f"{name} cannot become a kernel", note=f"{problem}", help="write it as a def in a Python file"
        ) from problem
