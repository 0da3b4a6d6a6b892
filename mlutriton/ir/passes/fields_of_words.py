"""Fields of words that are taken out of all words at once, one field after the other.

Packed weights have a few bits of each of eight columns in a word. So a kernel repeats each word, and shifts it by what
its columns need:

    fields = repeat words[K, W, 1] 8 times >> repeat shifts[1, 1, 8]            [K, W, 8]

For the vector unit those are lines of eight elements. With the fields outermost, all words are shifted by one number,
then by the next one, and what comes of it is turned once it is as narrow as it gets:

    fields = repeat words[1, K, W] 8 times >> repeat shifts[8, 1, 1]            [8, K, W]
    fields = turned(bytes of (fields & 15))                                     [K, W, 8]

What is the same in all rows, as zeros of a group are, is computed for one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlutriton.dtypes import I8, DType
from mlutriton.ir.analysis.greatest import greatest
from mlutriton.ir.analysis.scalars import Scalars
from mlutriton.ir.core import Block, Function, Operation, Value, replace_uses
from mlutriton.ir.ops import Broadcast, Constant, Elementwise, Reshape, Splat, Transpose
from mlutriton.ir.passes import simplify
from mlutriton.ir.types import element_type, shape_of, storage_dtype, with_shape

# The fields of a word are a line that is so short at most: much less than what a vector unit takes at once.
_LINE_BYTES = 32


@dataclass(frozen=True)
class _Spread:
    """How a tensor of fields is repeated: along rows, words of a row, and fields of a word.

    Attributes:
        shape: how many of each there are.
        extents: the same of what is repeated, 1 where it is the same for all.
    """

    shape: tuple[int, ...]
    extents: tuple[int, ...]

    @property
    def is_of_words(self) -> bool:
        """It is the same for all fields of a word."""
        return self.extents[-1] == 1

    @property
    def is_of_fields(self) -> bool:
        """It is the same for all words."""
        return max(self.extents[:-1]) == 1


def run(function: Function) -> None:
    """Take fields out of all words at once."""
    fields = _Fields(function)
    if fields.ends:
        fields.write(function.body)
        simplify.run(function)


class _Fields:
    """Finds what is computed of fields, and writes it anew.

    Attributes:
        ends: what is made of fields and used by something else.
    """

    def __init__(self, function: Function) -> None:
        self._spread: dict[Value, _Spread] = {}
        every = function.walk()
        for operation in every:
            found = self._found(operation) if len(operation.results) == 1 else None
            if found is not None:
                self._spread[operation.result] = found
        used = {operand for each in every if not self._is_computed(each) for operand in each.operands}
        self.ends = {
            each.result
            for each in every
            if self._is_computed(each) and each.result in used and min(self._spread[each.result].extents[-2:]) > 1
        }
        self._made: dict[tuple[Value, bool], Value] = {}
        self._code = Scalars(function.location)

    def _is_computed(self, operation: Operation) -> bool:
        return isinstance(operation, Elementwise) and operation.result in self._spread

    def _found(self, operation: Operation) -> _Spread | None:
        """How a result is spread if it is repeated for fields or words, or computed from such tensors alone."""
        shape = shape_of(operation.result.type)
        match operation:
            case Reshape() if isinstance(repeat := operation.operands[0].defining_op, Broadcast):
                parted = shape_of(repeat.result.type)
                if len(parted) != len(shape) + 1:
                    return None
                *rows, words, fields = parted
                line = fields * storage_dtype(element_type(operation.result.type)).bytes
                if (*rows, words * fields) != shape or words == 1 or line > _LINE_BYTES:
                    return None
                found = _Spread(parted, shape_of(repeat.operands[0].type))
                return found if found.is_of_words or found.is_of_fields else None
            case Broadcast() if (source := self._spread.get(operation.operands[0])) is not None:
                is_of_rows = shape_of(operation.operands[0].type)[-1] == shape[-1]
                return replace(source, shape=(*shape[:-1], *source.shape[-2:])) if is_of_rows else None
            case Elementwise():
                return self._combined([each for each in operation.operands if not _is_uniform(each)])
            case _:
                return None

    def _combined(self, operands: Sequence[Value]) -> _Spread | None:
        """How what is computed of tensors is spread."""
        every = [found for each in operands if (found := self._spread.get(each)) is not None]
        if not every or len(every) < len(operands) or len({each.shape for each in every}) > 1:
            return None
        found = replace(every[0], extents=tuple(map(max, *(each.extents for each in every), every[0].extents)))
        # Words are repeated as a whole, and so is each of the fields.
        words = (*found.extents[:-1], 1)
        is_plain = all(each.is_of_fields or each.extents in (found.extents, words) for each in every)
        return found if is_plain else None

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, block: Block) -> None:
        """Write the ends in a block anew."""
        replaced: dict[Value, Value] = {}
        written: list[Operation] = []
        for operation in block.operations:
            outside = dict(self._made)
            for region in operation.regions:
                self.write(region)
            self._made = outside
            written.append(operation)
            if not self.ends.isdisjoint(operation.results):
                self._code.operations, self._code.location = [], operation.location
                replaced[operation.result] = self._in_place(operation.result)
                written += self._code.operations
        block.operations = written
        replace_uses(block, replaced)

    def _in_place(self, end: Value) -> Value:
        """An end whose fields stand in their words again."""
        add, dtype = self._code.add, element_type(end.type)
        is_of_rows = max(self._spread[end].extents[:-2], default=1) > 1
        made = self._made_of(end, is_turned=is_of_rows)
        # Shifts and masks leave little of a word, and what is narrow is turned in less time.
        most = greatest(end)
        is_narrow = is_of_rows and isinstance(dtype, DType) and most is not None and most.bit_length() < I8.bits
        if is_narrow and dtype != I8:
            made = add(Elementwise.of("trunc_int", made, to=I8))
        if is_of_rows:
            made = add(Transpose([made], {"order": (*range(1, len(shape_of(made.type))), 0)}))
        *rows, words, fields = shape_of(made.type)
        made = add(Reshape([made], result_types=[with_shape((*rows, words * fields), element_type(made.type))]))
        if element_type(made.type) != dtype:
            assert isinstance(dtype, DType)
            made = add(Elementwise.of("sext", made, to=dtype))
        return made if made.type == end.type else add(Broadcast([made], result_types=[end.type]))

    def _made_of(self, value: Value, *, is_turned: bool) -> Value:
        """What is computed of fields, 1 along what it is the same for; with fields outermost if these are turned."""
        if (value, is_turned) not in self._made:
            self._made[value, is_turned] = self._make(value, is_turned=is_turned)
        return self._made[value, is_turned]

    def _make(self, value: Value, *, is_turned: bool) -> Value:
        operation, add = value.defining_op, self._code.add
        assert operation is not None
        *outer, fields = self._spread[value].extents
        shape = (fields, *outer) if is_turned else (*outer, fields)
        match operation:
            case Reshape():
                (repeated,) = operation.operands
                assert isinstance(repeated.defining_op, Broadcast)
                type = with_shape(shape, element_type(value.type))
                return add(Reshape(repeated.defining_op.operands, result_types=[type]))
            case Broadcast():
                return self._made_of(operation.operands[0], is_turned=is_turned)
            case _:
                operands = [self._operand(each, shape, is_turned=is_turned) for each in operation.operands]
                return add(operation.__class__(operands, operation.attributes))

    def _operand(self, value: Value, shape: tuple[int, ...], *, is_turned: bool) -> Value:
        """An operand of what has a shape."""
        type, add = with_shape(shape, element_type(value.type)), self._code.add
        if _is_uniform(value):
            made = value.defining_op
            if isinstance(made, Constant):
                return add(Constant.of(made.value, type))
            assert isinstance(made, Splat)
            return add(Splat(made.operands, result_types=[type]))
        made = self._made_of(value, is_turned=is_turned)
        return made if made.type == type else add(Broadcast([made], result_types=[type]))


def _is_uniform(value: Value) -> bool:
    """All elements are the same."""
    return isinstance(value.defining_op, Splat | Constant)
