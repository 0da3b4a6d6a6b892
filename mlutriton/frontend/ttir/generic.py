"""A parser of the generic form of TTIR, in which MLIR prints a module that its verifier refuses.

Triton's verifier wants the number of elements of a tensor to be a power of two, so kernels with tiles of any size
arrive in this form. Every operation is ``%result = "name"(%operand) <{properties}> {attributes} : (types) -> types``,
with its blocks in between if it has any. What the pretty form writes as a word stands here as the number that MLIR
keeps; the tree that is read is the same.
"""

from __future__ import annotations

import re
from itertools import islice

from mlutriton.frontend.ttir.pretty import PrettyParser, fully_matched, spell_cache_policy
from mlutriton.frontend.ttir.text import (
    Attribute,
    lift_strings,
    read_attributes,
    read_types,
)
from mlutriton.frontend.ttir.tree import Argument, Region, Successor, TtirFunction, TtirOperation


def _numbered(words: str, first: int = 0) -> dict[int, str]:
    return dict(enumerate(words.split(), first))


_AXES = _numbered("x y z")
_ATOMIC_OPERATIONS = _numbered("and or xor add fadd max min umax umin exch", first=1)
_REDUCTIONS = _numbered("add min max inc dec and or xor", first=1)
_INTEGER_PREDICATES = _numbered("eq ne slt sle sgt sge ult ule ugt uge")
_FLOAT_PREDICATES = _numbered("false oeq ogt oge olt ole one ord ueq ugt uge ult ule une uno true")
_PRECISIONS = _numbered("tf32 tf32x3 ieee bf16x3 bf16x6")
_FORMATS = _numbered("e4m3 e5m2 e2m3 e3m2 e2m1 bf16 fp16")
_ROUNDINGS = _numbered("rtz rtne")
_ORDERS = _numbered("relaxed acquire release acq_rel", first=1)
_SCOPES = _numbered("gpu cta sys", first=1)
_ATOMIC_ACCESSES = ("tt.atomic_rmw", "tt.atomic_cas", "tt.atomic_load", "tt.atomic_store", "tt.atomic_poll")

# The name that the pretty form's parser gives an attribute, and its words for the numbers in which MLIR keeps it.
# fmt: off
ENUMERATIONS: dict[tuple[str, str], tuple[str, dict[int, str]]] = {
    ("tt.get_program_id", "axis"):          ("axis", _AXES),
    ("tt.get_num_programs", "axis"):        ("axis", _AXES),
    ("arith.cmpi", "predicate"):            ("predicate", _INTEGER_PREDICATES),
    ("arith.cmpf", "predicate"):            ("predicate", _FLOAT_PREDICATES),
    ("tt.atomic_rmw", "atomic_rmw_op"):     ("operation", _ATOMIC_OPERATIONS),
    ("tt.descriptor_reduce", "kind"):       ("operation", _REDUCTIONS),
    ("tt.dot", "inputPrecision"):           ("inputPrecision", _PRECISIONS),
    ("tt.dot_scaled", "a_elem_type"):       ("lhs", _FORMATS),
    ("tt.dot_scaled", "b_elem_type"):       ("rhs", _FORMATS),
    ("tt.fp_to_fp", "rounding"):            ("rounding", _ROUNDINGS),
    ("tt.clampf", "propagateNan"):          ("propagateNan", {0: "none", 0xFFFF: "all"}),
    **{(name, "sem"):                       ("semantics", _ORDERS) for name in _ATOMIC_ACCESSES},
    **{(name, "scope"):                     ("scope", _SCOPES) for name in _ATOMIC_ACCESSES},
}

RENAMED: dict[tuple[str, str], str] = {
    ("tt.elementwise_inline_asm", "asm_string"): "assembly",
    ("scf.for", "unsignedCmp"):                  "unsigned",
}
# fmt: on

_NAME = re.compile(r'"([\w.]+)"')
_HEAD = re.compile(r"\((?P<operands>[^)]*)\)(?:\[(?P<successors>[^\]]*)\])?(?: <\{(?P<properties>.*?)\}>)?")
_TAIL = re.compile(r"(?: \{(?P<attributes>.*)\})? : \(.*?\) -> (?P<results>.*)")
_SYMBOL = re.compile(r'@(?:"(\d+)"|([\w.$-]+))')


