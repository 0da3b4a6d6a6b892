"""Import of inline assembly: PTX that computes element by element becomes element-wise operations.

What a block of assembly computes of one element may not depend on another, since nobody knows which elements a block
receives. So every place that ``pack`` gives it holds the same element here, and its answer is that of the first place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlutriton.dtypes import I1, DType
from mlutriton.frontend.importer.ptx import RULES, TYPES, Form, Registers
from mlutriton.frontend.importer.translation import Imported, Translation, integer, text
from mlutriton.frontend.ttir.tree import TtirOperation
from mlutriton.ir.ops import PtrToInt
from mlutriton.ir.types import PointerType, element_type, shape_of

# What orders the threads of a program, of which there is one here, or programs of the next launch.
_WITHOUT_EFFECT = frozenset({"bar", "barrier", "fence", "griddepcontrol", "membar"})
# What may be said of any instruction: that it need not be exact, flushes subnormal numbers, or rounds as all do here.
_WITHOUT_MEANING = frozenset({"approx", "ftz", "full", "rn", "satfinite"})

# What to write instead of some that are refused.
_INSTEAD: dict[str, str] = {
    "atom": "tl.atomic_add(p, x), ...",
    "bfe": "(x >> start) & mask",
    "ld": "tl.load(p)",
    "red": "tl.atomic_add(p, x), ...",
    "shfl": "tl.gather(x, index, 0)",
    "st": "tl.store(p, x)",
}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Braces around statements are scopes.
_STATEMENT = re.compile(
    r"[\s{}]*(?:@(?P<inverted>!?)(?P<guard>%?\w+)\s+)?(?P<name>[a-z]\w*)(?P<suffixes>[\w.:]*)\s*(?P<operands>.*)",
    re.DOTALL,
)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s{}]+")


def inline_assembly(translation: Translation, operation: TtirOperation) -> Sequence[Imported]:
    """Import ``tt.elementwise_inline_asm``.

    Raises:
        CompileError: E0201, an instruction is not known, or reads what this machine does not have.
    """
    inputs = translation.values(operation.operands)
    types = [translation.type(result.type) for result in operation.results]
    if any(isinstance(element_type(type), PointerType) for type in types):
        raise translation.refusal("inline assembly that makes pointers is not supported")
    shape = max((shape_of(type) for type in (*types, *(value.type for value in inputs))), key=len)
    places = integer(operation, "packed_element", 1)
    registers = Registers(translation, shape)
    results = [registers.name_places(element_type(type), places) for type in types]
    for value in inputs:
        if isinstance(element_type(value.type), PointerType):
            value = translation.add(PtrToInt([value])).result
        value = value if shape_of(value.type) else translation.splat(value, shape)
        registers.name_places(element_type(value.type), places, value)
    for statement in _COMMENT.sub("", text(operation, "assembly")).split(";"):
        if statement.strip("{} \t\n") and not statement.strip("{} \t\n").startswith(".reg"):
            _run(registers, statement)
    return [
        registers.read(name, _dtype(element_type(type)))[0]
        if name in registers.lanes
        else registers.constant(0, _dtype(element_type(type)))
        for name, type in zip(results, types, strict=True)
    ]


def _dtype(element: object) -> DType:
    assert isinstance(element, DType)
    return element


def _run(registers: Registers, statement: str) -> None:
    """Append what a statement computes."""
    shown = " ".join(statement.split())
    match = _STATEMENT.fullmatch(statement)
    name = match["name"] if match else shown
    if name in _WITHOUT_EFFECT:
        return

    def refusal(why: str) -> Exception:
        instead = f": {name} is {_INSTEAD[name]}" if name in _INSTEAD else ""
        return registers.translation.refusal(
            why, note=f"inline assembly: {shown}", help="write it with operations of tl" + instead
        )

    if match is None or name not in RULES or ":" in match["suffixes"]:
        raise refusal(f"{name} in inline assembly is not supported")
    suffixes = match["suffixes"].split(".")[1:]
    form = Form(name, [suffix for suffix in suffixes if suffix in TYPES], {*suffixes} - TYPES.keys())
    written, *operands = _OPERAND.findall(match["operands"]) or [""]
    for operand in (*operands, *([match["guard"]] if match["guard"] else [])):
        if missing := registers.missing(operand):
            raise refusal(f"inline assembly reads {missing}, which nothing has written")
    rule, counts = RULES[name]
    made = rule(registers, form, operands) if form.types and len(operands) in counts else ()
    if not made or form.modifiers - _WITHOUT_MEANING:
        raise refusal("this form of an instruction in inline assembly is not supported")
    if match["guard"] and written in registers.lanes:
        (condition,) = registers.read(match["guard"], I1)
        kept = registers.typed(registers.lanes[written], _dtype(element_type(made[0].type)), len(made))
        pairs = [(old, new) if match["inverted"] else (new, old) for new, old in zip(made, kept, strict=True)]
        made = tuple(registers.apply("select", condition, *pair) for pair in pairs)
    registers.write(written, made)
