"""The pages of error codes, and what their examples print today.

Blocks of a page are run in order, in an empty directory: ``asm NAME`` and ``toml NAME`` blocks become files, a ``python``
block becomes ``example.py`` and is run. A ``text`` block below it is the error that it ends with; without one it ends
without an error. Addresses are printed as ``0x...``.

``python tests/diagnostics/pages.py`` writes what is printed into the pages.
"""

import contextlib
import io
import os
import re
import runpy
import tempfile
from pathlib import Path

import mlutriton as mlu
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME
from mlutriton.simulator import execution

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference" / "errors"
# So that a trace without end is full soon, everywhere at the same size.
TRACE_BYTES = 1 << 24

_BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<file>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def pages():
    """Every page by its code."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(DIRECTORY.glob("E*.md"))}


def filled(page):
    """The page with the errors that its examples end with today."""
    pieces, end, error = [], 0, ""
    with _surroundings() as directory:
        for block in _BLOCK.finditer(page):
            text = block["text"]
            if block["language"] == "python":
                error = _error_of(text, directory)
            elif block["language"] == "text":
                text, error = error or "no error\n", ""
            elif block["file"]:
                (directory / block["file"]).write_text(text, encoding="utf-8")
            if error and not page[block.end() :].lstrip().startswith("```text"):
                raise AssertionError(error)
            pieces += [page[end : block.start("text")], text]
            end = block.end("text")
    return "".join(pieces) + page[end:]


def _error_of(code, directory):
    example = directory / "example.py"
    example.write_text(code, encoding="utf-8")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(example), run_name="example")
    except mlu.MluError as error:
        text = re.sub(r"0x[0-9a-f]{6,}", "0x...", str(error))
        return text.replace(f"{directory}{os.sep}", "") + "\n"
    return ""


@contextlib.contextmanager
def _surroundings():
    environment, limit = dict(os.environ), execution.recorded_bytes_limit
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        execution.recorded_bytes_limit = lambda: TRACE_BYTES
        mlu.set_machine(DEFAULT_MACHINE_NAME)
        try:
            yield Path(name).resolve()
        finally:
            execution.recorded_bytes_limit = limit
            os.environ.clear()
            os.environ.update(environment)
            mlu.set_machine(DEFAULT_MACHINE_NAME)


if __name__ == "__main__":
    for code, page in pages().items():
        (DIRECTORY / f"{code}.md").write_text(filled(page), encoding="utf-8")
