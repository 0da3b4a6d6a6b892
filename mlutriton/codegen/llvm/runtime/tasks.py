"""The runtime functions in which host threads take tasks, run them and wait, and how a program lets others run."""

from __future__ import annotations

from time import CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID

from mlutriton.codegen.llvm.cooperation import IMAGES
from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import BEGIN, ENDED, OVER, RUN, RUN_TOGETHER, SERVE, WAIT, Context, Worker

# To sleep and to be woken takes about as long as this, and no other thread is wanted meanwhile.
_AWAKE_NS = 50_000
_NS_PER_SECOND = 1_000_000_000


def turn(e: Emitter, program: str, instruction: int, unchanged: str, attempt: str) -> str:
    """Call the host's function that lets other programs run; what it gives."""
    function = e.value(f"load ptr, ptr {e.word(Context.TURN)}, align 8")
    thread = e.load64(e.word(Context.THREAD))
    words = thread, program, instruction, unchanged, attempt
    return e.value(f"call i64 {function}({', '.join(f'i64 {word}' for word in words)})")


def run(library: Library, *, together: bool) -> str:
    """``run(context, task)``: takes tasks in chunks until none is left, or until one has faulted.

    Args:
        library: of the module.
        together: whether a task is ``TOGETHER``, which runs on several cores, rather than ``PROGRAM``.
    """
    e = Emitter(library)

    def word(which: int) -> str:
        return e.word(which)

    def pointer(which: int) -> str:
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


def serve(library: Library) -> str:
    """``serve(worker)``: runs what the worker is handed, piece after piece; it never returns."""
    e = Emitter(library)
    library.declare("sem_wait", "i32 {}(ptr)")
    library.declare("sem_post", "i32 {}(ptr)")
    time = e.variable("[2 x i64]")
    wanted, finished = (e.pointer("%worker", 8 * word) for word in (Worker.WANTED, Worker.FINISHED))
    e.jump("sleep")
    e.label("sleep")
    # A signal wakes it too.
    woken = e.value(f"call i32 @sem_wait(ptr {wanted})")
    e.branch(e.value(f"icmp eq i32 {woken}, 0"), "work", "sleep")
    e.label("work")
    before = _now(e, CLOCK_THREAD_CPUTIME_ID, time)
    run, context, task = (
        e.value(f"load ptr, ptr {e.pointer('%worker', 8 * word)}, align 8")
        for word in (Worker.RUN, Worker.CONTEXT, Worker.TASK)
    )
    e.do(f"call void {run}(ptr {context}, ptr {task})")
    busy = e.value(f"sub i64 {_now(e, CLOCK_THREAD_CPUTIME_ID, time)}, {before}")
    e.store64(busy, e.pointer("%worker", 8 * Worker.BUSY_NS))
    e.do(f"call i32 @sem_post(ptr {finished})")
    e.jump("sleep")
    return e.function(f"define void @{SERVE}(ptr %worker)")


def begin(library: Library) -> str:
    """``begin(worker, run, context, task)``: lets the worker call ``run`` with the other two.

    It is one call, so that no signal leaves the interpreter with a worker that is busy for ever.
    """
    e = Emitter(library)
    library.declare("sem_post", "i32 {}(ptr)")
    for word, value in (
        (Worker.RUN, "%run"),
        (Worker.CONTEXT, "%context"),
        (Worker.TASK, "%task"),
        (Worker.IS_BUSY, 1),
    ):
        e.store64(value, e.pointer("%worker", 8 * word))
    e.do(f"call i32 @sem_post(ptr {e.pointer('%worker', 8 * Worker.WANTED)})")
    e.do("ret void")
    return e.function(f"define void @{BEGIN}(ptr %worker, i64 %run, i64 %context, i64 %task)")


def wait(library: Library) -> str:
    """``wait(worker, limit in ns)``: 1 once the worker has finished; 0 after so long, or when a signal arrives."""
    e = Emitter(library)
    library.declare("sem_trywait", "i32 {}(ptr)")
    library.declare("sem_timedwait", "i32 {}(ptr, ptr)")
    time, finished = e.variable("[2 x i64]"), e.pointer("%worker", 8 * Worker.FINISHED)
    begin = _now(e, CLOCK_THREAD_CPUTIME_ID, time)
    e.jump("look")
    e.label("look")
    e.branch(e.value(f"icmp eq i32 {e.value(f'call i32 @sem_trywait(ptr {finished})')}, 0"), "over", "awake")
    e.label("awake")
    awake = e.value(f"sub i64 {_now(e, CLOCK_THREAD_CPUTIME_ID, time)}, {begin}")
    e.branch(e.value(f"icmp slt i64 {awake}, {_AWAKE_NS}"), "look", "sleep")
    e.label("sleep")
    until = e.add(_now(e, CLOCK_REALTIME, time), "%limit")
    e.store64(e.value(f"udiv i64 {until}, {_NS_PER_SECOND}"), time)
    e.store64(e.value(f"urem i64 {until}, {_NS_PER_SECOND}"), e.pointer(time, 8))
    slept = e.value(f"call i32 @sem_timedwait(ptr {finished}, ptr {time})")
    e.branch(e.value(f"icmp eq i32 {slept}, 0"), "over", "busy")
    e.label("busy")
    e.do("ret i64 0")
    e.label("over")
    e.store64(0, e.pointer("%worker", 8 * Worker.IS_BUSY))
    e.do("ret i64 1")
    return e.function(f"define i64 @{WAIT}(ptr %worker, i64 %limit)")


def _now(e: Emitter, clock: int, time: str) -> str:
    """Nanoseconds by a clock; ``time`` has room for a ``timespec``."""
    e.library.declare("clock_gettime", "i32 {}(i32, ptr)")
    e.do(f"call i32 @clock_gettime(i32 {clock}, ptr {time})")
    seconds, rest = e.load64(time), e.load64(e.pointer(time, 8))
    return str(e.add(e.multiply(seconds, _NS_PER_SECOND), rest))
