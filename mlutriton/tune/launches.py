"""From a shape and a configuration to a launch: its grid and its arguments, none of them allocated.

There are three ways to say it, and each is a :class:`LaunchPlan`:

* a function beside the kernel, ``launch_KERNEL``, takes names of the shape and of the configuration and returns the
  grid and a mapping of arguments with ``mlu.spec(shape, dtype)`` in the place of arrays;
* expressions: ``x=fp32:rows,columns`` for an array, ``stride=columns`` for a number, and one for the grid;
* the cases of an example file (:class:`mlutriton.testing.Case`), whose arrays tell their shapes and dtypes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any, Protocol, cast

import numpy as np

from mlutriton.backend.tuners import LAUNCH_OPTIONS, Parameters, innermost
from mlutriton.diagnostics import ArgumentError
from mlutriton.dtypes import ALL
from mlutriton.frontend.array_specs import ArrayReach, described, described_together, reach_of_any, spec
from mlutriton.testing.case import Case
from mlutriton.tune.expressions import Expression, parse
from mlutriton.tune.trial import Configuration, Shape

Launch = tuple[Any, dict[str, Any]]
"""Grid, and arguments of the kernel by name."""


class LaunchPlan(Protocol):
    """Says how a problem is launched."""

    @property
    def names(self) -> frozenset[str]:
        """Names of shapes and configurations that it knows beside the kernel's parameters."""
        ...

    def launch(self, shape: Shape, configuration: Configuration) -> Launch:
        """Grid, and arguments apart from those that the configuration gives the kernel itself."""
        ...


@cache
def dtypes_by_name() -> dict[str, np.dtype[Any]]:
    """Element types under all of their names: NumPy's, Triton's, and those of this package's own texts."""
    named: dict[str, np.dtype[Any]] = {}
    for each in ALL:
        triton_name = (
            each.name.replace("f", "fp", 1) if each.name[0] == "f" and each.name[1:].isdecimal() else each.name
        )
        named |= dict.fromkeys((each.name, str(each.numpy), triton_name), each.numpy)
    return named


def with_dtypes(shape: Shape) -> dict[str, Any]:
    """A shape with dtypes in the place of their names."""
    known = dtypes_by_name()
    return {name: known.get(value, value) if isinstance(value, str) else value for name, value in shape.items()}


