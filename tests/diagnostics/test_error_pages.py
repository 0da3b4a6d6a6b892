"""Every error code has one page, whose examples fail and are mended as it says."""

import re
import sys
from pathlib import Path

import pytest

from mlutriton.diagnostics import CODES

sys.path.insert(0, str(Path(__file__).parent))
import pages

PAGES = pages.pages()


def test_every_code_has_a_page_and_every_page_a_code():
    assert sorted(PAGES) == sorted(CODES)


@pytest.mark.parametrize("code", PAGES)
def test_examples_print_what_the_page_shows(code):
    page = PAGES[code]
    assert page.startswith(f"# {code}: {CODES[code]}\n")
    assert pages.filled(page) == page


@pytest.mark.parametrize("code", PAGES)
def test_a_page_shows_its_error_and_a_remedy(code):
    failing, fixed = re.split(r"^## Instead$", PAGES[code], flags=re.MULTILINE)
    assert f"```text\nerror[{code}]: " in failing
    assert "```python\n" in fixed
    assert "```text\n" not in fixed


def test_the_index_lists_every_page():
    index = (pages.DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\[(E\d{4})\]\(E\d{4}\.md\): (.*)", index) == list(CODES.items())


def test_an_unexpected_error_fails_a_page():
    with pytest.raises(AssertionError, match="E0105"):
        pages.filled("```python\nimport mlutriton\nmlutriton.set_machine('none')\n```\n\nno text block\n")
