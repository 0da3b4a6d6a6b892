"""Files of tuned configurations, and kernels that load them by the shape of a launch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlutriton.backend.tuners import chosen_by, config_of
from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.result import TUNED_FORMAT
from mlutriton.tune.trial import Configuration, Shape


@dataclass(frozen=True)
class TunedEntry:
    """The best configuration of a shape.

    Attributes:
        shape: as it was given to the tuner.
        arguments: scalars by name; arrays as ``[dtype, extents...]``.
        configuration: what was fastest.
        cycles: simulated.
    """

    shape: Shape
    arguments: Mapping[str, Any]
    configuration: Configuration
    cycles: int

    def distance(self, arguments: Mapping[str, Any]) -> float:
        """How far a launch is from this shape: 0 if it is the same; infinite if a dtype is another."""
        total = 0.0
        for name, own in self.arguments.items():
            if name not in arguments:
                continue
            other = outline(arguments[name])
            if isinstance(own, list):
                dtype, *extents = own  # pyright: ignore[reportUnknownVariableType]
                if not isinstance(other, list) or other[0] != dtype or len(other) != len(own):  # pyright: ignore[reportUnknownArgumentType]
                    return math.inf
                total += sum(map(_apart, extents, other[1:]))  # pyright: ignore[reportUnknownArgumentType]
            else:
                total += _apart(own, other)
        return total


def _apart(own: Any, other: Any) -> float:
    """Doublings between two sizes; 1 between values that are not sizes."""
    if own == other:
        return 0.0
    if all(isinstance(each, int | float) and each > 0 for each in (own, other)):
        return abs(math.log2(own / other))
    return 1.0


def outline(value: Any) -> Any:
    """What of an argument tells shapes apart: dtype and extents of an array, in a list; a number as it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [str(value.dtype).rpartition(".")[2], *(int(extent) for extent in value.shape)]
    return value if isinstance(value, int | float | str | bool) or value is None else repr(value)


@dataclass(frozen=True)
class TunedFile:
    """What was found for a kernel.

    Attributes:
        kernel: its name.
        parameters: names of its parameters.
        machine: name of the machine.
        entries: one for each shape.
    """

    kernel: str
    parameters: tuple[str, ...]
    machine: str
    entries: tuple[TunedEntry, ...]

    def configuration(self, **arguments: Any) -> Configuration:
        """The configuration of the shape that is nearest to a launch, by its arguments or by names of the shape.

        Sizes are compared by how many doublings lie between them.
        """
        return self._nearest(arguments).configuration

    def _nearest(self, arguments: Mapping[str, Any]) -> TunedEntry:
        def distance(entry: TunedEntry) -> float:
            named = sum(_apart(entry.shape[name], value) for name, value in arguments.items() if name in entry.shape)
            return named + entry.distance(arguments)

        return min(self.entries, key=distance)

    @cached_property
    def configs(self) -> list[Any]:
        """The configurations as ``triton.Config``, one for each entry."""
        return [config_of(entry.configuration, self.parameters) for entry in self.entries]

    @property
    def key(self) -> list[str]:
        """Names of the arguments that are numbers: what a launch is told apart by."""
        first = self.entries[0].arguments
        return [name for name, value in first.items() if not isinstance(value, list) and name in self.parameters]

    def __call__(self, kernel: Any) -> Any:
        """The kernel with the configuration that was tuned for each launch: a decorator above ``mlu.jit``."""

        def choose(arguments: Mapping[str, Any]) -> Any:
            return self.configs[self.entries.index(self._nearest(arguments))]

        return chosen_by(choose, self.configs, self.key)(kernel)


def load_tuned(path: str | Path) -> TunedFile:
    """Read a tuned file.

    Raises:
        ArgumentError: E0501, it cannot be read or is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != TUNED_FORMAT or not content["entries"]:
            raise ValueError
        entries = tuple(
            TunedEntry(each["shape"], each["arguments"], each["configuration"], each["cycles"])
            for each in content["entries"]
        )
        return TunedFile(content["kernel"], tuple(content["parameters"]), content["machine"], entries)
    except OSError as problem:
        raise ArgumentError("E0501", f"cannot read {path}: {problem.strerror}", help=_HELP) from None
    except (ValueError, KeyError, TypeError):
        raise ArgumentError("E0501", f"{path} is no file of tuned configurations", help=_HELP) from None


_HELP = "mlutriton tune FILE.py::KERNEL writes one: tuned.json"


def tuned(path: str | Path) -> Callable[[Any], Any]:
    """A decorator above ``mlu.jit`` or ``triton.jit``: each launch takes the configuration tuned for its shape.

    Example:
        @tuned("tune-softmax/tuned.json")
        @mlu.jit
        def softmax(...): ...

    Raises:
        ArgumentError: E0501, the file cannot be read or is none.
    """
    return load_tuned(path)
