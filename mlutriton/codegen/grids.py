"""Programs of one grid as programs of another, and tasks that serve several.

A program may do what several of the launch do (:func:`neighbours_at_once`, :func:`of_parts`), or one of the tiles that
a program of the launch goes over (:func:`over_tiles`). It asks for its place in the grid that it was compiled for, and
is told that one; what it serves are programs of the launch. If a task serves all that fall to it, it does so in the
order of :func:`resident`; each core of a cluster may serve programs of its own (:func:`apart`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mlutriton.codegen.selection.select import select_condition
from mlutriton.diagnostics import Location
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.ir.core import Function
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Immediate, Label, Operand, Register
from mlutriton.isa.program import Instruction, Program
from mlutriton.isa.table import SPECIAL_REGISTERS, SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, TABLE

Rewriting = Callable[[Instruction], Sequence[Instruction]]
Numbering = Callable[[Register, Operand, Location], Sequence[Instruction]]

_PROGRAM_ID = {f"program_id.{axis}": place for place, axis in enumerate("xyz")}

_EACH, _NEXT, _DONE = "each_program", "next_program", "no_program"


def neighbours_at_once(program: Program, counts: Sequence[int]) -> Program:
    """The program of so many neighbours along each axis of a grid as one of that grid: a task serves all of them."""
    program = resident(program)
    divisors = {f"num_programs.{axis}": count for axis, count in zip("xyz", counts, strict=True)}
    divisors["programs"] = math.prod(counts)

    def first(result: Register, number: Operand, location: Location) -> list[Instruction]:
        return [_scalar("mul", location, result, number, Immediate(divisors["programs"]))]

    def rewritten(each: Instruction) -> list[Instruction]:
        divisor = divisors.get(_special_of(each), 1)
        if divisor > 1:
            result = each.operands[0]
            return [each, _scalar("udiv", each.location, result, result, Immediate(divisor))]
        return [each]

    return _serving(program, rewritten, first)


def over_tiles(program: Program, tiles: Function, machine: Machine, *, in_one_line: bool) -> Program:
    """The program of a tile as one of the grid: its first axis has as many programs as there are tiles.

    Args:
        program: of a tile, whose number is that of a program.
        tiles: arithmetic on the parameters; its last result says how many tiles there are, at least one.
        machine: for which it is compiled.
        in_one_line: other axes of the grid have one program.
    """
    program = resident(program)
    begin = _Code(program)
    found = begin.computed(tiles, machine)
    count, lines, columns, every, line = begin.registers(5)
    begin.scalar("mov", count, found)
    begin.read("num_programs.x", columns)
    begin.read("programs", lines)
    begin.scalar("udiv", lines, lines, columns)
    begin.scalar("mul", every, lines, count)

    def tile(result: Register, number: Operand, location: Location) -> list[Instruction]:
        """Its tiles are those of the program that it would have been."""
        if in_one_line:
            return [_scalar("urem", location, result, number, columns)]
        return [
            _scalar("udiv", location, line, number, count),
            _scalar("urem", location, result, number, count),
            _scalar("urem", location, result, result, columns),
            _scalar("mul", location, line, line, columns),
            _scalar("add", location, result, result, line),
        ]

    known = {"num_programs.x": count, "programs": every}
    return begin.before(_serving(begin.widened(program), _telling(known, begin.location), tile))


def of_parts(
    program: Program, parameters: Sequence[Function], counts: Mapping[int, Function], machine: Machine
) -> Program:
    """The program of parts as one of the grid, which has so many programs as there are parts.

    Args:
        program: of a part; its last parameters are numbers of the launch.
        parameters: arithmetic on the other parameters; their last results are these numbers.
        counts: likewise how many parts there are along each axis of the grid.
        machine: for which it is compiled.
    """
    program = resident(program)
    begin = _Code(program)
    own = len(program.parameters) - len(parameters)
    numbers = [begin.computed(each, machine) for each in parameters]
    along = {f"num_programs.{'xyz'[axis]}": begin.computed(each, machine) for axis, each in counts.items()}
    programs, every, last = begin.registers(3)
    begin.read("programs", programs)
    begin.scalar("mov", every, Immediate(1))
    for each in along.values():
        begin.scalar("mul", every, every, each)
    begin.scalar("sub", last, programs, Immediate(1))
    told = _telling({**along, "programs": every}, begin.location)

    def any_number(result: Register, number: Operand, location: Location) -> list[Instruction]:
        """That of any program of the launch, as there may be more parts."""
        return [_scalar("umin", location, result, number, last)]

    def rewritten(each: Instruction) -> Sequence[Instruction]:
        if each.row.name == "param" and (place := _index_of(each)) >= own:
            return [_scalar("mov", begin.location, each.operands[0], numbers[place - own])]
        return told(each)

    body = begin.before(_serving(begin.widened(program), rewritten, any_number))
    return replace(body, parameters=program.parameters[:own])


def resident(program: Program) -> Program:
    """The program as one of which a task serves all that fall to it, one behind the other.

    Programs are dealt out there and back, from the last one on: the task that has the first of a round has the last one
    of the next round. So where programs take the longer the higher their number is, or some digit of it, all tasks have
    about the same work, and what is left over for some of them are the shortest.
    """
    if program.is_resident:
        return program
    begin, behind = _Code(program), _Code(program)
    number, tasks, programs, columns, lines, more, line, step = begin.registers(8)
    begin.read("task", number)
    begin.read("tasks", tasks)
    begin.read("programs", programs)
    begin.read("num_programs.x", columns)
    begin.read("num_programs.y", lines)
    begin.scalar("sge", more, number, programs)
    begin.emit("cbr", more, Label(_DONE))
    # From the place of the task to the same place counted from behind, and on to that of the next round.
    begin.scalar("add", tasks, tasks, tasks)
    begin.scalar("add", step, number, number)
    begin.scalar("sub", step, tasks, step)
    begin.scalar("sub", step, step, Immediate(1))
    begin.scalar("sub", number, programs, number)
    begin.scalar("sub", number, number, Immediate(1))
    each_one = len(begin.instructions)
    begin.emit("serve", number)
    if program.cores_per_program > 1:
        behind.emit("barrier.cluster")
    else:
        behind.emit("sync", Immediate(SYNC_IO + SYNC_MOVE + SYNC_COMPUTE))
    behind.scalar("sub", number, number, step)
    behind.scalar("sub", step, tasks, step)
    behind.scalar("sge", more, number, Immediate(0))
    behind.emit("cbr", more, Label(_EACH))
    behind.emit("exit")

    def rewritten(each: Instruction) -> list[Instruction]:
        if each.row.name == "exit":
            return [Instruction(TABLE["br"], (), (Label(_NEXT),), each.location)]
        axis = _PROGRAM_ID.get(_special_of(each))
        if axis is None:
            return [each]
        result = each.operands[0]
        if axis == 0:
            return [_scalar("urem", each.location, result, number, columns)]
        quotient = _scalar("udiv", each.location, line, number, columns)
        name = "urem" if axis == 1 else "udiv"
        return [quotient, _scalar(name, each.location, result, line, lines)]

    body = begin.before(rewrite(begin.widened(program), rewritten))
    after = len(body.instructions)
    done = after + len(behind.instructions) - 1
    return replace(
        body,
        instructions=(*body.instructions, *behind.instructions),
        labels={**body.labels, _EACH: each_one, _NEXT: after, _DONE: done},
    )


def apart(program: Program, cores: int) -> Program:
    """The program of one core as one of a cluster, each core of which serves programs of its own."""
    if program.cores_per_program == cores:
        return program
    program = resident(program)
    member = Register(program.register_count)

    def rewritten(each: Instruction) -> list[Instruction]:
        name, result = _special_of(each), each.operands[0] if each.operands else None
        if name not in ("task", "tasks") or not isinstance(result, Register):
            return [each]
        all_of_them = [each, _scalar("mul", each.location, result, result, Immediate(cores))]
        if name == "tasks":
            return all_of_them
        own = _read("core_in_cluster", member, each.location)
        return [*all_of_them, own, _scalar("add", each.location, result, result, member)]

    made = rewrite(program, rewritten)
    return replace(made, cores_per_program=cores, register_count=program.register_count + 1)


class _Code:
    """Instructions beside those of a program, with registers of their own.

    Attributes:
        instructions: so far.
        location: of all of them.
    """

    def __init__(self, program: Program) -> None:
        self.instructions: list[Instruction] = []
        self.location = program.instructions[0].location
        self._count = program.register_count

    def registers(self, count: int) -> list[Register]:
        """So many registers that nothing uses."""
        self._count += count
        return [Register(place) for place in range(self._count - count, self._count)]

    def emit(self, name: str, *operands: Operand) -> None:
        """Append an instruction without element types."""
        self.instructions.append(Instruction(TABLE[name], (), operands, self.location))

    def scalar(self, name: str, *operands: Operand) -> None:
        """Append 64-bit arithmetic."""
        self.instructions.append(_scalar(name, self.location, *operands))

    def read(self, name: str, register: Register) -> None:
        """Append what reads a special register."""
        self.instructions.append(_read(name, register, self.location))

    def computed(self, function: Function, machine: Machine) -> Register:
        """The register that has the last result of arithmetic on the launch."""
        asked, found, count = select_condition(function, machine)
        own = self.registers(count)
        self.instructions += [
            each.taking(own[one.index] if isinstance(one, Register) else one for one in each.operands) for each in asked
        ]
        return own[found.index]

    def widened(self, program: Program) -> Program:
        """The program, to which none of the registers is free."""
        return replace(program, register_count=self._count)

    def before(self, program: Program) -> Program:
        """The program behind these instructions."""
        count = len(self.instructions)
        return replace(
            program,
            instructions=(*self.instructions, *program.instructions),
            labels={name: place + count for name, place in program.labels.items()},
        )


def _telling(known: Mapping[str, Register], location: Location) -> Rewriting:
    """What tells a program other numbers than special registers have."""

    def rewritten(each: Instruction) -> list[Instruction]:
        instead = known.get(_special_of(each))
        return [each if instead is None else _scalar("mov", location, each.operands[0], instead)]

    return rewritten


def _scalar(name: str, location: Location, *operands: Operand) -> Instruction:
    return Instruction(TABLE[name], (I64,), operands, location)


def _read(name: str, register: Register, location: Location) -> Instruction:
    """The instruction that reads a special register."""
    return Instruction(TABLE["sreg"], (), (register, Immediate(SPECIAL_REGISTERS.index(name))), location)


def _special_of(instruction: Instruction) -> str:
    """The name of the special register that an instruction reads; empty if it reads none."""
    if instruction.row.name != "sreg":
        return ""
    return SPECIAL_REGISTERS[_index_of(instruction)]


def _index_of(instruction: Instruction) -> int:
    """Which parameter or special register an instruction reads."""
    index = instruction.operand("index")
    assert isinstance(index, Immediate)
    return int(index.value)


def _serving(program: Program, rewriting: Rewriting, number_of: Numbering) -> Program:
    """The program with others in the place of its instructions, and with other numbers of what it serves.

    These are computed where the numbers are that it had, which may be long before they are needed.
    """
    setters = Counter(each.written_register for each in program.instructions)
    served = dict.fromkeys(each.operands[0] for each in program.instructions if each.row.name == "serve")
    behind = program.register_count
    others = {number: Register(behind + place) for place, number in enumerate(served)}
    early = {number for number in served if isinstance(number, Register) and setters[number] == 1}

    def rewritten(each: Instruction) -> Sequence[Instruction]:
        if each.row.name == "serve":
            number = each.operands[0]
            serving = each.taking((others[number],))
            return [serving] if number in early else [*number_of(others[number], number, each.location), serving]
        made, number = rewriting(each), each.written_register
        return [*made, *number_of(others[number], number, each.location)] if number in early else made

    return replace(rewrite(program, rewritten), register_count=behind + len(others))


def rewrite(program: Program, rewriting: Rewriting) -> Program:
    """The program with others in the place of its instructions."""
    places: list[int] = []
    instructions: list[Instruction] = []
    for each in program.instructions:
        places.append(len(instructions))
        instructions += rewriting(each)
    places.append(len(instructions))
    labels = {name: places[place] for name, place in program.labels.items()}
    return replace(program, instructions=tuple(instructions), labels=labels)
