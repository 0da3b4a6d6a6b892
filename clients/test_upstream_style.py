"""The pytest plug-in on tests that know nothing of this package; ``upstream_style/`` has them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent / "upstream_style"


def test_tests_of_tritons_style_pass(tmp_path):
    # In a directory that has no configuration of ours, and in an environment without our choices.
    shutil.copytree(TESTS, tmp_path / "tests")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MLUTRITON_T"))}
    command = [sys.executable, "-m", "pytest", "-p", "mlutriton.testing.pytest_plugin", "-n", "2", "tests/language.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "mlutriton: simulated mlu590-m9" in ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) >= 80
