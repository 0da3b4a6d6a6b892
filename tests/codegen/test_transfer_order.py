"""Bursts of loads: how long they take, and a load in two halves."""

from dataclasses import replace

import numpy as np

import mlutriton as mlu
from examples import matmul
from mlutriton.codegen.pipelining.transfer_order import Transfer, burst_cycles, halves, order_of, transfer_of
from mlutriton.codegen.tile_code import Emitter, TileCode
from mlutriton.dtypes import F16
from mlutriton.isa.machine import machine
from mlutriton.isa.operands import Address, GlobalAddress, Immediate, Register


def load(name, *counts):
    code = TileCode("test", [], {}, 8, [], frozenset())
    emitter = Emitter(code)
    buffer = emitter.buffer("tile", F16, 128 * 256)
    emitter.emit(name, (F16,), (Address(buffer.name), GlobalAddress(Register(0)), *counts))
    return code, code.nodes[0]


def numbers(*values):
    return tuple(map(Immediate, values))


PADDED = (*numbers(256, 128, 1, 0, 0, 0), Register(1), Register(2), Immediate(1), Register(3), *numbers(0, 0.0))


def test_set_up_hides_behind_what_flows():
    m = machine("mlu590-m9")
    latency = m.cycles_from_ns(m.l2_latency_ns)
    rate, first = m.core_dma_bytes_per_cycle, m.dma_setup_cycles + latency
    long = Transfer(1, 320_000)
    assert burst_cycles([long], m) == first + 320_000 / rate
    assert burst_cycles([long, long], m) == first + 2 * 320_000 / rate
    # What follows a short one shows its own set-up.
    many = Transfer(128, 65_536)
    assert burst_cycles([Transfer(1, 32), many], m) == 2 * first + 127 * m.dma_segment_cycles + 65_536 / rate


def test_halves_around_another_load_take_less():
    m = machine("mlu590-m9")
    other, whole, half = Transfer(64, 32_768), Transfer(128, 65_536), Transfer(64, 32_768)
    assert burst_cycles([half, other, half], m) < burst_cycles([other, whole], m)


def test_segments_and_bytes_of_a_load():
    assert transfer_of(*load("dma.load_pad", *PADDED)) == Transfer(128, 128 * 256 * 2)
    code, unknown = load("dma.load", Register(1), *numbers(4, 1, 64, 0, 64, 0))
    assert transfer_of(code, unknown) is None
    code.greatest[Register(1)] = 32
    assert transfer_of(code, unknown) == Transfer(4, 4 * 32 * 2)


def test_halves_cover_the_whole():
    code, whole = load("dma.load_pad", *PADDED)
    [first], [*scalars, last] = halves(code, whole)
    assert [each.row.name for each in scalars] == ["mul", "add", "sub", "smax"]
    assert str(scalars[0].operands[2]) == str(64 * 2)
    assert first.operands[3] == last.operands[3] == Immediate(64)
    assert last.operands[0].offset_bytes == 64 * 256 * 2
    assert last.operands[1] == GlobalAddress(scalars[1].operands[0])
    # Rows that the first half does not have are left to the last.
    assert first.operands[9] == Register(2)
    assert last.operands[9] == scalars[3].operands[0]


def test_the_second_half_of_odd_rows_has_one_more():
    code, whole = load("dma.load", *numbers(256, 127, 1, 256, 0), Register(1), Immediate(0))
    [first], [*_, last] = halves(code, whole)
    assert (first.operands[3], last.operands[3]) == numbers(63, 64)
    assert last.operands[0].offset_bytes == 63 * 256 * 2


def test_rows_of_any_length_are_halved():
    code, whole = load("dma.load", Register(4), *numbers(128, 1), Register(4), Immediate(0), Register(1), Immediate(0))
    _, [*scalars, last] = halves(code, whole)
    behind = next(each for each in scalars if each.operands[1] == Register(4))
    assert str(behind.operands[2]) == str(64 * 2)
    assert last.operands[0].register == behind.operands[0]


def test_boxes_are_not_halved():
    code, whole = load("dma.load", *numbers(256, 128, 2, 256, 0), Register(1), Immediate(0))
    assert halves(code, whole) is None


def test_a_load_goes_whole_where_its_set_up_hides():
    m = machine("mlu590-m9")
    assert order_of(Transfer(8, 262_144), [Transfer(4, 32_768)], m)[0] is None
    before, cycles = order_of(Transfer(128, 65_536), [Transfer(64, 32_768)], m)
    assert before == 1
    assert cycles == burst_cycles([Transfer(64, 32_768)] * 3, m)
    # Short set-up comes first where flowing hides none.
    assert order_of(Transfer(170, 54_400), [Transfer(40, 20_480)], m)[0] == 0


def test_a_padded_box_that_begins_lower_is_not_halved():
    code, whole = load("dma.load_pad", *PADDED)
    operands = list(whole.operands)
    operands[6] = Immediate(1)
    assert halves(code, replace(whole, operands=tuple(operands))) is None


def test_first_loads_go_in_the_order_of_all_others():
    case = matmul.case(1024, 512, 1024, np.float16, "fp16", on_cluster=True)
    run = mlu.estimate(case.kernel, case.grid, **case.arguments(), **case.constants)
    loads = [each for each in run.program.instructions if each.row.trace == "LOAD" and "n1" in each.row.slot_index]
    rows = [each.operand("n1") for each in loads if str(each.operand("dst")).startswith("[left")]
    # Of the tiles and of parts of 512 rows, two in front of the loop and two in it; whole ones where arrays share
    # bytes, and nothing is loaded ahead.
    assert rows.count(Immediate(128)) == 2
    # One more is such a whole one, of parts of 256 rows.
    assert rows.count(Immediate(64)) == 2 * 4 + 1
