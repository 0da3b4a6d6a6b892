"""The code that is written in the place of another: nested lists of operations, none of which does anything twice."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I64
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import Constant, For, Yield
from mlutriton.ir.passes.strip_mine.boxes import Box


class Code(Scalars):
    """The code being written: nested lists of operations, and the boxes that stand in each."""

    def __init__(self) -> None:
        super().__init__(UNKNOWN_LOCATION)
        self.boxes: list[dict[tuple[Value, Box], Value]] = [{}]
        # So that a place that is reached in two ways is one value, and a box there one box.
        self._scalars: list[dict[tuple[str, Scalar, Scalar], Scalar]] = [{}]
        self._fractions: dict[Value, tuple[Value, int, int]] = {}

    @contextmanager
    def nested(self, block: Block) -> Generator[None]:
        """Write into a block for a while."""
        outside, self.operations = self.operations, block.operations
        try:
            with self.apart():
                yield
        finally:
            self.operations = outside

    @contextmanager
    def apart(self) -> Generator[None]:
        """Forget afterwards what is written meanwhile, so that nothing later keeps it on chip."""
        self.boxes.append({})
        self._scalars.append({})
        try:
            yield
        finally:
            self.boxes.pop()
            self._scalars.pop()

    def binary(self, operation: str, a: Scalar, b: Scalar) -> Scalar:
        """An arithmetic operation in 64 bits, the same value for the same operands."""
        key = operation, a, b
        for known in reversed(self._scalars):
            if key in known:
                return known[key]
        self._scalars[-1][key] = made = super().binary(operation, a, b)
        return made

    def scaled(self, scalar: Scalar, times: int, by: int) -> Scalar:
        """A scalar times one constant by another, where that is an integer; the same value however it is reached."""
        if isinstance(scalar, int):
            return scalar * times // by
        base, earlier_times, earlier_by = self._fractions.get(scalar, (scalar, 1, 1))
        common = math.gcd(earlier_times * times, earlier_by * by)
        times, by = earlier_times * times // common, earlier_by * by // common
        made = self.binary("mul", self.quotient(base, by), times)
        if isinstance(made, Value):
            self._fractions[made] = base, times, by
        return made

    @contextmanager
    def at(self, location: Location) -> Generator[None]:
        """Give what is written a location."""
        outside, self.location = self.location, location
        try:
            yield
        finally:
            self.location = outside

    def effect(self, operation: Operation) -> Operation:
        """Write an operation that has no single result."""
        operation.location = self.location
        self.operations.append(operation)
        return operation

    @contextmanager
    def loop(self, end: int, step: int, initial: Sequence[Value] = ()) -> Generator[For]:
        """A counted loop from 0, whose body is written meanwhile and has to end in a yield."""
        bounds = [self.value(bound) for bound in (0, end, step)]
        body = Block([I64, *(value.type for value in initial)], ["strip"])
        loop = For([*bounds, *initial], {"stages": 0}, regions=[body])
        with self.nested(body):
            yield loop
        # What the body has put in front of the loop must stand there.
        self.effect(loop)

    def finish(self, values: Sequence[Value] = ()) -> None:
        """End the current list with a yield."""
        self.effect(Yield(values))

    def constant(self, value: Value) -> Scalar:
        """A scalar, as int if it is known."""
        operation = value.defining_op
        return operation.value if isinstance(operation, Constant) and isinstance(operation.value, int) else value
