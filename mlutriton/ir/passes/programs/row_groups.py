"""Programs numbered column by column that a kernel numbers in groups of rows.

Kernels have those that run at a time near each other, so that they share what they load:

    first = number / span * most                 span = most * columns
    row = first + number % span % height         height = min(rows - first, most)
    column = number % span / height

These are all rows and columns, as are ``row = number % rows``, ``column = number / rows``, by which neighbours are told
apart more easily (:mod:`mlutriton.ir.passes.programs.numbering`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.ir.analysis.launch_facts import Fact, Holds, condition_function, is_of_the_launch, launch_arithmetic
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.copying import copy_function
from mlutriton.ir.core import Function, Operation, Value, replace_uses
from mlutriton.ir.ops import Constant, Elementwise, NumPrograms, ProgramId
from mlutriton.ir.passes import dce, simplify


@dataclass(frozen=True)
class _Group:
    """Tiles numbered in groups of rows, the last of which may have fewer rows than the others.

    Attributes:
        row: of a program's tile, which is the first one of its group and the rest of its number by their height.
        column: the quotient of its number in the group by that.
        rows: how many there are.
        columns: likewise.
        height: of a group but the last.
    """

    row: Value
    column: Value
    rows: Value
    columns: Value
    height: Value


def run(function: Function) -> tuple[Function, list[Function]]:
    """The function, numbered column by column if it numbers its programs in groups of rows; and when it may be."""
    made = copy_function(function)
    # What is computed in vain says nothing of the order.
    dce.run(made)
    numbers = [each for each in made.body.operations if isinstance(each, ProgramId)]
    if all(_group(made, each) is None for each in numbers):
        return made, []
    asked = copy_function(made)
    facts: list[Fact] = []
    code = Scalars(function.location)
    pairs = zip(list(made.body.operations), asked.body.operations, strict=True)
    for copied, source in ((copied, source) for copied, source in pairs if isinstance(source, ProgramId)):
        group, counterpart = _group(made, copied), _group(asked, source)
        if group is None or counterpart is None:
            continue
        numbers = [counterpart.rows, counterpart.columns, counterpart.height]
        if not all(is_of_the_launch(each, asked) for each in numbers):
            continue
        arithmetic = launch_arithmetic([group.rows], made)
        assert arithmetic is not None, "it is that of the copy"
        programs = code.value(code.add(NumPrograms((), {"axis": source.axis})))
        every = code.value(code.binary("mul", code.value(counterpart.rows), code.value(counterpart.columns)))
        facts.append(Holds(code.add(Elementwise.of("eq", programs, every))))
        facts += [Holds(code.add(Elementwise.of("sgt", code.value(each), code.value(0)))) for each in numbers]
        row = Elementwise.of("srem", copied.result, group.rows)
        column = Elementwise.of("sdiv", copied.result, group.rows)
        # What they are computed from comes first: it depends on nothing but the launch.
        rest = [each for each in made.body.operations if each not in (*arithmetic, copied)]
        made.body.operations = [*arithmetic, copied, row, column, *rest]
        replace_uses(made.body, {group.row: row.result, group.column: column.result})
    if not facts:
        return made, []
    simplify.run(made)
    asked.body.operations[-1:-1] = code.operations
    return made, [condition_function(asked, facts)]


def _group(function: Function, number: Operation) -> _Group | None:
    """How tiles are numbered in groups of rows, if nothing else is asked of a program's number."""
    users: dict[Value, list[Operation]] = {}
    for operation in function.walk():
        for operand in operation.operands:
            users.setdefault(operand, []).append(operation)

    def used(operation: Operation | None, *names: str) -> list[Operation]:
        """The users of a number if they are one of each of these names; as many that are none if not."""
        found = {each.name: each for each in users.get(operation.result, [])} if operation is not None else {}
        is_all = operation is not None and sorted(found) == sorted(names) and len(users[operation.result]) == len(names)
        return [found[name] for name in names] if is_all else []

    def taken(dividend: Operation | None) -> tuple[Operation | None, Operation | None, Value | None]:
        """The quotient and the remainder of a number by one divisor, and that."""
        pair = used(dividend, "sdiv", "srem")
        if (
            dividend is None
            or not pair
            or any(each.operands != [dividend.result, pair[0].operands[1]] for each in pair)
        ):
            return None, None, None
        return pair[0], pair[1], pair[0].operands[1]

    quotient, inside, span = taken(number)
    column, low, height = taken(inside)
    first = next(iter(used(quotient, "mul")), None)
    sums = used(first, "add", "sub")
    if column is None or low is None or span is None or height is None or first is None or quotient is None or not sums:
        return None
    row, left = sums
    most, least, product = _other(first, quotient.result), height.defining_op, span.defining_op
    is_row = used(low, "add") == [row] and left.operands[1] is first.result
    if not is_row or most is None or least is None or least.name != "smin" or product is None or product.name != "mul":
        return None
    columns = [other for one, other in (product.operands, product.operands[::-1]) if _is_same(one, most)]
    if not columns or not _is_same(_other(least, left.result), most):
        return None
    if users[left.result] != [least] or {*users[height]} != {column, low}:
        return None
    return _Group(row.result, column.result, left.operands[0], columns[0], most)


def _other(operation: Operation, value: Value) -> Value | None:
    """The other operand of two."""
    rest = [each for each in operation.operands if each is not value]
    return rest[0] if len(operation.operands) == 2 and len(rest) == 1 else None


def _is_same(one: Value | None, other: Value) -> bool:
    """True of one value, or of constants that are equal."""
    if one is None or one is other:
        return one is not None
    made = [one.defining_op, other.defining_op]
    numbers = {each.value for each in made if isinstance(each, Constant)}
    return len(numbers) == 1 and all(isinstance(each, Constant) for each in made)
