"""Scalar loads that say where a loop's tiles are, and how what they read gets on chip ahead of time.

The scalar unit waits for a load from global memory, some hundreds of cycles each. Where a loop is worked through in
blocks, what the next but one block looks up is therefore loaded as a table, in a transfer that hides behind those of
tiles; and the scalar unit reads it there.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlutriton.codegen.pipelining.pipeline_plan import Definitions, free_registers
from mlutriton.codegen.tile_code import Loop, Node, TileBuffer, TileCode
from mlutriton.isa.operands import Address, GlobalAddress, Immediate
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE


def lookups_of(loop: Loop) -> Iterator[Instruction]:
    """The scalar loads from global memory at the top of a loop's body."""
    return (node for node in loop.body if isinstance(node, Instruction) and node.row.name == "ldg")


def with_tables(code: TileCode, loop: Loop) -> tuple[list[Node], frozenset[int]]:
    """The body of a loop that looks up in tables on chip, and the identities of the instructions that do.

    What itself depends on what is looked up is not known in time for a table.
    """
    definitions = Definitions(loop)
    body: list[Node] = []
    found: set[int] = set()
    looked_up = {id(node) for node in lookups_of(loop)}
    for node in loop.body:
        if id(node) in looked_up:
            assert isinstance(node, Instruction)
            if definitions.closure(free_registers([node])) is not None:
                load, node = _through_table(code, node)
                body.append(load)
            found.add(id(node))
        body.append(node)
    return body, frozenset(found)


def _through_table(code: TileCode, lookup: Instruction) -> tuple[Instruction, Instruction]:
    """The load of an entry of the table, and what reads it there."""
    result, address = lookup.operands
    assert isinstance(address, GlobalAddress)
    (dtype,) = lookup.dtypes
    name = f"table{len(code.buffers)}"
    code.buffers[name] = TileBuffer(name, "nram", dtype.bytes, lookup.location)
    shape = (Immediate(1), Immediate(1), Immediate(1), *(Immediate(0),) * 4)
    load = Instruction(TABLE["dma.load"], lookup.dtypes, (Address(name), address, *shape), lookup.location)
    return load, Instruction(TABLE["lds"], lookup.dtypes, (result, Address(name)), lookup.location)
