"""Runs the .ir files of this directory.

The first line names the mode: ``; mode:`` and passes to run in order, ``verify`` (the text parses, and breaks the
invariant on the line with ``; ERROR:``) or ``parse`` (it does not parse, on that line). A file holds one or more
functions. After passes, each ``; CHECK:`` must stand in the printed text, in order, and no ``; CHECK-NOT:`` may.
Passes must not change what a function's text says otherwise: the result is verified.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from mlutriton.diagnostics import CompileError
from mlutriton.ir.core import Function
from mlutriton.ir.parser import parse_function
from mlutriton.ir.printer import print_function
from mlutriton.ir.verifier import verify

FILES = sorted(Path(__file__).parent.glob("*.ir"))


def functions(text: str) -> list[str]:
    return [part for part in re.split(r"(?m)^(?=func )", text) if part.startswith("func ")]


CASES = [
    pytest.param(path, section, id=f"{path.stem}-{section.split('@')[1].split('(')[0]}")
    for path in FILES
    for section in functions(path.read_text())
]


def mode_of(path: Path) -> list[str]:
    first = path.read_text().splitlines()[0]
    assert first.startswith("; mode: "), f"{path.name} does not name its mode"
    return first.removeprefix("; mode: ").split()


def run_pass(name: str, function: Function) -> None:
    importlib.import_module(f"mlutriton.ir.passes.{name}").run(function)
    verify(function, name)


@pytest.mark.parametrize(("path", "section"), CASES)
def test_file(path: Path, section: str) -> None:
    mode = mode_of(path)
    if mode in (["verify"], ["parse"]):
        check_error(section, parses=mode == ["verify"])
        return
    function = parse_function(section, path.name)
    verify(function)
    for name in mode:
        run_pass(name, function)
    check_text(section, print_function(function))


def check_error(section: str, *, parses: bool) -> None:
    (number, expected) = next(
        (i, line.split("; ERROR: ")[1]) for i, line in enumerate(section.splitlines(), 1) if "; ERROR: " in line
    )
    if not parses:
        with pytest.raises(CompileError) as caught:
            parse_function(section)
        assert expected in caught.value.summary
        assert caught.value.location is not None
        assert caught.value.location.line == number
        return
    function = parse_function(section)
    with pytest.raises(CompileError) as caught:
        verify(function, "a test")
    assert expected in caught.value.summary
    assert "after a test" in caught.value.summary
    lines = caught.value.note.splitlines()
    complaint = next(i for i, line in enumerate(lines) if line.strip().startswith("^ "))
    assert complaint == number, "the complaint stands below the wrong line"


def check_text(section: str, text: str) -> None:
    rest = text
    expectations = re.findall(r"; (CHECK|CHECK-NOT): (.*)", section)
    assert expectations
    for kind, pattern in expectations:
        if kind == "CHECK-NOT":
            assert pattern not in text
            continue
        assert pattern in rest, f"{pattern!r} is missing, or out of order, in\n{text}"
        rest = rest[rest.index(pattern) + len(pattern) :]
