"""Import of functions of NVIDIA's device library: each becomes the element-wise operations that it is written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from mlutriton.arithmetic.library import LIBRARY
from mlutriton.dtypes import DType
from mlutriton.frontend.importer.translation import Imported, Translation, text
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Value
from mlutriton.ir.types import shape_of, with_shape

_PREFIX = "__nv_"


class TranslationPrimitives:
    """The primitives of the library's functions over values of a shape."""

    def __init__(self, translation: Translation, shape: tuple[int, ...]) -> None:
        self._translation = translation
        self._shape = shape

    def constant(self, value: float, dtype: DType) -> Value:
        """Return a constant of the shape."""
        return self._translation.constant(value, with_shape(self._shape, dtype))

    def apply(self, name: str, *operands: Value, dtype: DType, to: DType | None = None) -> Value:
        """Append an operation."""
        return self._translation.elementwise(name, *operands, to=to)

    def scaled(self, a: Value, exponent: Callable[[], Value], dtype: DType) -> None:
        """Leave it to two products: the tile IR has no operation for it."""

    def when_any(
        self, mask: Value, rare: Callable[[], tuple[Value, ...]], usual: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        """Append both and a selection: element-wise code has no branches."""
        pairs = zip(rare(), usual, strict=True)
        return tuple(self._translation.elementwise("select", mask, *pair) for pair in pairs)


def external_function(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """Import ``tt.extern_elementwise``.

    Raises:
        CompileError: E0201, the library has no function of that symbol.
    """
    symbol = text(operation, "symbol")
    function = LIBRARY.get(symbol)
    if function is None:
        known = [name.removeprefix(_PREFIX) for name in LIBRARY]
        close = get_close_matches(symbol.removeprefix(_PREFIX), known)
        raise translation.refusal(
            f"the library function {symbol} is not supported",
            note="functions are those of libdevice, NVIDIA's device library",
            help="did you mean " + " or ".join(close) + "?" if close else "write it with operations of tl",
        )
    inputs = _same_shape(translation, translation.values(operation.operands))
    return (function(TranslationPrimitives(translation, shape_of(inputs[0].type)), *inputs),)


def _same_shape(translation: Translation, values: list[Value]) -> list[Value]:
    shape = max((shape_of(value.type) for value in values), key=len)
    return [value if shape_of(value.type) else translation.splat(value, shape) for value in values]
