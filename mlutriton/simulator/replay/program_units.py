"""Which cores a program of the replay runs on, and where its records are.

A unit is what one program occupies: a core, or the cores of one or more clusters.

In the subset of :mod:`mlutriton.simulator.replay.machine_code`.
"""

from __future__ import annotations

from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay import timing
from mlutriton.simulator.replay.machine_code import inlined
from mlutriton.simulator.replay.state import ReplayState


@inlined
def units(state: ReplayState) -> int:
    """Programs that can run at once."""
    if state.shared[at.CORES_PER_PROGRAM] == 1:
        return state.timing[timing.CORES]
    return state.timing[timing.CLUSTERS] // unit_clusters(state)


def unit_clusters(state: ReplayState) -> int:
    """Clusters of a unit; 0 if it is a single core."""
    return state.shared[at.CORES_PER_PROGRAM] * state.timing[timing.CLUSTERS] // state.timing[timing.CORES]


def unit_core(state: ReplayState, unit: int, member: int) -> int:
    """Number of a unit's core; a core is in the cluster of its number modulo the clusters."""
    clusters = state.timing[timing.CLUSTERS]
    per_cluster = state.timing[timing.CORES] // clusters
    if state.shared[at.CORES_PER_PROGRAM] == 1:
        return unit
    return unit * unit_clusters(state) + member // per_cluster + member % per_cluster * clusters


@inlined
def unit_of(state: ReplayState, core: int) -> int:
    """The unit that a core belongs to."""
    if state.shared[at.CORES_PER_PROGRAM] == 1:
        return core
    return core % state.timing[timing.CLUSTERS] // unit_clusters(state)


@inlined
def find_records(state: ReplayState, program: int, member: int, core: int) -> None:
    """Let a core have the records of a program, which is asked for in its turn, and what their addresses move by."""
    base = core * at.CORE_WORDS
    if not state.shared[at.HAS_RUNS]:
        start = state.starts[program * state.shared[at.CORES_PER_PROGRAM] + member]
        # What begins before the first record is as malformed as what goes on behind the last one.
        state.cores[base + at.RECORD] = start if start >= 0 else state.shared[at.RECORDS]
        return
    run = state.shared[at.RUN]
    while state.runs[run + state.shared[at.RUN_WORDS] + at.RUN_PROGRAM] <= program:
        run += state.shared[at.RUN_WORDS]
    state.shared[at.RUN] = run
    row = run + at.RUN_CORES + member * at.RUN_CORE_WORDS
    state.cores[base + at.RECORD] = state.runs[row + at.RUN_RECORD]
    first = state.runs[row + at.RUN_DISTANCES]
    moves = state.shared[at.MOVES_PER_CORE]
    for group in range(moves):
        step = (program - state.runs[run + at.RUN_PROGRAM]) * state.distances[first + moves + group]
        state.moves[core * moves + group] = state.distances[first + group] + step
