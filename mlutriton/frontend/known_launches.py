"""Launches that Triton need not look at again: the same constants and numbers, and arrays of the same types.

Triton binds arguments, asks for options, and finds the compiled kernel by the text of all of them. That takes as long
as a small launch itself, and several times as long where the caches of the host have gone cold. What it finds depends
on nothing but what is compared here, and numbers are compared by value: more strictly than by what Triton makes of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import numpy as np
from triton import knobs
from triton import language as tl
from triton.compiler.compiler import CompiledKernel
from triton.runtime.driver import driver

from mlutriton.frontend.arguments import ARRAY_DTYPES, array_argument

# A kernel that is launched with ever other numbers shall not fill the memory.
_MOST_KEPT = 64
# Triton compiles other code for pointers that are multiples of it.
_ALIGNMENT_BYTES = 16
# Two values of one of these that are equal are the same to a kernel, but for zeros of both signs.
_COMPARED = frozenset({int, bool, str, float, type(None), tl.dtype})
_NOT_THERE = object()


Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What Triton found for a launch.

    Attributes:
        compiled: the compiled kernel.
        launch: what launches it.
        program: what is launched, and what Triton passes behind it.
        cache_key: its name in Triton's cache of this kernel; without it there, it is to be compiled anew.
        device: number of the machine.
        debug: what else Triton found it by: whether it is compiled for debugging.
        names: of all parameters.
        order: where each of their values is, among those that are passed and, behind these, the defaults.
        defaults: of parameters.
    """

    compiled: object
    launch: Callable[..., None]
    program: tuple[object, ...]
    cache_key: object
    device: int
    debug: tuple[object, ...]
    names: tuple[str, ...]
    order: tuple[int, ...]
    defaults: tuple[object, ...]


class KnownLaunches:
    """Those of one kernel."""

    def __init__(self) -> None:
        self._known: dict[Key, _Known] = {}
        self._met: set[Key] = set()

    def again(self, kernel: Any, grid: Any, key: Key, values: Sequence[object]) -> bool:
        """Launch a kernel if the launch is known; returns whether it is.

        Args:
            kernel: Triton's ``JITFunction``.
            grid: three extents, or a function that gives them.
            key: of the launch.
            values: that are passed, as Triton takes them.
        """
        known = self._known.get(key)
        if known is None or _is_watched(kernel) or not _still_holds(known, kernel):
            return False
        values = *values, *known.defaults
        arguments = [values[place] for place in known.order]
        if callable(grid):
            grid = grid(dict(zip(known.names, arguments, strict=True)))
        known.launch(*grid, 0, *known.program, None, None, None, *arguments)
        return True

    def learn(self, kernel: Any, compiled: object, key: Key, positional: int, named: Collection[str]) -> None:
        """Remember a launch for which Triton has found the compiled kernel.

        It is looked at when it comes for the second time: many launches never do.

        Args:
            kernel: Triton's ``JITFunction``.
            compiled: what Triton has found.
            key: of the launch.
            positional: how many arguments are passed without names.
            named: names of the others, and of options.
        """
        if key not in self._met:
            if len(self._met) == _MOST_KEPT:
                self._met.clear()
            self._met.add(key)
            return
        if type(compiled) is not CompiledKernel or not _has_ordinary_parameters(kernel):
            return
        device = driver.active.get_current_device()
        cache: dict[object, object] = kernel.device_caches[device][0]
        cache_key = next((key for key, value in cache.items() if value is compiled), None)
        names: tuple[str, ...] = tuple(kernel.arg_names)
        places = {name: place for place, name in enumerate((*names[:positional], *named))}
        missing = [each for each in kernel.params if each.name not in places]
        if cache_key is None or any(not each.has_default for each in missing):
            return
        found: Any = compiled
        passed = positional + len(named)
        places |= {each.name: passed + place for place, each in enumerate(missing)}
        if len(self._known) == _MOST_KEPT:
            self._known.clear()
        self._known[key] = _Known(
            compiled,
            found.run,
            (found.function, found.packed_metadata),
            cache_key,
            device,
            _debug(kernel),
            names,
            tuple(places[name] for name in names),
            tuple(each.default for each in missing),
        )


def key_and_values(args: Sequence[object], named: Mapping[str, object]) -> tuple[Key, list[object]]:
    """What tells a launch from those that need other code, and the values of its arguments for Triton.

    The key is empty if values are of other types than those that can be compared.
    """
    values: list[object] = [*args, *named.values()]
    key: list[object] = [len(args), *named]
    for place, value in enumerate(values):
        kind = type(value)
        key.append(kind)
        if kind is np.ndarray:
            array: Any = value
            if array.dtype not in ARRAY_DTYPES:
                return (), values
            values[place] = pointer = array_argument(array)
            key += (pointer.dtype, pointer.address % _ALIGNMENT_BYTES == 0)
        elif kind in _COMPARED and (value or kind is not float):
            key.append(value)
        else:
            return (), values
    return tuple(key), values


def _debug(kernel: Any) -> tuple[object, ...]:
    """What Triton finds compiled kernels by, beside arguments and machine; its other switches change nothing here."""
    return kernel.debug, knobs.runtime.debug


def _has_ordinary_parameters(kernel: Any) -> bool:
    kinds = {each.kind for each in kernel.signature.parameters.values()}
    return kinds <= {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}


def _is_watched(kernel: Any) -> bool:
    """Whether somebody wants to see launches, or to change them."""
    runtime: Any = knobs.runtime
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(
        kernel.pre_run_hooks
        # A chain of hooks, or one of them.
        or getattr(enter, "calls", enter)
        or getattr(leave, "calls", leave)
        or getattr(runtime, "add_stages_inspection_hook", None)
    )


def _still_holds(known: _Known, kernel: Any) -> bool:
    """Whether Triton would find the same, and go on."""
    caches = kernel.device_caches.get(known.device)
    if caches is None or caches[0].get(known.cache_key) is not known.compiled:
        return False
    if driver.active.get_current_device() != known.device or _debug(kernel) != known.debug:
        return False
    return all(scope.get(name, _NOT_THERE) == value for (name, _), (value, scope) in kernel.used_global_vals.items())
