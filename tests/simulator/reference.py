"""Replays that have to equal the reference, and what they are of."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from mlutriton.isa.machine import Machine, machine
from mlutriton.simulator.replay import Trace, replay
from mlutriton.simulator.replay.reference import ReferenceReplay
from mlutriton.simulator.replay.timing import Cause

TINY = machine("mlu-tiny")
BIG = machine("mlu590-m9")
MACHINES = [
    TINY.replace(clusters=3),
    TINY.replace(clusters=2, dram_gb_per_s=20.0),
    TINY.replace(clusters=3, cluster_dma_bytes_per_cycle=24, l2_bytes_per_cycle=70, l2_bytes=16384),
    TINY.replace(clusters=2, cluster_dma_bytes_per_cycle=17, dram_gb_per_s=9.0, l2_bytes=8192, l2_line_bytes=512),
    TINY.replace(clusters=2, has_move_queue=False, sram_port_bytes_per_cycle=50),
]
# Slow examples are the reference's; a failure prints its trace.
RANDOM = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def assert_equals_reference(trace: Trace, model: Machine) -> ReferenceReplay:
    """The reference, which finds the same as the replay."""
    result = replay(trace, model)
    reference = ReferenceReplay(trace.words.tolist(), trace.starts.tolist(), trace.cores_per_program, model)
    assert reference.run()
    assert result.cycles == reference.cycles
    assert result.programs.tolist() == reference.programs
    assert result.dram_read_bytes == reference.dram_read_bytes
    assert result.dram_write_bytes == reference.dram_write_bytes
    assert result.l2_hit_bytes == reference.l2_hit_bytes
    assert result.cause_cycles.tolist() == [[core.causes[cause] for cause in Cause] for core in reference.cores]
    # With events, each core acts for itself.
    assert result.statistics.tolist() == replay(trace, model, keep_events=True).statistics.tolist()
    return reference
