"""What becomes of a tensor's elements, one by one, until they are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from mlutriton.ir.analysis.edges import Edge, edges_of
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Elementwise, For, TileStore, Yield


class Uses:
    """The operations that use each value of a function."""

    def __init__(self, function: Function) -> None:
        self._users: dict[Value, list[Operation]] = {}
        self._loops: dict[Block, Operation] = {}
        for operation in function.walk():
            for region in operation.regions:
                self._loops[region] = operation
            for operand in operation.operands:
                self._users.setdefault(operand, []).append(operation)
        self._blocks = {each: block for block in (function.body, *self._loops) for each in block.operations}

    def of(self, value: Value) -> list[Operation]:
        """The operations that have a value among their operands."""
        return self._users.get(value, [])

    def carried_with(self, value: Value) -> list[list[Value]] | None:
        """For each loop that carries a value, all that is one with it; None if other control flow hands it on."""
        found: list[list[Value]] = []
        owners: list[tuple[Operation, int]] = []
        for user in self.of(value):
            match user:
                case For():
                    owners += [(user, k) for k, each in enumerate(user.initial) if each is value]
                case Yield():
                    loop = self._loops[self._blocks[user]]
                    owners += [(loop, k) for k, each in enumerate(user.operands) if each is value]
                case _ if user.regions or user.TERMINATOR:
                    return None
                case _:
                    pass
        if isinstance(value.owner, Block) and value.owner in self._loops:
            owners.append((self._loops[value.owner], value.index - 1))
        elif isinstance(value.owner, Operation) and value.owner.regions:
            owners.append((value.owner, value.index))
        for loop, place in owners:
            if not isinstance(loop, For) or place < 0:
                return None
            yielded = loop.body.terminator.operands
            found.append([loop.initial[place], loop.carried[place], yielded[place], loop.results[place]])
        return found

    def reached(self, values: Sequence[Value]) -> dict[Value, bool]:
        """Some values and all that is made of them, with whether control flow has handed it on, once at least."""
        found = dict.fromkeys(values, False)
        pending = list(values)
        while pending:
            value = pending.pop()
            made = [(each, found[value]) for user in self.of(value) if not user.regions for each in user.results]
            made += [(each, True) for each in self._handed_on(value)]
            for each, is_handed_on in made:
                if each not in found:
                    found[each] = is_handed_on
                    pending.append(each)
        return found

    def _handed_on(self, value: Value) -> list[Value]:
        """All that control flow may make of a value in other iterations, in branches, and behind them."""
        groups = self.carried_with(value)
        if groups is not None:
            return [each for _, *others in groups for each in others]
        found: list[Value] = []
        for user in self.of(value):
            operation = self._loops.get(self._blocks[user]) if user.TERMINATOR else user
            if operation is not None and operation.regions:
                found += [*operation.results, *(each for region in operation.regions for each in region.arguments)]
        return found

    def loops_that_set(self, numbers: Iterable[Form]) -> set[Operation]:
        """The loops in which some numbers may be others in another iteration."""
        loops: set[Operation] = set()
        for value in {each for form in numbers for factors in form for each in factors}:
            block = self._blocks.get(value.owner) if isinstance(value.owner, Operation) else value.owner
            while block in self._loops:
                loops.add(self._loops[block])
                block = self._blocks[self._loops[block]]
        return loops

    def is_carried_by(self, value: Value, loops: Collection[Operation]) -> bool:
        """True if any of some loops may hand a value on from one iteration to the next."""
        groups = self.carried_with(value)
        if groups is None:
            return bool(loops)
        return any(self._loops[carried.owner] in loops for _, carried, *_ in groups if isinstance(carried.owner, Block))

    def is_unread_outside(self, value: Value, dimension: int, first: Edge, limit: Edge, forms: ScalarForms) -> bool:
        """True if elements before an edge along a dimension, and from another one on, only make such as are not stored.

        Gates of the edges are taken to be open. Edges that a loop sets are others for what it hands on.
        """
        loops = self.loops_that_set(part.form for part in (*first.parts, *limit.parts))
        return all(
            self._ends_at(each, dimension, first, limit, forms) and not self.is_carried_by(each, loops)
            for each in self._made_of(value)
        )

    def _made_of(self, value: Value) -> Iterator[Value]:
        """A tensor and all that is made of it element by element."""
        seen, pending = {value}, [value]
        while pending:
            here = pending.pop()
            yield here
            next_values = [user.result for user in self.of(here) if isinstance(user, Elementwise)]
            for group in self.carried_with(here) or ():
                next_values += group
            fresh = dict.fromkeys(each for each in next_values if each not in seen)
            seen.update(fresh)
            pending += fresh

    def _ends_at(self, value: Value, dimension: int, first: Edge, limit: Edge, forms: ScalarForms) -> bool:
        if self.carried_with(value) is None:
            return False
        for user in self.of(value):
            match user:
                case TileStore() if user.value is value:
                    begin, end = edges_of(user, dimension, forms)
                    if not (first.keys <= begin.keys and limit.keys <= end.keys):
                        return False
                case Elementwise() | For() | Yield():
                    pass
                case _:
                    return False
        return True
