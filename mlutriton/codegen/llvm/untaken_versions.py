"""Which versions of a program a launch does not take, so that nobody need compile them.

A program of several versions (:data:`~mlutriton.isa.program.VERSIONS`) asks when it begins, by arithmetic on its
parameters and the size of the grid, which of them is to run. For the numbers of one launch that arithmetic is done
here, and the ways of the program are followed from its begin: where a condition is known they go on one way only.

What is not known is nothing to worry about: both ways are followed then. A register is known if what has set it is: an
instruction before it in its block, or the only one that sets it at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from mlutriton.arithmetic import evaluate
from mlutriton.codegen.llvm.elements import constant_bits
from mlutriton.dtypes import I1, DType
from mlutriton.isa.operands import Immediate, Label, Operand, Register
from mlutriton.isa.program import VERSIONS, Instruction, Program
from mlutriton.isa.table import SPECIAL_REGISTERS

Reach = tuple[int, int, bool]
"""How many bytes are asked for: from which parameter on, how far behind it, and whether they are to be stored to."""


@dataclass(frozen=True)
class LaunchNumbers:
    """The numbers of a launch that are the same for all of its programs.

    Attributes:
        grid: programs along x, y and z.
        tasks: of the launch.
        words: the 64-bit word of each parameter; those of pointers are not looked at.
        disjoint: whether no two arrays share bytes.
        reaches: how many bytes there are, of the :func:`asked_reaches` of which that is known.
    """

    grid: tuple[int, int, int]
    tasks: int
    words: Sequence[int]
    disjoint: bool
    reaches: Mapping[Reach, int] = field(default_factory=dict[Reach, int])


def untaken_versions(program: Program, numbers: LaunchNumbers) -> frozenset[int]:
    """The first instructions of the versions that a launch certainly does not take."""
    labels = cast("Sequence[str]", program.metadata.get(VERSIONS, ()))
    begins = {program.labels[label] for label in labels}
    return frozenset(begins - _Ways(program, numbers).reached) if begins else frozenset()


def asked_reaches(program: Program) -> dict[int, Reach]:
    """What a program asks of the ends of arrays, by the place of the instruction, where parameters point to these."""
    found: dict[int, Reach] = {}
    asking = [(place, each) for place, each in enumerate(program.instructions) if each.row.name == "reach"]
    if not asking:
        return found
    setters = Counter(each.written_register for each in program.instructions)
    made = {r: each for each in program.instructions if (r := each.written_register) is not None and setters[r] == 1}
    for place, instruction in asking:
        address, behind = instruction.operand("address"), 0
        source = made.get(address) if isinstance(address, Register) else None
        while source is not None and source.row.name == "add" and isinstance(source.operands[2], Immediate):
            behind += int(source.operands[2].value)
            source = made.get(source.operands[1]) if isinstance(source.operands[1], Register) else None
        if source is not None and source.row.name == "param":
            found[place] = _index(source), behind, bool(_index(instruction, "stored"))
    return found


class _Ways:
    """The ways of a launch through a program, as far as they are known.

    Attributes:
        reached: the first instructions of the blocks that may be run.
    """

    def __init__(self, program: Program, numbers: LaunchNumbers) -> None:
        self._program = program
        self._special = _special_registers(program, numbers)
        self._words = numbers.words
        self._reaches = {
            place: numbers.reaches[asked] for place, asked in asked_reaches(program).items() if asked in numbers.reaches
        }
        self._begins = program.block_starts
        # Of each register the instructions that set it.
        self._setting: dict[Register, list[int]] = {}
        for place, instruction in enumerate(program.instructions):
            register = instruction.written_register
            if register is not None:
                self._setting.setdefault(register, []).append(place)
        # What instructions give, as bits; None if that is not known.
        self._values: dict[int, int | None] = {}
        self.reached = set[int]()
        starts = sorted({*self._begins})
        ends = dict(zip(starts, [*starts[1:], len(program.instructions)], strict=True))
        pending = [0]
        while pending:
            start = pending.pop()
            if start not in self.reached:
                self.reached.add(start)
                pending += self._behind(ends[start])

    def _behind(self, end: int) -> Sequence[int]:
        """The first instructions of the blocks that may follow one."""
        last = self._program.instructions[end - 1]
        if last.row.name == "exit":
            return ()
        if last.row.name not in ("br", "cbr"):
            return (end,)
        label = last.operand("target")
        assert isinstance(label, Label)
        target = self._program.labels[label.name]
        if last.row.name == "br":
            return (target,)
        condition = self._bits(last.operand("condition"), end - 1, I1)
        if condition is None:
            return end, target
        return (target if condition else end,)

    def _source(self, register: Register, place: int) -> int | None:
        """The instruction that certainly has set a register last, where another one reads it; None if any may have."""
        setting = self._setting.get(register, ())
        before = bisect_left(setting, place) - 1
        if before < 0:
            return None
        is_in_block = setting[before] >= self._begins[place]
        return setting[before] if is_in_block or len(setting) == 1 else None

    def _bits(self, operand: Operand, place: int, dtype: DType) -> int | None:
        """The bits of an operand of an instruction; None if they are not known."""
        if isinstance(operand, Immediate):
            return constant_bits(operand.value, dtype)
        source = self._source(operand, place) if isinstance(operand, Register) else None
        if source is None:
            return None
        if source not in self._values:
            self._compute(source)
        value = self._values[source]
        return None if value is None else value & (1 << dtype.bits) - 1

    def _compute(self, place: int) -> None:
        """Find what an instruction gives, and first what it needs, which stands before it."""
        needed, pending = set[int](), [place]
        while pending:
            each = pending.pop()
            if each not in needed and each not in self._values:
                needed.add(each)
                sources = (self._source(one, each) for one in self._program.instructions[each].registers_read)
                pending += [source for source in sources if source is not None]
        for each in sorted(needed):
            self._values[each] = self._result(self._program.instructions[each], each)

    def _result(self, instruction: Instruction, at: int) -> int | None:
        row, dtypes = instruction.row, instruction.dtypes
        if row.name == "param":
            place = _index(instruction)
            return None if self._program.parameters[place].pointer else self._words[place]
        if row.name == "sreg":
            return self._special.get(SPECIAL_REGISTERS[_index(instruction)])
        if row.name == "reach":
            return self._reaches.get(at)
        if row.name != "mov" and row.operation is None:
            return None
        types = [instruction.dtype_of(slot) for slot in row.slots[1:]]
        operands = instruction.operands[1:]
        bits = [self._bits(operand, at, dtype) for operand, dtype in zip(operands, types, strict=True)]
        known = [each for each in bits if each is not None]
        if len(known) < len(bits):
            return None
        if row.operation is None:
            return known[0]
        values = [_value(each, dtype) for each, dtype in zip(known, types, strict=True)]
        to = dtypes[1] if row.operation.is_cast else None
        result = evaluate(row.operation.name, *values, dtype=dtypes[0], to=to)
        return int.from_bytes(result.tobytes(), "little")


def _value(bits: int, dtype: DType) -> ArrayLike:
    """An element as the operations take it."""
    if dtype.is_float:
        return np.frombuffer(bits.to_bytes(dtype.bytes, "little"), dtype.numpy)[0]
    return bool(bits) if dtype.is_bool else bits


def _special_registers(program: Program, numbers: LaunchNumbers) -> dict[str, int]:
    """What special registers hold that are the same for all programs of a launch."""
    return {
        **{f"num_programs.{axis}": count for axis, count in zip("xyz", numbers.grid, strict=True)},
        "programs": prod(numbers.grid),
        "tasks": numbers.tasks,
        "cores_per_cluster": program.cores_per_program,
        "arrays_disjoint": int(numbers.disjoint),
    }


def _index(instruction: Instruction, slot: str = "index") -> int:
    """Which parameter or special register an instruction reads, or what another such slot says."""
    index = instruction.operand(slot)
    assert isinstance(index, Immediate)
    return int(index.value)
