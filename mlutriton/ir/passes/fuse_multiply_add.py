"""Contraction: a product that is only added becomes one fused multiply-add, as Triton's floating-point fusion permits.

Laws: ``a * b + c -> fma(a, b, c)``, ``a * b - c -> fma(a, b, -c)`` and ``c - a * b -> fma(-a, b, c)`` only round less;
signs, infinities and NaN are those of the two operations, since negation is exact.
"""

from __future__ import annotations

from mlutriton.dtypes import BF16, F16, F32, F64
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses, use_counts
from mlutriton.ir.ops import Elementwise
from mlutriton.ir.types import element_type


def run(function: Function) -> None:
    """Contract every product with a single use."""
    uses = use_counts(function.body)
    _block(function.body, uses)


def _block(block: Block, uses: dict[Value, int]) -> None:
    replaced: dict[Value, Value] = {}
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _block(region, uses)
        made = _contract(operation, uses) if isinstance(operation, Elementwise) else []
        if made:
            made[-1].result.name = operation.result.name
            replaced[operation.result] = made[-1].result
            rewritten += made
        else:
            rewritten.append(operation)
    block.operations = rewritten
    # A replaced sum may itself be an operand of a later fused one.
    for old in list(replaced):
        while replaced[old] in replaced:
            replaced[old] = replaced[replaced[old]]
    replace_uses(block, replaced)


def _contract(operation: Elementwise, uses: dict[Value, int]) -> list[Operation]:
    if operation.name not in ("fadd", "fsub") or element_type(operation.result.type) not in (F16, BF16, F32, F64):
        return []
    left, right = operation.operands
    here = operation.location
    for product, other, product_is_left in ((left, right, True), (right, left, False)):
        source = product.defining_op
        if not isinstance(source, Elementwise) or source.name != "fmul" or uses.get(product) != 1:
            continue
        a, b = source.operands
        if operation.name == "fadd":
            return [Elementwise.of("fma", a, b, other, location=here)]
        negated = Elementwise.of("fneg", other if product_is_left else a, location=here)
        if product_is_left:
            return [negated, Elementwise.of("fma", a, b, negated.result, location=here)]
        return [negated, Elementwise.of("fma", negated.result, b, other, location=here)]
    return []
