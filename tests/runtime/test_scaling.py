"""The page of how cycles and the cost of simulating grow: what it draws is what is measured."""

import re
from dataclasses import replace

import pytest

import mlutriton as mlu
from benchmarks import scaling


@pytest.fixture
def small(monkeypatch):
    """Every kernel at small sizes."""
    families = tuple(replace(each, sizes=each.sizes[:2], usual=each.sizes[-4]) for each in scaling.FAMILIES)
    monkeypatch.setattr(scaling, "FAMILIES", families)
    monkeypatch.setattr(scaling, "CORES", (1, 2, 16))


def test_more_cores_are_never_slower(small):
    before = mlu.current_machine()
    for family in scaling.FAMILIES:
        cycles = [cycles for _, cycles in scaling.over_cores(family)]
        assert cycles == sorted(cycles, reverse=True)
        assert cycles[0] > cycles[-1]
    assert mlu.current_machine() is before


def test_more_bandwidth_is_never_slower(small):
    for family in scaling.FAMILIES:
        cycles = [cycles for _, cycles in scaling.over_bandwidth(family)]
        assert cycles == sorted(cycles, reverse=True)


def test_the_power_of_growth_is_found():
    assert scaling.exponent([(10.0**power, 3 * 10.0**power) for power in range(5)]) == pytest.approx(1)
    # The first points, where something fixed prevails, do not count.
    assert scaling.exponent([(1, 1), (10, 1), (100, 1), (1000, 100), (10000, 10000)]) == pytest.approx(2)


def test_a_page_shows_every_picture(small, tmp_path):
    scaling.main(tmp_path, most_programs=30_000)
    page = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\((images/.*?)\)", page)
    assert len(pictures) == 4
    for picture in pictures:
        text = (tmp_path / picture).read_text(encoding="utf-8")
        assert text.startswith("<svg")
        assert len(text) < 150_000
    assert "![Simulated cycles over cores]" in page


def test_equal_cycles_are_equal_pictures(small):
    assert scaling.cores_section() == scaling.cores_section()
