"""What a worker does: compile configurations, bound them, and replay those whose bound leaves them a chance."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlutriton.backend.repeated_estimates import PreparedLaunch, RepeatedEstimates
from mlutriton.backend.tuners import innermost, parameters_of, prepare_arguments, without_tuners
from mlutriton.configuration import current_machine, set_machine
from mlutriton.diagnostics import MluError
from mlutriton.frontend.array_specs import Spec
from mlutriton.isa.machine import Machine
from mlutriton.kernel_file import place_in
from mlutriton.tune.launches import LaunchPlan, merged
from mlutriton.tune.trial import Outcome, Shape, Status, Trial, Unit

# Current machine and addresses of specs are the process's.
_evaluating = threading.RLock()

# Tasks are alike but for those at the edges: a few more than would do make it likely that a part of the tasks decides.
_MARGIN = 1.1
# Where nearly all tasks have to run, all do.
_WORTHWHILE = 0.8


@dataclass
class _Known:
    """What was found of a launch: its bound, and its cycles if they were needed."""

    bound_cycles: int
    cycles: int | None

    def is_above(self, limit: int | None) -> bool:
        """True if the cycles cannot be as few as the limit."""
        return limit is not None and self.bound_cycles > limit


class Evaluator:
    """Tries configurations of a kernel.

    Args:
        kernel: what is launched.
        plan: how.
        shapes: of what.
        machine: on which machine.
        prune: False to time every configuration, whatever its bound.
    """

    def __init__(
        self, kernel: Any, plan: LaunchPlan, shapes: Sequence[Shape], machine: Machine, *, prune: bool = True
    ) -> None:
        self.kernel, self.plan, self.shapes, self.machine, self.prune = kernel, plan, shapes, machine, prune
        self._parameters = parameters_of(kernel)
        self._file = innermost(kernel).fn.__code__.co_filename
        self._estimates = RepeatedEstimates(without_tuners(kernel))

    def evaluate(self, unit: Unit) -> list[Outcome]:
        """The outcomes of a unit's trials, in order; the same in every process."""
        limits = list(unit.limits)
        outcomes: list[Outcome] = []
        # What other units have found would be as right, but what this one reports would depend on where it is done.
        known: dict[bytes, _Known] = {}
        with _evaluating:
            before = current_machine()
            set_machine(self.machine)
            try:
                for trial in unit.trials:
                    outcome = self._outcome(trial, limits[trial.shape] if self.prune else None, known)
                    outcomes.append(outcome)
                    if outcome.cycles is not None:
                        limits[trial.shape] = min(outcome.cycles, limits[trial.shape] or outcome.cycles)
            finally:
                set_machine(before)
        return outcomes

    def prepare(self, trial: Trial) -> PreparedLaunch:
        """Compile one trial on the current machine.

        Raises:
            MluError: it does not compile.
        """
        with Spec.placed_anew():
            grid, arguments = merged(self.plan, self._parameters, self.shapes[trial.shape], trial.configuration)
            prepare_arguments(self.kernel, trial.configuration, arguments)
            return self._estimates.prepare(grid, arguments)

    def _outcome(self, trial: Trial, limit: int | None, known: dict[bytes, _Known]) -> Outcome:
        try:
            found = self._found(self.prepare(trial), limit, known)
        except MluError as error:
            return Outcome(trial, Status.FAILED, code=error.code, reason=error.summary)
        except Exception as problem:
            # Whatever a kernel, a grid or a launch function raises is a fact about this configuration.
            said = [line for line in str(problem).splitlines() if line.strip()]
            reason = f"{type(problem).__name__}: {said[-1].strip() if said else ''}"
            return Outcome(trial, Status.FAILED, reason=f"{reason} {place_in(problem, self._file)}".strip())
        if found.is_above(limit):
            return Outcome(trial, Status.SKIPPED, None, found.bound_cycles)
        return Outcome(trial, Status.TIMED, found.cycles, found.bound_cycles)

    def _found(self, prepared: PreparedLaunch, limit: int | None, known: dict[bytes, _Known]) -> _Known:
        """Bound and, if the bound is not above the limit, cycles: of a launch that is known, what is known."""
        before = known.get(prepared.identity)
        if before is not None and (before.cycles is not None or before.is_above(limit)):
            return before
        found = None if limit is None else _hopeless(prepared, limit)
        if found is None:
            run = prepared.run()
            found = _Known(run.schedule_bound_cycles, None)
            if not found.is_above(limit):
                found.cycles = run.cycles
        known[prepared.identity] = found
        return found


def _hopeless(prepared: PreparedLaunch, limit: int) -> _Known | None:
    """A bound above the limit from some of the tasks, if these are enough.

    Traces of small tiles have millions of records. The first task tells how many would do if all were alike.
    """
    tasks = prepared.tasks
    if tasks < 2:
        return None
    first = prepared.bound_of_first_tasks(1)
    units = prepared.kernel.machine.cores // prepared.kernel.program.cores_per_program
    if first > limit:
        return _Known(first, None)
    enough = units * _MARGIN * limit / first + units
    if enough > _WORTHWHILE * tasks:
        return None
    bound = prepared.bound_of_first_tasks(int(enough))
    return _Known(bound, None) if bound > limit else None


def one_by_one(unit: Unit, evaluate: Any) -> list[Outcome]:
    """The outcomes of a unit whose trials are units of their own, each with the limits that it would have had."""
    limits = list(unit.limits)
    outcomes: list[Outcome] = []
    for trial in unit.trials:
        [outcome] = evaluate(replace(unit, trials=(trial,), limits=tuple(limits)))
        outcomes.append(outcome)
        if outcome.cycles is not None:
            limits[trial.shape] = min(outcome.cycles, limits[trial.shape] or outcome.cycles)
    return outcomes
