"""Recordings: a launch as a file, from which its report can be had again, on its own machine or on another.

A recording is a zip archive, so that every part carries a checksum and other tools can read it::

    recording.json       format, version, and the facts of the launch
    program.mluprog      the program file, see :mod:`mlutriton.isa.encoding`
    machine.toml         the machine file, which extends nothing
    sources.json         text of each source file that the program names, as far as it could be read
    trace.npy            words of the trace, int64
    starts.npy           first record of each program, int64
    work.npy             executions and COMPUTE cycles of each instruction, int64; if they were counted
    touched.npy          DRAM that items touched, a bit a unit; if it is known

Arrays of the launch and what it printed are not part of it. The trace is checked record by record when it is read,
because the replay of an ill-formed one would have no meaning.
"""

from __future__ import annotations

import io
import json
import linecache
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import Location, MluError, ProgramError
from mlutriton.files import write_whole
from mlutriton.isa.encoding import decode, encode
from mlutriton.isa.machine import Machine
from mlutriton.isa.native_interface import Counter, InstructionWork
from mlutriton.isa.program import Program
from mlutriton.isa.trace_format import (
    FLAG_EXTENT,
    FLAG_STRIDED,
    MAX_INSTRUCTION,
    MAX_STRIDED,
    RECORD_WORDS,
    Kind,
)
from mlutriton.simulator import trace_columns
from mlutriton.simulator.replay import Trace
from mlutriton.simulator.touched_memory import TouchedMemory

FORMAT = "mlutriton recording"
VERSION = 3
SUFFIX = ".mlurun"
_LARGEST_SOURCE_BYTES = 1 << 20
_LOW_WORD = (1 << 32) - 1


@dataclass(frozen=True)
class Recording:
    """What a recording holds: a launch without its arrays. The attributes are those of ``Run``.

    Attributes:
        sources: text of source files by their names in the program.
    """

    program: Program
    machine: Machine
    grid: tuple[int, int, int]
    trace: Trace
    counters: Sequence[int] | None
    with_values: bool
    instruction_work: NDArray[np.int64] | None
    touched: TouchedMemory | None
    variant: str
    sources: Mapping[str, str]


def sources_of(program: Program) -> dict[str, str]:
    """Text of each source file that a program names, of those that can be read."""
    files = dict.fromkeys(each.location.file for each in program.instructions if each.location.line)
    texts = {file: "".join(linecache.getlines(file)) for file in files}
    return {file: text for file, text in texts.items() if 0 < len(text) <= _LARGEST_SOURCE_BYTES}


