"""Programs that no compiler made: damaged files, mutated texts, absurd counts. Each is refused, or stays in bounds."""

import contextlib
import random
import zlib

import numpy as np
import pytest

import mlutriton as mlu
from mlutriton.isa import encoding
from mlutriton.isa.assembly import assemble
from mlutriton.isa.encoding import decode, encode
from mlutriton.isa.legality import check
from mlutriton.isa.table import SPECIAL_REGISTERS
from mlutriton.simulator import execution

PROGRAM = """
.program scale
.isa 592
.param out ptr f32
.param x ptr f32
.param n i32
.buffer tile nram 0 4096 "scale.py":3
.buffer other nram 4096 4096
.string 0 "n is positive"

    param r0, 0
    param r1, 1
    param r2, 2
    sgt.i32 r3, r2, 0
    assert r3, 0
    smin.i64 r6, r2, 1024
again:
    dma.load_pad.f32 [tile], g[r1], 1024, 1, 1, 0, 0, 0, r6, 1, 1, 0, 0, 0.5
    sync 1
    v.fmul.f32 ~, [tile], 2.0, 1, 1024
    v.fadd.f32 [other], ~, col [tile], 1, 1024
    sync 4
    dma.store.f32 g[r0], [other], r6, 1, 1, r6, r6, 0, 0
    sync 1
    sub.i64 r2, r2, 1024
    sgt.i64 r3, r2, 0
    cbr r3, again
    exit
"""


def with_checksum(content):
    """The content as if its writer had damaged it, so that what is behind the checksum sees the damage."""
    if len(content) < encoding._HEADER.size:
        return content
    magic, version, count, _, table = encoding._HEADER.unpack_from(content)
    body = content[encoding._HEADER.size :]
    return encoding._HEADER.pack(magic, version, count, zlib.crc32(body), table) + body


