"""Machines drawn at random, most of which nobody will build: whatever a machine file may say.

What a kernel computes is the same on each of them. Those on which it does not fit, or which lack a type, refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

import mlutriton as mlu
from mlutriton.isa.machine import MAC_PREFIX, MOST_LINE_GRANULES, PARAMETERS, Machine, machine_names
from mlutriton.isa.machine_file import Parameter, Value
from tests.language.generated.texts import Between, Choices

CLUSTERS = (1, 1, 2, 3, 7, 12)
CORES = (1, 2, 3, 4, 4, 5, 8)
# Sizes of memories in KiB, and bytes beyond them.
NRAM_KIB = (8, 16, 24, 48, 64, 100, 256, 768)
OTHER_KIB = (0, 4, 16, 48, 64, 256, 1024)
ODD_BYTES = (0, 0, 0, 1, 32, 100)
# What a rate, a latency or a count of passes is multiplied with.
FACTORS = (0.01, 0.1, 0.3, 0.7, 1.5, 3, 10, 100)
# Of what a machine does not have.
RATES = (0, 1, 48, 1024)

KEPT = ("isa", "dram_bytes")


@dataclass
class AnyMachine(Choices):
    """Draws a machine."""

    between: Between

    def machine(self) -> Machine:
        """A preset with other values, which its name tells."""
        preset = mlu.machine(self.pick(machine_names()))
        values = self.cores() | self.memories() | self.caches()
        for name, parameter in PARAMETERS.items():
            if name not in (*values, *KEPT) and self.chance(6):
                values[name] = self.changed(parameter, preset.values[name])
        whole = preset.values | values
        most = max(whole["core_dma_total_bytes_per_cycle"], whole["core_dma_bytes_per_cycle"])
        whole["core_dma_total_bytes_per_cycle"] = most
        for dtype in ("tf32", "bf16"):
            whole[f"{MAC_PREFIX}{dtype}"] *= whole[f"has_{dtype}"]
        changed = {name: value for name, value in whole.items() if value != preset.values[name]}
        told = ", ".join(f"{name}={value}" for name, value in changed.items())
        return preset.replace(name=f"{preset.name} with {told}", **changed)

    def cores(self) -> dict[str, Value]:
        clusters = self.pick(CLUSTERS)
        return {
            "clusters": clusters,
            "cores_per_cluster": self.pick(CORES),
            "max_union_clusters": self.between(1, clusters),
        }

    def memories(self) -> dict[str, Value]:
        """Sizes of what is on the chip; a memory of a byte is none."""
        made: dict[str, Value] = {}
        for memory, sizes in (("nram", NRAM_KIB), ("wram", OTHER_KIB), ("sram", OTHER_KIB)):
            usable = max(self.pick(sizes) * 1024 - self.pick(ODD_BYTES), 1)
            reserve = self.pick((0, 0, 100, 4096))
            made |= {f"{memory}_bytes": usable + reserve, f"{memory}_reserve_bytes": reserve}
        return made

    def caches(self) -> dict[str, Value]:
        granule = self.pick((16, 32, 64, 64, 128))
        line = granule * self.pick([1 << bit for bit in range(MOST_LINE_GRANULES.bit_length())])
        lines = self.pick((1, 7, 64, 1000, 30_000))
        return {"dram_granule_bytes": granule, "l2_line_bytes": line, "l2_bytes": line * lines}

    def changed(self, parameter: Parameter, value: Value) -> Value:
        """Another value that a parameter may have."""
        if parameter.kind is bool:
            return not value
        if not value:
            return self.pick(RATES)
        if parameter.zero_allowed and self.chance(3):
            return 0
        found = min(value * self.pick(FACTORS), parameter.at_most)
        return found if parameter.kind is float else max(int(found), 1)


def machine_of(between: Between) -> Machine:
    """A machine drawn at random."""
    return AnyMachine(between).machine()


machines = st.integers(0, 1 << 60).map(lambda seed: machine_of(Random(seed).randint))
