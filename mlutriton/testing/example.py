"""Examples: Python files that each teach one kernel and list cases that check it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlutriton.kernel_file import load_module
from mlutriton.testing.case import Case


@dataclass(frozen=True)
class Example:
    """One example file.

    Attributes:
        name: the file's name without its ending.
        summary: first line of the file's docstring.
        cases: what the file's ``cases()`` lists.
    """

    name: str
    summary: str
    cases: tuple[Case, ...]


def load_examples(path: Path) -> list[Example]:
    """Load an example file, or every one of a directory in the order of their names.

    Raises:
        FileNotFoundError: there is no example at ``path``.
        AttributeError: a file has no ``cases()``.
    """
    files = sorted(path.glob("[!_]*.py")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"no example (*.py) in {path}")
    return [_load(file) for file in files]


def _load(file: Path) -> Example:
    if not file.is_file():
        raise FileNotFoundError(f"no example file {file}")
    module = load_module(file)
    cases = cast("Callable[[], list[Case]]", module.cases)
    summary = (inspect.getdoc(module) or "").partition("\n")[0]
    return Example(file.stem, summary, tuple(cases()))
