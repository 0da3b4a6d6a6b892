"""Which machine parameter a launch would gain from: its trace, replayed with one parameter at a time made better."""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.diagnostics import ArgumentError
from mlutriton.isa.machine import PARAMETERS, Machine
from mlutriton.isa.machine_file import Value
from mlutriton.profile.replays import Variant, replay_all
from mlutriton.simulator.replay.timing import timing_parameters
from mlutriton.simulator.report import Run

FACTOR = 2
# Less of these is better; of all other numbers more.
_COST_UNITS = ("cycles", "ns", "passes")
_COSTS = ("dram_granule_bytes", "nram_reserve_bytes", "wram_reserve_bytes", "sram_reserve_bytes")
# A rate that another one caps, and so never helps alone, takes that one along.
_CAPPED_BY = {"core_dma_bytes_per_cycle": ("core_dma_total_bytes_per_cycle",)}


@dataclass(frozen=True)
class Gain:
    """What a launch would take with one parameter made better.

    Attributes:
        parameter: its name.
        value: as it is.
        better: as it might be.
        cycles: of the launch then.
        time_us: of the launch then.
        saved: share of the time that is saved; negative if it takes longer.
    """

    parameter: str
    value: Value
    better: Value
    cycles: int
    time_us: float
    saved: float


def sensitivity(run: Run, factor: float = FACTOR) -> list[Gain]:
    """The gain from each parameter that a replay can vary, made better by a factor; the greatest first.

    Rates and sizes are multiplied, times and costs divided; a share becomes 1 at most. Parameters of which the trace
    holds the effect, as those of vector and tensor instructions, are not among them, nor are those whose change the
    replay does not see.
    """
    machines = [(name, machine) for name in PARAMETERS if (machine := _improved(run, name, factor)) is not None]
    cycles = replay_all([Variant(run.trace, machine) for _, machine in machines])
    gains = [
        Gain(
            name,
            run.machine.values[name],
            machine.values[name],
            taken,
            machine.time_us(taken),
            1 - machine.time_us(taken) / run.time_us,
        )
        for (name, machine), taken in zip(machines, cycles, strict=True)
    ]
    return sorted(gains, key=lambda each: (-each.saved, each.parameter))


def _improved(run: Run, name: str, factor: float) -> Machine | None:
    """The machine with a parameter made better; None if that cannot be, or cannot be replayed, or changes nothing."""
    names = (name, *_CAPPED_BY.get(name, ()))
    values = {each: _better(each, run.machine.values[each], factor) for each in names}
    if isinstance(run.machine.values[name], bool) or name == "isa":
        return None
    try:
        machine = run.machine.replace(**values)
        run.what_if(machine)
    except ArgumentError:
        return None
    seen = machine.clock_mhz != run.machine.clock_mhz or _differ(run.machine, machine)
    return machine if seen else None


def _differ(one: Machine, other: Machine) -> bool:
    """Whether a replay can tell two machines apart by their cycles."""
    return bool((timing_parameters(one) != timing_parameters(other)).any())


def _better(name: str, value: Value, factor: float) -> Value:
    parameter = PARAMETERS[name]
    better = value / factor if is_cost(name) else min(value * factor, parameter.at_most)
    return better if parameter.kind is float else max(round(better), 0 if parameter.zero_allowed else 1)


def is_cost(name: str) -> bool:
    """Whether less of a parameter is better."""
    return PARAMETERS[name].unit in _COST_UNITS or name in _COSTS
