"""Selection of control flow: loops and branches with carried registers and carried buffers.

Carried integers live in registers; carried tensors, and carried floats (which reductions leave in NRAM), in buffers
that keep their place from iteration to iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mlutriton.codegen.selection.state import ALIASES, Selection, is_fresh, storage_type
from mlutriton.codegen.selection.views import DenseView, ScalarView, View
from mlutriton.codegen.tile_code import Branch, Loop, Node, ScalarOperand
from mlutriton.codegen.tile_code import While as WhileNode
from mlutriton.dtypes import I1, DType
from mlutriton.ir.analysis.waits import counts_of_wait, state_of_wait
from mlutriton.ir.core import Block, Operation, Value
from mlutriton.ir.ops import Constant, Dot, Elementwise, For, If, NumPrograms, TileStore, While
from mlutriton.ir.types import TensorType, shape_of
from mlutriton.isa.operands import Immediate, Register

# What is stored each turn is copied to where it is carried only if so many of it fit on chip: the carried one, two that
# are stored in turn, and as much again to make them of. Of longer ones, the copy takes more time than a latency.
_STORED_AT_A_TIME = 4

SelectBlock = Callable[[Selection, Block], None]


def lives_in_buffer(value: Value) -> bool:
    """True if a carried value is kept in NRAM and not in a register."""
    return isinstance(value.type, TensorType) or (isinstance(value.type, DType) and value.type.is_float)


def select_for(s: Selection, loop: For, select_block: SelectBlock) -> None:
    """A counted loop, which has to get on."""
    start, end, step = (s.operand(value) for value in loop.operands[:3])
    if not _is_positive(loop.operands[2]):
        _demand_progress(s, loop, start, end, step)
    index = s.code.register()
    dtype = storage_type(loop.index.type)
    stages = loop.attributes["stages"]
    assert isinstance(stages, int)
    node = Loop(dtype, index, start, end, step, [], stages=stages, location=loop.location)
    s.views[loop.index] = ScalarView(index, dtype)
    node.carried = _enter(s, loop.initial, loop.carried)
    targets = _targets(s, loop.body, loop.carried)
    s.targets.update(targets)
    node.yielded = _body(s, node.body, loop.body, loop.carried, select_block)
    s.emitter.nodes.append(node)
    for result, carried in zip(loop.results, loop.carried, strict=True):
        s.views[result] = s.views[carried]


def _is_positive(value: Value) -> bool:
    """Whether an integer is 1 or more in every launch."""
    match value.defining_op:
        case Constant(value=number):
            return number > 0
        case NumPrograms():
            return True
        case Elementwise(name="mul" | "smin" | "sext", operands=operands):
            return all(map(_is_positive, operands))
        case Elementwise(name="smax", operands=operands):
            return any(map(_is_positive, operands))
        case _:
            return False


def _demand_progress(s: Selection, loop: For, start: ScalarOperand, end: ScalarOperand, step: ScalarOperand) -> None:
    """Fault before a loop that would never end: it has iterations, and a step of 0 or less."""
    dtype = (storage_type(loop.index.type),)
    s.emitter.location = loop.location
    gets_on = s.emitter.scalar("sgt", dtype, step, Immediate(0))
    is_empty = s.emitter.scalar("sge", dtype, start, end)
    verdict = s.emitter.scalar("or", (I1,), gets_on, is_empty)
    s.emitter.emit("assert", (), (verdict, s.string("the step of this loop is not positive: it would never end")))


def _enter(s: Selection, initial: Sequence[Value], carried: Sequence[Value]) -> list[tuple[Register, ScalarOperand]]:
    """Give every carried value its register or buffer, set to the initial value; returns the registers."""
    registers: list[tuple[Register, ScalarOperand]] = []
    for source, argument in zip(initial, carried, strict=True):
        dtype = storage_type(argument.type)
        if not lives_in_buffer(argument):
            register = s.code.register()
            registers.append((register, s.operand(source)))
            s.views[argument] = ScalarView(register, dtype)
            continue
        stands = s.views[source]
        if isinstance(stands, DenseView) and s.dies(source):
            s.views[argument] = stands
            continue
        target = s.new(argument.name or source.name or "carried", shape_of(argument.type), dtype)
        s.copy(target, stands)
        s.views[argument] = target
    return registers


def _body(
    s: Selection, nodes: list[Node], block: Block, carried: Sequence[Value], select_block: SelectBlock
) -> list[ScalarOperand]:
    """Select a loop body into ``nodes``, ending with the copies of carried buffers; returns the yielded operands."""
    with s.emitter.into(nodes):
        select_block(s, block)
        return _hand_over(s, block.terminator.operands, carried)


def _hand_over(s: Selection, values: Sequence[Value], carried: Sequence[Value]) -> list[ScalarOperand]:
    places = {view.buffer for view in (s.views[c] for c in carried) if isinstance(view, DenseView)}
    moves: list[tuple[DenseView, View]] = []
    yielded: list[ScalarOperand] = []
    for value, argument in zip(values, carried, strict=True):
        target, view = s.views[argument], s.views[value]
        if isinstance(target, ScalarView):
            yielded.append(s.operand(view))
        elif isinstance(target, DenseView) and view != target:
            source = view.source if not isinstance(view, ScalarView | DenseView) else view
            if isinstance(source, DenseView) and source.buffer in places:
                # The source is itself a carried buffer that another move may overwrite first.
                kept = s.new("kept", target.shape, target.dtype)
                s.copy(kept, view)
                view = kept
            moves.append((target, view))
    for target, view in moves:
        s.copy(target, view)
    return yielded


def _targets(s: Selection, body: Block, carried: Sequence[Value]) -> dict[Value, DenseView]:
    """Values that may be produced in a carried buffer: what is yielded to it, and what a yielded product adds to."""
    places = {value: index for index, operation in enumerate(body.operations) for value in operation.results}
    found: dict[Value, DenseView] = {}
    for value, argument in zip(body.terminator.operands, carried, strict=True):
        view = s.views[argument]
        if not isinstance(view, DenseView) or value in found or not _may_replace(body, places, value, argument):
            continue
        room_bytes = _STORED_AT_A_TIME * view.count * view.dtype.bytes
        if s.is_pipelined and room_bytes <= s.machine.usable_nram_bytes and _is_stored(body, value):
            continue
        found[value] = view
        product = value.defining_op
        if isinstance(product, Dot) and s.uses.get(added := product.operands[2]) == 1 and added not in found:
            same_type = storage_type(added.type) == view.dtype
            if same_type and isinstance(added.defining_op, Elementwise) and _may_replace(body, places, added, argument):
                found[added] = view
    return found


def _may_replace(body: Block, places: dict[Value, int], value: Value, argument: Value) -> bool:
    """True if a value may be produced where a carried one stands: nothing reads the old value from then on."""
    operation = value.defining_op
    if value not in places or operation is None or not is_fresh(value):
        return False
    if isinstance(operation, For | While | If) or len(operation.results) > 1:
        return False
    last = _last_use(body, argument)
    in_place = isinstance(operation, Elementwise) or (isinstance(operation, Dot) and operation.operands[2] is argument)
    return last < places[value] or (in_place and last == places[value] and _reads_aligned(operation, argument))


def _is_stored(body: Block, value: Value) -> bool:
    """True if a value goes to memory as it is: while it is on its way there, nothing can be written in its place."""
    return any(isinstance(each, TileStore) and each.value is value for each in body.operations)


def _reads_aligned(operation: Operation, argument: Value) -> bool:
    """True if the operation reads the old value only as itself, element under element."""
    aliased = [v for v in operation.operands if v is not argument and _derives(v, argument)]
    return not aliased


def _derives(value: Value, argument: Value) -> bool:
    operation = value.defining_op
    if isinstance(operation, ALIASES) or (isinstance(operation, Elementwise) and operation.name == "bitcast"):
        return any(source is argument or _derives(source, argument) for source in operation.operands)
    return False


def _last_use(body: Block, argument: Value) -> int:
    """Index of the last operation of the body that reads the value or something that shares its buffer; -1 if none."""
    shared = {argument}
    last = -1
    for index, operation in enumerate(body.operations):
        if any(operand in shared for inner in operation.walk() for operand in inner.operands):
            last = index
            if not _is_fresh_result(operation):
                shared.update(operation.results)
    return last


def _is_fresh_result(operation: Operation) -> bool:
    """True if no result of the operation shares a buffer with an operand."""
    return all(is_fresh(result) for result in operation.results)


def select_while(s: Selection, loop: While, select_block: SelectBlock) -> None:
    """A loop with its condition computed first."""
    head, body = loop.regions
    node = WhileNode(Immediate(0), [], location=loop.location)
    node.carried = _enter(s, loop.operands, head.arguments)
    with s.emitter.into(node.head):
        select_block(s, head)
        condition, *passed = head.terminator.operands
        node.condition = s.operand(condition)
        for value, argument, result in zip(passed, body.arguments, loop.results, strict=True):
            s.views[argument] = s.views[result] = s.views[value]
    node.yielded = _body(s, node.body, body, head.arguments, select_block)
    state = state_of_wait(loop)
    if state is not None:
        with s.emitter.into(node.body):
            _pause(s, loop, node, state)
    s.emitter.nodes.append(node)


def _pause(s: Selection, loop: While, node: WhileNode, state: Sequence[int]) -> None:
    """Let other programs run before a loop looks at memory again."""
    head, body = loop.regions
    unchanged: ScalarOperand = Immediate(1)
    for place in state:
        before, after = (s.operand(values[place]) for values in (head.arguments, body.terminator.operands))
        if before != after:
            dtype = storage_type(head.arguments[place].type)
            same = s.emitter.scalar("eq", (dtype,), before, after)
            unchanged = s.emitter.scalar("and", (I1,), unchanged, same)
    counts = counts_of_wait(loop)
    if counts is None:
        unchanged = Immediate(0)
    for count in counts or ():
        before, now = s.code.register(), s.operand(count)
        same = s.emitter.scalar("eq", (storage_type(count.type),), before, now)
        unchanged = s.emitter.scalar("and", (I1,), unchanged, same)
        _carry(node, before, now)
    register = s.code.register()
    attempt = s.emitter.integer("add", register, Immediate(1))
    _carry(node, register, attempt)
    s.emitter.emit("pause", (), (unchanged, attempt))


def _carry(node: WhileNode, register: Register, following: ScalarOperand) -> None:
    """Hand a number that starts at 0 from one iteration of a loop to the next."""
    node.carried.append((register, Immediate(0)))
    node.yielded.append(following)


def select_if(s: Selection, branch: If, select_block: SelectBlock) -> None:
    """A branch; its results are set by both sides."""
    node = Branch(s.operand(branch.operands[0]), location=branch.location)
    places: list[View] = []
    for result in branch.results:
        dtype = storage_type(result.type)
        if lives_in_buffer(result):
            places.append(s.new(result.name or "either", shape_of(result.type), dtype))
        else:
            places.append(ScalarView(s.code.register(), dtype))
        s.views[result] = places[-1]
    for nodes, block in zip((node.then, node.otherwise), branch.regions, strict=False):
        with s.emitter.into(nodes):
            select_block(s, block)
            for place, value in zip(places, _values(block), strict=True):
                if isinstance(place, ScalarView):
                    assert isinstance(place.operand, Register)
                    s.emitter.mov(place.dtype, place.operand, s.operand(value))
                elif isinstance(place, DenseView):
                    s.copy(place, s.views[value])
    s.emitter.nodes.append(node)


def _values(block: Block) -> Iterable[Value]:
    return block.terminator.operands if block.operations else ()
