"""Selection of tiles that cores of a cluster load together: each a part into SRAM, from where each takes what it wants.

That is the whole, or its part along the other axis. In SRAM a tile stands as it does in global memory, the parts one
after the other; what order its consumer needs is left to the move.
"""

from __future__ import annotations

from mlutriton.codegen.selection.state import ONE, ZERO, Selection, storage_type
from mlutriton.codegen.selection.tensor_operands import WeightUse
from mlutriton.codegen.selection.tiles import dimensions_of, load_box, origin, simplified
from mlutriton.codegen.tile_code import Sharing
from mlutriton.immutables import replace
from mlutriton.ir.core import Operation
from mlutriton.ir.ops import Assemble, TileLoad
from mlutriton.ir.types import shape_of
from mlutriton.isa.operands import Address, GlobalAddress, Immediate
from mlutriton.isa.table import SPECIAL_REGISTERS, WRAM_PANEL_COLUMNS


def is_part_of_shared(s: Selection, load: TileLoad) -> bool:
    """True if a load is done where its parts are put together."""
    return load.result in s.shared_parts


def assemble(s: Selection, operation: Operation) -> None:
    """A tile of rank 2 that each core has loaded a part of."""
    part = operation.operands[0].defining_op
    assert isinstance(part, TileLoad)
    dtype, shape = storage_type(part.result.type), shape_of(operation.result.type)
    axis, is_kept_in_part = operation.integer("axis"), operation.integer("kept") >= 0
    dimensions = dimensions_of(s, part.geometry)
    parts, dense = dimensions[axis], dimensions[1 - axis]
    inside = simplified(s, [replace(parts, local=dense.extent), replace(dense, local=1)])
    count = parts.extent * operation.integer("members") * dense.extent
    shared = s.emitter.buffer(operation.result.name or "shared", dtype, count, "sram")
    first, _ = origin(s, inside, s.register(part.base), dtype)
    fill = s.operand(part.other)
    number = s.emitter.scalar("sreg", (), Immediate(SPECIAL_REGISTERS.index("core_in_cluster")))
    part_bytes = Immediate(parts.extent * dense.extent * dtype.bytes)
    own = Address(shared.name, s.register_of(s.emitter.integer("mul", number, part_bytes)))
    taken_from = Address(shared.name)
    if is_kept_in_part:
        kept_bytes = Immediate(shape[1 - axis] * dtype.bytes)
        taken_from = Address(shared.name, s.register_of(s.emitter.integer("mul", number, kept_bytes)))
    sharing = Sharing(location=operation.location)
    with s.emitter.into(sharing.load):
        load_box(s, inside, GlobalAddress(first), fill, own, dtype)
    with s.emitter.into(sharing.take):
        use = s.weights.get(operation.result)
        taken = None
        if use is not None:
            _take_weights(s, operation, use, taken_from, dense.extent)
        else:
            taken = s.new("staging", shape, dtype) if axis == 1 else s.destination(operation.result)
            row = Immediate(shape[1 - axis])
            counts = (row, Immediate(shape[axis]), row, Immediate(dense.extent))
            if not is_kept_in_part:
                counts = (Immediate(count), ONE, ZERO, ZERO)
            s.emitter.emit("move", (dtype,), (taken.address(), taken_from, *counts))
            s.views[operation.result] = taken
    s.emitter.nodes.append(sharing)
    if taken is not None and axis == 1:
        target = s.destination(operation.result)
        counts = (ONE, Immediate(shape[1]), Immediate(shape[0]), ONE)
        s.emitter.emit("v.transpose", (dtype,), (target.address(), taken.address(), *counts))
        s.views[operation.result] = target


def _take_weights(s: Selection, operation: Operation, use: WeightUse, shared: Address, row: int) -> None:
    """What stands in rows of so many elements, as right operand of a dot."""
    assert isinstance(operation, Assemble)
    shape, axis = shape_of(operation.result.type), operation.integer("axis")
    steps = [1, 1]
    steps[axis] = row
    depth, column = (1, 0) if use.transposed else (0, 1)
    panels = -(-shape[column] // WRAM_PANEL_COLUMNS)
    count = panels * WRAM_PANEL_COLUMNS * shape[depth]
    target = s.emitter.buffer(operation.result.name or "weight", use.dtype, count, "wram")
    extents = (Immediate(shape[depth]), Immediate(shape[column]))
    strides = (Immediate(steps[depth]), Immediate(steps[column]))
    s.emitter.emit("move.weight", (use.dtype,), (Address(target.name), shared, *extents, *strides))
    s.weight_buffers[operation.result] = target
