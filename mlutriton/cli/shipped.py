"""Files that are no modules but come with them: the error pages and the examples."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped(installed: str, in_checkout: str) -> Path:
    """Return the directory of some shipped files: an installed package has it beside its modules, a checkout elsewhere.

    Args:
        installed: Its name within the installed package (``force-include`` of pyproject.toml says the same).
        in_checkout: Its path from the root of a checkout.
    """
    directory = _PACKAGE / installed
    return directory if directory.is_dir() else _PACKAGE.parent / in_checkout
