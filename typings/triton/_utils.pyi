from collections.abc import Callable

is_power_of_two: Callable[[int], bool]
