"""What checks find: each in the words of the kernel, however many programs show it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from mlutriton.diagnostics import Location

Grid = tuple[int, int, int]


class Kind(Enum):
    """What is found."""

    RACE = "race"
    NOT_A_NUMBER = "NaN"
    INFINITY = "infinity"


@dataclass
class Finding:
    """Something that a kernel does and, most likely, was not meant to do.

    Attributes:
        kind: of what it is.
        kernel: its name.
        summary: one line that states the fact.
        location: the line that does it.
        program: the first one that does it.
        notes: how it comes about.
        help: what to do instead.
        times: how often it was found.
    """

    kind: Kind
    kernel: str
    summary: str
    location: Location
    program: Grid
    notes: tuple[str, ...] = ()
    help: str = ""
    times: int = 1

    def __str__(self) -> str:
        lines = [f"{self.kind.value}: {self.summary}"]
        lines.append(f"  --> {self.location}  ({self.kernel}, program {self.program})")
        lines += [f"  note: {each}" for each in self.notes]
        if self.times > 1:
            lines.append(f"  note: found {self.times:,} times; this was the first")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


@dataclass
class Findings:
    """Findings in the order in which they were made first; what is found again is counted."""

    _found: dict[Hashable, Finding] = field(default_factory=dict[Hashable, Finding])

    def add(self, finding: Finding, same: Hashable) -> None:
        """Keep a finding, or count it if one of this kind and kernel is known that is the ``same``."""
        key = finding.kind, finding.kernel, same
        known = self._found.setdefault(key, finding)
        if known is not finding:
            known.times += 1

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)
