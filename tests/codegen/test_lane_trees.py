"""Reductions along short rows combine the lanes of all rows at a time: the same to the bit, in less time."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from examples import flash_attention
from mlutriton.codegen import generate
from mlutriton.codegen.lane_trees import LaneTrees


@mlu.jit
def reduced(out, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr, KIND: tl.constexpr):
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    tile = tl.load(x + row[:, None] * COLUMNS + column[None, :])
    if KIND == "sum":
        result = tl.sum(tile, axis=1)
    elif KIND == "max":
        result = tl.max(tile, axis=1)
    else:
        result = tl.min(tile, axis=1)
    tl.store(out + row, result)


def run_of(kind, rows, columns, dtype):
    rng = np.random.default_rng(columns)
    if np.dtype(dtype).kind == "i":
        x = rng.integers(-100, 100, (rows, columns)).astype(dtype)
    else:
        x = rng.standard_normal((rows, columns), np.float32).astype(dtype)
        x[::3] = rng.choice(np.array([0.0, -0.0], dtype), (len(x[::3]), columns))
    out = np.empty(rows, dtype)
    # Without a pipeline, so that tiles leave room in memory.
    return reduced[(1,)](out, x, ROWS=rows, COLUMNS=columns, KIND=kind, num_stages=1), out


@pytest.fixture
def is_as_selected(monkeypatch, tmp_path):
    """Switches to one instruction for each reduction, and a cache of its own."""

    def switch():
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(generate, "combine_lanes_of_all_rows", lambda code, machine: LaneTrees(code))
        reduced.device_caches.clear()

    yield switch
    reduced.device_caches.clear()


@pytest.mark.parametrize("engine", ["native", "interpreter"])
@pytest.mark.parametrize(
    ("kind", "rows", "columns", "dtype"),
    [
        ("max", 256, 8, np.float32),
        ("max", 128, 128, np.float32),
        ("min", 256, 64, np.float16),
        ("max", 512, 32, np.int32),
        ("sum", 1024, 16, np.float32),
        ("sum", 512, 64, np.float32),
        ("sum", 512, 4, np.int32),
    ],
)
def test_values_and_less_time(kind, rows, columns, dtype, engine, is_as_selected, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    run, out = run_of(kind, rows, columns, dtype)
    is_as_selected()
    other, expected = run_of(kind, rows, columns, dtype)
    np.testing.assert_array_equal(out.view(np.uint8), expected.view(np.uint8))
    assert any(each.row.name == "v.transpose" for each in run.program.instructions)
    assert not any(each.row.name == "v.transpose" for each in other.program.instructions)
    assert run.cycles < other.cycles


@pytest.mark.parametrize(
    ("kind", "rows", "columns", "dtype"),
    [
        # Few rows, for which the latency of more instructions is longer; sums of halves, which are rounded once.
        ("max", 8, 32, np.float32),
        ("sum", 512, 16, np.float16),
    ],
)
def test_what_stays_one_instruction(kind, rows, columns, dtype):
    run, _ = run_of(kind, rows, columns, dtype)
    assert not any(each.row.name == "v.transpose" for each in run.program.instructions)


@pytest.mark.parametrize("overlaps", [False, True])
def test_both_versions_of_a_program_of_several_cores(overlaps):
    """Each has buffers of its own in the same memory: one runs where arrays share bytes."""
    case = flash_attention.case(1, 2, 512, 64, causal=False, on_cluster=True)
    arguments = case.arguments()
    if overlaps:
        # Queries lie where the output does: each program has read its own before it stores.
        arguments["output"] = arguments["q"]
    expected = case.reference(**{**arguments, "q": arguments["q"].copy()})["output"]
    run = case.kernel[case.grid](**arguments, **case.constants)
    assert any(each.row.name == "v.transpose" for each in run.program.instructions)
    np.testing.assert_allclose(arguments["output"], expected, *case.tolerance)
