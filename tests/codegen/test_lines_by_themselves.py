"""Chains read lines that are repeated where they stand, if that takes less."""

from functools import partial

import pytest

import mlutriton as mlu
from mlutriton.codegen.lines_by_themselves import read_lines_by_themselves
from tests.codegen.tile_nodes import instructions, rewritten


def read(body):
    return rewritten(body, partial(read_lines_by_themselves, machine=mlu.machine("mlu590-m9")))


REPEAT = "v.repeat.f32 [a], [d], 2, 8, 64"


def test_each_line_has_a_chain():
    found = read(f"{REPEAT}\n v.fmul.f32 ~, [a], row[c], 16, 64\n v.fadd.f32 [b], ~, [b], 16, 64")
    assert found == instructions(
        "v.fmul.f32 ~, col[d], row[c], 8, 64\n v.fadd.f32 [b], ~, [b], 8, 64\n"
        "v.fmul.f32 ~, col[d + 256], row[c + 32], 8, 64\n v.fadd.f32 [b + 2048], ~, [b + 2048], 8, 64"
    )


@pytest.mark.parametrize(
    "readers",
    [
        "v.fneg.f32 [b], [a], 16, 64\n v.fabs.f32 [c], [a], 16, 64",
        "v.fneg.f32 [b], [a + 4], 16, 63",
        "v.mov.f32 [d], 0.0, 1, 64\n v.fneg.f32 [b], [a], 16, 64",
        "v.exp.f32 [b], [a], 16, 64",
        "v.fneg.f32 [a], [a], 16, 64",
    ],
)
def test_other_tiles_are_repeated(readers):
    body = f"{REPEAT}\n {readers}"
    assert read(body) == list(instructions(body))


def test_short_lines_are_repeated():
    body = "v.repeat.f32 [a], [d], 32, 2, 8\n v.fneg.f32 [b], [a], 64, 8"
    assert read(body) == list(instructions(body))


def test_a_chain_reads_lines_of_one_tile_by_themselves():
    """A second tile, which has each line another number of times, is read as it is."""
    found = read(f"{REPEAT}\n v.repeat.f32 [e], [f], 4, 4, 64\n v.fmul.f32 [b], [a], [e], 16, 64")
    assert found == instructions(
        "v.repeat.f32 [e], [f], 4, 4, 64\n"
        "v.fmul.f32 [b], col[d], [e], 8, 64\n v.fmul.f32 [b + 2048], col[d + 256], [e + 2048], 8, 64"
    )
