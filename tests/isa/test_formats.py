"""Text and binary form: programs over every row of the table come back equal, damaged ones are refused politely."""

import math
import struct
import zlib
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlutriton.diagnostics import UNKNOWN_LOCATION, Location, ProgramError
from mlutriton.dtypes import ALL, F32, I32
from mlutriton.isa.assembly import assemble, disassemble
from mlutriton.isa.encoding import decode, encode
from mlutriton.isa.operands import FORWARD, Address, GlobalAddress, Immediate, Label, Mode, Register
from mlutriton.isa.program import Buffer, Instruction, Parameter, Program, slot_dtype
from mlutriton.isa.table import TABLE, SlotKind, admitted

BUFFERS = {
    "tile": Buffer("tile", "nram", 0, 4096, Location("kernel.py", 7)),
    "odd.name$": Buffer("odd.name$", "nram", 4096, 1),
    "weights": Buffer("weights", "wram", 0, 8192, Location("kernel.py", 9, 3)),
    "shared": Buffer("shared", "sram", 64, 1024),
}
LABELS = ("start", "row", "g", "r", "loop.1")

registers = st.integers(0, 40).map(Register)
offsets = st.one_of(st.just(0), st.integers(-64, 4096), st.integers(-(1 << 40), 1 << 40))
addresses = st.builds(Address, st.sampled_from(list(BUFFERS)), st.none() | registers, offsets)
vectors = st.builds(
    Address, st.sampled_from(list(BUFFERS)), st.none() | registers, offsets, st.sampled_from(list(Mode))
)
floats = st.floats().map(lambda value: Immediate(math.nan if math.isnan(value) else value))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
locations = st.one_of(
    st.just(UNKNOWN_LOCATION),
    st.builds(Location, st.text(max_size=5), st.integers(0, 1 << 20), st.integers(0, 200)),
)


@cache
def integers(dtype):
    return st.integers(-(1 << (dtype.bits - 1)), (1 << dtype.bits) - 1).map(Immediate)


@cache
def operands(slot, dtype):
    immediates = floats if dtype.is_float else integers(dtype)
    strategy = {
        SlotKind.RESULT: registers,
        SlotKind.SCALAR: registers | immediates,
        SlotKind.COUNT: registers | st.integers(0, (1 << 31) - 1).map(Immediate),
        SlotKind.VECTOR: st.one_of(vectors, registers, immediates, st.just(FORWARD)),
        SlotKind.TARGET: addresses | st.just(FORWARD),
        SlotKind.ON_CHIP: addresses,
        SlotKind.GLOBAL: st.builds(GlobalAddress, registers, offsets),
        SlotKind.LABEL: st.sampled_from(LABELS).map(Label),
        SlotKind.INDEX: st.integers(0, 1 << 20).map(Immediate),
    }[slot.kind]
    return strategy | st.just(Immediate(0)) if slot.optional else strategy


@cache
def type_lists(row):
    """Every list of element types that a row takes."""
    lists = [()]
    for kinds in row.types:
        lists = [(*dtypes, dtype) for dtypes in lists for dtype in admitted(kinds)]
    return [dtypes for dtypes in lists if row.admits(dtypes)]


@cache
def instructions(row):
    def of_types(dtypes):
        drawn = st.tuples(*(operands(slot, slot_dtype(slot, dtypes)) for slot in row.slots))
        return st.builds(Instruction, st.just(row), st.just(dtypes), drawn, locations)

    return st.sampled_from(type_lists(row)).flatmap(of_types)


@st.composite
def programs(draw, bodies):
    """Programs that can be written down; their instructions need not be legal."""
    body = tuple(draw(bodies))
    return Program(
        name=draw(st.sampled_from(["softmax", "_a.b$1"])),
        isa=draw(st.sampled_from([372, 592])),
        parameters=(Parameter("x", draw(st.sampled_from(ALL)), pointer=True), Parameter("n", I32), Parameter("s", F32)),
        buffers=BUFFERS,
        instructions=body,
        labels={name: draw(st.integers(0, len(body))) for name in LABELS},
        register_count=draw(st.integers(0, 50)),
        cores_per_program=draw(st.sampled_from([1, 4])),
        local_bytes=draw(st.sampled_from([0, 64, 1 << 20])),
        strings=tuple(draw(st.lists(st.text(max_size=6), max_size=3))),
        metadata=draw(st.dictionaries(st.text(max_size=4), json_values, max_size=2)),
    )


