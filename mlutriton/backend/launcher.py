"""From a launch by Triton to a launch on the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from triton.runtime.cache import get_cache_manager

from mlutriton.backend.driver import run_launch
from mlutriton.configuration import warp_size
from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.arguments import checked_grid, pointer_argument
from mlutriton.launch import Grid, Launch, LoadedKernel


class Launcher:
    """Called by Triton with the bound arguments of a launch; there is one for each compiled kernel.

    The kernel's parameters are the arguments that are no constants, in order. Tuples are spelled out; a tensor
    descriptor is its base pointer, extents, strides, and whether it pads with NaN. Whoever launches a compiled kernel
    may leave out all arguments that its source declares ``tl.constexpr``: code that was written for Triton before 3.3
    has to.
    """

    def __init__(self, source: Any, metadata: object) -> None:
        self._types: tuple[Any, ...] = tuple(source.signature.values())
        self._is_flat = all(isinstance(kind, str) and not kind.startswith("tensordesc") for kind in self._types)
        self._pointers = [index for index, kind in enumerate(self._types) if kind[:1] == "*"]
        self._passed = [index for index, kind in enumerate(self._types) if kind != "constexpr"]
        self._variant = _variant(source, metadata)
        self._text_file = getattr(metadata, "hash", ""), f"{str(getattr(source, 'name', ''))[:150]}.ttir"
        self._printing_threads = _printing_threads(metadata)
        # A kernel that is compiled from text has no function, and declares no constants.
        parameters: Any = getattr(getattr(source, "fn", None), "params", ())
        self._declared_constants = [index for index, parameter in enumerate(parameters) if parameter.is_constexpr]

    def __call__(
        self,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        stream: object,
        kernel: LoadedKernel,
        packed_metadata: object,
        launch_metadata: object,
        enter_hook: Any,
        exit_hook: Any,
        *arguments: Any,
    ) -> None:
        """Runs the kernel on the grid.

        Raises:
            ArgumentError: a pointer argument cannot be passed, some are missing, or the grid is none.
            KernelFault: the program did what the machine forbids.
        """
        if len(arguments) != len(self._types):
            arguments = self._with_constants(arguments)
        if enter_hook is not None:
            enter_hook(launch_metadata)
        run_launch(self.prepared(kernel, checked_grid((grid_x, grid_y, grid_z)), arguments))
        if exit_hook is not None:
            exit_hook(launch_metadata)

    def prepared(self, kernel: LoadedKernel, grid: Grid, arguments: Sequence[Any]) -> Launch:
        """The launch of the kernel with the bound arguments, to be run.

        Raises:
            ArgumentError: a pointer argument cannot be passed.
        """
        return Launch(kernel, grid, self.values(arguments), self._variant, self._printing_threads, self._text)

    def _text(self) -> str | None:
        """Triton's text of the kernel, which it keeps beside the program."""
        key, name = self._text_file
        path = get_cache_manager(key).get_file(name)
        return None if path is None else Path(path).read_text(encoding="utf-8")

    def _with_constants(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with something in the place of each constant that was left out: all are compiled in."""
        completed = list(arguments)
        for index in self._declared_constants:
            completed.insert(index, None)
        if len(completed) != len(self._types):
            raise ArgumentError(
                "E0101",
                f"the compiled kernel takes {len(self._types)} arguments, and is given {len(arguments)}",
                help="pass all parameters of the kernel in order, or all but those that are tl.constexpr",
            )
        return tuple(completed)

    def values(self, arguments: Sequence[Any]) -> list[Any]:
        """The values of the program's parameters, in order.

        Raises:
            ArgumentError: a pointer argument cannot be passed.
        """
        if not self._is_flat:
            return list(_spelled_out(self._types, arguments))
        bound = list(arguments)
        for index in self._pointers:
            bound[index] = pointer_argument(bound[index])
        return [bound[index] for index in self._passed]


def _spelled_out(types: Any, arguments: Any) -> Iterator[object]:
    for kind, argument in zip(types, arguments, strict=True):
        if isinstance(kind, tuple):
            yield from _spelled_out(kind, argument)
        elif kind.startswith("tensordesc"):
            yield pointer_argument(argument.base)
            yield from argument.shape
            yield from argument.strides
            yield argument.padding == "nan"
        elif kind.startswith("*"):
            yield pointer_argument(argument)
        elif kind != "constexpr":
            yield argument


def _printing_threads(metadata: Any) -> int:
    """How often a program prints what has no indices: once, or where warps of a GPU are asked for in each thread."""
    return getattr(metadata, "num_warps", 1) * warp_size() if warp_size() > 1 else 1


def _variant(source: Any, metadata: Any) -> str:
    """What tells a compiled kernel from others of its source: its constants and how it was compiled."""
    names: Sequence[str] = getattr(getattr(source, "fn", None), "arg_names", ())
    constants: dict[tuple[int, ...], Any] = getattr(source, "constants", {})
    told = {names[path[0]]: value for path, value in constants.items() if len(path) == 1 and path[0] < len(names)}
    for option in ("num_stages", "num_warps"):
        if (value := getattr(metadata, option, None)) is not None:
            told[option] = value
    return ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in told.items())
