"""The runtime functions that write what a launch leaves behind: records of the trace, and what programs print."""

from __future__ import annotations

from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import PRINT_WORDS, Context
from mlutriton.isa.trace_format import (
    FLAG_EXTENT,
    FLAG_STRIDED,
    FLAGS_SHIFT,
    MAX_STRIDED_CYCLES,
    NO_COMPUTE,
    RECORD_WORDS,
    STRIDE_SHIFT,
)

_FOLD = "ptr %context, i64 %scalar, i64 %compute, i64 %head, i64 %kind, i64 %payload"


def record(library: Library) -> str:
    """``record(context, scalar, compute, head, kind, payload)``: a record with its fold.

    ``kind`` is word 1 but for the fold, ``payload`` is word 2.
    """
    e = Emitter(library)
    _append_record(e, "%kind")
    e.do("ret void")
    return e.function(f"define void @record({_FOLD})")


def transfer(library: Library) -> str:
    """``transfer(..., segment, count1, stride1, count2, stride2)``: as record, of segments.

    It is a plain record, one that holds the geometry, or one that an EXTENT follows.
    """
    e = Emitter(library)
    shaped, strided, extent = e.fresh("shaped"), e.fresh("strided"), e.fresh("extent")
    plain, is_plane = e.fresh("plain"), e.value("icmp eq i64 %count2, 1")
    # Segments in one piece are one, and so are planes of them.
    rows_touch = e.value(f"or i1 {e.value('icmp eq i64 %count1, 1')}, {e.value('icmp eq i64 %stride1, %segment')}")
    plane_bytes = e.value("mul i64 %segment, %count1")
    planes_touch = e.value(f"or i1 {is_plane}, {e.value(f'icmp eq i64 %stride2, {plane_bytes}')}")
    e.branch(e.value(f"and i1 {rows_touch}, {planes_touch}"), plain, shaped)
    e.label(plain)
    _append_record(e, "%kind")
    e.do("ret void")
    e.label(shaped)
    idle = e.value(f"icmp sle i64 %head, {NO_COMPUTE}")
    few = e.value(f"icmp ule i64 %scalar, {MAX_STRIDED_CYCLES}")
    e.branch(e.value(f"and i1 {is_plane}, {e.value(f'and i1 {idle}, {few}')}"), strided, extent)
    e.label(strided)
    word0 = e.value(f"or i64 %scalar, {e.value(f'shl i64 %stride1, {STRIDE_SHIFT}')}")
    kind = e.value(f"or i64 %kind, {FLAG_STRIDED << FLAGS_SHIFT}")
    _append(e, (word0, e.value(f"or i64 %count1, {kind}"), "%payload"))
    e.do("ret void")
    e.label(extent)
    _append_record(e, e.value(f"or i64 %kind, {FLAG_EXTENT << FLAGS_SHIFT}"))
    sizes = e.value(f"or i64 %segment, {e.value('shl i64 %count1, 32')}")
    planes = e.value(f"or i64 %count2, {e.value('shl i64 %stride2, 16')}")
    _append(e, (sizes, "%stride1", planes))
    e.do("ret void")
    return e.function(
        f"define void @transfer({_FOLD}, i64 %segment, i64 %count1, i64 %stride1, i64 %count2, i64 %stride2)"
    )


def _append_record(e: Emitter, kind: str) -> None:
    word0 = e.value(f"or i64 %scalar, {e.value('shl i64 %compute, 32')}")
    head = e.value(f"and i64 {e.maximum('%head', NO_COMPUTE)}, {0xFFFFFFFF}")
    _append(e, (word0, e.value(f"or i64 {head}, {kind}"), "%payload"))


def _append(e: Emitter, words: tuple[str, str, str]) -> None:
    e.library.require("append", lambda: _define_append(e.library))
    e.do(f"call void @append(ptr %context, {', '.join(f'i64 {word}' for word in words)})")


def _define_append(library: Library) -> str:
    e = Emitter(library)
    next_place, end_place = (e.pointer("%context", 8 * word) for word in (Context.TRACE_NEXT, Context.TRACE_END))
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
    next_place, end_place = (e.pointer("%context", 8 * word) for word in (Context.PRINTS_NEXT, Context.PRINTS_END))
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
