"""GDRAM: the host arrays that a launch may touch, at their own host addresses.

A kernel works on the arrays in place. Whatever runs a program asks here before it touches host memory, so that no
kernel can read or write a byte that was not passed to it.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import KernelFault, Location
from mlutriton.dtypes import DType, host_address
from mlutriton.isa.native_interface import STORED
from mlutriton.isa.trace_format import LOCAL_START

DEVICE_ALIGNMENT_BYTES = 1 << 14
DEVICE_START = 1 << 30

# What the kernel could say instead, by what it did.
_MASKED = {
    "load": "tl.load(pointer, mask=offsets < n)",
    "store": "tl.store(pointer, value, mask=offsets < n)",
    "atomic": "tl.atomic_add(pointer, value, mask=offsets < n)",
}
_UNPASSED = "an array of which the kernel loads the address is reached for as long as mlu.array(x) of it is kept"
_EXPANDED = "if {0} was broadcast or expanded, it is no longer than that: np.ascontiguousarray({0}), {0}.contiguous()"


@dataclass(frozen=True, slots=True)
class Allocation:
    """Bytes of the host that a kernel may touch.

    Attributes:
        name: the kernel parameter that they were passed for.
        address: of the first byte.
        bytes: how many.
        writable: false if a store is a fault.
        written: false if the program is known not to store there, as far as this parameter goes.
        owner: kept alive as long as the allocation is.
        dtype: element type, where known.
    """

    name: str
    address: int
    bytes: int
    writable: bool = True
    owner: object = None
    dtype: DType | None = None
    written: bool = True

    @property
    def end(self) -> int:
        """Address after the last byte."""
        return self.address + self.bytes

    @classmethod
    def of_array(cls, name: str, array: NDArray[Any]) -> Allocation:
        """The bytes that a view of an array spans, first to last."""
        low, high = np.lib.array_utils.byte_bounds(array)
        return cls(name, low, high - low if array.size else 0, bool(array.flags.writeable), array)

    def element(self, address: int) -> str:
        """The place of a byte in elements, counted as if they went on before the first one and after the last one."""
        if self.dtype is None:
            return ""
        width = self.dtype.bytes
        return f": at element {(address - self.address) // width:,} of {self.bytes // width:,}"

    def __str__(self) -> str:
        return f"{self.name}, bytes {self.address:#x} to {self.end:#x}"


_numbers = count()


class GlobalMemory:
    """The allocations of one launch.

    Allocations that overlap (views of one array) form one region, writable if one of them is. A region also has an
    address on the device: regions follow each other in the order of registration, so that equal launches see equal
    addresses.

    Attributes:
        allocations: as registered.
        table: int64 rows of (start, end, writable, device start), one a region, sorted by start; for native code. A
            region to which programs may store is not only writable, but ``STORED``.
        table_address: where native code finds the table.
        is_disjoint: true if no two allocations share bytes that are written: whoever only reads meets nobody.
        local_address: where the local memory of a core begins that may be touched too; 0 if there is none.
        number: tells it from all others of this process.
    """

    def __init__(self, allocations: Iterable[Allocation] = (), local: NDArray[np.uint8] | None = None) -> None:
        self.allocations = tuple(allocations)
        self.number = next(_numbers)
        self.table = _regions(self.allocations)
        self.is_disjoint = _is_disjoint(self.allocations)
        self.local_address = 0
        if local is not None:
            self.local_address = host_address(local)
            own = Allocation("local memory", self.local_address, local.size, owner=local)
            row = [own.address, own.end, STORED, LOCAL_START]
            self.allocations = (*self.allocations, own)
            self.table = np.insert(self.table, int(np.searchsorted(self.table[:, 0], own.address)), row, axis=0)
        self.table_address = host_address(self.table)

    def with_local(self, local: NDArray[np.uint8]) -> GlobalMemory:
        """The same with the local memory of a core."""
        return GlobalMemory(self.allocations, local)

    @cached_property
    def device_bytes(self) -> int:
        """Bytes of the device from the first region's to the last one's."""
        ends: NDArray[np.int64] = self.table[:, 3] + self.table[:, 1] - self.table[:, 0]
        return int(ends.max(initial=DEVICE_START)) - DEVICE_START

    @cached_property
    def _rows(self) -> list[list[int]]:
        return self.table.tolist()

    def _row(self, address: int) -> list[int] | None:
        """The region that begins last at or before an address."""
        place = bisect_right(self._rows, address, key=lambda row: row[0])
        return self._rows[place - 1] if place else None

    def reach(self, address: int, *, stored: bool = False) -> int:
        """How many bytes from an address on belong to its region; 0 if to none, or they may not be stored to."""
        row = self._row(address)
        return 0 if row is None or (stored and not row[2]) else max(0, row[1] - address)

    def find(self, address: int, bytes: int) -> Allocation | None:
        """An allocation that holds all of these bytes."""
        for allocation in self.allocations:
            if allocation.address <= address and address + bytes <= allocation.end:
                return allocation
        return None

    def nearest(self, address: int) -> Allocation | None:
        """The allocation closest to an address; None if there is none."""
        return min(
            (each for each in self.allocations if each.bytes),
            key=lambda each: max(each.address - address, address - each.end + 1, 0),
            default=None,
        )

    def fault(
        self,
        address: int,
        bytes: int,
        action: str,
        *,
        location: Location | None = None,
        context: str = "",
        note: str = "",
    ) -> KernelFault:
        """The error of an access that is refused: E0307 if only writing is forbidden there, else E0301.

        A load may also be one of a table on chip, which has nothing of the array that its index leads to; and a store
        may reach an array beside its own, to which no program of the launch is known to store.
        """
        row = self._row(address)
        nearest = self.find(address, bytes) or self.nearest(address)
        code, access = "E0301", f"{action} of {bytes} bytes at {address:#x}"
        if nearest is None or row is None or address + bytes > row[1]:
            summary = f"{access} misses every registered array"
            cause, remedy = self._miss(address, bytes, nearest), self._remedy(address, bytes, action, nearest)
        elif action == "load":
            summary, cause = f"{access} leaves the array that it looks up in", f"there is {nearest}"
            remedy = f"mask the access: {_MASKED[action]}, or look up in each array by its own pointer"
        elif nearest.writable:
            summary, cause = f"{access} leaves the arrays that the program writes", f"there is {nearest}"
            remedy = f"mask the access: {_MASKED[action]}, or write to each array by its own pointer"
        else:
            code, summary = "E0307", f"{access} writes to {nearest.name}, which is read-only"
            cause = f"the array is {nearest}"
            remedy = f"pass a writable array for {nearest.name}: one whose flags.writeable is True"
        return KernelFault(
            code, summary, location=location, context=context, note="\n".join(filter(None, [cause, note])), help=remedy
        )

    def _remedy(self, address: int, bytes: int, action: str, nearest: Allocation | None) -> str:
        """What to write; an access that is farther from the nearest array than that is long was led elsewhere."""
        remedies = [f"mask the access: {_MASKED[action]}, or check the extents and strides that were passed"]
        if nearest is not None and max(nearest.address - address - bytes, address - nearest.end) > nearest.bytes:
            remedies.append(_UNPASSED)
        elif nearest is not None and nearest.bytes < bytes:
            remedies.append(_EXPANDED.format(nearest.name))
        return "\n".join(remedies)

    def _miss(self, address: int, bytes: int, nearest: Allocation | None) -> str:
        """By how much an access misses the nearest array."""
        if nearest is None:
            return "every array that was passed is empty" if self.allocations else "no array was passed"
        before, after = nearest.address - address, address + bytes - nearest.end
        parts: list[str] = []
        if before > 0:
            parts.append(f"begins {before:,} bytes before it{nearest.element(address)}")
        if after > 0:
            parts.append(f"ends {after:,} bytes after it{nearest.element(address + bytes - 1)}")
        return f"the nearest array is {nearest}\nthe access {' and '.join(parts)}"

    def view(self, address: int, bytes: int, *, write: bool) -> NDArray[np.uint8] | None:
        """The bytes themselves; None if they may not be touched."""
        row = self._row(address)
        if row is None or address + bytes > row[1] or (write and row[2] < STORED):
            return None
        return np.ctypeslib.as_array((ctypes.c_uint8 * bytes).from_address(address))

    def device_address(self, address: int) -> int:
        """Where the device sees a host address that belongs to a region."""
        row = self._row(address)
        assert row is not None, f"{address:#x} belongs to no array"
        return row[3] + address - row[0]


def _is_disjoint(allocations: Iterable[Allocation]) -> bool:
    """True if none that is written shares bytes with another."""
    end, written_end = 0, 0
    for each in sorted((each for each in allocations if each.bytes), key=lambda each: each.address):
        if each.address < (end if each.written else written_end):
            return False
        end = max(end, each.end)
        written_end = max(written_end, each.end) if each.written else written_end
    return True


def _regions(allocations: tuple[Allocation, ...]) -> NDArray[np.int64]:
    regions: list[list[int]] = []  # start, end, writable, number of the first allocation
    numbered = sorted((each.address, number) for number, each in enumerate(allocations) if each.bytes)
    for address, number in numbered:
        allocation = allocations[number]
        writable = (STORED if allocation.written else 1) if allocation.writable else 0
        if regions and address < regions[-1][1]:
            region = regions[-1]
            region[1:] = max(region[1], allocation.end), max(region[2], writable), min(region[3], number)
        else:
            regions.append([address, allocation.end, writable, number])
    device = DEVICE_START
    for region in sorted(regions, key=lambda region: region[3]):
        region[3] = device
        device += -(-(region[1] - region[0]) // DEVICE_ALIGNMENT_BYTES) * DEVICE_ALIGNMENT_BYTES
    return np.array(regions, np.int64).reshape(-1, 4)
