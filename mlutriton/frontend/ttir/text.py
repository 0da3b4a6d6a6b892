"""Types, attributes and constants of TTIR text.

Each reader takes the text of one type list or attribute dictionary; the same few texts return hundreds of times in a
kernel, so all of them are memoized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from mlutriton.dtypes import BF16, F8E4B8, F8E4M3, F8E5B16, F8E5M2, F16, F32, F64, I1, I8, I16, I32, I64, DType
from mlutriton.ir.types import PointerType, TensorType, Type


@dataclass(frozen=True, slots=True)
class IndexType:
    """MLIR's ``index``: the integer type of loop bounds that Triton did not give a width."""

    def __str__(self) -> str:
        return "index"


@dataclass(frozen=True, slots=True)
class TensorDescriptorType:
    """A handle on a tensor in memory that is read and written by blocks of one shape.

    Attributes:
        block: the type of a block.
        is_unsigned: its elements are integers that its atomic minimum and maximum compare as unsigned.
    """

    block: TensorType
    is_unsigned: bool = False

    def __str__(self) -> str:
        return f"tensordesc<{self.block}>"


@dataclass(frozen=True, slots=True)
class BlockPointerType:
    """A position in a tensor in memory, read and written by blocks of one shape; Triton up to 3.7 has it."""

    block: TensorType

    def __str__(self) -> str:
        return f"ptr<{self.block}>"


TtirType: TypeAlias = Type | IndexType | TensorDescriptorType | BlockPointerType
Attribute: TypeAlias = (
    bool | int | float | str | tuple["Attribute", ...] | dict[str, "Attribute"] | np.ndarray[Any, np.dtype[Any]]
)

INDEX = IndexType()


class UnreadableTextError(ValueError):
    """A piece of TTIR does not follow the syntax known here; the parser adds line and text."""


# MLIR's names of element types. Only integers in tensor descriptors carry a sign.
SCALARS: dict[str, DType | IndexType] = {
    **{dtype.name: dtype for dtype in (I1, I8, I16, I32, I64, F16, BF16, F32, F64)},
    **{f"{sign}i{dtype.bits}": dtype for sign in "su" for dtype in (I1, I8, I16, I32, I64)},
    "f8E5M2": F8E5M2,
    "f8E4M3FN": F8E4M3,
    "f8E5M2FNUZ": F8E5B16,
    "f8E4M3FNUZ": F8E4B8,
    "index": INDEX,
}

_DIMENSION = re.compile(r"(\d+)x")
_SCALAR_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Signature:
    """The types at the end of an operation: those listed, and those behind an arrow or ``to`` if there is one."""

    listed: tuple[TtirType, ...]
    results: tuple[TtirType, ...] | None


@lru_cache(maxsize=4096)
def read_signature(text: str) -> Signature:
    """Reads ``T``, ``T, T``, ``T -> T``, ``T to T``, ``T * T -> T`` and ``(T, T) -> (T, T)``.

    Raises:
        UnreadableTextError: the text is none of these.
    """
    for separator in (" -> ", " to "):
        listed, found, results = text.partition(separator)
        if found:
            return Signature(read_types(listed), read_types(results))
    return Signature(read_types(text), None)


@lru_cache(maxsize=4096)
def read_types(text: str) -> tuple[TtirType, ...]:
    """Reads a list of types, with or without parentheses; ``*`` separates as a comma does.

    Raises:
        UnreadableTextError: a type is not known.
    """
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return tuple(_read_type(part.strip()) for part in split_outside_brackets(text.replace(" * ", ", ")))


@lru_cache(maxsize=4096)
def _read_type(text: str) -> TtirType:
    if scalar := SCALARS.get(text):
        return scalar
    if text.startswith("tensor<") and text.endswith(">"):
        return _read_shaped(text[7:-1])
    if text.startswith("!tt.ptr<") and text.endswith(">"):
        pointee, *_ = split_outside_brackets(text[8:-1])  # without the address space, which says nothing about values
        return _read_pointer(pointee)
    if text.startswith("!tt.tensordesc<") and text.endswith(">"):
        return _read_descriptor(text[15:-1])
    raise UnreadableTextError(f"the type {text!r} is not known")


