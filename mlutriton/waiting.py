"""What goes on and for how long, said on a terminal to whoever waits for it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

PROGRESS_VARIABLE = "MLUTRITON_PROGRESS"

# So long nobody asks what is being done.
_PATIENCE_S = 2.0
_BEGIN_OF_LINE, _LINE_GONE = "\r", "\x1b[2K"

# Whoever says something to the terminal of this process holds it: two would write into the same line.
_speaking = threading.Lock()


@contextmanager
def working(text: str) -> Generator[None]:
    """Says on a terminal what goes on inside and for how long, as soon as it takes long; in the end that is gone.

    Nothing is said where something else is being said already, be it by a process that this one works for, nor where
    ``MLUTRITON_PROGRESS`` is ``0``.

    Args:
        text: what goes on, as ``compiling softmax``.
    """
    if not _may_speak() or not _speaking.acquire(blocking=False):
        yield
        return
    done = threading.Event()
    speaker = threading.Thread(target=_speak, args=(text, done), name="mlutriton-progress", daemon=True)
    try:
        speaker.start()
        yield
    finally:
        done.set()
        speaker.join()  # else it could begin behind the end
        _speaking.release()


@contextmanager
def shown_otherwise() -> Generator[None]:
    """While this lasts, a bar or the like shows how far everything is."""
    is_first = _speaking.acquire(blocking=False)
    try:
        yield
    finally:
        if is_first:
            _speaking.release()


def is_wanted() -> bool:
    """Whether anybody wants to see on a terminal how far something is."""
    return os.environ.get(PROGRESS_VARIABLE) != "0"


def _may_speak() -> bool:
    # A process without a console has none, whatever its type says, and a daemon has closed it.
    stream: TextIO | None = sys.stderr
    is_terminal = stream is not None and not stream.closed and stream.isatty() and os.environ.get("TERM") != "dumb"
    return is_terminal and is_wanted() and multiprocessing.parent_process() is None


def _speak(text: str, done: threading.Event) -> None:
    begun = time.monotonic()
    if done.wait(_PATIENCE_S):
        return
    while True:
        sys.stderr.write(f"{_BEGIN_OF_LINE}{text} ... {time.monotonic() - begun:.0f} s")
        sys.stderr.flush()
        if done.wait(1.0):
            break
    sys.stderr.write(_BEGIN_OF_LINE + _LINE_GONE)
    sys.stderr.flush()
