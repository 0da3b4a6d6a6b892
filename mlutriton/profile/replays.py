"""Many replays at once: a trace on several machines, or altered traces."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlutriton.configuration import threads
from mlutriton.isa.machine import Machine
from mlutriton.simulator.replay import Trace, replay


@dataclass(frozen=True)
class Variant:
    """What a launch might have been: a trace on a machine."""

    trace: Trace
    machine: Machine


def replay_all(variants: Sequence[Variant]) -> list[int]:
    """The cycles of each variant, in order. Replays leave Python's lock alone, and so run side by side."""
    with ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(_cycles, variants))


def _cycles(variant: Variant) -> int:
    return replay(variant.trace, variant.machine).cycles
