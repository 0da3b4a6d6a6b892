"""Winners run with values, on a small shape, against the kernel's reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import ml_dtypes
import numpy as np

from mlutriton.backend.tuners import LAUNCH_OPTIONS, innermost, parameters_of, without_tuners
from mlutriton.diagnostics import ArgumentError, MluError
from mlutriton.frontend.array_specs import Spec
from mlutriton.testing.case import Case
from mlutriton.tune.launches import CasePlan, LaunchPlan, merged
from mlutriton.tune.result import ShapeResult
from mlutriton.tune.trial import Shape, shown
from mlutriton.tune.tuned_file import outline

# Arrays of a shape that is made small; large enough for several programs of most kernels.
_SMALL_BYTES = 1 << 20
# Relative and absolute error, in units in the last place: sums of many products in another order.
_TOLERANCE_EPSILONS = 64


@dataclass(frozen=True)
class Verification:
    """What became of a winner that was run with values.

    Attributes:
        what: the case or shape that it was run on.
        configuration: what was run.
        max_error: largest absolute difference from the reference.
        problems: a line for each output that differs, or why it could not be run; empty if all is well.
    """

    what: str
    configuration: Mapping[str, Any]
    max_error: float
    problems: tuple[str, ...]


def verify(
    kernel: Any,
    plan: LaunchPlan,
    results: Iterable[ShapeResult],
    *,
    cases: Iterable[Case] = (),
    reference: Callable[..., Mapping[str, Any]] | None = None,
    shape: Shape | None = None,
) -> list[Verification]:
    """Run the winner of each shape on the current machine.

    Args:
        kernel: what was tuned.
        plan: how it is launched.
        results: whose winners.
        cases: of the kernel's file; where there is no reference, the smallest of the same element types is run.
        reference: takes the arguments of a launch by name and returns the expected outputs by name.
        shape: for the reference; by default the shape that was tuned for, made small.

    Raises:
        ArgumentError: E0501, there is neither reference nor case.
    """
    own = list(CasePlan.of(kernel, cases).cases.values())
    name = innermost(kernel).fn.__name__
    if reference is None and not own:
        raise ArgumentError(
            "E0501",
            f"there is no reference of {name}",
            help=f"write a function reference_{name} beside it: it takes the arguments of a launch by name and returns"
            " the outputs by name, from NumPy; or a function cases() as in the examples",
        )
    return [
        _run(_case(kernel, plan, each, reference, shape) if reference else _smallest(kernel, each, own), each)
        for each in results
        if each.best is not None
    ]


def _run(case: Case, result: ShapeResult) -> Verification:
    assert result.best is not None
    try:
        done = case.run()
    except MluError as error:
        return Verification(case.shape, result.best.configuration, 0.0, (str(error),))
    return Verification(case.shape, result.best.configuration, done.max_error, done.mismatches)


def _own_names(kernel: Any, result: ShapeResult) -> dict[str, Any]:
    """What the winner gives the kernel, without what its launch function alone knows."""
    assert result.best is not None
    known = {*parameters_of(kernel).all, *LAUNCH_OPTIONS}
    return {name: value for name, value in result.best.configuration.items() if name in known}


def _smallest(kernel: Any, result: ShapeResult, cases: list[Case]) -> Case:
    """The case with the fewest elements, of the element types that were tuned for if there is one."""
    outlines = {case.shape: {name: outline(value) for name, value in case.arguments().items()} for case in cases}
    wanted = _dtypes(result.arguments)
    alike = [case for case in cases if _dtypes(outlines[case.shape]) == wanted] or cases
    case = min(alike, key=lambda each: _elements(outlines[each.shape].values()))
    constants = {**case.constants, **_own_names(kernel, result)}
    return replace(case, kernel=without_tuners(kernel), constants=constants)


def _dtypes(outlines: Mapping[str, Any]) -> dict[str, str]:
    return {name: value[0] for name, value in outlines.items() if isinstance(value, list)}


def _elements(outlines: Iterable[Any]) -> int:
    """Elements of all arrays."""
    return sum(prod(cast("list[int]", value)[1:]) for value in outlines if isinstance(value, list))


def _case(
    kernel: Any, plan: LaunchPlan, result: ShapeResult, reference: Callable[..., Any] | None, shape: Shape | None
) -> Case:
    """A case of a launch whose arrays are filled at random, and of a reference."""
    assert result.best is not None
    assert reference is not None
    configuration, parameters = result.best.configuration, parameters_of(kernel)
    small = _made_small(plan, result) if shape is None else shape
    grid, given = merged(plan, parameters, small, configuration)
    constants = {name: value for name, value in given.items() if name in {*parameters.constants, *LAUNCH_OPTIONS}}

    def arguments() -> dict[str, Any]:
        generator = np.random.default_rng(0)
        return {
            name: _filled(value, generator) if isinstance(value, Spec) else value
            for name, value in given.items()
            if name not in constants
        }

    def expected_of(**named: Any) -> dict[str, Any]:
        return dict(reference(**named))

    expected = expected_of(**arguments())
    if not expected or not all(name in given for name in expected):
        raise ArgumentError(
            "E0502",
            f"the reference returned {', '.join(expected) or 'nothing'}",
            help=f"return the outputs by the names of their parameters, which are: {', '.join(parameters.all)}",
        )
    tolerance = max(_tolerance(array) for array in expected.values())
    return Case(
        name=innermost(kernel).fn.__name__,
        shape=shown(small),
        kernel=without_tuners(kernel),
        arguments=arguments,
        grid=grid,
        outputs=tuple(expected),
        reference=expected_of,
        constants=constants,
        tolerance=(tolerance, tolerance),
    )


def _tolerance(array: Any) -> float:
    if array.dtype.kind in "iub":
        return 0.0
    limits = cast("Any", ml_dtypes.finfo(array.dtype))
    return _TOLERANCE_EPSILONS * float(limits.eps)


def _made_small(plan: LaunchPlan, result: ShapeResult) -> Shape:
    """The shape with its largest sizes halved until its arrays are small."""
    assert result.best is not None
    shape = dict(result.shape)
    while True:
        with Spec.placed_anew():
            _, given = plan.launch(shape, result.best.configuration)
        sizes = {name: value for name, value in shape.items() if type(value) is int and value > 1}
        if not sizes or sum(_size_bytes(value) for value in given.values()) <= _SMALL_BYTES:
            return shape
        largest = max(sizes, key=lambda name: sizes[name])
        shape[largest] = sizes[largest] // 2


def _size_bytes(value: Any) -> int:
    return prod(value.shape) * np.dtype(value.dtype).itemsize if isinstance(value, Spec) else 0


def _filled(value: Spec, generator: np.random.Generator) -> Any:
    dtype = np.dtype(value.dtype)
    if dtype.kind in "iu":
        return generator.integers(0, 8, value.shape).astype(dtype)
    if dtype.kind == "b":
        return generator.random(value.shape) < 0.5
    return generator.standard_normal(value.shape).astype(dtype)
