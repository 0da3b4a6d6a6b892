"""NRAM, WRAM and SRAM as the interpreter keeps them: bytes, which of them are written, and which are in flight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.isa.table import Queue

Bytes = NDArray[np.uint8]
Places = slice | NDArray[np.int64]

# In ``in_flight``: one bit for a read and one for a write of each queue that works on its own.
_READ_BITS = {Queue.COMPUTE: 1, Queue.IO: 4, Queue.MOVE: 16}
_READS, _WRITES = 0b010101, 0b101010


class UninitializedError(Exception):
    """A byte is read that nothing has written; the argument is its place."""


class RaceError(Exception):
    """A byte is touched while another queue works on it; the arguments are its place and that queue."""


@dataclass(slots=True)
class OnChipMemory:
    """One memory of a core or cluster.

    Attributes:
        image: the bytes.
        written: per byte, whether the program has written it.
        in_flight: per byte, which queues may still be working on it.
        touched: queues with bits in ``in_flight``.
    """

    image: Bytes
    written: NDArray[np.bool_]
    in_flight: Bytes
    touched: set[Queue] = field(default_factory=set[Queue])

    @classmethod
    def of(cls, size_bytes: int) -> OnChipMemory:
        """A memory in which nothing has been written."""
        return cls(np.zeros(size_bytes, np.uint8), np.zeros(size_bytes, np.bool_), np.zeros(size_bytes, np.uint8))

    def read(self, places: Places, queue: Queue) -> Bytes:
        """Bytes, as a queue reads them.

        Raises:
            RaceError: another queue may not have written them yet.
            UninitializedError: nothing has written them.
        """
        self._check(places, queue, _WRITES)
        written = self.written[places]
        if not written.all():
            raise UninitializedError(_first(places, ~written))
        self._mark(places, queue, _READ_BITS.get(queue, 0))
        return self.image[places].copy()

    def write(self, places: Places, values: Bytes, queue: Queue) -> None:
        """Set bytes, as a queue writes them.

        Raises:
            RaceError: another queue may not be done with them.
        """
        self._check(places, queue, _READS | _WRITES)
        self._mark(places, queue, _READ_BITS.get(queue, 0) << 1)
        self.written[places] = True
        self.image[places] = values

    def drained(self, queue: Queue) -> None:
        """Nothing of this queue is in flight any more."""
        if queue in self.touched:
            self.touched.remove(queue)
            self.in_flight &= np.uint8(0xFF ^ (3 * _READ_BITS[queue]))

    def _check(self, places: Places, queue: Queue, kinds: int) -> None:
        if not self.touched - {queue}:
            return
        busy = self.in_flight[places] & np.uint8(kinds & ~(3 * _READ_BITS.get(queue, 0)))
        if busy.any():
            bits = int(busy[busy != 0][0])
            other = next(each for each, read_bit in _READ_BITS.items() if bits & (3 * read_bit))
            raise RaceError(_first(places, busy != 0), other)

    def _mark(self, places: Places, queue: Queue, bit: int) -> None:
        if bit:
            self.touched.add(queue)
            self.in_flight[places] |= np.uint8(bit)


def _first(places: Places, mask: NDArray[Any]) -> int:
    """The place of the first element that a mask selects."""
    position = int(np.argmax(mask))
    return places.start + position if isinstance(places, slice) else int(places.reshape(-1)[position])
