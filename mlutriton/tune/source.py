"""Python files that hold what is tuned: ``FILE.py::NAME``."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mlutriton.diagnostics import ArgumentError, MluError
from mlutriton.kernel_file import SEPARATOR, kernel_of, load_module

_loading = threading.RLock()


@dataclass(frozen=True)
class SourceFile:
    """A Python file with its text, so that a machine that has no such file can have one.

    Attributes:
        path: where it is, or was.
        text: what is in it.
    """

    path: str
    text: str

    @staticmethod
    def at(path: str | Path) -> SourceFile:
        """The file of a path.

        Raises:
            ArgumentError: E0501, it cannot be read.
        """
        try:
            return SourceFile(str(Path(path).resolve()), Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is no text"
            raise ArgumentError("E0501", f"cannot read {path}: {reason}", help="type FILE.py::KERNEL") from None

    @property
    def digest(self) -> str:
        """Names the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def module(self) -> ModuleType:
        """The file as a module; it is run once in a process.

        Raises:
            ArgumentError: E0501, running it failed.
        """
        with _loading:
            return _module(self)


@lru_cache(maxsize=64)
def _module(file: SourceFile) -> ModuleType:
    path = Path(file.path)
    if not (path.is_file() and path.read_text(encoding="utf-8") == file.text):
        path = Path(tempfile.mkdtemp(prefix="mlutriton-tune-")) / path.name
        path.write_text(file.text, encoding="utf-8")
    try:
        return load_module(path)
    except MluError:
        raise
    except Exception as problem:
        raise ArgumentError(
            "E0501",
            f"running {file.path} failed: {type(problem).__name__}: {problem}",
            note=place_in(problem, file.path),
            help=f"python {file.path} shows where",
        ) from problem


def place_in(problem: BaseException, path: str) -> str:
    """The innermost line of a file that an exception came through; empty if it came through none."""
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    return f"at {path}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""


def split(reference: str) -> tuple[str, str]:
    """File and name of ``FILE.py::NAME``; the name may be missing."""
    path, _, name = reference.partition(SEPARATOR)
    return path, name


def kernel_named(file: SourceFile, name: str) -> Any:
    """A kernel of a file: that of the name, or the only one.

    Raises:
        ArgumentError: E0111, there is none; E0501, the file cannot be run.
    """
    return kernel_of(file.module(), Path(file.path).name, name)


def function_named(names: Mapping[str, Any], name: str, where: str) -> Callable[..., Any]:
    """A function of a module.

    Args:
        names: what the module defines.
        name: of the function.
        where: what messages call the module.

    Raises:
        ArgumentError: E0501, there is none of that name.
    """
    found = names.get(name)
    if callable(found):
        return found
    close = get_close_matches(name, [key for key, value in names.items() if inspect.isfunction(value)], n=1)
    raise ArgumentError(
        "E0501",
        f"{where} has no function {name}",
        help=f"did you mean {close[0]}?" if close else "name one: --launch FILE.py::FUNCTION",
    )
