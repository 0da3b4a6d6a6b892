from typing import Any

runtime: Any
compilation: Any
cache: Any
language: Any
