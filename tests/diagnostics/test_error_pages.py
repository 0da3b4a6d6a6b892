"""Every error code has one page, whose examples fail and are mended as it says.

Blocks of a page are run in order, in an empty directory: ``asm NAME`` and ``toml NAME`` blocks become files, a
``python`` block becomes ``example.py`` and is run. A ``text`` block below it is the error that it ends with; without
one it ends without an error. Addresses are printed as ``0x...``.

``python tests/diagnostics/test_error_pages.py`` writes what is printed today into the pages.
"""

import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
from pathlib import Path

import pytest

import mlutriton as mlu
from mlutriton.diagnostics import CODES
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME
from mlutriton.simulator import execution

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference" / "errors"
# So that a trace without end is full soon, everywhere at the same size.
TRACE_BYTES = 1 << 24

_BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<file>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def pages():
    """Every page by its code."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(DIRECTORY.glob("E*.md"))}


PAGES = pages()


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
            # Examples say that a package is missing by an entry without a module.
            for missing in [module for module, found in sys.modules.items() if found is None]:
                del sys.modules[missing]


def test_every_code_has_a_page_and_every_page_a_code():
    assert sorted(PAGES) == sorted(CODES)


@pytest.mark.parametrize("code", PAGES)
def test_examples_print_what_the_page_shows(code):
    page = PAGES[code]
    assert page.startswith(f"# {code}: {CODES[code]}\n")
    assert filled(page) == page


@pytest.mark.parametrize("code", PAGES)
def test_a_page_shows_its_error_and_a_remedy(code):
    failing, fixed = re.split(r"^## Instead$", PAGES[code], flags=re.MULTILINE)
    assert f"```text\nerror[{code}]: " in failing
    assert "```python\n" in fixed
    assert "```text\n" not in fixed


def test_the_index_lists_every_page():
    index = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\[(E\d{4})\]\(E\d{4}\.md\): (.*)", index) == list(CODES.items())


def test_an_unexpected_error_fails_a_page():
    with pytest.raises(AssertionError, match="E0105"):
        filled("```python\nimport mlutriton\nmlutriton.set_machine('none')\n```\n\nno text block\n")


if __name__ == "__main__":
    for code, page in PAGES.items():
        (DIRECTORY / f"{code}.md").write_text(filled(page), encoding="utf-8")