def write_recording(path: Path, recording: Recording) -> None:
    """Write a recording, so that a reader sees all of it or the file before.

    Raises:
        OSError: the file cannot be written.
    """
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "kernel": recording.program.name,
        "variant": recording.variant,
        "grid": recording.grid,
        "with_values": recording.with_values,
        "cores_per_program": recording.trace.cores_per_program,
        "counters": None if recording.counters is None else [int(each) for each in recording.counters],
        "touched_units": None if recording.touched is None else recording.touched.marks.shape[1],
    }
    members = {
        "recording.json": json.dumps(facts, indent=1).encode(),
        "program.mluprog": encode(recording.program),
        "machine.toml": recording.machine.to_toml().encode(),
        "sources.json": json.dumps(dict(recording.sources)).encode(),
        "trace.npy": _packed(recording.trace.words),
        "starts.npy": _packed(recording.trace.starts),
    }
    if recording.instruction_work is not None:
        members["work.npy"] = _packed(recording.instruction_work)
    if recording.touched is not None:
        members["touched.npy"] = _packed(np.packbits(recording.touched.marks, axis=1))
    archived = io.BytesIO()
    with zipfile.ZipFile(archived, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            # A fixed date: equal launches make equal files.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    write_whole(path, archived.getvalue())


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        OSError: the file cannot be read.
        ProgramError: E0405, it is no whole recording, or one of another version.
    """
    try:
        members = _members(path)
        facts = json.loads(members["recording.json"])
        if facts["format"] != FORMAT or facts["version"] != VERSION:
            raise _corrupt(path, f"its format is {facts['format']!r} {facts['version']!r}, not {FORMAT!r} {VERSION}")
        return _recording(facts, members)
    except (MluError, ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError) as problem:
        if isinstance(problem, ProgramError) and problem.code == "E0405":
            raise
        reason = problem.summary if isinstance(problem, MluError) else f"{type(problem).__name__}: {problem}"
        raise _corrupt(path, reason) from problem


def _members(path: Path) -> dict[str, bytes]:
    """Every part of the archive, with its checksum compared."""
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    # What zipfile raises for archives that are damaged in one way or another.
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, OSError, RuntimeError, ValueError) as problem:
        raise _corrupt(path, str(problem) or type(problem).__name__) from problem


def _recording(facts: Mapping[str, Any], members: Mapping[str, bytes]) -> Recording:
    program = decode(members["program.mluprog"])
    grid = tuple(_natural(extent) for extent in facts["grid"])
    if len(grid) != 3:
        raise ValueError(f"a grid has three extents, not {len(grid)}")
    counters = facts["counters"]
    if counters is not None and len(counters) != len(Counter):
        raise ValueError(f"{len(counters)} counters; there are {len(Counter)}")
    work = _unpacked(members["work.npy"]) if "work.npy" in members else None
    if work is not None and work.shape != (len(InstructionWork), len(program.instructions)):
        raise ValueError(f"work of shape {work.shape}; the program has {len(program.instructions)} instructions")
    trace = Trace(
        _unpacked(members["trace.npy"]), _unpacked(members["starts.npy"]), _natural(facts["cores_per_program"])
    )
    check_trace(trace, len(program.instructions))
    touched = None
    if facts["touched_units"] is not None:
        packed: NDArray[np.uint8] = _array(members["touched.npy"], np.uint8)
        marks = np.unpackbits(packed, axis=1, count=_natural(facts["touched_units"]))
        if marks.shape[0] != 2:
            raise ValueError("touched memory has a row for loads and one for stores")
        touched = TouchedMemory.of(marks)
    return Recording(
        program,
        _machine(members["machine.toml"]),
        grid,
        trace,
        counters if counters is None else tuple(_natural(each) for each in counters),
        bool(facts["with_values"]),
        work,
        touched,
        str(facts["variant"]),
        {str(file): str(text) for file, text in json.loads(members["sources.json"]).items()},
    )


def _machine(text: bytes) -> Machine:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "machine.toml"
        path.write_bytes(text)
        return Machine.load(path)


def check_trace(trace: Trace, instructions: int) -> None:
    """Refuse a trace that no program of so many instructions leaves behind.

    Raises:
        ValueError: a record is ill-formed, or a program starts in the middle of one or never ends.
    """
    if trace.words.ndim != 1 or trace.starts.ndim != 1 or len(trace.words) % RECORD_WORDS:
        raise ValueError("a trace has whole records")
    if not trace.records or not len(trace.starts):
        if trace.records or len(trace.starts):
            raise ValueError("a trace has records of programs")
        return
    records = trace.words.reshape(-1, RECORD_WORDS)
    is_extent = trace_columns.extent_records(records)
    kinds, flags = trace_columns.kinds(records), trace_columns.flags(records)
    amounts = trace_columns.amounts(records)
    own = ~is_extent
    if (kinds[own] > max(Kind)).any():
        raise ValueError("a record is of no known kind")
    numbers = trace_columns.instructions(records)[own]
    if ((numbers >= instructions) & (numbers != MAX_INSTRUCTION)).any():
        raise ValueError(f"a record names an instruction beyond the {instructions} of the program")
    blocks = own & (kinds <= Kind.STORE)
    strided = blocks & (flags & FLAG_STRIDED != 0)
    counts = records[strided, 1] & MAX_STRIDED
    if (counts == 0).any() or (amounts[strided] % np.maximum(counts, 1)).any() or (flags[strided] & FLAG_EXTENT).any():
        raise ValueError("a strided transfer does not have whole segments")
    announced = np.flatnonzero(blocks & (flags & FLAG_EXTENT != 0))
    if announced.size and announced[-1] + 1 == trace.records:
        raise ValueError("a transfer lacks its extent")
    sizes, planes = records[announced + 1, 0], records[announced + 1, 2] & 0xFFFF
    rows = (sizes & _LOW_WORD) * np.minimum(sizes >> 32 & _LOW_WORD, 1 << 25)
    if (np.minimum(rows, 1 << 25) * planes != amounts[announced]).any():
        raise ValueError("a transfer's extent does not hold its bytes")
    _check_programs(trace, kinds, is_extent)


def _check_programs(trace: Trace, kinds: NDArray[np.int64], is_extent: NDArray[np.bool_]) -> None:
    """Programs lie one behind the other, and the last record of each is its END."""
    if trace.starts[0] or (np.diff(trace.starts) <= 0).any():
        raise ValueError("programs do not follow each other")
    if trace.starts[-1] >= trace.records or is_extent[trace.starts].any():
        raise ValueError("a program starts at no record")
    ends = np.flatnonzero(~is_extent & (kinds == Kind.END))
    expected = np.append(trace.starts[1:], trace.records) - 1
    if not np.array_equal(ends, expected):
        raise ValueError("a program does not end, or ends twice")


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _packed(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _unpacked(content: bytes) -> NDArray[np.int64]:
    return _array(content, np.int64)


def _array(content: bytes, dtype: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.dtype != dtype:
        raise ValueError(f"an array is of {array.dtype}, not of {np.dtype(dtype)}")
    return array


def _corrupt(path: Path, fact: str) -> ProgramError:
    return ProgramError(
        "E0405",
        f"no recording of a launch: {fact}",
        location=Location(str(path), 0),
        help='record the launch again: run.save("NAME.mlurun"), or mlutriton profile --recordings DIRECTORY',
    )
