"""Runs the code of a page and fills in what it shows.

A page is Markdown with live text:

* ``python`` blocks are run in order, as if they stood in one file named like the page; a ``text`` block right below one
  shows what it printed;
* a block with a name behind its language, as ``asm NAME`` and ``python NAME``, becomes the file of that name;
* each line of a ``console`` block that begins with ``$`` is a command, which is run; below it stands what it printed;
* a block right below ``<!-- shown: expression -->`` shows the value of the expression, which sees the names that the
  code has defined and the functions of :mod:`excerpts`.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import excerpts

import mlutriton as mlu
from mlutriton.configuration import DUMP_VARIABLE, ENGINE_VARIABLE
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME

_BLOCK = re.compile(r"^```(?P<head>(?P<language>\w*)(?: (?P<file>\S+))?)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands find the interpreter of this process and those installed beside it, and a console of a fixed width.
_CONSOLE = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "COLUMNS": "110",
    "NO_COLOR": "1",
    "PYTHONPATH": "",
}
_COMMAND_SECONDS = 100
_SHOWN = re.compile(r"<!-- shown: (.*) -->\n\Z")


def filled(page: str, name: str) -> str:
    """The page with every shown text as the code makes it today; ``name`` is that of its imaginary Python file."""
    pieces: list[str] = []
    end = 0
    printed: str | None = None
    with _surroundings():
        module = _Module(name)
        for block in _BLOCK.finditer(page):
            between = page[end : block.start()]
            shown = _SHOWN.search(between)
            text = block["text"]
            if shown:
                text, printed = module.value(shown[1]), None
            elif block["file"]:
                Path(block["file"]).write_text(text, encoding="utf-8")
                printed = None
            elif block["language"] == "python":
                printed = module.run(text)
            elif block["language"] == "console":
                text, printed = _console(text), None
            else:
                if block["language"] == "text" and printed is not None and not between.strip():
                    text = printed
                printed = None
            pieces += [between, f"```{block['head']}\n{text}```"]
            end = block.end()
    return "".join(pieces) + page[end:]


def _console(text: str) -> str:
    """A console with the output of its commands as it is today; a command that fails is shown as it fails."""
    lines: list[str] = []
    commands = [line for line in text.splitlines() if line.startswith("$ ")]
    for command in commands:
        done = subprocess.run(
            command[2:],
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
            env=os.environ | _CONSOLE,
        )
        lines += [command, *(line.rstrip() for line in done.stdout.rstrip().splitlines())]
    return "".join(f"{line}\n" for line in lines)


class _Module:
    """The imaginary module of a page: its source grows block by block."""

    def __init__(self, name: str) -> None:
        self.module = ModuleType(name)
        self.file = f"{name}.py"
        self.source = ""
        # Triton finds the globals of a kernel through its module.
        sys.modules[name] = self.module

    def run(self, code: str) -> str:
        """Run a block and return what it printed."""
        above = self.source.count("\n")
        self.source += code
        # Triton reads the text of a kernel through linecache; an entry without a time is never looked for on disk.
        linecache.cache[self.file] = (len(self.source), None, self.source.splitlines(keepends=True), self.file)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile("\n" * above + code, self.file, "exec"), self.module.__dict__)
        return output.getvalue()

    def value(self, expression: str) -> str:
        """The text of an expression, which ends with its line."""
        names = {name: getattr(excerpts, name) for name in excerpts.__all__}
        return str(eval(expression, names | self.module.__dict__)).rstrip() + "\n"


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """A directory of its own, the default machine, and a compiler that finds nothing compiled and dumps its stages."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        os.environ[DUMP_VARIABLE] = str(Path(directory) / excerpts.DUMPS)
        os.environ["TRITON_CACHE_DIR"] = str(Path(directory) / "triton")
        os.environ.pop(ENGINE_VARIABLE, None)
        mlu.set_machine(DEFAULT_MACHINE_NAME)
        sys.path.insert(0, directory)  # the files of a page import each other
        try:
            yield
        finally:
            sys.path.remove(directory)
            os.environ.clear()
            os.environ.update(environment)
            mlu.set_machine(DEFAULT_MACHINE_NAME)
