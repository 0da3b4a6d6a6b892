"""The runtime functions that move boxes between DRAM and the chip: segments, rows of them, planes of those.

Each is checked as a whole, moved or lent (see :mod:`mlutriton.codegen.llvm.loans`), counted and recorded.
"""

from __future__ import annotations

from functools import reduce

from mlutriton.codegen.llvm.elements import LANES
from mlutriton.codegen.llvm.emitter import Count, Emitter, Library
from mlutriton.codegen.llvm.loans import ENDLESS, IN_ONE_PIECE, LEAST_LENT_BYTES, READ_PAST_BYTES
from mlutriton.isa.native_interface import STORED, Context, Counter
from mlutriton.isa.trace_format import AMOUNT_SHIFT

# An array so large does not stay in the caches of a host until someone reads it; such segments have more whole lines
# than ends.
STREAMED_ARRAY_BYTES = 1 << 26
_STREAMED_SEGMENT_BYTES = 512
_ROWS = ", i64 %rows"


def box(library: Library) -> str:
    """``box(context, start, width, n0, n1, n2, stride1, stride2, write)``: as check, for a box of segments of elements.

    Extents and strides are in elements of ``width`` bytes; the extents are positive. The hull of the box lies in an
    allocation exactly if every segment does.
    """
    e = Emitter(library)
    bounds = [e.value(f"sext i64 %{name} to i128") for name in ("start", "start")]
    width = e.value("sext i64 %width to i128")
    segment = e.value(f"mul i128 {e.value('sext i64 %n0 to i128')}, {width}")
    bounds[1] = e.value(f"add i128 {bounds[1]}, {segment}")
    for axis in (1, 2):
        # 128 bits: an absurd stride has to fault, not to wrap around into an allocation.
        last = e.value(f"sext i64 {e.value(f'sub i64 %n{axis}, 1')} to i128")
        reach = e.value(f"mul i128 {last}, {e.value(f'sext i64 %stride{axis} to i128')}")
        for bound, order in ((1 << 64, "sgt"), (-(1 << 64), "slt")):
            beyond = e.value(f"icmp {order} i128 {reach}, {bound}")
            reach = e.value(f"select i1 {beyond}, i128 {bound}, i128 {reach}")
        reach = e.value(f"mul i128 {reach}, {width}")
        negative = e.value(f"icmp slt i128 {reach}, 0")
        for side in range(2):
            moved = e.value(f"add i128 {bounds[side]}, {reach}")
            pair = (moved, bounds[side]) if side == 0 else (bounds[side], moved)
            bounds[side] = e.value(f"select i1 {negative}, i128 {pair[0]}, i128 {pair[1]}")
    low, size = e.value(f"trunc i128 {bounds[0]} to i64"), e.value(f"sub i128 {bounds[1]}, {bounds[0]}")
    fits = e.value(f"icmp slt i128 {size}, {1 << 62}")
    size = e.value(f"trunc i128 {size} to i64")
    size = e.value(f"select i1 {fits}, i64 {size}, i64 {1 << 62}")
    device = e.value(f"call i64 @check(ptr %context, i64 {low}, i64 {size}, i64 %write)")
    failed = e.value(f"icmp eq i64 {device}, -1")
    moved = e.value(f"add i64 {device}, {e.value(f'sub i64 %start, {low}')}")
    e.do(f"ret i64 {e.value(f'select i1 {failed}, i64 -1, i64 {moved}')}")
    return e.function(
        "define internal i64 @box(ptr %context, i64 %start, i64 %width, i64 %n0, i64 %n1, i64 %n2, i64 %stride1,"
        " i64 %stride2, i64 %write)"
    )


