"""``NAME=VALUES`` as users type them, and what the values mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune.trial import Value

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?::(x?)(\d+))?")
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}
_MAXIMUM_VALUES = 1 << 20


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """Names with the text behind the sign.

    Raises:
        ArgumentError: E0502, one is no assignment, or a name comes twice.
    """
    assigned: dict[str, str] = {}
    for text in texts:
        for word in text.split():
            name, sign, rest = word.partition("=")
            if not (sign and rest and name.isidentifier()):
                raise ArgumentError("E0502", f"{word!r} is not NAME=VALUE", help="type M=4096 N=4096, with no space")
            if name in assigned:
                raise ArgumentError("E0502", f"{name} is given twice: {assigned[name]} and {rest}")
            assigned[name] = rest
    return assigned


def value_of(text: str) -> Value:
    """A number, ``true``, ``false``, ``none``, or else the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def values_of(text: str) -> list[Value]:
    """The values of ``64,128,256``, of ``1..5``, of ``0..96:8`` (in steps) and of ``16..256:x2`` (times two).

    Raises:
        ArgumentError: E0502, a range is empty or endless, or a value comes twice.
    """
    values: list[Value] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        values += _range(part, *match.groups()) if match else [value_of(part)]
    if "" in values:
        raise ArgumentError("E0502", f"a value is missing in {text!r}", help="type BLOCK=64,128,256")
    if len({repr(value) for value in values}) < len(values):
        raise ArgumentError("E0502", f"a value comes twice in {text!r}")
    return values


def _range(text: str, first: str, last: str, times: str | None, step: str | None) -> list[int]:
    start, end, stride = int(first), int(last), int(step or 1)
    if start > end:
        raise ArgumentError("E0502", f"the range {text} is empty", help=f"type {end}..{start}")
    if stride < 1 or (times and (stride < 2 or start < 1)):
        raise ArgumentError(
            "E0502", f"the range {text} never ends", help="a step is 1 or more; a factor 2 or more, from 1 or more"
        )
    if times:
        values: list[int] = []
        while start <= end:
            values.append(start)
            start *= stride
        return values
    if (end - start) // stride >= _MAXIMUM_VALUES:
        raise ArgumentError("E0502", f"the range {text} has more than {_MAXIMUM_VALUES:,} values")
    return list(range(start, end + 1, stride))


def json_objects(text: str, origin: str) -> list[dict[str, Any]]:
    """The objects of a JSON list, or the one object.

    Raises:
        ArgumentError: E0502, it is neither.
    """
    try:
        content = json.loads(text)
    except ValueError as problem:
        raise ArgumentError("E0502", f"{origin} is no JSON: {problem}") from None
    objects = cast("list[Any]", content if isinstance(content, list) else [content])
    if not objects or not all(isinstance(each, dict) for each in objects):
        raise ArgumentError("E0502", f"{origin} is no list of objects", help='[{"M": 4096, "N": 4096}, ...]')
    return objects
