"""Which versions of a program a launch does not take, so that nobody need compile them.

A program of several versions (:data:`~mlutriton.isa.program.VERSIONS`) asks when it begins, by arithmetic on its
parameters and the size of the grid, which of them is to run. For the numbers of one launch that arithmetic is done
here, and the ways of the program are followed from its begin: where a condition is known they go on one way only.

What is not known is nothing to worry about: both ways are followed then. A register is known where a single instruction
sets it, or one before it in its block, and that of numbers that are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LaunchNumbers:
    """The numbers of a launch that are the same for all of its programs.

    Attributes:
        grid: programs along x, y and z.
        tasks: of the launch.
        words: the 64-bit word of each parameter; those of pointers are not looked at.
        disjoint: whether no two arrays share bytes.
    """

    grid: tuple[int, int, int]
    tasks: int
    words: Sequence[int]
    disjoint: bool


def untaken_versions(program: Program, numbers: LaunchNumbers) -> frozenset[int]:
    """The first instructions of the versions that a launch certainly does not take."""
    labels = cast("Sequence[str]", program.metadata.get(VERSIONS, ()))
    begins = {program.labels[label] for label in labels}
    return frozenset(begins - _Ways(program, numbers).reached) if begins else frozenset()


# What sets a register on the way: the number of an instruction that has been met, or a number of the program's text.
_Source = int | Immediate | None


class _Ways:
    """The ways of a launch through a program, as far as they are known.

    Attributes:
        reached: the first instructions of the blocks that may be run.
    """

    def __init__(self, program: Program, numbers: LaunchNumbers) -> None:
        self._program = program
        self._special = _special_registers(program, numbers)
        self._words = numbers.words
        self._set_once = _set_once(program)
        # What has been met, with what its operands come from.
        self._met: list[tuple[Instruction, list[_Source]]] = []
        # Of registers that one instruction alone sets, the number of that.
        self._setting: dict[Register, int] = {}
        self._values: dict[int, int | None] = {}
        self.reached = set[int]()
        self._follow()

    def _follow(self) -> None:
        starts = sorted({*self._program.block_starts})
        ends = dict(zip(starts, [*starts[1:], len(self._program.instructions)], strict=True))
        pending = [0]
        while pending:
            start = pending.pop()
            if start not in self.reached:
                self.reached.add(start)
                pending += self._run(start, ends[start])

    def _run(self, start: int, end: int) -> Sequence[int]:
        """Go through a block; the first instructions of those that may follow."""
        instructions = self._program.instructions[start:end]
        local: dict[Register, int] = {}
        for instruction in instructions:
            result = instruction.written_register
            if result is not None:
                self._met.append((instruction, [self._source(each, local) for each in instruction.operands[1:]]))
                local[result] = len(self._met) - 1
                if result in self._set_once:
                    self._setting[result] = local[result]
        last = instructions[-1]
        if last.row.name == "exit":
            return ()
        if last.row.name not in ("br", "cbr"):
            return (end,)
        label = last.operand("target")
        assert isinstance(label, Label)
        target = self._program.labels[label.name]
        if last.row.name == "br":
            return (target,)
        condition = self._bits(self._source(last.operand("condition"), local), I1)
        if condition is None:
            return end, target
        return (target if condition else end,)

    def _source(self, operand: Operand, local: Mapping[Register, int]) -> _Source:
        if isinstance(operand, Register):
            return local.get(operand, self._setting.get(operand))
        return operand if isinstance(operand, Immediate) else None

    def _bits(self, source: _Source, dtype: DType) -> int | None:
        """The bits of a value; None if they are not known."""
        if isinstance(source, Immediate):
            return constant_bits(source.value, dtype)
        if source is None:
            return None
        if source not in self._values:
            self._compute(source)
        value = self._values[source]
        return None if value is None else value & (1 << dtype.bits) - 1

    def _compute(self, number: int) -> None:
        """Find what an instruction gives, and first what it needs, which has been met before it."""
        needed, pending = set[int](), [number]
        while pending:
            each = pending.pop()
            if each not in needed and each not in self._values:
                needed.add(each)
                pending += [source for source in self._met[each][1] if isinstance(source, int)]
        for each in sorted(needed):
            self._values[each] = self._result(*self._met[each])

    def _result(self, instruction: Instruction, sources: Sequence[_Source]) -> int | None:
        row, dtypes = instruction.row, instruction.dtypes
        if row.name == "param":
            place = _index(instruction)
            return None if self._program.parameters[place].pointer else self._words[place]
        if row.name == "sreg":
            return self._special.get(SPECIAL_REGISTERS[_index(instruction)])
        if row.name != "mov" and row.operation is None:
            return None
        types = [instruction.dtype_of(slot) for slot in row.slots[1:]]
        bits = [self._bits(source, dtype) for source, dtype in zip(sources, types, strict=True)]
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


def _set_once(program: Program) -> set[Register]:
    """The registers that one instruction alone sets."""
    once, again = set[Register](), set[Register]()
    for instruction in program.instructions:
        register = instruction.written_register
        if register is not None:
            (again if register in once else once).add(register)
    return once - again


def _special_registers(program: Program, numbers: LaunchNumbers) -> dict[str, int]:
    """What special registers hold that are the same for all programs of a launch."""
    return {
        **{f"num_programs.{axis}": count for axis, count in zip("xyz", numbers.grid, strict=True)},
        "programs": prod(numbers.grid),
        "tasks": numbers.tasks,
        "cores_per_cluster": program.cores_per_program,
        "arrays_disjoint": int(numbers.disjoint),
    }


def _index(instruction: Instruction) -> int:
    """Which parameter or special register an instruction reads."""
    index = instruction.operand("index")
    assert isinstance(index, Immediate)
    return int(index.value)