def move(library: Library, name: str) -> str:
    """``load`` or ``store(context, local, loans, address, width, n, local1, local2, stride1, stride2, ...)``.

    Moves n2 x n1 segments of n0 elements between the chip, of the strides ``local``, and ``address``, and records them;
    -1 after a fault. Without elements, a load leaves a record of no bytes, and a store nothing. Nothing is moved
    where ``local`` is null. ``loans`` is the table of what is lent, or null. ``kind`` and ``payload``, which follow,
    are those of the record, but for bytes and address. Of a load, last, how long rows are that may be lent though
    they stand apart.
    """
    e, is_store = Emitter(library), name == "store"
    least = e.minimum(e.minimum("%n0", "%n1"), "%n2")
    with e.when(e.value(f"icmp slt i64 {least}, 1")):
        if not is_store:
            e.do("call void @record(ptr %context, i64 %kind, i64 %payload)")
        e.leave("i64 0")
    box = "i64 %address, i64 %width, i64 %n0, i64 %n1, i64 %n2, i64 %stride1, i64 %stride2"
    device = e.value(f"call i64 @box(ptr %context, {box}, i64 {STORED if is_store else 0})")
    with e.when(e.value(f"icmp eq i64 {device}, -1")):
        e.leave("i64 -1")
    segment, *strides = (e.multiply(f"%{each}", "%width") for each in ("n0", "local1", "local2", "stride1", "stride2"))
    with e.when(e.value("icmp ne ptr %local, null")):
        _copy_box(e, segment, strides, is_store=is_store)
    total = e.multiply(segment, e.multiply("%n1", "%n2"))
    place = e.pointer("%context", 8 * (Context.COUNTERS + (Counter.WRITTEN_BYTES if is_store else Counter.READ_BYTES)))
    e.store64(e.add(e.load64(place), total), place)
    kind, payload = e.add("%kind", e.multiply(total, 1 << AMOUNT_SHIFT)), e.add("%payload", device)
    geometry = f"i64 {segment}, i64 %n1, i64 {strides[2]}, i64 %n2, i64 {strides[3]}"
    e.do(f"call void @transfer(ptr %context, i64 {kind}, i64 {payload}, {geometry})")
    e.do("ret i64 0")
    return e.function(
        f"define i64 @{name}(ptr %context, ptr %local, ptr %loans, i64 %address, i64 %width, i64 %n0, i64 %n1, i64 %n2,"
        f" i64 %local1, i64 %local2, i64 %stride1, i64 %stride2, i64 %kind, i64 %payload{'' if is_store else _ROWS})"
    )


def _copy_box(e: Emitter, segment: Count, strides: list[Count], *, is_store: bool) -> None:
    """Write how the segments of ``load`` or ``store`` are moved, or lent."""
    address = e.value("inttoptr i64 %address to ptr")
    local = e.variable("ptr")
    e.do(f"store ptr %local, ptr {local}")
    copied = e.fresh("copied")
    with e.when(e.value("icmp ne ptr %loans, null")):
        nram, low = _place_in_nram(e)
        table, (first, end) = f"ptr {nram}, ptr %loans", _hull(e, low, segment, strides[:2])
        if is_store:
            target = " , ".join(f"i64 {bound}" for bound in _hull(e, "%address", segment, strides[2:]))
            e.do(f"call void @settle_from({table}, {target})")
            offset = e.value(f"call i64 @source({table}, i64 {first}, i64 {end})")
            e.do(f"store ptr {e.pointer(nram, e.add(offset, e.subtract(low, first)))}, ptr {local}")
        else:
            total = e.multiply(segment, e.multiply("%n1", "%n2"))
            lent = f"call void @lend({table}, i64 {low}, i64 {e.add(low, total)}, i64 %address"
            # A plane of one row is a row, and planes that follow one another as rows do are one.
            apart = e.choose(e.equal("%n1", 1), e.choose(e.equal("%n2", 1), segment, strides[3]), strides[2])
            is_one = e.value(f"or i1 {e.equal('%n2', 1)}, {e.equal(strides[3], e.multiply('%n1', apart))}")
            plane = e.choose(is_one, ENDLESS, e.multiply("%n1", segment))
            geometry = (segment, apart, plane, e.choose(is_one, 0, strides[3]))
            for may_lend, rows in (
                (_may_lend_rows(e, segment, total, strides), ", ".join(f"i64 {each}" for each in geometry)),
                (_may_lend(e, segment, total, strides), IN_ONE_PIECE),
            ):
                with e.when(may_lend):
                    e.do(f"{lent}, {rows})")
                    e.jump(copied)
                    e.label(e.fresh("unreachable"))
            e.do(f"call void @settle({table}, i64 {first}, i64 {end})")
    if is_store:
        streamed, plain = e.fresh("streamed"), e.fresh("plain")
        e.branch(_is_streamed(e, segment), streamed, plain)
        e.label(streamed)
        origin = e.value(f"load ptr, ptr {local}, align 8")
        with e.loop("%n2") as plane, e.loop("%n1") as row:
            from_plane, to_plane = (
                e.moved(start, plane, stride) for start, stride in ((origin, strides[1]), (address, strides[3]))
            )
            pointers = e.moved(to_plane, row, strides[2]), e.moved(from_plane, row, strides[0])
            e.do(f"call void @stream(ptr {pointers[0]}, ptr {pointers[1]}, i64 {segment})")
        e.do("fence seq_cst")
        e.jump(copied)
        e.label(plain)
    sides = [(e.value(f"load ptr, ptr {local}, align 8"), *strides[:2]), (address, *strides[2:])]
    target, source = sides[::-1] if is_store else sides
    steps = ", ".join(f"i64 {stride}" for stride in (*target[1:], *source[1:]))
    e.do(f"call void @copy(ptr {target[0]}, ptr {source[0]}, i64 {segment}, i64 %n1, i64 %n2, {steps})")
    e.jump(copied)
    e.label(copied)


