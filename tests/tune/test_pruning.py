"""The ``prune_configs_by`` of a kernel's own ``triton.autotune`` decides what is tried, as it does at a launch."""

import json

import pytest
from typer.testing import CliRunner

from mlutriton.cli.main import app
from mlutriton.diagnostics import ArgumentError
from mlutriton.tune import LocalEngine, Status, tune
from mlutriton.tune.session import RequestedSearch, prepare

KERNELS = """
import triton

import mlutriton as mlu
import mlutriton.language as tl

CONFIGS = [triton.Config({"BLOCK": block}, num_stages=stages) for block in (64, 128, 256, 512) for stages in (1, 2)]
SEEN = []


def scale(out, x, n, PAD: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch(n, dtype="float32"):
    arrays = {name: mlu.spec((n,), dtype) for name in ("out", "x")}
    return lambda meta: (triton.cdiv(n, meta["BLOCK"]),), {**arrays, "n": n, "PAD": 3}


def no_larger(configs, named_args, **kwargs):
    SEEN.append((sorted(named_args), sorted(kwargs)))
    assert named_args["x"].dtype == "float32"
    return [each for each in configs if each.kwargs["BLOCK"] <= named_args["n"]]


def model(out, x, n, PAD, BLOCK, num_stages, **rest):
    return -BLOCK - num_stages


def raising(configs, named_args, **kwargs):
    return configs[named_args["m"]]


def with_pruning(**by):
    return triton.autotune(CONFIGS, key=["n"], prune_configs_by=by)(triton.jit(scale))


early = with_pruning(early_config_prune=no_larger)
modelled = with_pruning(perf_model=model, top_k=3)
share = with_pruning(perf_model=model, top_k=0.25)
both = with_pruning(early_config_prune=no_larger, perf_model=model, top_k=2)
none = with_pruning(early_config_prune=lambda configs, named_args, **kwargs: [])
broken = with_pruning(early_config_prune=raising)
"""
SHAPES = [{"n": 100}, {"n": 5000}]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "pruned.py"
    path.write_text(KERNELS)
    return path


def tried(result):
    return sorted((each.configuration["BLOCK"], each.configuration["num_stages"]) for each in result.outcomes)


EVERY = [(block, stages) for block in (64, 128, 256, 512) for stages in (1, 2)]


@pytest.mark.parametrize(
    ("kernel", "kept"),
    [
        ("early", [EVERY[:2], EVERY]),
        ("modelled", [EVERY[5:], EVERY[5:]]),
        ("share", [EVERY[6:], EVERY[6:]]),
        ("both", [EVERY[:2], EVERY[6:]]),
    ],
)
@pytest.mark.parametrize("search", [{}, {"search": "random", "trials": 8}, {"search": "model", "trials": 8}])
def test_what_is_left_out_is_not_tried_and_counted(pruned, kernel, kept, search):
    request = {"launch": "launch", "shapes": SHAPES, "engine": LocalEngine(1)} | search
    found = tune(f"{pruned}::{kernel}", **request)
    assert [tried(result) for result in found.results] == kept
    assert [result.excluded for result in found.results] == [8 - len(each) for each in kept]
    assert [each["left_out"] for each in json.loads(found.to_json())["shapes"]] == [8 - len(each) for each in kept]
    assert not any(result.count(Status.FAILED) for result in found.results)


def test_its_functions_see_what_a_launch_would_show_them(pruned):
    prepared = prepare(RequestedSearch(f"{pruned}::early", launch="launch", shapes=SHAPES))
    seen = prepared.recipe.file.module().SEEN
    assert seen[-1] == (["n", "out", "x"], ["PAD", "grid", "warmup"])


def test_a_space_of_ones_own_is_searched_whole(pruned):
    space = {"BLOCK": [64, 512], "num_stages": [1]}
    [result] = tune(f"{pruned}::early", launch="launch", shapes=SHAPES[:1], space=space, engine=LocalEngine(1)).results
    assert tried(result) == [(64, 1), (512, 1)]
    assert result.excluded == 0


def test_any_number_of_workers_finds_the_same(pruned):
    request = {"launch": "launch", "shapes": SHAPES}
    found = [tune(f"{pruned}::both", **request, engine=LocalEngine(workers)).results for workers in (1, 3)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("kernel", "message"), [("none", "No valid autotuner configs after pruning"), ("broken", "KeyError: 'm'")]
)
def test_functions_that_fail_are_told(pruned, kernel, message):
    with pytest.raises(ArgumentError, match="E0502") as told:
        tune(f"{pruned}::{kernel}", launch="launch", shapes=SHAPES)
    assert "prune_configs_by of scale failed for n=100" in told.value.summary
    assert message in told.value.summary
    assert "--space" in told.value.help
    assert ("pruned.py" in told.value.note) == (kernel == "broken")


def test_the_command_says_how_many(pruned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["tune", f"{pruned}::early", "--launch", "launch", "--shape", "n=100", "--workers", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "2 configurations: " in result.output
    assert "; 6 left out by the kernel's own prune_configs_by" in result.output


def test_a_condition_is_counted_too(pruned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = ["--space", "BLOCK=64,128,256", "--where", "BLOCK < 256"]
    words = ["tune", f"{pruned}::early", "--launch", "launch", "--shape", "n=100", "--workers", "1", *space]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "; 1 left out by the condition" in result.output
