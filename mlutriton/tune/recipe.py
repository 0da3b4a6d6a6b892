"""A search as plain data, from which another process makes the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlutriton.backend.tuners import parameters_of
from mlutriton.isa.machine import Machine
from mlutriton.testing.case import Case
from mlutriton.tune.evaluation import Evaluator
from mlutriton.tune.launches import CasePlan, ExpressionPlan, FunctionPlan, LaunchPlan
from mlutriton.tune.source import SourceFile, function_named, kernel_named
from mlutriton.tune.trial import Shape, text_of

CASES_FUNCTION = "cases"


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a search tries, and how.

    Attributes:
        file: of the kernel.
        kernel: its name.
        launch_file: of the launch function, or of the cases.
        launch: name of the launch function; empty for the cases of the file.
        arguments: texts of :class:`ExpressionPlan` by name, if that says how; with ``grid``.
        grid: see ``arguments``.
        shapes: of what.
        machine: on what.
        prune: see :class:`Evaluator`.
    """

    file: SourceFile
    kernel: str
    launch_file: SourceFile
    launch: str
    arguments: tuple[tuple[str, str], ...]
    grid: str
    shapes: tuple[Shape, ...]
    machine: Machine
    prune: bool = True

    @cached_property
    def digest(self) -> str:
        """Names all of it."""
        parts = (
            self.file,
            self.kernel,
            self.launch_file,
            self.launch,
            self.arguments,
            self.grid,
            [text_of(shape) for shape in self.shapes],
            self.machine.content_hash,
            self.prune,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def evaluator(self) -> Evaluator:
        """What tries its configurations.

        Raises:
            ArgumentError: E0501, a file cannot be run or does not have the names.
        """
        kernel = kernel_named(self.file, self.kernel)
        return Evaluator(kernel, self.plan(kernel), self.shapes, self.machine, prune=self.prune)

    def plan(self, kernel: Any) -> LaunchPlan:
        """How the kernel is launched.

        Raises:
            ArgumentError: E0501, the launch function does not exist; E0502, an expression is none.
        """
        if self.grid:
            return ExpressionPlan.of_texts(dict(self.arguments), self.grid, parameters_of(kernel).all)
        if self.launch:
            return FunctionPlan(function_named(vars(self.launch_file.module()), self.launch, self.launch_file.path))
        return CasePlan.of(kernel, cases_of(vars(self.launch_file.module())))


def cases_of(names: Mapping[str, Any]) -> list[Case]:
    """What ``cases()`` lists, as in the example files; nothing where no such function is among the names."""
    function = names.get(CASES_FUNCTION)
    listed: Any = function() if callable(function) else []
    return [each for each in listed if isinstance(each, Case)]
