"""The page of other projects' kernels, from the record that ``make test-clients`` writes."""

from __future__ import annotations

import json
from pathlib import Path

RECORD = Path(__file__).parent / "reference" / "clients.json"

_INTRODUCTION = """\
# Kernels of other projects

Written by `make test-clients`: unmodified kernels of Liger ({liger-kernel}), flash-linear-attention ({fla-core}) and
FlagGems ({flag-gems}) on CPU tensors of torch ({torch}), compiled under Triton {triton}, and compared with what
torch computes. Where a reason is given in words, the other project's code does something else than torch or refuses; an
error with a code is mlutriton's.
"""

# Suite of the record, heading, and what it is.
SECTIONS = (
    (
        "liger",
        "Liger",
        "Results and gradients of every operator: all of its forward and backward kernels but those for\n"
        "other vendors' devices.",
    ),
    (
        "fla",
        "flash-linear-attention",
        "Results and gradients of its operators, in chunks, in parallel and token by token, against its own plain\n"
        "formulas.",
    ),
    (
        "torch.compile",
        "torch.compile",
        "Results and gradients of functions of torch, in the kernels that its compiler writes for them.",
    ),
    ("flag_gems generic", "FlagGems", "Its operators and fused operators, called by name."),
    (
        "flag_gems cambricon",
        "FlagGems for Cambricon",
        "The same with the kernels of its Cambricon backend in the place of the generic ones, where it has its own.",
    ),
    (
        "flag_gems samples",
        "FlagGems on torch's samples",
        "The operators that FlagGems registers with torch, beside torch's on torch's own test inputs, by element\n"
        "type. One sample that fails is enough for not right: many hosts refuse tensors without dimensions or\n"
        "elements.",
    ),
)


def render() -> str:
    """The page."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = _INTRODUCTION.format_map(record["versions"])
    for suite, heading, description in SECTIONS:
        outcomes: dict[str, str] = record["suites"].get(suite, {})
        if not outcomes:
            continue
        right = [tried for tried, why in outcomes.items() if not why]
        text += f"\n## {heading}\n\n{description} {len(right)} of {len(outcomes)} are right.\n"
        text += f"\n{', '.join(f'`{name}`{types}' for name, types in _by_operator(right))}.\n"
        wrong = {tried: why for tried, why in outcomes.items() if why}
        if wrong:
            text += "\n| not right | why |\n|---|---|\n"
            for why in dict.fromkeys(wrong.values()):
                tried = _by_operator([each for each, its in wrong.items() if its == why])
                names = ", ".join(f"`{name}`{types}" for name, types in tried)
                text += f"| {names} | {_in_a_cell(why)} |\n"
    return text


def _by_operator(tried: list[str]) -> list[tuple[str, str]]:
    """Each operator with its element types in parentheses, if any."""
    types: dict[str, list[str]] = {}
    for each in tried:
        name, _, dtype = each.rpartition(" ")
        types.setdefault(name or dtype, []).extend([dtype] * bool(name))
    return [(name, f" ({', '.join(each)})" if each else "") for name, each in types.items()]


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
