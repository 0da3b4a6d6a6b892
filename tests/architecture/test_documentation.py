"""Pages show what the code does today, and name what exists."""

import ast
import re
import subprocess
import sys

import pytest

from mlutriton.testing import load_examples

PAGES = ("README.md", "README.zh-CN.md", "docs/ARCHITECTURE.md", "docs/tutorial/first-kernel.md")
ARCHITECTURE_LINES = 250


def test_generated_pages_are_fresh(repository):
    command = [sys.executable, "docs/generate.py", "--check"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def filled(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "docs")
    import execution

    return execution.filled


PAGE = """\
```python
x = 2
print(x)
```

```text
{printed}```

<!-- shown: x + 1 -->
```text
{shown}```

```text
kept
```
"""


def test_a_page_shows_what_its_code_prints(filled):
    assert filled(PAGE.format(printed="old\n", shown=""), "page") == PAGE.format(printed="2\n", shown="3\n")


def test_code_that_fails_fails_the_page(filled):
    with pytest.raises(ZeroDivisionError):
        filled("```python\nassert True\n1 / 0\n```\n", "page")


def test_links_lead_somewhere(repository):
    pages = [repository / name for name in PAGES] + sorted((repository / "docs" / "adr").glob("*.md"))
    pages += sorted((repository / "docs" / "how-to").glob("*.md"))
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose(page))
        if not target.startswith("https://")
    ]
    dead = [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert links
    assert not dead


def prose(page):
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_every_test_that_is_named_exists(repository):
    text = (repository / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 10
    missing = [(file, name) for file, name in named if name not in functions(repository / file)]
    assert not missing


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_code_map_is_complete(repository):
    text = (repository / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"^\| `([\w.]+)/?` \|", text, re.MULTILINE))
    package = repository / "mlutriton"
    parts = {path.name for path in package.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"}
    assert mapped == parts - {"__init__.py"}


def test_the_architecture_is_read_at_one_go(repository):
    text = (repository / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= ARCHITECTURE_LINES
    assert "(adr/README.md)" in text


def test_decisions_have_numbers_of_their_own(repository):
    records = [page.name for page in (repository / "docs" / "adr").glob("0*.md")]
    numbers = [name[:4] for name in records]
    assert len(set(numbers)) == len(numbers) > 0


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_lists_every_variable(repository, page):
    sources = (repository / "mlutriton").rglob("*.py")
    read = {name for file in sources for name in re.findall(r'"(MLUTRITON_\w+)"', file.read_text(encoding="utf-8"))}
    listed = re.findall(r"^\| `(MLUTRITON_\w+)` \|", (repository / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(read)


def test_the_chinese_readme_keeps_in_step(repository):
    def skeleton(page):
        text = (repository / page).read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        code = [(language, body) for language, body in blocks if language != "sh"]
        listed = [len(re.findall(r"^(?:\* |\| )", section, re.MULTILINE)) for section in text.split("\n## ")]
        links = sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"})
        return code, listed, links

    assert skeleton("README.zh-CN.md") == skeleton("README.md")


def test_the_picture_is_of_today(repository):
    """Every example has its row; that the figures are fresh is seen by the example that runs fastest."""
    shown = (repository / "docs" / "images" / "demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    cases = [case for example in load_examples(repository / "examples") for case in example.cases]
    fastest = next(case for case in cases if case.label == "vector_add 98432 fp32")
    expected = [case.shape for case in cases] + [f"{fastest.run().run.cycles:,}"]
    missing = [text for text in expected if text not in shown]
    assert not missing, "run: mlutriton demo --svg docs/images/demo.svg"
