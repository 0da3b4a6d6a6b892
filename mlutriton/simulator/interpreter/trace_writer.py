"""Writing a trace: local work is folded into three integers until a shared operation makes a record of it."""

from __future__ import annotations

from mlutriton.isa.trace_format import NO_COMPUTE, Extent, Kind, Record

# Both counts of a fold stay below this, so that neither they nor their sum leave a record's fields.
_FOLD_LIMIT = 1 << 30


class TraceWriter:
    """The records of one core's program.

    Attributes:
        words: what has been written, signed 64-bit integers.
        instruction: number of the instruction that is being run.
    """

    def __init__(self) -> None:
        self.words: list[int] = []
        self._scalar = self._compute = 0
        self._head = NO_COMPUTE
        self.instruction = 0

    def issue(self, cycles: int) -> None:
        """Work of the SCALAR queue."""
        if self._scalar + cycles >= _FOLD_LIMIT:
            self.record(Kind.LOCAL)
        self._scalar += cycles

    def compute(self, cycles: int) -> None:
        """An instruction of the COMPUTE queue, just issued, that takes so many cycles there."""
        if self._compute + cycles >= _FOLD_LIMIT:
            self.record(Kind.LOCAL)
        self._compute += cycles
        self._head = max(self._head, self._scalar) + cycles

    def record(
        self, kind: Kind, amount: int = 0, payload: int = 0, flags: int = 0, extent: Extent | None = None
    ) -> None:
        """A shared operation; ``payload`` is its address or what else its kind puts there."""
        record = Record(kind, amount, payload, flags, self._scalar, self._compute, self._head, extent, self.instruction)
        self.words += record.words()
        self._scalar = self._compute = 0
        self._head = NO_COMPUTE
