"""Programs with two versions: one for launches of which certain facts hold, and one for all others.

Which of them runs is decided when the program begins, by arithmetic on its parameters. Both are programs of their own
up to then: they have their own registers, and their buffers lie in the same memory.

Both have to be served alike (:mod:`mlutriton.codegen.grids`). If a task of one serves several programs of the grid,
that of the other does so too; if one runs on the cores of a cluster together, each of these serves programs of the
other alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import cast

from mlutriton.codegen.grids import apart, resident, rewrite
from mlutriton.codegen.selection.select import select_condition
from mlutriton.dtypes import I1
from mlutriton.immutables import replace
from mlutriton.ir.core import Function
from mlutriton.isa.machine import Machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Label, Operand, Register
from mlutriton.isa.program import VERSIONS, WRITES, Instruction, Program
from mlutriton.isa.table import TABLE, Queue, Slot

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

    is_first = not (suffix or registers)

    def rewritten(each: Instruction) -> Sequence[Instruction]:
        if same and each.written_register in same:
            return ()
        if is_first and same.keys().isdisjoint(each.registers_read):
            return (each,)
        return (each.taking(map(operand, each.operands, each.row.slots)),)

    made = rewrite(program, rewritten)
    return replace(
        made,
        buffers={name + suffix: replace(each, name=name + suffix) for name, each in program.buffers.items()},
        labels={name + suffix: place for name, place in made.labels.items()},
        register_count=program.register_count + registers,
        metadata={**program.metadata, VERSIONS: [name + suffix for name in _versions(program)]},
    )