@dataclass(frozen=True)
class FunctionPlan:
    """A function that takes names of the shape and of the configuration."""

    function: Callable[..., Any]

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @cached_property
    def _takes_all(self) -> bool:
        return any(each.kind is each.VAR_KEYWORD for each in self._parameters.values())

    @property
    def names(self) -> frozenset[str]:
        """Names of its parameters."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return frozenset(name for name, each in self._parameters.items() if each.kind in kinds)

    def launch(self, shape: Shape, configuration: Configuration) -> Launch:
        """What the function returns.

        Raises:
            ArgumentError: E0502, it needs what nothing gives, or returns something else.
        """
        known = with_dtypes(shape) | dict(configuration)
        given = known if self._takes_all else {name: known[name] for name in self.names & known.keys()}
        required = {name for name in self.names if self._parameters[name].default is inspect.Parameter.empty}
        name = getattr(self.function, "__name__", "the launch function")
        if missing := sorted(required - given.keys()):
            raise ArgumentError(
                "E0502",
                f"{name} needs {', '.join(missing)}",
                note=f"the shape gives {', '.join(shape) or 'nothing'}",
                help=f"type --shape {' '.join(f'{each}=...' for each in missing)}, or give the parameter a default",
            )
        returned = self.function(**given)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)):  # pyright: ignore[reportUnknownArgumentType]
            raise ArgumentError(
                "E0502",
                f"{name} returned {returned!r}",
                help='return the grid and the arguments: return (programs,), {"x": mlu.spec((n,), "float32"), "n": n}',
            )
        grid, arguments = cast("tuple[Any, Mapping[str, Any]]", returned)
        return grid, dict(arguments)


@dataclass(frozen=True)
class ExpressionPlan:
    """Arguments and grid as arithmetic on names of the shape and of the configuration.

    Attributes:
        arguments: dtype, if it is an array, and extents or value, by name.
        grid: one to three extents.
        parameters: of the kernel; a name of the shape that is one of them is passed as it is.
    """

    arguments: Mapping[str, tuple[str | None, Expression]]
    grid: Expression
    parameters: frozenset[str]

    @staticmethod
    def of_texts(arguments: Mapping[str, str], grid: str, parameters: Iterable[str]) -> ExpressionPlan:
        """Parse ``{"x": "fp32:rows,columns", "stride": "columns"}`` and a grid like ``cdiv(n, BLOCK)``.

        Raises:
            ArgumentError: E0502, a text is no expression.
        """
        parsed: dict[str, tuple[str | None, Expression]] = {}
        for name, text in arguments.items():
            dtype, colon, extents = text.rpartition(":")
            parsed[name] = (dtype if colon else None, parse(extents))
        return ExpressionPlan(parsed, parse(grid), frozenset(parameters))

    @property
    def names(self) -> frozenset[str]:
        """Every name in an expression."""
        used = {name for dtype, each in self.arguments.values() for name in {*each.names, dtype or ""}}
        return frozenset(used | self.grid.names)

    def launch(self, shape: Shape, configuration: Configuration) -> Launch:
        """What the expressions come to.

        Raises:
            ArgumentError: E0502, one has no value, or E0103, E0101: it describes no array.
        """
        known = with_dtypes(shape) | dict(configuration)
        arguments = {name: value for name, value in known.items() if name in self.parameters and name in shape}
        for name, (dtype, expression) in self.arguments.items():
            value = expression.value(known)
            if dtype is not None:
                value = spec(_tuple(value), known.get(dtype) or dtypes_by_name().get(dtype, dtype))
            arguments[name] = value
        return _tuple(self.grid.value(known)), arguments


def _tuple(value: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class CasePlan:
    """The cases of an example: a shape names one."""

    cases: Mapping[str, Case]

    @staticmethod
    def of(kernel: Any, cases: Iterable[Case]) -> CasePlan:
        """The cases of a kernel."""
        return CasePlan({each.shape: each for each in cases if _is_of(kernel, each)})

    @property
    def names(self) -> frozenset[str]:
        """The one name of its shapes."""
        return frozenset({"case"})

    @property
    def shapes(self) -> list[Shape]:
        """One for each case."""
        return [{"case": name} for name in self.cases]

    def launch(self, shape: Shape, configuration: Configuration) -> Launch:
        """The arguments of the case, of which the arrays become specs.

        Raises:
            ArgumentError: E0502, there is no such case.
        """
        case = self.cases.get(shape.get("case", ""))
        if case is None:
            raise ArgumentError(
                "E0502", f"there is no case {shape.get('case')!r}", help=f"the cases are: {', '.join(self.cases)}"
            )
        known = self._arguments(case)
        arguments = dict(zip(known, described_together([*known.values()]), strict=True))
        return case.grid, arguments | dict(case.constants)

    @cached_property
    def _known(self) -> dict[str, dict[str, Any]]:
        return {}

    def _arguments(self, case: Case) -> dict[str, Any]:
        """Arguments of a case whose arrays take no memory: made once, and described from then on."""
        if case.shape not in self._known:
            self._known[case.shape] = {name: _Outline.of(value) for name, value in case.arguments().items()}
        return self._known[case.shape]


@dataclass(frozen=True)
class _Outline:
    """Shape, dtype, strides and place of an array that was let go."""

    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...]
    reach: ArrayReach | None

    @staticmethod
    def of(value: Any) -> Any:
        outline: Any = described(value)
        if outline is value:
            return value
        return _Outline(outline.shape, outline.dtype, outline.strides, reach_of_any(value))

    def stride(self) -> tuple[int, ...]:
        return self.strides


def _is_of(kernel: Any, case: Case) -> bool:
    return hasattr(case.kernel, "fn") and innermost(case.kernel) is innermost(kernel)


def merged(
    plan: LaunchPlan, parameters: Parameters, shape: Shape, configuration: Configuration
) -> tuple[Any, dict[str, Any]]:
    """Grid and all arguments and options of the launch of a configuration."""
    grid, arguments = plan.launch(shape, configuration)
    own = {*parameters.all, *LAUNCH_OPTIONS}
    return grid, arguments | {name: value for name, value in configuration.items() if name in own}


def check_names(plan: LaunchPlan, parameters: Parameters, shapes: Sequence[Shape], names: Iterable[str]) -> None:
    """See that every name of shapes and configurations means something.

    Raises:
        ArgumentError: E0502, one is neither a parameter nor an option nor a name that the plan knows.
    """
    if any(each.kind is each.VAR_KEYWORD for each in getattr(plan, "_parameters", {}).values()):
        return
    known = {*parameters.all, *LAUNCH_OPTIONS, *plan.names}
    for kind, used in [("space", tuple(names)), *(("shape", tuple(shape)) for shape in shapes)]:
        for name in used:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                raise ArgumentError(
                    "E0502",
                    f"{name} of the {kind} is no parameter, no launch option, and not used to launch the kernel",
                    help=f"did you mean {close[0]}?" if close else f"parameters are: {', '.join(parameters.all)}",
                )


def check_complete(kernel_name: str, parameters: Parameters, arguments: Mapping[str, Any]) -> None:
    """See that a launch lacks no argument and has none too many.

    Raises:
        ArgumentError: E0502, it does.
    """
    missing = [name for name in parameters.all if name not in arguments and name not in parameters.optional]
    if missing:
        constants = [name for name in missing if name in parameters.constants]
        values = [name for name in missing if name not in parameters.constants]
        help = [f"add to --space: {' '.join(f'{name}=...' for name in constants)}"] if constants else []
        if values:
            help += [
                f"add to --arguments: {' '.join(f'{name}=...' for name in values)}",
                f"or write a function launch_{kernel_name} beside the kernel that returns the grid and all arguments",
            ]
        raise ArgumentError("E0502", f"nothing says what {', '.join(missing)} is", help="\n".join(help))
    if surplus := sorted(arguments.keys() - {*parameters.all, *LAUNCH_OPTIONS}):
        raise ArgumentError(
            "E0502",
            f"{kernel_name} has no parameter {', '.join(surplus)}",
            help=f"its parameters are: {', '.join(parameters.all)}",
        )
