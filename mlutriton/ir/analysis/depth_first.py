"""Recursion without Python's stack: unrolled loops make chains of operations that are longer than it allows."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")

Search = Generator[Key, Found, Found]
"""One step of a recursion: yields what else it has to know, is sent what was found of it, and returns what it finds."""


def depth_first(search: Callable[[Key], Search[Key, Found]], key: Key) -> Found:
    """What a recursion finds, however deep; it looks at things in the order in which a function that calls itself does.

    Args:
        search: begins the step that finds something of a key.
        key: of which to find it.
    """
    steps = [search(key)]
    advance: Callable[[], Key] = steps[0].__next__
    while True:
        try:
            wanted = advance()
        except StopIteration as end:
            found: Found = end.value
            steps.pop()
            if not steps:
                return found
            advance = partial(steps[-1].send, found)
        else:
            steps.append(search(wanted))
            advance = steps[-1].__next__
