"""Work by instruction, from what native code counts: few launches are asked for it, so that it is found when one is."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.native_interface import InstructionWork, WorkTerm
from mlutriton.isa.program import Program


class WorkTerms:
    """How the table of work by instruction of a program follows from the counters of its native code.

    Attributes:
        task_address: of the function that runs one task.
        counters: how many a thread has.
    """

    def __init__(self, program: Program, table_address: int) -> None:
        """Take over what native code says of itself.

        Args:
            program: what was translated.
            table_address: of its ``PROGRAM_TABLE``.
        """
        self._program = program
        self.task_address, self.counters, terms = (ctypes.c_int64 * 3).from_address(table_address)
        words = (ctypes.c_int64 * (terms * len(WorkTerm))).from_address(table_address + 8 * 3)
        self._terms = np.array(words, np.int64).reshape(terms, len(WorkTerm))

    def by_instruction(self, counted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The table, [len(InstructionWork), instructions], of what was counted, [counters]."""
        work = np.zeros((len(InstructionWork), len(self._program.instructions)), np.int64)
        rows, instructions, counters, factors = self._terms.T
        work[rows, instructions] = counted[counters] * factors
        work[InstructionWork.EXECUTIONS] = work[InstructionWork.EXECUTIONS, self._program.block_starts]
        return work


class CountedWork:
    """What the threads of a launch have counted."""

    def __init__(self, terms: WorkTerms, counted: ctypes.Array[ctypes.c_int64], threads: int) -> None:
        """Take over counters, as many words for each thread."""
        self._terms, self._counted, self._threads = terms, counted, threads

    def by_instruction(self) -> NDArray[np.int64]:
        """Executions and COMPUTE cycles of each instruction, [len(InstructionWork), instructions]."""
        words = np.frombuffer(memoryview(self._counted), np.int64)
        return self._terms.by_instruction(words.reshape(self._threads, -1).sum(axis=0))
