"""Checks a function: where it is made, where code is generated from it, and after every stage if that is wanted.

Invariants:

 1. Every operand is defined before its use, in the same block or in one around it.
 2. No operation, block or value stands in two places; a value knows the owner that lists it and its place there.
 3. A block ends in a terminator of the kind that its parent asks for (``return`` for a function's body), and holds no
    other.
 4. An operation has the operands, regions and attributes that its class declares, and no others.
 5. Its result types are what ``infer_types`` says, unless they are free.
 6. Its own rules hold (``check``): operand types and shapes, types of region arguments and of yielded values; combine
    regions hold scalar arithmetic and use no value from outside.
 7. A function's facts, if there are any, are as many as its arguments.
"""

from __future__ import annotations

from functools import cache

from mlutriton.arithmetic import OPERATIONS
from mlutriton.diagnostics import CompileError
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import Elementwise, Return
from mlutriton.ir.printer import print_function


def verify(function: Function, stage: str = "") -> None:
    """Check every invariant of this module's comment; ``stage`` is named in the error.

    Raises:
        CompileError: E0203, with the function's text and the complaint below the line it concerns.
    """
    try:
        facts, arguments = len(function.argument_attributes), len(function.body.arguments)
        if facts not in (0, arguments):
            raise _ViolationError(f"{facts} facts are given for {arguments} arguments", None)
        _Verifier().block(function.body, Return.NAME)
    except _ViolationError as violation:
        complaints = {violation.operation: violation.complaint} if violation.operation else None
        where = f" after {stage}" if stage else ""
        raise CompileError(
            "E0203",
            f"the IR of {function.name} is broken{where}: {violation.complaint}",
            location=violation.operation.location if violation.operation else function.location,
            note=print_function(function, complaints=complaints),
            help="" if stage else "with MLUTRITON_VERIFY=1 the stage that broke it is named",
        ) from None


class _ViolationError(Exception):
    def __init__(self, complaint: str, operation: Operation | None) -> None:
        self.complaint = complaint
        self.operation = operation
        super().__init__(complaint)


class _Verifier:
    def __init__(self) -> None:
        self.visible: set[Value] = set()
        self.seen: set[Operation | Block] = set()
        self.parent: Operation | None = None

    def block(self, block: Block, terminator: str) -> None:
        parent = self.parent
        if block in self.seen:
            raise _ViolationError("a block stands in two places", parent)
        self.seen.add(block)
        if not block.operations or block.terminator.name != terminator:
            last = block.operations[-1] if block.operations else parent
            raise _ViolationError(f"the block does not end in {terminator}", last)
        defined: list[Value] = []
        self.define(block.arguments, block, parent, defined)
        last = block.terminator
        for operation in block.operations:
            if operation.TERMINATOR and operation is not last:
                raise _ViolationError(f"{operation.name} stands in the middle of a block", operation)
            self.operation(operation)
            self.define(operation.results, operation, operation, defined)
        self.visible.difference_update(defined)

    def define(
        self, values: list[Value], owner: Operation | Block, place: Operation | None, defined: list[Value]
    ) -> None:
        for i, value in enumerate(values):
            if value in self.visible:
                raise _ViolationError(f"value {i} is defined twice", place)
            if value.owner is not owner or value.index != i:
                raise _ViolationError(f"value {i} names another owner or place than the one that lists it", place)
        self.visible.update(values)
        defined += values

    def operation(self, operation: Operation) -> None:
        if operation in self.seen:
            raise _ViolationError("the operation stands in two places", operation)
        self.seen.add(operation)
        for i, operand in enumerate(operation.operands):
            if operand not in self.visible:
                raise _ViolationError(f"operand {i} is not defined before its use", operation)
        complaint = _bad_form(operation)
        if complaint is None:
            for region, terminator in zip(operation.regions, operation.REGIONS, strict=True):
                self.parent = operation
                self.block(region, terminator)
            complaint = operation.check() or _bad_types(operation)
        if complaint is not None:
            raise _ViolationError(complaint, operation)


def _bad_form(operation: Operation) -> str | None:
    """What is wrong with operand count, regions and attributes."""
    least, open_ended = _operand_count(operation.OPERANDS)
    count = len(operation.operands)
    if count < least or (count > least and not open_ended):
        return f"{operation.name} has {count} operands, not {least}" + (" or more" if open_ended else "")
    if len(operation.regions) != len(operation.REGIONS):
        return f"{operation.name} has {len(operation.regions)} regions, not {len(operation.REGIONS)}"
    if isinstance(operation, Elementwise) and operation.attributes.get("operation") not in OPERATIONS:
        return "the operation is not one of the arithmetic table"
    expected = operation.expected_attributes()
    if operation.attributes.keys() != expected.keys():
        return f"{operation.name} has attributes {sorted(operation.attributes)}, not {sorted(expected)}"
    for name, type in expected.items():
        value = operation.attributes[name]
        if value.__class__ is type:
            continue
        if not isinstance(value, type) or (isinstance(value, bool) and type is int):
            return f"attribute {name} is {value!r}, not of type {type.__name__}"
    return None


@cache
def _operand_count(names: tuple[str, ...]) -> tuple[int, bool]:
    """How many operands there are at least; whether there may be more."""
    open_ended = bool(names) and names[-1].endswith("*")
    return len(names) - open_ended, open_ended


def _bad_types(operation: Operation) -> str | None:
    if operation.FREE_RESULTS:
        return None
    inferred = list(operation.infer_types())
    actual = [result.type for result in operation.results]
    if inferred == actual:
        return None
    return f"results have types ({', '.join(map(str, actual))}), not ({', '.join(map(str, inferred))})"
