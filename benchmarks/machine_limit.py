"""The machine limit: what a launch takes at least, its work aside from what no program can avoid around it.

The work bound says how long the work itself takes. No program reaches it, as a launch has a beginning and an end:

    launch floor + dispatch + the greatest of
        first load + bytes at the DRAM's rate
        first load + bytes at the rate of all cores' transfers + last store
        products + vector work + last store, behind the first load if the vector work is on what is loaded

* Dispatch: a task reaches its core so late.
* First load: nothing lies in the L2 when a launch begins. A scalar load is quickest; a transfer's set-up and latency
  are longer, but the DRAM has as good as nothing to do meanwhile.
* Products and vector work: one queue has both, and serves them one behind the other.
* Last store: what depends on what was loaded, or computed, can be stored only after its core has waited for it, so that
  nothing hides how a store begins. It counts as the least that any way of storing takes: a transfer to where the L2 was
  written already, a scalar store, an atomic where the program has any.

Of some kernels more is known than the counters of a run tell (``Needs``):

* Passes of the vector unit. The work bound lets every simple operation stand in a full chain. But a chain takes
  operations that are connected, and none of a division or a transcendental function.
* Strides. What is rearranged in memory is strided where it is loaded or where it is stored, at the DRAM's lower rate.
  Only a cluster that held a whole array on its chip could do without.

Left out, as a program may get around them: that rows cannot be dealt out evenly (cores of a cluster may share one), the
start-up of vector instructions (four cycles for one that works on all of NRAM), waits of a core for its queue beyond
the last one, and arithmetic that is left when all is loaded (little, if the last piece is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlutriton.isa.machine import Machine
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS


@dataclass(frozen=True)
class Needs:
    """What a kernel needs, known from what it says.

    Attributes:
        vector_bytes: that a vector operation on all elements works on.
        connected: sizes of the groups of simple operations that are connected, without others between.
        reductions: reductions along rows; as chained operations of whole tiles they take a share of a pass.
        divisions: divisions of all elements.
        specials: transcendental functions of all elements.
        rearranges: the order in memory changes, so that loads or stores are strided.
    """

    vector_bytes: int = 0
    connected: Sequence[int] = ()
    reductions: int = 0
    divisions: int = 0
    specials: int = 0
    rearranges: bool = False

    def vector_cycles(self, machine: Machine) -> int:
        """Cycles of the vector units, all at work alike."""
        passes = sum(-(-size // MAXIMUM_CHAIN_STEPS) for size in self.connected) + self.reductions / MAXIMUM_CHAIN_STEPS
        passes += self.divisions * machine.vector_divide_passes + self.specials * machine.vector_special_passes
        return int(passes * self.vector_bytes / machine.vector_bytes_per_cycle / machine.cores)


NOTHING_KNOWN = Needs()


@dataclass(frozen=True)
class MachineLimit:
    """The least cycles of a launch, and the parts of it.

    Attributes:
        cycles: the limit.
        parts: cycles by what they are spent on; they add up to the limit.
    """

    cycles: int
    parts: dict[str, int] = field(default_factory=dict[str, int])

    def text(self) -> str:
        """The limit and its parts."""
        return f"limit {self.cycles:,}: " + ", ".join(f"{name} {cycles:,}" for name, cycles in self.parts.items())


def machine_limit(run: Any, needs: Needs = NOTHING_KNOWN) -> MachineLimit:
    """The machine limit of a run's work on its machine."""
    bound, machine = run.work_bound, run.machine
    load_cycles, store_cycles = _least_access_cycles(run)
    first = {"first load": load_cycles if bound.loaded_bytes else 0}
    last = {"last store": store_cycles if bound.stored_bytes else 0}
    strides, transfers = _strided_cycles(bound, machine, needs), _transfer_cycles(bound, machine)
    ways = (
        first | {"DRAM": bound.dram_cycles, "strides": strides},
        first | {"transfers of the cores": transfers} | last if bound.loaded_bytes else {},
        {"tensor": bound.tensor_cycles, "vector": bound.vector_cycles} | last,
        first | {"tensor": bound.tensor_cycles, "vector": needs.vector_cycles(machine)} | last
        if needs.vector_bytes
        else {},
    )
    binding = max(ways, key=lambda parts: sum(parts.values()))
    parts = {"launch": bound.launch_cycles, "dispatch": machine.dispatch_cycles, **binding}
    return MachineLimit(sum(parts.values()), {name: cycles for name, cycles in parts.items() if cycles})


def _least_access_cycles(run: Any) -> tuple[int, int]:
    """Cycles from the issue of a load, and of a store, until its first bytes are there, in the quickest way."""
    machine = run.machine
    has_atomics = any(each.row.trace.startswith("ATOMIC") for each in run.program.instructions)
    others = [machine.cycles_from_ns(machine.dram_scalar_latency_ns)]
    others += [machine.atomic_latency_cycles] * has_atomics
    return (
        min(machine.dma_setup_cycles + machine.cycles_from_ns(machine.dram_bulk_latency_ns), *others),
        min(machine.dma_setup_cycles + machine.cycles_from_ns(machine.l2_latency_ns), *others),
    )


def _transfer_cycles(bound: Any, machine: Machine) -> int:
    """Cycles of all bytes if every core transfers at its own rate."""
    core_rate = min(machine.core_dma_bytes_per_cycle, machine.core_dma_total_bytes_per_cycle)
    return (bound.loaded_bytes + bound.stored_bytes) // (core_rate * machine.cores)


def _strided_cycles(bound: Any, machine: Machine, needs: Needs) -> int:
    """By how much strides slow the DRAM down, in the direction where they cost less."""
    if not needs.rearranges:
        return 0
    slowed = (
        (bound.loaded_bytes, machine.strided_read_efficiency),
        (bound.stored_bytes, machine.strided_write_efficiency),
    )
    return int(min(size * (1 / share - 1) for size, share in slowed) / machine.dram_bytes_per_cycle)
