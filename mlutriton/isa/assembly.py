"""The text form of programs: ``disassemble`` writes it, ``assemble`` reads it back to an equal program.

A text is a list of lines; ``;`` and ``#`` begin comments::

    .program  double
    .isa      592
    .cores    1
    .param    x ptr f32
    .buffer   tile nram 0 4096 "double.py":3
    .string   0 "text of a print or assert"
    .meta     source "double.py"

    .loc "double.py" 4 9
        param            r0, 0
    again:
        dma.load.f32     [tile], g[r0], 1024, 1, 1, 0, 0, 0, 0

``.local`` states the bytes of local memory where the program uses any; ``.registers`` states the number of scalar
registers where it is not that of the highest one used; ``.loc`` states the place in the kernel of the instructions
after it; those before the first one stand at their own place in the text's file, if it has one. Operands are described
in :mod:`mlutriton.isa.operands`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location, ProgramError
from mlutriton.dtypes import FORMATS_BY_NAME, I64, DType
from mlutriton.isa.operands import (
    FORWARD,
    Address,
    GlobalAddress,
    Immediate,
    Label,
    Mode,
    Operand,
    Register,
)
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program, may_stand, slot_dtype
from mlutriton.isa.table import TABLE, Row, Slot

MNEMONIC_COLUMNS = 20
NAME = re.compile(r"(?!r\d+$|inf(?!\w)|nan(?!\w))(?:[^\W\d]|\$)[\w$.]*")


def name_of(identifier: str) -> str:
    """The name in assembly of what a kernel calls ``identifier``: the same, unless it reads as a register or number."""
    return identifier if NAME.fullmatch(identifier) else f"${identifier}"


def disassemble(program: Program) -> str:
    """The text of a program, aligned in columns."""
    lines = [*_header_lines(program), ""]
    labels_at: dict[int, list[str]] = {}
    for name, index in program.labels.items():
        labels_at.setdefault(index, []).append(name)
    location = UNKNOWN_LOCATION
    for index, instruction in enumerate(program.instructions):
        lines += [f"{name}:" for name in labels_at.get(index, ())]
        if instruction.location != location:
            location = instruction.location
            lines.append(f".loc {json.dumps(location.file)} {location.line} {location.column}")
        operands = ", ".join(str(operand) for operand in instruction.operands)
        lines.append(f"    {instruction.mnemonic:<{MNEMONIC_COLUMNS}} {operands}".rstrip())
    lines += [f"{name}:" for name in labels_at.get(len(program.instructions), ())]
    return "\n".join(lines) + "\n"


def _header_lines(program: Program) -> Iterator[str]:
    yield f".program  {program.name}"
    yield f".isa      {program.isa}"
    yield f".cores    {program.cores_per_program}"
    if program.local_bytes:
        yield f".local    {program.local_bytes}"
    if program.register_count != _registers_used(program.instructions):
        yield f".registers {program.register_count}"
    for parameter in program.parameters:
        yield f".param    {parameter.name} {'ptr ' if parameter.pointer else ''}{parameter.dtype}"
    name_columns = max((len(name) for name in program.buffers), default=0)
    for buffer in program.buffers.values():
        place = buffer.location
        text = f".buffer   {buffer.name:<{name_columns}} {buffer.space} {buffer.offset_bytes:>7} {buffer.bytes:>7}"
        if place != UNKNOWN_LOCATION:
            text += f" {json.dumps(place.file)}:{place.line}" + (f":{place.column}" if place.column else "")
        yield text
    for index, string in enumerate(program.strings):
        yield f".string   {index} {json.dumps(string)}"
    for key, value in program.metadata.items():
        yield f".meta     {key if NAME.fullmatch(key) else json.dumps(key)} {json.dumps(value)}"


def _registers_used(instructions: Iterable[Instruction]) -> int:
    highest = -1
    for instruction in instructions:
        for operand in instruction.operands:
            match operand:
                case Register(index):
                    highest = max(highest, index)
                case Address(register=Register(index)) | GlobalAddress(register=Register(index)):
                    highest = max(highest, index)
                case _:
                    pass
    return highest + 1


def assemble(text: str, file: str | None = None) -> Program:
    """The program that a text states; ``file`` is where it stands.

    Raises:
        ProgramError: E0401 with file, line and column, what stands there and what may.
    """
    assembler = _Assembler(has_file=file is not None)
    name = file or "<assembly>"
    for number, line in enumerate(text.split("\n"), start=1):
        assembler.read(_Line(line, Location(name, number)))
    return assembler.program(Location(name, 1))


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>-?(?:0x[0-9a-fA-F]+|inf\b|nan\b|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))
    | (?P<word>(?:[^\W\d]|[.$])[\w.$]*)
    | (?P<mark>[\[\]+,:~])
    | (?P<end>[;\#].*|$)
    | (?P<other>.)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


class _Line:
    """One line of text as tokens, with a cursor."""

    def __init__(self, text: str, location: Location) -> None:
        self.text = text
        self.location = location
        self.tokens: list[_Token] = []
        self.cursor = 0
        position = 0
        while match := _TOKEN.match(text, position):
            kind = match.lastgroup or "other"
            self.tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
            if kind == "end":
                break
            position = match.end()

    @property
    def next(self) -> _Token:
        return self.tokens[self.cursor]

    @property
    def at_end(self) -> bool:
        return self.next.kind == "end"

    def fail(self, expected: str, *, token: _Token | None = None, help: str = "") -> NoReturn:
        """Refuse the token (the next one, if none is given)."""
        token = token or self.next
        found = "the end of the line" if token.kind == "end" else f"'{token.text}'"
        place = Location(self.location.file, self.location.line, token.column)
        raise ProgramError("E0401", f"found {found} where {expected} is expected", location=place, help=help)

    def take(self, kind: str, expected: str) -> _Token:
        token = self.next
        if token.kind != kind:
            self.fail(expected)
        self.cursor += 1
        return token

    def accept(self, mark: str) -> bool:
        if self.next.text != mark or self.next.kind != "mark":
            return False
        self.cursor += 1
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(f"'{mark}'")

    def name(self, expected: str) -> str:
        token = self.take("word", expected)
        if not NAME.fullmatch(token.text):
            self.fail(expected, token=token, help="names of registers and numbers cannot name anything else")
        return token.text

    def integer(self, expected: str, minimum: int | None = None) -> int:
        token = self.take("number", expected)
        value = _integer(token.text)
        if value is None or (minimum is not None and value < minimum):
            self.fail(expected, token=token)
        return value

    def string(self, expected: str) -> str:
        token = self.take("string", expected)
        try:
            return str(json.loads(token.text))
        except ValueError:
            self.fail(expected, token=token, help="strings are written as in JSON")

    def json(self, expected: str) -> object:
        """A JSON value up to the end of the line or a comment."""
        start = self.next.column - 1
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, start)
        except (ValueError, RecursionError):
            self.fail(expected)
        rest = _Line(" " * end + self.text[end:], self.location)
        rest.finish()
        self.cursor = len(self.tokens) - 1
        return value

    def finish(self) -> None:
        if not self.at_end:
            self.fail("the end of the line")


def _integer(text: str) -> int | None:
    try:
        return int(text, 16 if "x" in text else 10)
    except ValueError:
        return None


@dataclass
class _Assembler:
    """What has been read so far."""

    name: str = ""
    isa: int = 0
    cores: int = 1
    local_bytes: int = 0
    registers: int | None = None
    parameters: list[Parameter] = field(default_factory=list[Parameter])
    buffers: dict[str, Buffer] = field(default_factory=dict[str, Buffer])
    strings: list[str] = field(default_factory=list[str])
    metadata: dict[str, object] = field(default_factory=dict[str, object])
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    labels: dict[str, int] = field(default_factory=dict[str, int])
    has_file: bool = False
    location: Location | None = None

    def program(self, start: Location) -> Program:
        for directive, value in ((".program", self.name), (".isa", self.isa)):
            if not value:
                raise ProgramError("E0401", f"the text has no {directive}", location=start)
        return Program(
            name=self.name,
            isa=self.isa,
            parameters=tuple(self.parameters),
            buffers=self.buffers,
            instructions=tuple(self.instructions),
            labels=self.labels,
            register_count=_registers_used(self.instructions) if self.registers is None else self.registers,
            cores_per_program=self.cores,
            local_bytes=self.local_bytes,
            strings=tuple(self.strings),
            metadata=self.metadata,
        )

    def read(self, line: _Line) -> None:
        if line.at_end:
            return
        token = line.take("word", "a directive, a label or an instruction")
        if line.accept(":"):
            if not NAME.fullmatch(token.text) or token.text in self.labels:
                line.fail("a new label", token=token)
            self.labels[token.text] = len(self.instructions)
            self.read(line)
        elif token.text.startswith("."):
            self._directive(token, line)
            line.finish()
        else:
            self._instruction(token, line)
            line.finish()

    def _directive(self, token: _Token, line: _Line) -> None:
        match token.text:
            case ".program":
                self.name = line.name("the program's name")
            case ".isa":
                self.isa = line.integer("an ISA number", 1)
            case ".cores":
                self.cores = line.integer("a number of cores", 1)
            case ".local":
                self.local_bytes = line.integer("bytes of local memory", 0)
            case ".registers":
                self.registers = line.integer("a number of registers", 0)
            case ".param":
                name = line.name("the parameter's name")
                pointer = line.next.text == "ptr"
                line.cursor += pointer
                self.parameters.append(Parameter(name, _dtype(line), pointer))
            case ".buffer":
                self._buffer(line)
            case ".string":
                if line.integer(f"the string's index, {len(self.strings)}") != len(self.strings):
                    line.fail(f"the string's index, {len(self.strings)}", token=line.tokens[line.cursor - 1])
                self.strings.append(line.string("the string"))
            case ".meta":
                is_string = line.next.kind == "string"
                key = line.string("a key") if is_string else line.name("a key")
                self.metadata[key] = line.json("a JSON value")
            case ".loc":
                file = line.string("a quoted file name")
                number = line.integer("a line number", 0)
                column = 0 if line.at_end else line.integer("a column number", 0)
                self.location = _location(file, number, column)
            case _:
                line.fail("a directive", token=token, help=_close(token.text, DIRECTIVES))

    def _buffer(self, line: _Line) -> None:
        token = line.next
        name = line.name("the buffer's name")
        if name in self.buffers:
            line.fail("a new buffer name", token=token)
        space = line.take("word", "nram, wram or sram")
        if space.text not in ("nram", "wram", "sram"):
            line.fail("nram, wram or sram", token=space)
        offset, size = line.integer("an offset in bytes", 0), line.integer("a size in bytes", 0)
        location = UNKNOWN_LOCATION
        if not line.at_end:
            file = line.string("a quoted file name")
            line.expect(":")
            number = line.integer("a line number", 0)
            location = _location(file, number, line.integer("a column", 0) if line.accept(":") else 0)
        self.buffers[name] = Buffer(name, space.text, offset, size, location)

    def _instruction(self, token: _Token, line: _Line) -> None:
        row, dtypes = _mnemonic(token, line)
        operands: list[Operand] = []
        for slot in row.slots:
            if operands:
                if line.at_end:
                    line.fail(_signature(row, len(operands)))
                line.expect(",")
            operands.append(_operand(line, slot, slot_dtype(slot, dtypes)))
        if not line.at_end:
            line.fail(f"the end of the line after {len(row.slots)} operands of {row.name}")
        location = self.location
        if location is None:
            here = line.location
            location = Location(here.file, here.line, token.column) if self.has_file else UNKNOWN_LOCATION
        self.instructions.append(Instruction(row, dtypes, tuple(operands), location))


DIRECTIVES = (".program", ".isa", ".cores", ".local", ".registers", ".param", ".buffer", ".string", ".meta", ".loc")


def _location(file: str, line: int, column: int) -> Location:
    location = Location(file, line, column)
    return UNKNOWN_LOCATION if location == UNKNOWN_LOCATION else location


def _close(text: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(text, list(names), n=3)
    return f"close to it: {', '.join(matches)}" if matches else ""


def _signature(row: Row, given: int) -> str:
    slot = row.slots[given]
    return f"',' and operand {given + 1} of {len(row.slots)}, {slot.name} ({slot.kind.value}),"


def _dtype(line: _Line) -> DType:
    token = line.take("word", "an element type")
    if token.text not in FORMATS_BY_NAME:
        line.fail("an element type", token=token, help=f"element types: {', '.join(FORMATS_BY_NAME)}")
    return FORMATS_BY_NAME[token.text]


def _mnemonic(token: _Token, line: _Line) -> tuple[Row, tuple[DType, ...]]:
    parts = token.text.split(".")
    suffixes = 0
    while suffixes < len(parts) - 1 and parts[-1 - suffixes] in FORMATS_BY_NAME:
        suffixes += 1
    dtypes = tuple(FORMATS_BY_NAME[part] for part in parts[len(parts) - suffixes :])
    name = ".".join(parts[: len(parts) - suffixes])
    row = TABLE.get(name)
    if row is None:
        line.fail("an instruction", token=token, help=_close(name, TABLE))
    if len(dtypes) != len(row.types):
        suffix = "".join(f".<{kinds}>" for kinds in row.types)
        line.fail(f"{name}{suffix}", token=token, help=f"{name} takes {len(row.types)} type suffixes")
    return row, dtypes


def _operand(line: _Line, slot: Slot, dtype: DType) -> Operand:
    expected = f"{slot.name} ({slot.kind.value})"
    token = line.next
    operand = _any_operand(line, expected, I64 if slot.optional else dtype)
    if not may_stand(operand, slot):
        line.fail(expected, token=token)
    return operand


def _any_operand(line: _Line, expected: str, dtype: DType) -> Operand:
    token = line.next
    if token.kind == "mark" and token.text == "[":
        return _address(line, Mode.FULL)
    if token.kind == "mark" and token.text == "~":
        line.cursor += 1
        return FORWARD
    if token.kind == "number":
        line.cursor += 1
        return _immediate(token, line, expected, dtype)
    word = line.take("word", expected).text
    if line.next.text == "[":
        match word:
            case "g":
                return _global_address(line)
            case "row" | "col":
                return _address(line, Mode(word))
            case _:
                line.fail("row, col, g or nothing before '['", token=token)
    if (register := _register(word)) is not None:
        return register
    return Label(word)


def _immediate(token: _Token, line: _Line, expected: str, dtype: DType) -> Immediate:
    value = _integer(token.text)
    if dtype.is_float:
        number = float(token.text if value is None else value)
        return Immediate(math.nan if math.isnan(number) else number)
    if value is None:
        line.fail(f"{expected}, an integer of type {dtype},", token=token)
    return Immediate(value)


def _register(word: str) -> Register | None:
    return Register(int(word[1:])) if re.fullmatch(r"r\d{1,9}", word) else None


def _address(line: _Line, mode: Mode) -> Address:
    line.expect("[")
    buffer = line.name("a buffer's name")
    register, offset = None, 0
    more = line.accept("+")
    if more and line.next.kind == "word":
        register = _take_register(line)
        more = line.accept("+")
    if more:
        offset = line.integer("an offset in bytes" if register else "a register or an offset in bytes")
    line.expect("]")
    return Address(buffer, register, offset, mode)


def _global_address(line: _Line) -> GlobalAddress:
    line.expect("[")
    register = _take_register(line)
    offset = line.integer("an offset in bytes") if line.accept("+") else 0
    line.expect("]")
    return GlobalAddress(register, offset)


def _take_register(line: _Line) -> Register:
    token = line.take("word", "a register")
    register = _register(token.text)
    if register is None:
        line.fail("a register", token=token)
    return register