def _is_streamed(e: Emitter, segment: Count) -> str:
    """Whether a store goes by the caches: its array does not fit them, and there is enough to do between its ends."""
    start, end = (e.load64(e.word(word)) for word in (Context.HIT_START, Context.HIT_END))
    is_large = e.value(f"icmp sge i64 {e.subtract(end, start)}, {STREAMED_ARRAY_BYTES}")
    return e.value(f"and i1 {is_large}, {e.value(f'icmp sge i64 {segment}, {_STREAMED_SEGMENT_BYTES}')}")


def stream(library: Library) -> str:
    """``stream(target, source, bytes)``: copy without asking memory for lines of which every byte is written.

    Who reads it on another thread has to wait for a fence.
    """
    e = Emitter(library)
    vector, line = f"<{LANES} x i32>", 4 * LANES
    head = e.value(f"and i64 {e.subtract(0, e.value('ptrtoint ptr %target to i64'))}, {line - 1}")
    end = e.add(head, e.value(f"and i64 {e.subtract('%bytes', head)}, {-line}"))
    e.copy("%target", "%source", head)
    with e.loop(str(end), start=head, step=line) as offset:
        value = e.value(f"load {vector}, ptr {e.pointer('%source', offset)}, align 1")
        e.do(f"store {vector} {value}, ptr {e.pointer('%target', offset)}, align {line}, !nontemporal !0")
    e.copy(e.pointer("%target", end), e.pointer("%source", end), e.subtract("%bytes", end))
    e.do("ret void")
    return e.function("define internal void @stream(ptr noalias %target, ptr noalias %source, i64 %bytes) noinline")


def _place_in_nram(e: Emitter) -> tuple[str, Count]:
    """The address of NRAM, and where ``%local`` lies in it."""
    nram = e.value(f"load ptr, ptr {e.word(Context.NRAM)}, align 8")
    return nram, e.subtract(e.value("ptrtoint ptr %local to i64"), e.value(f"ptrtoint ptr {nram} to i64"))


def _hull(e: Emitter, start: Count, segment: Count, strides: list[Count]) -> tuple[Count, Count]:
    """The first byte of a box of segments, and the byte after its last one."""
    first, end = start, e.add(start, segment)
    for extent, stride in zip(("%n1", "%n2"), strides, strict=True):
        reach = e.multiply(e.subtract(extent, 1), stride)
        first, end = e.add(first, e.minimum(reach, 0)), e.add(end, e.maximum(reach, 0))
    return first, end


def _may_lend(e: Emitter, segment: Count, total: Count, strides: list[Count]) -> str:
    """Whether a load may be lent: it is worth it, in one piece on both sides, and may be read past its end."""
    conditions = _is_worth_it(e, e.add("%address", total), total)
    for extent, length, axis in (("%n1", segment, 0), ("%n2", e.multiply(segment, "%n1"), 1)):
        follow = [e.value(f"icmp eq i64 {stride}, {length}") for stride in strides[axis::2]]
        is_one = e.value(f"icmp eq i64 {extent}, 1")
        conditions.append(e.value(f"or i1 {is_one}, {e.value(f'and i1 {follow[0]}, {follow[1]}')}"))
    return reduce(lambda a, b: e.value(f"and i1 {a}, {b}"), conditions)


