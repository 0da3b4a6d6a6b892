"""A search finds the best there is, the same with any number of workers, whatever is skipped and whatever fails."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlutriton as mlu
from mlutriton.backend import repeated_estimates
from mlutriton.backend.repeated_estimates import RepeatedEstimates
from mlutriton.diagnostics import ArgumentError
from mlutriton.frontend.array_specs import Spec
from mlutriton.tune import LocalEngine, Status, tune
from mlutriton.tune.evaluation import Evaluator
from mlutriton.tune.launches import FunctionPlan
from mlutriton.tune.session import RequestedSearch, prepare, searched
from mlutriton.tune.source import SourceFile

SPACE = {"BLOCK": [64, 128, 512, 2048], "UNROLL": [1, 2, 3], "num_stages": [1, 2], "num_warps": [1, 4]}
SHAPES = [{"n": 100_000}, {"n": 3000, "dtype": "fp16"}]


def here():
    return LocalEngine(1)


@pytest.fixture
def scale(kernels):
    return f"{kernels}::scale"


def test_the_best_is_what_each_launch_alone_would_take(scale, kernels):
    tuning = tune(scale, shapes=SHAPES[:1], space={"BLOCK": [64, 512], "UNROLL": [1, 2]}, engine=here(), prune=False)
    module = SourceFile.at(kernels).module()
    for outcome in tuning.results[0].outcomes:
        with Spec.placed_anew():
            grid, arguments = module.launch_scale(**SHAPES[0], **outcome.configuration)
            run = mlu.estimate(module.scale, grid, **arguments, **outcome.configuration)
        assert (outcome.cycles, outcome.bound_cycles) == (run.cycles, run.schedule_bound_cycles)
    assert tuning.results[0].best.cycles == min(each.cycles for each in tuning.results[0].outcomes)


@pytest.mark.parametrize("search", [{}, {"search": "random", "trials": 20}, {"search": "model", "trials": 20}])
def test_any_number_of_workers_finds_the_same(scale, search):
    found = [
        tune(scale, shapes=SHAPES, space=SPACE, engine=LocalEngine(workers), seed=3, **search).results
        for workers in (1, 3)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["random", "model"])
def test_a_seed_decides(scale, name):
    def tried(seed):
        tuning = tune(scale, shapes=SHAPES[:1], space=SPACE, search=name, trials=12, seed=seed, engine=here())
        return [each.trial.key for each in tuning.results[0].outcomes]

    assert tried(1) == tried(1) != tried(2)
    assert len(set(tried(1))) == 12


@settings(max_examples=12)
@given(
    n=st.integers(1, 200_000),
    blocks=st.sets(st.sampled_from([16, 32, 64, 256, 1024, 8192]), min_size=2),
    seed=st.integers(0, 9),
)
def test_skipping_never_loses_the_best(kernels, n, blocks, seed):
    request = {"shapes": [{"n": n}], "space": {"BLOCK": sorted(blocks), "UNROLL": [1, 4]}, "seed": seed}
    pruned = tune(f"{kernels}::scale", **request, engine=here()).results[0]
    whole = tune(f"{kernels}::scale", **request, engine=here(), prune=False).results[0]
    assert pruned.best == whole.best
    assert whole.count(Status.TIMED) == len(whole.outcomes)
    cycles = {each.trial.key: each.cycles for each in whole.outcomes}
    for each in pruned.outcomes:
        assert each.bound_cycles <= cycles[each.trial.key]
        if each.status is Status.SKIPPED:
            assert each.bound_cycles > pruned.best.cycles


@settings(max_examples=20)
@given(data=st.data())
def test_some_tasks_bound_all(kernels, data):
    """Whatever part of a launch is run, its bound is no higher than that of the whole, nor than the cycles."""
    module = SourceFile.at(kernels).module()
    configuration = {"BLOCK": data.draw(st.sampled_from([32, 128, 1024])), "UNROLL": data.draw(st.integers(1, 3))}
    grid, arguments = module.launch_scale(data.draw(st.integers(1, 300_000)), **configuration)
    prepared = RepeatedEstimates(module.scale).prepare(grid, arguments | configuration)
    run = prepared.run()
    parts = sorted({1, prepared.tasks, data.draw(st.integers(1, prepared.tasks))})
    bounds = [prepared.bound_of_first_tasks(tasks) for tasks in parts]
    assert bounds == sorted(bounds)
    assert bounds[-1] == run.schedule_bound_cycles <= run.cycles


def test_what_the_kernel_is_compiled_for_is_compiled_once(scale, monkeypatch):
    texts = []
    original = repeated_estimates._ttir
    monkeypatch.setattr(repeated_estimates, "_ttir", lambda *args: texts.append(original(*args)) or texts[-1])
    tune(scale, shapes=SHAPES[:1], space=SPACE | {"PAD": [1, 2]}, engine=here())
    assert len(texts) == len(set(texts)) == len(SPACE["BLOCK"]) * len(SPACE["UNROLL"])


def test_the_kernels_own_configurations(kernels):
    tuning = tune(f"{kernels}::tuned_scale", shapes=SHAPES[:1], engine=here(), prune=False)
    tried = {(each.configuration["BLOCK"], each.configuration["num_stages"]) for each in tuning.results[0].outcomes}
    assert tried == {(64, 1), (64, 3), (256, 1), (256, 3)}
    assert tuning.results[0].best.configuration["BLOCK"] == 256
    assert tuning.results[0].failures == []


def test_hooks_of_configurations_see_the_arguments(kernels):
    request = {"shapes": SHAPES[:1], "launch": "launch_hooked", "engine": here()}
    [result] = tune(f"{kernels}::hooked_scale", **request).results
    assert [reason.partition(" at ")[0] for _, reason, _ in result.failures] == ["RuntimeError: the hook was called"]
    assert result.best.configuration["BLOCK"] == 256


def test_what_does_not_fit_is_counted_with_its_reason(kernels):
    space = {"BLOCK": [32, 64, 1 << 17, 1 << 18]}
    [result] = tune(f"{kernels}::bins", shapes=[{"n": 32}], space=space, engine=here()).results
    [(code, reason, count)] = result.failures
    assert (code, count) == ("E0202", 2)
    assert "NRAM" in reason
    assert result.best.configuration["BLOCK"] in (32, 64)


def test_what_a_function_raises_fails_its_configurations(scale):
    space = {"BLOCK": [64, 128], "UNROLL": [1, 2]}
    [result] = tune(scale, shapes=SHAPES[:1], space=space, launch="launch_raising", engine=here()).results
    [(code, reason, count)] = result.failures
    assert (code, count) == ("", 2)
    assert "RuntimeError: no such block at " in reason
    assert "scaling.py:" in reason


def test_a_configuration_that_kills_its_process_has_failed(scale, monkeypatch):
    monkeypatch.setenv("TEST_PROCESS", str(os.getpid()))
    request = {"shapes": SHAPES[:1], "space": {"BLOCK": [64, 128], "UNROLL": [1, 2], "num_stages": [1, 2]}}
    [result] = tune(scale, **request, launch="launch_deadly", engine=LocalEngine(2)).results
    assert result.failures == [("", "the process that tried it died; it may have run out of memory", 2)]
    [whole] = tune(scale, **request, engine=here()).results
    assert result.best == whole.best
    assert {each.trial.key for each in result.outcomes} == {each.trial.key for each in whole.outcomes}


def test_nothing_that_works_is_no_best(scale):
    [result] = tune(scale, shapes=SHAPES[:1], space={"BLOCK": [1 << 21, 1 << 22], "UNROLL": [1]}, engine=here()).results
    assert result.best is None
    assert [count for *_, count in result.failures] == [1, 1]
    assert all("exceeds triton maximum" in reason for _, reason, _ in result.failures)


@pytest.mark.parametrize("search", [{}, {"search": "model", "trials": 10}])
def test_all_shapes_are_searched(scale, search):
    tuning = tune(scale, shapes=SHAPES, space=SPACE, engine=here(), **search)
    assert [each.shape for each in tuning.results] == SHAPES
    assert len({len(each.outcomes) for each in tuning.results}) == 1
    assert tuning.results[1].arguments == {"out": ["float16", 3000], "x": ["float16", 3000], "n": 3000}


def test_a_model_finds_what_is_good_without_trying_all(scale):
    space = {"BLOCK": [1 << power for power in range(4, 14)], "UNROLL": range(1, 5), "num_stages": range(1, 4)}
    [whole] = tune(scale, shapes=SHAPES[:1], space=space, prune=False).results
    found = []
    for seed in range(3):
        request = {"shapes": SHAPES[:1], "space": space, "search": "model", "trials": 30, "seed": seed}
        [result] = tune(scale, **request, engine=here()).results
        assert len(result.outcomes) == 30
        found.append(result.best.cycles)
    # Some begin where there is nothing better beside what they find, which is among the best twentieth all the same.
    timed = sorted(each.cycles for each in whole.outcomes if each.cycles is not None)
    assert sorted(found)[1] <= timed[len(timed) // 20]


def test_a_model_of_a_small_space_ends(scale):
    space = {"BLOCK": [64, 128], "UNROLL": [1]}
    [result] = tune(scale, shapes=SHAPES[:1], space=space, search="model", trials=50, engine=here()).results
    assert len(result.outcomes) == 2


def test_kernels_at_hand_are_tuned(kernels):
    module = SourceFile.at(kernels).module()
    tuning = tune(
        module.scale, launch=module.launch_scale, shapes=SHAPES[:1], space=module.few(), engine=LocalEngine(2)
    )
    assert len(tuning.results[0].outcomes) == 2


def test_expressions_say_what_a_function_would(scale):
    request = {"shapes": [{"n": 5000, "dtype": "bf16"}], "space": {"BLOCK": [64, 512], "UNROLL": [1, 2]}}
    by_text = tune(
        scale,
        **request,
        arguments={"out": "dtype:n", "x": "dtype:n"},
        grid="cdiv(n, BLOCK * UNROLL)",
        engine=here(),
    )
    assert by_text.results == tune(scale, **request, engine=here()).results


def test_cases_are_shapes_where_nothing_else_says_what_is_launched(repository):
    tuning = tune(repository / "examples" / "cumsum.py", space={"num_stages": [1, 2]}, engine=here())
    assert all(set(each.shape) == {"case"} and each.best for each in tuning.results)


def test_the_machine_is_as_it_was(scale):
    before = mlu.current_machine()
    fast = replace_dram(before)
    tuning = tune(scale, shapes=SHAPES[:1], space={"BLOCK": [512], "UNROLL": [1]}, machine=fast, engine=here())
    assert mlu.current_machine() is before
    assert tuning.machine is fast


def replace_dram(machine):
    return machine.replace(dram_gb_per_s=4000)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"kernel": "none.py::scale"}, "E0501", "cannot read none.py: No such file or directory"),
        ({"kernel": "{file}::scales"}, "E0111", "has no kernel scales"),
        ({"kernel": "{file}"}, "E0111", "kernels"),
        ({"kernel": "{file}::few"}, "E0111", "few in scaling.py is no kernel"),
        ({"space": None}, "E0502", "scale has no configurations of its own"),
        ({"space": {"BLOK": [1]}}, "E0502", "BLOK of the space is no parameter"),
        ({"space": {"BLOCK": [64]}}, "E0502", "launch_scale needs UNROLL"),
        ({"shapes": []}, "E0502", "there is no shape to tune for"),
        ({"shapes": [{"m": 3}]}, "E0502", "m of the shape is no parameter"),
        ({"shapes": [{}]}, "E0502", "launch_scale needs n"),
        ({"launch": "launch_none"}, "E0501", "has no function launch_none"),
        ({"launch": "few"}, "E0502", "few returned"),
        ({"search": "best"}, "E0502", "there is no search 'best'"),
        ({"search": "random"}, "E0502", "a random search needs a number of trials"),
        ({"search": "random", "trials": 0}, "E0502", "0 trials find nothing"),
        ({"trials": 5}, "E0502", "an exhaustive search tries all 1 configurations, not 5"),
        ({"machine": "mlu000"}, "E0105", "mlu000"),
        ({"arguments": {"x": "fp32:n"}}, "E0502", "the arguments need a grid"),
        ({"arguments": {"x": "fp32:n"}, "grid": "1"}, "E0502", "nothing says what out is"),
        ({"arguments": {"x": "fp33:n", "out": "fp32:n"}, "grid": "1"}, "E0103", "fp33"),
        ({"arguments": {"x": "fp32:n", "out": "fp32:m"}, "grid": "1"}, "E0502", "m in 'm' has no value"),
        ({"arguments": {"x": "fp32:n", "out": "fp32:n", "y": "n"}, "grid": "1"}, "E0502", "no parameter y"),
    ],
)
def test_requests_that_make_no_sense_are_told_before_anything_is_tried(kernels, request_, code, message):
    request_ = {
        "kernel": "{file}::scale",
        "shapes": [{"n": 100}],
        "space": {"BLOCK": [64], "UNROLL": [1]},
        **request_,
    }
    with pytest.raises(ArgumentError) as told:
        prepare(RequestedSearch(**request_ | {"kernel": request_["kernel"].format(file=kernels)}))
    assert told.value.code == code, told.value
    assert message in told.value.summary, told.value
    assert told.value.help


def test_a_file_that_fails_is_told_with_its_line(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("x = 1\nx.y\n")
    with pytest.raises(ArgumentError, match="E0501") as told:
        tune(f"{file}::kernel")
    assert "AttributeError" in told.value.summary
    assert "broken.py:2: x.y" in told.value.note


def test_a_search_can_be_made_again(scale):
    """What is prepared anew does not depend on what was searched before."""
    request = {"shapes": SHAPES[:1], "space": SPACE}
    first = searched(prepare(RequestedSearch(scale, **request)), engine=here())
    again = searched(prepare(RequestedSearch(scale, **request)), engine=here())
    assert first.results == again.results
    assert replace(first, host_seconds=0) == replace(again, host_seconds=0)


def test_an_evaluator_leaves_kernels_as_they_are(kernels):
    module = SourceFile.at(kernels).module()
    compile_before = module.scale._do_compile
    Evaluator(module.scale, FunctionPlan(module.launch_scale), SHAPES, mlu.current_machine())
    assert module.scale._do_compile == compile_before


@pytest.mark.parametrize(("decorator", "status"), [("mlu", Status.TIMED), ("triton", Status.FAILED)])
def test_what_is_found_is_what_a_launch_would_take(tmp_path, decorator, status):
    file = tmp_path / "ones.py"
    file.write_text(f"""
import triton
import mlutriton as mlu
import mlutriton.language as tl

@{decorator}.jit
def ones(out, BLOCK: tl.constexpr):
    tl.store(out + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), 1.0)

def launch_ones(n, BLOCK):
    return (n // BLOCK,), {{"out": mlu.spec((n,), "fp32")}}
""")
    tuning = tune(f"{file}::ones", shapes=[{"n": 96}], space={"BLOCK": [32, 48]}, engine=here(), prune=False)
    found = {each.configuration["BLOCK"]: each.status for each in tuning.results[0].outcomes}
    assert found == {32: Status.TIMED, 48: status}
