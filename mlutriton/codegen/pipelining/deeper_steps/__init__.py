"""Loops that add up products of matrices, several of their steps at once: the depth of a step suits the transfers.

What suits other machines, steps of 32 or 64 in depth say, is little here: rows of 64 bytes show a set-up each, a tile
of a few KB shows its latency, and the tensor unit fills and drains for each product. A loop

    for k: total += load a(rows, k) * load b(k, columns)

adds one k after the other to the total, so that products of consecutive steps are one of the sum of their depths:

    for k, M steps at a time: total += load a(rows, k and on) * load b(k and on, columns)

M is a number of the launch: what memory allows, what lets a burst flow for some latencies, and no more than leaves a
few turns for the pipeline, which are about alike. The last turn has what is left. Tiles of a step lie behind each other
in their buffer, or, where the depth runs along their rows, side by side; panels of weights go on in depth. What is
computed on tiles on the way, conversions and scales, takes more elements.

What differs from step to step in another way, as scales of groups of rows, each step loads by itself, unless it is what
the step before has, and so each computes with it, or with what is the same in all of them. Between two such
computations, tiles of one step do.
"""

from __future__ import annotations

import math

from mlutriton.codegen.pipelining.deeper_steps.analysis import Analysis, buffer_of, loaded_bytes
from mlutriton.codegen.pipelining.deeper_steps.turns import Deepening
from mlutriton.codegen.pipelining.surroundings import Surroundings
from mlutriton.codegen.tile_code import Branch, Loop, Node, Sharing, TileCode, children
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Access

# The tiles of a turn flow for so many latencies: then the one that shows hardly counts. Fewer where memory is short.
DEPTHS = (8, 6, 5, 4, 3, 2)
# Of one core alone for no longer than that: its pipeline has fewer stages to fill.
LATENCIES_ALONE = 6

# Of what cores load together it is to be so many steps at least: their pipeline orders loads by what it knows of them,
# and that is less of those of several steps.
LEAST_SHARED_STEPS = 3

# Some of whose instructions each step has for itself: these are written one by one.
_MOST_BY_THEMSELVES = 8


def deepen_loops(code: TileCode, machine: Machine, latencies: int) -> list[int]:
    """Let loops that add up products take several steps at once where that is of use; how many each that does takes.

    Args:
        code: is rewritten.
        machine: decides what is of use, and what there is room for.
        latencies: of a transfer, for which the tiles of a turn are to flow.
    """
    return _visit(code, code.nodes, machine, latencies, Surroundings(code.nodes))


def _visit(
    code: TileCode, nodes: list[Node], machine: Machine, latencies: int, surroundings: Surroundings
) -> list[int]:
    found, result = list[int](), list[Node]()
    for node in nodes:
        with surroundings.visiting(node):
            for nested in children(node):
                found += _visit(code, nested, machine, latencies, surroundings)
            deepened = _deepened(code, node, machine, latencies, surroundings) if isinstance(node, Loop) else None
            if deepened is not None:
                found.append(deepened[1])
                surroundings.replaced(node, deepened[0])
        made = [node] if deepened is None else deepened[0]
        if not isinstance(node, Branch):
            surroundings.passed(made)
        result += made
    nodes[:] = result
    return found


def _deepened(
    code: TileCode, loop: Loop, machine: Machine, latencies: int, surroundings: Surroundings
) -> tuple[list[Node], int] | None:
    """The loop with deeper steps and what is computed before it, and their depth; None if it has none."""
    if loop.carried or loop.stages == 1 or not all(isinstance(node, Instruction | Sharing) for node in loop.body):
        return None
    analysis = Analysis(code, loop, surroundings)
    if not analysis.succeeds():
        return None
    most = _most_steps(code, loop, analysis, machine, latencies, surroundings)
    return (Deepening(analysis, most, machine.core_dma_latency_bytes).nodes(), most) if most > 1 else None


def _most_steps(
    code: TileCode, loop: Loop, analysis: Analysis, machine: Machine, latencies: int, surroundings: Surroundings
) -> int:
    """How many steps are to be taken at once at most."""
    loaded = loaded_bytes(analysis)
    twice = {
        buffer_of(operand)
        for each in analysis.every
        for operand, access in each.accesses
        if each.row.trace and access is Access.WRITE
    }
    shared = any(isinstance(node, Sharing) for node in loop.body)
    if not shared:
        latencies = min(latencies, LATENCIES_ALONE)
    found = math.ceil(latencies * machine.core_dma_latency_bytes / max(1, loaded))
    if analysis.single:
        found = min(found, _MOST_BY_THEMSELVES)
    if found < LEAST_SHARED_STEPS and shared:
        return 1
    limits = (
        ("nram", machine.usable_nram_bytes),
        ("wram", machine.usable_wram_bytes),
        ("sram", machine.usable_sram_bytes),
    )
    beside = surroundings.alive_beside(loop) - analysis.filled
    beside |= analysis.passing
    for space, limit in limits:
        wide = analysis.filled - analysis.passing
        sizes = {name: code.buffers[name].bytes * (2 if name in twice else 1) for name in wide}
        step_bytes = sum(size for name, size in sizes.items() if code.buffers[name].space == space)
        others = sum(code.buffers[name].bytes for name in beside if code.buffers[name].space == space)
        if step_bytes:
            found = min(found, (limit - others) // step_bytes)
    return found
