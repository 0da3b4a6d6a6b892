"""Programs with two versions: one for launches of which certain facts hold, and one for all others.

Which of them runs is decided when the program begins, by arithmetic on its parameters. Both are programs of their own
up to then: they have their own registers, and their buffers lie in the same memory.

Both have to be served alike. If a task of one serves several programs of the grid, that of the other does so too
(:func:`resident`); if one runs on the cores of a cluster together, each of these serves programs of the other alone
(:func:`apart`).

A version may also be of other programs than the launch has: of several at a time (:func:`neighbours_at_once`), or of
the tiles that a program goes over (:func:`over_tiles`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import cast

from mlutriton.codegen.selection.select import select_condition
from mlutriton.diagnostics import Location
from mlutriton.dtypes import I1, I64
from mlutriton.immutables import replace
from mlutriton.ir.core import Function
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Label, Operand, Register
from mlutriton.isa.program import VERSIONS, WRITES, Instruction, Program
from mlutriton.isa.table import SPECIAL_REGISTERS, SYNC_COMPUTE, SYNC_IO, SYNC_MOVE, TABLE, Queue, Slot

Rewriting = Callable[[Instruction], Sequence[Instruction]]
Numbering = Callable[[Register, Operand, Location], Sequence[Instruction]]
Selected = tuple[Sequence[Instruction], Register, int]


def join(versions: Sequence[Version], general: Program, machine: Machine) -> Program:
    """One program of several versions.

    Args:
        versions: with conditions, of which each has one at least; the first runs of which all hold.
        general: runs elsewhere.
        machine: for which it is compiled.
    """
    programs = [*(program for program, _ in versions), general]
    cores = max(each.cores_per_program for each in programs)
    programs = [apart(each, cores) for each in programs]
    if any(each.is_resident for each in programs):
        programs = [resident(each) for each in programs]
    joining = _Joining(machine)
    known: _Known = {}
    for program, (_, conditions) in zip(programs, versions, strict=False):
        suffix = joining.begin(program)
        chosen, otherwise = (joining.label(name, suffix) for name in ("special", "otherwise"))
        choice = _Choice(joining.selected, joining.registers)
        asked = dict(known)
        choice.ask(conditions, otherwise, asked)
        joining.decide(choice, conditions[0], chosen, otherwise)
        joining.add(asked)
        known |= choice.at_first()
    joining.begin(programs[-1])
    joining.add(known)
    return joining.joined()


class _Joining:
    """Versions of a program, one behind the other, each with names and registers of its own.

    Attributes:
        programs: as they are in the program of all.
        taken: names of labels and buffers.
        registers: how many are in use.
    """

    def __init__(self, machine: Machine) -> None:
        self.programs: list[Program] = []
        self._machine = machine
        self._selected: dict[int, tuple[Function, Selected]] = {}
        self.taken: set[str] = set()
        self.registers = 0
        self._suffix, self._strings = "", 0
        self._begun: tuple[Program, str, int, int]
        # What decides, behind which the next such follows; the label of each version and of what is behind the choice.
        self._choices: list[list[Instruction]] = []
        self._labels: list[tuple[str, str]] = []

    def begin(self, program: Program) -> str:
        """Take names and registers for a program; what its names end with now."""
        names = (*program.labels, *program.buffers)
        while not self.taken.isdisjoint(each + self._suffix for each in names):
            self._suffix += ".general"
        suffix = self._suffix
        self._begun = program, suffix, self.registers, self._strings
        self.taken |= {each + suffix for each in names}
        self.registers += program.register_count
        self._strings += len(program.strings)
        self._suffix += ".general"
        return suffix

    def add(self, known: _Known) -> None:
        """Add the program that was begun last, without what it computes again of what is known when it begins."""
        program, suffix, registers, strings = self._begun
        same = _computed_before(program, known, registers)
        if self.programs or same:
            program = _renamed(program, suffix, registers, strings, same)
        self.programs.append(program)

    def selected(self, condition: Function) -> Selected:
        """The instructions of a condition, which several versions may ask."""
        if id(condition) not in self._selected:
            self._selected[id(condition)] = condition, select_condition(condition, self._machine)
        return self._selected[id(condition)][1]

    def label(self, name: str, suffix: str) -> str:
        """A label that is not taken yet."""
        found = _fresh(name + suffix, self.taken)
        self.taken.add(found)
        return found

    def decide(self, choice: _Choice, first: Function, chosen: str, otherwise: str) -> None:
        """Let a choice decide whether the program that was added last is to run.

        Args:
            choice: goes on behind its end if it is.
            first: what is asked first.
            chosen: label of the program.
            otherwise: label of what comes behind the choice.
        """
        branch = Instruction(TABLE["br"], (), (Label(chosen),), first.location)
        self._choices.append([*choice.instructions, branch])
        self._labels.append((chosen, otherwise))
        self.registers = choice.registers

    def joined(self) -> Program:
        """All of them: what decides, what runs where nothing holds, and the others, the last one first."""
        instructions: list[Instruction] = []
        labels: dict[str, int] = {}
        for asked, (_, otherwise) in zip(self._choices, self._labels, strict=True):
            instructions += asked
            labels[otherwise] = len(instructions)
        chosen = [each for each, _ in self._labels]
        for program, label in zip(reversed(self.programs), [None, *reversed(chosen)], strict=True):
            if label is not None:
                labels[label] = len(instructions)
            labels |= {name: place + len(instructions) for name, place in program.labels.items()}
            instructions += program.instructions
        decisions = [name for pair in self._labels for name in pair]
        return replace(
            self.programs[0],
            buffers={name: each for program in self.programs for name, each in program.buffers.items()},
            instructions=tuple(instructions),
            labels=labels,
            register_count=self.registers,
            strings=tuple(each for program in self.programs for each in program.strings),
            local_bytes=max(each.local_bytes for each in self.programs),
            metadata={
                **{
                    name: fact
                    for program in reversed(self.programs)
                    for name, fact in program.metadata.items()
                    if name != WRITES
                },
                VERSIONS: [*(name for program in self.programs for name in _versions(program)), *decisions],
                **_written(self.programs),
            },
        )


def _written(programs: Sequence[Program]) -> dict[str, object]:
    """The fact through which parameters any of some programs writes; it is known only if it is of each of them."""
    known = [cast("Sequence[int]", each.metadata[WRITES]) for each in programs if WRITES in each.metadata]
    return {WRITES: sorted({*chain(*known)})} if len(known) == len(programs) else {}


def _versions(program: Program) -> Sequence[str]:
    return cast("Sequence[str]", program.metadata.get(VERSIONS, ()))


def _fresh(name: str, taken: Collection[str]) -> str:
    """A name that is not taken."""
    while name in taken:
        name += ".special"
    return name


Version = tuple[Program, Sequence[Function]]
"""A program, and conditions: arithmetic on parameters and the size of the grid, whose last result says what holds."""


_DECIDING = ("br", "cbr")

_Known = dict[tuple[object, ...], Register]
"""What was computed, and the register that has it."""


class _Choice:
    """What goes on with other code as soon as a condition does not hold.

    Attributes:
        instructions: to be run first.
        registers: that they use, and that others use before them.
    """

    def __init__(self, selected: Callable[[Function], Selected], registers: int) -> None:
        self.selected = selected
        self.instructions: list[Instruction] = []
        self.registers = registers

    def ask(self, conditions: Sequence[Function], otherwise: str, known: _Known) -> None:
        """Go on behind the end if all conditions hold, else at a label.

        Args:
            conditions: are about the same launch, so that what one of them computes is known to those behind it.
            otherwise: that label.
            known: what has been computed before.
        """
        for condition in conditions:
            holding, fails = self._computed(condition, known), Register(self.registers)
            self.registers += 1
            location = condition.location
            self.instructions.append(Instruction(TABLE["xor"], (I1,), (fails, holding, Immediate(1)), location))
            self.instructions.append(Instruction(TABLE["cbr"], (), (fails, Label(otherwise)), location))

    def at_first(self) -> _Known:
        """What is computed before anything is decided, by what it is computed from."""
        known: _Known = {}
        for each in self.instructions:
            if each.row.name in _DECIDING:
                break
            assert each.written_register is not None, "it is arithmetic"
            known[_key(each, each.operands[1:])] = each.written_register
        return known

    def _computed(self, condition: Function, known: _Known) -> Register:
        """The register that says whether a condition holds."""
        asked, holding, registers = self.selected(condition)
        count, self.registers = self.registers, self.registers + registers
        same: dict[Register, Register] = {}
        for each in asked:
            result, *operands = (
                same.get(one, Register(one.index + count)) if isinstance(one, Register) else one
                for one in each.operands
            )
            assert isinstance(result, Register), "arithmetic has one result"
            found = known.setdefault(_key(each, operands), result)
            if found is result:
                self.instructions.append(each.taking((result, *operands)))
            same[Register(result.index - count)] = found
        return same[holding]


def _key(instruction: Instruction, operands: Sequence[Operand]) -> tuple[object, ...]:
    """What an instruction of a choice computes, of given operands."""
    return (instruction.row.name, instruction.dtypes, *operands)


def _computed_before(program: Program, known: _Known, registers: int) -> dict[Register, Register]:
    """Registers of a program that it sets to what is known when it begins, and those that have it.

    Args:
        program: a version, or one that begins with choices between versions itself.
        known: has been computed before in any case.
        registers: that come before its own.
    """

    @cache
    def setters() -> Counter[Register | None]:
        return Counter([each.written_register for each in program.instructions])

    same: dict[Register, Register] = {}
    for each in program.instructions if known else ():
        if each.row.name in _DECIDING:
            continue
        result = each.written_register
        if result is None or each.row.queue is not Queue.SCALAR or each.row.trace:
            break
        operands = [
            same.get(one) or Register(one.index + registers) if isinstance(one, Register) else one
            for one in each.operands[1:]
        ]
        found = known.get(_key(each, operands))
        if found is not None and setters()[result] == 1:
            same[result] = found
    return same


def _moved(operand: Operand, registers: int) -> Operand:
    return Register(operand.index + registers) if isinstance(operand, Register) else operand


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
    location = program.instructions[0].location
    begin = program.register_count
    asked, found, taken = select_condition(tiles, machine)
    count, lines, columns, every, line = (Register(begin + taken + place) for place in range(5))
    known = {"num_programs.x": count, "programs": every}

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

    def rewritten(each: Instruction) -> list[Instruction]:
        instead = known.get(_special_of(each))
        return [each if instead is None else _scalar("mov", location, each.operands[0], instead)]

    body = _serving(replace(program, register_count=begin + taken + 5), rewritten, tile)
    before = [each.taking(_moved(one, begin) for one in each.operands) for each in asked]
    before += [
        _scalar("mov", location, count, Register(found.index + begin)),
        _read("num_programs.x", columns, location),
        _read("programs", lines, location),
        _scalar("udiv", location, lines, lines, columns),
        _scalar("mul", location, every, lines, count),
    ]
    return replace(
        body,
        instructions=(*before, *body.instructions),
        labels={name: place + len(before) for name, place in body.labels.items()},
    )


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
    location = program.instructions[0].location
    before: list[Instruction] = []
    count = program.register_count

    def computed(function: Function) -> Register:
        nonlocal count
        asked, found, taken = select_condition(function, machine)
        before.extend(each.taking(_moved(one, count) for one in each.operands) for each in asked)
        found, count = Register(found.index + count), count + taken
        return found

    own = len(program.parameters) - len(parameters)
    numbers = [computed(each) for each in parameters]
    known = {f"num_programs.{'xyz'[axis]}": computed(each) for axis, each in counts.items()}
    programs, every, last, count = Register(count), Register(count + 1), Register(count + 2), count + 3
    before += [_read("programs", programs, location), _scalar("mov", location, every, Immediate(1))]
    before += [_scalar("mul", location, every, every, each) for each in known.values()]
    before += [_scalar("sub", location, last, programs, Immediate(1))]
    known["programs"] = every

    def any_number(result: Register, number: Operand, location: Location) -> list[Instruction]:
        """That of any program of the launch, as there may be more parts."""
        return [_scalar("umin", location, result, number, last)]

    def rewritten(each: Instruction) -> list[Instruction]:
        if each.row.name == "param" and (place := _index_of(each)) >= own:
            return [_scalar("mov", location, each.operands[0], numbers[place - own])]
        instead = known.get(_special_of(each))
        return [each if instead is None else _scalar("mov", location, each.operands[0], instead)]

    body = _serving(replace(program, register_count=count), rewritten, any_number)
    return replace(
        body,
        parameters=program.parameters[:own],
        instructions=(*before, *body.instructions),
        labels={name: place + len(before) for name, place in body.labels.items()},
    )


def resident(program: Program) -> Program:
    """The program as one of which a task serves all that fall to it, one behind the other.

    Programs are dealt out there and back, from the last one on: the task that has the first of a round has the last one
    of the next round. So where programs take the longer the higher their number is, or some digit of it, all tasks have
    about the same work, and what is left over for some of them are the shortest.
    """
    if program.is_resident:
        return program
    location = program.instructions[0].location
    count = program.register_count
    number, tasks, programs, columns, lines, more, line, step = (Register(count + place) for place in range(8))

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

    body = _rewritten(program, rewritten)
    read = [
        _read("task", number, location),
        _read("tasks", tasks, location),
        _read("programs", programs, location),
        _read("num_programs.x", columns, location),
        _read("num_programs.y", lines, location),
    ]
    meet = (
        Instruction(TABLE["barrier.cluster"], (), (), location)
        if program.cores_per_program > 1
        else Instruction(TABLE["sync"], (), (Immediate(SYNC_IO + SYNC_MOVE + SYNC_COMPUTE),), location)
    )
    before = [
        *read,
        _scalar("sge", location, more, number, programs),
        Instruction(TABLE["cbr"], (), (more, Label(_DONE)), location),
        # From the place of the task to the same place counted from behind, and on to that of the next round.
        _scalar("add", location, tasks, tasks, tasks),
        _scalar("add", location, step, number, number),
        _scalar("sub", location, step, tasks, step),
        _scalar("sub", location, step, step, Immediate(1)),
        _scalar("sub", location, number, programs, number),
        _scalar("sub", location, number, number, Immediate(1)),
    ]
    serve = Instruction(TABLE["serve"], (), (number,), location)
    behind = [
        meet,
        _scalar("sub", location, number, number, step),
        _scalar("sub", location, step, tasks, step),
        _scalar("sge", location, more, number, Immediate(0)),
        Instruction(TABLE["cbr"], (), (more, Label(_EACH)), location),
        Instruction(TABLE["exit"], (), (), location),
    ]
    begin = len(before)
    after = begin + 1 + len(body.instructions)
    labels = {name: place + begin + 1 for name, place in body.labels.items()}
    labels |= {_EACH: begin, _NEXT: after, _DONE: after + len(behind) - 1}
    return replace(
        body,
        instructions=(*before, serve, *body.instructions, *behind),
        labels=labels,
        register_count=count + 8,
    )


_EACH, _NEXT, _DONE = "each_program", "next_program", "no_program"


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

    made = _rewritten(program, rewritten)
    return replace(made, cores_per_program=cores, register_count=program.register_count + 1)


_PROGRAM_ID = {f"program_id.{axis}": place for place, axis in enumerate("xyz")}


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

    return replace(_rewritten(program, rewritten), register_count=behind + len(others))


def _rewritten(program: Program, rewriting: Rewriting) -> Program:
    """The program with others in the place of its instructions."""
    places: list[int] = []
    instructions: list[Instruction] = []
    for each in program.instructions:
        places.append(len(instructions))
        instructions += rewriting(each)
    places.append(len(instructions))
    labels = {name: places[place] for name, place in program.labels.items()}
    return replace(program, instructions=tuple(instructions), labels=labels)


def _renamed(program: Program, suffix: str, registers: int, strings: int, same: Mapping[Register, Register]) -> Program:
    """The program with other names of buffers and labels, and registers and strings from a number on.

    Registers that are the same as others of all versions are these, and set no more.
    """
    others = [Register(index + registers) for index in range(program.register_count)]
    for each, found in same.items():
        others[each.index] = found

    def operand(each: Operand, slot: Slot) -> Operand:
        match each:
            case Register():
                return others[each.index]
            case Immediate():
                return Immediate(int(each.value) + strings) if slot.is_string else each
            case Address():
                register = each.register and others[each.register.index]
                return Address(each.buffer + suffix, register, each.offset_bytes, each.mode)
            case GlobalAddress():
                return GlobalAddress(others[each.register.index], each.offset_bytes)
            case Label():
                return Label(each.name + suffix)
            case _:
                return each

    def rewritten(each: Instruction) -> Sequence[Instruction]:
        if same and each.written_register in same:
            return ()
        return (each.taking(map(operand, each.operands, each.row.slots)),)

    made = _rewritten(program, rewritten)
    return replace(
        made,
        buffers={name + suffix: replace(each, name=name + suffix) for name, each in program.buffers.items()},
        labels={name + suffix: place for name, place in made.labels.items()},
        register_count=program.register_count + registers,
        metadata={**program.metadata, VERSIONS: [name + suffix for name in _versions(program)]},
    )