def _read_pointer(pointee: str) -> PointerType | BlockPointerType:
    match _read_type(pointee):
        case DType() as element:
            return PointerType(element)
        case TensorType() as block:
            return BlockPointerType(block)
        case other:
            raise UnreadableTextError(f"a pointer to {other} is not known")


def _read_shaped(text: str) -> TensorType:
    shape: list[int] = []
    position = 0
    while dimension := _DIMENSION.match(text, position):
        shape.append(int(dimension[1]))
        position = dimension.end()
    element = _read_type(text[position:])
    if not shape or not isinstance(element, DType | PointerType):
        raise UnreadableTextError(f"the tensor type {text!r} is not known")
    return TensorType(tuple(shape), element)


def _read_descriptor(text: str) -> TensorDescriptorType:
    # Triton up to 3.7 writes tensordesc<tensor<8x8xf32>>, later releases tensordesc<8x8xf32>.
    block = text[7:-1] if text.startswith("tensor<") else text
    return TensorDescriptorType(_read_shaped(block), is_unsigned="xui" in block)


@lru_cache(maxsize=256)
def read_descriptor_result(text: str) -> TtirType:
    """Reads the abbreviated result type of ``tt.make_tensor_descriptor`` and the block pointer operations.

    Raises:
        UnreadableTextError: the text is not a list of types in angle brackets.
    """
    parts = [part.strip() for part in split_outside_brackets(text)]
    if not all(part.startswith("<") and part.endswith(">") for part in parts):
        raise UnreadableTextError(f"the types {text!r} are not in angle brackets")
    block = parts[-1][1:-1]
    return _read_pointer(block) if len(parts) == 1 else _read_descriptor(block)


def split_outside_brackets(text: str) -> Iterator[str]:
    """Yields the parts of ``text`` between commas that stand in no bracket; nothing for empty text."""
    depth = start = 0
    for position, character in enumerate(text):
        if character in "<([{":
            depth += 1
        elif character in ">)]}":
            depth -= not text.startswith("->", position - 1)
        elif character == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    if text[start:].strip():
        yield text[start:]


_INTEGER = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?\d+\.\d*(?:[eE][-+]?\d+)?")
_ESCAPE = re.compile(r'\\(?:([0-9A-Fa-f]{2})|([\\"nt]))')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def lift_strings(text: str) -> tuple[str, list[str]]:
    """Replaces every string literal by ``"k"`` with its index, so that its content cannot be taken for syntax."""
    strings: list[str] = []

    def lift(match: re.Match[str]) -> str:
        strings.append(unescape(match[0][1:-1]))
        return f'"{len(strings) - 1}"'

    return _STRING.sub(lift, text), strings


def unescape(text: str) -> str:
    r"""Undoes MLIR's escapes: ``\22`` is a byte in hexadecimal."""
    if "\\" not in text:
        return text
    named = {"n": b"\n", "t": b"\t", "\\": b"\\", '"': b'"'}
    pieces: list[bytes] = []
    position = 0
    for match in _ESCAPE.finditer(text):
        pieces.append(text[position : match.start()].encode())
        pieces.append(bytes.fromhex(match[1]) if match[1] else named[match[2]])
        position = match.end()
    pieces.append(text[position:].encode())
    return b"".join(pieces).decode(errors="replace")


def read_attributes(text: str, strings: list[str] | None = None) -> dict[str, Attribute]:
    """Reads the inside of an attribute dictionary, ``end = 64 : i32, start = 0 : i32``.

    Args:
        text: the text between the braces, its strings lifted.
        strings: what was lifted.

    Raises:
        UnreadableTextError: an entry or value has an unknown form.
    """
    if not strings:
        return dict(_read_plain_attributes(text))
    return dict(_read_entries(text, strings))


@lru_cache(maxsize=1024)
def _read_plain_attributes(text: str) -> tuple[tuple[str, Attribute], ...]:
    return tuple(_read_entries(text, []))


