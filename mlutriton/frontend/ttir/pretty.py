"""A parser of the pretty form of TTIR, in which modules are printed that MLIR's verifier accepts.

The text is line-oriented: an operation is one line, an operation with regions runs to the line that closes its last
brace. Most lines have the form ``%result = name %operand, %operand {attributes} : types loc(...)`` and need no
table; what differs is named in the tables below. Anything else is refused with E0204, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from mlutriton.diagnostics import CompileError
from mlutriton.dtypes import I1
from mlutriton.frontend.ttir.locations import LocationTable, SourceLocation
from mlutriton.frontend.ttir.text import (
    INDEX,
    Attribute,
    BlockPointerType,
    TtirType,
    UnreadableTextError,
    lift_strings,
    read_attributes,
    read_constant,
    read_descriptor_result,
    read_signature,
    read_types,
    split_outside_brackets,
    unescape,
)
from mlutriton.frontend.ttir.tree import (
    Argument,
    Block,
    Region,
    Successor,
    TtirFunction,
    TtirModule,
    TtirOperation,
    Value,
)
from mlutriton.ir.types import PointerType, TensorType

# What the syntax of an operation writes as bare words, symbols or strings, in order, and the attribute that it becomes.
# fmt: off
POSITIONAL_WORDS: dict[str, tuple[str, ...]] = {
    "arith.cmpi":                 ("predicate",),
    "arith.cmpf":                 ("predicate",),
    "tt.get_program_id":          ("axis",),
    "tt.get_num_programs":        ("axis",),
    "tt.atomic_rmw":              ("operation", "semantics", "scope"),
    "tt.atomic_cas":              ("semantics", "scope"),
    "tt.atomic_load":             ("semantics", "scope"),
    "tt.atomic_store":            ("semantics", "scope"),
    "tt.atomic_poll":             ("semantics", "scope"),
    "tt.descriptor_reduce":       ("operation",),
    "tt.call":                    ("callee",),
    "tt.print":                   ("prefix",),
    "tt.assert":                  ("message",),
    "tt.elementwise_inline_asm":  ("assembly",),
    "ttg.barrier":                ("memory",),
}
# fmt: on

# Bare words that stand behind the operands and switch something on.
FLAG_WORDS = frozenset({"allow_reorder", "efficient_layout", "nneg", "exact", "disjoint"})

# Bare words before an operand; the attribute of that name lists the positions of such operands.
OPERAND_WORDS = frozenset({"scale", "timeout"})


def _mask_type(listed: Sequence[TtirType]) -> TtirType:
    return TensorType(listed[0].shape, I1) if isinstance(listed[0], TensorType) else I1


def _pointee_type(listed: Sequence[TtirType]) -> TtirType:
    match listed[0]:
        case PointerType(pointee):
            return pointee
        case TensorType(shape, PointerType(pointee)):
            return TensorType(shape, pointee)
        case BlockPointerType(block):
            return block
        case other:
            raise UnreadableTextError(f"{other} is not a pointer")


def _element_type(listed: Sequence[TtirType]) -> TtirType:
    if not isinstance(listed[0], TensorType):
        raise UnreadableTextError(f"{listed[0]} is not a tensor")
    return listed[0].element


# The type of the result where the text does not spell it; otherwise it is the last type that is listed.
RESULT_TYPES: dict[str, Callable[[Sequence[TtirType]], TtirType]] = {
    "arith.cmpi": _mask_type,
    "arith.cmpf": _mask_type,
    "tt.load": _pointee_type,
    "tt.unsplat": _element_type,
    "tt.addptr": lambda listed: listed[0],
    "math.fpowi": lambda listed: listed[0],
}

ABBREVIATED_TYPES = frozenset({"tt.make_tensor_descriptor", "tt.make_tensor_ptr", "tt.advance"})

_NAME = re.compile(r'"?([a-z_][\w.]*)"?')
_HEAD_TOKEN = re.compile(
    r"""\s*(?:(?P<value>%[\w.$-]+(?:\#\d+)?)
    | (?P<pair>\w+)\ =\ (?P<setting>[\w.-]+)
    | (?P<option>\w+)<(?P<setting2>[^>]*)>
    | @"(?P<quoted>\d+)"
    | "(?P<string>\d+)"
    | @(?P<symbol>[\w.$-]+)
    | (?P<word>\w+)
    | (?P<punctuation>[\[\](),:]))""",
    re.VERBOSE,
)
_FUNCTION = re.compile(r'tt\.func (?:(\w+) )?@([\w.$-]+|"(?:[^"\\]|\\.)*")\((.*) \{')
_ARGUMENT = re.compile(r"%([^:]+): (.+?)(?: \{(.*?)\})?(?: loc\((.*)\))?")
_LABEL = re.compile(r"\^(\w+)(?:\((.*)\))?:")
_SUCCESSOR = re.compile(r"\^(\w+)(?:\(([^):]*) : [^)]*\))?")
_FOR = re.compile(
    r" (unsigned )?(%\S+) = (%\S+) to (%\S+) step (%\S+)(?: iter_args\((.*?)\) -> \((.*)\))? *(?: : (\S+))? \{"
)
_IF = re.compile(r" (%\S+)(?: -> \((.*)\))? \{")
_WHILE = re.compile(r" (?:\((.*)\) )?: (\(.*\)) -> (\(.*\)|\S+) \{")
_GENERIC = re.compile(r"\((.*?)\)(?: <\{(.*)\}>)? \(\{")
_CLOSE = re.compile(r"\}(?: attributes)?(?: \{(.*)\})?")
_CLOSE_GENERIC = re.compile(r"\}\)(?: \{(.*)\})? : (.*)")


class PrettyParser:
    """Reads lines in order. ``_values`` is flat: sibling regions reuse names, a new definition hides the dead one."""

    MODULE = "module"
    """How the line begins that opens a module."""

    def __init__(self, text: str) -> None:
        self._lines = [line.strip() for line in text.splitlines()]
        self._next = 0
        self._locations = LocationTable(text)
        self._location = self._locations.resolve("unknown")
        self._values: dict[str, Value] = {}
        self._strings: list[str] = []

    def module(self) -> TtirModule:
        """Reads the whole module.

        Raises:
            CompileError: E0204, a line does not follow the syntax known here.
        """
        functions: list[TtirFunction] = []
        try:
            while not self._line().startswith(self.MODULE):
                pass
            while not (line := self._line()).startswith("}"):
                functions.append(self._function(line))
        except (ValueError, LookupError) as problem:
            raise self._refusal(problem) from problem
        if not any(function.visibility == "public" for function in functions):
            raise CompileError("E0204", "Triton's intermediate text holds no public function")
        return TtirModule(tuple(functions))

    def _refusal(self, problem: Exception) -> CompileError:
        text = self._lines[self._next - 1] if self._next else ""
        reason = str(problem) if isinstance(problem, UnreadableTextError) else "its syntax is not known"
        _, location = self._split_location(text)
        return CompileError(
            "E0204",
            f"line {self._next} of Triton's intermediate text could not be read: {reason}",
            location=location.location if location.frames else None,
            note=text,
        )

    def _line(self) -> str:
        """The next line that is not empty; the end of the text is an error, for every region has a closing line."""
        while True:
            if self._next >= len(self._lines):
                raise UnreadableTextError("the text ends in the middle")
            line = self._lines[self._next]
            self._next += 1
            if line:
                return line

    def _split_location(self, line: str) -> tuple[str, SourceLocation]:
        position = line.rfind(" loc(")
        while position >= 0 and line.count("(", position) != line.count(")", position):
            position = line.rfind(" loc(", 0, position)
        if position < 0 or not line.endswith(")"):
            return line, self._locations.resolve("unknown")
        return line[:position], self._locations.resolve(line[position + 5 : -1])

    # Functions, regions, blocks

    def _function(self, line: str) -> TtirFunction:
        match = fully_matched(_FUNCTION.fullmatch(line))
        header, _, attributes = match[3].partition(" attributes {")
        arguments_text, has_results, results = header.partition(") -> ")
        self._values.clear()
        arguments = self._arguments(arguments_text if has_results else header.removesuffix(")"))
        body, closing = self._region(tuple(argument.value for argument in arguments))
        return TtirFunction(
            name=unescape(match[2].strip('"')),
            arguments=arguments,
            results=read_types(results),
            body=body,
            visibility=match[1] or "public",
            attributes=read_attributes(attributes.removesuffix("}")),
            location=self._split_location(closing)[1],
        )

    def _arguments(self, text: str) -> tuple[Argument, ...]:
        """Reads ``%x: type {attributes} loc(...), ...`` and defines the values."""
        arguments: list[Argument] = []
        for part in split_outside_brackets(text or ""):
            match = fully_matched(_ARGUMENT.fullmatch(part.strip()))
            (argument_type,) = read_types(match[2])
            attributes = read_attributes(*lift_strings(match[3])) if match[3] else {}
            arguments.append(Argument(match[1], self._define("%" + match[1], argument_type), attributes))
        return tuple(arguments)

    def _define(self, name: str, value_type: TtirType) -> Value:
        value = self._values[name] = Value(name[1:], value_type)
        return value

    def _region(self, arguments: tuple[Value, ...] = ()) -> tuple[Region, str]:
        """Reads blocks up to the line that closes the region, and returns that line too."""
        block = Block("bb0", arguments)
        blocks = [block]
        while True:
            line = self._line()
            if line[0] == "}":
                return Region(blocks), line
            if line[0] == "^":
                match = fully_matched(_LABEL.match(line))
                values = tuple(argument.value for argument in self._arguments(match[2]))
                if len(blocks) == 1 and not block.operations and not arguments:
                    blocks.clear()
                block = Block(match[1], values)
                blocks.append(block)
            else:
                block.operations.append(self._operation(line))

    # Operations

    def _operation(self, line: str) -> TtirOperation:
        line, location = self._split_location(line)
        result_names = ""
        if line[0] == "%":
            result_names, _, line = line.partition(" = ")
        match = fully_matched(_NAME.match(line))
        name, rest = match[1], line[match.end() :]
        if line[-1] == "{":
            return self._with_regions(name, rest, result_names)
        if name == "arith.constant":
            return self._constant(rest, result_names, location)
        if name in ("cf.br", "cf.cond_br"):
            return self._branch(name, rest, location)
        attributes: dict[str, Attribute] = {}
        self._strings = []
        if '"' in rest:
            rest, self._strings = lift_strings(rest)
        if "{" in rest:
            rest, attributes = self._split_attributes(rest)
        head, found, types = rest.rpartition(" : ")
        if not found and " -> " in rest:  # without operands there are no types of operands
            head, found, types = rest.partition(" -> ")
        operands = self._operands(name, (head if found else rest).strip(), attributes)
        results = self._results(result_names, _result_types(name, types)) if result_names else ()
        return TtirOperation(name, operands, results, attributes, location)

    def _split_attributes(self, rest: str) -> tuple[str, dict[str, Attribute]]:
        """Cuts the attribute dictionary out of an operation's text."""
        start, end = rest.index("{"), rest.rindex("}")
        attributes = spell_cache_policy(read_attributes(rest[start + 1 : end], self._strings))
        return rest[:start].removesuffix("<") + rest[end + 1 :].removeprefix(">"), attributes

    def _operands(self, name: str, head: str, attributes: dict[str, Attribute]) -> tuple[Value, ...]:
        if not head:
            return ()
        try:
            return tuple([self._values[operand] for operand in head.split(", ")])
        except KeyError:
            return self._worded_operands(name, head, attributes)

    def _worded_operands(self, name: str, head: str, attributes: dict[str, Attribute]) -> tuple[Value, ...]:
        """Reads operands mixed with words and brackets; the words go to ``attributes``."""
        operands: list[Value] = []
        positional = iter(POSITIONAL_WORDS.get(name, ()))
        position = 0
        while position < len(head):
            token = _HEAD_TOKEN.match(head, position)
            if token is None:
                raise UnreadableTextError(f"{head[position:]!r} is not expected in {name}")
            position = token.end()
            match token.lastgroup:
                case "value":
                    operands.append(self._value(token["value"]))
                case "setting":
                    attributes[token["pair"]] = token["setting"]
                case "setting2":
                    attributes[token["option"]] = token["setting2"]
                case "punctuation":
                    pass
                case _:
                    self._word(name, token, positional, len(operands), attributes)
        return tuple(operands)

    def _word(
        self,
        name: str,
        token: re.Match[str],
        positional: Iterator[str],
        position: int,
        attributes: dict[str, Attribute],
    ) -> None:
        """Gives a word between the operands its meaning: a flag, a mark on the next operand, or an attribute."""
        word = token["word"]
        if word in FLAG_WORDS:
            attributes[word] = True
        elif word in OPERAND_WORDS:
            earlier = attributes.get(word, ())
            attributes[word] = (*earlier, position) if isinstance(earlier, tuple) else (position,)
        elif attribute := next(positional, None):
            if token["string"]:
                attributes[attribute] = self._strings[int(token["string"])]
            elif token["quoted"]:
                attributes[attribute] = self._strings[int(token["quoted"])]
            else:
                attributes[attribute] = word or token["symbol"]
        else:
            raise UnreadableTextError(f"{token[0].strip()!r} is not expected in {name}")

    def _value(self, name: str) -> Value:
        value = self._values.get(name)
        if value is None:
            raise UnreadableTextError(f"{name} is used before it is defined")
        return value

    def _results(self, names: str, types: tuple[TtirType, ...]) -> tuple[Value, ...]:
        """Defines results named ``%a``, ``%a:3`` (used as ``%a#0`` and so on) or ``%a, %b``."""
        expanded: list[str] = []
        for name in names.split(", "):
            base, grouped, count = name.partition(":")
            expanded += [f"{base}#{index}" for index in range(int(count))] if grouped else [name]
        if len(expanded) != len(types):
            raise UnreadableTextError(f"{len(expanded)} results have {len(types)} types")
        return tuple([self._define(name, value_type) for name, value_type in zip(expanded, types, strict=True)])

    def _constant(self, rest: str, result_names: str, location: SourceLocation) -> TtirOperation:
        constant_type, value = read_constant(rest.strip())
        return TtirOperation(
            "arith.constant", (), self._results(result_names, (constant_type,)), {"value": value}, location
        )

    def _branch(self, name: str, rest: str, location: SourceLocation) -> TtirOperation:
        condition = rest.partition("^")[0].strip(" ,")
        successors = tuple(
            Successor(label, tuple(self._value(value) for value in values.split(", ")) if values else ())
            for label, values in _SUCCESSOR.findall(rest)
        )
        if len(successors) != (2 if condition else 1):
            raise UnreadableTextError(f"{name} has {len(successors)} targets")
        operands = (self._value(condition),) if condition else ()
        return TtirOperation(name, operands, (), {}, location, successors=successors)

    # Operations with regions

    def _with_regions(self, name: str, rest: str, result_names: str) -> TtirOperation:
        match name:
            case "scf.for":
                return self._for(rest, result_names)
            case "scf.while":
                return self._while(rest, result_names)
            case "scf.if":
                return self._if(rest, result_names)
            case _:
                return self._generic(name, rest, result_names)

    def _carried(self, text: str, types: tuple[TtirType, ...]) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Reads ``%inner = %outer, ...``: the values that enter, and the block arguments that stand for them."""
        pairs = [pair.split(" = ") for pair in text.split(", ")] if text else []
        if len(pairs) != len(types):
            raise UnreadableTextError(f"{len(pairs)} carried values have {len(types)} types")
        outer = tuple(self._value(value) for _, value in pairs)
        inner = tuple(self._define(name, carried) for (name, _), carried in zip(pairs, types, strict=True))
        return outer, inner

    def _for(self, rest: str, result_names: str) -> TtirOperation:
        match = fully_matched(_FOR.fullmatch(rest))
        bounds = tuple(self._value(match[group]) for group in (3, 4, 5))
        types = read_types(match[7] or "")
        outer, inner = self._carried(match[6] or "", types)
        counter = self._define(match[2], read_types(match[8])[0] if match[8] else INDEX)
        body, closing = self._region((counter, *inner))
        attributes, location = self._closing(closing)
        if match[1]:
            attributes["unsigned"] = True
        results = self._results(result_names, types) if result_names else ()
        return TtirOperation("scf.for", bounds + outer, results, attributes, location, (body,))

    def _while(self, rest: str, result_names: str) -> TtirOperation:
        match = fully_matched(_WHILE.fullmatch(rest))
        types = read_types(match[3])
        outer, inner = self._carried(match[1] or "", read_types(match[2]))
        before, closing = self._region(inner)
        if closing != "} do {":
            raise UnreadableTextError("scf.while has no second region")
        after, closing = self._region()
        attributes, location = self._closing(closing)
        results = self._results(result_names, types) if result_names else ()
        return TtirOperation("scf.while", outer, results, attributes, location, (before, after))

    def _if(self, rest: str, result_names: str) -> TtirOperation:
        match = fully_matched(_IF.fullmatch(rest))
        condition = self._value(match[1])
        region, closing = self._region()
        regions = [region]
        if closing == "} else {":
            region, closing = self._region()
            regions.append(region)
        attributes, location = self._closing(closing)
        results = self._results(result_names, read_types(match[2] or "")) if result_names else ()
        return TtirOperation("scf.if", (condition,), results, attributes, location, tuple(regions))

    def _generic(self, name: str, rest: str, result_names: str) -> TtirOperation:
        """Reads ``"tt.reduce"(%x) <{axis = 0 : i32}> ({ ... }) : (T) -> T``."""
        match = fully_matched(_GENERIC.fullmatch(rest))
        operands = tuple(self._value(value) for value in match[1].split(", ")) if match[1] else ()
        region, closing = self._region()
        regions = [region]
        while closing == "}, {":
            region, closing = self._region()
            regions.append(region)
        closing, location = self._split_location(closing)
        end = fully_matched(_CLOSE_GENERIC.fullmatch(closing))
        attributes = read_attributes(match[2] or "") | read_attributes(end[1] or "")
        results = self._results(result_names, _result_types(name, end[2])) if result_names else ()
        return TtirOperation(name, operands, results, attributes, location, tuple(regions))

    def _closing(self, line: str) -> tuple[dict[str, Attribute], SourceLocation]:
        """Reads the attributes and the location behind the last brace of an operation."""
        line, location = self._split_location(line)
        return read_attributes(fully_matched(_CLOSE.fullmatch(line))[1] or ""), location


@lru_cache(maxsize=4096)
def _result_types(name: str, text: str) -> tuple[TtirType, ...]:
    if name in ABBREVIATED_TYPES:
        return (read_descriptor_result(text),)
    signature = read_signature(text)
    if signature.results is not None:
        return signature.results * 2 if name == "tt.split" else signature.results  # it names the type of both once
    rule = RESULT_TYPES.get(name)
    return (rule(signature.listed) if rule else signature.listed[-1],)


def spell_cache_policy(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    """The attributes with what 3.9 writes as a policy under the names that earlier releases write."""
    policy = attributes.pop("cachePolicy", None)
    if isinstance(policy, dict):
        attributes["cacheModifier"] = policy["cache_modifier"]
        attributes["evictionPolicy"] = policy["eviction_policy"]
    return attributes


def fully_matched(match: re.Match[str] | None) -> re.Match[str]:
    """The match itself.

    Raises:
        UnreadableTextError: there is none.
    """
    if match is None:
        raise UnreadableTextError("its syntax is not known")
    return match
