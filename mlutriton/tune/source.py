"""Python files that hold what is tuned: ``FILE.py::NAME``."""

from __future__ import annotations

import atexit
import hashlib
import inspect
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mlutriton.diagnostics import ArgumentError
from mlutriton.kernel_file import SEPARATOR, kernel_of, load_module
from mlutriton.tune.imports import imported_files, module_parts

_loading = threading.RLock()


@dataclass(frozen=True)
class SourceFile:
    """A Python file with its text and what it imports from its directory, for machines that have no such files.

    Attributes:
        path: where it is, or was.
        text: what is in it.
        neighbours: path from its directory and text of each file that it imports from there, or that these import.
    """

    path: str
    text: str
    neighbours: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def at(path: str | Path) -> SourceFile:
        """The file of a path.

        Raises:
            ArgumentError: E0501, it cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is no text"
            raise ArgumentError("E0501", f"cannot read {path}: {reason}", help="type FILE.py::KERNEL") from None
        resolved = Path(path).resolve()
        return SourceFile(str(resolved), text, tuple(imported_files(resolved.parent, text).items()))

    @property
    def digest(self) -> str:
        """Names the text, and those of its neighbours."""
        texts = (self.text, *self.neighbours) if self.neighbours else (self.text,)
        return hashlib.sha256("\0".join(map(str, texts)).encode()).hexdigest()

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
    if not _is_there(file, path):
        path = _copied(file)
    _forget_others(file)
    return load_module(path, "E0501")


def _is_there(file: SourceFile, path: Path) -> bool:
    """True if the files at a path are those that were read elsewhere, or here."""
    try:
        here = [path.read_text(encoding="utf-8")]
        here += [(path.parent / name).read_text(encoding="utf-8") for name, _ in file.neighbours]
    except (OSError, UnicodeDecodeError):
        return False
    return here == [file.text, *(text for _, text in file.neighbours)]


def _copied(file: SourceFile) -> Path:
    """The files in a directory of their own, which goes when this process ends."""
    directory = Path(tempfile.mkdtemp(prefix="mlutriton-tune-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for name, text in ((Path(file.path).name, file.text), *file.neighbours):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    return directory / Path(file.path).name


# The text of each module that the files of searches have imported from their directories.
_imported: dict[str, str] = {}


def _forget_others(file: SourceFile) -> None:
    """Let a file import its own neighbours, where those of an earlier search have the same names but other texts."""
    named = {".".join(module_parts(name)): text for name, text in file.neighbours}
    for name, text in named.items():
        if _imported.get(name, text) != text:
            top = name.partition(".")[0]
            for each in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
                # Byte code of a text as long that was written in the same second passes for that of the new one.
                byte_code = getattr(sys.modules.pop(each), "__cached__", None)
                if byte_code is not None:
                    with suppress(OSError):
                        Path(byte_code).unlink(missing_ok=True)
    _imported.update(named)


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
