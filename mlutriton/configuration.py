"""What a process simulates and how: the current machine, the engine, the host threads, and the environment behind them.

================================  ======================================================================================
``MLUTRITON_MACHINE``             machine at the start: a preset's name, or the path of a machine file
``MLUTRITON_THREADS``             host threads that run programs; by default as many as the process may use
``MLUTRITON_ENGINE``              ``native`` (the default), or ``interpreter``: slow, finds races, unset reads on chip
``MLUTRITON_CACHE_DIR``           directory of compiled code; by default ``mlutriton`` in the user's cache directory
``MLUTRITON_DUMP``                directory to write every stage of every compilation to, as text
``MLUTRITON_VERIFY``              if set, the compiler checks its work after every stage, as it does for a dump
``MLUTRITON_PROGRESS``            ``0``: nothing is said on a terminal while something takes long
``MLUTRITON_LAUNCHES``            directories to record launches in: how ``mlutriton profile`` follows child processes
``MLUTRITON_BLOCK_POINTERS``      if set, kernels may use ``tl.make_block_ptr``, which Triton 3.9 removed
``MLUTRITON_CAMBRICON_LANGUAGE``  if set, plain ``triton.jit`` kernels may use what Cambricon's Triton adds
================================  ======================================================================================
"""

from __future__ import annotations

import hashlib
import os
import time
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path

from mlutriton.diagnostics import ArgumentError
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME, Machine, machine, machine_names

MACHINE_VARIABLE = "MLUTRITON_MACHINE"
THREADS_VARIABLE = "MLUTRITON_THREADS"
ENGINE_VARIABLE = "MLUTRITON_ENGINE"
DUMP_VARIABLE = "MLUTRITON_DUMP"
VERIFY_VARIABLE = "MLUTRITON_VERIFY"
LAUNCHES_VARIABLE = "MLUTRITON_LAUNCHES"
WARP_SIZE_VARIABLE = "MLUTRITON_WARP_SIZE"
BLOCK_POINTERS_VARIABLE = "MLUTRITON_BLOCK_POINTERS"
CAMBRICON_LANGUAGE_VARIABLE = "MLUTRITON_CAMBRICON_LANGUAGE"

MAXIMUM_THREADS = 1024

_IMPORTED_NS = time.time_ns()


class Engine(Enum):
    """What computes the values of a launch."""

    NATIVE = "native"
    INTERPRETER = "interpreter"


_NATIVE = Engine.NATIVE  # to find a member takes as long as to look for the variable

# What is behind ``os.environ``. Every launch asks: to ask that or the C library takes several times as long.
_environment: dict[bytes, bytes] = vars(os.environ)["_data"]

_current: Machine | None = None


def current_machine() -> Machine:
    """The machine that launches are compiled for and simulated on.

    Raises:
        ArgumentError: E0109 if ``MLUTRITON_MACHINE`` names no machine.
    """
    return _current if _current is not None else set_machine(_machine_of_environment())


def set_machine(chosen: Machine | str | Path) -> Machine:
    """Make a machine the current one: an object, a preset's name, or the path of a machine file.

    Raises:
        ArgumentError: E0105 for an unknown name or file, E0106 for a file that is no legal machine.
    """
    global _current
    _current = chosen if isinstance(chosen, Machine) else find_machine(chosen)
    return _current


def find_machine(name_or_path: str | Path) -> Machine:
    """The preset of a name, or the machine of a file.

    Raises:
        ArgumentError: E0105 for an unknown name or file, E0106 for a file that is no legal machine.
    """
    if not isinstance(name_or_path, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
        raise ArgumentError("E0105", f"a machine is named by a text or a path, not by {name_or_path!r}")
    if isinstance(name_or_path, str) and name_or_path in machine_names():
        return machine(name_or_path)
    return Machine.load(name_or_path)


def _machine_of_environment() -> Machine:
    name = os.environ.get(MACHINE_VARIABLE) or DEFAULT_MACHINE_NAME
    try:
        return find_machine(name)
    except ArgumentError as error:
        raise ArgumentError(
            "E0109", f"{MACHINE_VARIABLE} is {name!r}, which is no machine", note=error.summary, help=error.help
        ) from error


def threads() -> int:
    """Host threads that run programs.

    Raises:
        ArgumentError: E0109 if ``MLUTRITON_THREADS`` is not a number of threads.
    """
    return _count(THREADS_VARIABLE, MAXIMUM_THREADS, _available_threads())


def warp_size() -> int:
    """The threads of a warp as kernels of GPUs see them; 1, as a program is one stream of instructions, unless told.

    Raises:
        ArgumentError: E0109 if ``MLUTRITON_WARP_SIZE`` is not such a number.
    """
    return _count(WARP_SIZE_VARIABLE, MAXIMUM_THREADS, 1)


def _count(variable: str, maximum: int, default: int) -> int:
    found = _environment.get(variable.encode())
    return _number(variable, maximum, default, found) if found else default


@lru_cache(maxsize=16)
def _number(variable: str, maximum: int, default: int, found: bytes) -> int:
    text = os.fsdecode(found)
    if text.isdecimal() and 1 <= int(text) <= maximum:
        return int(text)
    raise ArgumentError(
        "E0109",
        f"{variable} is {text!r}",
        help=f"set it to an integer from 1 to {maximum}, or unset it to use {default}",
    )


@cache
def _available_threads() -> int:
    return len(os.sched_getaffinity(0))


def engine() -> Engine:
    """What computes the values of a launch.

    Raises:
        ArgumentError: E0109 if ``MLUTRITON_ENGINE`` names no engine.
    """
    found = _environment.get(ENGINE_VARIABLE.encode())
    if not found:
        return _NATIVE
    text = os.fsdecode(found)
    try:
        return Engine(text)
    except ValueError:
        raise ArgumentError(
            "E0109",
            f"{ENGINE_VARIABLE} is {text!r}",
            help="set it to " + " or ".join(each.value for each in Engine),
        ) from None


def dump_directory() -> Path | None:
    """Where stages of compilations are to be written, if anywhere."""
    text = os.environ.get(DUMP_VARIABLE)
    return Path(text) if text else None


def verifies_stages() -> bool:
    """Whether the compiler is to check its work after every stage, so that what breaks it is known by name."""
    return bool(os.environ.get(VERIFY_VARIABLE)) or dump_directory() is not None


@cache
def source_hash() -> str:
    """Names the state of the package's own sources, so that code which another state compiled is not taken for its own.

    Files are told apart by size and time of change: reading all of them would cost more than a launch. If one was
    changed since the package was imported, what runs is in no file any more, and shares its name with no other process.
    """
    package = os.path.dirname(__file__)  # noqa: PTH120
    found: list[tuple[str, int, int]] = []
    directories, begin = [package], len(package)
    # Objects of paths take three times as long, in every process.
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".py"):
                    status = entry.stat()
                    found.append((entry.path[begin:], status.st_size, status.st_mtime_ns))
                elif name != "__pycache__" and entry.is_dir():
                    directories.append(entry.path)
    found.sort()
    now_ns = time.time_ns()
    # What is of the future is no change, but of a host whose clock goes ahead.
    if any(_IMPORTED_NS < changed_ns <= now_ns for *_, changed_ns in found):
        found.append((f"process {os.getpid()}", 0, now_ns))
    return hashlib.sha256(repr(found).encode()).hexdigest()
