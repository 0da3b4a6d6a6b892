"""What a benchmark shows: a figure, the goal that it is held against, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum


class Unit(Enum):
    """Unit of a figure; the value is how Python formats a number of it."""

    TIMES = "{:,.3g}x"
    SECONDS = "{:,.3g} s"
    MILLISECONDS = "{:,.3g} ms"
    MICROSECONDS = "{:,.0f} us"
    PERCENT = "{:,.1f} %"
    MILLIONS_PER_SECOND = "{:,.1f} M/s"
    BYTES = "{:,.1f} B"

    def text(self, value: float) -> str:
        """The number with its unit."""
        return self.value.format(value)


class Verdict(Enum):
    """How a measured value stands against the goal and the first milestone's aim."""

    GOAL = "goal met"
    AIM = "aim met"
    BELOW = "missed"
    NONE = ""
    UNMEASURED = "not measured"


@dataclass(frozen=True)
class Measured:
    """What measuring a figure gave.

    Attributes:
        value: in the figure's unit.
        text: the raw numbers behind the value.
        numbers: the same, to be kept.
    """

    value: float
    text: str = ""
    numbers: dict[str, float] = field(default_factory=dict[str, float])


class NotMeasurableError(Exception):
    """Something that the measurement needs is not there; the message says what."""


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: what is measured, unique among the figures.
        unit: of value, goal and aim.
        measure: does it; its argument is True for a quick, rough measurement.
        goal: what the project wants to reach.
        aim: what the first milestone wants to reach, where that is less.
        less_is_better: True if the goal and the aim are upper limits.
    """

    name: str
    unit: Unit
    measure: Callable[[bool], Measured]
    goal: float | None = None
    aim: float | None = None
    less_is_better: bool = False

    def limit_text(self, limit: float | None) -> str:
        """The goal or the aim with its direction."""
        return f"{'<=' if self.less_is_better else '>='} {self.unit.text(limit)}" if limit is not None else ""

    def verdict(self, value: float) -> Verdict:
        """How a value stands."""
        if self.goal is None and self.aim is None:
            return Verdict.NONE
        for limit, verdict in ((self.goal, Verdict.GOAL), (self.aim, Verdict.AIM)):
            if limit is not None and (value <= limit if self.less_is_better else value >= limit):
                return verdict
        return Verdict.BELOW
