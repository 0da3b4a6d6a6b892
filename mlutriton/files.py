"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a full disk or a killed process leaves what stood there before.

    What stands for a stream is written to and stays what it is; so does a link.

    Raises:
        OSError: it cannot be written.
    """
    try:
        if is_stream(path):
            path.write_bytes(content)
            return
        target = path.resolve()
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        error.filename = str(path)  # not that of a file which nobody asked for
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mode = target.stat().st_mode if target.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def is_stream(path: Path) -> bool:
    """True for a pipe, a device, and a name such as ``/dev/stdout``, also where that has been sent to a file."""
    return path.exists() and not path.is_dir() and (not path.is_file() or path.is_relative_to("/dev"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
