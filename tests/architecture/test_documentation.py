"""Generated pages are what the code would write today."""

import subprocess
import sys


def test_generated_pages_are_fresh(repository):
    command = [sys.executable, "docs/generate.py", "--check"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
