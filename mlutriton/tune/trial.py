"""What is tried and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Value = Any
Configuration = Mapping[str, Value]
"""Parameters, launch options and names of the launch function, with the values to try."""
Shape = Mapping[str, Value]
"""What a problem is given by: sizes and element types by name."""


class Status(StrEnum):
    """How the trial of a configuration ended."""

    TIMED = "timed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One configuration for one shape.

    Attributes:
        shape: number of the shape.
        configuration: what to try.
    """

    shape: int
    configuration: Configuration

    @property
    def key(self) -> str:
        """Tells trials of a search apart, also in a journal."""
        return f"{self.shape} {text_of(self.configuration)}"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        trial: what was tried.
        status: timed; skipped, as its schedule bound is above the cycles of another; or failed.
        cycles: simulated, if it was timed.
        bound_cycles: its schedule bound, unless it failed.
        code: of the error that it failed with, if that has one.
        reason: why it failed.
    """

    trial: Trial
    status: Status
    cycles: int | None = None
    bound_cycles: int | None = None
    code: str = ""
    reason: str = ""

    @property
    def configuration(self) -> Configuration:
        """What was tried."""
        return self.trial.configuration


@dataclass(frozen=True)
class Unit:
    """Trials that one process does one after the other, because they share the work of compiling.

    Attributes:
        trials: what to try.
        limits: of each shape, the least cycles known when the unit was made; None before the first.
    """

    trials: tuple[Trial, ...]
    limits: tuple[int | None, ...]


def text_of(values: Mapping[str, Value]) -> str:
    """Values by name as a text that is the same for the same values, whatever their order."""
    return json.dumps(dict(values), sort_keys=True, default=repr)


def shown(values: Mapping[str, Value]) -> str:
    """Values by name as a person would type them."""
    return " ".join(f"{name}={value}" for name, value in values.items())
