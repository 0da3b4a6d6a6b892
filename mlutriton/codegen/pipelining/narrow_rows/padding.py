"""What stands behind the valid part of rows, and whether a reduction would find the same with less of it.

A tile's rows are padded with the fill value of its load, and arithmetic makes other numbers of that. A reduction may
have a row with less padding, but some, if all padding of a row is one number of which it makes no difference how often
it is combined: any number for a maximum, for a sum one of 0, infinity and NaN. The analysis follows the code from top
to bottom and knows of the padding of each buffer

* the numbers of which it is one, the same along each row,
* or that it is the same along each row (``ALIKE``),
* or that it counts from the limit on (``POSITIONS``),
* or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from mlutriton.arithmetic.evaluate import evaluate
from mlutriton.codegen.pipelining.narrow_rows.invariants import Expression, Invariants
from mlutriton.codegen.tile_code import (
    WRITING,
    Branch,
    Loop,
    Node,
    TileCode,
    While,
    buffers_of,
    children,
)
from mlutriton.dtypes import DType
from mlutriton.isa.operands import FORWARD, Address, Immediate, Mode, Operand, Register
from mlutriton.isa.program import Instruction, slot_dtype
from mlutriton.isa.table import Access

ALIKE, POSITIONS = "alike", "positions"
Pad = frozenset[str] | str | None
"""Numbers are kept as texts: so a NaN is equal to itself, and -0.0 not to 0.0."""

_MOST_NUMBERS = 8
_IDEMPOTENT = frozenset({"fmax", "fmin", "fmaximum", "fminimum", "smax", "smin", "umax", "umin", "and", "or"})
_ZEROS = frozenset({"0.0", "-0.0"})
_INFINITIES = frozenset({"inf", "-inf"})
_NAN = frozenset({"nan"})
# By the name of another reduction, the numbers that may be combined once or many times.
_REPEATABLE = {"fadd": _ZEROS | _INFINITIES | _NAN, "fmul": frozenset({"1.0", "nan"}),
               "add": frozenset({"0"}), "xor": frozenset({"0"}), "mul": frozenset({"1", "0"})}  # fmt: skip


class Padding:
    """The analysis of a kernel.

    Attributes:
        limits: by the name of a buffer with padded rows, the expression of their limit.
        length: elements of a row with its padding.
        harmed: names of buffers that are reduced along their rows and need all their padding.
    """

    def __init__(self, code: TileCode, limits: Mapping[str, Expression], length: int, invariants: Invariants) -> None:
        self.limits, self.length, self.invariants = limits, length, invariants
        self.harmed: set[str] = set()
        self._types: dict[str | None, DType] = {}  # by buffer, as what it was last written; None is what is handed on
        self._block(code.nodes, {})

    def _block(self, nodes: Sequence[Node], pads: dict[str, Pad]) -> None:
        forwarded: Pad = None
        for node in nodes:
            if isinstance(node, Instruction):
                forwarded = self._instruction(node, forwarded, pads)
                continue
            written = buffers_of([node], *WRITING)
            inside = pads | dict.fromkeys(written) if isinstance(node, Loop | While) else pads
            for nested in children(node):
                self._block(nested, inside.copy())
            if isinstance(node, Branch | Loop | While):
                pads |= dict.fromkeys(written)

    def _instruction(self, node: Instruction, forwarded: Pad, pads: dict[str, Pad]) -> Pad:
        """Note what the instruction does to its target's padding; what it hands on in a chain."""
        targets = [operand for operand, access in node.accesses if access is not Access.READ]
        target = targets[0].buffer if targets and isinstance(targets[0], Address) else None
        made: Pad = None
        result = slot_dtype(node.row.slots[0], node.dtypes) if targets else None
        if node.row.is_elementwise_or_mov:
            made = self._elementwise(node, forwarded, pads)
            if node.operands[0] == FORWARD:
                self._types[None] = slot_dtype(node.row.slots[0], node.dtypes)
                return made
        elif node.row.name == "dma.load_pad":
            made = self._scalar(node.operand("fill"), node.dtypes[0])
        elif node.row.name == "v.iota" and (node.operand("start"), node.operand("step")) == (
            Immediate(0),
            Immediate(1),
        ):
            made = POSITIONS
        elif node.row.name.startswith("red."):
            made = self._reduction(node, pads)
        if target is not None and target in self.limits:
            assert result is not None
            pads[target], self._types[target] = made, result
        return None

    def _reduction(self, node: Instruction, pads: dict[str, Pad]) -> Pad:
        """What a reduction across rows makes of their padding; one along them is looked at."""
        source, kind = node.operand("a"), node.row.name.removeprefix("red.")
        if not isinstance(source, Address) or source.buffer not in self.limits:
            return None
        pad = self._read_as(node.dtypes[0], source.buffer, pads.get(source.buffer))
        if node.operand("inner") != Immediate(1):
            same = isinstance(pad, frozenset) and (kind in _IDEMPOTENT or pad == frozenset({"0.0"}))
            return pad if same else None if pad in (None, POSITIONS) else ALIKE
        harmless = pad not in (None, POSITIONS) if kind in _IDEMPOTENT else False
        if isinstance(pad, frozenset) and kind in _REPEATABLE:
            harmless = pad <= _REPEATABLE[kind]
        if not harmless:
            self.harmed.add(source.buffer)
        return None

    # ---- element-wise arithmetic ------------------------------------------------------------------------------------

    def _elementwise(self, node: Instruction, forwarded: Pad, pads: dict[str, Pad]) -> Pad:
        operation = node.row.operation
        slots = node.row.slots[1 : 1 + (operation.arity if operation else 1)]
        sources = node.operands[1 : 1 + len(slots)]
        known = [
            self._read_as(slot_dtype(slot, node.dtypes), None, forwarded)
            if operand == FORWARD
            else self._buffer(operand, slot_dtype(slot, node.dtypes), pads)
            if isinstance(operand, Address)
            else self._scalar(operand, slot_dtype(slot, node.dtypes))
            for slot, operand in zip(slots, sources, strict=True)
        ]
        if operation is None:
            return known[0]
        if operation.name == "select" and known[0] in (frozenset({"0"}), frozenset({"1"})):
            return known[1] if known[0] == frozenset({"1"}) else known[2]
        numbers = [pad for pad in known if isinstance(pad, frozenset)]
        if len(numbers) == len(known):
            return _evaluated(node, [slot_dtype(slot, node.dtypes) for slot in slots], numbers)
        if POSITIONS in known:
            return self._comparison(operation.name, known, sources, node)
        return None if None in known else _with_unknown(operation.name, known)

    def _buffer(self, operand: Address, dtype: DType, pads: dict[str, Pad]) -> Pad:
        if operand.mode is Mode.ROW:
            return ALIKE
        return self._read_as(dtype, operand.buffer, pads.get(operand.buffer))

    def _read_as(self, dtype: DType, buffer: str | None, pad: Pad) -> Pad:
        """What is known of padding if its bits are taken for a type, maybe not the one that they were written as."""
        written = self._types.get(buffer)
        if pad is None or written is dtype:
            return pad
        return ALIKE if pad != POSITIONS and written is not None and written.bytes == dtype.bytes else None

    def _scalar(self, operand: Operand, dtype: DType) -> Pad:
        return frozenset({_text(operand.value, dtype)}) if isinstance(operand, Immediate) else ALIKE

    def _comparison(self, name: str, known: Sequence[Pad], sources: Sequence[Operand], node: Instruction) -> Pad:
        """A comparison of positions with the limit, whose outcome in the padding is certain."""
        if known[0] != POSITIONS or name not in ("slt", "sge") or not isinstance(sources[1], Register):
            return None
        bound = self.invariants.expression(sources[1])
        limits = {_bound(limit, self.length) for limit in self.limits.values()}
        if bound is None or limits != {_bound(bound, self.length)}:
            return None
        return frozenset({"0" if name == "slt" else "1"})


