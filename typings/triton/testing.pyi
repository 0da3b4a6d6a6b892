from typing import Any

do_bench: Any
