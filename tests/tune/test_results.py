"""What is made of a result: lists, files that kernels load, pictures, and winners that are run with values."""

import csv
import io
import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import triton

import mlutriton as mlu
from mlutriton.backend.tuners import config_of
from mlutriton.diagnostics import ArgumentError
from mlutriton.testing import Case
from mlutriton.tune import DaskEngine, LocalEngine, Status, load_tuned, tune, tuned
from mlutriton.tune.plot import plot
from mlutriton.tune.session import RequestedSearch, prepare, searched
from mlutriton.tune.source import SourceFile
from mlutriton.tune.trial import shown
from mlutriton.tune.verification import verify

SHAPES = [{"n": 200_000}, {"n": 1000}]
SPACE = {"BLOCK": [64, 512, 2048, 1 << 17], "UNROLL": [1, 2, 3], "PAD": [1, 2]}


@pytest.fixture(scope="module")
def prepared(kernels):
    return prepare(RequestedSearch(f"{kernels}::scale", shapes=SHAPES, space=SPACE, seed=1))


@pytest.fixture(scope="module")
def tuning(prepared):
    return searched(prepared, engine=LocalEngine(1))


@pytest.fixture
def scale(kernels):
    return SourceFile.at(kernels).module().scale


def test_ranks_and_counts(tuning):
    for result in tuning.results:
        assert all(first.cycles <= second.cycles for first, second in pairwise(result.ranked))
        assert result.best is result.ranked[0]
        assert sum(result.count(status) for status in Status) == len(result.outcomes) == 24


def test_json_and_csv_say_the_same(tuning):
    figures = json.loads(tuning.to_json())
    rows = list(csv.DictReader(io.StringIO(tuning.to_csv())))
    trials = [trial for shape in figures["shapes"] for trial in shape["trials"]]
    assert figures["simulated"] is True
    assert [shape["best"]["cycles"] for shape in figures["shapes"]] == [each.best.cycles for each in tuning.results]
    assert len(rows) == len(trials) == 48
    for row, trial in zip(rows, trials, strict=True):
        assert row["status"] == trial["status"]
        assert row["cycles"] == ("" if trial["cycles"] is None else str(trial["cycles"]))
        assert {name: int(row[name]) for name in SPACE} == trial["configuration"]


def test_the_list_can_be_pasted(tuning):
    namespace, text = {}, tuning.to_python()
    exec(text, namespace)
    pasted = namespace["configs"]
    # One for each shape, but for shapes that the same one is best for.
    best = [
        {name: value for name, value in each.best.configuration.items() if name != "PAD"} for each in tuning.results
    ]
    assert [config.kwargs for config in pasted] == [each for place, each in enumerate(best) if each not in best[:place]]
    assert all(f"# {shown(each.shape)}" in text or f"; {shown(each.shape)}" in text for each in tuning.results)
    assert [config.kwargs for config in tuning.configs] == [config.kwargs for config in pasted]
    assert "PAD=" in tuning.to_python()


@pytest.mark.parametrize("decorate", [mlu.jit, triton.jit], ids=["mlu", "triton"])
def test_a_kernel_loads_the_configuration_of_its_shape(tuning, scale, decorate, tmp_path):
    (tmp_path / "tuned.json").write_text(tuning.to_tuned())
    launched = []
    kernel = decorate(scale.fn)
    kernel.add_pre_run_hook(lambda *args, **named: launched.append((named["BLOCK"], named["UNROLL"])))
    loaded = tuned(tmp_path / "tuned.json")(kernel)
    for shape, result in zip(SHAPES, tuning.results, strict=True):
        x = np.arange(shape["n"], dtype=np.float32)
        out = np.empty_like(x)
        loaded[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"] * meta["UNROLL"]),)](out, x, len(x))
        np.testing.assert_array_equal(out, 2 * x)
        best = result.best.configuration
        # Nothing is launched to find out.
        assert launched.pop() == (best["BLOCK"], best["UNROLL"])
        assert launched == []


def test_a_shape_that_was_not_tuned_takes_the_nearest(tuning, tmp_path):
    (tmp_path / "tuned.json").write_text(tuning.to_tuned())
    loaded = load_tuned(tmp_path / "tuned.json")
    best = [each.best.configuration for each in tuning.results]
    assert loaded.configuration(n=200_000) == best[0]
    assert loaded.configuration(n=150_000) == best[0]
    assert loaded.configuration(n=1) == best[1]
    assert loaded.kernel == "scale"
    assert loaded.key == ["n"]


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": "mlutriton tuned configurations 1"}'])
def test_what_is_no_tuned_file_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "tuned.json").write_text(content)
    with pytest.raises(ArgumentError, match="E0501"):
        load_tuned(tmp_path / "tuned.json")


