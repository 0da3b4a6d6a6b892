"""Writes what the pages show of the code; with ``--check`` compares it with what the committed pages show instead."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from execution import filled

REPOSITORY = Path(__file__).parents[1]

# Pages that are generated whole: the text that the module's render() returns.
REFERENCE = {
    "docs/adr/README.md": "decisions",
    "docs/reference/clients.md": "kernels_of_others",
    "docs/reference/compatibility.md": "compatibility",
    "docs/reference/ir.md": "mlutriton.ir.reference",
    "docs/reference/isa.md": "mlutriton.isa.manual",
    "docs/reference/machines.md": "mlutriton.isa.machine_reference",
    "docs/reference/options.md": "mlutriton.backend.options",
}

# Pages whose code is run, and the name of the Python file that a reader would put it in.
EXECUTED = {
    "README.md": "first_kernel",
    "README.zh-CN.md": "first_kernel",
    "docs/ARCHITECTURE.md": "softmax",
    "docs/tutorial/first-kernel.md": "first_kernel",
    "docs/tutorial/a-faster-matmul.md": "a_faster_matmul",
    "docs/tutorial/a-machine-of-ones-own.md": "a_machine_of_ones_own",
    "docs/tutorial/assembly-by-hand.md": "assembly_by_hand",
    "docs/how-to/find-wrong-numbers.md": "find_wrong_numbers",
    "docs/how-to/guard-cycles.md": "guard_cycles",
    "docs/how-to/port-a-script.md": "port_a_script",
    "docs/how-to/profile-a-script.md": "profile_a_script",
    "docs/how-to/read-a-report.md": "read_a_report",
    "docs/how-to/tune-a-kernel.md": "tune_a_kernel",
    "docs/how-to/what-if.md": "what_if",
}


def rendered() -> dict[str, str]:
    """Text of every page."""
    reference = {page: importlib.import_module(module).render() for page, module in REFERENCE.items()}
    return reference | {page: filled(committed(page), name) for page, name in EXECUTED.items()}


def committed(page: str) -> str:
    """Text of a page as it stands."""
    path = REPOSITORY / page
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main() -> int:
    """Write or check the pages; 1 means that a checked page is stale."""
    stale = {page: text for page, text in rendered().items() if text != committed(page)}
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"{page} is stale: run 'make docs'")
        return int(bool(stale))
    for page, text in stale.items():
        (REPOSITORY / page).parent.mkdir(exist_ok=True)
        (REPOSITORY / page).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
