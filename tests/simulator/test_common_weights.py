"""Weights that the cores of a cluster have in common on the host: products find what copies of their own would hold."""

import ctypes
import random

import numpy as np
import pytest

from mlutriton.codegen.llvm import common_weights
from mlutriton.codegen.llvm.loans import LOANS_BYTES
from mlutriton.codegen.llvm.translate import translate
from mlutriton.isa.assembly import assemble
from mlutriton.isa.legality import check
from mlutriton.isa.machine import machine
from mlutriton.isa.native_interface import common_weights_bytes
from mlutriton.launch import runtime
from mlutriton.simulator import interpreter
from mlutriton.simulator.execution import NativeProgram, execute
from mlutriton.simulator.memory import Allocation, GlobalMemory
from mlutriton.simulator.native import compile_llvm

MACHINE = machine("mlu590-m9")
CORES, ROWS, DEPTH, COLUMNS = 4, 5, 8, 64
WEIGHTS = DEPTH * COLUMNS
BEGIN = f"""
.program weights
.isa 592
.cores {CORES}
.param out ptr f32
.param x ptr f32
.buffer a nram 0 {4 * ROWS * DEPTH}
.buffer c nram 4096 {4 * ROWS * COLUMNS}
.buffer w wram 0 {4 * 4 * WEIGHTS}
.buffer s sram 0 {4 * 4 * WEIGHTS}
    param r0, 0
    param r1, 1
    sreg r3, 0
    sreg r4, 6
    mul.i64 r5, r4, {4 * WEIGHTS}
    dma.load.f32 [a], g[r1], {ROWS * DEPTH}, 1, 1, 0, 0, 0, 0
    v.mov.f32 [c], 0.0, 1, {ROWS * COLUMNS}
    sync 7
"""
END = f"""
    mul.i64 r6, r3, {CORES}
    add.i64 r6, r6, r4
    mul.i64 r6, r6, {4 * ROWS * COLUMNS}
    add.i64 r0, r0, r6
    dma.store.f32 g[r0], [c], {ROWS * COLUMNS}, 1, 1, 0, 0, 0, 0
    exit
"""


def load(rng, place):
    """All cores load the same to a place of SRAM, or each something of its own."""
    address = rng.choice(["r1", "r7"])
    offset = 4 * rng.randrange(4 * WEIGHTS)
    own = "add.i64 r7, r1, r5" if address == "r7" else f"add.i64 r7, r1, {offset}"
    return f"{own}\n dma.load.f32 [s + {place}], g[r7], {WEIGHTS}, 1, 1, 0, 0, 0, 0"


def move(rng, place):
    """From one of three places of SRAM that overlap, by rows or by columns, all of the columns or half of them."""
    source = 2 * WEIGHTS * rng.randrange(6)
    steps = rng.choice([f"{COLUMNS}, 1", f"1, {DEPTH}"])
    return f"move.weight.f32 [w + {place}], [s + {source}], {DEPTH}, {rng.choice([COLUMNS, COLUMNS, 32])}, {steps}"


def drawn(seed):
    rng = random.Random(seed)
    places = [2 * WEIGHTS * number for number in range(7)]
    lines = [load(rng, 4 * WEIGHTS * number) for number in range(4)]
    lines += ["sync 7", "barrier.cluster", *(move(rng, 4 * WEIGHTS * number) for number in range(4))]
    for _ in range(30):
        kind = rng.choice(["load", "move", "move", "mm", "mm", "barrier", "weight", "own", "sums"])
        place = rng.choice(places)
        line = {
            "load": lambda place=place: load(rng, place),
            "move": lambda place=place: move(rng, place),
            "mm": lambda place=place: f"mm.f32.f32 [c], [a], [w + {place}], {ROWS}, {COLUMNS}, {DEPTH}, {DEPTH}, 1",
            "barrier": lambda: "barrier.cluster",
            "weight": lambda place=place: (
                f"dma.weight.f32 [w + {place}], g[r1], {DEPTH}, 32, {DEPTH}, 30, 0, 32, 1, 0.0"
            ),
            # What a core has computed is its own.
            "sums": lambda place=place: f"move.weight.f32 [w + {place}], [c], {ROWS}, {COLUMNS}, {COLUMNS}, 1",
            "own": lambda place=place: f"move.f32 [s + {place}], [c], {ROWS * COLUMNS}, 1, 0, 0",
        }[kind]()
        lines += ["sync 7", line]
    return "\n    ".join([BEGIN, *lines, "sync 7", END])


