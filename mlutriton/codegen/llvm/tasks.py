"""The runtime function in which a host thread takes tasks and runs them, and how a program lets others run."""

from __future__ import annotations

from mlutriton.codegen.llvm.cooperation import IMAGES
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import ENDED, OVER, RUN, RUN_TOGETHER, Context


def turn(e: Emitter, program: str, instruction: int, unchanged: str, attempt: str) -> str:
    """Call the host's function that lets other programs run; what it gives."""
    function = e.value(f"load ptr, ptr {e.pointer('%context', 8 * Context.TURN)}, align 8")
    thread = e.load64(e.pointer("%context", 8 * Context.THREAD))
    words = thread, program, instruction, unchanged, attempt
    return e.value(f"call i64 {function}({', '.join(f'i64 {word}' for word in words)})")


def run(library: Library, *, together: bool) -> str:
    """``run(context, task)``: takes tasks in chunks until none is left, or until one has faulted.

    Args:
        library: of the module.
        together: whether a task is ``TOGETHER``, which runs on several cores, rather than ``PROGRAM``.
    """
    e = Emitter(library)

    def word(which: Context) -> str:
        return e.pointer("%context", 8 * which)

    def pointer(which: Context) -> str:
        return e.value(f"load ptr, ptr {word(which)}, align 8")

    images = [pointer(which) for which in IMAGES]
    following, limit_place = pointer(Context.NEXT), pointer(Context.LIMIT)
    owners, starts, sizes = (pointer(which) for which in (Context.OWNERS, Context.STARTS, Context.SIZES))
    chunk, thread, trace = e.load64(word(Context.CHUNK)), e.load64(word(Context.THREAD)), word(Context.TRACE)
    grid_x, grid_y = e.load64(word(Context.GRID_X)), e.load64(word(Context.GRID_Y))
    e.jump("take")
    e.label("take")
    first = e.value(f"atomicrmw add ptr {following}, i64 {chunk} monotonic")
    last = e.add(first, chunk)
    e.jump("next")
    e.label("next")
    e.do(f"%number = phi i64 [ {first}, %take ], [ %after, %ran ], [ %after, %turn ]")
    limit = e.value(f"load atomic i64, ptr {limit_place} monotonic, align 8")
    e.branch(e.value(f"icmp slt i64 %number, {limit}"), "more", "out")
    e.label("more")
    e.branch(e.value(f"icmp slt i64 %number, {last}"), "one", "take")
    e.label("one")
    x, rest = e.value(f"urem i64 %number, {grid_x}"), e.value(f"udiv i64 %number, {grid_x}")
    y, z = e.value(f"urem i64 {rest}, {grid_y}"), e.value(f"udiv i64 {rest}, {grid_y}")
    place = f"i64 %number, i64 {x}, i64 {y}, i64 {z}"
    if together:
        result = e.value(f"call i64 %task(ptr %context, {place})")
    else:
        before = e.subtract(e.load64(word(Context.TRACE_NEXT)), e.load64(trace))
        arguments = ", ".join(f"ptr {image}" for image in ("%context", *images, limit_place))
        e.store64("%number", word(Context.SERVED))
        result = e.value(f"call i64 %task({arguments}, {place})")
        after = e.subtract(e.load64(word(Context.TRACE_NEXT)), e.load64(trace))
        offset = e.multiply("%number", 8)
        e.store64(thread, e.pointer(owners, offset))
        e.store64(before, e.pointer(starts, offset))
        e.store64(e.subtract(after, before), e.pointer(sizes, offset))
    e.branch(e.value(f"icmp ne i64 {result}, {OVER}"), "faulted", "ran")
    e.label("ran")
    e.do("%after = add i64 %number, 1")
    others_wait = e.value(f"icmp ne i64 {e.load64(word(Context.TURN))}, 0")
    e.branch(others_wait, "turn", "next")
    e.label("turn")
    stopped = turn(e, "%number", ENDED, "0", "0")
    e.branch(e.value(f"icmp ne i64 {stopped}, 0"), "out", "next")
    e.label("faulted")
    # Programs before this one still run, here as elsewhere, so that the fault reported is that of the first program.
    served = e.load64(word(Context.SERVED))
    e.store64(served, word(Context.FAULT_PROGRAM))
    e.do(f"atomicrmw min ptr {limit_place}, i64 {served} monotonic")
    e.jump("out")
    e.label("out")
    e.do("ret void")
    return e.function(f"define void @{RUN_TOGETHER if together else RUN}(ptr %context, ptr %task)")
