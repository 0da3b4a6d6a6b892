"""Runs the loops of the replay: as machine code, or as the Python that they are.

To compile one takes as long as to replay ten thousand records in Python, at some 20 us each. So a process that finds
none compiled on disk interprets what it has to replay first, and compiles once it has more.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mlutriton.isa import trace_format
from mlutriton.isa.trace_format import FLAG_STRIDED, MAX_STRIDED, RECORD_WORDS, Kind
from mlutriton.simulator import trace_columns
from mlutriton.simulator.native import compile_llvm, kept_module
from mlutriton.simulator.replay import (
    alike_cores,
    cache_directory,
    event_loop,
    machine_code,
    memory_traffic,
    program_units,
    schedule_alone,
    sector_map,
    stretches,
    tile_families,
    tile_list,
    timing,
    transfer_costs,
    transfer_queues,
)
from mlutriton.simulator.replay import state as at
from mlutriton.simulator.replay.state import ReplayState

Loop = Callable[[Any], None]

# The sources name what is compiled, so that a warm start translates nothing.
_SOURCES: tuple[ModuleType, ...] = (
    event_loop,
    schedule_alone,
    alike_cores,
    program_units,
    transfer_queues,
    cache_directory,
    tile_families,
    tile_list,
    stretches,
    sector_map,
    memory_traffic,
    transfer_costs,
    at,
    timing,
    machine_code,
    trace_format,
)
# What a process interprets of a loop before it compiles it, in steps of 1 to 5 us: a tenth of the compilation.
_INTERPRETED_STEPS = 8000
_STEPS_PER_RECORD = 4
_BYTES_PER_STEP = 4096
_NEVER = 1 << 62
_LOW_WORD = (1 << 32) - 1

_GIVEN = ("words", "starts", "statistics", "programs", "shared", "timing", "leaves")
_RESULTS = ("shared", "statistics", "programs")

_compiled: dict[Loop, Callable[[int], None]] = {}
_interpreted: Counter[Loop] = Counter()


def run(loop: Loop, state: Any, pointers: ctypes.Array[ctypes.c_void_p]) -> None:
    """Run a loop of the replay.

    Args:
        loop: a function of the subset of :mod:`mlutriton.simulator.replay.machine_code`.
        state: the ``ReplayState`` that it works on, of arrays.
        pointers: to these arrays, for machine code.
    """
    code = _compiled.get(loop) or _compiled_soon(loop, state)
    if code is None:
        _interpret(loop, state)
    else:
        code(ctypes.addressof(pointers))


def _compiled_soon(loop: Loop, state: Any) -> Callable[[int], None] | None:
    """Machine code of a loop, if it is on disk or worth its compilation."""
    key = _cache_key(loop)
    module = kept_module(key)
    if module is None:
        steps = _interpreted[loop] + _steps(state)
        if steps <= _INTERPRETED_STEPS:
            _interpreted[loop] = steps
            return None
        module = compile_llvm(lambda: machine_code.translate(loop), cache_key=key, thoroughly=True)
    code = _compiled[loop] = module.function(loop.__name__, [ctypes.c_void_p])
    return code


@cache
def _cache_key(loop: Loop) -> str:
    digest = hashlib.sha256(loop.__name__.encode())
    for module in _SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return f"replay {digest.hexdigest()}"


def _steps(state: Any) -> int:
    """About how long it takes to interpret a replay: what is in the L2 is looked up segment by segment, in pages."""
    numbers: Any = state.shared
    # Programs that share records are many, and stalls have a row for each instruction that there may be.
    if numbers[at.HAS_RUNS] or numbers[at.KEEP_EVENTS]:
        return _NEVER
    if _STEPS_PER_RECORD * numbers[at.RECORDS] > _INTERPRETED_STEPS:
        return _NEVER
    records = state.words.reshape(-1, RECORD_WORDS)
    is_extent = trace_columns.extent_records(records)
    extents = records[is_extent]
    transfers = records[~is_extent & (trace_columns.kinds(records) <= Kind.STORE)]
    strided = transfers[trace_columns.flags(transfers) & FLAG_STRIDED != 0]
    segments = (strided[:, 1] & MAX_STRIDED).sum() + (
        (extents[:, 0] >> 32 & _LOW_WORD) * (extents[:, 2] & 0xFFFF)
    ).sum()
    pages = trace_columns.amounts(transfers).sum() // _BYTES_PER_STEP
    return _STEPS_PER_RECORD * len(records) + len(state.starts) + int(segments + pages)


def _interpret(loop: Loop, state: Any) -> None:
    """Run a loop in Python, on lists: words of bits may be larger there than those of an array."""
    lists = {
        each.name: getattr(state, each.name).tolist() if each.name in _GIVEN else [0] * len(getattr(state, each.name))
        for each in fields(ReplayState)
    }
    loop(ReplayState(**lists))
    for name in _RESULTS:
        getattr(state, name)[:] = np.array(lists[name], np.int64)
