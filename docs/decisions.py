"""The index of the decision records."""

from __future__ import annotations

from pathlib import Path

RECORDS = Path(__file__).parent / "adr"


def render() -> str:
    """The page: every record's title, in the order of their numbers."""
    pages = sorted(page for page in RECORDS.glob("*.md") if page.name != "README.md")
    titles = [page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages]
    listed = "\n".join(f"* [{title}]({page.name})" for title, page in zip(titles, pages, strict=True))
    return f"""# Decisions

Written by `make docs`. One page for each decision that was not obvious: what was known, what was decided, on which
evidence.

{listed}
"""
