"""Global memory as the evaluator sees it: arrays at their host addresses, every access checked."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import KernelFault
from mlutriton.dtypes import DType
from mlutriton.ir.core import Array


class Memory(Protocol):
    """What the evaluator reads and writes."""

    def register(self, name: str, array: NDArray[Any], *, writable: bool = True) -> int:
        """Make an array part of the memory; returns the address of its first element."""
        ...

    def read(self, addresses: NDArray[np.int64], dtype: DType) -> Array:
        """The elements at byte addresses, in their shape.

        Raises:
            KernelFault: E0301, an element is outside every registered array.
        """
        ...

    def write(self, addresses: NDArray[np.int64], values: Array) -> None:
        """Write elements at byte addresses, in row-major order.

        Raises:
            KernelFault: E0301, or E0307 for an array that is read-only. Nothing has been written then.
        """
        ...

    def reach(self, address: int, *, stored: bool = False) -> int:
        """How many bytes from an address on lie in its array; 0 outside of all, or where they may not be stored to."""
        ...


class ArrayMemory:
    """Registered NumPy arrays. They are kept alive and written in place."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: list[tuple[str, NDArray[np.uint8], bool]] = []

    def register(self, name: str, array: NDArray[Any], *, writable: bool = True, address: int | None = None) -> int:
        """Make a C-contiguous array part of the memory; returns the address of its first element.

        By default that is where it lies in the host's memory.
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"array {name} is not contiguous")
        start = int(array.ctypes.data) if address is None else address
        place = bisect_right(self._starts, start)
        self._starts.insert(place, start)
        self._arrays.insert(place, (name, array.reshape(-1).view(np.uint8), writable))
        return start

    def read(self, addresses: NDArray[np.int64], dtype: DType) -> Array:
        """See :class:`Memory`."""
        result = np.empty(addresses.shape, dtype.numpy)
        flat = result.reshape(-1)
        for array, chosen in self._locate(addresses.reshape(-1), dtype.bytes):
            _, bytes_, _ = self._arrays[array]
            flat[chosen] = bytes_[self._places(array, addresses, chosen, dtype.bytes)].view(dtype.numpy)[:, 0]
        return result

    def write(self, addresses: NDArray[np.int64], values: Array) -> None:
        """See :class:`Memory`."""
        width = values.dtype.itemsize
        flat = np.ascontiguousarray(values).reshape(-1)
        for array, chosen in self.writable(addresses, width):
            # Where an address comes twice, NumPy keeps the later element.
            elements = flat[chosen].view(np.uint8).reshape(-1, width)
            self._arrays[array][1][self._places(array, addresses, chosen, width)] = elements

    def writable(self, addresses: NDArray[np.int64], width: int) -> list[tuple[int, NDArray[np.intp]]]:
        """Which arrays elements of so many bytes lie in, as pairs of an array's number and the elements' numbers.

        Raises:
            KernelFault: E0301, or E0307 for an array that is read-only.
        """
        located = self._locate(addresses.reshape(-1), width)
        for array, _ in located:
            name, _, writable = self._arrays[array]
            if not writable:
                raise KernelFault("E0307", f"store to the read-only array {name}")
        return located

    def read_bytes(self, addresses: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
        """So many bytes at each of a list of addresses, [addresses, count].

        Raises:
            KernelFault: E0301, some are outside every registered array.
        """
        result = np.empty((len(addresses), count), np.uint8)
        for array, chosen in self._locate(addresses, count):
            result[chosen] = self._arrays[array][1][self._places(array, addresses, chosen, count)]
        return result

    def reach(self, address: int, *, stored: bool = False) -> int:
        """See :class:`Memory`."""
        place = bisect_right(self._starts, address) - 1
        if place < 0 or (stored and not self._arrays[place][2]):
            return 0
        return max(0, self._starts[place] + self._arrays[place][1].size - address)

    def _places(
        self, array: int, addresses: NDArray[np.int64], chosen: NDArray[np.intp], width: int
    ) -> NDArray[np.int64]:
        offsets = addresses.reshape(-1)[chosen] - self._starts[array]
        return offsets[:, None] + np.arange(width)

    def _locate(self, addresses: NDArray[np.int64], width: int) -> list[tuple[int, NDArray[np.intp]]]:
        """Which array each element lies in, as pairs of an array's number and the elements' numbers."""
        owners = np.searchsorted(np.asarray(self._starts, np.int64), addresses, side="right") - 1
        located = [(int(owner), np.flatnonzero(owners == owner)) for owner in np.unique(owners)]
        for owner, chosen in located:
            # Below all arrays lies nothing; addresses may even be negative there.
            if owner < 0:
                raise self._fault(int(addresses[chosen[0]]), width)
            outside = addresses[chosen] > self._starts[owner] + self._arrays[owner][1].size - width
            if outside.any():
                raise self._fault(int(addresses[chosen[np.argmax(outside)]]), width)
        return located

    def _fault(self, address: int, width: int) -> KernelFault:
        ranges = [
            (start, start + array[1].size, array[0]) for start, array in zip(self._starts, self._arrays, strict=True)
        ]
        note = ""
        if ranges:
            start, end, name = min(ranges, key=lambda range: max(range[0] - address, address - range[1]))
            note = f"the nearest array is {name}, bytes {start:#x} to {end:#x}"
        return KernelFault("E0301", f"access of {width} bytes at {address:#x} misses every registered array", note=note)
