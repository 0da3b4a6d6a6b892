"""Cheap steps are done again in the chains of all their readers, where that saves a pass, and values stay the same."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.codegen.repeated_steps import repeat_cheap_steps
from mlutriton.isa.assembly import assemble
from mlutriton.isa.repetition import repeated_steps
from mlutriton.isa.table import TABLE
from tests.codegen.tile_nodes import HEADER, instructions, rewritten


def repeated(body):
    return rewritten(body, repeat_cheap_steps)


CAST = "v.fpcast.bf16.f32 [a], [h], 1, 64"
AGAIN = "v.fpcast.bf16.f32 ~, [h], {}, {}"


def test_all_readers_do_it_again():
    found = repeated(f"{CAST}\n v.fmul.f32 [b], [a], [a], 1, 64\n v.fmul.f32 [c], [a], row[d], 2, 32")
    assert found == instructions(
        f"{AGAIN.format(1, 64)}\n v.fmul.f32 [b], ~, ~, 1, 64\n{AGAIN.format(2, 32)}\n v.fmul.f32 [c], ~, row[d], 2, 32"
    )


def test_each_reader_has_instructions_of_its_own():
    twice = "v.fneg.f32 ~, [h], 1, 64\n v.fabs.f32"
    found = repeated(f"{twice} [a], ~, 1, 64\n v.fadd.f32 [b], [a], [c], 1, 64\n v.fsub.f32 [d], [a], [c], 1, 64")
    again = f"{twice} ~, ~, 1, 64"
    assert found == instructions(f"{again}\n v.fadd.f32 [b], ~, [c], 1, 64\n{again}\n v.fsub.f32 [d], ~, [c], 1, 64")
    # What follows tells instructions apart by their identity.
    assert len({id(each) for each in found}) == len(found)


@pytest.mark.parametrize(
    "readers",
    [
        "v.fmul.f32 [b], [a], [a], 1, 64",  # one alone saves nothing: it is fused elsewhere
        "v.fmul.f32 [b], [a], [a], 1, 64\n red.fadd.f32 [c], [a], 2, 32, 1",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.exp.f32 [c], [a], 1, 64",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.fadd.f32 ~, [c], [d], 1, 64\n v.fadd.f32 [c], ~, [a], 1, 64",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.mov.bf16 [h], 0.0, 1, 64\n v.fneg.f32 [c], [a], 1, 64",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.add.i32 [c], [a], [a], 1, 64",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.fneg.f32 [c], [a + 4], 1, 60",
        "v.fmul.f32 [b], [a], [a], 1, 64\n v.fneg.f32 ~, [a], 1, 64\n"
        + "v.fneg.f32 ~, ~, 1, 64\n" * 2
        + "v.fneg.f32 [c], ~, 1, 64",
    ],
)
def test_nothing_is_repeated_where_a_reader_cannot(readers):
    body = f"{CAST}\n {readers}"
    assert repeated(body) == list(instructions(body))


def test_what_is_wider_than_its_readers_is_not_repeated():
    body = "v.fpcast.f32.f16 [h], [a], 1, 64\n v.fneg.f16 [b], [h], 1, 64\n v.fabs.f16 [c], [h], 1, 64"
    assert repeated(body) == list(instructions(body))


def test_steps_are_repeated_as_long_as_what_they_read_is_the_same():
    program = assemble(
        f"{HEADER} v.fpcast.bf16.f32 ~, [h], 1, 64\n v.fmul.f32 [b], ~, ~, 1, 64\n"
        " v.fpcast.bf16.f32 ~, [h], 1, 64\n v.fneg.f32 [b], ~, 1, 64\n"
        " v.mov.bf16 [h], 0.0, 1, 64\n"
        " v.fpcast.bf16.f32 ~, [h], 1, 64\n v.fneg.f32 [b], ~, 1, 64\n"
        "again: v.fpcast.bf16.f32 ~, [h], 1, 64\n v.fneg.f32 [b], ~, 1, 64\n"
        " v.fpcast.bf16.f32 ~, [h + r0], 1, 64\n v.fneg.f32 [b], ~, 1, 64\n mov.i64 r0, 64\n"
        " v.fpcast.bf16.f32 ~, [h + r0], 1, 64\n v.fneg.f32 [b], ~, 1, 64\n exit"
    )
    assert repeated_steps(program) == {2}


@mlu.jit
def normalize(out, x, weight, rows, columns, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * columns + column, mask=mask, other=0.0).to(tl.float32)
    scale = tl.load(weight + column, mask=column < columns).to(tl.float32)
    mean_square = tl.sum(values * values, axis=1, keep_dims=True) / columns
    tl.store(
        out + row * columns + column, (values * tl.rsqrt(mean_square + eps) * scale).to(out.dtype.element_ty), mask
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_rows_are_normalized_in_three_passes(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    rows, columns = 200, 700
    x = rng.standard_normal((rows, columns), dtype=np.float32).astype(dtype)
    weight = rng.random(columns, dtype=np.float32).astype(dtype)
    outs = []
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        outs.append(np.empty_like(x))
        run = normalize[(50,)](outs[-1], x, weight, rows, columns, 1e-6, ROWS=4, BLOCK=1024)
    wide = x.astype(np.float32)
    wanted = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + 1e-6) * weight.astype(np.float32)
    np.testing.assert_allclose(outs[0].astype(np.float32), wanted, rtol=2e-2, atol=1e-3)
    np.testing.assert_array_equal(outs[0].view(np.uint16), outs[1].view(np.uint16))
    # Of what is widened, the weights alone are kept.
    widened = [each for each in run.program.instructions if each.row is TABLE["v.fpcast"] and each.dtypes[0].bytes == 2]
    assert len(widened) > 2
    assert sum(not each.hands_on for each in widened) <= 1
