"""From which position to which a task works through a loop in blocks, and how long these are, as scalar arithmetic.

Positions count iterations, of the loop or of the grid. Programs of a grid are dealt out in runs of neighbours. Tasks
begin with blocks of different length: where all cores wait for their transfers at the same time, nobody uses the DRAM.
"""

from __future__ import annotations

from mlutriton.codegen.pipelining.blocks.plan import BlockShape
from mlutriton.codegen.pipelining.blocks.size import End, EndBlocks, FewBlocks
from mlutriton.codegen.tile_code import Loop, LoopEmitter, ScalarOperand
from mlutriton.dtypes import F32
from mlutriton.isa.operands import Immediate, Register
from mlutriton.isa.table import SPECIAL_REGISTERS

# Lengths of blocks are compared in parts of an iteration.
_SHARE_BITS = 8


class BlockExtents:
    """The positions of a task and of its blocks.

    Attributes:
        lower: the first position.
        upper: the one behind the last.
        step: of the loop's index from one position to the next.
        first: where the first block would begin if it were as long as the others.
        block: iterations of a block that is neither the first nor the last.
    """

    def __init__(self, emitter: LoopEmitter, loop: Loop, shape: BlockShape) -> None:
        """Measure a loop; what that takes is emitted."""
        self.emitter, self.loop, self.shape = emitter, loop, shape
        self._integer, self._scalar = emitter.index_integer, emitter.index_scalar
        integer = self._integer
        self.step: ScalarOperand = Immediate(1)
        self.lower: ScalarOperand = Immediate(0)
        if loop.independent:
            share = integer("mul", loop.end, loop.start)
            self.lower = self._scalar("sdiv", share, loop.step)
            self.upper = self._scalar("sdiv", integer("add", share, loop.end), loop.step)
        else:
            self.step = loop.step
            span = integer("sub", integer("sub", loop.end, loop.start), Immediate(1))
            some = integer("add", self._scalar("sdiv", span, loop.step), Immediate(1))
            entered = self._scalar("slt", loop.start, loop.end)
            self.upper = self._scalar("select", entered, some, Immediate(0))
        count = integer("sub", self.upper, self.lower)
        if self.shape.few is not None:
            self.block, short = self._few_blocks(self.shape.few, count)
            self.first = integer("sub", integer("add", self.lower, short), self.block)
        else:
            self.block = self._block_size(count)
            if self.shape.ends is None:
                self.first = integer("sub", self.lower, self._scalar("urem", self._task(), self.block))
            else:
                short = self._first_length(self.shape.ends, count)
                self.first = integer("sub", integer("add", self.lower, short), self.block)
        if self.shape.in_one > 1:
            at_once = self._scalar("sle", count, Immediate(self.shape.in_one))
            self.block = self._scalar("select", at_once, integer("smax", count, Immediate(1)), self.block)
            self.first = self._scalar("select", at_once, self.lower, self.first)

    def _first_length(self, ends: EndBlocks, count: ScalarOperand) -> ScalarOperand:
        """How long the first block is of so many iterations: half of what it and the last one are together."""
        integer, block, one = self._integer, self.block, Immediate(1)
        between = integer("sub", self._scalar("sdiv", integer("sub", count, one), block), one)
        rest = integer("sub", count, integer("mul", integer("smax", between, Immediate(0)), block))
        scaled = integer("add", _shares(ends.constant), integer("mul", _shares(ends.each), block))
        most = integer("smax", self._scalar("lshr", scaled, Immediate(_SHARE_BITS)), integer("add", block, one))
        is_long = self._scalar("sgt", rest, most)
        rest = self._scalar("select", is_long, integer("sub", rest, block), rest)
        return self._scalar("lshr", integer("add", rest, one), one)

    def _few_blocks(self, few: FewBlocks, count: ScalarOperand) -> tuple[ScalarOperand, ScalarOperand]:
        """How long the blocks between the ends are of so many iterations, and how long the first one is.

        That differs from task to task as far as neither end is too long: where all cores wait for their transfers at
        the same time, nobody uses the DRAM.
        """
        integer, scalar, one = self._integer, self._scalar, Immediate(1)
        ends = few.ends
        some = integer("add", integer("sub", count, Immediate(few.most_in_ends)), Immediate(few.most - 1))
        between = integer("smax", scalar("sdiv", some, Immediate(few.most)), one)
        shares = integer("add", integer("mul", between, _shares(1)), _shares(ends.each))
        wanted = integer("sub", integer("mul", count, _shares(1)), _shares(ends.constant))
        rounded_up = integer("sub", integer("add", wanted, shares), one)
        blocks = integer("add", between, Immediate(2))
        alike = scalar("sdiv", integer("add", count, integer("add", between, one)), blocks)
        length = integer("smax", integer("smax", scalar("sdiv", rounded_up, shares), alike), one)
        length = integer("smin", length, Immediate(few.most))
        rest = integer("smax", integer("sub", count, integer("mul", between, length)), one)

        def limit(end: End) -> ScalarOperand:
            scaled = integer("add", _shares(end.constant), integer("mul", _shares(end.each), length))
            return scalar("ashr", scaled, Immediate(_SHARE_BITS))

        most = integer("smin", integer("smax", limit(few.first), one), length)
        least = integer("smax", integer("sub", rest, limit(few.last)), one)
        choices = integer("add", integer("smax", integer("sub", most, least), Immediate(0)), one)
        short = integer("sub", most, scalar("urem", self._task(), choices))
        if few.in_two > 1:
            half = integer("smax", scalar("lshr", integer("add", count, one), one), one)
            in_two = self._scalar("sle", count, Immediate(few.in_two))
            length, short = (scalar("select", in_two, half, each) for each in (length, short))
        return length, short

    def _task(self) -> Register:
        return self.emitter.scalar("sreg", (), Immediate(SPECIAL_REGISTERS.index("task")))

    def _block_size(self, count: ScalarOperand) -> ScalarOperand:
        """How many iterations a full block has, of so many."""
        scalar, size = self.emitter.scalar, self.shape.size
        root = scalar("sqrt", (F32,), scalar("sitofp", (self.loop.dtype, F32), count))
        wanted = scalar(
            "fmax", (F32,), scalar("fmul", (F32,), root, Immediate(float(size.low))), Immediate(float(size.least))
        )
        if size.high > size.low:
            wanted = scalar("fmin", (F32,), wanted, scalar("fmul", (F32,), root, Immediate(float(size.high))))
        whole = scalar("fptosi", (F32, self.loop.dtype), scalar("round_even", (F32,), wanted))
        half = self._integer("sdiv", self._integer("add", count, Immediate(1)), Immediate(2))
        at_most = self._integer("smin", half, Immediate(self.shape.capacity))
        return self._integer("smax", self._integer("smin", whole, at_most), Immediate(1))

    def begin(self, position: ScalarOperand) -> ScalarOperand:
        """Where the block at a position begins: the first one may be short."""
        return self._integer("smax", position, self.lower)

    def members(self, position: ScalarOperand) -> ScalarOperand:
        """Iterations of a block that is not the first."""
        return self._integer("smin", self._integer("sub", self.upper, position), self.block)

    def first_members(self) -> ScalarOperand:
        """Iterations of the first block."""
        end = self._integer("smin", self._integer("add", self.first, self.block), self.upper)
        return self._integer("sub", end, self.lower)

    def index(self, position: ScalarOperand) -> ScalarOperand:
        """The loop's index at a position."""
        if self.loop.independent:
            return position
        return self._integer("add", self._integer("mul", position, self.step), self.loop.start)


def _shares(number: float) -> Immediate:
    """A number in parts of an iteration."""
    return Immediate(round(number * (1 << _SHARE_BITS)))
