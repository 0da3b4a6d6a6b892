"""Steps go in one chain with their reader, also where others stand between them, and values stay the same."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.cleanup import fuse_chains
from tests.codegen.tile_nodes import instructions, rewritten


def fused(body):
    return rewritten(body, fuse_chains)


CAST = "v.fpcast.bf16.f32 {}, [h], 1, 64"
OTHER = "v.fpcast.bf16.f32 [b], [g], 1, 32"


def test_a_step_goes_behind_what_stands_between():
    found = fused(f"{CAST.format('[a]')}\n {OTHER}\n v.fmul.f32 [c], [a], col[b], 2, 32")
    assert found == instructions(f"{OTHER}\n v.fpcast.bf16.f32 ~, [h], 2, 32\n v.fmul.f32 [c], ~, col[b], 2, 32")


def test_a_chain_takes_the_rows_of_its_reader():
    found = fused(f"{CAST.format('[a]')}\n v.fneg.f32 [d], [a], 1, 64\n v.fmul.f32 [c], [d], col[b], 2, 32")
    assert found == instructions(
        "v.fpcast.bf16.f32 ~, [h], 2, 32\n v.fneg.f32 ~, ~, 2, 32\n v.fmul.f32 [c], ~, col[b], 2, 32"
    )


@pytest.mark.parametrize(
    "between",
    [
        "v.mov.bf16 [h], 0.0, 1, 64",
        "v.fneg.f32 [d], [a], 1, 64",
        "red.fadd.f32 [d], [a], 2, 32, 1",
    ],
)
def test_what_changes_sources_or_reads_the_result_is_not_passed(between):
    body = f"{CAST.format('[a]')}\n {between}\n v.fmul.f32 [c], [a], [b], 1, 64"
    assert fused(body) == instructions(body)


def test_the_step_of_each_program_is_joined_rather_than_that_of_all():
    load = "dma.load.bf16 [{}], g[{}], 64, 1, 1, 0, 0, 0, 0"
    own = "sreg r0, 0\n add.i64 r2, r1, r0"
    casts = CAST.format("[a]"), "v.fpcast.bf16.f32 [b], [g], 1, 64"
    product = "v.fmul.f32 [c], {}, {}, 1, 64"
    for mine, first in (("h", 0), ("g", 1)):
        loads = [load.format(each, "r2" if each == mine else "r1") for each in "hg"]
        before = "\n ".join([own, *loads])
        found = fused("\n ".join([before, *casts, product.format("[a]", "[b]")]))
        joined = casts[first].replace("[a]" if first == 0 else "[b]", "~")
        last = product.format("~", "[b]") if first == 0 else product.format("[a]", "~")
        assert found == instructions("\n ".join([before, casts[1 - first], joined, last]))


@mlu.jit
def weighted_sums(out, x, weights, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    tile = tl.load(x + row[:, None] * columns + column[None, :], mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(weights + column, mask=column < columns, other=0.0).to(tl.float32)
    tl.store(out + row, tl.sum(tile * weight[None, :], axis=1), mask=row < rows)


@pytest.mark.parametrize("name", ["mlu590-m9", "mlu370-x4", "mlu-tiny"])
@pytest.mark.parametrize("tile", [1, 4])
def test_a_product_with_a_vector_takes_one_pass_for_both_its_steps(name, tile):
    mlu.set_machine(name)
    rows, columns = 77, 500
    rng = np.random.default_rng(0)
    x, weights = (rng.integers(-8, 8, shape).astype(np.float16) for shape in ((rows, columns), columns))
    out = np.full(rows, 7, np.float32)
    weighted_sums[(-(-rows // tile),)](out, x, weights, rows, columns, ROWS=tile, COLUMNS=512)
    assert (out == x.astype(np.float32) @ weights.astype(np.float32)).all()
