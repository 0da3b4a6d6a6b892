from typing import Any

runtime: Any
compilation: Any
