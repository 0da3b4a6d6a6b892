"""The work of the compiler grows no faster than n log n in the length of a kernel, and not with the size of its tiles.

Work is counted, not timed: in lines of Python that run, of which a loop runs one for each of its elements.
"""

import gc
import sys
from collections import Counter

import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton import pipeline, placement
from mlutriton.codegen import generate
from mlutriton.codegen.pipelining import software_pipeline
from mlutriton.codegen.pipelining.pipeline_plan import plan_loop
from mlutriton.codegen.pipelining.shared_pipeline import end_of_beginning
from mlutriton.codegen.tile_code import Branch
from mlutriton.dtypes import F32, I64
from mlutriton.ir.passes.merge_interleaved import run as merge
from mlutriton.isa.operands import Address, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE
from mlutriton.pipeline import CompileOptions, compile_ttir


@mlu.jit
def arithmetic(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = a
    for _ in tl.static_range(STEPS):
        a, b = tl.exp(b) - a, b * a + 1.5
    tl.store(out + i, a + b)


@mlu.jit
def arithmetic_in_a_loop(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    for j in range(n):
        i = j * BLOCK + tl.arange(0, BLOCK)
        a = tl.load(x + i)
        b = a
        for _ in tl.static_range(STEPS):
            a, b = tl.exp(b) - a, b * a + 1.5
        tl.store(out + i, a + b)


@mlu.jit
def rows(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * n + i, mask=i < n, other=0.0)
    for _ in tl.static_range(STEPS):
        row = tl.exp(row - tl.max(row, 0))
    tl.store(out + tl.program_id(0) * n + i, row, mask=i < n)


@mlu.jit
def transfers(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    for k in tl.static_range(STEPS):
        i = k * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + i, tl.load(x + i) * 2.0 + k)


@mlu.jit
def moving_pointers(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    pointers = x + i
    for k in tl.static_range(STEPS):
        tl.store(out + k * BLOCK + i, tl.load(pointers) * 2.0)
        pointers += n


@mlu.jit
def loops(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    for k in tl.static_range(STEPS):
        for j in range(n):
            i = (k * n + j) * BLOCK + tl.arange(0, BLOCK)
            tl.store(out + i, tl.load(x + i) * 2.0 + k)


@mlu.jit
def scalars(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    total = 0.0
    for k in tl.static_range(STEPS):
        if total < n + k:
            total += tl.load(x + k * BLOCK)
        tl.store(out + k, total)


@mlu.jit
def products(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, 32)[:, None] * 32 + tl.arange(0, 32)[None, :]
    total = tl.zeros((32, 32), tl.float32)
    for k in tl.static_range(STEPS):
        total = tl.dot(tl.load(x + i + k * 1024), tl.load(x + i + (k + n) * 1024), total)
    tl.store(out + i, total)


@mlu.jit
def loops_of_products(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    for k in tl.static_range(STEPS):
        total = tl.zeros((16, 16), tl.float32)
        for j in range(n):
            total = tl.dot(tl.load(x + i + j * 256), tl.load(x + i + (k + j) * 256), total)
        tl.store(out + i + k * 256, total)


@mlu.jit
def branches(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.load(x + i)
    for k in tl.static_range(STEPS):
        if n > k:
            row = row * 2.0 + tl.load(x + k * BLOCK + i)
    tl.store(out + i, row)


@mlu.jit
def words(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Arithmetic on numbers of which digits are taken, as hashes do, and of which none is a position."""
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i).to(tl.int32) + n
    for k in tl.static_range(STEPS):
        a = (a ^ (a >> 7)) + (a >> 3) * k
    tl.store(out + i, a.to(tl.float32))


@mlu.jit
def fractions(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Positions that none can tell from where an element is, of which each is made of the one before."""
    i = tl.arange(0, BLOCK)
    place = i
    for k in tl.static_range(STEPS):
        place = (place + k) // (k + 3) + n
    tl.store(out + i, tl.load(x + place))


@mlu.jit
def mixed_positions(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Positions of which each is made of the two before, by arithmetic that is only known when it runs."""
    i = tl.arange(0, BLOCK)
    a, b = i, i * n
    for _ in tl.static_range(STEPS):
        a, b = b * n, a + b
    tl.store(out + i, tl.load(x + a + b))


@mlu.jit
def gathers(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Gathers that are summed up, and whose offsets have a part in common."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(STEPS):
        total += tl.load(x + (i // n + k) * n + i % n)
    tl.store(out + i, total)


@mlu.jit
def adding(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(x + n + i, mask=i < n), mask=i < n)


KERNELS = [
    arithmetic,
    arithmetic_in_a_loop,
    rows,
    transfers,
    moving_pointers,
    loops,
    scalars,
    products,
    loops_of_products,
    branches,
    words,
]
# Small tables stay on the chip: the size of tiles makes a difference here.
POSITIONS = [fractions, mixed_positions, gathers]


def work(kernel, steps, block):
    """Lines of the project's Python that run to make a program of the kernel's TTIR, by the function that has them."""
    machine = mlu.current_machine()
    text = mlu.compile(kernel, f"*fp32:16, *fp32:16, i32, {steps}, {block}").asm["ttir"]
    source, lines = mlu.__path__[0], Counter()

    def called(frame, event, argument):
        return ran if frame.f_code.co_filename.startswith(source) else None

    def ran(frame, event, argument):
        lines[frame.f_code] += event == "line"
        return ran

    before = sys.gettrace()
    sys.settrace(called)
    try:
        compile_ttir(text, CompileOptions(machine))
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("kernel", [*KERNELS, *POSITIONS], ids=lambda kernel: kernel.__name__)
def test_work_grows_with_the_length_of_a_kernel(kernel):
    work(kernel, 2, 64)  # fills tables that are made once
    short, long = (work(kernel, steps, 64) for steps in (8, 40))
    # Of n log n it is about 6.7, of the square 25.
    assert long.total() / short.total() < 6.7
    # What is a square and still small would show in longer kernels. Not so in one of them: the buffers of a loop in
    # chunks are all alive at once, but never more than fit.
    if kernel is not arithmetic_in_a_loop:
        least = short.total() / 1000
        grown = {code: count / max(short[code], least) for code, count in long.items() if count > long.total() / 200}
        assert not {str(code): growth for code, growth in grown.items() if growth > 10}


def test_what_moves_in_a_loop_is_planned_once_before_its_buffers_are_shared(monkeypatch):
    work(adding, 1, 1024)  # compiles it once more
    plans = []
    monkeypatch.setattr(
        software_pipeline, "plan_loop", lambda *args, **kw: plans.append(plan_loop(*args, **kw)) or plans[-1]
    )
    work(adding, 1, 1024)
    assert len(plans) == 2
    assert all(len(each.loads) == 2 and len(each.stores) == 1 for each in plans)


def test_nothing_is_merged_where_there_is_one_access_of_each_kind(monkeypatch):
    work(arithmetic, 1, 64)
    tried = []
    monkeypatch.setattr(placement.merge_interleaved, "run", lambda function: tried.append(function) or merge(function))
    work(arithmetic, 1, 64)
    assert not tried
    work(adding, 1, 64)
    assert tried


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_work_is_the_same_for_tiles_of_any_size(kernel):
    work(kernel, 2, 64)
    small, large = (work(kernel, 4, block).total() for block in (64, 2048))
    assert 0.8 < large / small < 1.25


@mlu.jit
def products_in_loops(a, b, c, rows, columns, depth, LOOPS: tl.constexpr, BLOCK: tl.constexpr):
    m = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for each in tl.static_range(LOOPS):
        for step in range(tl.cdiv(depth, BLOCK)):
            k = step * BLOCK + tl.arange(0, BLOCK)
            inside = (m < rows) & (k[None, :] < depth)
            x = tl.load(a + each * rows * depth + m * depth + k[None, :], mask=inside, other=0.0)
            inside = (k[:, None] < depth) & (n < columns)
            y = tl.load(b + each * depth * columns + k[:, None] * columns + n, mask=inside, other=0.0)
            total = tl.dot(x, y, total)
    tl.store(c + m * columns + n, total, mask=(m < rows) & (n < columns))


def test_what_cannot_fit_is_not_tried(monkeypatch):
    # Loops of a cluster share SRAM, the more of it the deeper their steps; what one depth needs tells it of the others.
    done = Counter()
    for name in ("pipeline_loops", "flatten"):
        original = getattr(generate, name)

        def counted(*arguments, original=original, name=name, **keywords):
            done[name] += 1
            return original(*arguments, **keywords)

        monkeypatch.setattr(generate, name, counted)
    loops, size = 4, 512
    arrays = [mlu.spec((loops * size, size), "float16")] * 2 + [mlu.spec((size, size), "float32")]
    mlu.estimate(products_in_loops, (8, 8), *arrays, size, size, size, LOOPS=loops, BLOCK=64, num_warps=4)
    assert done["flatten"] > 2
    assert done["pipeline_loops"] < 2 * done["flatten"]


def test_code_that_was_tried_is_gone_at_once(monkeypatch):
    # Python looks for what only holds itself when a kernel is compiled; most of what it found was code.
    found = []

    def collected(*arguments, original=pipeline.compile_function):
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            program = original(*arguments)
            gc.collect()
            found.append(Counter(type(each) for each in gc.garbage))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
        return program

    monkeypatch.setattr(pipeline, "compile_function", collected)
    arrays = [mlu.spec((512, 512), "float16")] * 2 + [mlu.spec((512, 512), "float32")]
    mlu.estimate(products_in_loops, (8, 8), *arrays, 512, 512, 512, LOOPS=1, BLOCK=64, num_warps=4)
    assert found
    assert not found[0][Instruction]


class Counted(list):
    """A list that counts which of its elements are taken, also those that a part of it has."""

    taken = 0

    def __iter__(self):
        self.taken += len(self)
        return super().__iter__()

    def __getitem__(self, place):
        self.taken += len(range(len(self))[place]) if isinstance(place, slice) else 1
        return super().__getitem__(place)


def test_where_an_iteration_begins_is_found_in_one_go():
    scalar = Instruction(TABLE["add"], (I64,), (Register(1), Register(0), Immediate(1)))
    vector = Instruction(TABLE["v.exp"], (F32,), (Address("x"), Address("x"), Immediate(1), Immediate(64)))
    branch = Branch(Register(0), [scalar], [])
    nodes = Counted([scalar, branch, *[scalar] * 50, branch, *[scalar] * 50, *[vector, branch] * 100])
    assert end_of_beginning(nodes) == 53
    assert end_of_beginning([scalar, Branch(Register(0), [vector], []), branch]) == 2
    assert end_of_beginning([vector, branch]) == end_of_beginning([scalar]) == 0
    assert nodes.taken <= len(nodes)


@mlu.jit
def chain_of_pointers(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    pointers = x + i
    for _ in tl.static_range(STEPS):
        pointers += n
    tl.store(out + i, tl.load(pointers))


@mlu.jit
def chain_of_choices(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place = i
    for k in tl.static_range(STEPS):
        place = tl.where(place > k, place + n, place)
    tl.store(out + i, tl.load(x + place))


@mlu.jit
def chain_in_a_loop(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place, total = i, tl.zeros((BLOCK,), tl.float32)
    for j in range(n):
        total += tl.load(x + place)
        word = tl.load(out + j * BLOCK + i).to(tl.int32)
        for _ in tl.static_range(STEPS):
            word = word + word
        place = word
    tl.store(out + i, total)


@mlu.jit
def chain_of_conditions(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    inside = i < n
    for k in tl.static_range(STEPS):
        inside = inside & (i < n - k)
    tl.store(out + i, tl.load(x + i, mask=inside, other=0.0), mask=inside)


@mlu.jit
def chain_of_digits(x, out, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place = i
    for _ in tl.static_range(STEPS):
        place = (place + 3) & 63
    tl.store(out + i, tl.load(x + place))


CHAINS = [chain_of_pointers, chain_of_choices, chain_in_a_loop, chain_of_conditions, chain_of_digits]


@pytest.mark.parametrize("kernel", CHAINS, ids=lambda kernel: kernel.__name__)
def test_chains_may_be_longer_than_the_stack_of_python(kernel):
    # Sums of a number and itself have two ways to each addend, of which 1000 make more than anyone can go.
    mlu.compile(kernel, "*fp32:16, *fp32:16, i32, 1000, 64")
