"""The fixture that guards cycles fails what has become slower, faster, or another machine's, and blesses on demand."""

import json

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from mlutriton.testing.cycles import Cycles

pytest_plugins = ["pytester"]

GUARDED = """
import numpy as np
import mlutriton as mlu
import mlutriton.language as tl


@mlu.jit
def double(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, 2 * tl.load(place))


def launch(programs):
    return double[(programs,)](np.ones(1 << 20, np.float32), BLOCK=1024)


def test_small(cycles):
    cycles.check(launch(4))


def test_large(cycles):
    cycles.check(launch(64), "first")
    cycles.check(launch({again}), "second", tolerance=0.5)
"""

PLUGIN = ("-p", "mlutriton.testing.cycles", "-p", "no:cacheprovider")


@mlu.jit
def double(x, BLOCK: tl.constexpr):
    place = x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(place, 2 * tl.load(place))


@pytest.fixture
def run():
    return double[(4,)](np.ones(4096, np.float32), BLOCK=1024)


@pytest.fixture
def guard(tmp_path):
    return lambda bless=False, tolerance=0.01: Cycles(tmp_path / "cycles.json", "test.py::test", tolerance, bless)


def edited(tmp_path, **changes):
    path = tmp_path / "cycles.json"
    known = json.loads(path.read_text())
    known["test.py::test"]["double (4, 1, 1)"] |= changes
    path.write_text(json.dumps(known))


def test_what_is_blessed_passes(guard, run):
    guard(bless=True).check(run)
    guard().check(run)


def test_what_is_not_known_fails(guard, run):
    with pytest.raises(AssertionError, match=r"nothing is known of it; it takes [\d,]+ cycles on mlu590-m9"):
        guard().check(run)


@pytest.mark.parametrize(("factor", "word"), [(0.9, "slower"), (1.1, "faster")])
def test_a_change_beyond_the_tolerance_fails_and_one_within_passes(guard, run, tmp_path, factor, word):
    guard(bless=True).check(run)
    edited(tmp_path, cycles=round(run.cycles * factor))
    with pytest.raises(AssertionError, match=rf"% {word} than .*; the tolerance is 1.0%\n.*--bless-cycles"):
        guard().check(run)
    guard().check(run, tolerance=0.2)
    guard(tolerance=0.2).check(run)


def test_another_machine_is_no_comparison(guard, run):
    guard(bless=True).check(run)
    other = run.what_if(run.machine.replace(name="mine", dram_gb_per_s=100.0))
    with pytest.raises(AssertionError, match="measured on mlu590-m9, and the machine is mine"):
        guard().check(other)


def test_each_launch_of_a_test_has_a_name_of_its_own(guard, run):
    cycles = guard(bless=True)
    cycles.check(run)
    cycles.check(run, "again")
    with pytest.raises(ValueError, match="has checked 'again' already"):
        cycles.check(run, "again")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', "3"])
def test_a_file_that_is_none_is_named(guard, run, tmp_path, text):
    (tmp_path / "cycles.json").write_text(text)
    with pytest.raises(AssertionError, match=r"cycles\.json cannot be read"):
        guard().check(run)


@pytest.mark.parametrize("cycles", [None, 0, -3, "many"])
def test_an_entry_that_is_none_is_named(guard, run, tmp_path, cycles):
    guard(bless=True).check(run)
    edited(tmp_path, cycles=cycles)
    with pytest.raises(AssertionError, match="the file says"):
        guard().check(run)


def test_a_session_is_guarded_from_end_to_end(pytester):
    test = pytester.makepyfile(GUARDED.format(again=64))
    pytester.runpytest_subprocess(*PLUGIN, "--bless-cycles", "-n", "2").assert_outcomes(passed=2)
    known = json.loads((pytester.path / "cycles.json").read_text())
    assert {name: sorted(entries) for name, entries in known.items()} == {
        f"{test.name}::test_small": ["double (4, 1, 1)"],
        f"{test.name}::test_large": ["first", "second"],
    }
    assert sorted(path.name for path in pytester.path.glob("*cycles*")) == ["cycles.json"]
    test.write_text(GUARDED.format(again=1024))
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: second: *% slower than *; the tolerance is 50.0%"])
