"""Stores one behind the other of what a mask chooses are one of a row: what is chosen is collected on chip first.

Kernels that select count what they have chosen so far, and store there:

    place = begin + tl.cumsum(chosen.to(tl.int32), 0) - 1
    tl.store(out + place, x, mask=chosen)

Each element would be scattered by itself. But where a mask is true, the sum of it up to there counts its elements: from
the first one on, they go to neighbouring places. So all of them are one row, as long as the mask has elements.

What else the store's mask asks may be anything that is true up to some element and not behind it, as that there is room
for what is chosen, or that the rest of a block is no part of an array. Then the first ones of the row are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlutriton.dtypes import I1, I32, I64, DType
from mlutriton.ir.analysis.access import conjuncts
from mlutriton.ir.analysis.combine import combine_kind
from mlutriton.ir.analysis.scalars import Scalar, Scalars
from mlutriton.ir.core import Block, Function, Operation, Value
from mlutriton.ir.ops import AddPtr, Collect, Constant, Elementwise, Range, Reduce, Scan, Splat, Store, Yield
from mlutriton.ir.types import PointerType, element_type, shape_of, storage_dtype

# What is collected stands on chip as a whole, and is not done in strips.
_MOST_ELEMENTS = 1 << 13


def may_collect(function: Function) -> bool:
    """False if nothing is counted, so that nothing can be collected."""
    return any(isinstance(each, Scan) for each in function.walk())


def run(function: Function) -> None:
    """Collect what is stored one behind the other."""
    _collect(function.body)


def _collect(block: Block) -> None:
    rewritten: list[Operation] = []
    for operation in block.operations:
        for region in operation.regions:
            _collect(region)
        found = _collected(operation) if isinstance(operation, Store) else None
        rewritten += [operation] if found is None else found
    block.operations = rewritten


@dataclass
class _Places:
    """Places as a sum.

    Attributes:
        base: the pointer from which they are counted, if it is known.
        scans: sums up to each element.
        addends: the same for all elements, each with its sign.
        truths: masks of which each element counts, each with its sign.
    """

    base: Value | None
    scans: list[Scan]
    addends: list[tuple[Scalar, int]]
    truths: list[tuple[Value, int]]


def _collected(store: Store) -> list[Operation] | None:
    """The store of a row that does as one of single elements does; None if these may be anywhere."""
    pointer, value, mask = store.operands
    shape = shape_of(pointer.type)
    if len(shape) != 1 or shape[0] > _MOST_ELEMENTS or store.is_volatile:
        return None
    places = _Places(None, [], [], [])
    if not _add(pointer, 1, places) or places.base is None or len(places.scans) != 1:
        return None
    (scan,) = places.scans
    (counted,) = scan.operands
    truth = _truth(counted)
    chosen = set(conjuncts(mask))
    if truth is None:
        return None
    ends = chosen.difference(conjuncts(truth))
    if not chosen.issuperset(conjuncts(truth)) or not all(_is_true_first(each) for each in ends):
        return None
    code = Scalars(store.location)
    begin: Scalar = 1
    for addend, sign in places.addends:
        begin = code.binary("add" if sign > 0 else "sub", begin, addend)
    for each, sign in places.truths:
        # Where elements are stored, the mask is true.
        if set(conjuncts(each)) - chosen:
            return None
        begin = code.binary("add", begin, sign)
    count = code.add(_sum(code.add(Elementwise.of("zext", mask, to=_dtype(counted))) if ends else counted))
    first = code.add(AddPtr([places.base, code.value(begin)]))
    row = code.add(Range((), {"start": 0, "end": shape[0]}))
    pointers = code.add(Splat([first], result_types=[pointer.type]))
    numbers = row if count.type == I32 else code.add(Elementwise.of("sext", row, to=I64))
    kept = code.add(Elementwise.of("slt", numbers, code.add(Splat([count], result_types=[numbers.type]))))
    collected = code.add(Collect([value, mask]))
    line = code.add(AddPtr([pointers, row]))
    return [*code.operations, Store([line, collected, kept], store.attributes, location=store.location)]


def _dtype(counted: Value) -> DType:
    return storage_dtype(element_type(counted.type))


def _sum(counted: Value) -> Reduce:
    element = element_type(counted.type)
    region = Block([element, element])
    total = Elementwise.of("add", *region.arguments)
    region.operations += [total, Yield([total.result])]
    return Reduce([counted], {"axis": 0}, regions=[region])


def _add(value: Value, sign: int, places: _Places) -> bool:
    """Take a tensor apart into addends; False if it is anything else. Index arithmetic is taken not to overflow."""
    operation = value.defining_op
    match operation:
        case Splat(operands=[scalar]) if isinstance(scalar.type, PointerType):
            places.base = scalar
        case Splat(operands=[scalar]):
            places.addends.append((scalar, sign))
        case Constant(value=int(number)):
            places.addends.append((number, sign))
        case AddPtr(operands=[one, other]) | Elementwise(name="add", operands=[one, other]):
            return _add(one, sign, places) and _add(other, sign, places)
        case Elementwise(name="sub", operands=[one, other]):
            return _add(one, sign, places) and _add(other, -sign, places)
        case Elementwise(name="sext", operands=[source]) if element_type(source.type) in (I32, I64):
            return _add(source, sign, places)
        case Scan() if sign > 0 and _counts(operation):
            places.scans.append(operation)
        case Elementwise(name="zext") if (truth := _truth(value)) is not None:
            places.truths.append((truth, sign))
        case _:
            return False
    return True


def _is_true_first(mask: Value) -> bool:
    """True of a mask that has no element behind one that is false: something that only rises is below a number."""
    match mask.defining_op:
        case Elementwise(name="slt" | "sle", operands=[rising, number]):
            return _rises(rising) and _is_one_number(number)
        case Elementwise(name="sgt" | "sge", operands=[number, rising]):
            return _rises(rising) and _is_one_number(number)
        case _:
            return False


def _is_one_number(value: Value) -> bool:
    """True of a tensor that is known to have the same number everywhere."""
    operation = value.defining_op
    if isinstance(operation, Elementwise) and operation.name == "sext":
        return _is_one_number(operation.operands[0])
    return isinstance(operation, Splat | Constant)


def _rises(value: Value) -> bool:
    """True of a row of which no element is less than the one before. Index arithmetic is taken not to overflow."""
    pending, seen = [value], set[Value]()
    while pending:
        part = pending.pop()
        if part in seen:
            continue
        seen.add(part)
        match part.defining_op:
            case Range():
                pass
            case Scan() as scan if _counts(scan) and _truth(scan.operands[0]) is not None:
                pass
            case Elementwise(name="sub", operands=[Value(defining_op=Scan() as scan) as count, own]) if (
                own in scan.operands
            ):
                # What was counted before.
                pending.append(count)
            case Elementwise(name="sub", operands=[rising, number]) if _is_one_number(number):
                pending.append(rising)
            case Elementwise(name="add", operands=addends):
                pending += addends
            case Elementwise(name="sext", operands=[source]) if element_type(source.type) in (I32, I64):
                pending.append(source)
            case _ if not _is_one_number(part):
                return False
            case _:
                pass
    return True


def _counts(scan: Scan) -> bool:
    """True of sums from the first element on, of a type that holds as many as there may be."""
    is_sum = combine_kind(scan) == "add" and scan.axis == 0 and not scan.attributes["reverse"]
    return is_sum and element_type(scan.operands[0].type) in (I32, I64)


def _truth(value: Value) -> Value | None:
    """The mask of which a tensor of integers has 1 where it is true, and 0 elsewhere."""
    operation = value.defining_op
    while isinstance(operation, Elementwise) and operation.name in ("zext", "sext"):
        (source,) = operation.operands
        if storage_dtype(element_type(source.type)) == I1:
            return source if operation.name == "zext" else None
        operation = source.defining_op
    return None
