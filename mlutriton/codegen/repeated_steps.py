"""Cheap steps that are done again in each chain that needs their result, instead of once in a pass of their own.

A chain takes one pass over the data however many steps it has. So where all readers of

    t = cast x;  u = t * t;  ...  y = t * row[scale]

are chains with room for one step more, the cast is done at the begin of each of them, and ``t`` needs neither a pass
nor memory:

    u = (~ = cast x) * ~;  ...  y = (~ = cast x) * row[scale]

What is repeated reads tiles that take hardly more memory than its result, as they are alive instead of it; and it is no
slower than the chains that it joins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.codegen.cleanup import goes_in_order, is_step, linked, reads_other_bits, reshaped, shape_of_step
from mlutriton.codegen.tile_code import WRITING, Node, TileCode, buffers_of, children, steps, touch_counts
from mlutriton.immutables import replace
from mlutriton.isa.operands import Address, Immediate, Mode
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.table import MAXIMUM_CHAIN_STEPS, Access

# What is read is alive for longer, in the place of the result; a mask beside a tile is not worth a pass.
_MORE_TO_KEEP = 1 / 4

# Wider elements are computed with in several passes on some machines.
_WIDEST_BYTES = 4

_Chain = list[Instruction]


def repeat_cheap_steps(code: TileCode) -> None:
    """Repeat chains in front of their readers, where that saves a pass."""
    _repeat(code.nodes, touch_counts(code.nodes))


def _repeat(nodes: list[Node], touched: Counter[str]) -> None:
    for node in nodes:
        for nested in children(node):
            _repeat(nested, touched)
    units = list(steps(nodes))
    places: dict[str, list[int]] = {}
    for place, unit in enumerate(units):
        for name in buffers_of(unit):
            places.setdefault(name, []).append(place)
    # The last one first: what it reads may be repeated then in turn.
    for place in reversed(range(len(units))):
        repeated = _repeatable(units[place])
        if repeated is None:
            continue
        readers = [each for each in places[repeated.target.buffer] if each > place]
        joined = _joined(repeated, units, place, readers, touched, places)
        if joined is None:
            continue
        for reader, chain in zip(readers, joined, strict=True):
            units[reader] = list(chain)
            for name in buffers_of(repeated.chain, Access.READ):
                places[name] = sorted({*places[name], reader} - {place})
        units[place] = []
        for name, access in (each for step in repeated.chain for each in step.buffers):
            if access is Access.READ:
                touched[name] += len(readers) - 1
    nodes[:] = [node for unit in units for node in unit]


@dataclass(frozen=True)
class _Repeatable:
    """A chain that may be repeated.

    Attributes:
        chain: its steps.
        target: what it makes.
        width_bytes: of the widest elements.
    """

    chain: _Chain
    target: Address
    width_bytes: int


def _repeatable(unit: Sequence[Node]) -> _Repeatable | None:
    chain = [node for node in unit if isinstance(node, Instruction)]
    if not 0 < len(chain) < MAXIMUM_CHAIN_STEPS or len(chain) < len(unit) or not all(map(_is_simple, chain)):
        return None
    target, width = chain[-1].operands[0], _width_bytes(chain)
    tiles = [
        each.dtype_of(slot).bytes
        for each in chain
        for slot, operand in zip(each.row.slots[1:], each.operands[1:], strict=True)
        if isinstance(operand, Address) and operand.mode is Mode.FULL
    ]
    made = slot_dtype(chain[-1].row.slots[0], chain[-1].dtypes).bytes
    is_small = sum(tiles) <= made * (1 + _MORE_TO_KEEP) and width <= _WIDEST_BYTES
    is_plain = isinstance(target, Address) and target.is_at_begin and target.mode is Mode.FULL
    if not is_small or not is_plain or not all(isinstance(extent, Immediate) for extent in shape_of_step(chain[0])):
        return None
    assert isinstance(target, Address)
    return _Repeatable(chain, target, width)


def _is_simple(instruction: Instruction) -> bool:
    operation = instruction.row.operation
    return is_step(instruction) and (operation is None or operation.cost_class == "simple")


def _width_bytes(chain: Sequence[Instruction]) -> int:
    return max(dtype.bytes for each in chain for dtype in each.dtypes)


def _joined(
    repeated: _Repeatable,
    units: Sequence[Sequence[Node]],
    place: int,
    readers: Sequence[int],
    touched: Counter[str],
    places: dict[str, list[int]],
) -> list[_Chain] | None:
    """The chains of all readers with what is repeated in front; None if not all can have it."""
    if len(readers) < 2:
        return None
    name, sources = repeated.target.buffer, buffers_of(repeated.chain, Access.READ)
    # What is read must be the same then.
    between = {each for source in sources for each in places[source] if place < each <= readers[-1]}
    if name in sources or any(buffers_of(units[each], *WRITING) & sources for each in between):
        return None
    found: list[_Chain] = []
    reads = 0
    for reader in readers:
        chain = [node for node in units[reader] if isinstance(node, Instruction)]
        if len(chain) < len(units[reader]):
            return None
        with_it = _in_front(repeated, chain)
        if with_it is None:
            return None
        reads += chain[0].operands.count(repeated.target)
        found.append(with_it)
    return found if touched[name] == 1 + reads else None


def _in_front(repeated: _Repeatable, chain: _Chain) -> _Chain | None:
    """A chain that begins with what is repeated, if it may."""
    first, target = chain[0], repeated.target
    readers = [place for place, operand in enumerate(first.operands) if operand == target]
    fits = len(repeated.chain) + len(chain) <= MAXIMUM_CHAIN_STEPS and repeated.width_bytes <= _width_bytes(chain)
    if not fits or not all(map(is_step, chain)) or not readers or readers[0] == 0:
        return None
    if reads_other_bits(repeated.chain[-1], first, readers):
        return None
    # Instructions are told apart by their identity: each chain has its own.
    again = [replace(each) for each in repeated.chain]
    if shape_of_step(again[0]) != shape_of_step(first):
        if all(map(goes_in_order, again)):
            again = [reshaped(each, first) for each in again]
        elif all(map(goes_in_order, chain)):
            chain = [reshaped(each, again[0]) for each in chain]
    if shape_of_step(again[0]) != shape_of_step(chain[0]):
        return None
    return [*again[:-1], *linked(again[-1], chain[0]), *chain[1:]]
