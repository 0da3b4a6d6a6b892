"""The one error that Triton must know too: its autotuner drops configurations that raise ``OutOfResources``."""

from __future__ import annotations

from triton.runtime.errors import OutOfResources

from mlutriton.diagnostics import OnChipMemoryError


class OutOfOnChipMemory(OnChipMemoryError, OutOfResources):  # noqa: N818 - named after what Triton calls it
    """The kernel's tiles do not fit on-chip memory; tells the bill, and is caught by ``triton.autotune``."""

    def __init__(self, error: OnChipMemoryError) -> None:
        """Says the same as ``error``."""
        OutOfResources.__init__(self, error.used_bytes, error.limit_bytes, error.memory)
        self.__dict__.update(vars(error))
