"""``mlutriton tune`` as a user meets it: what is typed, what is shown and written, and what each mistake is told."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mlutriton as mlu
from mlutriton.cli.main import app
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME

KERNELS = """
import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
import triton


@mlu.jit
def scale(out, x, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch_scale(n, BLOCK, dtype="float32", PAD=1):
    arrays = {name: mlu.spec((n * PAD,), dtype) for name in ("out", "x")}
    return (triton.cdiv(n, BLOCK),), {**arrays, "n": n}


def reference_scale(x, **_):
    return {"out": FACTOR * x}


FACTOR = 2
SPACE = {"BLOCK": [64, 256]}


def few():
    return [{"BLOCK": 64}]
"""
SEARCH = ("--space", "BLOCK=64..1024:x2", "num_stages=1..2", "--shape", "n=100000", "--workers", "1")


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("scaling.py").write_text(KERNELS)
    mlu.set_machine(DEFAULT_MACHINE_NAME)
    yield tmp_path
    mlu.set_machine(DEFAULT_MACHINE_NAME)


def run(*words, code=0):
    result = CliRunner().invoke(app, ["tune", *words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_search_shows_and_writes_what_it_found(directory):
    output = run("scaling.py::scale", *SEARCH)
    results = json.loads(Path("tune-scale/results.json").read_text())
    [shape] = results["shapes"]
    assert len(shape["trials"]) == 10
    best = shape["best"]["configuration"]
    assert f"{shape['best']['cycles']:,}" in output
    assert "10 configurations: " in output
    assert f"triton.Config({{'BLOCK': {best['BLOCK']}}}, num_stages={best['num_stages']})" in output
    written = {path.name for path in Path("tune-scale").iterdir()}
    assert written == {"configs.py", "journal.jsonl", "plot-0.png", "results.csv", "results.json", "tuned.json"}
    assert "\x1b" not in output  # no terminal, no colours
    rows = list(csv.DictReader(Path("tune-scale/results.csv").read_text().splitlines()))
    assert {row["n"] for row in rows} == {"100000"}


def test_json_goes_alone_to_the_output(directory):
    output = run("scaling.py", *SEARCH, "--json", "--verify")
    start = output.index("{")
    figures, _ = json.JSONDecoder().raw_decode(output[start:])
    assert start == 0
    assert figures == json.loads(Path("tune-scale/results.json").read_text()) | {
        "host_seconds": figures["host_seconds"]
    }


@pytest.mark.parametrize(
    "shapes",
    [
        ("--shape", "n=5000", "dtype=fp16", "--shape", "n=100"),
        ("--shape", "n=5000 dtype=fp16", "--shape", "n=100"),
        ("--shape", '[{"n": 5000, "dtype": "fp16"}, {"n": 100}]'),
        ("--shape", "shapes.json"),
    ],
)
def test_shapes(directory, shapes):
    Path("shapes.json").write_text('[{"n": 5000, "dtype": "fp16"}, {"n": 100}]')
    run("scaling.py::scale", "--space", "BLOCK=64,256", *shapes, "--workers", "1")
    results = json.loads(Path("tune-scale/results.json").read_text())
    assert [shape["shape"] for shape in results["shapes"]] == [{"n": 5000, "dtype": "fp16"}, {"n": 100}]
    assert Path("tune-scale/plot-1.png").is_file()


@pytest.mark.parametrize(
    ("space", "trials"),
    [
        (("BLOCK=64,256", "PAD=1..3", "--where", "BLOCK * PAD < 700"), 5),
        (("scaling.py",), 2),
        (("scaling.py::few",), 1),
    ],
)
def test_spaces(directory, space, trials):
    output = run("scaling.py::scale", "--space", *space, "--shape", "n=5000", "--workers", "1")
    assert f"{trials} configurations: " in output


def test_expressions_in_the_place_of_a_function(directory):
    arguments = ("--arguments", "x=dtype:n", "out=dtype:n", "--grid", "cdiv(n, BLOCK)")
    run("scaling.py::scale", "--space", "BLOCK=64,256", *arguments, "--shape", "n=5000", "dtype=bf16", "--workers", "1")
    [entry] = json.loads(Path("tune-scale/tuned.json").read_text())["entries"]
    assert entry["arguments"] == {"out": ["bfloat16", 5000], "x": ["bfloat16", 5000], "n": 5000}


def test_a_machine_is_chosen(directory):
    output = run("scaling.py::scale", *SEARCH, "--machine", "mlu370-x4")
    assert "simulated on mlu370-x4" in output


def test_winners_are_verified(directory):
    assert "equals the reference" in run("scaling.py::scale", *SEARCH, "--verify")
    Path("scaling.py").write_text(KERNELS.replace("FACTOR = 2", "FACTOR = 3"))
    output = run("scaling.py::scale", *SEARCH, "--verify", "--verify-shape", "n=100", "--force", code=1)
    assert "on n=100: differs from the reference" in output
    assert "out: 100 elements differ" in output


def test_nothing_that_works_is_a_failure_with_its_reason(directory):
    output = run("scaling.py::scale", "--space", "BLOCK=2097152,4194304", "--shape", "n=1000", "--workers", "1", code=1)
    assert output.count("1 failed: ") == 2
    assert "exceeds triton maximum" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.py::scale",), "cannot read none.py: No such file or directory"),
        (("scaling.py::scal", *SEARCH), "did you mean|name it: scaling.py::scale"),
        (("scaling.py::scale", "--shape", "n=3"), "add --space BLOCK=64..1024:x2"),
        (("scaling.py::scale", "--space", "BLOCK"), "cannot read BLOCK"),
        (("scaling.py::scale", "--space", "BLOK=64", "--shape", "n=3"), "did you mean BLOCK?"),
        (("scaling.py::scale", "--space", "BLOCK=9..1", "--shape", "n=3"), "the range 9..1 is empty"),
        (("scaling.py::scale", "--space", "BLOCK=64", "--shape", "m=3"), "m of the shape is no parameter"),
        (("scaling.py::scale", "--space", "BLOCK=64", "--shape", "[3]"), "--shape is no list of objects"),
        (("scaling.py::scale", "--space", "BLOCK=64", "--shape", "none.json"), "cannot read none.json"),
        (("scaling.py::scale", "--space", "BLOCK=64"), "launch_scale needs n"),
        (("scaling.py::scale", "--where", "BLOCK < 3", "--shape", "n=3"), "--where needs a --space"),
        (("scaling.py::scale", *SEARCH, "--launch", "launch_none"), "has no function launch_none"),
        (("scaling.py::scale", *SEARCH, "--search", "none"), "type one of: exhaustive, random, model"),
        (("scaling.py::scale", *SEARCH, "--search", "model"), "add --trials 200"),
        (("scaling.py::scale", *SEARCH, "--engine", "spark"), "type local, or dask://HOST:PORT"),
        (("scaling.py::scale", *SEARCH, "--machine", "none"), "E0105"),
        (("scaling.py::scale", *SEARCH, "--resume"), "leave out --resume"),
        (("scaling.py::scale", *SEARCH, "--resume", "--force"), "leave one out"),
        (("scaling.py::scale", *SEARCH, "--output", "scaling.py"), "cannot write scaling.py/journal.jsonl"),
        (("scaling.py::scale", *SEARCH, "--seed", "-1"), "Invalid value"),
        (("scaling.py::scale", *SEARCH, "--grid", "open('x')"), "is no arithmetic"),
    ],
)
def test_mistakes_are_told(directory, words, message):
    output = run(*words, code=2)
    assert re.search(message.replace("?", r"\?"), output) or message in output, output
    assert not Path("tune-scale").exists()


def test_an_earlier_search_is_not_replaced_unasked(directory):
    run("scaling.py::scale", *SEARCH)
    before = {path.name: path.read_bytes() for path in Path("tune-scale").iterdir()}
    assert "add --resume" in run("scaling.py::scale", *SEARCH, code=2)
    assert "another search: seed differ" in run("scaling.py::scale", *SEARCH, "--seed", "1", "--resume", code=2)
    assert before == {path.name: path.read_bytes() for path in Path("tune-scale").iterdir()}
    run("scaling.py::scale", *SEARCH, "--resume")
    run("scaling.py::scale", *SEARCH, "--seed", "1", "--force")
    assert json.loads(Path("tune-scale/results.json").read_text())["seed"] == 1


def test_a_missing_plot_is_said_and_the_rest_is_there(directory, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    output = run("scaling.py::scale", *SEARCH)
    assert "no plot: a plot needs matplotlib" in output
    assert "pip install 'mlutriton[tune]'" in output
    assert Path("tune-scale/tuned.json").is_file()


def test_the_help_has_examples_and_exit_codes():
    output = CliRunner().invoke(app, ["tune", "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    assert "Example: mlutriton tune softmax.py::softmax" in output
    assert "Exit codes: 0 found; 1 " in output


SLOW = ("--space", "BLOCK=16..1024:x2", "num_stages=1..3", "PAD=1..20", "--shape", "n=1000000", "--workers", "2")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_is_ended_goes_on(directory, end):
    """Ctrl-C and a crash: workers end too, the journal has what was found, and the same comes out in the end."""
    command = [sys.executable, "-W", "ignore", "-m", "mlutriton.cli.main", "tune", "scaling.py::scale", *SLOW]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    journal = Path("tune-scale/journal.jsonl")
    wait_until(lambda: journal.is_file() and journal.read_text().count("\n") > 40)
    workers = children(started.pid)
    assert len(workers) == 2
    if end == signal.SIGINT:
        os.killpg(started.pid, end)  # as a terminal does: to the workers as well
    else:
        started.send_signal(end)
    _, errors = started.communicate(timeout=300)
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    if end == signal.SIGINT:
        assert started.returncode == 130
        assert "Traceback" not in errors
        assert "best so far for n=1000000: " in errors
        assert "mlutriton tune scaling.py::scale" in errors
        assert "--resume" in errors
    known = set(journal.read_text().splitlines()[1:])
    assert not Path("tune-scale/results.json").exists()
    run("scaling.py::scale", *SLOW, "--resume")
    resumed = json.loads(Path("tune-scale/results.json").read_text())
    lines = journal.read_text().splitlines()[1:]
    assert len(lines) == len(set(lines)) == 7 * 3 * 20
    assert len(known & set(lines)) >= len(known) - 1
    run("scaling.py::scale", *SLOW, "--output", "whole")
    whole = json.loads(Path("whole/results.json").read_text())
    assert whole["shapes"] == resumed["shapes"]


def wait_until(holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