def _may_lend_rows(e: Emitter, segment: Count, total: Count, strides: list[Count]) -> str:
    """Whether a load may be lent as rows: likewise, but they may stand apart in an array to which nobody stores."""
    _, end = _hull(e, "%address", segment, strides[2:])
    writable = e.load64(e.word(Context.HIT_WRITABLE))
    conditions = [
        *_is_worth_it(e, end, total),
        e.value(f"icmp sge i64 {segment}, %rows"),
        e.value(f"icmp ne i64 {writable}, {STORED}"),
        e.value(f"or i1 {e.equal('%n1', 1)}, {e.equal(strides[0], segment)}"),
        e.value(f"or i1 {e.equal('%n2', 1)}, {e.equal(strides[1], e.multiply('%n1', segment))}"),
    ]
    return reduce(lambda a, b: e.value(f"and i1 {a}, {b}"), conditions)


def _is_worth_it(e: Emitter, end: Count, total: Count) -> list[str]:
    """What has to hold of any load that is lent, whose last byte stands before ``end``."""
    past = e.add(end, READ_PAST_BYTES)
    return [
        e.value(f"icmp sge i64 {total}, {LEAST_LENT_BYTES}"),
        e.value(f"icmp ule i64 {past}, {e.load64(e.word(Context.HIT_END))}"),
    ]


def load_pad(library: Library) -> str:
    """``load_pad(context, local, loans, address, width, n, before, valid, stride1, stride2, fill, ...)``.

    As ``load``, of the elements from ``before`` on that are ``valid`` to a box of ``n``, three integers each; all
    others of the box hold the bits ``fill``. Without elements in the box, it does nothing.
    """
    e, axes = Emitter(library), range(3)
    least = e.minimum(e.minimum("%n0", "%n1"), "%n2")
    with e.when(e.value(f"icmp slt i64 {least}, 1")):
        e.leave("i64 0")
    before = [e.minimum(e.maximum(f"%before{i}", 0), f"%n{i}") for i in axes]
    valid = [e.minimum(e.maximum(f"%valid{i}", 0), e.subtract(f"%n{i}", before[i])) for i in axes]
    plane = e.multiply("%n0", "%n1")
    total, loaded = e.multiply(plane, "%n2"), e.multiply(e.multiply(valid[0], valid[1]), valid[2])
    first = e.add(before[0], e.add(e.multiply(before[1], "%n0"), e.multiply(before[2], plane)))
    moves = e.value("icmp ne ptr %local, null")
    with e.when(e.value("icmp ne ptr %loans, null")):
        nram, low = _place_in_nram(e)
        end = e.add(low, e.multiply(total, "%width"))
        e.do(f"call void @overwrite(ptr {nram}, ptr %loans, i64 {low}, i64 {end})")
    with e.when(e.value(f"and i1 {moves}, {e.value(f'icmp ne i64 {loaded}, {total}')}")):
        behind, around, done = e.fresh("behind"), e.fresh("around"), e.fresh("done")
        is_row = e.value(f"icmp eq i64 {e.multiply('%n1', '%n2')}, 1")
        e.branch(e.value(f"and i1 {is_row}, {e.value(f'icmp eq i64 {first}, 0')}"), behind, around)
        e.label(behind)
        rest = e.pointer("%local", e.multiply(loaded, "%width"))
        e.do(f"call void @fill(ptr {rest}, i64 %fill, i64 %width, i64 {e.subtract(total, loaded)})")
        e.jump(done)
        e.label(around)
        extents = ", ".join(f"i64 {each}" for each in ("%n0", "%n1", "%n2", *before, *valid))
        e.do(f"call void @pad(ptr %local, i64 %fill, i64 %width, {extents})")
        e.jump(done)
        e.label(done)
    inside = e.pointer("%local", e.multiply(first, "%width"))
    target = e.value(f"select i1 {moves}, ptr {inside}, ptr null")
    counts = ", ".join(f"i64 {each}" for each in (*valid, "%n0", plane, "%stride1", "%stride2"))
    words = f"i64 %address, i64 %width, {counts}, i64 %kind, i64 %payload, i64 %rows"
    e.do(f"ret i64 {e.value(f'call i64 @load(ptr %context, ptr {target}, ptr %loans, {words})')}")
    extents = ", ".join(f"i64 %{name}{axis}" for name in ("n", "before", "valid") for axis in axes)
    return e.function(
        f"define i64 @load_pad(ptr %context, ptr %local, ptr %loans, i64 %address, i64 %width, {extents}, i64 %stride1,"
        f" i64 %stride2, i64 %fill, i64 %kind, i64 %payload{_ROWS})"
    )
