"""The cores of a cluster program in native code: one after another on one thread, each from barrier to barrier.

A core that comes to a barrier leaves its function with all that it has to keep in a place of its own, and enters it
again there once the others have come. So nothing that a host thread does decides the order in which cores work, and the
reference interpreter has the same.
"""

from __future__ import annotations

from collections.abc import Callable

from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import AT_BARRIER, FAILED, OVER, PROGRAM, TOGETHER, Context, Fault

# What a program takes besides its context, in this order.
IMAGES = (
    Context.NRAM,
    Context.WRAM,
    Context.SRAM,
    Context.SCRATCH,
    Context.RUNTIME,
    Context.PARAMETERS,
    Context.INSTRUCTION_WORK,
)
# Where a core goes on that has ended.
_NOWHERE = -1


def cooperation(
    library: Library,
    program_arguments: str,
    members: int,
    saved_words: int,
    before: Callable[[Emitter, str], None] | None,
) -> str:
    """The text of ``together(context, number, x, y, z)``: runs a task on all of its cores.

    Args:
        library: of the module.
        program_arguments: parameters of the program's function but for the place of what it keeps.
        members: cores of a task.
        saved_words: words that a core keeps; the first is where it goes on.
        before: writes what is done before a task, given the address of the image of SRAM.

    It returns ``OVER`` or ``FAILED``; then the first core's context names the program that has the fault.
    """
    assert program_arguments.count("ptr") == len(IMAGES) + 2
    e = Emitter(library)
    saved, waiting = e.variable(f"[{members * saved_words} x i64]"), e.variable("i64")
    contexts = _pointer(e, "%context", Context.MEMBERS)
    if before is not None:
        before(e, _pointer(e, "%context", Context.SRAM))
    with e.loop(members) as member:
        context, row = _context(e, contexts, member), _row(e, member, members)
        e.store64("%number", e.word(Context.SERVED, context))
        e.store64(0, _saved(e, saved, member, saved_words))
        owner = e.add(e.multiply(e.load64(e.word(Context.THREAD, context)), members), member)
        e.store64(owner, e.pointer(_pointer(e, context, Context.OWNERS), row))
        e.store64(_recorded(e, context), e.pointer(_pointer(e, context, Context.STARTS), row))
    e.jump("round")
    e.label("round")
    e.store64(0, waiting)
    with e.loop(members) as member:
        context, place = _context(e, contexts, member), _saved(e, saved, member, saved_words)
        with e.when(e.value(f"icmp ne i64 {e.load64(place)}, {_NOWHERE}")):
            images = [_pointer(e, context, which) for which in (*IMAGES, Context.LIMIT)]
            pointers = ", ".join(f"ptr {each}" for each in (context, *images))
            numbers = "i64 %number, i64 %x, i64 %y, i64 %z"
            result = e.value(f"call i64 @{PROGRAM}({pointers}, {numbers}, ptr {place})")
            with e.when(e.value(f"icmp eq i64 {result}, {FAILED}")):
                _fail(e, context)
            with e.when(e.value(f"icmp eq i64 {result}, {OVER}")):
                e.store64(_NOWHERE, place)
            at_barrier = e.value(f"zext i1 {e.value(f'icmp eq i64 {result}, {AT_BARRIER}')} to i64")
            e.store64(e.add(e.load64(waiting), at_barrier), waiting)
    e.branch(e.value(f"icmp eq i64 {e.load64(waiting)}, {members}"), "round", "apart")
    e.label("apart")
    e.branch(e.value(f"icmp eq i64 {e.load64(waiting)}, 0"), "over", "alone")
    e.label("alone")
    with e.loop(members) as member:
        context, behind = _context(e, contexts, member), e.load64(_saved(e, saved, member, saved_words))
        with e.when(e.value(f"icmp ne i64 {behind}, {_NOWHERE}")):
            e.store64(int(Fault.BARRIER), e.word(Context.FAULT, context))
            e.store64(e.subtract(behind, 1), e.word(Context.FAULT_INSTRUCTION, context))
            e.store64(e.load64(waiting), e.word(Context.FAULT_ADDRESS, context))
            _fail(e, context)
    e.do("unreachable")
    e.label("over")
    with e.loop(members) as member:
        context, row = _context(e, contexts, member), _row(e, member, members)
        start = e.load64(e.pointer(_pointer(e, context, Context.STARTS), row))
        e.store64(e.subtract(_recorded(e, context), start), e.pointer(_pointer(e, context, Context.SIZES), row))
    e.do(f"ret i64 {OVER}")
    return e.function(f"define i64 @{TOGETHER}(ptr %context, i64 %number, i64 %x, i64 %y, i64 %z)")


def _fail(e: Emitter, context: str) -> None:
    """Return after a fault of the core with this context."""
    served = e.load64(e.word(Context.SERVED, context))
    e.store64(served, e.word(Context.FAULT_PROGRAM, context))
    e.store64(served, e.word(Context.SERVED))
    e.leave(f"i64 {FAILED}")


def _pointer(e: Emitter, context: str, which: int) -> str:
    return e.value(f"load ptr, ptr {e.word(which, context)}, align 8")


def _context(e: Emitter, contexts: str, member: str) -> str:
    return e.value(f"load ptr, ptr {e.pointer(contexts, e.multiply(member, 8))}, align 8")


def _saved(e: Emitter, saved: str, member: str, words: int) -> str:
    return e.pointer(saved, e.multiply(member, 8 * words))


def _row(e: Emitter, member: str, members: int) -> int | str:
    """Where the core's entry in an array with one for each core of each task stands."""
    return e.multiply(e.add(e.multiply("%number", members), member), 8)


def _recorded(e: Emitter, context: str) -> int | str:
    """Bytes that a core has recorded."""
    following = e.load64(e.word(Context.TRACE_NEXT, context))
    return e.subtract(following, e.load64(e.word(Context.TRACE, context)))
