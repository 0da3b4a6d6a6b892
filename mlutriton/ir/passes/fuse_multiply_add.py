"""Contraction: an intermediate result that is used once is not rounded, as Triton's floating-point fusion permits.

Laws:

* ``a * b + c -> fma(a, b, c)``, ``a * b - c -> fma(a, b, -c)`` and ``c - a * b -> fma(-a, b, c)``;
* ``a * (1 / b) -> a / b``;
* ``(a * c) * d -> a * (c * d)`` for constants c and d of which d is a power of two or its negative.

They only round less, and overflow or underflow only where the result does; signs, infinities and NaN are those of the
two operations, since negation is exact.
"""

from __future__ import annotations

import math

from mlutriton.dtypes import BF16, F16, F32, F64
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses, use_counts
from mlutriton.ir.ops import Constant, Elementwise
from mlutriton.ir.passes.canonicalize.arithmetic_rules import LEAST_NORMAL, constant_of
from mlutriton.ir.types import element_type


def run(function: Function) -> None:
    """Contract every product and reciprocal with a single use."""
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
    if element_type(operation.result.type) not in (F16, BF16, F32, F64):
        return []
    match operation.name:
        case "fadd" | "fsub":
            return _multiply_add(operation, uses)
        case "fmul":
            return _quotient(operation, uses) or _scaled(operation, uses)
        case _:
            return []


def _multiply_add(operation: Elementwise, uses: dict[Value, int]) -> list[Operation]:
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


def _quotient(operation: Elementwise, uses: dict[Value, int]) -> list[Operation]:
    """A product with a reciprocal, as a quotient."""
    left, right = operation.operands
    for reciprocal, other in ((left, right), (right, left)):
        source = reciprocal.defining_op
        if isinstance(source, Elementwise) and source.name == "fdiv" and uses.get(reciprocal) == 1:
            one, divisor = source.operands
            if constant_of(one) == 1:
                return [Elementwise.of("fdiv", other, divisor, location=operation.location)]
    return []


def _scaled(operation: Elementwise, uses: dict[Value, int]) -> list[Operation]:
    """A product with a constant and a power of two, as a product with one constant."""
    product, scale = operation.operands
    source, power = product.defining_op, constant_of(scale)
    if not isinstance(source, Elementwise) or source.name != "fmul" or uses.get(product) != 1 or power is None:
        return []
    factor = constant_of(source.operands[1])
    if factor is None or not factor or abs(math.frexp(power)[0]) != 0.5:
        return []
    least = LEAST_NORMAL[source.operand_dtype]
    if not all(least <= abs(each) <= 1 / least for each in (factor, power, factor * power)):
        return []
    both = Constant.of(factor * power, scale.type)
    return [both, Elementwise.of("fmul", source.operands[0], both.result, location=operation.location)]