class GenericParser(PrettyParser):
    """Reads lines in order, as the parser of the pretty form does."""

    MODULE = '"builtin.module"'

    def _function(self, line: str) -> TtirFunction:
        self._values.clear()
        function = self._operation(line)
        properties, (body,) = function.attributes, function.regions
        entry = body.blocks[0].arguments
        known = properties.get("arg_attrs", ())
        facts = [fact for fact in known if isinstance(fact, dict)] if isinstance(known, tuple) else []
        return TtirFunction(
            name=str(properties["sym_name"]),
            arguments=tuple(
                Argument(value.name, value, facts[place] if facts else {}) for place, value in enumerate(entry)
            ),
            results=read_types(str(properties["function_type"]).rpartition(" -> ")[2]),
            body=body,
            visibility=str(properties.get("sym_visibility", "public")),
            attributes=properties,
            location=function.location,
        )

    def _operation(self, line: str) -> TtirOperation:
        line, location = self._split_location(line)
        result_names = ""
        if line[0] == "%":
            result_names, _, line = line.partition(" = ")
        name = fully_matched(_NAME.match(line))[1]
        line = line[len(name) + 2 :]
        if name == "arith.constant":
            head = fully_matched(_HEAD.match(line))
            return self._constant(head["properties"].removeprefix("value = "), result_names, location)
        line, strings = _lifted(line)
        head = fully_matched(_HEAD.match(line))
        operands = tuple(self._value(operand) for operand in head["operands"].split(", ") if operand)
        regions: list[Region] = []
        if line.endswith(" ({"):
            closing = "}, {"
            while closing == "}, {":
                region, closing = self._region()
                regions.append(region)
            closing, location = self._split_location(closing)
            tail = fully_matched(_TAIL.fullmatch(closing, len("})")))
        else:
            tail = fully_matched(_TAIL.fullmatch(line, head.end()))
        attributes = read_attributes(head["properties"] or "", strings) | read_attributes(tail["attributes"] or "")
        results = self._results(result_names, read_types(tail["results"])) if result_names else ()
        successors = head["successors"].split(", ") if head["successors"] else []
        return _as_the_pretty_form_says(
            TtirOperation(
                name,
                operands,
                results,
                attributes,
                location,
                tuple(regions),
                tuple(Successor(label.removeprefix("^"), ()) for label in successors),
            )
        )


def _lifted(text: str) -> tuple[str, list[str]]:
    """The text with its strings lifted, and the names of symbols as well."""
    text, strings = lift_strings(text)

    def lift(match: re.Match[str]) -> str:
        if match[1]:
            return f'"{match[1]}"'
        strings.append(match[2])
        return f'"{len(strings) - 1}"'

    return _SYMBOL.sub(lift, text), strings


def _as_the_pretty_form_says(operation: TtirOperation) -> TtirOperation:
    """Gives attributes their words, operands their order, and branches the operands of each target."""
    name, given = operation.name, operation.attributes
    attributes: dict[str, Attribute] = {}
    for key, value in given.items():
        spelled, words = ENUMERATIONS.get((name, key), (RENAMED.get((name, key), key), {}))
        attributes[spelled] = words.get(value, value) if isinstance(value, int) else value
    operation.attributes = spell_cache_policy(attributes)
    sizes = given.get("operandSegmentSizes", ())
    assert isinstance(sizes, tuple)
    rest = iter(operation.operands)
    groups = [tuple(islice(rest, size)) for size in sizes if isinstance(size, int)]
    match name:
        case "scf.if":
            operation.regions = tuple(region for region in operation.regions if region.blocks[0].operations)
        case "tt.descriptor_store" | "tt.descriptor_reduce":
            descriptor, stored, *place = operation.operands
            operation.operands = (descriptor, *place, stored)
        case "cf.br":
            operation.successors = (Successor(operation.successors[0].label, operation.operands),)
            operation.operands = ()
        case "cf.cond_br":
            operation.operands, *handed = groups
            labels = [successor.label for successor in operation.successors]
            operation.successors = tuple(map(Successor, labels, handed))
        case "tt.dot_scaled":
            left, right, sums, left_scale, right_scale = groups
            operation.operands = left + left_scale + right + right_scale + sums
            scales = (*(1 for _ in left_scale), *(len(left + left_scale + right) for _ in right_scale))
            attributes["scale"] = scales
        case _:
            pass
    return operation
