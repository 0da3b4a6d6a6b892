"""What the scalar unit computes for behind a wait is done before it, and nothing else changes its place."""

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.early_scalars import compute_early
from mlutriton.codegen.tile_code import Branch, Loop, TileCode
from mlutriton.dtypes import F32, I64
from mlutriton.isa.operands import Address, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE

CORES = mlu.machine("mlu590-m9").cores
SYNC = Instruction(TABLE["sync"], (), (Immediate(7),))


def add(register, source):
    operand = Register(source) if isinstance(source, int) else source
    return Instruction(TABLE["add"], (I64,), (Register(register), operand, Immediate(1)))


def exp(count):
    return Instruction(TABLE["v.exp"], (F32,), (Address("x"), Address("x"), Immediate(1), Register(count)))


def loop(*body):
    return Loop(I64, Register(90), Immediate(0), Immediate(9), Immediate(1), [], [*body])


def early(*nodes):
    code = TileCode("test", [*nodes], {}, 100, [], frozenset())
    compute_early(code)
    return code.nodes


def test_arithmetic_goes_before_the_wait():
    first, second, work = add(1, 0), add(2, 1), exp(2)
    assert early(SYNC, work, first, second) == [first, second, SYNC, work]


def test_no_further_than_to_the_last_wait():
    one, two = add(1, 0), add(2, 0)
    assert early(SYNC, one, SYNC, two) == [one, SYNC, two, SYNC]


def test_what_is_set_behind_the_wait_is_waited_for():
    loaded = Instruction(TABLE["lds"], (I64,), (Register(0), Address("x")))
    later = add(1, 0)
    assert early(SYNC, loaded, later) == [SYNC, loaded, later]


def test_a_register_that_is_set_twice_stays():
    set_twice = [Instruction(TABLE["mov"], (I64,), (Register(1), Immediate(number))) for number in range(2)]
    assert early(set_twice[0], SYNC, set_twice[1]) == [set_twice[0], SYNC, set_twice[1]]


def test_it_comes_out_of_what_is_mostly_done():
    address, work = add(1, 0), exp(1)
    branch = Branch(Register(5), [address, work])
    assert early(SYNC, branch) == [address, SYNC, branch]
    assert branch.then == [work]


def test_one_of_two_ways_keeps_what_it_alone_needs():
    address, work = add(1, 0), exp(1)
    branch = Branch(Register(5), [address, work], [exp(0)])
    assert early(SYNC, branch) == [SYNC, branch]
    assert branch.then == [address, work]


def test_the_begin_of_a_loop_that_waits_does_not_wait_for_its_arithmetic():
    first, work, turn = exp(0), add(1, 0), add(2, 1)
    inner = loop(SYNC, exp(2), turn)
    assert early(SYNC, first, work, inner) == [SYNC, first, work, inner]
    assert inner.body == [turn, SYNC, exp(2)]


@mlu.jit
def scale_rows(out, x, rows, columns, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        values = tl.load(x + row * columns + column, mask=column < columns, other=0.0)
        tl.store(out + row * columns + column, values / tl.sum(values, axis=0), mask=column < columns)


def test_turns_of_a_pipeline_hand_on_right_after_they_have_waited():
    x = np.ones((40 * CORES, 700), np.float32)
    out = np.empty_like(x)
    program = scale_rows[(CORES,)](out, x, len(x), 700, BLOCK=1024).program
    names = [each.row.name for each in program.instructions]
    turn = [place for place, name in enumerate(names) if name == "sync"][-2]
    store = names.index("dma.store", turn)
    load = names.index("dma.load_pad", store)
    # Conditions lead to the transfers, and programs are named.
    assert {*names[turn + 1 : load]} <= {"cbr", "br", "serve", "dma.store"}
    np.testing.assert_array_equal(out, np.float32(1) / np.float32(700))
