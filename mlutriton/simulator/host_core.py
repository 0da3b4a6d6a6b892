"""What a host thread needs to run native programs: memory images of a core, buffers that grow, and its context."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlutriton.dtypes import host_address
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import (
    ALLOCATION_WORDS,
    CONTEXT_WORDS,
    LOANS_BYTES,
    SCRATCH_EXPANSION,
    SLACK_BYTES,
    WRAM_EXPANSION,
    Context,
    common_weights_bytes,
    common_weights_offset,
    loans_offset,
)
from mlutriton.isa.trace_format import RECORD_WORDS
from mlutriton.simulator.memory import GlobalMemory

Int64Array = ctypes.Array[ctypes.c_int64]
BUFFER_BYTES = 8 * RECORD_WORDS * 2730
"""With which a buffer that grows begins: whole records, as code that writes one asks only whether it is at the end."""
# What a buffer may have grown to and be kept: pages given back are cleared anew by the next launch that grows it.
_KEPT_BYTES = BUFFER_BYTES << 6

CACHE_LINE_WORDS = 8
_LINE_BYTES = 8 * CACHE_LINE_WORDS
_PAGE_BYTES = 4096
_NO_HIT_NO_FAULT = [0] * (Context.DISJOINT - Context.HIT_START)
_NO_WORK = [0] * (CONTEXT_WORDS - Context.FOLD_SCALAR)

_libc = ctypes.CDLL(None)
_libc.realloc.restype = ctypes.c_void_p
_libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def int64_array(values: Sequence[int]) -> Int64Array:
    """Words of which native code gets the address; unsigned values wrap around."""
    return (ctypes.c_int64 * len(values))(*values)


def kept_bytes(recorded_bytes: int) -> int:
    """The largest buffer that is not given back before a launch whose buffers may grow to so many bytes.

    One that doubles overflows at the same record, whichever of its sizes it begins with.
    """
    return max(BUFFER_BYTES, min(_KEPT_BYTES, recorded_bytes))


def core_sizes(machine: Machine) -> tuple[int, int, int, int]:
    """Bytes of NRAM, WRAM, SRAM and scratch of a core, as the host holds them."""
    nram_bytes, sram_bytes = loans_offset(machine) + LOANS_BYTES, machine.sram_bytes
    if machine.cores_per_cluster > 1:
        sram_bytes = common_weights_offset(machine) + common_weights_bytes(machine)
    return nram_bytes, machine.wram_bytes * WRAM_EXPANSION, sram_bytes, machine.nram_bytes * SCRATCH_EXPANSION


def _from_a_line_on(bytes: int) -> NDArray[np.uint8]:
    """Zeros that begin at a line of the host's caches: vectors of what is aligned on the chip lie in one line each.

    It is not the first line of a page. Large arrays of the host begin a few bytes into one, and copies are slow whose
    target lies in its page a little behind where the source lies in its own.
    """
    data = np.zeros(bytes + _PAGE_BYTES, np.uint8)
    first = (_LINE_BYTES - host_address(data)) % _PAGE_BYTES
    return data[first : first + bytes]


# An allocation without bytes: native code searches one at least.
_NOWHERE = int64_array([0] * ALLOCATION_WORDS)


class HostCore:
    """Memory images, buffers that grow, and the context that names them to native code.

    Making one costs more than a small launch, so they are kept.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._images = [_from_a_line_on(size + SLACK_BYTES) for size in sizes]
        self._local = np.zeros(0, np.uint8)
        # No other core writes to the cache lines of this one.
        self.context = int64_array([0] * (CONTEXT_WORDS + CACHE_LINE_WORDS))
        self.address = ctypes.addressof(self.context)
        images = [image.ctypes.data for image in self._images]
        self.context[Context.NRAM : Context.PARAMETERS] = images
        # Its own image of SRAM, which a cluster may share.
        self.sram_address = images[Context.SRAM]
        self.context[Context.LAUNCH] = -1

    @property
    def has_prints(self) -> bool:
        """Whether programs have printed since it was prepared."""
        return self.context[Context.PRINTS] != self.context[Context.PRINTS_NEXT]

    def prepare(
        self, words: Sequence[int], memory: GlobalMemory, last: Sequence[int], launch: int, sram_address: int
    ) -> None:
        """Write the words of a launch, and clear those that the last one has left behind.

        Args:
            words: from ``PARAMETERS`` on.
            memory: what may be touched.
            last: words from ``DISJOINT`` on.
            launch: number of the launch.
            sram_address: of the SRAM of its cluster.
        """
        self.context[Context.SRAM] = sram_address
        kept = kept_bytes(last[Context.RECORDED_BYTES - Context.DISJOINT])
        trace, prints = self._emptied(Context.TRACE, kept), self._emptied(Context.PRINTS, kept)
        words = (*words, *trace, *prints, *_searched(memory), *_NO_HIT_NO_FAULT, *last, launch, *_NO_WORK)
        self.context[Context.PARAMETERS : CONTEXT_WORDS] = words

    def with_local(self, memory: GlobalMemory, bytes: int) -> GlobalMemory:
        """What this core may touch of a launch whose programs have local memory."""
        if self._local.size < bytes:
            self._local = np.zeros(bytes, np.uint8)
        return memory.with_local(self._local[:bytes])

    def _emptied(self, word: int, kept: int) -> tuple[int, int, int]:
        """Begin, next and end of a buffer that grows, as they are before a launch; it has ``kept`` bytes at most."""
        begin, end = self.context[word], self.context[word + 2]
        if not begin or end - begin > kept:
            begin = _libc.realloc(begin, BUFFER_BYTES)
            if not begin:
                raise MemoryError
            self.context[word], end = begin, begin + BUFFER_BYTES
        return begin, begin, end


def _searched(memory: GlobalMemory) -> tuple[int, int]:
    """Address of the table of regions and how many rows native code searches."""
    return (memory.table_address, len(memory.table)) if len(memory.table) else (ctypes.addressof(_NOWHERE), 1)
