"""The configurations that are searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, cast

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.assignments import assignments, values_of
from mlutriton.tune.expressions import parse
from mlutriton.tune.trial import Configuration, Value, text_of

MAXIMUM_CONFIGURATIONS = 1_000_000


@dataclass(frozen=True)
class Space:
    """A finite set of configurations, in order.

    Attributes:
        configurations: all of them.
        axes: the values of each name, where the configurations are the product of these; else empty.
        excluded: how many more a condition, or the kernel's own ``prune_configs_by``, has left out.
    """

    configurations: tuple[Configuration, ...]
    axes: Mapping[str, Sequence[Value]]
    excluded: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that some configuration gives a value, in order."""
        return tuple(dict.fromkeys(name for each in self.configurations for name in each))

    @staticmethod
    def of_axes(axes: Mapping[str, Iterable[Value]], where: str | Callable[..., Any] | None = None) -> Space:
        """Every combination of values.

        Args:
            axes: the values of each name.
            where: an expression over the names, or a function that takes them by name: false for what to leave out.

        Raises:
            ArgumentError: E0502, there is no configuration, or there are too many.
        """
        listed = {name: tuple(values) for name, values in axes.items()}
        size = prod(len(values) for values in listed.values())
        if size > MAXIMUM_CONFIGURATIONS:
            raise ArgumentError(
                "E0502",
                f"the space has {size:,} configurations; {MAXIMUM_CONFIGURATIONS:,} are the most",
                help="leave values out; a search need not see each of BLOCK=1..4096: try BLOCK=1..4096:x2",
            )
        every = [dict(zip(listed, values, strict=True)) for values in product(*listed.values())]
        holds = _condition(where)
        chosen = [each for each in every if holds(each)]
        return _checked(Space(tuple(chosen), listed, len(every) - len(chosen)))

    @staticmethod
    def of_list(configurations: Iterable[Configuration], *, excluded: int = 0) -> Space:
        """The configurations of a list, without those that repeat an earlier one.

        Args:
            configurations: the list.
            excluded: see the class.

        Raises:
            ArgumentError: E0502, the list is empty.
        """
        unique = {text_of(each): dict(each) for each in configurations}
        return _checked(Space(tuple(unique.values()), {}, excluded))

    @staticmethod
    def of_texts(texts: Iterable[str], where: str | None = None) -> Space:
        """What ``--space BLOCK=64,128,256 num_stages=1..5`` says.

        Raises:
            ArgumentError: E0502, a text is not well-formed.
        """
        return Space.of_axes({name: values_of(text) for name, text in assignments(texts).items()}, where)

    @staticmethod
    def of_object(described: Any) -> Space:
        """A space as Python code writes it.

        Args:
            described: a space; a mapping of names to values, which may have a condition under ``"where"``; or a list of
                mappings or of ``triton.Config``.

        Raises:
            ArgumentError: E0502, it is none of these.
        """
        if isinstance(described, Space):
            return described
        if isinstance(described, Mapping):
            axes = dict(cast("Mapping[str, Any]", described))
            where = axes.pop("where", None)
            if all(isinstance(values, Iterable) and not isinstance(values, str) for values in axes.values()):
                return Space.of_axes(axes, where)
        elif isinstance(described, Iterable) and not isinstance(described, str):
            each = [one.all_kwargs() if hasattr(one, "all_kwargs") else one for one in cast("Iterable[Any]", described)]
            if all(isinstance(one, Mapping) for one in each):
                return Space.of_list(each)
        raise ArgumentError(
            "E0502",
            f"{described!r} describes no space",
            help='write {"BLOCK": [64, 128], "num_stages": range(1, 6)}, or a list of configurations',
        )

    def __len__(self) -> int:
        return len(self.configurations)


def _checked(space: Space) -> Space:
    if not space.configurations:
        without = f"; the condition excludes all {space.excluded:,}" if space.excluded else ""
        raise ArgumentError("E0502", f"the space has no configuration{without}")
    return space


def _condition(where: str | Callable[..., Any] | None) -> Callable[[Configuration], Any]:
    if where is None:
        return lambda configuration: True
    if callable(where):
        return lambda configuration: where(**configuration)
    return parse(where).value
