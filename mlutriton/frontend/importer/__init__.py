"""Import of a TTIR module into the tile IR: each operation by its rule, all rules in one table."""

from __future__ import annotations

from collections.abc import Sequence

from mlutriton.dtypes import I1
from mlutriton.frontend.importer import arithmetic, blocks, control, functions, memory, products, tensors
from mlutriton.frontend.importer.translation import TERMINATORS, Rule, TensorHandle, Translation
from mlutriton.frontend.ttir.text import TensorDescriptorType
from mlutriton.frontend.ttir.tree import Argument, TtirModule
from mlutriton.ir.core import Block, Function, Value
from mlutriton.ir.ops import Return
from mlutriton.ir.types import PointerType, Type

_TABLES = (
    arithmetic.RULES,
    tensors.RULES,
    products.RULES,
    memory.RULES,
    blocks.RULES,
    control.RULES,
    functions.RULES,
)

RULES: dict[str, Rule] = {name: rule for table in _TABLES for name, rule in table.items()}
"""How each operation is imported, by its name. Terminators have no rule: the operation around them reads them."""

assert len(RULES) == sum(map(len, _TABLES)), "an operation has two rules"
assert RULES.keys().isdisjoint(TERMINATORS), "a terminator has a rule"


def import_ttir(module: TtirModule) -> Function:
    """Imports the kernel of a module, with the functions that it calls in place of the calls.

    The parameters are those of the kernel, in order; a tensor descriptor is a pointer to its base, and behind its
    extents and strides stands an ``i1``: whether it pads with NaN.

    Raises:
        CompileError: E0201, an operation is not supported, or a function calls itself.
    """
    kernel = module.kernel
    body = Block()
    translation = Translation(RULES, {function.name: function for function in module.functions}, body)
    translation.builder.location = kernel.location.location
    attributes = _Parameters(translation, body).declare(kernel.arguments)
    translation.active_calls.append(kernel.name)
    control.import_body(translation, kernel.body)
    translation.add(Return())
    return Function(kernel.name, body, attributes, kernel.location.location)


class _Parameters:
    """Turns a kernel's parameters into the arguments of its body."""

    def __init__(self, translation: Translation, body: Block) -> None:
        self.translation = translation
        self.body = body
        self.attributes: list[dict[str, int]] = []

    def declare(self, arguments: Sequence[Argument]) -> list[dict[str, int]]:
        """Appends a block argument for each parameter; the facts known of each."""
        rest = iter(arguments)
        for argument in rest:
            if isinstance(argument.type, TensorDescriptorType):
                rank = len(argument.type.block.shape)
                self._declare_descriptor(argument, argument.type, [next(rest) for _ in range(2 * rank)])
            else:
                self._declare(argument, self.translation.type(argument.type))
        return self.attributes

    def _declare_descriptor(
        self, argument: Argument, type: TensorDescriptorType, extents_and_strides: Sequence[Argument]
    ) -> None:
        element = type.block.element
        assert not isinstance(element, PointerType)
        base = self._append(argument.name, PointerType(element), _facts(argument))
        geometry = [self._declare(part, self.translation.type(part.type)) for part in extents_and_strides]
        pads_with_nan = self._append(f"{argument.name}.pads_with_nan", I1, {})
        self.translation.bind([argument.value], [TensorHandle(type, (base, *geometry, pads_with_nan))])

    def _declare(self, argument: Argument, type: Type) -> Value:
        value = self._append(argument.name, type, _facts(argument))
        self.translation.bind([argument.value], [value])
        return value

    def _append(self, name: str, type: Type, facts: dict[str, int]) -> Value:
        value = Value(type, self.body, len(self.body.arguments), name)
        self.body.arguments.append(value)
        self.attributes.append(facts)
        return value


def _facts(argument: Argument) -> dict[str, int]:
    return {name.removeprefix("tt."): value for name, value in argument.attributes.items() if isinstance(value, int)}
