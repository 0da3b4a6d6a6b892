"""The runtime functions that write what a launch leaves behind: records of the trace, and what programs print."""

from __future__ import annotations

from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import NO_HEAD, PRINT_WORDS, Context
from mlutriton.isa.trace_format import (
    FLAG_EXTENT,
    FLAG_STRIDED,
    FLAGS_SHIFT,
    MAX_STRIDED,
    NO_COMPUTE,
    RECORD_WORDS,
    STRIDE_SHIFT,
    STRIDED_COMPUTE_SHIFT,
    STRIDED_HEAD_SHIFT,
)

_RECORD = "ptr %context, i64 %kind, i64 %payload"


class _Fold:
    """What has happened since the record before, as the context has it; it begins anew."""

    def __init__(self, e: Emitter) -> None:
        places = [e.word(word) for word in (Context.FOLD_SCALAR, Context.FOLD_COMPUTE, Context.FOLD_HEAD)]
        self.scalar, self.compute, self.head = map(e.load64, places)
        for place, nothing in zip(places, (0, 0, NO_HEAD), strict=True):
            e.store64(nothing, place)


def record(library: Library) -> str:
    """``record(context, kind, payload)``: a record with its fold.

    ``kind`` is word 1 but for the fold, ``payload`` is word 2.
    """
    e = Emitter(library)
    _append_record(e, _Fold(e), "%kind")
    e.do("ret void")
    return e.function(f"define void @record({_RECORD})")


def transfer(library: Library) -> str:
    """``transfer(..., segment, count1, stride1, count2, stride2)``: as record, of segments.

    It is a plain record, one that holds the geometry, or one that an EXTENT follows.
    """
    e = Emitter(library)
    fold = _Fold(e)
    shaped, strided, extent = e.fresh("shaped"), e.fresh("strided"), e.fresh("extent")
    plain, is_plane = e.fresh("plain"), e.value("icmp eq i64 %count2, 1")
    # Segments in one piece are one, and so are planes of them.
    rows_touch = e.value(f"or i1 {e.value('icmp eq i64 %count1, 1')}, {e.value('icmp eq i64 %stride1, %segment')}")
    plane_bytes = e.value("mul i64 %segment, %count1")
    planes_touch = e.value(f"or i1 {is_plane}, {e.value(f'icmp eq i64 %stride2, {plane_bytes}')}")
    e.branch(e.value(f"and i1 {rows_touch}, {planes_touch}"), plain, shaped)
    e.label(plain)
    _append_record(e, fold, "%kind")
    e.do("ret void")
    e.label(shaped)
    idle = e.value(f"icmp sle i64 {fold.head}, {NO_COMPUTE}")
    # 0 stands for no compute, and no other head is.
    early = e.value(f"icmp ult i64 {e.value(f'sub i64 {fold.head}, 1')}, {MAX_STRIDED}")
    largest = e.value(f"or i64 {e.value(f'or i64 {fold.scalar}, {fold.compute}')}, %count1")
    fits = e.value(f"icmp ule i64 {largest}, {MAX_STRIDED}")
    fits = e.value(f"and i1 {fits}, {e.value(f'or i1 {idle}, {early}')}")
    stride1 = e.value(f"shl i64 %stride1, {STRIDE_SHIFT}")
    is_near = e.value(f"icmp eq i64 {e.value(f'ashr i64 {stride1}, {STRIDE_SHIFT}')}, %stride1")
    fits = e.value(f"and i1 {e.value(f'and i1 {fits}, {is_near}')}, {is_plane}")
    e.branch(fits, strided, extent)
    e.label(strided)
    head = e.value(f"shl i64 {e.value(f'select i1 {idle}, i64 0, i64 {fold.head}')}, {STRIDED_HEAD_SHIFT}")
    word0 = e.value(f"or i64 {e.value(f'or i64 {fold.scalar}, {head}')}, {stride1}")
    counts = e.value(f"or i64 %count1, {e.value(f'shl i64 {fold.compute}, {STRIDED_COMPUTE_SHIFT}')}")
    kind = e.value(f"or i64 %kind, {FLAG_STRIDED << FLAGS_SHIFT}")
    _append(e, (word0, e.value(f"or i64 {counts}, {kind}"), "%payload"))
    e.do("ret void")
    e.label(extent)
    _append_record(e, fold, e.value(f"or i64 %kind, {FLAG_EXTENT << FLAGS_SHIFT}"))
    sizes = e.value(f"or i64 %segment, {e.value('shl i64 %count1, 32')}")
    planes = e.value(f"or i64 %count2, {e.value('shl i64 %stride2, 16')}")
    _append(e, (sizes, "%stride1", planes))
    e.do("ret void")
    return e.function(
        f"define internal void @transfer({_RECORD}, i64 %segment, i64 %count1, i64 %stride1, i64 %count2, i64 %stride2)"
    )


