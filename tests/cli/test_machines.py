"""Machines are listed, shown, compared and validated from the command line."""

import pytest
from typer.testing import CliRunner

import mlutriton as mlu
from mlutriton.cli.main import app
from mlutriton.isa.machine import PARAMETERS


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # workers of xdist are given 80

    def invoke(*arguments, status=0):
        result = CliRunner().invoke(app, ["machines", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    return invoke


def test_every_preset_is_listed(command):
    output = command("list")
    assert [name for name in mlu.machines() if name not in output] == []
    assert "mlu590-m9 (default)" in output


def test_every_value_is_shown_with_its_source(command):
    output = command("show", "mlu370-x4")
    rows = {line.split()[0]: line for line in output.splitlines() if line}
    for name in PARAMETERS:
        origin = mlu.machine("mlu370-x4").provenance(name)
        assert origin.confidence in rows[name]
        assert origin.source[:30] in rows[name]
    assert "LABS" in rows


def test_a_machine_is_shown_as_a_file(command, tmp_path):
    (tmp_path / "copy.toml").write_text(command("show", "mlu290", "--toml"))
    assert mlu.machine("copy.toml") == mlu.machine("mlu290")


def test_what_differs_is_compared(command, tmp_path):
    output = command("compare", "mlu590-h8", "mlu590-m9", "--html", "m.html")
    assert "clock_mhz" in output
    assert "nram_bytes" not in output
    assert "nram_bytes" in command("compare", "mlu590-h8", "mlu590-m9", "--all")
    page = (tmp_path / "m.html").read_text()
    assert page.count("<svg") == 2
    assert "exists" in command("compare", "mlu580", "mlu290", "--html", "m.html", status=2)
    assert (tmp_path / "m.html").read_text() == page


def test_a_comparison_takes_two(command):
    assert "two machines or more" in command("compare", "mlu580", status=2)
    assert "error[E0105]" in command("compare", "mlu580", "mlu999", status=2)


MINE = """name = "mine"
extends = "mlu590-m9"
clusters = { value = 8, confidence = "assumed", source = "two thirds of a board" }
"""


def test_a_file_is_validated_and_its_differences_told(command, tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    output = command("validate", "mine.toml")
    assert "mine.toml is a machine: mine, 32 cores" in output
    assert "that of a preset" not in output
    (tmp_path / "same.toml").write_text(MINE.replace("mine", "mlu580"))
    assert "Its name is that of a preset" in command("validate", "same.toml")
    assert "differs from mlu590-m9, the preset that is closest, in 1 of" in output
    assert "two thirds of a board" in output
    (tmp_path / "same.toml").write_text('name = "same"\nextends = "mlu220"\n')
    assert "behaves like mlu220" in command("validate", "same.toml")


def test_a_file_that_is_no_machine_is_named_with_the_line(command, tmp_path):
    (tmp_path / "mine.toml").write_text(MINE + "dram_gb = 3\n")
    output = command("validate", "mine.toml", status=2)
    assert "error[E0106]" in output
    assert "mine.toml:4" in output
    assert "error[E0105]" in command("validate", "none.toml", status=2)
