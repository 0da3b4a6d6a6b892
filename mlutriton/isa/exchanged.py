"""Steps of programs that only exchange elements, which another compilation might do without arithmetic."""

from __future__ import annotations

from mlutriton.isa.operands import Immediate
from mlutriton.isa.program import Program

_SIDES = 2
_LENGTH = 3  # the place of this operand of reductions


def exchanging_steps(program: Program) -> frozenset[int]:
    """Indices of instructions that find the partner of each element, as what both come to less oneself.

    That is ``x ^ broadcast(reduce xor x)`` along an axis of two elements, of which sorts are made. Where a kernel asks
    for that in one place, each exclusive or of whole tensors there is taken for a part of it: what is counted of the
    work is rather too little.
    """
    pairs = {
        index: each.location
        for index, each in enumerate(program.instructions)
        if each.row.name == "red.xor" and each.operands[_LENGTH] == Immediate(_SIDES)
    }
    places = {location for location in pairs.values() if location.column}
    found = {
        index for index, each in enumerate(program.instructions) if each.row.name == "v.xor" and each.location in places
    }
    return frozenset(found | pairs.keys()) if places else frozenset()