def _bound(limit: Expression, length: int) -> Expression:
    """A limit without its clamps to the length of a row and to 0, and without widening."""
    clamps = {"sext": (), "smin": (Immediate(length),), "smax": (Immediate(0),)}
    while limit.name in clamps and limit.operands[1:] == clamps[limit.name]:
        (inner, *_) = limit.operands
        if not isinstance(inner, Expression):
            break
        limit = inner
    return limit


def _with_unknown(name: str, known: Sequence[Pad]) -> Pad:
    """The result where one operand is any number, the same along each row."""
    for pad in known:
        if isinstance(pad, frozenset) and name in ("fadd", "fsub") and pad <= _INFINITIES | _NAN:
            # Infinity less a number is infinite, or NaN.
            is_subtrahend = name == "fsub" and pad is known[1]
            return (_INFINITIES if is_subtrahend else pad) | _NAN
        if isinstance(pad, frozenset) and name == "fmul" and pad <= _ZEROS | _NAN:
            return _ZEROS | _NAN
    return ALIKE


def _evaluated(node: Instruction, dtypes: Sequence[DType], numbers: Sequence[frozenset[str]]) -> Pad:
    operation = node.row.operation
    assert operation is not None
    dtype = node.dtypes[0]
    result = slot_dtype(node.row.slots[0], node.dtypes)
    found: set[str] = set()
    for texts in product(*numbers):
        values = [_number(text, each) for text, each in zip(texts, dtypes, strict=True)]
        to = node.dtypes[1] if operation.is_cast else None
        found.add(_text(evaluate(operation.name, *values, dtype=dtype, to=to).item(), result))
        if len(found) > _MOST_NUMBERS:
            return ALIKE
    return frozenset(found)


def _text(value: float, dtype: DType) -> str:
    return repr(float(value)) if dtype.is_float else str(int(value))


def _number(text: str, dtype: DType) -> float | int:
    return float(text) if dtype.is_float else int(text)
