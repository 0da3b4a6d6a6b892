"""Import of control flow: loops, branches, calls, and the branches between blocks that early returns leave behind.

The IR has no jumps. Blocks that branch to each other become nested ``if`` operations: the two ways from a branch meet
where every path goes through the same block again, and else run to a return each. Triton has no backward branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlutriton.frontend.importer.translation import (
    Imported,
    Rule,
    Translation,
    flatten,
    integer,
    rebuild,
    text,
    types_of,
    variable_names,
)
from mlutriton.frontend.ttir.tree import Block as TtirBlock
from mlutriton.frontend.ttir.tree import Region, Successor, TtirOperation
from mlutriton.ir.core import Block, Value
from mlutriton.ir.ops import Condition, For, If, While, Yield

# Where nested early returns do not meet again, the code behind them is imported once for each way that leads there.
MOST_COPIES = 16


# ---- structured operations ------------------------------------------------------------------------------------------


def _for(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    if operation.attributes.get("unsigned"):
        raise translation.refusal("a loop that counts in unsigned integers is not supported")
    start, end, step = translation.values(operation.operands[:3])
    initial = translation.imported(operation.operands[3:])
    (source,) = operation.regions[0].blocks
    if translation.is_element_function:
        return _counted_by_element(translation, source, (start, end, step), initial)
    body = _entered(translation, source, [start, *initial])
    with translation.inside(body):
        translation.add(Yield(flatten(translation.body(source))))
    stages = {"stages": integer(operation, "tt.num_stages", 0)}
    loop = translation.add(For([start, end, step, *flatten(initial)], stages, regions=(body,)))
    return rebuild(initial, loop.results)


def _counted_by_element(
    translation: Translation, source: TtirBlock, bounds: tuple[Value, Value, Value], initial: Sequence[Imported]
) -> Sequence[Imported]:
    """A counted loop of a function of single elements, which may count differently for each: one with a condition."""
    start, end, step = bounds
    carried = flatten(initial)
    head = Block(types_of([start, *carried]))
    with translation.inside(head):
        goes_on = translation.elementwise("slt", head.arguments[0], end)
        translation.add(Condition([translation.reached(goes_on), *head.arguments]))
    body = _entered(translation, source, [start, *initial])
    with translation.inside(body):
        yielded = flatten(translation.body(source))
        translation.add(Yield([translation.elementwise("add", body.arguments[0], step), *yielded]))
    types = types_of(head.arguments)
    loop = translation.add(While([start, *carried], result_types=types, regions=(head, body)))
    return rebuild(initial, loop.results[1:])


def _while(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    (first,), (second,) = (region.blocks for region in operation.regions)
    initial = translation.imported(operation.operands)
    before = _entered(translation, first, initial)
    with translation.inside(before):
        condition, *passed = translation.body(first)
        assert isinstance(condition, Value)
        translation.add(Condition([translation.reached(condition), *flatten(passed)]))
    after = _entered(translation, second, passed)
    with translation.inside(after):
        translation.add(Yield(flatten(translation.body(second))))
    results = types_of(flatten(passed))
    loop = translation.add(While(flatten(initial), result_types=results, regions=(before, after)))
    return rebuild(passed, loop.results)


def _entered(translation: Translation, source: TtirBlock, pattern: Sequence[Imported]) -> Block:
    """A new block whose arguments stand for those of ``source``; values of the form of ``pattern`` enter it."""
    block = Block(types_of(flatten(pattern)))
    arguments = rebuild(pattern, block.arguments)
    translation.bind(source.arguments, arguments)
    for name, argument in zip(variable_names(source.arguments), arguments, strict=True):
        if isinstance(argument, Value):
            argument.name = name
    return block


def _if(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    (condition,) = translation.values(operation.operands)
    bodies = [region.blocks[0] for region in operation.regions]

    def arm(place: int) -> Callable[[], list[Imported]]:
        return lambda: translation.body(bodies[place]) if place < len(bodies) else []

    return _branch(translation, condition, arm(0), arm(1))


def _branch(
    translation: Translation,
    condition: Value,
    then: Callable[[], list[Imported]],
    otherwise: Callable[[], list[Imported]],
) -> list[Imported]:
    """An ``if`` whose arms are imported by the two functions; in a function of single elements a selection."""
    if translation.is_element_function:
        with translation.where(condition, True):
            yes = then()
        with translation.where(condition, False):
            no = otherwise()
        pairs = zip(yes, no, strict=True)
        return [translation.select(condition, *pair) for pair in pairs]
    arms: list[Block] = []
    pattern: list[Imported] = []
    for importing in (then, otherwise):
        block = Block()
        with translation.inside(block):
            pattern = importing()
            translation.add(Yield(flatten(pattern)))
        arms.append(block)
    branch = translation.add(If([condition], result_types=types_of(flatten(pattern)), regions=arms))
    return rebuild(pattern, branch.results)


def _call(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    name = text(operation, "callee")
    if name in translation.active_calls:
        raise translation.refusal(
            f"the function {name} calls itself",
            note="calls are replaced by the code of the function, for the machine has no stack",
            help="write it as a loop",
        )
    callee = translation.functions[name]
    translation.bind([argument.value for argument in callee.arguments], translation.imported(operation.operands))
    translation.active_calls.append(name)
    callers, translation.callers = translation.callers, operation.location.frames + translation.callers
    results = import_body(translation, callee.body)
    translation.callers = callers
    translation.active_calls.pop()
    return results


RULES: dict[str, Rule] = {
    "scf.for": _for,
    "scf.while": _while,
    "scf.if": _if,
    "tt.call": _call,
}

# ---- blocks ---------------------------------------------------------------------------------------------------------


def import_body(translation: Translation, body: Region) -> list[Imported]:
    """Import the blocks of a function, without the operations that return; what is returned.

    Raises:
        CompileError: E0201, an operation or the way that blocks branch is not supported.
    """
    return _Blocks(translation, body).until(body.blocks[0], None)


class _Blocks:
    """The blocks of one function body."""

    def __init__(self, translation: Translation, body: Region) -> None:
        self.translation = translation
        self.by_label = {block.label: block for block in body.blocks}
        self.copies = dict.fromkeys(body.blocks, 0)
        self.ahead: dict[TtirBlock, list[TtirBlock] | None] = {}

    def until(self, block: TtirBlock, end: TtirBlock | None) -> list[Imported]:
        """Import from ``block`` to ``end``, or to every return; the values that arrive there."""
        translation = self.translation
        while True:
            self._count(block)
            values = translation.body(block)
            terminator = block.operations[-1]
            following: TtirBlock | None
            match terminator.successors:
                case ():
                    return values
                case (target,):
                    values, following = translation.imported(target.operands), self.by_label[target.label]
                case _:
                    following = next(iter(self._always_ahead(block)[1:]), None)
                    (condition,) = translation.values(terminator.operands)
                    then, otherwise = (self._arm(successor, following) for successor in terminator.successors)
                    values = _branch(translation, condition, then, otherwise)
            if following is None or following is end:
                return values
            translation.bind(following.arguments, values)
            block = following

    def _arm(self, successor: Successor, end: TtirBlock | None) -> Callable[[], list[Imported]]:
        def importing() -> list[Imported]:
            values = self.translation.imported(successor.operands)
            block = self.by_label[successor.label]
            if block is end:
                return values
            self.translation.bind(block.arguments, values)
            return self.until(block, end)

        return importing

    def _always_ahead(self, block: TtirBlock) -> list[TtirBlock]:
        """The block and those that every path from it goes through, in order."""
        if block not in self.ahead:
            self.ahead[block] = None
            terminator = block.operations[-1]
            ways = [self._always_ahead(self.by_label[successor.label]) for successor in terminator.successors]
            self.ahead[block] = [block, *_common_end(ways)]
        ahead = self.ahead[block]
        if ahead is None:
            raise self.translation.refusal("a loop that is made of branches is not supported")
        return ahead

    def _count(self, block: TtirBlock) -> None:
        self.copies[block] += 1
        if self.copies[block] > MOST_COPIES:
            raise self.translation.refusal(
                "early returns are nested too deeply",
                note=f"the code behind them would be repeated more than {MOST_COPIES} times",
                help="return at the top level of the kernel, or use if and else",
            )


def _common_end(ways: Sequence[list[TtirBlock]]) -> list[TtirBlock]:
    if not ways:
        return []
    count = 0
    while all(count < len(way) and way[-1 - count] is ways[0][-1 - count] for way in ways):
        count += 1
    return ways[0][len(ways[0]) - count :]
