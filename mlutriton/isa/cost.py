"""What an instruction costs: the table's expressions, evaluated for a machine.

An instruction costs ``issue`` cycles of the SCALAR queue; vector and tensor instructions then occupy the COMPUTE queue
for ``occupancy`` cycles, plus ``vector_gap_cycles``, or instead ``vector_latency_cycles`` where the interlock holds
them (:mod:`mlutriton.isa.manual` states when). Instructions with a trace record are timed by the replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

from mlutriton.dtypes import F64, I64, DType
from mlutriton.isa.expression import names, parse, value_of
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Instruction
from mlutriton.isa.reduction import lanes
from mlutriton.isa.table import TABLE, Row, SlotKind


def issue_cycles(instruction: Instruction, machine: Machine) -> int:
    """Cycles of the SCALAR queue."""
    return value_of(instruction.row.issue, _environment(instruction.row, instruction.dtypes, machine))


def occupancy_cycles(instruction: Instruction, counts: Mapping[str, int], machine: Machine) -> int:
    """Cycles of the COMPUTE queue without gap and latency; 0 for instructions of other queues."""
    if not instruction.row.occupancy:
        return 0
    return value_of(instruction.row.occupancy, {**_environment(instruction.row, instruction.dtypes, machine), **counts})


def environment(instruction: Instruction, machine: Machine) -> dict[str, int]:
    """Every name that costs mention beside the counts of the instruction."""
    return dict(_environment(instruction.row, instruction.dtypes, machine))


@lru_cache(maxsize=4096)
def _environment(row: Row, dtypes: tuple[DType, ...], machine: Machine) -> dict[str, int]:
    width = max((dtype.bytes for dtype in dtypes), default=1)
    return {
        **_machine_fields(machine),
        "width": width,
        "lanes": lanes(width),
        "passes": _passes(row, dtypes, machine),
        "macs": max(1, machine.mac_per_cycle(dtypes[0])) if dtypes else 1,
        "k_granule": max(1, machine.tensor_k_granule_bytes // dtypes[0].bytes) if dtypes else 1,
    }


@cache
def _machine_fields(machine: Machine) -> dict[str, int]:
    return {name: value for name, value in machine.values.items() if isinstance(value, int)}


def class_passes(cost_class: str, machine: Machine) -> int:
    """Passes of the vector unit that element-wise operations of a class take."""
    return {
        "simple": 1,
        "fma": machine.vector_fma_passes,
        "divide": machine.vector_divide_passes,
        "special": machine.vector_special_passes,
    }[cost_class]


def _passes(row: Row, dtypes: tuple[DType, ...], machine: Machine) -> int:
    operation = row.operation or row.combine
    if operation is None:
        return 1
    passes = class_passes(operation.cost_class, machine)
    if operation.is_cast and any(dtype.is_float8 for dtype in dtypes):
        return 1 if machine.has_fp8 or operation.name == "bitcast" else machine.vector_f8_passes
    emulation = {I64: machine.vector_i64_passes, F64: machine.vector_f64_passes}
    return passes * max(emulation.get(dtype, 1) for dtype in dtypes)


def _assert_complete() -> None:
    """Every name in every cost is a count of its row, a machine parameter, or one that ``_environment`` makes."""
    made = {"width", "lanes", "passes", "macs", "k_granule"}
    machine_fields = set(Machine.__dataclass_fields__)
    for row in TABLE.values():
        counts = {slot.name for slot in row.slots if slot.kind is SlotKind.COUNT}
        for cost in (row.occupancy, row.work):
            assert not cost or not names(parse(cost)) - counts - made - machine_fields, row.name
        assert not names(parse(row.issue)) - machine_fields, row.name
        for slot in row.slots:
            assert not names(parse(slot.span)) - counts, (row.name, slot.name)


_assert_complete()
