"""What is replaced inside Triton, all of it here.

Both replacements are made when the driver is created, do what the original does, and leave other backends alone.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
import triton.runtime.autotuner
import triton.runtime.cache
import triton.testing
from triton.runtime.driver import driver

from mlutriton.backend.driver import benchmark


@functools.cache
def adapt_triton() -> None:
    """Replaces what makes the first launch slow and what makes benchmarks of simulated time slow."""
    # The original reads all 500 MB of libtriton, which takes longer than to compile a kernel.
    triton.runtime.cache.triton_key = installation_key
    triton.runtime.autotuner.triton_key = installation_key
    # The original calls the kernel for 125 ms of device time, thousands of times: of a simulator, all the same.
    triton.testing.do_bench = _simulated_or(triton.testing.do_bench)


@functools.cache
def installation_key() -> str:
    """Identifies the installed Triton by the version, sizes and times of its files rather than by their content."""
    stamps = (f"{path}:{status.st_size}:{status.st_mtime_ns}" for path, status in _installed_files())
    return "-".join([triton.__version__, *sorted(stamps)])


def _installed_files() -> Iterator[tuple[str, os.stat_result]]:
    root = Path(triton.__file__).parent
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX")).rpartition(".")[2]
    library = root / "_C" / f"libtriton.{suffix}"
    yield library.name, library.stat()
    for part in ("compiler", "language", "backends", "runtime"):
        for path in (root / part).rglob("*.py"):
            yield str(path.relative_to(root)), path.stat()


def _simulated_or(original: Any) -> Any:
    @functools.wraps(original)
    def do_bench(fn: Any, *args: Any, **kwargs: Any) -> Any:
        is_simulated = hasattr(driver.active, "take_run")
        return benchmark(fn, *args, **kwargs) if is_simulated else original(fn, *args, **kwargs)

    return do_bench
