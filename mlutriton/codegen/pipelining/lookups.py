"""Scalar loads that say where a loop's tiles are, and how what they read gets on chip ahead of time.

The scalar unit waits for a load from global memory, some hundreds of cycles each. Where a loop is worked through in
blocks, what a block looks up is therefore loaded as a table, in a transfer that hides behind those of tiles; and the
scalar unit reads it there.

What loads need has to be there a block before they are, so that its table comes with the block before. Stores,
arithmetic and whatever else stays behind have a table of their own, which comes with the tiles. Each works out from its
own what it needs:

    table a; a -> place of x; load x; table b; b -> place of y; compute y from x; store y
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlutriton.codegen.pipelining.pipeline_plan import Definitions, free_registers, is_load
from mlutriton.codegen.renaming import Renamer
from mlutriton.codegen.tile_code import Loop, Node, ScalarOperand, TileBuffer, TileCode
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE


@dataclass(frozen=True)
class WithTables:
    """The body of a loop that looks up in tables on chip.

    Attributes:
        body: computes what the loop's did.
        ahead: identities of the instructions that look up what loads need.
        behind: identities of those that look up what everything else needs.
    """

    body: list[Node]
    ahead: frozenset[int]
    behind: frozenset[int]


def lookups_of(loop: Loop) -> Iterator[Instruction]:
    """The scalar loads from global memory at the top of a loop's body."""
    return (node for node in loop.body if isinstance(node, Instruction) and node.row.name == "ldg")


def with_tables(code: TileCode, loop: Loop) -> WithTables | None:
    """The body of a loop with tables; None if something but loads needs what is not known in time for a table.

    That is what itself depends on what is looked up, or is found out otherwise than by arithmetic.
    """
    looked_up = {id(node) for node in lookups_of(loop)}
    definitions, in_time = Definitions(loop, looked_up), Definitions(loop)
    from_memory: set[Register] = set()
    users: tuple[list[Node], list[Node]] = [], []
    for node in loop.body:
        register = node.written_register if isinstance(node, Instruction) else None
        if id(node) in looked_up or not free_registers([node]).isdisjoint(from_memory):
            if register is not None and definitions.scalar.get(register) is node:
                from_memory.add(register)
            else:
                users[not is_load(node)].append(node)
    ahead, behind = (definitions.closure(free_registers(each) & from_memory) for each in users)
    if ahead is None or behind is None:
        return None
    substitutes: dict[Register, ScalarOperand] = {each: code.register() for each in behind & from_memory}
    own = Renamer(code, substitutes, {}, keep=True)
    staying = {id(node) for node in users[1]}
    body: list[Node] = []
    found: tuple[set[int], set[int]] = set(), set()
    for node in loop.body:
        register = node.written_register if isinstance(node, Instruction) else None
        if not isinstance(node, Instruction) or register not in from_memory:
            body += own.nodes([node]) if id(node) in staying else [node]
            continue
        is_table = id(node) in looked_up and in_time.closure(free_registers([node])) is not None
        if register in ahead:
            body += _through_table(code, node) if is_table else [node]
            if id(node) in looked_up:
                found[0].add(id(body[-1]))
        if register in behind:
            if id(node) in looked_up and not is_table:
                return None
            operands = [substitutes.get(each, each) if isinstance(each, Register) else each for each in node.operands]
            body += _through_table(code, node.taking(operands)) if is_table else [node.taking(operands)]
            if is_table:
                found[1].add(id(body[-1]))
    return WithTables(body, frozenset(found[0]), frozenset(found[1]))


def _through_table(code: TileCode, lookup: Instruction) -> tuple[Instruction, Instruction]:
    """The load of an entry of the table, and what reads it there."""
    result, address = lookup.operands
    assert isinstance(address, GlobalAddress)
    (dtype,) = lookup.dtypes
    name = code.buffer_name("table")
    code.buffers[name] = TileBuffer(name, "nram", dtype.bytes, lookup.location)
    shape = (Immediate(1), Immediate(1), Immediate(1), *(Immediate(0),) * 4)
    load = Instruction(TABLE["dma.load"], lookup.dtypes, (Address(name), address, *shape), lookup.location)
    return load, Instruction(TABLE["lds"], lookup.dtypes, (result, Address(name)), lookup.location)
