"""Offsets of gathers that something else needs too, made once for either.

A gather runs ahead with all that makes its offsets and masks (:mod:`mlutriton.codegen.pipelining.pipeline_plan`), which
nobody else may touch then. Where the place of a store is found by the same number as that of a load, both would have to
stay where they are:

    load n; a = f(n); gather x at a; b = g(n); scatter y to b

So what they share is made twice, a few elements each:

    load n; a = f(n); gather x at a; load n'; b = g(n'); scatter y to b
"""

from __future__ import annotations

from mlutriton.codegen.pipelining.pipeline_plan import is_load
from mlutriton.codegen.renaming import with_own_buffers
from mlutriton.codegen.tile_code import READING, WRITING, Loop, Node, TileCode, buffers_of, steps
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import Queue


def with_own_offsets(code: TileCode, loop: Loop) -> list[Node] | None:
    """The body of a loop in which gathers share nothing with the rest; None if that is how it is, or loops are within.

    Its nodes are instructions: what is tried on them leaves those of the loop as they are.
    """
    if not all(isinstance(node, Instruction) for node in loop.body):
        return None
    body = [*steps(loop.body)]
    gathers = {id(step[0]) for step in body if _is_gather(step)}
    made = [step for step in body if _makes_offsets(step)]
    written = [name for step in body for name in buffers_of(step, *WRITING)]
    theirs = _leading_to(made, [step for step in body if id(step[0]) in gathers])
    known = {id(step[0]) for step in theirs}
    others = [step for step in body if id(step[0]) not in gathers | known]
    shared = {id(step[0]) for step in _leading_to(theirs, others)}
    names = {name for step in theirs for name in buffers_of(step, *WRITING)}
    if not shared or any(written.count(name) > 1 for name in names):
        return None
    own = iter(
        with_own_buffers(code, [each for step in body if id(step[0]) in gathers | known for each in step], names)
    )
    result: list[Node] = []
    for step in body:
        if id(step[0]) in gathers | known:
            result += [next(own) for _ in step]
        if id(step[0]) not in gathers | known or id(step[0]) in shared:
            result += step
    return result


def _leading_to(makers: list[list[Node]], users: list[list[Node]]) -> list[list[Node]]:
    """Of steps in order, those that make what others read, or what those do that make it."""
    wanted = {name for step in users for name in buffers_of(step, *READING)}
    found: list[list[Node]] = []
    for step in reversed(makers):
        if buffers_of(step, *WRITING) & wanted:
            found.append(step)
            wanted |= buffers_of(step, *READING)
    return found[::-1]


def _is_gather(step: list[Node]) -> bool:
    return isinstance(step[0], Instruction) and step[0].row.trace == "GATHER"


def _makes_offsets(step: list[Node]) -> bool:
    """True for loads and for arithmetic of the vector unit."""
    return all(
        is_load(node) or (isinstance(node, Instruction) and node.row.queue is Queue.COMPUTE and not node.row.trace)
        for node in step
    )
