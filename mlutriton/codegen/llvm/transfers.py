"""Instructions that leave a trace record: DMA, moves, gathers, atomics, scalar accesses; checks, data and records."""

from __future__ import annotations

from mlutriton.codegen.llvm.common_weights import CommonWeights
from mlutriton.codegen.llvm.elements import Lanes, bits_kind, bits_of, constant, load, store
from mlutriton.codegen.llvm.emitter import Count
from mlutriton.codegen.llvm.frame import Frame
from mlutriton.codegen.llvm.functions.items import access, atomics, exchange, gather, scatter
from mlutriton.codegen.llvm.loans import BOXES, ENDLESS, Loans
from mlutriton.codegen.llvm.places import Place
from mlutriton.codegen.llvm.scoreboard import Scoreboard
from mlutriton.isa.native_interface import STORED, Counter
from mlutriton.isa.operands import ABSENT
from mlutriton.isa.table import TENSOR_TYPES, admitted
from mlutriton.isa.trace_format import FLAG_SRAM, Kind


class Transfers:
    """Writes the instructions of the IO and MOVE queues and scalar accesses to GDRAM."""

    def __init__(
        self, frame: Frame, scoreboard: Scoreboard, loans: Loans, common_weights: CommonWeights, *, with_values: bool
    ) -> None:
        self.frame = frame
        self.loans = loans
        self.common_weights = common_weights
        self.scoreboard = scoreboard
        self.with_values = with_values

    def emit(self) -> None:
        """Write the current instruction."""
        frame, name = self.frame, self.frame.instruction.row.name
        write = self._HANDLERS.get(name) or (
            Transfers._atomic if name.startswith("atom.") else Transfers._vector_atomic
        )
        # Both do nothing where nothing is in the box.
        empty = False if name in ("dma.load_pad", "dma.store") else frame.is_empty()
        self.scoreboard.flush()
        if self.with_values and name not in BOXES:
            self.loans.settle()
        self.common_weights.settle()
        if isinstance(empty, str):
            with frame.conditional(frame.e.value(f"xor i1 {empty}, true")):
                write(self)
        elif not empty:
            write(self)

    # ---- boxes of GDRAM ---------------------------------------------------------------------------------------------

    def _box(self, name: str, function: str, place: Place | None, counts: tuple[Count, ...]) -> None:
        """Let the runtime check a box of segments, move it and record it.

        Args:
            name: slot of the GDRAM address.
            function: of the runtime.
            place: where it lies on the chip; None if it is only to be checked and recorded.
            counts: what the function takes behind the width of an element.
        """
        frame = self.frame
        flags = _flags(place) if place else 0
        fields = self.scoreboard.fields(Kind.STORE if function == "store" else Kind.LOAD, flags=flags)
        pointer = table = "null"
        rows: list[Count] = [] if function == "store" else [ENDLESS]
        if place and self.with_values:
            pointer = frame.pointer(place)
            if function == "store":
                table = self.loans.table
            else:
                table, least_row_bytes = self.loans.lend(place)
                rows = [least_row_bytes]
        width = frame.dtype(name).bytes
        arguments = ("%context", pointer, table, frame.global_address(name), width, *counts, *fields, *rows)
        frame.stop_if_failed(frame.call(function, arguments, result="i64", pointers=3))

    def _local(self, name: str) -> Place:
        place = self.frame.check_window(name)
        assert place is not None
        return place

    def _copy(
        self, target: str, source: str, counts: list[Count], to: list[Count], origin: list[Count], width: int
    ) -> None:
        e = self.frame.e
        strides = [e.multiply(stride, width) for stride in (*to, *origin)]
        self.frame.call("copy", (target, source, e.multiply(counts[0], width), *counts[1:], *strides), pointers=2)

    def _load(self) -> None:
        self._dense("src", "load", self._local("dst"))

    def _store(self) -> None:
        self._dense("dst", "store", self._local("src"))

    def _dense(self, name: str, function: str, place: Place) -> None:
        frame = self.frame
        counts = [frame.count(each) for each in ("n0", "n1", "n2", "local1", "local2")]
        strides = [frame.integer(each) for each in ("global1", "global2")]
        self._box(name, function, place, (*counts, *strides))

    def _load_pad(self) -> None:
        frame, place = self.frame, self._local("dst")
        counts = [frame.count(f"n{i}") for i in range(3)]
        parts = [frame.integer(f"{name}{i}") for name in ("before", "valid") for i in range(3)]
        strides = [frame.integer(name) for name in ("global1", "global2")]
        numbers = (*counts, *parts, *strides, frame.scalar_bits("fill"))
        self._box("src", "load_pad", place, numbers)

    def _load_weight(self) -> None:
        frame, e, place = self.frame, self.frame.e, self._local("dst")
        depth, columns, first = (frame.count(name) for name in ("depth", "columns", "first_column"))
        valid_depth = e.minimum(frame.count("valid_depth"), depth)
        valid_columns = e.minimum(frame.count("valid_columns"), columns)
        by_depth, by_column = frame.integer("global_depth"), frame.integer("global_column")
        # The segments of the record are what is consecutive: columns, or rows, or else single elements.
        is_transposed = e.both(e.equal(by_depth, 1), e.negated(e.equal(by_column, 1)))
        is_plain = e.equal(by_column, 1)
        shapes = [
            (valid_depth, valid_columns, 1, by_column, 0),
            (valid_columns, valid_depth, 1, by_depth, 0),
            (1, valid_columns, valid_depth, by_column, by_depth),
        ]
        chosen = [e.choose(is_transposed, a, e.choose(is_plain, b, c)) for a, b, c in zip(*shapes, strict=True)]
        self._box("src", "load", None, (*chosen[:3], 0, 0, *chosen[3:]))
        if self.with_values:
            source = e.value(f"inttoptr i64 {frame.global_address('src')} to ptr")
            counts = (depth, columns, valid_depth, valid_columns, first)
            strides = [e.multiply(stride, place.dtype.bytes) for stride in (by_depth, by_column)]
            arguments = (frame.pointer(place), source, *counts, *strides, frame.scalar_bits("fill"))
            frame.call(f"weight_{place.dtype}", arguments, pointers=2)

    # ---- moves within the chip --------------------------------------------------------------------------------------

    def _move(self) -> None:
        frame, e = self.frame, self.frame.e
        target, source = self._local("dst"), self._local("src")
        n0, n1, to1, from1 = (frame.count(name) for name in ("n0", "n1", "to1", "from1"))
        width = target.dtype.bytes
        if self.with_values:
            self._copy(frame.pointer(target), frame.pointer(source), [n0, n1, 1], [to1, 0], [from1, 0], width)
        self.scoreboard.record(Kind.MOVE, e.multiply(e.multiply(n0, n1), width), 0, _flags(target, source))

    def _move_weight(self) -> None:
        frame, e = self.frame, self.frame.e
        target, source = self._local("dst"), self._local("src")
        depth, columns = frame.count("depth"), frame.count("columns")
        width = target.dtype.bytes
        if self.with_values:
            strides = [e.multiply(frame.count(name), width) for name in ("from_depth", "from_column")]
            arguments = (frame.pointer(source), depth, columns, depth, columns, 0, *strides, 0)
            name = f"weight_{target.dtype}"
            if self.common_weights.is_used and source.buffer.space == "sram":
                number = admitted(TENSOR_TYPES).index(target.dtype)
                place = self.common_weights.place(target, source, (depth, columns, *strides, number))
                with frame.conditional(e.value(f"icmp ne ptr {place}, null")):
                    frame.call(name, (place, *arguments), pointers=2)
            else:
                frame.call(name, (frame.pointer(target), *arguments), pointers=2)
        self.scoreboard.record(Kind.MOVE, e.multiply(e.multiply(depth, columns), width), 0, _flags(source))

    # ---- item by item -----------------------------------------------------------------------------------------------

    def vector_operand(self, name: str) -> tuple[str, Count]:
        """Address and stride in bytes of a vector operand; a scalar becomes an element that is read again and again."""
        frame, e = self.frame, self.frame.e
        place = frame.check_window(name)
        if place is not None:
            return frame.pointer(place), place.dtype.bytes
        value = frame.scalar(name)
        variable = e.variable(bits_kind(value.dtype))
        store(e, value, variable)
        return variable, 0

    def _items(self, local: str, base: str) -> str:
        frame = self.frame
        offsets = self._local("offsets")
        mask, mask_stride = self.vector_operand("mask")
        return (
            f"ptr %context, ptr {local}, i64 {frame.global_address(base)}, ptr {frame.pointer(offsets)},"
            f" i64 {frame.integer('scale')}, ptr {mask}, i64 {mask_stride}, i64 {frame.count('n')}"
        )

    def _gather(self) -> None:
        frame, place = self.frame, self._local("dst")
        offset_dtype = frame.dtype("offsets")
        length, valid = self._run_lengths()
        if self.with_values:
            items = self._items(frame.pointer(place), "src")
            fill, fill_stride = self.vector_operand("fill")
            by_element = length == valid == 1
            function = frame.shared_function(gather, place.dtype, offset_dtype, by_element)
            runs = f"i64 {length}, i64 {valid}"
            failed = frame.e.value(f"call i64 @{function}({items}, {runs}, ptr {fill}, i64 {fill_stride})")
            frame.stop_if_failed(failed)
        self._record_items(Kind.GATHER, Counter.READ_BYTES, frame.e.multiply(valid, place.dtype.bytes))

    def _scatter(self) -> None:
        frame, place = self.frame, self._local("src")
        length, valid = self._run_lengths()
        if self.with_values:
            items = self._items(frame.pointer(place), "dst")
            by_element = length == valid == 1
            function = frame.shared_function(scatter, place.dtype, frame.dtype("offsets"), by_element)
            frame.stop_if_failed(frame.e.value(f"call i64 @{function}({items}, i64 {length}, i64 {valid})"))
        self._record_items(Kind.SCATTER, Counter.WRITTEN_BYTES, frame.e.multiply(valid, place.dtype.bytes))

    def _run_lengths(self) -> tuple[Count, Count]:
        """Elements of an item, and those of them that lie in GDRAM."""
        length = self.frame.count("length")
        return length, self.frame.e.minimum(self.frame.count("valid"), length)

    def _record_items(self, kind: Kind, counter: Counter, item_bytes: Count) -> None:
        self._count_items(counter, item_bytes)
        self.scoreboard.record(kind, self.frame.count("n"), item_bytes)

    def _count_items(self, counter: Counter, item_bytes: Count) -> None:
        self.scoreboard.count(counter, self.frame.e.multiply(self.frame.count("n"), item_bytes))

    def _vector_atomic(self) -> None:
        frame, row = self.frame, self.frame.instruction.row
        dtype = frame.instruction.dtypes[0]
        length, valid = self._run_lengths()
        if self.with_values:
            local = "null" if frame.operand("old") == ABSENT else frame.pointer(self._local("old"))
            items = self._items(local, "address")
            value, value_stride = self.vector_operand("value")
            expected, expected_stride = (
                ("null", 0) if "expected" not in row.slot_index else self.vector_operand("expected")
            )
            by_element = length == valid == 1
            function = frame.shared_function(atomics, row.name, dtype, frame.dtype("offsets"), by_element)
            failed = frame.e.value(
                f"call i64 @{function}({items}, i64 {length}, i64 {valid}, ptr {value}, i64 {value_stride},"
                f" ptr {expected}, i64 {expected_stride})"
            )
            frame.stop_if_failed(failed)
        item_bytes = frame.e.multiply(valid, dtype.bytes)
        for counter in (Counter.READ_BYTES, Counter.WRITTEN_BYTES):
            self._count_items(counter, item_bytes)
        self.scoreboard.record(Kind.ATOMIC_VECTOR, frame.count("n"), item_bytes)

    # ---- scalar accesses --------------------------------------------------------------------------------------------

    def _scalar_pointer(self, *, write: bool) -> tuple[str, str]:
        """The host pointer and the device address of the current instruction's element."""
        frame, e = self.frame, self.frame.e
        address, width = frame.global_address("address"), frame.instruction.dtypes[0].bytes
        function, wanted = access(e.library), STORED if write else 0
        device = e.value(f"call i64 @{function}(ptr %context, i64 {address}, i64 {width}, i64 {wanted})")
        frame.stop_if_failed(device)
        return e.value(f"inttoptr i64 {address} to ptr"), device

    def _scalar_load(self) -> None:
        frame, dtype = self.frame, self.frame.instruction.dtypes[0]
        pointer, device = self._scalar_pointer(write=False)
        frame.set_result(load(frame.e, pointer, dtype, 1) if self.with_values else constant(0, dtype))
        self.scoreboard.count(Counter.READ_BYTES, dtype.bytes)
        self.scoreboard.record(Kind.SCALAR_LOAD, dtype.bytes, device)

    def _scalar_store(self) -> None:
        frame, dtype = self.frame, self.frame.instruction.dtypes[0]
        pointer, device = self._scalar_pointer(write=True)
        if self.with_values:
            store(frame.e, frame.scalar("value"), pointer)
        self.scoreboard.count(Counter.WRITTEN_BYTES, dtype.bytes)
        self.scoreboard.record(Kind.SCALAR_STORE, dtype.bytes, device)

    def _atomic(self) -> None:
        frame, row, dtype = self.frame, self.frame.instruction.row, self.frame.instruction.dtypes[0]
        pointer, device = self._scalar_pointer(write=True)
        before: Lanes = constant(0, dtype)
        if self.with_values:
            expected = frame.scalar("expected") if "expected" in row.slot_index else None
            before = exchange(frame.e, row, pointer, frame.scalar("value"), expected)
            bits_of(frame.e, before)
        frame.set_result(before)
        for counter in (Counter.READ_BYTES, Counter.WRITTEN_BYTES):
            self.scoreboard.count(counter, dtype.bytes)
        self.scoreboard.record(Kind.ATOMIC_SCALAR, dtype.bytes, device)

    # ---- synchronization and the end --------------------------------------------------------------------------------

    def _sync(self) -> None:
        self.scoreboard.record(Kind.SYNC, self.frame.integer("queues"))

    def _barrier(self) -> None:
        self.scoreboard.record(Kind.BARRIER_CLUSTER)

    def _exit(self) -> None:
        self.scoreboard.record(Kind.END)

    _HANDLERS = {  # noqa: RUF012
        "dma.load": _load, "dma.load_pad": _load_pad, "dma.store": _store, "dma.weight": _load_weight,
        "move": _move, "move.weight": _move_weight, "gather": _gather, "scatter": _scatter,
        "ldg": _scalar_load, "stg": _scalar_store, "sync": _sync, "barrier.cluster": _barrier, "exit": _exit,
    }  # fmt: skip


def _flags(*places: Place) -> int:
    return FLAG_SRAM if any(place.buffer.space == "sram" for place in places) else 0
