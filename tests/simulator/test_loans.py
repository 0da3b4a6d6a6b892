"""Loads that lie where they came from until they are needed on the chip: nobody can tell."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from mlutriton.codegen.llvm.loans import LEAST_LENT_BYTES, READ_PAST_BYTES
from mlutriton.codegen.llvm.runtime.boxes import STREAMED_ARRAY_BYTES
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from tests.simulator.programs_by_hand import MACHINE, load

# A program has 1024 elements of its own, and 1024 behind those of all programs that are read past their end at most.
N = 1024
assert 4 * N // 4 < LEAST_LENT_BYTES <= 4 * N // 2
HEADER = f"""
.program lending
.isa {MACHINE.isa}
.cores 1
.param out ptr f32
.param x ptr f32
.buffer a nram 0 8192
.buffer b nram 8192 4096
.buffer tail nram 4096 4096
.buffer pieces nram 16384 131072
.buffer shared sram 0 8192
    param r0, 0
    param r1, 1
    mov.i64 r2, 0
    sreg r3, 0
    mul.i64 r4, r3, {4 * N}
    add.i64 r0, r0, r4
    add.i64 r1, r1, r4
    mov.i64 r5, 2048
"""
LOAD = f"dma.load.f32 [a], g[r1], {N}, 1, 1, 0, 0, 0, 0\nsync 1\n"
STORE = f"sync 4\ndma.store.f32 g[r0], [b], {N}, 1, 1, 0, 0, 0, 0\nsync 1\n"
ONES = f"v.mov.f32 [b], 1.0, 1, {N}\n"
DOUBLE = f"v.fadd.f32 [b], [a], [a], 1, {N}\n"

PROGRAMS = {
    "read by a loop": LOAD + DOUBLE + STORE,
    "stored as it is": LOAD + f"dma.store.f32 g[r0], [a], {N}, 1, 1, 0, 0, 0, 0\n",
    "reduced by rows": LOAD + "red.fadd.f32 [b], [a], 32, 32, 1\nv.fsub.f32 [a], [a], row[b], 32, 32\n"
    f"v.fmul.f32 [b], [a], 2.0, 1, {N}\n" + STORE,
    "reduced by columns": LOAD + "red.fadd.f32 [pieces], [a], 1, 32, 32\n"
    "v.fadd.f32 [b], [a], col[pieces], 32, 32\n" + STORE,
    "reduced by short rows": LOAD + ONES + f"red.fadd.f32 [b], [a], {N // 4}, 4, 1\n"
    f"red.fmax.f32 [pieces], [a], {N // 8}, 8, 1\nv.fadd.f32 [b], [b], [pieces], 1, {N // 8}\n" + STORE,
    "its greatest are found": LOAD + ONES + "red.argmax.f32 [b], [pieces], [a], 32, 32, 1\n"
    "red.argmin.f32 [b + 128], [pieces + 128], [a], 1, 32, 32\n"
    "v.sitofp.i32.f32 [b + 256], [pieces], 1, 64\n" + STORE,
    "it is summed up": LOAD + "scan.fadd.f32 [b], [a], 2, 16, 32, 1\n" + STORE + DOUBLE,
    "what it came from is stored to": LOAD
    + f"v.fadd.f32 [b], [a], 1.0, 1, {N}\nsync 4\ndma.store.f32 g[r1 + 256], [b], {N - 64}, 1, 1, 0, 0, 0, 0\nsync 1\n"
    + DOUBLE
    + STORE,
    "one element of what it came from is stored to": LOAD + "stg.f32 g[r1 + 64], 7.0\n" + DOUBLE + STORE,
    "one element of what it came from is added to": LOAD + "atom.fadd.f32 r6, g[r1 + 64], 7.0\n" + DOUBLE + STORE,
    "one element is read and written": LOAD + "lds.f32 r6, [a + 40]\nsts.f32 [a + 44], r6\n" + DOUBLE + STORE,
    "no element is read before anything is lent": f"v.mov.f32 [b], 1.0, 1, {N}\nv.fmul.f32 [b], [a], 2.0, 1, r2\n"
    + STORE
    + LOAD
    + DOUBLE
    + STORE,
    "its first half is written over": LOAD + f"v.fmul.f32 [a], [a], 3.0, 1, {N // 2}\n" + DOUBLE + STORE,
    "its second half is written over": LOAD + f"v.fmul.f32 [a + r5], [a + r5], 3.0, 1, {N // 2}\n" + DOUBLE + STORE,
    "its middle is written over": LOAD + "v.fmul.f32 [a + 400], [a + 400], 3.0, 1, 300\n" + DOUBLE + STORE,
    "its middle is loaded anew": LOAD
    + f"dma.load.f32 [a + 512], g[r1 + 64], {N // 2}, 1, 1, 0, 0, 0, 0\nsync 1\n"
    + DOUBLE
    + STORE,
    "another one follows in a window of its own": LOAD
    + f"dma.load.f32 [tail], g[r1 + 64], {N // 2}, 1, 1, 0, 0, 0, 0\nsync 1\n"
    + f"v.fadd.f32 [b], [a], [a + r5], 1, {N // 2}\nv.fadd.f32 [b + 2048], [a + 4096], [tail], 1, {N // 2}\n"
    + STORE,
    "only a part is valid": "dma.load_pad.f32 [a], g[r1], 48, 32, 1, 2, 0, 0, 40, 30, 1, 40, 0, 5.0\nsync 1\n"
    + DOUBLE
    + STORE,
    "only the first part is valid": f"dma.load_pad.f32 [a], g[r1], {N}, 1, 1, 0, 0, 0, 700, 1, 1, 0, 0, 5.0\nsync 1\n"
    + DOUBLE
    + STORE,
    "rows that stand apart": "dma.load.f32 [a], g[r1], 32, 16, 2, 32, 512, 32, 512\nsync 1\n" + DOUBLE + STORE,
    "more of them than anyone keeps account of": "".join(
        f"dma.load.f32 [pieces + {4096 * i}], g[r1 + {4 * i}], {N}, 1, 1, 0, 0, 0, 0\nsync 1\n" for i in range(20)
    )
    + "".join(
        f"v.fadd.f32 [b], [pieces + {4096 * i}], [pieces + {4096 * (i - 1)}], 1, {N}\n"
        f"v.fadd.f32 [pieces + {4096 * i}], [b], 1.0, 1, {N}\n"
        for i in range(1, 20)
    )
    + STORE,
    # The SRAM's first bytes have the same numbers as those of NRAM.
    "other bytes come through the SRAM": LOAD
    + f"dma.load.f32 [shared], g[r1 + 64], {N}, 1, 1, 0, 0, 0, 0\nsync 1\nmove.f32 [tail], [shared], {N}, 1, 0, 0\n"
    + f"sync 2\nv.fadd.f32 [b], [a], [tail], 1, {N}\n"
    + STORE,
    "a move takes it on": LOAD + f"move.f32 [b], [a], {N}, 1, 0, 0\nsync 2\n" + STORE + DOUBLE,
}


def arrays(grid):
    x = np.random.default_rng(0).integers(-8, 8, (grid + 2) * N).astype(np.float32)
    return np.zeros_like(x), x


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_lent_is_what_was_loaded(name, runtime):
    program = assemble(HEADER + PROGRAMS[name] + "exit")
    check(program, MACHINE)
    expected, got = arrays(1), arrays(1)
    memories = [
        GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)]) for out, x in (expected, got)
    ]
    parameters = [[array.ctypes.data for array in pair] for pair in (expected, got)]
    interpreted = interpreter.run(program, (1, 1, 1), parameters[0], memories[0], MACHINE)
    execution = execute(load(program, runtime), (1, 1, 1), parameters[1], memories[1], MACHINE, 1)
    for before, after in zip(expected, got, strict=True):
        assert after.tolist() == before.tolist()
    assert execution.trace.words.tolist() == interpreted.trace_words.tolist()
    assert expected[0].any()


LAST = N - 4
READS_UP_TO_THE_LAST = [
    DOUBLE,
    f"scan.fadd.f32 [b], [a], 1, 3, {LAST // 3}, 0\n",
    f"red.fadd.f32 [b], [a], 1, 3, {LAST // 3}\n",
    f"red.fadd.f32 [b], [a + {4 * (LAST - 4 * 241)}], 241, 4, 1\n",
    f"red.fadd.f32 [b], [a + {4 * (LAST - 8 * 113)}], 113, 8, 1\n",
    f"red.argmax.f32 [b], [pieces], [a], 4, {LAST // 4}, 1\n",
    f"red.argmax.f32 [b], [pieces], [a], 1, 3, {LAST // 3}\n",
]


@pytest.mark.parametrize("elements_behind", [0, READ_PAST_BYTES // 4])
@pytest.mark.parametrize("read", READS_UP_TO_THE_LAST)
def test_nothing_is_read_past_the_end_of_an_array(read, elements_behind, runtime):
    """The array ends where a page does of which the host may touch nothing."""
    page = mmap.PAGESIZE
    pages = mmap.mmap(-1, 3 * page)
    whole = np.frombuffer(pages, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    guard = ctypes.c_void_p(whole.ctypes.data + 2 * page)
    assert libc.mprotect(guard, ctypes.c_size_t(page), 0) == 0
    x = whole[2 * page - 4 * (LAST + elements_behind) : 2 * page].view(np.float32)
    x[:] = np.arange(len(x))
    out = np.zeros(LAST, np.float32)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    program = assemble(HEADER + (LOAD + ONES + read + STORE).replace(str(N), str(LAST)) + "exit")
    execute(load(program, runtime), (1, 1, 1), [out.ctypes.data, x.ctypes.data], memory, MACHINE, 1)
    assert out.any()
    assert read != DOUBLE or out.tolist() == (2 * x[:LAST]).tolist()
    libc.mprotect(guard, ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


def test_large_arrays_are_stored_past_the_caches(runtime):
    """Lines that a store shares with its neighbours keep what those have stored."""
    grid = STREAMED_ARRAY_BYTES // (4 * N) + 3
    text = HEADER.replace(f"r3, {4 * N}\n", f"r3, {4 * (N - 5)}\n") + (LOAD + DOUBLE + STORE).replace(
        str(N), str(N - 5)
    )
    out, x = arrays(grid)
    memory = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    native = load(assemble(text + "exit"), runtime)
    for shift in (0, 1):  # of lines, for the host's arrays begin at them
        out[:] = 0
        execute(native, (grid, 1, 1), [out.ctypes.data + 4 * shift, x.ctypes.data], memory, MACHINE, 2)
        stored = grid * (N - 5)
        assert (out[shift : shift + stored] == 2 * x[:stored]).all()
        assert not out[shift + stored :].any()
