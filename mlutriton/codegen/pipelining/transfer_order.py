"""The order of a burst of loads, and which of them to halve, so that their set-up shows little.

Set-up and latency of a transfer go on while the bytes of the one before it flow (ADR 10). They show where that one is
short, and always at the first of a burst. So a load of many segments, whose set-up is long, should neither come first
nor follow a short one: halved, it has half the set-up twice, and others come between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlutriton.codegen.tile_code import Emitter, Node, TileCode
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Operand, Register
from mlutriton.isa.program import Instruction


@dataclass(frozen=True)
class Transfer:
    """What the time of a load depends on.

    Attributes:
        segments: runs of consecutive bytes.
        bytes: all of them.
    """

    segments: int
    bytes: int


def transfer_of(code: TileCode, load: Node) -> Transfer | None:
    """Segments and bytes of a load, if the program says how many there are mostly."""
    if not isinstance(load, Instruction) or load.row.name not in ("dma.load", "dma.load_pad"):
        return None
    extents = dict(load.known_counts)
    for slot, operand in zip(load.row.slots, load.operands, strict=True):
        if isinstance(operand, Register) and operand in code.greatest:
            extents[slot.name] = code.greatest[operand]
    if not {"n0", "n1", "n2"} <= extents.keys():
        return None
    segments = extents["n1"] * extents["n2"]
    return Transfer(segments, segments * extents["n0"] * load.dtypes[0].bytes)


def burst_cycles(transfers: Sequence[Transfer], machine: Machine, bytes_per_cycle: float | None = None) -> float:
    """How long a burst takes that nothing delays, of tiles that the L2 has; at a core's rate, or at another one."""
    rate = bytes_per_cycle or machine.core_dma_bytes_per_cycle
    latency = machine.cycles_from_ns(machine.l2_latency_ns)
    began = ended = 0.0
    for each in transfers:
        setup = machine.dma_setup_cycles + (each.segments - 1) * machine.dma_segment_cycles
        began = max(ended, began + setup + latency)
        ended = began + each.bytes / rate
    return ended


def order_of(
    own: Transfer, others: Sequence[Transfer], machine: Machine, bytes_per_cycle: float | None = None
) -> tuple[int | None, float]:
    """How a load best goes with others, and how long that takes: whole behind them, or halved.

    Returns:
        How many halves come before the others; None of one that is not halved.
    """
    half = Transfer(own.segments // 2, own.bytes // 2)
    orders = {None: [*others, own], 1: [half, *others, half], 0: [*others, half, half]}
    cycles = {before: burst_cycles(order, machine, bytes_per_cycle) for before, order in orders.items()}
    best = min(cycles, key=lambda each: cycles[each])
    return best, cycles[best]


def halves(code: TileCode, load: Instruction) -> tuple[list[Node], list[Node]] | None:
    """Two loads that do the same, of the first and the last half of the segments; None if it cannot be halved."""
    names = [slot.name for slot in load.row.slots]
    operands = dict(zip(names, load.operands, strict=True))
    n0, n1, n2 = (operands[name] for name in ("n0", "n1", "n2"))
    target, source, stride = operands["dst"], operands["src"], operands["global1"]
    if not isinstance(n1, Immediate) or n2 != Immediate(1) or not isinstance(n0, Register | Immediate):
        return None
    if not isinstance(target, Address) or not isinstance(source, GlobalAddress):
        return None
    is_padded = load.row.name == "dma.load_pad"
    local = n0 if is_padded else operands["local1"]
    if not isinstance(local, Register | Immediate) or (is_padded and operands["before1"] != Immediate(0)):
        return None
    if isinstance(local, Register) and target.register is not None:
        return None
    assert isinstance(stride, Register | Immediate)
    rows, width = int(n1.value), load.dtypes[0].bytes
    half = rows // 2
    emitter = Emitter(code, load.location)
    emitter.nodes = last = list[Node]()
    away = emitter.integer("mul", stride, Immediate(half * width))
    address = emitter.scalar("add", (I64,), source.register, away)
    behind = emitter.integer("mul", local, Immediate(half * width))
    of_last: dict[str, Operand] = {
        "n1": Immediate(rows - half),
        "dst": replace(target, offset_bytes=target.offset_bytes + int(behind.value))
        if isinstance(behind, Immediate)
        else replace(target, register=behind),
        "src": GlobalAddress(address, source.offset_bytes),
    }
    if is_padded:
        valid = operands["valid1"]
        assert isinstance(valid, Register | Immediate)
        of_last["valid1"] = emitter.integer("smax", emitter.integer("sub", valid, Immediate(half)), Immediate(0))
    of_first: dict[str, Operand] = {"n1": Immediate(half)}
    last.append(load.taking((operands | of_last)[name] for name in names))
    return [load.taking((operands | of_first)[name] for name in names)], last