ROWS = tuple(TABLE.values())
GROUP = 10


@pytest.mark.parametrize("first", range(0, len(ROWS), GROUP))
@given(data=st.data())
@settings(max_examples=8)
def test_every_row_comes_back_equal(first, data):
    program = data.draw(programs(st.tuples(*(instructions(row) for row in ROWS[first : first + GROUP]))))
    assert assemble(disassemble(program)) == program
    assert decode(encode(program)) == program


@given(programs(st.lists(st.sampled_from(ROWS).flatmap(instructions), min_size=1, max_size=4)))
@settings(max_examples=50)
def test_programs_come_back_equal(program):
    assert assemble(disassemble(program)) == program
    assert decode(encode(program)) == program


SMALL = """
.program  small          ; a comment
.isa      592
.param    x ptr f32
.param    n i32
.buffer   tile nram 0 4096 "small.py":3   # another
.string   0 "not \\"empty\\" ; no comment"
.meta     source {"file": "small.py"}

.loc "small.py" 4 9
        param          r0, 0
again:  dma.load.f32   [tile + 0x10], g[r0 + 64], 8, 1, 1, 0, 0, 0, 0
        sync           1
        v.fmul.f32     ~, row[tile + r0], 2, 1, 8
        v.fadd.f32     [tile], ~, -inf, 1, 8
        cbr            0, again
        exit
"""


def test_text_is_read_as_documented():
    program = assemble(SMALL, "small.mlu")
    assert (program.name, program.isa, program.cores_per_program, program.register_count) == ("small", 592, 1, 1)
    assert program.parameters == (Parameter("x", F32, pointer=True), Parameter("n", I32))
    assert program.buffers == {"tile": Buffer("tile", "nram", 0, 4096, Location("small.py", 3))}
    assert program.strings == ('not "empty" ; no comment',)
    assert program.metadata == {"source": {"file": "small.py"}}
    assert program.labels == {"again": 1}
    load, _, multiply, add = program.instructions[1:5]
    assert load.location == Location("small.py", 4, 9)
    assert load.operands[:2] == (Address("tile", None, 16), GlobalAddress(Register(0), 64))
    assert multiply.operands[:3] == (FORWARD, Address("tile", Register(0), 0, Mode.ROW), Immediate(2.0))
    assert add.operand("b") == Immediate(-math.inf)
    assert assemble(disassemble(program)) == program


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "expected"),
    [
        ("v.fmul.f32", "v.fmull.f32", 14, 9, "close to it: v.fmul"),
        ("v.fmul.f32", "v.fmul", 14, 9, "v.fmul takes 1 type suffixes"),
        ("v.fmul.f32", "v.fmul.f33", 14, 9, "an instruction"),
        ("sync           1", "sync           r0", 13, 24, "queues (immediate integer: an index, flag or mask)"),
        ("sync           1", "sync", 13, 13, "found the end of the line"),
        ("sync           1", "sync           1, 2", 13, 25, "the end of the line after 1 operands"),
        ("sync           1", "sync           1.5", 13, 24, "an integer of type i64"),
        ("~, row[tile", "~, raw[tile", 14, 27, "row, col, g or nothing"),
        ("~, row[tile", "~ row[tile", 14, 26, "',' is expected"),
        ("[tile + 0x10]", "[tile + ]", 12, 32, "a register or an offset"),
        ("[tile + 0x10]", "[tile + 16", 12, 34, "']' is expected"),
        (".isa      592", ".isa      five", 3, 11, "an ISA number"),
        (".isa      592", ".isaac    592", 3, 1, "close to it: .isa"),
        (".param    n i32", ".param    n int32", 5, 13, "element types: i1"),
        (".param    n i32", ".param    r7 i32", 5, 11, "names of registers"),
        ("tile nram 0", "tile dram 0", 6, 16, "nram, wram or sram"),
        (".string   0", ".string   1", 7, 11, "the string's index, 0"),
        ('"file": "small.py"}', '"file": "small.py"', 8, 18, "a JSON value"),
        ("again:  dma", "again: again: dma", 12, 8, "a new label"),
        ("cbr            0, again", "cbr 0, 1", 16, 16, "target (label)"),
        ("exit", "exit @", 17, 14, "'@'"),
    ],
)
def test_text_errors_say_where_and_what(old, new, line, column, expected):
    assert old in SMALL
    with pytest.raises(ProgramError) as caught:
        assemble(SMALL.replace(old, new, 1), "small.mlu")
    assert caught.value.code == "E0401"
    assert caught.value.location == Location("small.mlu", line, column)
    assert expected in str(caught.value)


