"""Instructions that leave a trace record: DMA, moves, gathers, atomics, scalar accesses; checks, data and records."""

from __future__ import annotations

from collections.abc import Callable

from mlutriton.codegen.llvm.elements import Lanes, bits_kind, bits_of, constant, load, store
from mlutriton.codegen.llvm.frame import Count, Frame, Place
from mlutriton.codegen.llvm.items import access, atomics, exchange, gather, scatter
from mlutriton.codegen.llvm.scoreboard import Scoreboard
from mlutriton.isa.native_interface import Counter
from mlutriton.isa.operands import ABSENT
from mlutriton.isa.trace_format import FLAG_SRAM, Kind


class Transfers:
    """Writes the instructions of the IO and MOVE queues and scalar accesses to GDRAM."""

    def __init__(self, frame: Frame, scoreboard: Scoreboard, *, with_values: bool) -> None:
        self.frame = frame
        self.scoreboard = scoreboard
        self.with_values = with_values

    def emit(self) -> None:
        """Write the current instruction."""
        frame, name = self.frame, self.frame.instruction.row.name
        write = self._HANDLERS.get(name) or (
            Transfers._atomic if name.startswith("atom.") else Transfers._vector_atomic
        )
        empty = frame.is_empty()
        self.scoreboard.flush()
        if isinstance(empty, str):
            with frame.conditional(frame.e.value(f"xor i1 {empty}, true")):
                write(self)
        elif not empty:
            write(self)

    # ---- boxes of GDRAM ---------------------------------------------------------------------------------------------

    def _box(
        self,
        name: str,
        kind: Kind,
        counts: list[Count],
        strides: list[Count],
        data: Callable[[str], None],
        flags: int = 0,
    ) -> None:
        """Check a box of segments, move its data, record it.

        Args:
            name: slot of the GDRAM address.
            kind: LOAD or STORE.
            counts: elements of a segment, segments, planes; none is 0.
            strides: in elements, of segments and planes.
            data: writes the copy, given the host pointer.
            flags: of the record.
        """
        frame, e, width = self.frame, self.frame.e, self.frame.dtype(name).bytes
        address = frame.global_address(name)
        segment, (_, count1, count2) = e.multiply(counts[0], width), counts
        stride1, stride2 = (e.multiply(stride, width) for stride in strides)
        arguments = ("%context", address, width, *counts, *strides, int(kind is Kind.STORE))
        device = frame.call("box", arguments, result="i64", pointers=1)
        frame.stop_if_failed(device)
        if self.with_values:
            data(e.value(f"inttoptr i64 {address} to ptr"))
        segments = e.multiply(count1, count2)
        total = e.multiply(segment, segments)
        self.scoreboard.count(Counter.WRITTEN_BYTES if kind is Kind.STORE else Counter.READ_BYTES, total)
        if segments == 1:
            self.scoreboard.record(kind, total, device, flags)
        else:
            self.scoreboard.transfer(kind, total, device, flags, (segment, count1, stride1, count2, stride2))

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
        frame, place = self.frame, self._local("dst")
        counts = [frame.count(name) for name in ("n0", "n1", "n2")]
        local = [frame.count(name) for name in ("local1", "local2")]
        strides = [frame.integer(name) for name in ("global1", "global2")]

        def data(pointer: str) -> None:
            self._copy(frame.pointer(place), pointer, counts, local, strides, place.dtype.bytes)

        self._box("src", Kind.LOAD, counts, strides, data, _flags(place))

    def _store(self) -> None:
        frame, place = self.frame, self._local("src")
        counts = [frame.count(name) for name in ("n0", "n1", "n2")]
        local = [frame.count(name) for name in ("local1", "local2")]
        strides = [frame.integer(name) for name in ("global1", "global2")]

        def data(pointer: str) -> None:
            self._copy(pointer, frame.pointer(place), counts, strides, local, place.dtype.bytes)

        self._box("dst", Kind.STORE, counts, strides, data, _flags(place))

    def _load_pad(self) -> None:
        frame, e, place = self.frame, self.frame.e, self._local("dst")
        counts = [frame.count(name) for name in ("n0", "n1", "n2")]
        before = [self._clamped(f"before{i}", counts[i]) for i in range(3)]
        valid = [e.minimum(frame.count(f"valid{i}"), e.subtract(counts[i], before[i])) for i in range(3)]
        strides = [frame.integer(name) for name in ("global1", "global2")]
        local: list[Count] = [counts[0], e.multiply(counts[0], counts[1])]
        first = e.add(before[0], e.add(e.multiply(before[1], local[0]), e.multiply(before[2], local[1])))
        width = place.dtype.bytes
        total = e.multiply(e.multiply(counts[0], counts[1]), counts[2])
        if self.with_values:
            loaded = e.multiply(e.multiply(valid[0], valid[1]), valid[2])
            bits, target = frame.scalar_bits("fill"), frame.pointer(place)
            with e.when(e.value(f"icmp ne i64 {loaded}, {total}")):
                if counts[1] == counts[2] == 1 and first == 0:
                    rest = e.pointer(target, e.multiply(loaded, width))
                    frame.call("fill", (rest, bits, width, e.subtract(total, loaded)), pointers=1)
                else:
                    frame.call("pad", (target, bits, width, *counts, *before, *valid), pointers=1)

        def data(pointer: str) -> None:
            target = e.pointer(frame.pointer(place), e.multiply(first, width))
            self._copy(target, pointer, valid, local, strides, width)

        self._box_or_nothing("src", valid, strides, data, _flags(place))

    def _clamped(self, name: str, count: Count) -> Count:
        """The value of a count, but no more than another count; 0 stays known."""
        value = self.frame.count(name)
        return 0 if value == 0 else self.frame.e.minimum(value, count)

    def _box_or_nothing(
        self, name: str, counts: list[Count], strides: list[Count], data: Callable[[str], None], flags: int
    ) -> None:
        """Load a box that may have no element; then the record has no bytes and no address."""
        e = self.frame.e
        if 0 in counts:
            self.scoreboard.record(Kind.LOAD, 0, 0, flags)
            return
        if all(isinstance(count, int) for count in counts):
            self._box(name, Kind.LOAD, counts, strides, data, flags)
            return
        # Read here, so that what is known of the register holds in both branches.
        self.frame.global_address(name)
        least = e.minimum(e.minimum(counts[0], counts[1]), counts[2])
        some, none, done = e.fresh("some"), e.fresh("none"), e.fresh("done")
        e.branch(e.value(f"icmp sgt i64 {least}, 0"), some, none)
        e.label(some)
        self._box(name, Kind.LOAD, counts, strides, data, flags)
        e.jump(done)
        e.label(none)
        self.scoreboard.record(Kind.LOAD, 0, 0, flags)
        e.jump(done)
        e.label(done)

    def _load_weight(self) -> None:
        frame, e, place = self.frame, self.frame.e, self._local("dst")
        depth, columns, first = (frame.count(name) for name in ("depth", "columns", "first_column"))
        valid_depth = e.minimum(frame.count("valid_depth"), depth)
        valid_columns = e.minimum(frame.count("valid_columns"), columns)
        by_depth, by_column = frame.integer("global_depth"), frame.integer("global_column")
        width, fill = place.dtype.bytes, frame.scalar_bits("fill")

        def weight(pointer: str, depth_valid: Count, columns_valid: Count) -> None:
            counts = (depth, columns, depth_valid, columns_valid, first)
            strides = (e.multiply(by_depth, width), e.multiply(by_column, width))
            frame.call(f"weight_{place.dtype}", (frame.pointer(place), pointer, *counts, *strides, fill), pointers=2)

        # The segments of the record are what is consecutive: columns, or rows, or else single elements.
        is_transposed = e.both(e.equal(by_depth, 1), e.negated(e.equal(by_column, 1)))
        is_plain = e.equal(by_column, 1)
        shapes = [
            (valid_depth, valid_columns, 1, by_column, 0),
            (valid_columns, valid_depth, 1, by_depth, 0),
            (1, valid_columns, valid_depth, by_column, by_depth),
        ]
        chosen = [e.choose(is_transposed, a, e.choose(is_plain, b, c)) for a, b, c in zip(*shapes, strict=True)]
        if self.with_values:
            # Without any valid element nothing is read, so that any pointer will do.
            some = e.minimum(valid_depth, valid_columns)
            if some == 0:
                weight("null", 0, 0)
            elif isinstance(some, str):
                with e.when(e.value(f"icmp eq i64 {some}, 0")):
                    weight("null", 0, 0)
        self._box_or_nothing(
            "src", chosen[:3], chosen[3:], lambda pointer: weight(pointer, valid_depth, valid_columns), 0
        )

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
            counts = (depth, columns, depth, columns, 0)
            arguments = (frame.pointer(target), frame.pointer(source), *counts, *strides, 0)
            frame.call(f"weight_{target.dtype}", arguments, pointers=2)
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
            function = frame.loop_function(gather(frame.loops, place.dtype, offset_dtype, by_element=by_element))
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
            function = frame.loop_function(
                scatter(frame.loops, place.dtype, frame.dtype("offsets"), by_element=by_element)
            )
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
        if self.with_values:
            local = "null" if frame.operand("old") == ABSENT else frame.pointer(self._local("old"))
            items = self._items(local, "address")
            value, value_stride = self.vector_operand("value")
            expected, expected_stride = (
                ("null", 0) if "expected" not in row.slot_index else self.vector_operand("expected")
            )
            function = frame.loop_function(atomics(frame.loops, row, dtype, frame.dtype("offsets")))
            failed = frame.e.value(
                f"call i64 @{function}({items}, ptr {value}, i64 {value_stride}, ptr {expected}, i64 {expected_stride})"
            )
            frame.stop_if_failed(failed)
        for counter in (Counter.READ_BYTES, Counter.WRITTEN_BYTES):
            self._count_items(counter, dtype.bytes)
        self.scoreboard.record(Kind.ATOMIC_VECTOR, frame.count("n"), dtype.bytes)

    # ---- scalar accesses --------------------------------------------------------------------------------------------

    def _scalar_pointer(self, *, write: bool) -> tuple[str, str]:
        """The host pointer and the device address of the current instruction's element."""
        frame, e = self.frame, self.frame.e
        address, width = frame.global_address("address"), frame.instruction.dtypes[0].bytes
        function = access(e.library)
        device = e.value(f"call i64 @{function}(ptr %context, i64 {address}, i64 {width}, i64 {int(write)})")
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
