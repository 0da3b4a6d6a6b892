"""The committed manual is what the table says, and names every instruction."""

from mlutriton.isa.manual import render
from mlutriton.isa.table import TABLE


def test_the_committed_manual_is_current(repository):
    committed = (repository / "docs/reference/isa.md").read_text(encoding="utf-8")
    assert committed == render(), "run 'make docs'"


def test_every_instruction_has_an_entry():
    text = render()
    missing = [name for name in TABLE if f"`{name}`" not in text and f"`{name}." not in text]
    assert not missing
