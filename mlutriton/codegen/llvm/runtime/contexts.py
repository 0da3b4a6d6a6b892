"""What a launch does with the contexts of all of its cores, natively: each is memory that has to come from afar.

Both functions take the addresses of the contexts, in the order of threads, and how many there are.
"""

from __future__ import annotations

from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import (
    CONTEXT_WORDS,
    PREPARE_AGAIN,
    SUM_UP,
    SUMMARY_WORDS,
    Context,
    Counter,
    Summary,
)

# Begin, next and end of each buffer that grows.
_BUFFERS = (
    (Context.TRACE, Context.TRACE_NEXT, Context.TRACE_END),
    (Context.PRINTS, Context.PRINTS_NEXT, Context.PRINTS_END),
)
# What a run leaves behind that has to be zero before the next one: first words, and those behind the last ones.
_CLEARED = ((Context.HIT_START, Context.DISJOINT), (Context.FOLD_SCALAR, CONTEXT_WORDS))


def prepare_again(library: Library) -> str:
    """``prepare_again(contexts, count, launch, kept_bytes, work, work_bytes, members)``: for a launch like the last.

    1 if all contexts were prepared for the launch of that number and no buffer has more than ``kept_bytes``; then what
    its run has left behind is cleared, and a thread, which has ``members`` contexts, counts work ``work_bytes`` after
    the one before it. Else 0, and nothing has changed.
    """
    e = Emitter(library)
    with e.loop("%count") as number:
        context = _context(e, number)
        same = [e.value(f"icmp eq i64 {_load(e, context, Context.LAUNCH)}, %launch")]
        for begin, _, end in _BUFFERS:
            size = e.subtract(_load(e, context, end), _load(e, context, begin))
            same.append(e.value(f"icmp sle i64 {size}, %kept_bytes"))
        all_same = e.value(f"and i1 {same[0]}, {e.value(f'and i1 {same[1]}, {same[2]}')}")
        with e.when(e.value(f"xor i1 {all_same}, true")):
            e.leave("i64 0")
    clear = library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
    with e.loop("%count") as number:
        context = _context(e, number)
        for begin, following, _ in _BUFFERS:
            e.store64(_load(e, context, begin), e.word(following, context))
        for begin, end in _CLEARED:
            e.do(f"call void @{clear}(ptr {e.word(begin, context)}, i8 0, i64 {8 * (end - begin)}, i1 false)")
        thread = e.value(f"udiv i64 {number}, %members")
        counted = e.add("%work", e.multiply(thread, "%work_bytes"))
        e.store64(counted, e.word(Context.INSTRUCTION_WORK, context))
    e.do("ret i64 1")
    numbers = "i64 %count, i64 %launch, i64 %kept_bytes, i64 %work, i64 %work_bytes, i64 %members"
    return e.function(f"define i64 @{PREPARE_AGAIN}(ptr %contexts, {numbers})")


def sum_up(library: Library) -> str:
    """``sum_up(contexts, count, summary)``: write what they add up to, by ``Summary``."""
    e = Emitter(library)
    clear = library.declare("llvm.memset.p0.i64", "void {}(ptr, i8, i64, i1)")
    e.do(f"call void @{clear}(ptr %summary, i8 0, i64 {8 * SUMMARY_WORDS}, i1 false)")
    with e.loop("%count") as number:
        context = _context(e, number)
        recorded = e.subtract(_load(e, context, Context.TRACE_NEXT), _load(e, context, Context.TRACE))
        added = [(Summary.RECORDED_BYTES, recorded)]
        added += [(Summary.COUNTERS + each, _load(e, context, Context.COUNTERS + each)) for each in Counter]
        for word, amount in added:
            place = e.pointer("%summary", 8 * word)
            e.store64(e.add(e.load64(place), amount), place)
        place = e.pointer("%summary", 8 * Summary.FAULTS)
        e.store64(e.value(f"or i64 {e.load64(place)}, {_load(e, context, Context.FAULT)}"), place)
    e.do("ret void")
    return e.function(f"define void @{SUM_UP}(ptr %contexts, i64 %count, ptr %summary)")


def _context(e: Emitter, number: str) -> str:
    return e.value(f"load ptr, ptr {e.pointer('%contexts', e.multiply(number, 8))}, align 8")


def _load(e: Emitter, context: str, word: int) -> str:
    return e.load64(e.word(word, context))
