"""A launch replayed on other machines: named ones, changed parameters, and ranges of a parameter."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlutriton.diagnostics import ArgumentError
from mlutriton.isa.machine import ON_CHIP, PARAMETERS, Machine
from mlutriton.isa.machine_file import Value, unknown_parameter
from mlutriton.profile.replays import Variant, replay_all
from mlutriton.simulator.report import Run

DEFAULT_STEPS = 8
MOST_VARIANTS = 10_000
_RANGE = re.compile(r"(?P<first>[^:]+?)\.\.(?P<last>[^:]+?)(?::(?P<steps>\d+))?(?P<log>:log)?")


@dataclass(frozen=True)
class Point:
    """A launch on one machine.

    Attributes:
        changes: parameters that differ from the recorded machine by what was asked for, with their values.
        machine: where.
        cycles: what it takes there.
    """

    changes: dict[str, Value]
    machine: Machine
    cycles: int

    @property
    def time_us(self) -> float:
        """Simulated time."""
        return self.machine.time_us(self.cycles)


def setting(text: str) -> tuple[str, Value]:
    """The parameter and the value of ``NAME=VALUE``.

    Raises:
        ArgumentError: E0106, there is no such parameter, or it cannot have the value.
    """
    name, values = _sides(text)
    return name, _value(name, values)


def swept(text: str) -> tuple[str, list[Value]]:
    """The parameter and the values of ``NAME=A,B,C``, or of ``NAME=FIRST..LAST``, in ``:STEPS`` and evenly or ``:log``.

    Raises:
        ArgumentError: E0106, there is no such parameter, or it cannot have one of the values.
    """
    name, values = _sides(text)
    matched = _RANGE.fullmatch(values)
    if matched is None:
        return name, list(dict.fromkeys(_value(name, each) for each in values.split(",")))
    first, last = float(_value(name, matched["first"])), float(_value(name, matched["last"]))
    steps = int(matched["steps"] or DEFAULT_STEPS)
    if not 1 <= steps <= MOST_VARIANTS:
        raise ArgumentError("E0106", f"{steps} steps of {name}; a range has 1 to {MOST_VARIANTS}")
    kind = PARAMETERS[name].kind
    parts = [step / max(steps - 1, 1) for step in range(steps)]
    if matched["log"]:
        if not first or not last:
            raise ArgumentError("E0106", f"{name} from {first:g} to {last:g} has no even ratios", help="leave :log out")
        points = [math.exp(math.log(first) + part * math.log(last / first)) for part in parts]
        points[0], points[-1] = first, (last if steps > 1 else first)
    else:
        points = [first + part * (last - first) for part in parts]
    return name, list(dict.fromkeys(round(point) if kind is int else round(point, 6) for point in points))


def points(run: Run, machines: Sequence[Machine], sweeps: Iterable[tuple[str, Sequence[Value]]]) -> list[Point]:
    """The launch on each machine, with each combination of the swept values.

    Raises:
        ArgumentError: E0106, values contradict each other; E0107, the trace cannot be replayed there.
    """
    swept_values = list(sweeps)
    names = [name for name, _ in swept_values]
    count = len(machines) * math.prod(len(values) for _, values in swept_values)
    if count > MOST_VARIANTS:
        raise ArgumentError(
            "E0106", f"{count:,} combinations are swept; {MOST_VARIANTS:,} are the most", help="take fewer steps"
        )
    found: list[tuple[dict[str, Value], Machine]] = []
    for machine in machines:
        for chosen in itertools.product(*(values for _, values in swept_values)):
            changes = dict(zip(names, chosen, strict=True))
            found.append((changes, run.what_if(machine.replace(**changes)).machine))
    cycles = replay_all([Variant(run.trace, machine) for _, machine in found])
    return [Point(changes, machine, taken) for (changes, machine), taken in zip(found, cycles, strict=True)]


def sizes_kept(run: Run, found: Iterable[Point]) -> str:
    """What to know where memories on the chip have other sizes: a replay does not compile again, and so gains nothing.

    Empty if all have the sizes that the program was compiled for.
    """
    names = [
        name
        for name, parameter in PARAMETERS.items()
        if parameter.section == ON_CHIP
        and any(point.machine.values[name] != run.machine.values[name] for point in found)
    ]
    if not names:
        return ""
    return (
        f"The program is still the one that was compiled for the {', '.join(names)} of {run.machine.name}."
        " What it becomes on another machine is told by mlutriton profile --machine FILE SCRIPT."
    )


def _sides(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ArgumentError("E0106", f"{text!r} sets no parameter", help="write NAME=VALUE, e.g. dram_gb_per_s=4000")
    if name not in PARAMETERS:
        raise unknown_parameter(name, PARAMETERS)
    return name, values


def _value(name: str, text: str) -> Value:
    parameter = PARAMETERS[name]
    words: dict[str, Value] = {"true": True, "false": False, "yes": True, "no": False}
    value: Value | None = words.get(text.strip().lower())
    if value is None:
        try:
            value = int(text, 0)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                value = None
    converted = None if value is None else parameter.convert(value)
    if converted is None:
        raise ArgumentError("E0106", f"{name} is {text!r}; expected {parameter.expected}", note=parameter.doc)
    return converted
