"""Programs split among members: each computes its part of the tensors, and what all need is loaded by all together.

A kernel

    for k: total = dot(load a(k), load b(k), total)
    store c, total

becomes, for member ``m`` of ``n``, with the rows of ``a``, ``c`` and ``total`` in ``n`` parts,

    for k: total = dot(load part m of a(k), assemble(load part m of b(k)), total)
    store part m of c, total

With the columns in parts, a member multiplies its columns of ``b`` alone. Rows of few columns take longer to begin than
to load; so these, too, are loaded in parts of whole rows if that is said to be quicker, and each keeps its columns.

Which axis of what is stored is split is tried: the one that leaves a member the least to do. A program of which most
would be done by every member is not split, nor one that works on memory in an order that members could not keep.

Members keep the order in which a program writes memory by waiting for each other (``order``): around a write that may
meet another access of the program through the same array, and around any if arrays of the launch overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.dtypes import I32
from mlutriton.ir.analysis.aliasing import Aliasing, may_meet, writes
from mlutriton.ir.analysis.layouts import (
    WHOLE,
    Layouts,
    NotSplitError,
    can_be_split,
    part_shape,
)
from mlutriton.ir.analysis.scalars import Scalar
from mlutriton.ir.analysis.waits import state_of_wait
from mlutriton.ir.copying import copy_block
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.member_ops import Assemble, Member, Order
from mlutriton.ir.ops import (
    AddPtr,
    Assert,
    AtomicCas,
    AtomicRmw,
    Constant,
    Dot,
    Elementwise,
    For,
    GatherAtomic,
    GatherLoad,
    If,
    Load,
    Range,
    Reduce,
    Reshape,
    Scan,
    ScatterStore,
    Splat,
    TileGeometry,
    TileLoad,
    TileStore,
    While,
    Yield,
)
from mlutriton.ir.passes.programs.layout_emission import Emission
from mlutriton.ir.types import TensorType, element_type, shape_of, storage_bytes, with_shape

# What a member may have to do of what the whole program is.
_LARGEST_SHARE = 0.5
# Smaller tiles each member loads itself: that takes no longer than to wait for the others.
_LEAST_SHARED_BYTES = 4096


def partition(function: Function, members: int, *, share: bool, least_part_bytes: int) -> list[Function]:
    """Functions of which each does the work of a function if so many members run it.

    Args:
        function: whose memory accesses are known; it stays as it is.
        members: how many run one program.
        share: load together what all need.
        least_part_bytes: where nothing is shared, a transfer of a smaller part takes no longer than to begin it.

    Returns:
        One at least, each with another axis split, or, if it multiplies, with other tiles loaded together. The one that
        leaves a member the least work is the first.

    Raises:
        NotSplitError: it cannot be split, or that is of no use; says why.
    """
    orders, choices = _orders(function), _choices(function, members)
    parts = [_Emission(function, *each, orders, share=share).run() for each in choices]
    multiplies = any(isinstance(each, Dot) for each in function.walk())
    exchanging = [
        _Emission(function, layouts, stored, orders, share=share, exchange=True).run()
        for layouts, stored in choices
        if share and multiplies and _may_exchange(function, layouts)
    ]
    try:
        _check_gain(parts[0], members, least_part_bytes)
    except NotSplitError:
        if not exchanging:
            raise
        parts = []
    return [*parts, *exchanging]


def _check_gain(part: Function, members: int, least_part_bytes: int) -> None:
    """Refuse parts that are too small.

    Raises:
        NotSplitError: they are, and nothing is loaded together.
    """
    operations = list(part.walk())
    loaded = [each.result for each in operations if isinstance(each, TileLoad | GatherLoad)]
    stored = [each.operands[1] for each in operations if isinstance(each, TileStore)]
    stored += [each.operands[2] for each in operations if isinstance(each, ScatterStore)]
    moved = (storage_bytes(each.type) for each in (*loaded, *stored))
    largest = max(moved, default=0)
    shared = any(isinstance(each, Assemble) for each in operations)
    if largest < least_part_bytes and not shared:
        raise NotSplitError(f"tiles of {members * largest:,} bytes are too small for {members} cores", part.location)


# ---- the order of accesses -----------------------------------------------------------------------------------------


def _orders(function: Function) -> dict[Operation, bool]:
    """The writes that other accesses have to be kept in order with: True if only where arrays overlap.

    Raises:
        NotSplitError: the program may wait for others, or decide by what it writes itself.
    """
    operations = list(function.walk())
    for operation in operations:
        if isinstance(operation, AtomicRmw | AtomicCas | GatherAtomic):
            raise NotSplitError("atomics are for one core of a program alone", operation.location)
        if isinstance(operation, While) and state_of_wait(operation) is not None:
            raise NotSplitError("it waits for other programs", operation.location)
    aliasing = Aliasing(function)
    loads = [each for each in operations if isinstance(each, TileLoad | GatherLoad | Load)]
    stores = [each for each in operations if writes(each)]
    repeated = {inner for each in operations if isinstance(each, For | While) for inner in each.walk()}
    decides = any(isinstance(each, If | While) for each in operations)
    found: dict[Operation, bool] = {}
    for store in stores:
        roots = aliasing.roots(store)
        read = any(may_meet(roots, aliasing.roots(load)) for load in loads)
        if read and decides:
            raise NotSplitError("it may decide by what it writes", store.location)
        written = any(other is not store and may_meet(roots, aliasing.roots(other)) for other in stores)
        if read or written or store in repeated:
            found[store] = False
        elif loads or len(stores) > 1:
            found[store] = True
    return found


# ---- the choice of layouts -----------------------------------------------------------------------------------------


def _choices(function: Function, members: int) -> list[tuple[Layouts, dict[Operation, int]]]:
    """The layouts that leave a member much less to do than all, the least first.

    Raises:
        NotSplitError: there are none.
    """
    stored: list[Operation] = [each for each in function.walk() if isinstance(each, TileStore | ScatterStore | Assert)]
    axes = {each: _axes(each, members) for each in stored}
    whole = Layouts(function, members, {})
    refusal: NotSplitError | None = None
    found: list[tuple[Layouts, dict[Operation, int]]] = [(whole, dict.fromkeys(stored, WHOLE))]
    for axis in sorted({axis for every in axes.values() for axis in every}):
        tried = {each: axis if axis in every else WHOLE for each, every in axes.items()}
        try:
            found.append((Layouts(function, members, tried), tried))
        except NotSplitError as error:
            refusal = refusal or error
    found.sort(key=lambda each: each[0].work())
    most = _LARGEST_SHARE * whole.work()
    if of_use := [each for each in found if each[0].work() <= most]:
        return of_use
    best, _ = found[0]
    if refusal is not None and best is whole:
        raise refusal
    repeated = best.most_repeated()
    place = function.location if repeated is None else repeated.location
    what = "its work" if repeated is None else repeated.name
    raise NotSplitError(f"every core would do all of {what}", place)


def _axes(operation: Operation, members: int) -> list[int]:
    """The axes along which what an operation takes can be split."""
    value = operation.operands[0 if isinstance(operation, Assert) else 1]
    if isinstance(operation, ScatterStore):
        value = operation.operands[2]
    shape = shape_of(value.type)
    return [axis for axis in range(len(shape)) if can_be_split(shape, axis, members)]


# ---- the code of a member ------------------------------------------------------------------------------------------


class _Emission(Emission):
    """Writes the code of a member.

    Attributes:
        stored: the layouts of operations with an effect.
        orders: see ``_orders``.
        share: see ``partition``.
        exchange: also load together what each needs a part of, in longer segments.
    """

    def __init__(
        self,
        function: Function,
        layouts: Layouts,
        stored: dict[Operation, int],
        orders: dict[Operation, bool],
        *,
        share: bool,
        exchange: bool = False,
    ) -> None:
        super().__init__(function, layouts)
        self.stored, self.orders, self.share, self.exchange = stored, orders, share, exchange
        self.members = layouts.members
        self.member = self.front.add(Member((), {"members": self.members}))
        self.starts: dict[int, Value] = {}

    def shape(self, shape: tuple[int, ...], layout: int) -> tuple[int, ...]:
        """That of a member's part."""
        return part_shape(shape, layout, self.members)

    # ---- effects ---------------------------------------------------------------------------------------------------

    def with_effect(self, operation: Operation) -> None:
        """Do an operation once, or each member its part."""
        order = self.orders.get(operation)
        if order is not None:
            self.effect(Order((), {"unless_disjoint": order}))
        layout = self.stored.get(operation, WHOLE)
        if layout != WHOLE:
            self._stored_part(operation, layout)
        elif isinstance(operation, Assert):
            self.effect(Assert(self.whole(operation), operation.attributes))
        else:
            self._by_first(operation)
        if order is not None:
            self.effect(Order((), {"unless_disjoint": order}))

    def _by_first(self, operation: Operation) -> None:
        """One member alone does what need not be done twice."""
        is_first = self.code.add(Elementwise.of("eq", self.member, self.code.value(0)))
        made = operation.__class__(self.whole(operation), operation.attributes, location=operation.location)
        regions = [Block(), Block()]
        regions[0].operations = [made, Yield((), location=operation.location)]
        regions[1].operations = [Yield((), location=operation.location)]
        self.effect(If([is_first], result_types=[], regions=regions))

    def _stored_part(self, operation: Operation, layout: int) -> None:
        operands = self.operands(operation, layout)
        match operation:
            case TileStore():
                base, geometry = self._geometry(operation.base, operation.geometry, layout)
                self.effect(TileStore([base, operands[1], *geometry], operation.attributes))
            case ScatterStore():
                operands, attributes = self._items(operation, operands, layout)
                if attributes["length"] == 1:
                    operands[2] = self._in_shape(operands[2], shape_of(operands[1].type))
                self.effect(ScatterStore(operands, attributes))
            case _:
                self.effect(Assert(operands, operation.attributes))

    # ---- everything else -------------------------------------------------------------------------------------------

    def made(self, operation: Operation, layout: int) -> Sequence[Value]:
        """Do an operation for a member's part of its results."""
        operands = self.operands(operation, layout)
        attributes = operation.attributes
        types = [
            with_shape(part_shape(shape_of(result.type), layout, self.members), element_type(result.type))
            for result in operation.results
        ]
        match operation:
            case TileLoad() if (axis := self._shared_axis(operation, layout)) is not None:
                part = self._tile_part(operation, axis)
                part.name = operation.result.name
                return self.effect(Assemble([part], {"axis": axis, "kept": layout, "members": self.members})).results
            case TileLoad() if layout != WHOLE:
                return [self._tile_part(operation, layout)]
            case Range() if layout != WHOLE:
                return [self._range(operation)]
            case GatherLoad() if layout != WHOLE:
                operands, attributes = self._items(operation, operands, layout)
                if attributes["length"] == 1:
                    made = self.effect(GatherLoad(operands, attributes))
                    return [self._in_shape(made.result, shape_of(types[0]))]
            case Constant():
                return [self.code.add(Constant.of(operation.value, types[0]))]
            case _:
                pass
        regions = [copy_block(region, {}) for region in operation.regions]
        assert not regions or isinstance(operation, Reduce | Scan)
        return self.effect(operation.__class__(operands, attributes, result_types=types, regions=regions)).results

    def _start(self, part_extent: int) -> Value:
        """Where the member's part of so many elements begins."""
        if part_extent not in self.starts:
            start = self.front.binary("mul", self.member, part_extent)
            self.starts[part_extent] = self.front.value(start)
        return self.starts[part_extent]

    def _range(self, operation: Range) -> Value:
        first = operation.integer("start")
        extent = shape_of(operation.result.type)[0] // self.members
        places = self.code.add(Range((), {"start": first, "end": first + extent}))
        start = self.code.add(Elementwise.of("trunc_int", self._start(extent), to=I32))
        return self.code.add(
            Elementwise.of("add", places, self.code.add(Splat([start], result_types=[TensorType((extent,), I32)])))
        )

    def _tile_part(self, operation: TileLoad, axis: int) -> Value:
        base, geometry = self._geometry(operation.base, operation.geometry, axis)
        shape = part_shape(shape_of(operation.result.type), axis, self.members)
        operands = [base, self.values[operation.other, WHOLE], *geometry]
        type = with_shape(shape, element_type(operation.result.type))
        return self.code.add(TileLoad(operands, operation.attributes, result_types=[type]))

    def _geometry(self, pointer: Value, geometry: TileGeometry, axis: int) -> tuple[Value, list[Value]]:
        """Base and geometry of the member's part of a tile along an axis."""
        code, base = self.code, self.values[pointer, WHOLE]

        def known(value: Value) -> Scalar:
            operation = value.defining_op
            is_number = isinstance(operation, Constant) and isinstance(operation.value, int)
            return operation.value if is_number else self.values[value, WHOLE]  # type: ignore[union-attr, return-value]

        strides, firsts, limits = (
            [self.values[value, WHOLE] for value in values]
            for values in (geometry.strides, geometry.firsts, geometry.limits)
        )
        wraps = [wrap and (self.values[wrap[0], WHOLE], self.values[wrap[1], WHOLE]) for wrap in geometry.wraps]
        extent = geometry.shape[axis] // self.members
        start = self._start(extent)
        limit, first, wrap = known(geometry.limits[axis]), known(geometry.firsts[axis]), wraps[axis]
        is_full = isinstance(limit, int) and limit >= geometry.shape[axis]
        limits[axis] = code.value(extent if is_full else code.binary("sub", limit, start))
        is_free = isinstance(first, int) and first <= 0
        firsts[axis] = code.value(0 if is_free else code.binary("sub", first, start))
        if wrap is None:
            base = code.add(AddPtr([base, code.value(code.binary("mul", start, known(geometry.strides[axis])))]))
        else:
            moved = code.binary("srem", code.binary("add", wrap[0], start), wrap[1])
            wraps[axis] = code.value(moved), wrap[1]
        shape = part_shape(geometry.shape, axis, self.members)
        return base, TileGeometry(shape, strides, firsts, limits, wraps).operands()

    def _items(
        self, operation: GatherLoad | ScatterStore, operands: list[Value], axis: int
    ) -> tuple[list[Value], dict[str, int]]:
        """Operands and attributes for the member's part of items: some of them, or a part of each."""
        length = operation.integer("length")
        attributes = {"scale_bytes": operation.integer("scale_bytes"), "length": length}
        if axis < len(shape_of(operation.operands[1].type)):
            return operands, attributes
        attributes["length"] = length // self.members
        start = self._start(attributes["length"])
        base, *rest, limit = operands
        return [
            self.code.add(AddPtr([base, start])),
            *rest,
            self.code.value(self.code.binary("sub", limit, start)),
        ], attributes

    def _in_shape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Elements in another shape: items of which a member has one element have no dimension of their own."""
        if shape_of(value.type) == shape:
            return value
        return self.code.add(Reshape([value], result_types=[with_shape(shape, element_type(value.type))]))

    def _shared_axis(self, operation: TileLoad, layout: int) -> int | None:
        """The axis along which members load parts of a tile together, if they do: not the one that is dense.

        Of what is wanted in parts along that axis itself, each loads its own.
        """
        if not self.share or not self.depth or (layout != WHOLE and not self.exchange):
            return None
        axis = _axis_of_rows(operation, self.members)
        return None if axis == layout else axis


def _axis_of_rows(load: TileLoad, members: int) -> int | None:
    """The axis along which members may load parts of a tile in whole rows, if it is large: not the dense one."""
    shape, geometry = shape_of(load.result.type), load.geometry
    is_short = storage_bytes(load.result.type) < _LEAST_SHARED_BYTES
    if len(shape) != 2 or is_short or any(wrap is not None for wrap in geometry.wraps):
        return None
    dense = [axis for axis, stride in enumerate(geometry.strides) if _is_one(stride)]
    axes = [axis for axis in range(2) if dense == [1 - axis] and can_be_split(shape, axis, members)]
    return axes[0] if axes else None


def _may_exchange(function: Function, layouts: Layouts) -> bool:
    """True if members want columns of tiles that they may load in whole rows."""
    loads = (each for each in function.walk() if isinstance(each, TileLoad))
    return any(
        1 - axis in layouts.layouts(load.result)
        for load in loads
        if (axis := _axis_of_rows(load, layouts.members)) is not None
    )


def _is_one(value: Value) -> bool:
    operation = value.defining_op
    return isinstance(operation, Constant) and operation.value == 1
