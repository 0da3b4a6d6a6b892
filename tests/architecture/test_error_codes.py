"""Every error code that is listed can happen."""

import ast
import re

from mlutriton.diagnostics import CODES


def test_every_code_is_raised_somewhere(repository):
    package = repository / "mlutriton"
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in package.rglob("*.py")}
    diagnostics = trees.pop(package / "diagnostics.py")
    raised = {code for tree in trees.values() for call in calls(tree) for code in codes_passed(call)}
    called = {name_called(call) for tree in trees.values() for call in calls(tree)}
    # A class that fixes its own code raises it wherever it is made.
    for definition in diagnostics.body:
        if isinstance(definition, ast.ClassDef) and definition.name in called:
            raised |= {code for call in calls(definition) for code in codes_passed(call)}
    assert raised == set(CODES)


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def codes_passed(call):
    values = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    return [value for value in values if isinstance(value, str) and re.fullmatch(r"E\d{4}", value)]


def name_called(call):
    return getattr(call.func, "id", getattr(call.func, "attr", ""))