def _read_entries(text: str, strings: list[str]) -> Iterator[tuple[str, Attribute]]:
    for entry in split_outside_brackets(text):
        name, found, value = entry.strip().partition(" = ")
        yield name, read_attribute(value, strings) if found else True


def read_attribute(text: str, strings: list[str]) -> Attribute:
    """Reads one attribute value; an attribute alias, a type and a bare word stay text.

    Raises:
        UnreadableTextError: the value has an unknown form.
    """
    value, _, _ = text.partition(" : ")
    if _INTEGER.fullmatch(value):
        return int(value)
    if value in ("true", "false"):
        return value == "true"
    if value.startswith('"') and value.endswith('"'):
        return strings[int(value[1:-1])]
    if text.startswith("array<") and text.endswith(">"):
        _, _, elements = text[6:-1].partition(":")
        return tuple(read_attribute(element.strip(), strings) for element in split_outside_brackets(elements))
    if text.startswith("[") and text.endswith("]"):
        return tuple(read_attribute(element.strip(), strings) for element in split_outside_brackets(text[1:-1]))
    if text.startswith("#") and text.endswith(">"):
        _, _, entries = text[:-1].partition("<")
        return dict(_read_entries(entries, strings))
    if text.startswith("{") and text.endswith("}"):
        return dict(_read_entries(text[1:-1], strings))
    if _FLOAT.fullmatch(value):
        return float(value)
    if _SCALAR_NAME.fullmatch(value) or text[0] in "#@!(" or text.startswith(("dense<", "tensor<")):
        return text
    raise UnreadableTextError(f"the attribute value {text!r} has an unknown form")


def read_constant(text: str) -> tuple[TtirType, Attribute]:
    """Reads the value of ``arith.constant``: a scalar, or ``dense<...>`` of a splat, a nested list or raw bytes.

    Returns:
        The type, and a Python number (scalars and splats) or an array of the tensor's shape. A NaN written as bits
        loses its payload.

    Raises:
        UnreadableTextError: the value does not fit its type.
    """
    if text in ("true", "false"):
        return I1, text == "true"
    value, _, type_text = text.rpartition(" : ")
    (constant_type,) = read_types(type_text)
    element = constant_type.element if isinstance(constant_type, TensorType) else constant_type
    if not isinstance(element, DType | IndexType):
        raise UnreadableTextError(f"a constant of type {constant_type} has no value")
    if not isinstance(constant_type, TensorType):
        return constant_type, _read_number(value, element)
    if not (value.startswith("dense<") and value.endswith(">")):
        raise UnreadableTextError(f"the tensor constant {value!r} is not dense")
    content = value[6:-1]
    if content.startswith("["):
        numbers = [_read_number(number, element) for number in re.findall(r"[^\s,\[\]]+", content)]
        dtype = element.numpy if isinstance(element, DType) else np.dtype(np.int64)
        array = np.array(numbers, dtype=np.float64 if isinstance(element, DType) and element.is_float else np.int64)
        return constant_type, array.astype(dtype).reshape(constant_type.shape)
    if content.startswith('"0x') and isinstance(element, DType):
        array = np.frombuffer(bytes.fromhex(content[3:-1]), dtype=element.numpy)
        return constant_type, array.item() if array.size == 1 else array.reshape(constant_type.shape)
    return constant_type, _read_number(content, element)


def _read_number(text: str, element: DType | IndexType) -> bool | int | float:
    if text in ("true", "false"):
        return text == "true"
    if not isinstance(element, DType) or not element.is_float:
        if not _INTEGER.fullmatch(text):
            raise UnreadableTextError(f"{text!r} is not an integer")
        return int(text)
    if text.startswith("0x"):
        bits = int(text, 16).to_bytes(element.bytes, "little")
        return float(np.frombuffer(bits, dtype=element.numpy)[0])
    if not _FLOAT.fullmatch(text):
        raise UnreadableTextError(f"{text!r} is not a number")
    return float(text)
