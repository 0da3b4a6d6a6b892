"""Runs a script or a module as Python would, and comes back when it is over, however it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_RUNPY = (runpy.__file__, "<frozen runpy>")
# In what torch says of devices that are not there: it raises many classes, and those of its own are not imported here.
_MISSING_DEVICE = re.compile(
    r"not compiled with CUDA|compiled without CUDA|no NVIDIA driver|No (CUDA|HIP) GPUs|at start of device string"
    r"|with support for \w+ devices"
)
_REMEDY = (
    "  help: kernels work on tensors of the host: device='cpu',"
    " or triton.runtime.driver.active.get_active_torch_device(), which any machine has;"
    " for synchronize and Event, torch.cuda is triton.runtime.driver.active.get_device_interface()"
)
# What a shell says of a process that Ctrl-C ended.
INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        status: the exit status that Python would have given.
        traceback: what Python would have printed on the error stream; empty if it ended well. If torch was asked for a
            device that is not there, it ends in what to ask for.
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
    with _as_main([str(path), *arguments], path.resolve().parent):
        sys.modules["__main__"] = module
        return _outcome(lambda: exec(compile(content, file, "exec"), module.__dict__))


def run_module(name: str, arguments: Sequence[str]) -> Outcome:
    """Run a module as ``__main__``, as ``python -m`` does: it is looked for in the current directory first."""
    with _as_main(["-m", *arguments], Path.cwd()):
        return _outcome(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True))


def module_exists(name: str) -> bool:
    """True if there is such a module to run; the packages that it is in are imported to find out."""
    with _as_main(["-m"], Path.cwd()):
        try:
            return importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            return False


def _outcome(run: Callable[[], object]) -> Outcome:
    """How a script ends that is run by a function.

    A process that the script has forked, and that comes to the end of the script as well, ends there.
    """
    process = os.getpid()
    outcome = _ended(run)
    if os.getpid() != process:
        sys.stdout.flush()
        sys.stderr.write(outcome.traceback)
        sys.stderr.flush()
        os._exit(outcome.status)
    return outcome


def _ended(run: Callable[[], object]) -> Outcome:
    try:
        run()
    except SystemExit as end:
        return _exit(end)
    except KeyboardInterrupt as end:
        return Outcome(INTERRUPTED, _own_traceback(end))
    except BaseException as problem:
        return Outcome(1, _own_traceback(problem))
    return Outcome(0)


@contextlib.contextmanager
def _as_main(argv: Sequence[str], directory: Path) -> Generator[None]:
    before = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.argv = list(argv)
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before


def _exit(end: SystemExit) -> Outcome:
    if end.code is None or isinstance(end.code, int):
        return Outcome(end.code or 0)
    return Outcome(1, f"{end.code}\n")


def _own_traceback(problem: BaseException) -> str:
    """The traceback from the script's own first line on, as if nothing had called it, with a remedy if one is known."""
    frames = problem.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, *_RUNPY):
        frames = frames.tb_next
    if _MISSING_DEVICE.search(str(problem)):
        problem.add_note(_REMEDY)
    return "".join(traceback.format_exception(type(problem), problem, frames))
