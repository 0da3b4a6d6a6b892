"""Properties that are found once and then are attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

_Value = TypeVar("_Value")


class remembered(Generic[_Value]):  # noqa: N801 - it is written like ``property``
    """A property that is found when it is first asked for.

    Like ``functools.cached_property``, which up to Python 3.11 takes a lock and with it five times as long to find what
    is mostly asked once: two threads may find the value at the same time, so it is for what is the same every time.
    """

    def __init__(self, find: Callable[[Any], _Value]) -> None:
        self._find = find
        self._name = find.__name__
        self.__doc__ = find.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _Value: ...
    def __get__(self, instance: object | None, owner: type) -> Self | _Value:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._find(instance)
        return value
