"""Where NaN and infinities come from that a kernel stores.

Infinities that a kernel names or loads are meant: masks of a softmax are full of them. One that arithmetic makes of
finite numbers is not, nor is a NaN, if it is stored in the end; what is masked away is nobody's concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.checking.findings import Finding, Findings, Grid, Kind
from mlutriton.ir.core import Array, Operation
from mlutriton.ir.ops import AtomicRmw, Constant, Elementwise, Load, Store

_HELP = {
    Kind.NOT_A_NUMBER: "see where the numbers above come from; a softmax subtracts the maximum, a norm adds an epsilon",
    Kind.INFINITY: "keep the numbers above smaller, or compute in a type with a larger range",
}


@dataclass(frozen=True)
class _Birth:
    """An operation that made a number that is not finite.

    Attributes:
        kind: of number.
        operation: it.
        told: what it computed, in words.
        cause: where the infinity was made that it made a NaN of.
    """

    kind: Kind
    operation: Operation
    told: str
    cause: _Birth | None = None


class NonFinite:
    """Follows numbers that are not finite from where they are made to where they are stored."""

    def __init__(self, kernel: str, findings: Findings) -> None:
        self._kernel, self._findings = kernel, findings
        self._program: Grid = (0, 0, 0)
        # By identity; the array is kept, so that no other one gets it.
        self._births: dict[int, tuple[Array, _Birth]] = {}

    def begins(self, place: Grid) -> None:
        """A program begins."""
        self._program, self._births = place, {}

    @property
    def progress(self) -> tuple[Grid, dict[int, tuple[Array, _Birth]]]:
        """The running program, and what it has made that is not finite; set, to let a program go on."""
        return self._program, self._births

    @progress.setter
    def progress(self, known: tuple[Grid, dict[int, tuple[Array, _Birth]]]) -> None:
        self._program, self._births = known

    def performed(self, operation: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
        """An operation has been performed."""
        if isinstance(operation, Store | AtomicRmw):
            self._stored(operation, operands)
        if operation.regions and not operation.PURE:
            return  # what is in it has been seen
        for result in results:
            if _is_float(result) and not np.isfinite(result).all() and not isinstance(operation, Constant):
                born = self._born(operation, operands, result)
                if born is not None:
                    self._births[id(result)] = result, born

    def _born(self, operation: Operation, operands: Sequence[Array], result: Array) -> _Birth | None:
        """Where a result comes from that is not finite; None if from numbers that are meant to be so."""
        floats = [each for each in operands if _is_float(each)]
        known = [self._births[id(each)][1] for each in floats if id(each) in self._births]
        if np.isnan(result).any():
            before = [each for each in known if each.kind is Kind.NOT_A_NUMBER]
            if before:
                return before[0]
            made = np.isnan(result) & _at(operation, [~np.isnan(each) for each in floats])
            if not made.any():
                return None
            return _Birth(Kind.NOT_A_NUMBER, operation, _told(operation, operands, result, made), (*known, None)[0])
        if known:
            return known[0]
        made = np.isinf(result) & _at(operation, [np.isfinite(each) for each in floats])
        if isinstance(operation, Load) or not made.any():
            return None
        return _Birth(Kind.INFINITY, operation, _told(operation, operands, result, made))

    def _stored(self, operation: Operation, operands: Sequence[Array]) -> None:
        _, value, mask = operands
        if not _is_float(value) or id(value) not in self._births:
            return
        stored = value[mask]
        if np.isfinite(stored).all():
            return
        birth = self._births[id(value)][1]
        kind = Kind.NOT_A_NUMBER if np.isnan(stored).any() else Kind.INFINITY
        notes = [f"it was made at {birth.operation.location}: {birth.told}"]
        if birth.cause is not None:
            notes.append(f"of what was made at {birth.cause.operation.location}: {birth.cause.told}")
        self._findings.add(
            Finding(
                kind,
                self._kernel,
                f"{np.count_nonzero(~np.isfinite(stored)):,} of {stored.size:,} elements that are stored",
                operation.location,
                self._program,
                tuple(notes),
                _HELP[kind],
            ),
            (operation.location, birth.operation.location),
        )


def _at(operation: Operation, holds: Sequence[NDArray[np.bool_]]) -> Any:
    """Where something holds of all that an element of a result is made of, [result] or one for all."""
    if not isinstance(operation, Elementwise):
        return all(each.all() for each in holds)
    return np.logical_and.reduce(holds) if holds else True


def _is_float(array: Array) -> bool:
    # The narrow types that NumPy does not know are of no kind of its own.
    return array.dtype.kind in "fV" and array.dtype.itemsize > 0


def _told(operation: Operation, operands: Sequence[Array], result: Array, where: NDArray[np.bool_]) -> str:
    """What an operation computed where that is of interest, as ``exp(93.2) = inf``."""
    place: tuple[Any, ...] = tuple(axis[0] for axis in np.nonzero(np.atleast_1d(where)))
    if isinstance(operation, Load):
        return "it was loaded"
    if not isinstance(operation, Elementwise):
        return operation.NAME
    name = operation.arithmetic.name
    of = ", ".join(f"{np.atleast_1d(each)[place]}" for each in operands)
    return f"{name}({of}) = {np.atleast_1d(result)[place]}"
