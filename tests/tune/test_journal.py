"""What a search has found survives whatever ends it, and is found once."""

import json

import pytest

from mlutriton.diagnostics import ArgumentError
from mlutriton.tune import LocalEngine, tune
from mlutriton.tune.evaluation import Evaluator

SHAPES = [{"n": 10_000}]
SPACE = {"BLOCK": [64, 128, 512], "UNROLL": [1, 2, 3], "num_stages": [1, 2]}


class Counting(LocalEngine):
    """Counts what is evaluated, and may end a search like a crash."""

    def __init__(self, units_until_crash=None):
        super().__init__(1)
        self.evaluated = []
        self.units_until_crash = units_until_crash

    def submit(self, number, unit):
        if self.units_until_crash is not None and len(self.evaluated) == self.units_until_crash:
            raise KeyboardInterrupt
        self.evaluated.append(unit)
        super().submit(number, unit)

    @property
    def trials(self):
        return [trial.key for unit in self.evaluated for trial in unit.trials]


@pytest.fixture
def search(kernels, tmp_path):
    def run(engine=None, **options):
        request = {"shapes": SHAPES, "space": SPACE, "journal": tmp_path / "journal.jsonl"} | options
        return tune(f"{kernels}::scale", engine=engine or Counting(), **request)

    return run


@pytest.mark.parametrize("options", [{}, {"search": "model", "trials": 12}, {"search": "random", "trials": 12}])
def test_an_interrupted_search_goes_on_where_it_was(search, tmp_path, options):
    whole = search(journal=tmp_path / "whole.jsonl", **options)
    first = Counting(units_until_crash=5)
    with pytest.raises(KeyboardInterrupt):
        search(first, **options)
    second = Counting()
    resumed = search(second, resume=True, **options)
    assert resumed.results == whole.results
    kept = [json.loads(line)["trial"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    assert sorted(kept) == sorted(each.trial.key for each in whole.results[0].outcomes)
    # What was under way is tried again; what was known is not.
    known = len(first.trials) - sum(trial in second.trials for trial in first.trials)
    assert known > 0
    assert len(second.trials) == len(whole.results[0].outcomes) - known


def test_a_line_that_was_cut_off_is_tried_again(search, tmp_path):
    whole = search()
    path = tmp_path / "journal.jsonl"
    content = path.read_bytes()
    for cut in range(1, 400, 37):
        path.write_bytes(content[:-cut])
        assert search(resume=True).results == whole.results, cut
        lines = path.read_bytes().splitlines()
        assert sorted(lines) == sorted(content.splitlines()), cut


def test_a_search_that_is_over_is_not_made_again(search, monkeypatch):
    whole = search()
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_: pytest.fail("it is known"))
    assert search(resume=True).results == whole.results


OTHERS = {
    "shapes": {"shapes": [{"n": 10_001}]},
    "space": {"space": SPACE | {"UNROLL": [1, 2]}},
    "seed": {"seed": 1},
    "search, trials": {"search": "random", "trials": 3},
    "machine": {"machine": "mlu370-x4"},
    "prune": {"prune": False},
    "launch": {"arguments": {"x": "fp32:n", "out": "fp32:n"}, "grid": "cdiv(n, BLOCK * UNROLL)"},
}


def test_another_search_does_not_go_on_from_it(search, tmp_path):
    search()
    before = (tmp_path / "journal.jsonl").read_bytes()
    for name, options in OTHERS.items():
        with pytest.raises(ArgumentError, match="E0503") as told:
            search(resume=True, **options)
        assert f"another search: {name} differ" in told.value.summary
        assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_another_text_of_the_kernel_does_not_go_on_from_it(search, kernels, tmp_path):
    search()
    changed = tmp_path / "scaling.py"
    changed.write_text(kernels.read_text().replace("2 * tl.load", "3 * tl.load"))
    with pytest.raises(ArgumentError, match="another search: kernel"):
        tune(f"{changed}::scale", shapes=SHAPES, space=SPACE, journal=tmp_path / "journal.jsonl", resume=True)


@pytest.mark.parametrize("content", ["", "{}\n", '{"format": "other"}\n', "[1]\n", "no json\n"])
def test_what_is_no_journal_is_told(search, tmp_path, content):
    (tmp_path / "journal.jsonl").write_text(content)
    with pytest.raises(ArgumentError, match="is no tuning journal"):
        search(resume=True)


@pytest.mark.parametrize("line", ["{}", "[]", "3", '{"trial": "0 {}"}', '{"trial": "0 {}", "status": "x"}', "\0\0\0"])
def test_a_journal_with_a_line_that_is_none_is_told(search, tmp_path, line):
    search()
    path = tmp_path / "journal.jsonl"
    first, *rest = path.read_text().splitlines()
    damaged = "\n".join([first, line, *rest, ""])
    path.write_text(damaged)
    with pytest.raises(ArgumentError, match="is no tuning journal"):
        search(resume=True)
    assert path.read_text() == damaged


@pytest.mark.parametrize("resume", [True, False])
def test_two_searches_do_not_write_one_journal(search, tmp_path, resume):
    search()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()

    class Meanwhile(Counting):
        def submit(self, number, unit):
            before = path.read_bytes()
            with pytest.raises(ArgumentError, match="E0503") as told:
                search(resume=resume)
            assert f"another process is writing {path}" in told.value.summary
            assert path.read_bytes() == before
            super().submit(number, unit)

    search(Meanwhile())
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    search(resume=True)


def test_there_has_to_be_one(search):
    with pytest.raises(ArgumentError, match="there is nothing to resume"):
        search(resume=True)


def test_where_it_cannot_be_written_is_told(search, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="E0503") as told:
        search(journal=tmp_path / "file" / "journal.jsonl")
    assert "cannot write" in told.value.summary