def _append_record(e: Emitter, fold: _Fold, kind: str) -> None:
    word0 = e.value(f"or i64 {fold.scalar}, {e.value(f'shl i64 {fold.compute}, 32')}")
    head = e.value(f"and i64 {e.maximum(fold.head, NO_COMPUTE)}, {0xFFFFFFFF}")
    _append(e, (word0, e.value(f"or i64 {head}, {kind}"), "%payload"))


def _append(e: Emitter, words: tuple[str, str, str]) -> None:
    e.library.require("append", lambda: _define_append(e.library))
    e.do(f"call void @append(ptr %context, {', '.join(f'i64 {word}' for word in words)})")


def _define_append(library: Library) -> str:
    e = Emitter(library)
    next_place, end_place = (e.word(word) for word in (Context.TRACE_NEXT, Context.TRACE_END))
    after = e.add(e.load64(next_place), 8 * RECORD_WORDS)
    with e.when(e.value(f"icmp ugt i64 {after}, {e.load64(end_place)}")):
        e.do("call void @grow_trace(ptr %context)")
    place = e.load64(next_place)
    target = e.value(f"inttoptr i64 {place} to ptr")
    for index in range(RECORD_WORDS):
        e.store64(f"%word{index}", e.pointer(target, 8 * index))
    e.store64(e.add(place, 8 * RECORD_WORDS), next_place)
    e.do("ret void")
    words = ", ".join(f"i64 %word{index}" for index in range(RECORD_WORDS))
    return e.function(f"define internal void @append(ptr %context, {words}) alwaysinline")


def printed(library: Library) -> str:
    """``print(context, program, instruction, elements, bytes, values)``: append to what the host prints."""
    e = Emitter(library)
    needed = e.add(e.value(f"and i64 {e.add('%bytes', 7)}, -8"), 8 * PRINT_WORDS)
    next_place, end_place = (e.word(word) for word in (Context.PRINTS_NEXT, Context.PRINTS_END))
    head, grow, ready = "test", "grow", "ready"
    e.jump(head)
    e.label(head)
    room = e.subtract(e.load64(end_place), e.load64(next_place))
    e.branch(e.value(f"icmp slt i64 {room}, {needed}"), grow, ready)
    e.label(grow)
    e.do("call void @grow_prints(ptr %context)")
    e.jump(head)
    e.label(ready)
    place = e.load64(next_place)
    target = e.value(f"inttoptr i64 {place} to ptr")
    for index, name in enumerate(("%program", "%instruction", "%elements")):
        e.store64(name, e.pointer(target, 8 * index))
    e.copy(e.pointer(target, 8 * PRINT_WORDS), e.value("inttoptr i64 %values to ptr"), "%bytes")
    e.store64(e.add(place, needed), next_place)
    e.do("ret void")
    return e.function(
        "define void @print(ptr %context, i64 %program, i64 %instruction, i64 %elements, i64 %bytes, i64 %values)"
    )
