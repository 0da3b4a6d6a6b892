"""Loads whose elements lie side by side after all, though each finds its own by digits of its position.

    row, column = index // width, index % width        x[(row + 1) * width + column - 1]

is ``x[index + width - 1]``: what a filter whose result is as large as its image asks for are tiles, of which masks
leave out some elements here and there. At either end of an array such a tile sticks out of it, and has what there is.
So masks must choose nothing outside of the array, or it would be no fault: what they compare makes bounds of what they
choose, in any program of a launch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlutriton.codegen.estimate import item_count
from mlutriton.ir.analysis.digit_spans import DigitSpans
from mlutriton.ir.analysis.launch_bounds import Bounds
from mlutriton.ir.analysis.launch_facts import Fact
from mlutriton.ir.analysis.scalar_forms import Form, ScalarForms, number_of, plus
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.memory_ops import AddPtr, GatherLoad, ReachableBytes, TileLoad, pointee
from mlutriton.ir.ops import Constant, Elementwise, TileGeometry
from mlutriton.ir.types import TensorType, shape_of


@dataclass(frozen=True)
class Row:
    """What a load looks up side by side.

    Attributes:
        argument: points to the array.
        begin: the number of the first element.
        facts: when the elements are those.
    """

    argument: Value
    begin: Form
    facts: Sequence[Fact]


def rows_in(function: Function, tables: Mapping[Value, Sequence[GatherLoad]]) -> dict[Operation, Row]:
    """The loads that look up side by side, in launches of which some facts hold, and nothing outside of an array."""
    code = Scalars(function.location)
    return rows_of(function, tables, DigitSpans(function, code))


def rows_of(
    function: Function, tables: Mapping[Value, Sequence[GatherLoad]], spans: DigitSpans
) -> dict[Operation, Row]:
    """The same of a function whose digits are known.

    Args:
        function: that has the loads.
        tables: by argument, loads of single elements of an array that is not written.
        spans: of the function; its code gets the arithmetic that the facts of rows are about.
    """
    code, forms = spans.code, ScalarForms()
    bounds = Bounds(function, code)
    found: dict[Operation, Row] = {}
    for argument, loads in tables.items():
        count = count_of(code, argument)
        for each in loads:
            base, index, mask, *_ = each.operands
            digits = spans.of(index)
            facts = None if digits is None or len(shape_of(index.type)) > 1 else spans.in_a_row(digits)
            if digits is None or digits.uniform is None or facts is None:
                continue
            _, behind = forms.place(base)
            chosen = bounds.under(mask)
            ends = [
                _sum(code, chosen.of(index, facts, least=least), chosen.of_form(behind, facts, least=least))
                for least in (True, False)
            ]
            if None not in ends:
                low, high = (each for each in ends if each is not None)
                facts += [chosen.is_at_least(low, 0), chosen.is_at_least(count, code.binary("add", high, 1))]
                found[each] = Row(argument, plus(digits.uniform, behind), facts)
    return found


def _sum(code: Scalars, one: Scalar | None, other: Scalar | None) -> Scalar | None:
    return None if one is None or other is None else code.binary("add", one, other)


def load_rows(block: Block, rows: Mapping[Operation, Row], counts: Mapping[Value, Value]) -> None:
    """Have loads that look up side by side be tiles, which have what there is of an array: so many elements."""
    replaced: dict[Value, Value] = {}
    operations: list[Operation] = []
    for each in block.operations:
        for region in each.regions:
            load_rows(region, rows, counts)
        if not isinstance(each, GatherLoad) or each not in rows:
            operations.append(each)
            continue
        code, row, extent = Scalars(each.location), rows[each], item_count(each)
        _, _, mask, other, _ = each.operands
        begin = number_of(row.begin, code)
        limit = code.minimum([extent, code.binary("sub", counts[row.argument], begin)])
        base = code.add(AddPtr([row.argument, code.value(begin)]))
        tile = tile_of(code, base, extent, limit, code.maximum([0, code.binary("sub", 0, begin)]))
        replaced[each.result] = found = code.add(Elementwise.of("select", mask, tile, other))
        found.name = each.result.name
        operations += code.operations
    block.operations = operations
    replace_uses(block, replaced)


def reached_bytes(code: Scalars, pointer: Value) -> Value:
    """How many bytes of its array there are from a pointer on."""
    return code.add(ReachableBytes([pointer], {"stored": False}))


def count_of(code: Scalars, argument: Value) -> Value:
    """How many elements an array has."""
    return code.value(code.quotient(reached_bytes(code, argument), pointee(argument).bytes))


def tile_of(code: Scalars, base: Value, extent: int, limit: Scalar, first: Scalar = 0) -> Value:
    """Consecutive elements, of which there are those from one number up to another."""
    dtype = pointee(base)
    geometry = TileGeometry((extent,), [code.value(1)], [code.value(first)], [code.value(limit)], [None])
    nothing = code.add(Constant.of(0.0 if dtype.is_float else 0, dtype))
    operands = [base, nothing, *geometry.operands()]
    return code.add(TileLoad(operands, {"wraps": geometry.flags()}, result_types=[TensorType((extent,), dtype)]))