@pytest.mark.parametrize("seed", range(25))
def test_products_are_those_of_the_interpreter(seed):
    program = assemble(drawn(seed))
    check(program, MACHINE)
    grid, generator = 3, np.random.default_rng(seed)
    x = generator.standard_normal(12 * WEIGHTS).astype(np.float32)
    out = np.zeros(grid * CORES * ROWS * COLUMNS, np.float32)
    arrays = GlobalMemory([Allocation.of_array("out", out), Allocation.of_array("x", x)])
    parameters = [out.ctypes.data, x.ctypes.data]
    interpreter.run(program, (grid, 1, 1), parameters, arrays, MACHINE)
    wanted = out.copy()
    out[:] = 0
    native = NativeProgram(compile_llvm(translate(program, MACHINE), cache_key=None), runtime, program)
    execute(native, (grid, 1, 1), parameters, arrays, MACHINE, 2)
    assert out.tobytes() == wanted.tobytes()
    assert wanted.any()


class Pool:
    """The runtime's functions on memory of the test."""

    SLOT_BYTES = 1024
    MEMBERS = 3

    def __init__(self):
        head = common_weights._TABLES + self.MEMBERS * LOANS_BYTES
        bytes_ = np.zeros(head + common_weights._SLOTS * self.SLOT_BYTES + 64, np.uint8)
        self.bytes = bytes_[-bytes_.ctypes.data % 64 :]
        self.wrams = [np.zeros(4096, np.uint8) for _ in range(self.MEMBERS)]
        self.first_slot = self.bytes.ctypes.data + head
        basic = runtime(None)
        address, number = ctypes.c_void_p, ctypes.c_int64
        self._place = basic.function("common_weights", [address, address, *[number] * 12], address)
        self._forget = basic.function("forget_weights", [address, number, number])

    def place(self, member, low, source, size=1024, how=0):
        """The slot where weights are to be written; None if they are there, -1 if it is in the core's own WRAM."""
        wram = self.wrams[member].ctypes.data
        sizes = (self.MEMBERS, self.SLOT_BYTES, low, low + size, source, source + size)
        found = self._place(self.bytes.ctypes.data, wram, member, *sizes, how, 0, 0, 0, 0)
        if found is None:
            return None
        return -1 if found == wram + low else (found - self.first_slot) // self.SLOT_BYTES

    def forget(self, low, high):
        self._forget(self.bytes.ctypes.data, low, high)


def test_what_one_core_has_moved_no_other_writes():
    pool = Pool()
    assert pool.place(0, 0, source=64) == 0
    assert [pool.place(member, 1024, source=64) for member in (1, 2)] == [None, None]
    assert pool.place(1, 0, source=64, how=1) == 1, "read in another way"
    assert pool.place(2, 0, source=128) == 2, "from another place"


def test_what_is_written_over_is_moved_again():
    pool = Pool()
    assert pool.place(0, 0, source=64) == 0
    pool.forget(0, 64)
    pool.forget(64 + 1024, 4096)
    assert pool.place(1, 0, source=64) is None
    pool.forget(1000, 1001)
    assert pool.place(0, 0, source=64) == 1, "the other core still has what was there"
    assert pool.place(1, 0, source=64) is None
    pool.forget(0, 4096)
    assert pool.place(0, 0, source=64) == 0, "nobody has it any more"


def test_without_a_free_slot_a_core_has_a_copy():
    pool = Pool()
    places = [pool.place(member, low, source=low + 4096 * member) for member in range(3) for low in (0, 1024, 2048)]
    assert places == [*range(common_weights._SLOTS), -1]
    assert pool.place(0, 3072, source=9, size=2048) == -1, "it is too large for a slot"


@pytest.mark.parametrize(("wram_kb", "cores"), [(1, 32), (2, 3), (16, 16)])
def test_what_is_noted_has_room_beside_little_wram(wram_kb, cores):
    small = MACHINE.replace(wram_bytes=wram_kb * 1024, cores_per_cluster=cores)
    program = assemble(
        BEGIN.replace(f".cores {CORES}", f".cores {cores}") + "move.weight.f32 [w], [s], 1, 64, 64, 1\n" + END
    )
    slot_bytes = common_weights._slot_bytes(program, small)
    noted_bytes = common_weights._noted_bytes(program)
    assert slot_bytes > 0
    assert noted_bytes + common_weights._SLOTS * slot_bytes <= common_weights_bytes(small)
