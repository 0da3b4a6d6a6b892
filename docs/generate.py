"""Writes the generated reference pages; with ``--check`` compares them with the committed ones instead."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

REFERENCE = Path(__file__).parent / "reference"

# Each page is the text that its module's render() returns.
PAGES = {
    "ir.md": "mlutriton.ir.reference",
    "isa.md": "mlutriton.isa.manual",
    "machines.md": "mlutriton.isa.machine_reference",
}


def stale_pages() -> list[str]:
    """Names of the pages whose committed text is not what the code renders."""
    return [name for name, text in rendered().items() if not same(REFERENCE / name, text)]


def rendered() -> dict[str, str]:
    """Text of every page."""
    return {name: importlib.import_module(module).render() for name, module in PAGES.items()}


def same(path: Path, text: str) -> bool:
    """Whether the file holds exactly this text."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write or check the pages; 1 means that a checked page is stale."""
    if "--check" in sys.argv[1:]:
        stale = stale_pages()
        for name in stale:
            print(f"docs/reference/{name} is stale: run 'make docs'")
        return int(bool(stale))
    REFERENCE.mkdir(exist_ok=True)
    for name, text in rendered().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
