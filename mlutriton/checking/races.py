"""Data races: two programs of a launch touch the same place, one of them writes, and nothing says who comes first.

Programs are run one at a time, and each place knows who touched it last. That two programs ran in some order here
orders nothing: only atomics do. A program that has an atomic on a scalar behind it, a lock or a flag, has seen all that
others did before theirs at the same address (acquire and release, as is Triton's default). So has one that looks at it
with a volatile load; and a store that is atomic lets others see. Those that are relaxed order nothing. How clocks tell
what is ordered is that of FastTrack (Flanagan and Freund, PLDI 2009), with one clock a program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.checking.findings import Finding, Findings, Grid, Kind
from mlutriton.dtypes import DType
from mlutriton.ir.core import Array, Operation
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.memory_ops import pointee
from mlutriton.ir.ops import AtomicCas, AtomicRmw, Load, Store
from mlutriton.ir.types import shape_of

_ATOMICS = (AtomicRmw, AtomicCas)
_ACCESSES = (*_ATOMICS, Load, Store)
# An epoch is a program, counted from 1, above these bits, and its clock in them.
_CLOCK_BITS = 32
_CLOCKS = (1 << _CLOCK_BITS) - 1
_NOBODY = 0


@dataclass(frozen=True)
class Region:
    """Bytes that programs share.

    Attributes:
        name: of the argument that they were passed for.
        start: address of the first.
        size: how many.
    """

    name: str
    start: int
    size: int


@dataclass
class _Touched:
    """Who touched the places of a region last: epochs, and numbers of operations.

    Attributes:
        written: epoch of the last that wrote.
        written_by: its operation.
        read: epoch of the last that read.
        read_by: its operation.
        read_before: epoch of another program that has read.
        read_before_by: its operation.
    """

    written: NDArray[np.int64]
    written_by: NDArray[np.int32]
    read: NDArray[np.int64]
    read_by: NDArray[np.int32]
    read_before: NDArray[np.int64]
    read_before_by: NDArray[np.int32]

    @classmethod
    def of(cls, places: int) -> _Touched:
        epochs = [np.zeros(places, np.int64) for _ in range(3)]
        operations = [np.zeros(places, np.int32) for _ in range(3)]
        return cls(epochs[0], operations[0], epochs[1], operations[1], epochs[2], operations[2])


def _is_atomic(operation: Operation) -> bool:
    return isinstance(operation, _ATOMICS) or (isinstance(operation, Load | Store) and operation.is_volatile)


class WatchedMemory:
    """Memory that knows who touched what.

    Args:
        memory: what is read and written.
        regions: of it that programs share, apart from each other and in the order of their addresses.
        place_bytes: of the narrowest element that is accessed.
        grid: extents of the launch.
        kernel: its name.
        findings: where races go.
    """

    def __init__(
        self,
        memory: ArrayMemory,
        regions: list[Region],
        place_bytes: int,
        grid: Grid,
        kernel: str,
        findings: Findings,
    ) -> None:
        self._memory, self._regions, self._place_bytes = memory, regions, place_bytes
        self._grid, self._kernel, self._findings = grid, kernel, findings
        self._starts = np.array([each.start for each in regions], np.int64)
        self._touched = [_Touched.of(-(-each.size // place_bytes)) for each in regions]
        self._program = 0
        self._clock = 0
        self._operations: list[Operation] = []
        self._numbers: dict[Operation, int] = {}
        self._atomic = np.zeros(0, np.bool_)
        self._operation = 0
        # For each program, up to which of its clocks the running one has seen what it did; None if of nobody anything.
        self._seen: NDArray[np.int64] | None = None
        self._released: dict[int, NDArray[np.int64]] = {}

    def begins(self, place: Grid) -> None:
        """A program begins."""
        x, y, z = place
        self._program = x + self._grid[0] * (y + self._grid[1] * z)
        self._clock, self._seen = 0, None

    @property
    def progress(self) -> tuple[int, int, NDArray[np.int64] | None]:
        """The running program, its clock, and what it has seen of others; set, to let a program go on."""
        return self._program, self._clock, self._seen

    @progress.setter
    def progress(self, known: tuple[int, int, NDArray[np.int64] | None]) -> None:
        self._program, self._clock, self._seen = known

    def performs(self, operation: Operation) -> None:
        """What is touched from now on is touched by an operation."""
        number = self._numbers.get(operation)
        if number is None:
            number = self._numbers[operation] = len(self._operations)
            self._operations.append(operation)
            self._atomic = np.append(self._atomic, _is_atomic(operation))
        self._operation = number

    def register(self, name: str, array: NDArray[Any], *, writable: bool = True) -> int:
        """See :class:`mlutriton.ir.host_memory.Memory`."""
        return self._memory.register(name, array, writable=writable)

    def reach(self, address: int, *, stored: bool = False) -> int:
        """See :class:`mlutriton.ir.host_memory.Memory`."""
        return self._memory.reach(address, stored=stored)

    def read(self, addresses: NDArray[np.int64], dtype: DType) -> Array:
        """See :class:`mlutriton.ir.host_memory.Memory`."""
        found = self._memory.read(addresses, dtype)
        if self._orders(Load, *_ATOMICS):
            self._acquire(addresses)
        if self._orders(*_ATOMICS):
            self._release(addresses)
        for region, places in self._places(addresses, dtype.bytes):
            touched, mine = self._touched[region], self._epoch
            writers = touched.written[places]
            self._report(region, places, writers, touched.written_by[places], "reads", "wrote")
            readers = touched.read[places]
            others = (readers != _NOBODY) & (readers >> _CLOCK_BITS != self._program + 1)
            touched.read_before[places[others]] = readers[others]
            touched.read_before_by[places[others]] = touched.read_by[places[others]]
            touched.read[places], touched.read_by[places] = mine, self._operation
        return found

    def write(self, addresses: NDArray[np.int64], values: Array) -> None:
        """See :class:`mlutriton.ir.host_memory.Memory`."""
        width = values.dtype.itemsize
        flat = np.ascontiguousarray(values).reshape(-1)
        if addresses.size > 1:
            self._report_doubles(addresses.reshape(-1), flat)
        located = list(self._places(addresses, width))
        before = [self._bytes(region, places) for region, places in located]
        self._memory.write(addresses, values)
        for (region, places), old in zip(located, before, strict=True):
            touched = self._touched[region]
            # Who writes what is there already harms nobody.
            changed = (self._bytes(region, places) != old).any(axis=1)
            places = places[changed]
            self._report(region, places, touched.written[places], touched.written_by[places], "writes", "wrote")
            readers = (touched.read, touched.read_by), (touched.read_before, touched.read_before_by)
            for epochs, operations in readers:
                self._report(region, places, epochs[places], operations[places], "writes", "read")
            touched.written[places], touched.written_by[places] = self._epoch, self._operation
        if self._orders(Store):
            self._release(addresses)

    @property
    def _epoch(self) -> int:
        return self._program + 1 << _CLOCK_BITS | self._clock

    def _acquire(self, addresses: NDArray[np.int64]) -> None:
        """See what others did before their atomics at an address."""
        self._seen = self._known()
        released = self._released.get(int(addresses.reshape(-1)[0]))
        if released is not None:
            np.maximum(self._seen, released, out=self._seen)

    def _release(self, addresses: NDArray[np.int64]) -> None:
        """Let those that come to an address see what was done so far."""
        self._seen = self._known()
        self._seen[self._program] = self._clock
        self._released[int(addresses.reshape(-1)[0])] = self._seen.copy()
        self._clock += 1

    def _known(self) -> NDArray[np.int64]:
        """For each program, up to which of its clocks the running one has seen what it did; -1 if nothing."""
        programs = self._grid[0] * self._grid[1] * self._grid[2]
        return np.full(programs, -1, np.int64) if self._seen is None else self._seen

    def _orders(self, *kinds: type[Operation]) -> bool:
        """Whether the running operation orders programs, and is of one of these kinds: counts and sums do not."""
        operation = self._operations[self._operation]
        if not (isinstance(operation, kinds) and self._atomic[self._operation]) or shape_of(operation.operands[0].type):
            return False
        return isinstance(operation, _ACCESSES) and not operation.is_relaxed

    def _places(self, addresses: NDArray[np.int64], width: int) -> list[tuple[int, NDArray[np.int64]]]:
        """The places of elements, by region."""
        flat = addresses.reshape(-1)
        owners = np.searchsorted(self._starts, flat, side="right") - 1
        found: list[tuple[int, NDArray[np.int64]]] = []
        for region in np.unique(owners).tolist():
            first = (flat[owners == region] - self._starts[region]) // self._place_bytes
            count = width // self._place_bytes
            found.append((region, first if count == 1 else (first[:, None] + np.arange(count)).reshape(-1)))
        return found

    def _bytes(self, region: int, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """What memory holds at places, [places, bytes]."""
        addresses = self._starts[region] + places * self._place_bytes
        return self._memory.read_bytes(addresses, self._place_bytes)

    def _report(
        self,
        region: int,
        places: NDArray[np.int64],
        others: NDArray[np.int64],
        others_by: NDArray[np.int32],
        verb: str,
        other_verb: str,
    ) -> None:
        """Report the first place that another program has touched, if nothing orders the two."""
        unordered = (others != _NOBODY) & (others >> _CLOCK_BITS != self._program + 1)
        if not unordered.any():
            return
        if self._atomic[self._operation]:
            unordered &= ~self._atomic[others_by]
        if self._seen is not None:
            unordered &= self._seen[(others >> _CLOCK_BITS) - 1] < (others & _CLOCKS)
        if not unordered.any():
            return
        first = int(np.argmax(unordered))
        name = self._regions[region].name
        other, other_operation = int(others[first] >> _CLOCK_BITS) - 1, self._operations[int(others_by[first])]
        operation = self._operations[self._operation]
        element = int(places[first]) * self._place_bytes // pointee(operation.operands[0]).bytes
        self._findings.add(
            Finding(
                Kind.RACE,
                self._kernel,
                f"a program {verb} element {element:,} of {name}, which another one {other_verb}",
                operation.location,
                self._place_of(self._program),
                (
                    f"program {self._place_of(other)} {other_verb} it at {other_operation.location}",
                    "on the machine, programs run in any order and at the same time",
                ),
                "let each program write elements of its own, add with tl.atomic_add, or make two launches of it",
            ),
            name,
        )

    def _report_doubles(self, addresses: NDArray[np.int64], values: Array) -> None:
        """Report an element that one operation writes twice, with different values."""
        order = np.argsort(addresses, kind="stable")
        ordered = addresses[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        if not again.size:
            return
        stored = values[order].view(np.uint8).reshape(len(ordered), -1)
        differs = (stored[again] != stored[again + 1]).any(axis=1)
        if not differs.any():
            return
        address = int(ordered[again[np.argmax(differs)]])
        region = int(np.searchsorted(self._starts, address, side="right")) - 1
        operation = self._operations[self._operation]
        element = (address - int(self._starts[region])) // values.dtype.itemsize
        self._findings.add(
            Finding(
                Kind.RACE,
                self._kernel,
                f"one store writes element {element:,} of {self._regions[region].name} twice, with different values",
                operation.location,
                self._place_of(self._program),
                ("which of them stays is not defined",),
                "give each element a place of its own, mask all but one of them, or add with tl.atomic_add",
            ),
            self._regions[region].name,
        )

    def _place_of(self, program: int) -> Grid:
        x, y, _ = self._grid
        return program % x, program // x % y, program // (x * y)
