"""Which program of a launch is to blame for a fault.

Programs that are served together fault together: a merged transfer misses its array where one of its rows does, and the
machine knows the program that the block begins with. So the programs of the kernel as it is written are run one by one,
from that one on, until one of them faults at the same line. What they store is dropped, and arithmetic is left out
where it decides neither a place nor a way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlutriton.diagnostics import KernelFault
from mlutriton.frontend.importer import import_ttir
from mlutriton.frontend.ttir import parse_ttir
from mlutriton.ir.core import Array, Block, Function, Operation, Value, replace_uses
from mlutriton.ir.evaluator import evaluate
from mlutriton.ir.host_memory import ArrayMemory
from mlutriton.ir.ops import Constant, For, If, Load, Store, While
from mlutriton.ir.types import PointerType, element_type, numpy_dtype
from mlutriton.simulator.memory import GlobalMemory

Grid = tuple[int, int, int]

# What programs may break that does not depend on their tensors' values alone.
_CODES = ("E0301", "E0305", "E0307")
# Elements that are computed in search of the program, before none is found: some seconds.
_MOST_ELEMENTS = 1 << 28
# What an operation takes besides its elements, in elements.
_OPERATION_ELEMENTS = 1000


def faulting_program(
    fault: KernelFault, text: str, grid: Grid, words: Sequence[int], memory: GlobalMemory
) -> Grid | None:
    """The place of the first program that has a fault where it runs by itself; None if none was found.

    Args:
        fault: names the program from which on others are looked at.
        text: of Triton, of the kernel.
        grid: of the launch.
        words: the 64-bit word of each parameter.
        memory: as the launch left it.
    """
    if fault.program is None or fault.location is None or fault.code not in _CODES:
        return None
    function, budget = import_ttir(parse_ttir(text)), _Budget()
    _leave_values_out(function)
    arrays = _DroppedStores()
    for start, end, writable, _ in memory.table.tolist():
        data = memory.view(start, end - start, write=False)
        assert data is not None
        arrays.register("an array", data, writable=bool(writable), address=start)
    for place in _from(fault.program, grid):
        try:
            evaluate(function, grid, argument_values(function, words), arrays, watch=budget, places=[place])
        except KernelFault as found:
            where = found.location
            if found.code == fault.code and where and (where.file, where.line) == _line(fault):
                return place
        except _SpentError:
            return None
    return None


def argument_values(function: Function, words: Sequence[int]) -> list[np.generic]:
    """The values of a function's arguments, of their 64-bit words."""
    values: list[np.generic] = []
    for word, argument in zip(words, function.body.arguments, strict=True):
        dtype = np.dtype(numpy_dtype(argument.type))
        data = np.frombuffer((word & (1 << 64) - 1).to_bytes(8, "little")[: dtype.itemsize], dtype)
        values.append(data[0])
    return values


def _leave_values_out(function: Function) -> None:
    """Put zeros in the place of what decides neither where programs access memory nor which way they go."""
    needed, sources = set[Value](), _sources(function)
    pending = [each for operation in function.walk() for each in _deciding(operation)]
    while pending:
        value = pending.pop()
        if value not in needed:
            needed.add(value)
            pending += sources.get(value, ())
            if value.defining_op is not None:
                pending += value.defining_op.operands

    zeros: dict[Value, Value] = {}

    def rewrite(block: Block) -> None:
        operations: list[Operation] = []
        for operation in block.operations:
            for region in operation.regions:
                rewrite(region)
            if not operation.PURE or any(each in needed or _is_pointer(each) for each in operation.results):
                operations.append(operation)
                continue
            made = [Constant.of(0, each.type, operation.location) for each in operation.results]
            zeros.update({each: zero.result for each, zero in zip(operation.results, made, strict=True)})
            operations += made
        block.operations = operations

    rewrite(function.body)
    replace_uses(function.body, zeros)


def _is_pointer(value: Value) -> bool:
    return isinstance(element_type(value.type), PointerType)


def _deciding(operation: Operation) -> Sequence[Value]:
    """The operands of an operation that decide what is done."""
    match operation:
        case Load():
            return operation.operands[:2]
        case Store():
            return operation.operands[::2]
        case For():
            return operation.operands[:3]
        case While():
            return operation.regions[0].terminator.operands[:1]
        case If():
            return operation.operands
        case _ if operation.PURE or operation.TERMINATOR:
            return ()
        case _:
            return operation.operands


def _sources(function: Function) -> dict[Value, list[Value]]:
    """Where control flow takes values from."""
    found: dict[Value, list[Value]] = {}
    for operation in function.walk():
        match operation:
            case For():
                flows = [(targets, each) for targets in (operation.carried, operation.results)
                         for each in (operation.initial, operation.body.terminator.operands)]  # fmt: skip
            case While():
                before, after = operation.regions
                passed_on = before.terminator.operands[1:]
                flows = [
                    (before.arguments, operation.operands),
                    (before.arguments, after.terminator.operands),
                    (after.arguments, passed_on),
                    (operation.results, passed_on),
                ]
            case If():
                flows = [(operation.results, region.terminator.operands) for region in operation.regions]
            case _:
                continue
        for targets, values in flows:
            for target, value in zip(targets, values, strict=True):
                found.setdefault(target, []).append(value)
    return found


def _line(fault: KernelFault) -> tuple[str, int]:
    assert fault.location is not None
    return fault.location.file, fault.location.line


def _from(first: Grid, grid: Grid) -> Iterator[Grid]:
    """The programs of a grid from one on, x fastest, and then those before it."""
    x, y, z = grid
    number = first[0] + x * (first[1] + y * first[2])
    for each in itertools.chain(range(number, x * y * z), range(number)):
        yield each % x, each // x % y, each // (x * y)


class _SpentError(Exception):
    """The search has taken long enough."""


class _Budget:
    """Watches how much is computed."""

    def __init__(self) -> None:
        self._left = _MOST_ELEMENTS

    def begins(self, place: Grid) -> None:
        """See :class:`mlutriton.ir.evaluator.Watch`."""

    def performs(self, operation: Operation) -> None:
        """See :class:`mlutriton.ir.evaluator.Watch`."""
        if self._left < 0:
            raise _SpentError

    def performed(self, operation: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
        """See :class:`mlutriton.ir.evaluator.Watch`."""
        self._left -= _OPERATION_ELEMENTS + sum(math.prod(each.shape) for each in (*operands, *results))


class _DroppedStores(ArrayMemory):
    """Memory that stays as it is, whatever is stored."""

    def write(self, addresses: NDArray[np.int64], values: NDArray[Any]) -> None:
        """See :class:`mlutriton.ir.host_memory.Memory`."""
        self.writable(addresses, values.dtype.itemsize)
