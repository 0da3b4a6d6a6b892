"""Runs a script as Python would, and comes back when it is over, however it ends."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# What a shell says of a process that Ctrl-C ended.
INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        status: the exit status that Python would have given.
        traceback: what Python would have printed on the error stream; empty if it ended well.
    """

    status: int
    traceback: str = ""


def run_script(path: Path, arguments: Sequence[str]) -> Outcome:
    """Run a file as ``__main__``.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    # As Python names it, so that its lines are still found when the script changes directory.
    file = str(path.absolute())
    module = ModuleType("__main__")
    module.__dict__.update(__file__=file, __builtins__=__builtins__)
    with _as_main(module, path, arguments):
        try:
            exec(compile(content, file, "exec"), module.__dict__)
        except SystemExit as end:
            return _exit(end)
        except KeyboardInterrupt as end:
            return Outcome(INTERRUPTED, _own_traceback(end))
        except BaseException as problem:
            return Outcome(1, _own_traceback(problem))
    return Outcome(0)


@contextlib.contextmanager
def _as_main(module: ModuleType, path: Path, arguments: Sequence[str]) -> Generator[None]:
    main, argv, search = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.modules["__main__"] = module
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = main, argv, search


def _exit(end: SystemExit) -> Outcome:
    if end.code is None or isinstance(end.code, int):
        return Outcome(end.code or 0)
    return Outcome(1, f"{end.code}\n")


def _own_traceback(problem: BaseException) -> str:
    """The traceback from the script's own first line on, as if nothing had called it."""
    frames = problem.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(problem), problem, frames))
