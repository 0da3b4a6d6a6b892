"""What a search found: the best of each shape, and what became of all others."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlutriton.backend.tuners import CONFIG_OPTIONS, LAUNCH_OPTIONS, config_of
from mlutriton.isa.machine import Machine
from mlutriton.tune.trial import Configuration, Outcome, Shape, Status, shown


@dataclass(frozen=True)
class ShapeResult:
    """What was found for one shape.

    Attributes:
        shape: the shape.
        outcomes: of every trial, in the order in which they were made.
        arguments: what decides at a launch which shape it is: scalars by name; arrays as ``[dtype, extents...]``.
        excluded: how many configurations were not tried, as a condition or the kernel's own pruning left them out.
    """

    shape: Shape
    outcomes: tuple[Outcome, ...]
    arguments: dict[str, Any]
    excluded: int = 0

    @cached_property
    def ranked(self) -> list[Outcome]:
        """What was timed, the fastest first; of equally fast ones the one that was tried first."""
        return sorted((each for each in self.outcomes if each.cycles is not None), key=lambda each: each.cycles or 0)

    @property
    def best(self) -> Outcome | None:
        """The fastest; None if nothing could be timed."""
        return self.ranked[0] if self.ranked else None

    def count(self, status: Status) -> int:
        """Trials that ended so."""
        return sum(each.status == status for each in self.outcomes)

    @property
    def failures(self) -> list[tuple[str, str, int]]:
        """Code, reason and number of what failed, the most frequent first; of one code the first reason stands."""
        counted = Counter(each.code or each.reason for each in self.outcomes if each.status is Status.FAILED)
        first: dict[str, Outcome] = {}
        for each in self.outcomes:
            first.setdefault(each.code or each.reason, each)
        return [(first[kind].code, first[kind].reason, count) for kind, count in counted.most_common()]


@dataclass(frozen=True)
class Tuning:
    """The result of a search.

    Attributes:
        kernel: its name.
        machine: on which it was tuned.
        search: how.
        seed: with which seed.
        parameters: names of the kernel's parameters.
        results: one for each shape.
        host_seconds: how long the search took.
    """

    kernel: str
    machine: Machine
    search: str
    seed: int
    parameters: tuple[str, ...]
    results: tuple[ShapeResult, ...]
    host_seconds: float

    @property
    def configs(self) -> list[Any]:
        """The best configuration of each shape as a ``triton.Config``, each once."""
        return [config_of(each, self.parameters) for each in self._winners]

    @property
    def _winners(self) -> list[Configuration]:
        unique = {
            repr(self._own(each.best.configuration)): each.best.configuration for each in self.results if each.best
        }
        return list(unique.values())

    def _own(self, configuration: Configuration) -> dict[str, Any]:
        """A configuration without what only the launch function knows."""
        return {name: value for name, value in configuration.items() if name in {*self.parameters, *LAUNCH_OPTIONS}}

    def to_json(self) -> str:
        """Everything that was found, as JSON."""
        return json.dumps(self._figures(), indent=1, default=repr)

    def _figures(self) -> dict[str, Any]:
        return {
            "simulated": True,
            "kernel": self.kernel,
            "machine": self.machine.name,
            "machine_hash": self.machine.content_hash,
            "search": self.search,
            "seed": self.seed,
            "host_seconds": round(self.host_seconds, 3),
            "shapes": [
                {
                    "shape": dict(each.shape),
                    "best": None if each.best is None else self._row(each.best),
                    "timed": each.count(Status.TIMED),
                    "skipped": each.count(Status.SKIPPED),
                    "failed": each.count(Status.FAILED),
                    "left_out": each.excluded,
                    "failures": [
                        {"code": code, "reason": reason, "count": count} for code, reason, count in each.failures
                    ],
                    "trials": [self._row(outcome) for outcome in each.outcomes],
                }
                for each in self.results
            ],
        }

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "configuration": dict(outcome.configuration),
            "status": outcome.status,
            "cycles": outcome.cycles,
            "time_us": None if outcome.cycles is None else self.machine.time_us(outcome.cycles),
            "schedule_bound_cycles": outcome.bound_cycles,
            "code": outcome.code,
            "reason": outcome.reason,
        }

    def to_csv(self) -> str:
        """Every trial, one a line, with a column for each name of shapes and configurations."""
        shape_names = _names(each.shape for each in self.results)
        names = _names(outcome.configuration for each in self.results for outcome in each.outcomes)
        # A configuration may use a name of the shape again.
        heads = [f"shape.{name}" if name in names else name for name in shape_names]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*heads, *names, "status", "cycles", "time_us", "schedule_bound_cycles", "code", "reason"])
        for each in self.results:
            for outcome in each.outcomes:
                row = self._row(outcome)
                writer.writerow(
                    [each.shape.get(name, "") for name in shape_names]
                    + [outcome.configuration.get(name, "") for name in names]
                    + [row[name] for name in ("status", "cycles", "time_us", "schedule_bound_cycles", "code", "reason")]
                )
        return text.getvalue()

    def to_python(self) -> str:
        """The best configurations as a list to paste above a kernel."""
        lines = ["import triton", "", f"# {self.kernel} on {self.machine.name}, by simulated cycles", "configs = ["]
        found: dict[str, list[str]] = {}
        for each in self.results:
            if each.best is None:
                continue
            own = self._own(each.best.configuration)
            others = {name: value for name, value in each.best.configuration.items() if name not in own}
            comment = f"{shown(each.shape)}: {each.best.cycles:,} cycles" + (f", {shown(others)}" if others else "")
            found.setdefault(_config_text(own), []).append(comment)
        lines += [f"    {config},  # {'; '.join(comments)}" for config, comments in found.items()]
        return "\n".join([*lines, "]", ""])

    def to_tuned(self) -> str:
        """The best configurations as a tuned file, which :func:`mlutriton.tune.tuned` loads."""
        entries = [
            {
                "shape": dict(each.shape),
                "arguments": each.arguments,
                "configuration": dict(each.best.configuration),
                "cycles": each.best.cycles,
            }
            for each in self.results
            if each.best is not None
        ]
        return json.dumps(
            {
                "format": TUNED_FORMAT,
                "kernel": self.kernel,
                "parameters": list(self.parameters),
                "machine": self.machine.name,
                "machine_hash": self.machine.content_hash,
                "entries": entries,
            },
            indent=1,
            default=repr,
        )


TUNED_FORMAT = "mlutriton tuned configurations 1"


def _names(mappings: Any) -> list[str]:
    return list(dict.fromkeys(name for each in mappings for name in each))


def _config_text(own: dict[str, Any]) -> str:
    options = {name: value for name, value in own.items() if name in CONFIG_OPTIONS}
    rest = {name: value for name, value in own.items() if name not in options}
    return f"triton.Config({', '.join([repr(rest), *(f'{name}={value!r}' for name, value in options.items())])})"
