"""The record behind the page of compatibility: whole, without a wrong value, and what happens today."""

import pytest


@pytest.fixture(scope="module")
def compatibility(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "docs")
        import compatibility
    return compatibility


def test_every_release_has_an_outcome_of_everything(compatibility):
    record = compatibility.recorded()
    assert list(record) == ["3.7", "3.8", "3.9"]
    for row in compatibility.ROWS:
        for dtype in row.dtypes:
            assert len(compatibility.outcomes_of(row, dtype, record)) == len(record)


def test_nothing_is_wrong(compatibility):
    outcomes = {name for entry in compatibility.recorded().values() for outcomes in entry.values() for name in outcomes}
    assert outcomes == {compatibility.RIGHT, compatibility.REFUSED}


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
def test_the_record_says_what_happens(compatibility):
    """One element type of each row, another in each row."""
    sample = [(row, row.dtypes[number % len(row.dtypes)]) for number, row in enumerate(compatibility.ROWS)]
    today = {(row.label, dtype): compatibility.outcome(row, dtype) for row, dtype in sample}
    record = compatibility.recorded()
    installed = {compatibility.installed(): record[compatibility.installed()]}
    expected = {
        (row.label, dtype): compatibility.outcomes_of(row, dtype, installed)[compatibility.installed()]
        for row, dtype in sample
    }
    assert today == expected, "run: make compatibility"
