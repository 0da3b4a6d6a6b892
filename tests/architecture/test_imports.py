"""The import contracts of pyproject.toml hold, and nothing goes around them."""

import ast

import pytest
from importlinter.cli import lint_imports

IMPORTING = {"import_module", "__import__"}


def test_import_contracts_hold(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_no_import_is_hidden_in_a_call(repository):
    """A contract sees import statements, function-local ones too, but not modules named by a string."""
    texts = {file: file.read_text(encoding="utf-8") for file in sorted((repository / "mlutriton").rglob("*.py"))}
    hidden = [
        f"{file.relative_to(repository)}:{node.lineno}"
        for file, text in texts.items()
        if any(name in text for name in IMPORTING)  # parsing all of them would take seconds
        for node in ast.walk(ast.parse(text))
        if is_hidden_import(node)
    ]
    assert not hidden


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("importlib.import_module('a')", True),
        ("import_module('a')", True),
        ("__import__('a')", True),
        ("import a", False),
        ("importlib.resources.files('a')", False),
    ],
)
def test_hidden_imports_are_recognised(source, expected):
    assert any(is_hidden_import(node) for node in ast.walk(ast.parse(source))) == expected


def is_hidden_import(node):
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name in IMPORTING
    return False
