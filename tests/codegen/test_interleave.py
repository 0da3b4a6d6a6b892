"""Instructions that would wait let others go first, and nothing else changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.interleave import interleave, interleaved
from mlutriton.codegen.tile_code import TileCode
from mlutriton.dtypes import F32, I64
from mlutriton.isa.operands import FORWARD, Address, Immediate, Register
from mlutriton.isa.program import Instruction
from mlutriton.isa.table import TABLE

SHAPE = (Immediate(1), Immediate(64))


def exp(target, source):
    return Instruction(TABLE["v.exp"], (F32,), (Address(target), Address(source), *SHAPE))


def scaled(target, source, register):
    return Instruction(TABLE["v.fmul"], (F32,), (Address(target), Address(source), register, *SHAPE))


def counted(register, number):
    return Instruction(TABLE["add"], (I64,), (register, Immediate(number), Immediate(1)))


def names(nodes):
    return [str(node.operands[0]) for node in nodes]


def test_what_would_wait_lets_another_go_first():
    nodes = [exp("b", "a"), exp("c", "b"), exp("y", "x"), exp("z", "y")]
    assert names(interleaved(nodes)) == names([nodes[place] for place in (0, 2, 1, 3)])


def test_nothing_moves_where_nothing_waits():
    nodes = [exp("b", "a"), exp("y", "x"), exp("c", "b"), exp("z", "y")]
    assert interleaved(nodes) == nodes


def test_what_depends_on_a_passed_one_stays_behind_it():
    nodes = [exp("b", "a"), exp("c", "b"), exp("b", "x"), exp("d", "c")]
    assert interleaved(nodes) == nodes


def test_the_scalars_that_it_needs_go_along():
    nodes = [exp("b", "a"), exp("c", "b"), counted(Register(0), 4), scaled("y", "x", Register(0))]
    assert interleaved(nodes) == [nodes[0], nodes[2], nodes[3], nodes[1]]


def test_a_scalar_that_is_set_again_waits_for_its_readers():
    nodes = [exp("b", "a"), scaled("c", "b", Register(0)), counted(Register(0), 4), scaled("y", "x", Register(0))]
    assert interleaved(nodes) == nodes


def test_the_steps_of_a_chain_stay_together():
    first = Instruction(TABLE["v.exp"], (F32,), (FORWARD, Address("x"), *SHAPE))
    second = Instruction(TABLE["v.fmul"], (F32,), (Address("y"), FORWARD, Immediate(2.0), *SHAPE))
    nodes = [exp("b", "a"), exp("c", "b"), first, second]
    assert interleaved(nodes) == [nodes[0], first, second, nodes[1]]


def test_it_can_be_undone():
    nodes = [exp("b", "a"), exp("c", "b"), exp("y", "x")]
    code = TileCode("kernel", [*nodes], {}, 0, [], frozenset())
    reordering = interleave(code)
    assert code.nodes != nodes
    reordering.undo()
    assert code.nodes == nodes


BUFFERS = st.sampled_from("abcdef")
CODE = st.lists(
    st.one_of(
        st.builds(exp, BUFFERS, BUFFERS),
        st.builds(scaled, BUFFERS, BUFFERS, st.builds(Register, st.integers(0, 2))),
        st.builds(counted, st.builds(Register, st.integers(0, 2)), st.integers(0, 9)),
    ),
    max_size=20,
)


def outcome(nodes):
    """What is in all buffers and registers, as expressions of what was there before."""
    held = {}
    for node in nodes:
        target, *sources = map(str, node.operands)
        held[target] = (node.row.name, *(held.get(source, source) for source in sources))
    return held


@given(CODE)
def test_the_same_comes_out(nodes):
    assert outcome(interleaved(nodes)) == outcome(nodes)


@mlu.jit
def two_sums(out, x, y, count, BLOCK: tl.constexpr):
    item = tl.arange(0, BLOCK)
    a, b = tl.load(x + item), tl.load(y + item)
    for _ in range(count):
        a, b = tl.exp(-tl.abs(tl.sqrt(a))), tl.exp(-tl.abs(tl.sqrt(b)))
    tl.store(out + item, a + b)


def test_two_chains_take_little_longer_than_one():
    x = np.random.default_rng(0).random(64, np.float32)
    short, long = np.empty_like(x), np.empty_like(x)
    cycles = [two_sums[(1,)](out, x, x, count, BLOCK=64).cycles for out, count in ((short, 10), (long, 110))]
    machine = mlu.current_machine()
    # Each iteration has four instructions of one line and two passes or more, of which half would wait.
    assert (cycles[1] - cycles[0]) / 100 < 4 * machine.vector_latency_cycles
