"""Launches that Triton need not look at again: the same constants and numbers, and arrays of the same types.

Triton binds arguments, asks for options, and finds the compiled kernel by the text of all of them. That takes as long
as a small launch itself, and several times as long where the caches of the host have gone cold. What it finds depends
on nothing but what is compared here, and numbers are compared by value: more strictly than by what Triton makes of
them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, NamedTuple

import numpy as np
from triton import knobs
from triton import language as tl
from triton.compiler.compiler import CompiledKernel
from triton.runtime.driver import driver

from mlutriton.frontend.arguments import (
    PointerArgument,
    checked_grid,
    distinct_dtype,
    is_negated,
    reach_of,
    reach_of_tensor,
)
from mlutriton.frontend.array_specs import Spec

# A kernel that is launched with ever other numbers shall not fill the memory.
_MOST_KEPT = 64
# Triton compiles other code for pointers that are multiples of it.
_ALIGNMENT_BYTES = 16


class _Tensor:
    """Stands for the types of torch, which need not be there."""


_TENSORS = frozenset({("torch", "Tensor"), ("torch.nn.parameter", "Parameter")})
# Arrays are compared by type and alignment, also those that are not there. Two values of the others that are equal are
# the same to a kernel, but for zeros of both signs.
_COMPARED = frozenset({np.ndarray, Spec, _Tensor, int, bool, str, float, type(None), tl.dtype})
_NOT_THERE = object()


Key = tuple[Any, ...]
_KINDS = 2
Reach = tuple[tuple[int, int, int, bool], ...]
"""What :func:`mlutriton.frontend.arguments.reach_of` says of each array of a launch."""


@dataclass(slots=True)
class _Known:
    """What Triton found for a launch.

    Attributes:
        key: of the launch.
        compiled: the compiled kernel.
        launcher: what makes a launch of it.
        program: what is launched.
        cache_key: its name in Triton's cache of this kernel; without it there, it is to be compiled anew.
        device: number of the machine.
        debugs: what else Triton found it by: whether the kernel is compiled for debugging, or all are.
        names: of all parameters.
        order: where each of their values is, among those that are passed and, behind these, the defaults.
        defaults: of parameters.
        last: grid and reach of the latest launch that can be repeated, and the launch.
    """

    key: Key
    compiled: object
    launcher: Any
    program: object
    cache_key: object
    device: int
    debugs: tuple[object, ...]
    names: tuple[str, ...]
    order: tuple[int, ...]
    defaults: tuple[object, ...]
    last: tuple[object, Reach, Any] = (None, (), None)


class KnownLaunches:
    """Those of one kernel."""

    def __init__(self) -> None:
        self._known: dict[Key, _Known] = {}
        # That of the launch before: to compare takes less time than to look up.
        self._latest: _Known | None = None
        self._met: set[Key] = set()

    def again(
        self,
        kernel: Any,
        driver: Any,
        grid: Any,
        key: Key,
        reach: Reach,
        args: Sequence[object],
        named: Mapping[str, object],
    ) -> Any:
        """Launch a kernel if the launch is known.

        One that also has the grid and the memory of the latest such launch is that launch, made again.

        Args:
            kernel: Triton's ``JITFunction``.
            driver: the MLU's, which is active.
            grid: up to three extents, or a function that gives them.
            key: of the launch.
            reach: of its arrays.
            args: arguments that are passed without names.
            named: the others, and options.

        Returns:
            The run; None if the launch is not known.

        Raises:
            ArgumentError: the grid is none.
        """
        known = self._latest
        if known is None or known.key != key:
            known = self._latest = self._known.get(key)
        if known is None or not _still_holds(known, kernel, driver, knobs.runtime):
            return None
        arguments = None
        if callable(grid):
            arguments = _arguments(known, key, reach, args, named)
            grid = grid(dict(zip(known.names, arguments, strict=True)))
        grid = checked_grid(grid)
        last_grid, last_reach, launch = known.last
        if reach != last_reach or grid != last_grid:
            arguments = arguments or _arguments(known, key, reach, args, named)
            launch = known.launcher.prepared(known.program, grid, arguments)
            if launch.can_be_repeated:
                known.last = grid, reach, launch
        return driver.run(launch)

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
        self._latest = self._known[key] = _Known(
            key,
            compiled,
            found.run,
            found.function,
            cache_key,
            device,
            (kernel.debug, knobs.runtime.debug),
            names,
            tuple(places[name] for name in names),
            tuple(each.default for each in missing),
        )


class _Places(NamedTuple):
    """Where arguments of some types have what is not simply compared by its value."""

    arrays: tuple[int, ...]
    specs: tuple[int, ...]
    tensors: tuple[int, ...]
    floats: tuple[int, ...]


# By the types of arguments; None where one cannot be compared.
_places: dict[tuple[type, ...], _Places | None] = {}


def _places_of(kinds: tuple[type, ...]) -> _Places | None:
    known = [_Tensor if (kind.__module__, kind.__name__) in _TENSORS else kind for kind in kinds]
    found = None
    if _COMPARED.issuperset(known):
        found = _Places(
            *(
                tuple(place for place, each in enumerate(known) if each is kind)
                for kind in (np.ndarray, Spec, _Tensor, float)
            )
        )
    if len(_places) == _MOST_KEPT:
        _places.clear()
    _places[kinds] = found
    return found


def key_and_reach(args: Sequence[object], named: Mapping[str, object]) -> tuple[Key, Reach]:
    """What tells a launch from those that need other code, and which memory its arrays let it touch.

    The key is empty if arguments are of other types than those that can be compared.
    """
    values: list[Any] = [*args, *named.values()]
    kinds = tuple(map(type, values))
    places: Any = _places.get(kinds, _NOT_THERE)
    if places is _NOT_THERE:
        places = _places_of(kinds)
    if places is None:
        return (), ()
    for place in places.floats:
        if not values[place]:
            return (), ()
    reach: list[tuple[int, int, int, bool]] = []
    for place in places.arrays:
        array = values[place]
        reach.append(touched := reach_of(array))
        values[place] = array.dtype, not touched[0] % _ALIGNMENT_BYTES
    for place in places.specs:
        spec = values[place]
        reach.append(spec.reach)
        values[place] = spec.dtype
    for place in places.tensors:
        tensor = values[place]
        try:
            reach.append(touched := reach_of_tensor(tensor))
        except (NotImplementedError, RuntimeError):  # it has no storage
            return (), ()
        if not tensor.is_cpu or is_negated(tensor):
            return (), ()
        values[place] = tensor.dtype, not touched[0] % _ALIGNMENT_BYTES
    return (len(args), tuple(named), kinds, tuple(values)), tuple(reach)


def _arguments(
    known: _Known, key: Key, reach: Reach, args: Sequence[object], named: Mapping[str, object]
) -> list[object]:
    """The values of all parameters, as Triton takes them: all but arrays as they are."""
    values: list[Any] = [*args, *named.values()]
    arrays = iter(reach)
    for place, kind in enumerate(key[_KINDS]):
        if kind is np.ndarray:
            array = values[place]
            values[place] = PointerArgument(array, *next(arrays), distinct_dtype(array.dtype))
    values += known.defaults
    return [values[place] for place in known.order]


def _has_ordinary_parameters(kernel: Any) -> bool:
    kinds = {each.kind for each in kernel.signature.parameters.values()}
    return kinds <= {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}


def _still_holds(known: _Known, kernel: Any, driver: Any, runtime: Any) -> bool:
    """Whether Triton would find the same, and nobody wants to see launches, or to change them."""
    caches = kernel.device_caches.get(known.device)
    if caches is None or caches[0].get(known.cache_key) is not known.compiled:
        return False
    # Triton's other switches change nothing here.
    if driver.get_current_device() != known.device or (kernel.debug, runtime.debug) != known.debugs:
        return False
    for (name, _), (value, scope) in kernel.used_global_vals.items():
        if scope.get(name, _NOT_THERE) != value:
            return False
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return not (
        kernel.pre_run_hooks
        # A chain of hooks, or one of them.
        or getattr(enter, "calls", enter)
        or getattr(leave, "calls", leave)
        or getattr(runtime, "add_stages_inspection_hook", None)
    )
