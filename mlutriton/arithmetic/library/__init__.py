"""The device library: functions that kernels name by symbol, written over the architectural operations."""

from mlutriton.arithmetic.library.table import LIBRARY, LibraryFunction

__all__ = ["LIBRARY", "LibraryFunction"]
