"""Every error code that is listed can happen."""

import ast
import re

from mlutriton.diagnostics import CODES


def test_every_code_is_raised_somewhere(repository):
    package = repository / "mlutriton"
    texts = {file: file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    diagnostics = ast.parse(texts.pop(package / "diagnostics.py"))
    classes = [each.name for each in diagnostics.body if isinstance(each, ast.ClassDef)]
    named = re.compile("|".join([r"E\d{4}", *classes]))  # to parse the other files as well would take seconds
    made = [call for text in texts.values() if named.search(text) for call in calls(ast.parse(text))]
    raised = {code for call in made for code in codes_passed(call)}
    called = {name_called(call) for call in made}
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
