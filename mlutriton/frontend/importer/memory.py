"""Import of accesses through pointers, atomics, and what a program says to the host."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mlutriton.dtypes import I1, I64
from mlutriton.frontend.importer.blocks import load_block, store_block
from mlutriton.frontend.importer.inline_assembly import inline_assembly
from mlutriton.frontend.importer.tensors import same_operands
from mlutriton.frontend.importer.translation import Imported, Rule, TensorHandle, Translation, integers, text, types_of
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.core import Attribute, Block, Value
from mlutriton.ir.ops import (
    AddPtr,
    Assert,
    AtomicCas,
    AtomicRmw,
    Condition,
    IntToPtr,
    Load,
    Print,
    PtrToInt,
    Reduce,
    Reshape,
    Store,
    While,
    Yield,
    pointee,
)
from mlutriton.ir.types import PointerType, TensorType, element_type, shape_of, with_element

# Triton's names of read-modify-write operations.
# fmt: off
ATOMIC_KINDS: dict[str, str] = {
    "add": "add",  "fadd": "fadd",  "and": "and",  "or": "or",  "xor": "xor",  "exch": "xchg",
    "max": "smax", "min": "smin",   "umax": "umax", "umin": "umin",
}
# fmt: on

# What a look at memory takes, roughly; and how often a program looks at most, however long it may.
_LOOK_NS = 1000
_MOST_LOOKS = 4096


def _meeting(operation: TtirOperation, **attributes: Attribute) -> dict[str, Attribute]:
    """Attributes of an access that meets those of other programs."""
    return attributes | ({"relaxed": True} if text(operation, "semantics", "") == "relaxed" else {})


def _load(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    source = translation.imported(operation.operands[:1])[0]
    if isinstance(source, TensorHandle):
        return (load_block(translation, operation, source),)
    pointer, *given = translation.values(operation.operands)
    type = with_element(pointer.type, pointee(pointer))
    mask = given[0] if given else translation.true(shape_of(type))
    # Without `other` the masked elements are undefined; zero is as good as anything, and the same in every run.
    other = given[1] if len(given) > 1 else translation.constant(0, type)
    is_volatile = operation.name == "tt.atomic_load" or operation.attributes.get("isVolatile", False)
    attributes = _meeting(operation, volatile=True) if is_volatile else None
    return translation.add(Load([pointer, mask, other], attributes)).results


def _store(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    target = translation.imported(operation.operands[:1])[0]
    if isinstance(target, TensorHandle):
        store_block(translation, operation, target)
        return ()
    pointer, value, *given = translation.values(operation.operands)
    mask = given[0] if given else translation.true(shape_of(value.type))
    attributes = _meeting(operation, volatile=True) if operation.name == "tt.atomic_store" else None
    return translation.add(Store([pointer, value, mask], attributes)).results


def _atomic_update(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    kind = ATOMIC_KINDS.get(name := text(operation, "operation"))
    if kind is None:
        raise translation.refusal(
            f"the atomic operation {name} is not supported", help=f"these are: {', '.join(ATOMIC_KINDS)}"
        )
    pointer, value, *given = translation.values(operation.operands)
    mask = given[0] if given else translation.true(shape_of(value.type))
    update = AtomicRmw([pointer, value, mask], _meeting(operation, kind=kind))
    if complaint := update.check():
        raise translation.refusal(f"this atomic operation is not supported: {complaint}")
    return translation.add(update).results


def _atomic_exchange(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    return translation.add(AtomicCas(translation.values(operation.operands), _meeting(operation))).results


def _poll(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """A loop that looks until all elements are as expected; one with a time limit counts how often."""
    pointer, expected, *limit_ns = translation.values(operation.operands)
    initial = [_most_looks(translation, limit_ns[0])] if limit_ns else []
    before = Block(types_of(initial))
    with translation.inside(before):
        mask = translation.true(shape_of(pointer.type))
        zero = translation.constant(0, expected.type)
        loaded = translation.add(Load([pointer, mask, zero], _meeting(operation, volatile=True))).result
        seen = translation.elementwise("eq", loaded, expected)
        goes_on = translation.elementwise("xor", _all(translation, seen), translation.constant(True, I1))
        for left in before.arguments:
            may_look = translation.elementwise("sgt", left, translation.constant(0, I64))
            goes_on = translation.elementwise("and", goes_on, may_look)
        translation.add(Condition([goes_on, seen, *before.arguments]))
    passed = [seen.type, *types_of(initial)]
    after = Block(passed)
    with translation.inside(after):
        one = translation.constant(1, I64)
        translation.add(Yield([translation.elementwise("sub", left, one) for left in after.arguments[1:]]))
    loop = translation.add(While(initial, result_types=passed, regions=(before, after)))
    return loop.results[:1]


def _most_looks(translation: Translation, limit_ns: Value) -> Value:
    looks = translation.elementwise("udiv", limit_ns, translation.constant(_LOOK_NS, I64))
    return translation.elementwise("umin", looks, translation.constant(_MOST_LOOKS, I64))


def _all(translation: Translation, truths: Value) -> Value:
    """Whether every element is true."""
    count = prod(shape_of(truths.type))
    if not shape_of(truths.type):
        return truths
    row = translation.add(Reshape([truths], result_types=(TensorType((count,), I1),))).result
    both = Block([I1, I1])
    with translation.inside(both):
        translation.add(Yield([translation.elementwise("and", *both.arguments)]))
    return translation.add(Reduce([row], {"axis": 0}, regions=(both,))).result


def _int_to_pointer(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    addresses = translation.values(operation.operands)
    return translation.add(IntToPtr(addresses, result_types=(translation.result_type(operation),))).results


def _assert(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    (condition,) = translation.values(operation.operands)
    if element_type(condition.type) != I1:
        zero = translation.constant(0, condition.type)
        condition = translation.elementwise("ne", condition, zero)
    for decision, outcome in translation.decisions:
        elsewhere = translation.elementwise("ne", decision, translation.constant(outcome, I1))
        condition = translation.elementwise("or", condition, elsewhere)
    return translation.add(Assert([condition], {"message": text(operation, "message", "")})).results


def _print(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """One print a value: each has a style of its own."""
    prefix, in_hexadecimal = text(operation, "prefix", ""), bool(operation.attributes.get("hex", False))
    values = translation.values(operation.operands)
    signs = integers(operation, "isSigned") or (1,) * len(values)
    if not values:
        translation.add(Print((), {"prefix": prefix, "style": "signed"}))
    for number, (value, is_signed) in enumerate(zip(values, signs, strict=True)):
        if isinstance(element_type(value.type), PointerType):
            value, style = translation.add(PtrToInt([value])).result, "hexadecimal"
        else:
            style = "hexadecimal" if in_hexadecimal else "signed" if is_signed else "unsigned"
        label = f"{prefix}(operand {number}) " if len(values) > 1 else prefix
        translation.add(Print([value], {"prefix": label, "style": style}))
    return ()


def _nothing(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """What promises something to an optimizer, or orders the threads of a program, which has one thread here."""
    return ()


RULES: dict[str, Rule] = {
    "tt.load": _load,
    "tt.store": _store,
    "tt.addptr": same_operands(AddPtr),
    "tt.ptr_to_int": same_operands(PtrToInt),
    "tt.int_to_ptr": _int_to_pointer,
    "tt.atomic_rmw": _atomic_update,
    "tt.atomic_cas": _atomic_exchange,
    # An aligned load or store of one element is never torn.
    "tt.atomic_load": _load,
    "tt.atomic_store": _store,
    "tt.atomic_poll": _poll,
    "tt.assert": _assert,
    "tt.print": _print,
    "tt.elementwise_inline_asm": inline_assembly,
    "tt.grid_dependency_wait": _nothing,
    "tt.grid_dependency_launch_dependents": _nothing,
    "llvm.intr.assume": _nothing,
    "ttg.barrier": _nothing,
    "gpu.barrier": _nothing,
}
