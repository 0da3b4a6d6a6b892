from collections.abc import Callable
from typing import Any

triton_key: Callable[[], str]

class Autotuner:
    pre_hook: Any
    post_hook: Any
