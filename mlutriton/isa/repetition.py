"""Steps of chains that do again what was done before, which another compilation might do once."""

from __future__ import annotations

from mlutriton.isa.operands import MEMORY_OPERANDS, Operand
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import Access, Queue

# A step with those that lead to it.
_Prefix = tuple[tuple[object, ...], ...]


def repeated_steps(program: Program) -> frozenset[int]:
    """Indices of steps that hand on what earlier steps of the same straight run of instructions handed on.

    Steps are told by their text. Where what they read has been written under another name meanwhile, they are taken for
    repeated though they are not: what is counted of the work is rather too little.
    """
    labelled = set(program.labels.values())
    found: set[int] = set()
    seen: dict[_Prefix, set[Operand]] = {}
    prefix: _Prefix = ()
    for index, instruction in enumerate(program.instructions):
        if index in labelled:
            seen, prefix = {}, ()
        if instruction.row.queue is not Queue.COMPUTE or not instruction.hands_on:
            if seen:
                _forget(seen, instruction)
            prefix = ()
            continue
        prefix = (*prefix, (instruction.mnemonic, *instruction.operands))
        if prefix in seen:
            found.add(index)
        else:
            before = seen.get(prefix[:-1], set[Operand]())
            addresses = {operand for operand in instruction.operands if isinstance(operand, MEMORY_OPERANDS)}
            seen[prefix] = before | addresses | set(instruction.registers_read)
    return frozenset(found)


def _forget(seen: dict[_Prefix, set[Operand]], instruction: Instruction) -> None:
    """Drop what depends on what an instruction writes."""
    written: set[Operand] = {operand for operand, access in instruction.accesses if access is not Access.READ}
    register = instruction.written_register
    if register is not None:
        written.add(register)
    for prefix in [each for each, needed in seen.items() if not needed.isdisjoint(written)]:
        del seen[prefix]
