"""The page of what runs under which Triton, and its record; ``python docs/compatibility.py`` records the installed one.

The record has an entry for each minor release of Triton: the outcome of every row of ``conformance`` on every element
type. The page is made of the record alone, so that it is the same under any release.
"""

from __future__ import annotations

import json
from pathlib import Path

import triton
from conformance import AREAS, LANGUAGE_NAMES, REFUSED, RIGHT, ROWS, Row, outcome

RECORD = Path(__file__).parent / "reference" / "compatibility.json"

# In the order of the page's columns: those of the row that has all.
TYPES = AREAS["Conversions"][0].dtypes

_INTRODUCTION = """\
# Compatibility

Written by `make compatibility`: what came of a small kernel for each operation and element type, under Triton
{releases}. `x` and `y` are tensors of the element type, `s` one of small numbers, `place` a tensor of `int32`.

| mark | meaning |
|---|---|
| ✓ | compiles, and writes what NumPy says, under each of these releases |
| {releases_as_marks} | so under these releases alone; Triton itself refuses the kernel under the others |
| no | Triton itself refuses the kernel under each of them |
| [E0…](errors/README.md) | refused by mlutriton, with this error |
| | not tried |

`tl.make_block_ptr` needs `MLUTRITON_BLOCK_POINTERS` under 3.9.
"""

Record = dict[str, dict[str, dict[str, str]]]
"""By minor release, label of the row and outcome: the types that have it."""


def recorded() -> Record:
    """The record as it stands."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def installed() -> str:
    """Minor release of the installed Triton."""
    return ".".join(triton.__version__.split(".")[:2])


def record() -> None:
    """Tries everything under the installed Triton, and puts it into the record."""
    entry: dict[str, dict[str, str]] = {}
    for row in ROWS:
        outcomes = {dtype: outcome(row, dtype) for dtype in row.dtypes}
        entry[row.label] = {
            name: " ".join(dtype for dtype in row.dtypes if outcomes[dtype] == name)
            for name in sorted(set(outcomes.values()))
        }
    merged = recorded() | {installed(): entry}
    RECORD.write_text(json.dumps(dict(sorted(merged.items())), indent=1) + "\n", encoding="utf-8")


def outcomes_of(row: Row, dtype: str, record: Record) -> dict[str, str]:
    """What came of a row on an element type, by release."""
    return {
        release: next(name for name, types in entry[row.label].items() if dtype in types.split())
        for release, entry in record.items()
    }


def render() -> str:
    """The page."""
    record = recorded()
    releases = list(record)
    shown = f"{', '.join(releases[:-1])} and {releases[-1]}"
    text = _INTRODUCTION.format(releases=shown, releases_as_marks=releases[-1])
    for area, rows in AREAS.items():
        dtypes = [dtype for dtype in TYPES if any(dtype in row.dtypes for row in rows)]
        heads = [LANGUAGE_NAMES.get(dtype, dtype) for dtype in dtypes]
        text += f"\n## {area}\n\n| | {' | '.join(heads)} |\n|---|{':-:|' * len(heads)}\n"
        for row in rows:
            marks = [_mark(outcomes_of(row, dtype, record)) if dtype in row.dtypes else "" for dtype in dtypes]
            text += f"| `{row.label.replace('|', chr(92) + '|')}` | {' | '.join(marks)} |\n"
    return text


def _mark(outcomes: dict[str, str]) -> str:
    match sorted(set(outcomes.values())):
        case [only] if only == RIGHT:
            return "✓"
        case [only] if only == REFUSED:
            return "no"
        case [only]:
            return _name(only)
        case names:
            parts = [(name, [release for release in outcomes if outcomes[release] == name]) for name in names]
            return ", ".join(
                " ".join(releases) + ("" if name == RIGHT else f": {_name(name)}")
                for name, releases in parts
                if name != REFUSED
            )


def _name(outcome: str) -> str:
    return f"[{outcome}](errors/{outcome}.md)" if outcome.startswith("E") else outcome


if __name__ == "__main__":
    record()
