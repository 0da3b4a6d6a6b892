"""``mlutriton check``: what it prints, and how it ends."""

import pytest
from typer.testing import CliRunner

from mlutriton.cli.main import app

SCRIPT = """
import os
import sys

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def sums(out, x, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * BLOCK + column)
    {add}


os.chdir("/")
x = np.ones((4, 32), np.float32)
sums[(4,)](np.zeros(32, np.float32), x, BLOCK=32)
sys.exit(int(sys.argv[1]))
"""
RACE = "tl.store(out + column, tl.load(out + column) + row)"
ATOMIC = "tl.atomic_add(out + column, row)"


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks a script that adds up rows in one way or another; returns the outcome."""
    monkeypatch.chdir(tmp_path)

    def check(add, *arguments):
        (tmp_path / "sums.py").write_text(SCRIPT.format(add=add), encoding="utf-8")
        return CliRunner().invoke(app, ["check", *arguments])

    return check


def test_a_finding_names_both_lines_and_fails(check):
    outcome = check(RACE, "sums.py", "0")
    assert outcome.exit_code == 1
    lines = outcome.stdout.splitlines()
    assert lines[0] == "race: a program reads element 0 of out, which another one wrote"
    assert lines[1].startswith("  --> sums.py:15:")
    assert lines[2].startswith("  note: program (0, 0, 0) wrote it at sums.py:15:")
    assert lines[-1] == "1 launch checked, 1 found"


@pytest.mark.parametrize("status", [0, 3])
def test_without_a_finding_it_ends_as_the_script_does(check, status):
    outcome = check(ATOMIC, "sums.py", str(status))
    assert outcome.exit_code == status
    assert outcome.stdout == "1 launch checked, nothing found\n"


def test_a_script_that_fails_is_shown_with_what_was_found(check):
    outcome = check(RACE, "sums.py")
    assert outcome.exit_code == 1
    assert "IndexError" in outcome.stderr
    assert "1 launch checked, 1 found" in outcome.stdout


def test_wrong_command_lines(check):
    assert check(ATOMIC, "nothing.py").exit_code == 2
    assert check(ATOMIC, "-m", "nothing_of_that_name").exit_code == 2
    assert check(ATOMIC, "--launches", "0", "sums.py").exit_code == 2
    assert check(ATOMIC, "--machine", "mlu9000", "sums.py", "0").exit_code == 2
