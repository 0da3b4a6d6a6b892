"""Measurements that need a process of their own, because of what a process remembers or of how it was started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
_TIMEOUT_SECONDS = 300
# What is installed brings its byte code along; without, half of a first launch is Python's own compiler.
_FORBIDS_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"


@contextmanager
def empty_caches() -> Iterator[dict[str, str]]:
    """Environment variables that name cache directories in which nothing is yet."""
    with tempfile.TemporaryDirectory(prefix="mlutriton-bench-") as directory:
        yield {"TRITON_CACHE_DIR": f"{directory}/triton", "MLUTRITON_CACHE_DIR": f"{directory}/mlutriton"}


def run_module(module: str, *arguments: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that a module of this package prints last when it is run in a new process.

    Raises:
        RuntimeError: the process failed; the message is what it wrote.
    """
    inherited = {**os.environ, **environment}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        env={name: value for name, value in inherited.items() if name != _FORBIDS_BYTE_CODE},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])