def test_options_that_were_not_searched_are_left_to_the_machine():
    config = config_of({"BLOCK": 4, "PAD": 2, "num_stages": 3}, ["BLOCK"])
    options = {name: value for name, value in config.all_kwargs().items() if value is not None}
    assert options == {"BLOCK": 4, "num_stages": 3}


def test_the_plot_is_a_picture_of_every_trial(tuning, tmp_path):
    for number in range(2):
        path = plot(tuning, number, tmp_path / f"{number}.svg")
        text = path.read_text()
        assert text.startswith("<?xml")
        assert "10^{" not in text  # numbers are written out
    assert plot(tuning, 0, tmp_path / "0.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_failures_alone(kernels, tmp_path):
    failed = tune(
        f"{kernels}::scale",
        shapes=SHAPES[:1],
        space={"BLOCK": [1 << 21, 1 << 22], "UNROLL": [1]},
        engine=LocalEngine(1),
    )
    assert plot(failed, 0, tmp_path / "failed.png").stat().st_size > 1000


@pytest.mark.parametrize("package", ["matplotlib", "optuna", "distributed"])
def test_a_package_that_is_missing_is_named(tuning, tmp_path, monkeypatch, package, kernels):
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    request = {"kernel": f"{kernels}::scale", "shapes": SHAPES, "space": SPACE}
    wanted = {
        "matplotlib": lambda: plot(tuning, 0, tmp_path / "plot.png"),
        "optuna": lambda: tune(**request, search="model", trials=3),
        "distributed": lambda: tune(**request, engine=DaskEngine("dask://127.0.0.1:1")),
    }
    with pytest.raises(ArgumentError, match="E0504") as told:
        wanted[package]()
    assert package in told.value.summary
    assert told.value.help == "pip install 'mlutriton[tune]'"


def test_winners_equal_the_reference(prepared, tuning, kernels):
    module = SourceFile.at(kernels).module()
    evaluator = prepared.evaluator
    verified = verify(evaluator.kernel, evaluator.plan, tuning.results, reference=module.reference_scale)
    assert [each.problems for each in verified] == [(), ()]
    # The shape is made small by itself.
    assert verified[0].what == "n=100000"
    [wrong, _] = verify(
        evaluator.kernel, evaluator.plan, tuning.results, reference=module.reference_wrong, shape={"n": 64}
    )
    assert wrong.what == "n=64"
    assert "out: 64 elements differ" in wrong.problems[0]


def test_winners_are_run_on_the_smallest_case(prepared, tuning):
    evaluator = prepared.evaluator

    def case(n, dtype):
        return Case(
            "scale",
            f"{n} {dtype}",
            evaluator.kernel,
            lambda: {"out": np.zeros(n, dtype), "x": np.ones(n, dtype), "n": n},
            lambda meta: (triton.cdiv(n, meta["BLOCK"] * meta["UNROLL"]),),
            ("out",),
            lambda x, **_: {"out": 2 * x},
        )

    cases = [case(500, "float32"), case(300, "float32"), case(10, "float16")]
    verified = verify(evaluator.kernel, evaluator.plan, tuning.results, cases=cases)
    assert [each.what for each in verified] == ["300 float32"] * 2
    assert not any(each.problems for each in verified)


def test_there_has_to_be_a_reference(prepared, tuning):
    with pytest.raises(ArgumentError, match="E0501") as told:
        verify(prepared.evaluator.kernel, prepared.evaluator.plan, tuning.results)
    assert "reference_scale" in told.value.help
