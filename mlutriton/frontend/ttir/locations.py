"""Source locations of TTIR text: the table at its end, inlined call sites, and Python variable names.

Triton writes ``#loc7 = loc("k.py":12:4)``, wraps it in the variable that receives the value, ``loc("acc"(#loc7))``, and
in the calls that were inlined, ``loc(callsite(#loc7 at #loc3))``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.frontend.ttir.text import split_outside_brackets, unescape


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where an operation comes from.

    Attributes:
        frames: the chain of inlined calls, the innermost first.
        names: the Python variables that receive the results, in the order of the results.
    """

    frames: tuple[Location, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def location(self) -> Location:
        """The innermost line that the user wrote: one of a library function only if there is no other."""
        for frame in self.frames:
            if "/triton/language/" not in frame.file:
                return frame
        return self.frames[0] if self.frames else UNKNOWN_LOCATION


UNKNOWN = SourceLocation()

_ALIAS = re.compile(r"^(#loc\d*) = loc\((.*)\)$", re.MULTILINE)
_FILE = re.compile(r'"((?:[^"\\]|\\.)*)":(\d+):(\d+)')
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\((.*)\))?')
_FUSED = re.compile(r"fused(?:<.*>)?\[(.*)\]")


class LocationTable:
    """Resolves the locations of one module, each once."""

    def __init__(self, text: str) -> None:
        """Collects the aliases of ``text``."""
        self._texts: dict[str, str] = dict(_ALIAS.findall(text)) if "#loc" in text else {}
        self._resolved: dict[str, SourceLocation] = {"": UNKNOWN, "unknown": UNKNOWN}

    def resolve(self, text: str) -> SourceLocation:
        """Returns the location that the inside of ``loc(...)`` denotes; unknown forms are unknown places."""
        # Variables may be wrapped in thousands of others, so that what is inside is found before what is around it.
        around: list[str] = []
        inside: str | None = text
        while inside is not None and inside not in self._resolved:
            around.append(inside)
            inside = self._inside(inside)
        for each in reversed(around):
            self._resolved[each] = self._read(each)
        return self._resolved[text]

    def _inside(self, text: str) -> str | None:
        """What an alias stands for, or a variable is wrapped around; None for other forms."""
        if text.startswith("#"):
            return self._texts.get(text, "unknown")
        named = _NAMED.fullmatch(text)
        return (named[2] or "unknown") if named else None

    def _read(self, text: str) -> SourceLocation:
        if text.startswith("#"):
            return self.resolve(self._texts.get(text, "unknown"))
        if text.startswith("callsite("):
            callee, caller = (self.resolve(part) for part in _split_callsite(text[9:-1]))
            return SourceLocation(callee.frames + caller.frames, callee.names or caller.names)
        if file := _FILE.match(text):
            return SourceLocation((Location(unescape(file[1]), int(file[2]), int(file[3])),))
        if fused := _FUSED.fullmatch(text):
            parts = [self.resolve(part.strip()) for part in split_outside_brackets(fused[1])]
            return next((part for part in parts if part.frames), UNKNOWN)
        if named := _NAMED.fullmatch(text):
            inner = self.resolve(named[2] or "unknown")
            return SourceLocation(inner.frames, (*inner.names, unescape(named[1])))
        return UNKNOWN


def _split_callsite(text: str) -> tuple[str, str]:
    """Splits ``callee at caller`` at the one `` at `` that stands in no bracket."""
    depth = 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif depth == 0 and text.startswith(" at ", position):
            return text[:position], text[position + 4 :]
    return text, "unknown"
