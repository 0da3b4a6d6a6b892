r"""The binary form of programs: ``encode`` writes a program file, ``decode`` reads it back to an equal program.

All numbers are little-endian::

    header      magic "MLUPROG\0", version: u16, sections: u16, CRC-32 of all that follows: u32, table hash: u64
    section     kind: u32, length in bytes: u32, then the bytes, filled up with zeros to a multiple of 8

There is one section of each kind: FACTS (JSON: all but the instructions), CODE (64-bit words), PLACES (three u32 an
instruction: file, line, column). An instruction is a header word and one or two words an operand::

    header      row: 10 bits, types: 2 x 6 bits (0 = none), operand kinds: 3 bits each from bit 22
    REGISTER    index              INTEGER, UNSIGNED   the value          FLOAT   the bits of a double
    LABEL       number             FORWARD             0
    ADDRESS     buffer: 16 bits, register + 1: 17 bits, mode: 2 bits, wide: 1 bit, offset: 28 bits, signed
    GLOBAL      0: 16 bits, then as ADDRESS

If ``wide`` is set, the offset stands in the next word instead. The table hash guards against a table that has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any, cast

import numpy as np

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location, ProgramError
from mlutriton.dtypes import BY_NAME, FORMATS, DType, signed
from mlutriton.isa.operands import (
    FORWARD,
    Address,
    Forward,
    GlobalAddress,
    Immediate,
    Label,
    Mode,
    Operand,
    Register,
)
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program, may_stand
from mlutriton.isa.table import TABLE, Row

MAGIC = b"MLUPROG\0"
VERSION = 1
_HEADER = struct.Struct("<8sHHIQ")
_SECTION = struct.Struct("<II")
_WORD = (1 << 64) - 1


class _Section(IntEnum):
    FACTS = 1
    CODE = 2
    PLACES = 3


class _OperandKind(IntEnum):
    REGISTER = 0
    INTEGER = 1
    UNSIGNED = 2
    FLOAT = 3
    ADDRESS = 4
    GLOBAL = 5
    FORWARD = 6
    LABEL = 7


_ROWS: tuple[Row, ...] = tuple(TABLE.values())
_ROW_NUMBERS: dict[str, int] = {row.name: number for number, row in enumerate(_ROWS)}
_MODES = tuple(Mode)
_FORMAT_NUMBERS: dict[str, int] = {dtype.name: number for number, dtype in enumerate(FORMATS)}
_ROW_BITS, _TYPE_BITS, _MAXIMUM_TYPES, _KINDS_AT, _KIND_BITS = 10, 6, 2, 22, 3
_REGISTER_AT, _MODE_AT, _WIDE_AT, _OFFSET_AT = 16, 33, 35, 36
_OFFSET_LIMIT = 1 << (63 - _OFFSET_AT)
assert len(_ROWS) <= 1 << _ROW_BITS
assert len(FORMATS) < 1 << _TYPE_BITS
for _row in _ROWS:
    assert len(_row.types) <= _MAXIMUM_TYPES, _row.name
    assert _KINDS_AT + _KIND_BITS * len(_row.slots) <= 64, _row.name


@cache
def table_hash() -> int:
    """64 bits of a hash over what the encoding depends on: rows, types and slots in their order."""
    named = attrgetter("name", "kind._name_")  # the name of an enumeration's member takes a call
    text = repr([(row.name, row.types, [*map(named, row.slots)]) for row in _ROWS] + [FORMATS])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


# What is compiled is loaded right after.
_kept: dict[bytes, Program] = {}
_KEPT_PROGRAMS = 16


def encode_and_keep(program: Program) -> bytes:
    """The program file of a program that ``kept_program`` shall find by it, for a while."""
    content = encode(program)
    _kept[content] = program
    if len(_kept) > _KEPT_PROGRAMS:
        _kept.pop(next(iter(_kept)), None)
    return content


def kept_program(content: bytes) -> Program | None:
    """The program that this process has made a program file of lately; None if it has not."""
    return _kept.get(content)


def encode(program: Program) -> bytes:
    """The program file of a program."""
    files: dict[str, int] = {}
    places: list[int] = []
    for instruction in program.instructions:
        location = instruction.location
        places += (files.setdefault(location.file, len(files)), location.line, location.column)
    buffers = {name: number for number, name in enumerate(program.buffers)}
    if len(buffers) > 1 << _REGISTER_AT:
        raise ProgramError("E0402", f"{len(buffers)} buffers; a program has at most {1 << _REGISTER_AT}")
    labelled = sorted(program.labels.items(), key=itemgetter(1))
    labels = {name: number for number, (name, _) in enumerate(labelled)}
    words: list[int] = []
    for instruction in program.instructions:
        _encode_instruction(words, instruction, buffers, labels)
    facts: dict[str, object] = {
        "name": program.name,
        "isa": program.isa,
        "cores": program.cores_per_program,
        "local_bytes": program.local_bytes,
        "registers": program.register_count,
        "instructions": len(program.instructions),
        "parameters": [[each.name, each.dtype.name, each.pointer] for each in program.parameters],
        "buffers": [
            [each.name, each.space, each.offset_bytes, each.bytes, each.location.file, each.location.line,
             each.location.column]
            for each in program.buffers.values()
        ],
        "labels": labelled,
        "strings": list(program.strings),
        "metadata": dict(program.metadata),
        "files": list(files),
    }  # fmt: skip
    sections = {
        _Section.FACTS: json.dumps(facts, separators=(",", ":")).encode(),
        _Section.CODE: np.array(words, "<u8").tobytes(),
        _Section.PLACES: np.array(places, "<u4").tobytes(),
    }
    body = b"".join(
        _SECTION.pack(kind, len(content)) + content + bytes(-len(content) % 8) for kind, content in sections.items()
    )
    return _HEADER.pack(MAGIC, VERSION, len(sections), zlib.crc32(body), table_hash()) + body


def _encode_instruction(
    words: list[int], instruction: Instruction, buffers: dict[str, int], labels: dict[str, int]
) -> None:
    """Append an instruction to the words of the code."""
    at = len(words)
    words.append(0)
    kinds = 0
    for position, operand in enumerate(instruction.operands):
        if type(operand) is Register:  # as most are, and of kind 0
            words.append(operand.index)
        else:
            kinds |= _encode_operand(words, operand, buffers, labels) << _KIND_BITS * position
    words[at] = _type_bits(instruction.row, instruction.dtypes) | kinds << _KINDS_AT


@cache
def _type_bits(row: Row, dtypes: tuple[DType, ...]) -> int:
    """The header of instructions of a row and types, without the kinds of their operands."""
    header = _ROW_NUMBERS[row.name]
    for position, dtype in enumerate(dtypes):
        header |= (_FORMAT_NUMBERS[dtype.name] + 1) << (_ROW_BITS + _TYPE_BITS * position)
    return header


def _encode_operand(words: list[int], operand: Operand, buffers: dict[str, int], labels: dict[str, int]) -> int:
    """Append an operand to the words of the code; returns its kind."""
    match operand:
        case Register():
            words.append(operand.index)
            return _OperandKind.REGISTER
        case Immediate():
            value = operand.value
            if isinstance(value, float):
                words.append(int.from_bytes(struct.pack("<d", value), "little"))
                return _OperandKind.FLOAT
            words.append(int(value) & _WORD)
            return _OperandKind.UNSIGNED if value >= 1 << 63 else _OperandKind.INTEGER
        case Address():
            buffer, mode = buffers[operand.buffer], _MODES.index(operand.mode)
            _encode_address(words, buffer | mode << _MODE_AT, operand.register, operand.offset_bytes)
            return _OperandKind.ADDRESS
        case GlobalAddress():
            _encode_address(words, 0, operand.register, operand.offset_bytes)
            return _OperandKind.GLOBAL
        case Forward():
            words.append(0)
            return _OperandKind.FORWARD
        case Label():
            words.append(labels[operand.name])
            return _OperandKind.LABEL


def _encode_address(words: list[int], word: int, register: Register | None, offset: int) -> None:
    if register is not None:
        word |= register.index + 1 << _REGISTER_AT
    if -_OFFSET_LIMIT <= offset < _OFFSET_LIMIT:
        words.append(word | offset << _OFFSET_AT & _WORD)
    else:
        words += (word | 1 << _WIDE_AT, offset & _WORD)


def decode(content: bytes) -> Program:
    """The program that a program file holds.

    Raises:
        ProgramError: E0403 if the content is no program file, damaged, or of another version; E0402 if it is whole but
            holds an instruction that does not exist.
    """
    sections = _sections(content)
    try:
        facts: dict[str, Any] = json.loads(sections[_Section.FACTS])
        return _decode_facts(facts, sections)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise _corrupt(f"its contents contradict each other: {error}") from error


def is_whole(content: bytes) -> bool:
    """True for a program file of this version that was written to its end and not damaged since."""
    try:
        _sections(content)
    except ProgramError:
        return False
    return True


def _corrupt(fact: str) -> ProgramError:
    return ProgramError("E0403", f"not a whole program file: {fact}", help="compile or assemble the program again")


def _sections(content: bytes) -> dict[_Section, bytes]:
    if len(content) < _HEADER.size:
        raise _corrupt(f"{len(content)} bytes, the header alone has {_HEADER.size}")
    magic, version, count, checksum, table = _HEADER.unpack_from(content)
    if magic != MAGIC:
        raise _corrupt(f"it begins with {magic!r}, not with {MAGIC!r}")
    if version != VERSION:
        raise _corrupt(f"version {version}; this release reads version {VERSION}")
    if table != table_hash():
        raise _corrupt("it was written for another instruction table")
    if zlib.crc32(content[_HEADER.size :]) != checksum:
        raise _corrupt("the checksum does not match the contents")
    sections: dict[_Section, bytes] = {}
    position = _HEADER.size
    for _ in range(count):
        if position + _SECTION.size > len(content):
            raise _corrupt("it ends inside a section")
        kind, length = _SECTION.unpack_from(content, position)
        position += _SECTION.size
        if kind not in set(_Section) or kind in sections or position + length > len(content):
            raise _corrupt(f"section {kind} of {length} bytes")
        sections[_Section(kind)] = content[position : position + length]
        position += length + -length % 8
    if position != len(content) or len(sections) != len(_Section):
        raise _corrupt(f"{len(sections)} sections end at byte {position} of {len(content)}")
    return sections


def _decode_facts(facts: dict[str, Any], sections: dict[_Section, bytes]) -> Program:
    buffers = {
        str(name): Buffer(str(name), str(space), _count(offset), _count(size), _location(file, line, column))
        for name, space, offset, size, file, line, column in facts["buffers"]
    }
    labels = {str(name): _count(index) for name, index in facts["labels"]}
    reader = _CodeReader(sections[_Section.CODE], list(buffers), list(labels))
    files = [str(file) for file in facts["files"]]
    place_numbers = cast(list[int], np.frombuffer(sections[_Section.PLACES], "<u4").tolist())
    if len(place_numbers) != 3 * _count(facts["instructions"]):
        raise ValueError(f"{len(place_numbers)} numbers for the places of {facts['instructions']} instructions")
    instructions: list[Instruction] = []
    for start in range(0, len(place_numbers), 3):
        file, line, column = place_numbers[start : start + 3]
        instructions.append(reader.instruction(_location(files[file], line, column)))
    if not reader.at_end:
        raise ValueError("code follows the last instruction")
    metadata = facts["metadata"]
    if not isinstance(metadata, dict):
        raise TypeError("metadata is no object")
    return Program(
        name=str(facts["name"]),
        isa=_count(facts["isa"]),
        parameters=tuple(Parameter(str(name), BY_NAME[dtype], bool(ptr)) for name, dtype, ptr in facts["parameters"]),
        buffers=buffers,
        instructions=tuple(instructions),
        labels=labels,
        register_count=_count(facts["registers"]),
        cores_per_program=_count(facts["cores"]),
        local_bytes=_count(facts["local_bytes"]),
        strings=tuple(str(string) for string in facts["strings"]),
        metadata=cast(dict[str, object], metadata),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


@cache
def _location(file: str, line: int, column: int) -> Location:
    location = Location(str(file), _count(line), _count(column))
    return UNKNOWN_LOCATION if location == UNKNOWN_LOCATION else location


class _CodeReader:
    """Reads instructions from the words of the CODE section."""

    def __init__(self, code: bytes, buffers: list[str], labels: list[str]) -> None:
        self.words = cast(list[int], np.frombuffer(code, "<u8").tolist())
        self.position = 0
        self.buffers = buffers
        self.labels = labels

    @property
    def at_end(self) -> bool:
        return self.position == len(self.words)

    def word(self) -> int:
        self.position += 1
        return self.words[self.position - 1]

    def instruction(self, location: Location) -> Instruction:
        header = self.word()
        number = header & ((1 << _ROW_BITS) - 1)
        if number >= len(_ROWS):
            raise _illegal(f"there is no instruction {number}", location)
        row = _ROWS[number]
        kinds = header >> _KINDS_AT
        if kinds >> (_KIND_BITS * len(row.slots)):
            raise _illegal(f"{row.name} has more than {len(row.slots)} operands", location)
        dtypes = tuple(self._dtypes(header, row, location))
        operands: list[Operand] = []
        for slot in row.slots:
            operand = self._operand(_OperandKind(kinds & 7))
            if not may_stand(operand, slot):
                raise _illegal(f"{row.name} has {operand} for {slot.name}, a {slot.kind.value}", location)
            operands.append(operand)
            kinds >>= _KIND_BITS
        return Instruction(row, dtypes, tuple(operands), location)

    def _dtypes(self, header: int, row: Row, location: Location) -> Iterator[DType]:
        for position in range(_MAXIMUM_TYPES):
            code = header >> (_ROW_BITS + _TYPE_BITS * position) & ((1 << _TYPE_BITS) - 1)
            if (code != 0) != (position < len(row.types)) or code > len(FORMATS):
                raise _illegal(f"{row.name} has the type number {code}", location)
            if code:
                yield FORMATS[code - 1]

    def _operand(self, kind: _OperandKind) -> Operand:
        word = self.word()
        match kind:
            case _OperandKind.REGISTER:
                return Register(word)
            case _OperandKind.INTEGER:
                return Immediate(signed(word))
            case _OperandKind.UNSIGNED:
                return Immediate(word)
            case _OperandKind.FLOAT:
                value = struct.unpack("<d", word.to_bytes(8, "little"))[0]
                return Immediate(math.nan if math.isnan(value) else value)
            case _OperandKind.ADDRESS:
                register = self._register(word)
                mode = _MODES[word >> _MODE_AT & 3]
                return Address(self.buffers[word & 0xFFFF], register, self._offset(word), mode)
            case _OperandKind.GLOBAL:
                register = self._register(word)
                if register is None:
                    raise ValueError("a GDRAM address without register")
                return GlobalAddress(register, self._offset(word))
            case _OperandKind.FORWARD:
                return FORWARD
            case _OperandKind.LABEL:
                return Label(self.labels[word])

    def _register(self, word: int) -> Register | None:
        code = word >> _REGISTER_AT & 0x1FFFF
        return Register(code - 1) if code else None

    def _offset(self, word: int) -> int:
        return signed(self.word()) if word >> _WIDE_AT & 1 else signed(word) >> _OFFSET_AT


def _illegal(fact: str, location: Location) -> ProgramError:
    return ProgramError("E0402", fact, location=location, help="compile or assemble the program again")