def test_text_without_program_or_isa_is_refused():
    with pytest.raises(ProgramError, match=r"no \.program"):
        assemble(".isa 592")
    with pytest.raises(ProgramError, match=r"no \.isa"):
        assemble(".program x")


def refusal(read, content):
    """The code of the error; None if there is none."""
    try:
        read(content)
    except ProgramError as error:
        return error.code
    return None


@given(st.text() | st.text(alphabet='[]+,:~.;#"r0x19 \n-eagdmfs'))
@settings(max_examples=300)
@example(".meta x [[[[")
@example('.loc "')
def test_any_text_is_a_program_or_an_error(text):
    assert refusal(assemble, text) in (None, "E0401")


@given(st.integers(0, len(SMALL)), st.text(alphabet='[]+,:~.;#"r0x19 \n-', max_size=3), st.integers(0, 3))
@settings(max_examples=300)
def test_a_damaged_text_is_a_program_or_an_error(place, inserted, removed):
    assert refusal(assemble, SMALL[:place] + inserted + SMALL[place + removed :]) in (None, "E0401")


FILE = encode(assemble(SMALL))


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "0 bytes"),
        (FILE[:10], "10 bytes"),
        (FILE[:-1], "checksum"),
        (FILE + b"\0", "checksum"),
        (b"ELF" + FILE[3:], "begins with"),
        (FILE[:8] + b"\x09\0" + FILE[10:], "version 9"),
        (FILE[:16] + b"\xff" + FILE[17:], "another instruction table"),
        (FILE[:100] + bytes([FILE[100] ^ 1]) + FILE[101:], "checksum"),
    ],
)
def test_damaged_files_are_refused(content, fact):
    with pytest.raises(ProgramError, match=fact) as caught:
        decode(content)
    assert caught.value.code == "E0403"


HEADER_BYTES = 24


def resealed(content):
    """The content with a checksum that fits it, so that what is behind the checksum gets tested."""
    body = content[HEADER_BYTES:]
    return content[:12] + struct.pack("<I", zlib.crc32(body)) + content[16:HEADER_BYTES] + body


@given(
    st.lists(st.tuples(st.integers(HEADER_BYTES, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 40) | st.just(0),
)
@settings(max_examples=700)
def test_a_file_with_changed_bytes_is_a_program_or_an_error(changes, cut):
    content = bytearray(FILE)
    for place, byte in changes:
        content[place] = byte
    assert refusal(decode, resealed(bytes(content[: len(content) - cut]))) in (None, "E0402", "E0403")


def with_code_word(word):
    """The file with another first word of its code."""
    length = struct.unpack_from("<I", FILE, HEADER_BYTES + 4)[0]
    code = HEADER_BYTES + 8 + length + -length % 8 + 8
    return resealed(FILE[:code] + struct.pack("<Q", word) + FILE[code + 8 :])


@pytest.mark.parametrize(
    ("word", "fact"),
    [
        (1023, "no instruction 1023"),
        (0, "type number 0"),
        (list(TABLE).index("exit") | 1 << 60, "more than 0 operands"),
    ],
)
def test_instructions_that_do_not_exist_are_refused(word, fact):
    with pytest.raises(ProgramError, match=fact) as caught:
        decode(with_code_word(word))
    assert caught.value.code == "E0402"
