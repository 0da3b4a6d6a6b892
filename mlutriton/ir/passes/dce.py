"""Dead code: what has no effect and no use is removed, values that loops carry for themselves alone included.

Liveness is sparse: it starts at operations with an effect and spreads along operands. A value that a loop carries is
alive if its argument or its result is; that the loop yields it doesn't count. A loop that neither has an effect nor a
live value is removed, whether it ends or not; one that may wait for another program has the effect that it waits.
"""

from __future__ import annotations

from mlutriton.ir.analysis.waits import state_of_wait
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import For, If, Return, While
from mlutriton.ir.passes.carried_values import keep_carried, keep_loop_values, keep_results

_Control = For | While | If


def run(function: Function) -> None:
    """Remove dead operations and carried values."""
    liveness = _Liveness(function)
    _sweep(function.body, liveness)


def _has_effect(operation: Operation) -> bool:
    """Whether it must stay although nothing uses it; that of nested operations is their own."""
    if isinstance(operation, Return) or (isinstance(operation, While) and state_of_wait(operation) is not None):
        return True
    return not (operation.PURE or operation.READS or operation.TERMINATOR or isinstance(operation, _Control))


class _Liveness:
    def __init__(self, function: Function) -> None:
        self.operations: set[Operation] = set()
        self.values: set[Value] = set()
        self.parents: dict[Operation | Block, Operation] = {}
        self.pending: list[Value] = []
        every = function.walk()
        effects = [operation for operation in every if _has_effect(operation)]
        for operation in every:
            for region in operation.regions:
                self.parents[region] = operation
                self.parents.update((nested, operation) for nested in region.operations)
        for operation in effects:
            self.keep(operation)
        while self.pending:
            self.spread(self.pending.pop())

    def need(self, value: Value) -> None:
        if value not in self.values:
            self.values.add(value)
            self.pending.append(value)

    def keep(self, operation: Operation) -> None:
        """The operation is alive, with what decides whether and how often it runs."""
        if operation in self.operations:
            return
        self.operations.add(operation)
        needed = operation.operands
        if isinstance(operation, For):
            needed = needed[:3]
        elif isinstance(operation, While):
            needed = operation.regions[0].terminator.operands[:1]
        for value in needed:
            self.need(value)
        if operation in self.parents:
            self.keep(self.parents[operation])

    def spread(self, value: Value) -> None:
        owner = value.owner
        operation = owner if isinstance(owner, Operation) else self.parents.get(owner)
        if operation is None:
            return
        self.keep(operation)
        if not operation.regions:
            return
        i = value.index
        match operation:
            case For():
                slot = i if isinstance(owner, Operation) else i - 1
                if slot >= 0:
                    self.need(operation.initial[slot])
                    self.need(operation.body.terminator.operands[slot])
            case While() if owner is operation.regions[0]:
                self.need(operation.operands[i])
                self.need(operation.regions[1].terminator.operands[i])
            case While():
                self.need(operation.regions[0].terminator.operands[1 + i])
            case If():
                for region in operation.regions:
                    self.need(region.terminator.operands[i])
            case _:
                pass


def _sweep(block: Block, live: _Liveness) -> None:
    kept: list[Operation] = []
    for operation in block.operations:
        if operation not in live.operations and not operation.TERMINATOR:
            continue
        kept.append(operation)
        if isinstance(operation, _Control):
            _trim(operation, live.values)
            for region in operation.regions:
                _sweep(region, live)
        else:
            for region in operation.regions:
                _sweep_combine(region)
    block.operations = kept


def _sweep_combine(region: Block) -> None:
    """A combine region is straight code that uses nothing from outside: one walk from its end finds what is alive."""
    live: set[Value] = set()
    kept: list[Operation] = []
    for operation in reversed(region.operations):
        if operation.TERMINATOR or not live.isdisjoint(operation.results):
            live.update(operation.operands)
            kept.append(operation)
    region.operations = kept[::-1]


def _trim(operation: _Control, live: set[Value]) -> None:
    match operation:
        case For():
            slots = zip(operation.carried, operation.results, strict=True)
            keep_carried(operation, [argument in live or result in live for argument, result in slots])
        case While():
            before, after = operation.regions
            carried = [argument in live for argument in before.arguments]
            slots = zip(after.arguments, operation.results, strict=True)
            passed = [argument in live or result in live for argument, result in slots]
            keep_loop_values(operation, carried, passed)
        case If():
            keep_results(operation, [result in live for result in operation.results])
