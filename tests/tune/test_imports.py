"""What a file imports from its own directory goes with it, and nothing else."""

import os
import sys

import pytest

from mlutriton.kernel_file import load_module
from mlutriton.tune import LocalEngine, tune
from mlutriton.tune.imports import imported_files
from mlutriton.tune.source import SourceFile

PACKAGE = ["package/__init__", "package/given", "package/deep/below"]


@pytest.fixture
def directory(tmp_path):
    texts = {
        "beside.py": "import numpy, further\nif False:\n    import cycle",
        "further.py": "def late():\n    from package import inner, absent",
        "cycle.py": "import beside",
        "unused.py": "",
        "package/__init__.py": "from . import given",
        "package/given.py": "from .deep.below import *",
        "package/inner.py": "",
        "package/unused.py": "",
        "package/deep/below.py": "",  # in a directory without __init__.py
        "mlutriton/__init__.py": "",
        "broken.py": "import (",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import numpy\nimport os.path", []),
        ("import beside", ["beside", "cycle", "further", *PACKAGE, "package/inner"]),
        ("import unused as other", ["unused"]),
        ("import package.inner", [*PACKAGE, "package/inner"]),
        ("from package.deep import below", PACKAGE),
        ("import mlutriton.language as tl", []),
        ("import broken, binary, absent", ["broken"]),
        ("this is no Python", []),
    ],
)
def test_files(directory, text, names):
    found = imported_files(directory, text)
    assert set(found) == {f"{name}.py" for name in names}
    assert all(found[name] == (directory / name).read_text() for name in found)


def test_a_change_of_a_neighbour_is_another_file(directory):
    (directory / "kernel.py").write_text("import unused")
    before = SourceFile.at(directory / "kernel.py")
    assert SourceFile.at(directory / "kernel.py") == before
    (directory / "unused.py").write_text("x = 1")
    assert SourceFile.at(directory / "kernel.py").digest != before.digest


def test_a_search_uses_the_neighbour_as_it_is_now(tmp_path, monkeypatch):
    """Also in a process that has searched with an earlier text of it, as long and of the same second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "kernel.py").write_text(
        "import mlutriton as mlu\nimport mlutriton.language as tl\nfrom repeats_of_kernel import REPEATS\n"
        "@mlu.jit\ndef fill(out, BLOCK: tl.constexpr, REPEATS: tl.constexpr):\n"
        "    for part in range(REPEATS):\n        tl.store(out + part * BLOCK + tl.arange(0, BLOCK), 1.0)\n"
        "def launch_fill():\n    return (1,), {'out': mlu.spec((4096 * REPEATS,), 'float32'), 'REPEATS': REPEATS}\n"
    )
    cycles = []
    for repeats in (1, 9):
        (tmp_path / "repeats_of_kernel.py").write_text(f"REPEATS = {repeats}")
        os.utime(tmp_path / "repeats_of_kernel.py", (1, 1))
        [result] = tune(f"{tmp_path}/kernel.py::fill", space={"BLOCK": [4096]}, engine=LocalEngine(1)).results
        cycles.append(result.best.cycles)
    assert cycles[0] < cycles[1]


def test_a_file_is_run_as_it_is_now(tmp_path, monkeypatch):
    """Also if an earlier text of it was as long, and of the same second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in (1, 9):
        (tmp_path / "kernel.py").write_text(f"number = {number}")
        os.utime(tmp_path / "kernel.py", (1, 1))
        assert load_module(tmp_path / "kernel.py").number == number
    assert not (tmp_path / "__pycache__").exists()
