"""The loop over the chunks of a block, each computed as a whole or in halves.

In halves, instructions over one half of the chunk stand between those over the other half that wait for each other:

    m = max(x(first)); m' = max(x(second)); t = x(first) - m; t' = x(second) - m'; ...

so that none waits for the one right before it. A chunk of a single unit has no halves and is computed as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from mlutriton.codegen.pipelining.blocks.row_chunks import Number, Places, RowChunks
from mlutriton.codegen.tile_code import Branch, Loop, LoopEmitter, Node, Part, ScalarOperand
from mlutriton.dtypes import I64
from mlutriton.immutables import replace
from mlutriton.isa.operands import Immediate, Register


class ChunkLoop:
    """Writes the loop.

    Attributes:
        chunks: what is computed.
        units: the most units of a chunk.
        phases: by the name of a ping-pong buffer, where its present phase begins.
        numbers: by register, those of the block's first iteration.
    """

    def __init__(
        self,
        emitter: LoopEmitter,
        chunks: RowChunks,
        units: int,
        phases: Mapping[str, Register],
        numbers: Mapping[Register, ScalarOperand] | None = None,
    ) -> None:
        self.emitter, self.code = emitter, emitter.code
        self._integer, self._scalar = emitter.index_integer, emitter.index_scalar
        self.chunks, self.units, self.phases = chunks, units, phases
        self.numbers = numbers or {}
        self.first: ScalarOperand = Immediate(0)

    def loop(self, members: ScalarOperand, *, in_halves: bool) -> Loop:
        """The loop over all chunks of so many iterations."""
        code, chunks = self.code, self.chunks
        # Buffers whose parts have one size have their chunks at one offset.
        starts = {(self._unit(name), phase): phase for name, phase in self.phases.items()}
        offsets = {key: code.register() for key in starts}
        for key, offset in offsets.items():
            code.keep_phase(offset, starts[key])
        places = {name: offsets[self._unit(name), phase] for name, phase in self.phases.items()}
        first, total = code.register(), self._integer("mul", members, Immediate(chunks.units))
        self.first = first
        with self.emitter.into([]) as body:
            units = self._integer("smin", self._integer("sub", total, first), Immediate(self.units))
            if in_halves:
                self._in_halves(units, places)
            else:
                self._as_a_whole(units, places)
            yielded: list[ScalarOperand] = [
                self._offset(offset, Immediate(self.units), key[0]) for key, offset in offsets.items()
            ]
        temporaries = {name: chunks.unit_bytes[name] * self.units for name in chunks.temporaries}
        for name, size in temporaries.items():
            code.buffers[name].bytes = size // (2 if in_halves else 1)
        return Loop(
            self.emitter.index_dtype, first, Immediate(0), total, Immediate(self.units),
            [(offset, starts[key]) for key, offset in offsets.items()], body, yielded, location=self.emitter.location,
        )  # fmt: skip

    def halves_of_one(self) -> None:
        """The halves of a chunk that is an iteration."""
        first = (self.units + 1) // 2
        own = {name: self._buffer(name) for name in self.chunks.temporaries}
        for name in self.chunks.temporaries:
            self.code.buffers[name].bytes = self.chunks.unit_bytes[name] * first
        self._by_turns(Immediate(first), Immediate(self.units - first), self.phases, own)

    def _as_a_whole(self, units: ScalarOperand, places: Mapping[str, Register]) -> None:
        self.emitter.nodes += chain.from_iterable(self._instructions(units, places, {}, self.first))

    def _in_halves(self, units: ScalarOperand, places: Mapping[str, Register]) -> None:
        """Both halves of a chunk by turns; the first one has one unit more if their number is odd."""
        is_single = self._scalar("slt", units, Immediate(2))
        with self.emitter.into([]) as single:
            self._as_a_whole(units, places)
        with self.emitter.into([]) as halves:
            upper = self._integer("add", units, Immediate(1))
            first = self._scalar("sdiv", upper, Immediate(2))
            second = self._integer("sub", units, first)
            own = {name: self._buffer(name) for name in self.chunks.temporaries}
            self._by_turns(first, second, places, own)
        self.emitter.nodes.append(Branch(is_single, single, halves, location=self.emitter.location))

    def _by_turns(
        self, first: ScalarOperand, second: ScalarOperand, places: Mapping[str, Register], own: Mapping[str, str]
    ) -> None:
        """So many units and, in temporaries of their own, those behind them; what is in no unit stays in its place."""
        moved: dict[tuple[Register, Part], Register] = {}
        there: dict[str, Register] = {}
        for name, place in places.items():
            if name not in self.chunks.unit_bytes:
                there[name] = place
                continue
            key = place, self._unit(name)
            if key not in moved:
                moved[key] = self._offset(place, first, key[1])
                self.code.keep_phase(moved[key], place)
            there[name] = moved[key]
        others = self._instructions(second, there, own, self._integer("add", self.first, first), is_first=False)
        for one, other in zip(self._instructions(first, places, {}, self.first), others, strict=True):
            self.emitter.nodes += [*one, *other]

    def _buffer(self, name: str) -> str:
        """A buffer like this one."""
        new = self.code.buffer_name(f"{name}.")
        size = self.chunks.unit_bytes[name] * (self.units // 2)
        self.code.buffers[new] = replace(self.code.buffers[name], name=new, bytes=size)
        return new

    def _instructions(
        self,
        units: ScalarOperand,
        places: Mapping[str, Register],
        buffers: Mapping[str, str],
        begin: ScalarOperand,
        *,
        is_first: bool = True,
    ) -> list[list[Node]]:
        """The arithmetic of so many units behind so many of the block."""
        scaled: dict[int, ScalarOperand] = {}

        def scale(factor: int) -> ScalarOperand:
            if factor not in scaled:
                scaled[factor] = self._integer("mul", units, Immediate(factor))
            return scaled[factor]

        at: Places = {
            **{name: (name, place) for name, place in places.items()},
            **{name: (new, None) for name, new in buffers.items()},
        }
        starts = {number.register: self._number(number, begin) for number in self.chunks.numbers}
        return self.chunks.instructions(units, scale, at, starts, is_first=is_first)

    def _number(self, number: Number, iteration: ScalarOperand) -> ScalarOperand:
        """That of an iteration of the block."""
        grown = self.emitter.integer("mul", iteration, Immediate(number.step))
        return self.emitter.integer("add", self.numbers[number.register], grown)

    def _unit(self, name: str) -> Part:
        return Part(self.chunks.unit_bytes[name], self.code.buffers[name].extent)

    def _offset(self, start: Register, units: ScalarOperand, unit: Part) -> Register:
        """Where the unit behind so many ones begins."""
        skipped = self.emitter.integer("mul", unit.size(self.emitter), units, I64)
        return self.emitter.scalar("add", (I64,), start, skipped)
