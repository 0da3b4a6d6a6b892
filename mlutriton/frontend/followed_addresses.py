"""The arrays that a kernel reaches through addresses which it is passed as numbers.

Lists of matrices are passed to a kernel as an array of their addresses: ``torch.tensor([a.data_ptr(), b.data_ptr()])``.
What may be touched is still what somebody has named: an array of the process that one of those addresses lies in.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.frontend.arguments import PointerArgument

# Linux maps nothing below, and the strides of a launch are mostly less.
_LEAST_ADDRESS = 1 << 16
_ADDRESS_DTYPES = (np.dtype(np.int64), np.dtype(np.uint64))


@dataclass(frozen=True, slots=True)
class FollowedArray:
    """The bytes of an array that a number points into.

    Attributes:
        address: of the first byte.
        bytes: how many.
        writable: whether a kernel may store to it.
        owner: what keeps the memory alive.
        holds_addresses: whether its elements are 64-bit integers, which may be addresses in turn.
    """

    address: int
    bytes: int
    writable: bool
    owner: object
    holds_addresses: bool


def followed_arrays(values: Sequence[object]) -> list[FollowedArray]:
    """The arrays that the values of a launch lead to: through integers, and through arrays of 64-bit integers.

    Arrays are looked for among the objects of the process that can be asked for their address: tensors of torch, and
    what ``mlu.array`` made. Their order depends on the values alone.
    """
    passed = [value for value in values if isinstance(value, PointerArgument)]
    numbers = [value for value in values if isinstance(value, int) and _LEAST_ADDRESS <= value < 2**64]
    pending = [np.array(numbers, np.uint64)] if numbers else []
    pending += [_words(each.first_address, each.bytes) for each in passed if each.dtype in _ADDRESS_DTYPES]
    if not pending:
        return []
    found: list[FollowedArray] = []
    candidates = sorted(_live_arrays(), key=lambda array: array.address)
    starts = np.array([array.address for array in candidates], np.uint64)
    known = {value.first_address for value in passed}
    while pending:
        addresses = pending.pop(0)
        places = np.searchsorted(starts, addresses, side="right").astype(np.int64) - 1
        # In the order in which the addresses stand there.
        ordered: dict[int, None] = dict.fromkeys(places[places >= 0].tolist())
        for place in ordered:
            array = candidates[place]
            hits = addresses[places == place]
            if array.address in known or not (hits < array.address + array.bytes).any():
                continue
            known.add(array.address)
            found.append(array)
            if array.holds_addresses:
                pending.append(_words(array.address, array.bytes))
    return found


def _words(address: int, bytes: int) -> NDArray[np.uint64]:
    """What stands in an array, as addresses."""
    count = bytes // 8
    return np.ctypeslib.as_array((ctypes.c_uint64 * count).from_address(address)) if count else np.zeros(0, np.uint64)


def _live_arrays() -> Iterator[FollowedArray]:
    torch: Any = sys.modules.get("torch")
    tensor_types: tuple[type, ...] = () if torch is None else (torch.Tensor, torch.nn.Parameter)
    each: Any
    for each in gc.get_objects():
        if type(each) in tensor_types:
            # The storage of a tensor on another device, or of a sparse one, is no memory that a kernel may see.
            if each.device.type == "cpu" and str(each.layout) == "torch.strided":
                storage = each.untyped_storage()
                integers = str(each.dtype) in ("torch.int64", "torch.uint64")
                yield FollowedArray(storage.data_ptr(), storage.nbytes(), True, each, integers)
        elif type(each) is PointerArgument:
            integers = each.dtype in _ADDRESS_DTYPES
            yield FollowedArray(each.first_address, each.bytes, each.writable, each, integers)
