"""From a launch by Triton to a launch on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlutriton.backend.driver import record_run
from mlutriton.frontend.arguments import checked_grid, pointer_argument
from mlutriton.launch import LoadedKernel, launch


class Launcher:
    """Called by Triton with the bound arguments of a launch; there is one for each compiled kernel.

    The kernel's parameters are the arguments that are no constants, in order. Tuples are spelled out; a tensor
    descriptor is its base pointer, extents, strides, and whether it pads with NaN.
    """

    def __init__(self, source: Any, metadata: object) -> None:
        self._types: tuple[Any, ...] = tuple(source.signature.values())
        self._is_flat = all(isinstance(kind, str) and not kind.startswith("tensordesc") for kind in self._types)
        self._pointers = [index for index, kind in enumerate(self._types) if kind[:1] == "*"]
        self._passed = [index for index, kind in enumerate(self._types) if kind != "constexpr"]

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
            ArgumentError: a pointer argument cannot be passed, or the grid is none.
            KernelFault: the program did what the machine forbids.
        """
        if enter_hook is not None:
            enter_hook(launch_metadata)
        if self._is_flat:
            bound = list(arguments)
            for index in self._pointers:
                bound[index] = pointer_argument(bound[index])
            values = [bound[index] for index in self._passed]
        else:
            values = list(_spelled_out(self._types, arguments))
        record_run(launch(kernel, checked_grid((grid_x, grid_y, grid_z)), values))
        if exit_hook is not None:
            exit_hook(launch_metadata)


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
