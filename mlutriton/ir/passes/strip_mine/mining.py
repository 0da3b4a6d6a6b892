"""The walk over the source: what is computed when, in which group, and what goes through local memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import product

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location
from mlutriton.dtypes import I64
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet
from mlutriton.ir.copying import copy_operation
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import (
    Assert,
    AtomicCas,
    AtomicRmw,
    Collect,
    Concatenate,
    Condition,
    Constant,
    Dot,
    Elementwise,
    For,
    Gather,
    GatherAtomic,
    GatherLoad,
    Histogram,
    If,
    Load,
    Order,
    Print,
    Reduce,
    Scan,
    ScatterStore,
    Splat,
    Store,
    TileLoad,
    TileStore,
    While,
)
from mlutriton.ir.passes.strip_mine.boxes import dense_strides, strip_shape, strips
from mlutriton.ir.passes.strip_mine.groups import (
    Effect,
    Fold,
    Group,
    Keep,
    Member,
    Nest,
    Running,
)
from mlutriton.ir.passes.strip_mine.slices import (
    MAXIMUM_REDUCED_STRIPS,
    POINTWISE,
    NotByBoxesError,
    Slicer,
    Trial,
)
from mlutriton.ir.passes.strip_mine.written_code import Code
from mlutriton.ir.types import TensorType, Type, shape_of, storage_dtype

# What it costs to compute a value again, about in passes over it, and from where on it is kept if it is read again.
_LOAD_WEIGHT, _GATHER_WEIGHT, _PRODUCT_WEIGHT = 8, 200, 1000
_WEIGHTS = {"simple": 1, "fma": 1, "divide": 6, "special": 4}
_KEPT_WEIGHT = 24
# Of how many operations one value may be made before it is kept; in the nest that makes it, it need not be loaded.
_MAXIMUM_DEPTH = 48


class Miner:
    """Writes one version of a function.

    Attributes:
        disjoint: whether the version may rely on arrays that share no bytes.
        whole_loops: whether a loop may run as a whole for one box of what it carries after the other.
        short_reductions: whether reductions of few elements each may be done for the box that is wanted.
        relies: true if the version is right only where the arrays of the launch share no bytes.
    """

    def __init__(
        self,
        function: Function,
        parameters: Sequence[Value],
        strip_bytes: int,
        *,
        disjoint: bool,
        whole_loops: bool,
        short_reductions: bool,
    ) -> None:
        self.code = Code()
        self.slicer = Slicer(self.code, strip_bytes)
        self.values = self.slicer.values
        self.values |= zip(function.body.arguments, parameters, strict=True)
        self.strip_bytes = strip_bytes
        self.aliasing = Aliasing(function)
        self.disjoint = disjoint
        self.whole_loops = whole_loops
        self.short_reductions = short_reductions
        self.relies = False
        self.group: Group | None = None
        self.weights: dict[Value, int] = {}
        self.depths: dict[Value, int] = {}
        self.products: set[Value] = set()
        self.users: dict[Value, list[Operation]] = {}
        for operation in function.walk():
            for operand in operation.operands:
                self.users.setdefault(operand, []).append(operation)

    # ---- blocks ----------------------------------------------------------------------------------------------------

    def block(self, source: Block, target: Block) -> None:
        """All of a source block but what its terminator hands over."""
        with self._region(target):
            self._operations(source)
            self.flush()

    @contextmanager
    def _region(self, target: Block) -> Generator[None]:
        """Write into a block; what is put into local memory there counts there alone."""
        front, stored = self.slicer.front, dict(self.slicer.stored)
        self.slicer.front = target.operations
        try:
            with self.code.nested(target):
                yield
        finally:
            self.slicer.front = front
            self.slicer.stored = stored

    @contextmanager
    def _tried(self, target: Block, trial: Trial | None = None) -> Generator[None]:
        """Write into a block that no one will read, whether or not it can be written to its end."""
        areas = list(self.slicer.areas)
        self.slicer.trial = trial
        try:
            with self._region(target):
                yield
        finally:
            self.slicer.trial = None
            self.slicer.areas[:] = areas

    def _operations(self, source: Block) -> None:
        for operation in source.operations[:-1]:
            with self.code.at(operation.location):
                self._operation(operation)

    def flush(self) -> None:
        """Write the nest of the open group."""
        group, self.group = self.group, None
        if group is not None:
            with self.code.at(_location(group.members[0])):
                Nest(self.slicer, group).write()
            self.slicer.done.clear()
            self.slicer.stored |= group.kept

    # ---- operations ------------------------------------------------------------------------------------------------

    def _operation(self, operation: Operation) -> None:
        if not isinstance(operation, Splat):
            self._settle([operand for operand in operation.operands if not shape_of(operand.type)])
        match operation:
            case For():
                self._for(operation)
            case While():
                self._while(operation)
            case If():
                self._if(operation)
            case Load() | Store() | AtomicRmw() | AtomicCas() | Print() | Collect():
                self._whole(operation)
            case TileStore() | ScatterStore() | GatherAtomic():
                self._write(operation)
            case TileLoad() | GatherLoad():
                self._load(operation)
            case Order():
                self._order(operation)
            case _ if self._is_plain(operation):
                self._plain(operation)
            case Assert():
                self._join(Effect(operation), operation.operands)
            case Reduce() if self._is_on_the_way(operation):
                self._defer(operation, 1)
            case Reduce() | Histogram():
                axis = operation.axis if isinstance(operation, Reduce) else 0
                self._join(Fold(operation), operation.operands, axis=axis, backward=False).folded.update(
                    operation.results
                )
            case Scan():
                backward = bool(operation.attributes["reverse"])
                group = self._join(Running(operation), operation.operands, axis=operation.axis, backward=backward)
                group.kept |= {result: self.slicer.area(result.type) for result in operation.results}
            case Concatenate():
                self._concatenate(operation)
            case Gather():
                if self._is_big(operation.operands[0].type):
                    self._pointer(operation.operands[0])
                self._defer(operation, _GATHER_WEIGHT)
            case Dot():
                self.products.add(operation.result)
                self._defer(operation, _PRODUCT_WEIGHT)
            case _ if any(not shape_of(result.type) for result in operation.results):
                self._whole(operation)
            case _:
                own = _WEIGHTS.get(operation.arithmetic.cost_class, 1) if isinstance(operation, Elementwise) else 0
                self._defer(operation, own)

    def _is_big(self, type: Type) -> bool:
        return isinstance(type, TensorType) and type.count * storage_dtype(type.element).bytes > self.strip_bytes

    def _is_on_the_way(self, operation: Reduce) -> bool:
        """True for a reduction of so few elements each that a strip of its result needs hardly more than a strip."""
        extent = shape_of(operation.operands[0].type)[operation.axis]
        is_big = all(self._is_big(result.type) for result in operation.results)
        return self.short_reductions and is_big and extent <= MAXIMUM_REDUCED_STRIPS

    def _is_plain(self, operation: Operation) -> bool:
        """True if the operation stays as it is: it has all its operands, and what it gives fits."""
        fits = not any(self._is_big(result.type) for result in operation.results)
        return fits and all(operand in self.values for operand in operation.operands)

    def _plain(self, operation: Operation) -> None:
        self.code.operations.append(copy_operation(operation, self.values))

    def _whole(self, operation: Operation) -> None:
        """The operation on all of its operands, whose boxes are put together for it."""
        self.flush()
        # What is put together stands in this list, but not in those after it.
        made = copy_operation(operation, {operand: self.slicer.whole(operand) for operand in operation.operands})
        self.code.effect(made)
        self.values |= zip(operation.results, made.results, strict=True)

    def _defer(self, operation: Operation, own_weight: int) -> None:
        """Compute the results where they are wanted; keep them if that would cost too much."""
        weight = own_weight + sum(self.weights.get(operand, 0) for operand in operation.operands)
        depth = 1 + max((self.depths.get(operand, 0) for operand in operation.operands), default=0)
        for result in operation.results:
            self.weights[result], self.depths[result] = weight, depth
            if not self.products.isdisjoint(operation.operands):
                self.products.add(result)
            if depth > _MAXIMUM_DEPTH or (weight > _KEPT_WEIGHT and self._is_repeated(result)):
                self._keep(result)

    def _is_repeated(self, value: Value) -> bool:
        users = self.users.get(value, [])
        once = (*POINTWISE, Reduce, Scan, Histogram, TileStore, ScatterStore)
        return len(users) > 1 or any(not isinstance(user, once) for user in users)

    # ---- groups ----------------------------------------------------------------------------------------------------

    def _join(
        self,
        member: Member,
        operands: Sequence[Value],
        *,
        shape: tuple[int, ...] | None = None,
        axis: int | None = None,
        backward: bool | None = None,
    ) -> Group:
        """Make something a member of the open group if it can be, else of a new one."""
        shape = shape_of(operands[0].type) if shape is None else shape
        square = not self.products.isdisjoint(operands)
        kept = member.value if isinstance(member, Keep) else None
        while True:
            if self.group is not None and not self.group.admits(shape, axis, backward):
                self.flush()
            group = self.group or Group(shape)
            joined = group.admitting(member, axis, backward, square=square)
            refusal = self._refusal(joined, operands)
            if refusal is None:
                break
            if refusal.wanted is not None and refusal.wanted is not kept:
                self._pointer(refusal.wanted)
            elif self.group is not None:
                self.flush()
            else:
                break  # who writes the nest finds what is wrong
        joined.members.append(member)
        self.group = joined
        return joined

    def _refusal(self, joined: Group, operands: Sequence[Value]) -> NotByBoxesError | None:
        """Try to write strips of a new member's operands; what is in the way.

        It is, for one, if another box is needed of what the group gives only when all its strips are done.
        """
        for strip in product(*map(strips, joined.shape, joined.strip(self.strip_bytes))):
            block = Block([I64] * len(strip))
            box = tuple(
                (place if start is None else start, extent)
                for place, (start, extent) in zip(block.arguments, strip, strict=True)
            )
            try:
                with self._tried(block, Trial(box, joined.kept.keys(), joined.folded)):
                    for operand in operands:
                        self.slicer.box(operand, box[: len(shape_of(operand.type))])
            except NotByBoxesError as refusal:
                return refusal
        return None

    def _settle(self, values: Sequence[Value]) -> None:
        """See that values exist that reductions of the open group give."""
        if self.group is not None and not self.group.folded.isdisjoint(values):
            self.flush()

    def _keep(self, value: Value) -> None:
        """Put a value into local memory."""
        pointer = self.slicer.area(value.type)
        group = self._join(Keep(value, pointer), [value])
        group.kept[value] = pointer
        self.weights[value], self.depths[value] = _LOAD_WEIGHT, 0
        self.products.discard(value)

    def _pointer(self, value: Value) -> Value:
        """Where all of a value stands in local memory, once it does."""
        if value not in self.slicer.stored and not (self.group and value in self.group.kept):
            self._keep(value)
        self.flush()
        return self.slicer.stored[value]

    def _concatenate(self, operation: Concatenate) -> None:
        pointer, first = self.slicer.area(operation.result.type), 0
        for operand in operation.operands:
            self._join(Keep(operand, pointer, first), [operand])
            assert isinstance(operand.type, TensorType)
            first += operand.type.count
        self.flush()
        self.slicer.stored[operation.result] = pointer

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _load(self, operation: TileLoad | GatherLoad) -> None:
        if self.group is not None and any(self._meets(operation, other) for other in self.group.writes):
            self.flush()
        if self._is_plain(operation):
            self._plain(operation)
            return
        if self._is_constant(operation):
            self._defer(operation, _LOAD_WEIGHT if isinstance(operation, TileLoad) else _GATHER_WEIGHT)
            return
        self._keep(operation.result)
        assert self.group is not None
        self.group.reads.append(operation)

    def _is_constant(self, operation: Operation) -> bool:
        """True if the kernel never writes what the operation reads."""
        written = self.aliasing.written
        if written is not None and not written:
            return True
        if not self.disjoint or may_meet(self.aliasing.roots(operation), written):
            return False
        self.relies = True
        return True

    def _meets(self, a: Operation, b: Operation) -> bool:
        """True if two accesses may touch the same bytes."""
        if not self.disjoint or may_meet(self.aliasing.roots(a), self.aliasing.roots(b)):
            return True
        self.relies = True
        return False

    def _write(self, operation: TileStore | ScatterStore | GatherAtomic) -> None:
        tensors = [operand for operand in operation.operands if shape_of(operand.type)]
        if self.group is not None:
            met = any(self._meets(operation, other) for other in self.group.writes)
            passed = (read for read in self.group.reads if not _is_in_place(read, operation))
            if met or any(self._meets(operation, read) for read in passed):
                self.flush()
        shape = shape_of(operation.operands[1].type)
        if not isinstance(operation, TileStore):
            shape = shape_of(operation.operands[2 if isinstance(operation, ScatterStore) else -1].type)
        wanted = [result for result in operation.results if result in self.users]
        if self._is_plain(operation) and not self.group:
            self._plain(operation)
            return
        in_order = not isinstance(operation, TileStore)
        axis, backward = (len(shape) - 1, False) if in_order else (None, None)
        group = self._join(Effect(operation), tensors, shape=shape, axis=axis, backward=backward)
        group.writes.append(operation)
        group.in_order |= in_order
        group.kept |= {result: self.slicer.area(result.type) for result in wanted}

    def _order(self, operation: Order) -> None:
        """Let members wait for each other behind what comes before, unless disjoint arrays need not be waited for."""
        if self.disjoint and operation.attributes["unless_disjoint"]:
            self.relies |= self.group is not None
        else:
            self.flush()
        self._plain(operation)

    # ---- control flow ----------------------------------------------------------------------------------------------

    def _hand_over(self, values: Sequence[Value], places: Sequence[Value | None]) -> list[Value | None]:
        """Put values into their places in local memory; those without a place as they are."""
        for value, place in zip(values, places, strict=True):
            if place is not None:
                self._join(Keep(value, place), [value])
        self.flush()
        return [
            self.slicer.whole(value) if place is None else None for value, place in zip(values, places, strict=True)
        ]

    def _enter(self, initial: Sequence[Value]) -> list[tuple[Value, Value] | None]:
        """For each carried value that is big two areas, of which the first holds it."""
        return [
            (self.slicer.area(value.type), self.slicer.area(value.type)) if self._is_big(value.type) else None
            for value in initial
        ]

    def _operands(self, values: Sequence[Value], pairs: Sequence[tuple[Value, Value] | None]) -> list[Value]:
        """What a loop carries: big values as the place where they are, and that where the next ones will be."""
        plain = self._hand_over(values, [pair and pair[0] for pair in pairs])
        return _flattened(plain, pairs)

    def _arguments(self, block: Block, sources: Sequence[Value]) -> list[tuple[Value, Value] | None]:
        """New arguments of a block for values of the source; places of the big ones."""
        pairs: list[tuple[Value, Value] | None] = []
        for source in sources:
            if not self._is_big(source.type):
                self.values[source] = _argument(block, source.type, source.name)
                pairs.append(None)
                continue
            type = self.slicer.place_type(source.type)
            pair = (_argument(block, type, source.name), _argument(block, type, source.name))
            self.slicer.stored[source] = pair[0]
            pairs.append(pair)
        return pairs

    def _yield(self, values: Sequence[Value], pairs: Sequence[tuple[Value, Value] | None]) -> list[Value]:
        """What the next iteration gets: big values are written where this one does not read."""
        plain = self._hand_over(values, [pair and pair[1] for pair in pairs])
        return _flattened(plain, [pair and (pair[1], pair[0]) for pair in pairs])

    def _for(self, loop: For) -> None:
        self.flush()
        if any(self._is_big(carried.type) for carried in loop.carried) and self._runs_by_boxes(loop):
            self._defer(loop, _PRODUCT_WEIGHT)
            return
        bounds = [self.values[bound] for bound in loop.operands[:3]]
        operands = self._operands(loop.initial, self._enter(loop.initial))
        body = Block()
        with self._region(body):
            self.values[loop.index] = _argument(body, loop.index.type, loop.index.name)
            pairs = self._arguments(body, loop.carried)
            self._operations(loop.body)
            self.code.finish(self._yield(loop.body.terminator.operands, pairs))
        made = For([*bounds, *operands], loop.attributes, regions=[body])
        self.code.effect(made)
        self._results(loop.results, made.results, in_pairs=True)

    def _runs_by_boxes(self, loop: For) -> bool:
        """True if the whole loop can run for one box of what it carries after the other."""
        if not self.whole_loops:
            return False
        for operation in loop.body.operations[:-1]:
            gives_scalar = any(not shape_of(result.type) for result in operation.results)
            takes_tensor = any(shape_of(operand.type) for operand in operation.operands)
            if isinstance(operation, TileLoad | GatherLoad | Load):
                if not self._is_constant(operation):
                    return False
            elif not operation.PURE or (gives_scalar and takes_tensor):
                return False
        carries_out = any(result in self.users and not shape_of(result.type) for result in loop.results)
        products = any(isinstance(operation, Dot) for operation in loop.body.operations)
        if carries_out or any(self._is_unknown(value) for value in loop.initial):
            return False
        if products:
            self.products.update(loop.results)
        return all(self._is_by_boxes(result, square=products) for result in loop.results if self._is_big(result.type))

    def _is_unknown(self, value: Value) -> bool:
        return not shape_of(value.type) and value not in self.values

    def _is_by_boxes(self, value: Value, *, square: bool) -> bool:
        """Try to write a box of a value."""
        shape = shape_of(value.type)
        box = tuple((0, extent) for extent in strip_shape(shape, None, self.strip_bytes // 4, square=square))
        try:
            with self._tried(Block()):
                self.slicer.box(value, box)
        except NotByBoxesError:
            return False
        return True

    def _results(self, sources: Sequence[Value], results: Sequence[Value], *, in_pairs: bool) -> None:
        rest = iter(results)
        for source in sources:
            result = next(rest)
            result.name = source.name
            if self._is_big(source.type):
                self.slicer.stored[source] = result
                if in_pairs:
                    next(rest)
            else:
                self.values[source] = result

    def _passed(self, values: Sequence[Value]) -> list[Value]:
        """Values handed out of a region: big ones as the place where they are."""
        return [self._pointer(v) if self._is_big(v.type) else self._settled_whole(v) for v in values]

    def _settled_whole(self, value: Value) -> Value:
        self.flush()
        return self.slicer.whole(value)

    def _if(self, branch: If) -> None:
        self.flush()
        regions: list[Block] = []
        for source in branch.regions:
            block = Block()
            with self._region(block):
                self._operations(source)
                self.flush()
                self.code.finish(self._passed(source.terminator.operands))
            regions.append(block)
        types = [self._passed_type(result.type) for result in branch.results]
        made = If([self.values[branch.operands[0]]], branch.attributes, result_types=types, regions=regions)
        self.code.effect(made)
        self._results(branch.results, made.results, in_pairs=False)

    def _passed_type(self, type: Type) -> Type:
        return self.slicer.place_type(type) if self._is_big(type) else type

    def _while(self, loop: While) -> None:
        self.flush()
        operands = self._operands(loop.operands, self._enter(loop.operands))
        before, after = loop.regions
        head, body = Block(), Block()
        with self._region(head):
            pairs = self._arguments(head, before.arguments)
            self._operations(before)
            self.flush()
            condition, *passed = before.terminator.operands
            places = [place for pair in pairs if pair for place in pair]
            handed = [self._settled_whole(condition), *self._passed(passed), *places]
            self.code.effect(Condition(handed))
        with self._region(body):
            for source in after.arguments:
                argument = _argument(body, self._passed_type(source.type), source.name)
                (self.slicer.stored if self._is_big(source.type) else self.values)[source] = argument
            moved = iter([_argument(body, place.type, place.name) for place in places])
            self._operations(after)
            self.flush()
            pairs = [pair and (next(moved), next(moved)) for pair in pairs]
            self.code.finish(self._yield(after.terminator.operands, pairs))
        types = [value.type for value in handed[1:]]
        made = While(operands, loop.attributes, result_types=types, regions=[head, body])
        self.code.effect(made)
        self._results(loop.results, made.results[: len(passed)], in_pairs=False)


def _location(member: Member) -> Location:
    operation = member.value.defining_op if isinstance(member, Keep) else member.operation
    return UNKNOWN_LOCATION if operation is None else operation.location


def _argument(block: Block, type: Type, name: str) -> Value:
    argument = Value(type, block, len(block.arguments), name)
    block.arguments.append(argument)
    return argument


def _flattened(plain: Sequence[Value | None], pairs: Sequence[tuple[Value, Value] | None]) -> list[Value]:
    operands: list[Value] = []
    for value, pair in zip(plain, pairs, strict=True):
        operands += pair if pair is not None else [value] if value is not None else []
    return operands


def _is_in_place(read: Operation, write: Operation) -> bool:
    """True if an access writes each element exactly where the other has read it, and no two elements in one place."""
    if not isinstance(read, TileLoad) or not isinstance(write, TileStore):
        return False
    if read.base is not write.base or read.operands[2:] != write.operands[2:] or any(read.integers("wraps")):
        return False
    shape = shape_of(read.result.type)
    strides = [stride.defining_op for stride in read.geometry.strides]
    known = [stride.value if isinstance(stride, Constant) else 0 for stride in strides]
    return all(stride >= dense for stride, dense in zip(known, dense_strides(shape), strict=True))
