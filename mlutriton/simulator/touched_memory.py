"""Which DRAM gathers, scatters and vector atomics have touched: their trace records name no addresses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.native_interface import TOUCHED_UNIT_BYTES
from mlutriton.isa.program import Program
from mlutriton.isa.trace_format import ITEM_KINDS, LOCAL_START
from mlutriton.simulator.memory import DEVICE_START, GlobalMemory, host_address

_ITEM_RECORDS = {kind.name for kind in ITEM_KINDS}


def goes_by_item(program: Program) -> bool:
    """Whether a program has instructions that go through DRAM item by item."""
    return any(each.row.trace in _ITEM_RECORDS for each in program.instructions)


class TouchedMemory:
    """A byte for each unit of the device's memory that items were loaded from, and one for those stored to.

    Pages that no item touches take no memory of the host. Local memory has no units: its transfers are no work.

    Attributes:
        marks: 1 where touched, [loaded and stored, units].
    """

    def __init__(self, memory: GlobalMemory) -> None:
        self.marks: NDArray[np.uint8] = np.zeros((2, memory.device_bytes // TOUCHED_UNIT_BYTES + 1), np.uint8)

    @classmethod
    def of(cls, marks: NDArray[np.uint8]) -> TouchedMemory:
        """What such marks say was touched."""
        touched = cls.__new__(cls)
        touched.marks = marks
        return touched

    def addresses(self) -> tuple[int, int]:
        """Where native code finds the bytes of unit 0, which is before the device's first."""
        first = host_address(self.marks) - DEVICE_START // TOUCHED_UNIT_BYTES
        return first, first + self.marks.shape[1]

    def mark(self, device_address: int, bytes: int, *, write: bool) -> None:
        """Note that some bytes of the device were loaded or stored, unless they are of local memory."""
        if device_address >= LOCAL_START:
            return
        first, last = device_address - DEVICE_START, device_address - DEVICE_START + bytes - 1
        self.marks[int(write), first // TOUCHED_UNIT_BYTES : last // TOUCHED_UNIT_BYTES + 1] = 1

    def granules(self, granule_bytes: int, *, write: bool) -> NDArray[np.int64]:
        """Numbers of the granules of the device that were loaded or stored, in order."""
        units = np.flatnonzero(self.marks[int(write)]) + DEVICE_START // TOUCHED_UNIT_BYTES
        return np.unique(units * TOUCHED_UNIT_BYTES // granule_bytes)
