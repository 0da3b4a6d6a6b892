"""Which files of its own directory a Python file imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_PACKAGE_FILE = "__init__.py"
# Every process that tunes has it.
_OWN_PACKAGE = __name__.partition(".")[0]


def imported_files(directory: Path, text: str) -> dict[str, str]:
    """What a Python text imports from a directory, and what that imports from there: texts by path from it.

    Packages count with what stands in the ``__init__.py`` on the way to a module. What is imported by a name that is
    made at run time is not seen.
    """
    found: dict[str, str] = {}
    pending: list[tuple[tuple[str, ...], str]] = [((), text)]
    while pending:
        package, current = pending.pop()
        for parts in _imports(current, package):
            if parts[0] == _OWN_PACKAGE:
                continue
            for count in range(1, len(parts) + 1):
                path = _module_file(directory, parts[:count])
                name = "" if path is None else path.relative_to(directory).as_posix()
                if path is None or name in found:
                    continue
                try:
                    found[name] = path.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError):
                    continue  # what cannot be read is told by the import
                inside = parts[:count] if path.name == _PACKAGE_FILE else parts[: count - 1]
                pending.append((inside, found[name]))
    return dict(sorted(found.items()))


def _module_file(directory: Path, parts: tuple[str, ...]) -> Path | None:
    for path in (directory.joinpath(*parts, _PACKAGE_FILE), directory.joinpath(*parts).with_suffix(".py")):
        if path.is_file():
            return path
    return None


def module_parts(name: str) -> tuple[str, ...]:
    """Names of package and module that a path from the directory of imports stands for."""
    parts = Path(name).with_suffix("").parts
    return parts[:-1] if f"{parts[-1]}.py" == _PACKAGE_FILE else parts


def _imports(text: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every module that a text may import, as parts of its name; of ``from a import b`` also ``a.b``."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(each.name.split(".")) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from ((*module, each.name) for each in node.names)
