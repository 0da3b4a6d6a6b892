"""Costs of instructions on a machine, worked out by hand."""

import pytest

from mlutriton.isa.assembly import assemble
from mlutriton.isa.cost import issue_cycles, occupancy_cycles
from mlutriton.isa.machine import machine
from mlutriton.isa.operands import Immediate
from mlutriton.isa.table import TABLE, SlotKind

M9 = machine("mlu590-m9")


def instruction(text):
    return assemble(f".program p\n.isa 592\n.buffer a nram 0 64\n.buffer w wram 0 64\n{text}").instructions[0]


def occupancy(text):
    read = instruction(text)
    counts = {
        slot.name: operand.value
        for slot, operand in zip(read.row.slots, read.operands, strict=True)
        if slot.kind is SlotKind.COUNT and isinstance(operand, Immediate)
    }
    return occupancy_cycles(read, counts, M9)


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        ("v.fadd.f32 [a], [a], [a], 1, 1024", 32),
        ("v.fadd.f32 [a], [a], [a], 4, 33", 8),
        ("v.fadd.f16 [a], [a], [a], 1, 1024", 16),
        ("v.fma.f32 [a], [a], [a], [a], 1, 1024", 32 * M9.vector_fma_passes),
        ("v.fdiv.f32 [a], [a], [a], 1, 1024", 32 * M9.vector_divide_passes),
        ("v.exp.f16 [a], [a], 1, 1024", 16 * M9.vector_special_passes),
        ("v.add.i64 [a], [a], [a], 1, 16", M9.vector_i64_passes),
        ("v.fadd.f64 [a], [a], [a], 1, 16", M9.vector_f64_passes),
        ("v.sext.i32.i64 [a], [a], 1, 32", 2 * M9.vector_i64_passes),
        ("v.fpcast.f32.f16 [a], [a], 1, 64", 2),
        ("v.fpcast.f8e4m3.f16 [a], [a], 1, 64", M9.vector_f8_passes),
        ("v.mov.f8e4m3 [a], [a], 1, 128", 1),
        ("v.mov.i64 [a], [a], 1, 32", 2),
        ("red.fadd.f32 [a], [a], 3, 100, 1", 3 * (4 + 5)),
        ("red.fadd.f32 [a], [a], 2, 10, 33", 2 * 10 * 2),
        ("mm.f16.f32 [a], [a], [w], 64, 65, 33, 1, 0", M9.tensor_fill_cycles + 64 * 128 * 64 // 2048),
        ("mm.tf32.f32 [a], [a], [w], 64, 65, 33, 1, 0", M9.tensor_fill_cycles + 64 * 128 * 48 // 1024),
        ("v.lookup.f32.i32 [a], [a], [a], 0, 9, 1, 0, 7, 9", 7 * M9.gather_local_item_cycles),
        ("v.gather.f32.i32 [a], [a], [a], 1, 7, 1, 9", 7 * M9.gather_local_item_cycles),
        ("sync 1", 0),
    ],
)
def test_occupancy(text, cycles):
    assert occupancy(text) == cycles


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("add.i32 r0, r1, r2", "scalar_integer_cycles"),
        ("fadd.f32 r0, r1, r2", "scalar_float_cycles"),
        ("sitofp.i32.f32 r0, r1", "scalar_float_cycles"),
        ("sdiv.i32 r0, r1, r2", "scalar_divide_cycles"),
        ("exp.f32 r0, r1", "scalar_special_cycles"),
        ("lds.f32 r0, [a]", "scalar_nram_load_cycles"),
        ("v.fdiv.f32 [a], [a], [a], 1, 1024", "issue_cycles"),
        ("exit", "issue_cycles"),
    ],
)
def test_issue(text, parameter):
    assert issue_cycles(instruction(text), M9) == getattr(M9, parameter)


def test_every_row_has_one_kind_of_time():
    for row in TABLE.values():
        assert bool(row.occupancy) == (row.queue.value == "COMPUTE"), row.name
        assert not (row.occupancy and row.trace), row.name
        assert row.trace or row.queue.value in ("SCALAR", "COMPUTE"), row.name
