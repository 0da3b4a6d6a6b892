"""Lines that a chain reads repeatedly, each where it stands, instead of a tile that has every line several times.

Weights of four bits have eight rows in a row of words, which differ by their shifts alone:

    repeat t, x, 8 lines, 8 times each;  y = t >> row[shifts]     for 64 rows

A chain may read a line for all of its rows. So one for each line that is repeated needs no such tile, which would take
a pass, and as much memory as what it is for:

    y[0:8] = col[x] >> row[shifts];  y[8:16] = col[x + a line] >> row[shifts + 8];  ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mlutriton.codegen.cleanup import is_step
from mlutriton.codegen.tile_code import WRITING, Node, TileCode, buffers_of, children, steps, touch_counts
from mlutriton.immutables import replace
from mlutriton.isa.cost import issue_cycles, occupancy_cycles
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, Immediate, Mode, Operand
from mlutriton.isa.program import Instruction

# So many chains take the place of one at most.
_MOST_LINES = 32


def read_lines_by_themselves(code: TileCode, machine: Machine) -> None:
    """Let chains read the lines that are repeated for them alone, where that takes less."""
    _visit(code.nodes, touch_counts(code.nodes), machine)


def _visit(nodes: list[Node], touched: Counter[str], machine: Machine) -> None:
    units: list[list[Node]] = []
    repeats: dict[str, int] = {}  # by the tile that it makes, the unit of a repeat that may be left out
    written: dict[str, int] = {}  # the last unit that wrote to a buffer
    for unit in steps(nodes):
        for node in unit:
            for nested in children(node):
                _visit(nested, touched, machine)
        chain = [node for node in unit if isinstance(node, Instruction)]
        units.append(unit)
        read = repeats.keys() & buffers_of(chain) if len(chain) == len(unit) else frozenset[str]()
        for place in sorted(repeats.pop(name) for name in read):
            (repeat,) = units[place]
            assert isinstance(repeat, Instruction)
            source = repeat.operand("a")
            assert isinstance(source, Address)
            if written.get(source.buffer, -1) < place and _is_of_use(repeat, chain, touched, machine):
                units[place], units[-1] = [], [*_by_lines(repeat, chain)]
                # Of several tiles, the others are read as they are, line by line.
                break
        written.update((name, len(units) - 1) for name in buffers_of(unit, *WRITING))
        if isinstance(unit[0], Instruction) and unit[0].row.name == "v.repeat":
            repeats.update((name, len(units) - 1) for name in buffers_of(unit, *WRITING))
    nodes[:] = [node for unit in units for node in unit]


def _is_of_use(repeat: Instruction, chain: Sequence[Instruction], touched: Counter[str], machine: Machine) -> bool:
    """Whether a chain may read each line by itself, and that takes less."""
    known, target, source = repeat.known_counts, repeat.operand("dst"), repeat.operand("a")
    assert isinstance(target, Address)
    if len(known) < len(repeat.row.count_slots) or not (isinstance(source, Address) and target.is_at_begin):
        return False
    lines, times, length = (known[name] for name in ("outer", "n", "inner"))
    is_read_so = touched[target.buffer] == 1 + sum(step.operands.count(target) for step in chain)
    if not is_read_so or target.buffer in buffers_of(chain, *WRITING) or not all(map(is_step, chain)):
        return False
    if not 1 < lines <= _MOST_LINES or any(
        each.known_counts != {"rows": lines * times, "columns": length} for each in chain
    ):
        return False
    gap = machine.vector_gap_cycles
    occupied = max(occupancy_cycles(each, {"rows": times, "columns": length}, machine) for each in chain)
    each_takes = max(gap + occupied, sum(issue_cycles(each, machine) for each in chain))
    whole = max(occupancy_cycles(each, each.known_counts, machine) for each in chain)
    return lines * each_takes < 2 * gap + occupancy_cycles(repeat, known, machine) + whole


def _by_lines(repeat: Instruction, chain: Sequence[Instruction]) -> list[Instruction]:
    """The chain, once for each line."""
    known, source = repeat.known_counts, repeat.operand("a")
    times, length = known["n"], known["inner"]
    assert isinstance(source, Address)
    found: list[Instruction] = []
    for line in range(known["outer"]):
        for step in chain:
            operands: list[Operand] = []
            for slot, operand in zip(step.row.slots, step.operands, strict=True):
                if slot.name == "rows":
                    operand = Immediate(times)
                elif operand == repeat.operand("dst"):
                    ahead = line * length * step.dtype_of(slot).bytes
                    operand = replace(source, offset_bytes=source.offset_bytes + ahead, mode=Mode.COLUMN)
                elif isinstance(operand, Address):
                    elements = {Mode.FULL: times * length, Mode.ROW: times, Mode.COLUMN: 0}[operand.mode]
                    ahead = line * elements * step.dtype_of(slot).bytes
                    operand = replace(operand, offset_bytes=operand.offset_bytes + ahead)
                operands.append(operand)
            found.append(step.taking(operands))
    return found
