"""What the threads of a launch have recorded, joined; or seen to be known already.

The host calls these functions, programs do not.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from mlutriton.codegen.llvm.emitter import Emitter, Library
from mlutriton.isa.native_interface import CONCATENATE, REPEATS, Context
from mlutriton.isa.trace_format import RECORD_WORDS

_ROWS_OF_RECORDS = "ptr %contexts, ptr %owners, ptr %starts, ptr %sizes, i64 %rows"


@contextmanager
def _records(e: Emitter) -> Generator[tuple[str, str, str, str]]:
    """Write what is done with the records of each row, in their order.

    Yields the bytes of those before, where they are, how many bytes they are, and where ``%firsts`` has the number of
    the first one. Owners of rows are places of contexts, which have the traces.
    """
    place = e.variable("i64")
    e.store64(0, place)
    with e.loop("%rows") as row:
        offset = e.multiply(row, 8)
        owner, start, size = (e.load64(e.pointer(array, offset)) for array in ("%owners", "%starts", "%sizes"))
        context = e.value(f"load ptr, ptr {e.pointer('%contexts', e.multiply(owner, 8))}")
        trace = e.value(f"load ptr, ptr {e.word(Context.TRACE, context)}")
        before = e.load64(place)
        yield before, e.pointer(trace, start), size, e.pointer("%firsts", offset)
        e.store64(e.add(before, size), place)


def _number(e: Emitter, before: str) -> str:
    return e.value(f"udiv exact i64 {before}, {8 * RECORD_WORDS}")


def concatenate(library: Library) -> str:
    """``concatenate(target, firsts, contexts, owners, starts, sizes, rows)``: the records of all rows, in their order.

    Of each row, ``firsts`` gets the number of its first record.
    """
    e = Emitter(library)
    with _records(e) as (before, records, size, first):
        e.copy(e.pointer("%target", before), records, size)
        e.store64(_number(e, before), first)
    e.do("ret void")
    return e.function(f"define void @{CONCATENATE}(ptr %target, ptr %firsts, {_ROWS_OF_RECORDS})")


def repeats(library: Library) -> str:
    """``repeats(joined, firsts, contexts, owners, starts, sizes, rows)``: whether they would be joined to the same.

    There are as many bytes of them, and as many rows.
    """
    e = Emitter(library)
    compare = library.declare("memcmp", "i32 {}(ptr, ptr, i64)")
    with _records(e) as (before, records, size, first):
        differs = e.value(f"call i32 @{compare}(ptr {e.pointer('%joined', before)}, ptr {records}, i64 {size})")
        is_same = e.value(f"icmp eq i32 {differs}, 0")
        begins_there = e.value(f"icmp eq i64 {e.load64(first)}, {_number(e, before)}")
        with e.when(e.value(f"xor i1 {e.value(f'and i1 {is_same}, {begins_there}')}, true")):
            e.leave("i64 0")
    e.do("ret i64 1")
    return e.function(f"define i64 @{REPEATS}(ptr %joined, ptr %firsts, {_ROWS_OF_RECORDS})")