def mutation(content, chance):
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(content) or 1)
        match chance.randrange(5):
            case 0 | 1:
                content[place : place + 1] = bytes([content[place] ^ 1 << chance.randrange(8)]) if content else b""
            case 2:
                del content[place : place + chance.randrange(1, 9)]
            case 3:
                content[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                del content[place:]
    return bytes(content)


def test_a_damaged_program_file_is_refused():
    whole, machine, chance = encode(assemble(PROGRAM)), mlu.machine("mlu590-m9"), random.Random(0)
    refused = 0
    for number in range(2000):
        content = mutation(whole, chance)
        try:
            check(decode(with_checksum(content) if number % 4 else content), machine)
        except mlu.ProgramError:
            refused += 1
    assert refused > 1500


@pytest.mark.parametrize("seed", range(3))
def test_a_mutated_text_is_refused_or_stays_in_its_arrays(seed, monkeypatch):
    monkeypatch.setattr(execution, "recorded_bytes_limit", lambda: 1 << 22)  # a loop may have become endless
    chance, machine = random.Random(seed), mlu.machine("mlu590-m9")
    numbers = ("0", "1", "3", "1023", "1025", "4096", "-1", "r2", "r6", "r1")
    lines = PROGRAM.splitlines()
    ran = 0
    for _ in range(200):
        changed = list(lines)
        place = chance.randrange(8, len(lines))
        words = changed[place].split(", ")
        words[chance.randrange(len(words))] = chance.choice(numbers)
        changed[place] = ", ".join(words)
        try:
            program = assemble("\n".join(changed))
            check(program, machine)
        except mlu.ProgramError:
            continue
        memory = np.full(3 * 4096, 77, np.float32)
        with contextlib.suppress(mlu.KernelFault):
            mlu.load(encode(program))[(1,)](memory[4096:8192], memory[4096:8192], 1500)
        ran += 1
        assert (memory[:4096] == 77).all()
        assert (memory[8192:] == 77).all()
        if ran == 8:
            return


SPANS = """
.program spans
.isa 592
.param x ptr f32
.param a i64
.param b i64
.buffer tile nram 0 4096
.buffer other nram 4096 4096
.buffer weights wram 0 65536

    param r0, 0
    param r1, 1
    param r2, 2
    {}
    exit
"""
INSTRUCTIONS = (
    "v.fadd.f32 [tile], row [other], col [other], r1, r2",
    "v.mov.f32 [tile + r1], 0.0, 1, r2",
    "v.iota.i32 [tile], 0, 1, r1",
    "v.repeat.f32 [tile], [other], r1, r2, 1",
    "red.fadd.f32 [tile], [other], r1, r2, r1",
    "dma.load.f32 [tile], g[r0], r1, r2, 1, r1, r1, 0, 0",
    "dma.load.f32 [tile], g[r0], 1, r1, 1, r2, r2, 0, 0",
    "dma.load_pad.f32 [tile], g[r0], r1, r2, 4, 0, 0, 0, 1, 1, 1, 0, 0, 0.0",
    "dma.load_pad.f32 [tile], g[r0], 4, 4, 4, 0, 0, 0, 4, 4, 4, r1, r2, 0.0",
    "dma.store.f32 g[r0], [tile], r1, r2, 1, r1, r1, 0, 0",
    "dma.store.f32 g[r0], [tile], 1, 4, 4, 1, 1, r1, r2",
    "dma.weight.f32 [weights], g[r0], r1, r2, 1, 1, 0, 1, 1, 0.0",
    "dma.weight.f32 [weights], g[r0], 8, 8, 8, 8, r1, 1, r2, 0.0",
    "move.f32 [tile], [other], r1, r2, r1, r1",
    "move.weight.f32 [weights], [tile], r1, r2, r1, r2",
)


# Spans that exceed 64 bits, or wrap around into the buffer, in elements or in bytes.
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_spans_do_not_wrap_around(instruction):
    kernel = mlu.load(encode(assemble(SPANS.format(instruction))))
    for a, b in ((2**32, 2**32), (2**62, 4), (2**31, 2**31), (2**62, 2**62), (2**61 + 1, 8), (2**63 - 1, 2)):
        memory = np.full(3 * 4096, 77, np.float32)
        with pytest.raises(mlu.KernelFault) as caught:
            kernel[(1,)](memory[4096:8192], a, b)
        assert caught.value.code in {"E0301", "E0304"}
        assert (memory == 77).all()


def test_a_static_span_is_checked_beside_counts_in_registers():
    text = SPANS.format("dma.load_pad.f32 [tile], g[r0], 1, 2147483647, 3, 0, 0, 0, r1, 1, 1, 0, 0, 0.0")
    with pytest.raises(mlu.ProgramError, match="dst is bytes 0 to 25769803764 of tile, which has 4096"):
        mlu.load(encode(assemble(text)))[(1,)](np.zeros(4, np.float32), 1, 1)


def test_a_file_of_zeros_is_no_text(tmp_path):
    path = tmp_path / "zeros"
    path.write_bytes(bytes(100))
    with pytest.raises(mlu.ProgramError, match="E0403"):
        mlu.load(path)


def test_faults_of_a_text_stand_at_its_own_line(tmp_path):
    path = tmp_path / "far.s"
    path.write_text(
        ".program far\n.isa 592\n.param x ptr f32\n\n    param r0, 0\n    stg.f32 g[r0 + 16], 1.0\n    exit\n"
    )
    with pytest.raises(mlu.KernelFault, match="E0301") as caught:
        mlu.load(path)[(1,)](np.zeros(4, np.float32))
    assert str(caught.value.location) == f"{path}:6:5"


def test_assertions_stop_the_program():
    out = np.full(1024, 77, np.float32)
    with pytest.raises(mlu.KernelFault, match="n is positive"):
        mlu.load(encode(assemble(PROGRAM)))[(3,)](out, out, -1)
    assert (out == 77).all()


LOCAL = """
.program local
.isa 592
.local 256
.param out ptr f32
.buffer tile nram 0 512

    param r0, 0
    sreg r1, {register}
    v.mov.f32 [tile], 3.0, 1, 65
    sync 4
    dma.store.f32 g[r1], [tile], {count}, 1, 1, 0, 0, 0, 0
    dma.load.f32 [tile], g[r1], 64, 1, 1, 0, 0, 0, 0
    dma.store.f32 g[r0], [tile], 64, 1, 1, 0, 0, 0, 0
    exit
"""


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_local_memory_is_private_and_bounded(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    out = np.zeros(64, np.float32)
    register = SPECIAL_REGISTERS.index("local_memory")
    run = mlu.load(encode(assemble(LOCAL.format(register=register, count=64))))[(3,)](out)
    assert (out == 3).all()
    # Only the array counts as work.
    assert (run.work_bound.loaded_bytes, run.work_bound.stored_bytes) == (0, 256)
    with pytest.raises(mlu.KernelFault, match=r"the nearest array is local memory(.|\n)*ends 4 bytes after it"):
        mlu.load(encode(assemble(LOCAL.format(register=register, count=65))))[(3,)](out)


def test_traces_keep_to_what_a_container_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_CONTAINER_LIMITS", [])
    of_host = execution.recorded_bytes_limit.__wrapped__()
    paths = [tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"]
    monkeypatch.setattr(execution, "_CONTAINER_LIMITS", paths)
    assert execution.recorded_bytes_limit.__wrapped__() == of_host  # neither is there
    paths[0].write_text("max\n")
    paths[1].write_text(f"{2**63 - 4096}\n")
    assert execution.recorded_bytes_limit.__wrapped__() == of_host
    paths[0].write_text(f"{1 << 30}\n")
    assert execution.recorded_bytes_limit.__wrapped__() == 1 << 28
