from collections.abc import Callable

triton_key: Callable[[], str]
