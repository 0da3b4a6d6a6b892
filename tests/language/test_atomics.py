"""Atomic operations: values, results, masks, duplicates, and programs that meet at one address."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.language.launching import since

pytestmark = pytest.mark.usefixtures("each_engine")

INTEGERS = ["int32", "uint32", "int64", "uint64"]


@mlu.jit
def update(old, memory, index, values, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    mask = i < n
    place = memory + tl.load(index + i)
    value = tl.load(values + i)
    if KIND == "add":
        before = tl.atomic_add(place, value, mask=mask)
    elif KIND == "max":
        before = tl.atomic_max(place, value, mask=mask)
    elif KIND == "min":
        before = tl.atomic_min(place, value, mask=mask)
    elif KIND == "and":
        before = tl.atomic_and(place, value, mask=mask)
    elif KIND == "or":
        before = tl.atomic_or(place, value, mask=mask)
    elif KIND == "xor":
        before = tl.atomic_xor(place, value, mask=mask)
    else:
        before = tl.atomic_xchg(place, value, mask=mask)
    tl.store(old + i, before, mask=mask)


@mlu.jit
def update_one(old, memory, index, values, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    for i in range(n):
        place = memory + tl.load(index + i)
        value = tl.load(values + i)
        if KIND == "add":
            before = tl.atomic_add(place, value)
        elif KIND == "max":
            before = tl.atomic_max(place, value)
        elif KIND == "min":
            before = tl.atomic_min(place, value)
        elif KIND == "and":
            before = tl.atomic_and(place, value)
        elif KIND == "or":
            before = tl.atomic_or(place, value)
        elif KIND == "xor":
            before = tl.atomic_xor(place, value)
        else:
            before = tl.atomic_xchg(place, value)
        tl.store(old + i, before)


MEANING = {
    "add": lambda a, b: a + b,
    "max": max,
    "min": min,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "xchg": lambda a, b: b,
}


def check(kernel, kind, memory, index, values, n):
    old, expected, before = np.zeros_like(values), memory.copy(), np.zeros_like(values)
    order = range(n)
    if kernel is update and values.dtype.kind == "f" and kind in ("max", "min"):
        # Triton makes two operations of it: first of the positive values, then of the negative ones.
        order = sorted(order, key=lambda k: values[k] < 0)
    with np.errstate(over="ignore"):
        for k in order:
            before[k] = expected[index[k]]
            expected[index[k]] = MEANING[kind](before[k], values[k])
    kernel[(1,)](old, memory, index, values, n, KIND=kind, BLOCK=32)
    np.testing.assert_array_equal(memory, expected)
    np.testing.assert_array_equal(old, before)


INTEGER_CASES = [(kind, dtype) for kind in MEANING for dtype in INTEGERS]
FLOAT_CASES = [("add", "float16")] + [(k, d) for k in ("add", "max", "min", "xchg") for d in ("float32", "float64")]


@pytest.mark.parametrize("kernel", [update, update_one], ids=["tensor", "scalar"])
@pytest.mark.parametrize(("kind", "dtype"), INTEGER_CASES + FLOAT_CASES)
def test_every_kind_and_type(kernel, kind, dtype):
    random = np.random.default_rng(11)
    if np.dtype(dtype).kind == "f":
        memory, values = (random.standard_normal(n).astype(dtype) for n in (8, 32))
    else:
        memory, values = (random.integers(0, 2**63, n).astype(np.uint64).astype(dtype) for n in (8, 32))
    check(kernel, kind, memory, random.integers(0, 8, 32).astype(np.int32), values, 27)


@mlu.jit
def count(counter, sums, per_program, BLOCK: tl.constexpr):
    k = tl.program_id(0)
    ticket = tl.atomic_add(counter, 1)
    tl.store(per_program + ticket, k)
    tl.atomic_add(sums + tl.arange(0, BLOCK) % 4, k, sem="relaxed")
    tl.atomic_max(counter + 1, k, sem="release", scope="cta")
    tl.atomic_min(counter + 2, k, sem="acquire", scope="sys")
    tl.atomic_xchg(counter + 3, k, mask=k == 5, sem="acq_rel")


def test_programs_that_meet_at_one_address():
    counter, sums, tickets = np.array([0, 0, 99, 0], np.int32), np.zeros(4, np.int32), np.full(100, -1, np.int32)
    count[(100,)](counter, sums, tickets, BLOCK=8)
    assert counter.tolist() == [100, 99, 0, 5]
    assert sums.tolist() == [2 * 4950] * 4
    assert sorted(tickets) == list(range(100))


@mlu.jit
def swap(old, memory, expected, value, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(old + i, tl.atomic_cas(memory + i, tl.load(expected + i), tl.load(value + i)))
    tl.store(old + BLOCK, tl.atomic_cas(memory, tl.load(memory), tl.load(value + 1)))


@pytest.mark.parametrize("dtype", [*INTEGERS, "int16", "float32", "float64"])
def test_compare_and_swap(dtype):
    random = np.random.default_rng(5)
    memory, expected, value = (random.integers(0, 3, 16).astype(dtype) for _ in range(3))
    old, before = np.zeros(17, dtype), memory.copy()
    after = np.where(memory == expected, value, memory)
    swap[(1,)](old, memory, expected, value, BLOCK=16)
    np.testing.assert_array_equal(old, [*before, after[0]])
    np.testing.assert_array_equal(memory, [value[1], *after[1:]])


@mlu.jit
def rank_2(memory, out, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    mask = (r < rows) & (c < columns)
    tl.store(out + r * COLUMNS + c, tl.atomic_add(memory + c + r * 0, 1.0, mask=mask), mask=mask)


def test_rank_2_with_duplicates():
    memory, out = np.zeros(8, np.float32), np.full((4, 8), -1, np.float32)
    rank_2[(1,)](memory, out, 3, 7, ROWS=4, COLUMNS=8)
    np.testing.assert_array_equal(memory, [3] * 7 + [0])
    np.testing.assert_array_equal(out[:3, :7], np.repeat(np.arange(3)[:, None], 7, axis=1))


@mlu.jit
def update_rows(
    old, memory, index, values, rows, columns, pitch, R: tl.constexpr, C: tl.constexpr, EVERY: tl.constexpr
):
    row, column = tl.arange(0, R), tl.arange(0, C)
    place = memory + tl.load(index + row)[:, None] * pitch + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    if EVERY > 1:
        mask = mask & (column % EVERY == 0)[None, :]
    at = row[:, None] * C + column[None, :]
    before = tl.atomic_add(place, tl.load(values + at), mask=mask)
    if old is not None:
        tl.store(old + at, before)


@pytest.mark.parametrize("every", [1, 3])  # of which the second masks elements amid a row
@pytest.mark.parametrize("wants_old", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(8, 64), (5, 64), (8, 37), (3, 1), (0, 64), (8, 0), (8, -1), (9, 99)])
def test_rows(rows, columns, wants_old, every):
    rng = np.random.default_rng(1)
    memory = rng.integers(0, 1000, (6, 80)).astype(np.int32)
    index = np.array([0, 3, 3, 5, 1, 0, 3, 2], np.int32)
    values = rng.integers(0, 1000, (8, 64)).astype(np.int32)
    old, expected, before = np.full_like(values, -1), memory.copy(), np.zeros_like(values)
    for row in range(min(rows, 8)):
        for column in range(0, min(columns, 64), every):
            before[row, column] = expected[index[row], column]
            expected[index[row], column] += values[row, column]
    update_rows[(1,)](old if wants_old else None, memory, index, values, rows, columns, 80, 8, 64, every)
    np.testing.assert_array_equal(memory, expected)
    if wants_old:
        np.testing.assert_array_equal(old, before)


@mlu.jit
def accumulate(out, x, index, width, BLOCK: tl.constexpr, SCALE: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    mask = i < width
    place = out + tl.load(index + row) * width + i
    tl.atomic_add(place, tl.load(x + row * width + i, mask=mask, other=0.0) * SCALE, mask=mask)


@pytest.mark.parametrize("width", [16, 100, 129])
def test_rows_named_by_an_index(width):
    rng = np.random.default_rng(2)
    x, index = rng.integers(-99, 99, (100, width)).astype(np.float32), rng.integers(0, 7, 100)
    out, expected = np.zeros((7, width), np.float32), np.zeros((7, width), np.float32)
    accumulate[(100,)](out, x, index, width, 256, 2)
    np.add.at(expected, index, 2 * x)
    np.testing.assert_array_equal(out, expected)


@mlu.jit
def count_in_columns(out, size, WIDTH: tl.constexpr, PITCH: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + i // WIDTH * PITCH + i % WIDTH, i, mask=i < size)


@pytest.mark.parametrize("size", [1000, 960, 0])
def test_digits_of_flat_positions(size):
    out, expected = np.zeros((64, 20), np.int32), np.zeros((64, 20), np.int32)
    count_in_columns[(4,)](out, size, 16, 20, 256)
    expected[:, :16].reshape(-1)[:] = [0] * 1024
    for i in range(size):
        expected[i // 16, i % 16] += i
    np.testing.assert_array_equal(out, expected)


def test_a_tile_of_products_is_added_row_by_row():
    @mlu.jit
    def add_tile(c, a, N: tl.constexpr, B: tl.constexpr):
        i, j = tl.program_id(0) * B + tl.arange(0, B), tl.program_id(1) * B + tl.arange(0, B)
        tl.atomic_add(c + i[:, None] * N + j[None, :], tl.load(a + i[:, None] * N + j[None, :]))

    a, c = np.random.default_rng(3).standard_normal((128, 128), dtype=np.float32), np.zeros((128, 128), np.float32)
    run = add_tile[(2, 2)](c, a, 128, 64)
    np.testing.assert_array_equal(c, a)
    elementwise = 64 * 64 * mlu.machine("mlu590-m9").atomic_interval_cycles
    assert run.cycles < elementwise, "a granule of a row is one atomic to the DRAM"


@mlu.jit
def masked_scalars(old, memory, n, x):
    k = tl.program_id(0)
    before = tl.atomic_add(memory + 1, x, mask=k < n)
    tl.store(old + k, before, mask=k < n)


@pytest.mark.parametrize(("dtype", "x"), [("float32", 1.5), ("float16", 2.5), ("int32", 3), ("int64", 4)])
def test_masked_scalars(dtype, x):
    memory, old = np.zeros(2, dtype), np.full(5, -1, dtype)
    masked_scalars[(5,)](old, memory, 3, x)
    assert memory.tolist() == [0, 3 * x]
    assert old.tolist() == [0, x, 2 * x, -1, -1]


@mlu.jit
def exchange_pairs(a, b, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(b + i, tl.atomic_xchg(a + i, tl.load(b + i)))


def test_exchange():
    a, b = np.arange(8, dtype=np.float32), np.arange(8, 16, dtype=np.float32)
    exchange_pairs[(1,)](a, b, BLOCK=8)
    assert a.tolist() == list(range(8, 16))
    assert b.tolist() == list(range(8))


@mlu.jit
def loads_and_stores(out, x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.atomic_store(out + i, tl.atomic_load(x + i, mask=i < n), mask=i < n)
    tl.atomic_store(out + BLOCK, tl.atomic_load(x, sem="relaxed"), sem="relaxed", scope="sys")


@since(3, 9)
def test_atomic_loads_and_stores():
    x, out = np.arange(1, 17, dtype=np.int32), np.zeros(17, np.int32)
    loads_and_stores[(1,)](out, x, 9, BLOCK=16)
    assert out.tolist() == [*range(1, 10), *[0] * 7, 1]


# ---- programs that wait for one another


@mlu.jit
def locked(lock, total, BLOCK: tl.constexpr):
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    i = tl.arange(0, BLOCK)
    tl.store(total + i, tl.load(total + i) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@pytest.mark.parametrize("programs", [1, 2, 7, 200])
def test_spin_locks(programs):
    lock, total = np.zeros(1, np.int32), np.zeros(8, np.int32)
    locked[(programs,)](lock, total, BLOCK=8)
    assert total.tolist() == [programs] * 8
    assert lock[0] == 0


@mlu.jit
def chain(flags, out, backwards):
    k, n = tl.program_id(0), tl.num_programs(0)
    place = n - 1 - k if backwards else k
    if place > 0:
        while tl.atomic_add(flags + place - 1, 0) == 0:
            pass
        tl.store(out + place, tl.load(out + place - 1) + place)
    tl.atomic_xchg(flags + place, 1)


@pytest.mark.parametrize("programs", [1, 3, 40])
@pytest.mark.parametrize("backwards", [0, 5])
def test_programs_that_wait_for_others(programs, backwards):
    flags, out = np.zeros(programs, np.int32), np.zeros(programs, np.int64)
    chain[(programs,)](flags, out, backwards)
    np.testing.assert_array_equal(out, np.cumsum(np.arange(programs)))


@mlu.jit
def polling(flags, out, backwards):
    k, n = tl.program_id(0), tl.num_programs(0)
    place = n - 1 - k if backwards else k
    if place > 0:
        tl.atomic_poll(flags + place - 1, 1)
        tl.store(out + place, tl.load(out + place - 1) + place)
    tl.atomic_store(flags + place, 1)


@since(3, 9)
@pytest.mark.parametrize("backwards", [0, 5])
def test_polls(backwards):
    flags, out = np.zeros(9, np.int32), np.zeros(9, np.int64)
    polling[(9,)](flags, out, backwards)
    np.testing.assert_array_equal(out, np.cumsum(np.arange(9)))


@mlu.jit
def poll_once(flags, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.atomic_poll(flags + i, 3, timeout_ns=0))


@since(3, 9)
def test_polls_with_a_time_limit():
    flags, out = np.array([3, 1, 3, 0], np.int32), np.zeros(4, np.int32)
    poll_once[(1,)](flags, out, BLOCK=4)
    assert out.tolist() == [1, 0, 1, 0]


@mlu.jit
def grid_barrier(arrived, x, out):
    k, n = tl.program_id(0), tl.num_programs(0)
    tl.store(x + k, k + 1)
    tl.atomic_add(arrived, 1)
    while tl.load(arrived, volatile=True) < n:
        pass
    tl.store(out + k, tl.load(x + (k + 1) % n))


@pytest.mark.parametrize("programs", [2, 5, 32])
def test_barriers_of_the_whole_grid(programs):
    arrived, x, out = (np.zeros(n, np.int32) for n in (1, programs, programs))
    grid_barrier[(programs,)](arrived, x, out)
    np.testing.assert_array_equal(out, np.roll(np.arange(1, programs + 1), -1))


@mlu.jit
def never_unlocked(lock):
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass


def test_a_deadlock_is_reported():
    with pytest.raises(mlu.KernelFault, match="these wait") as caught:
        never_unlocked[(4,)](np.zeros(1, np.int32))
    assert caught.value.code == "E0306"
    assert "test_atomics.py" in str(caught.value)
    assert "these wait: (1, 0, 0), (2, 0, 0), (3, 0, 0)" in str(caught.value)


@mlu.jit
def wait_for_a_flag(flag):
    while tl.atomic_add(flag, 0) == 0:
        pass


@pytest.mark.parametrize("engine", ["native", "interpreter"])
def test_programs_that_all_run_are_not_told_to_be_fewer(engine, monkeypatch):
    monkeypatch.setenv("MLUTRITON_ENGINE", engine)
    for programs in (1, 3):
        with pytest.raises(mlu.KernelFault, match=f"{programs} of {programs} programs") as caught:
            wait_for_a_flag[(programs,)](np.zeros(1, np.int32))
        assert "see that whatever is waited for is written" in str(caught.value)


def test_a_barrier_of_more_programs_than_the_machine_has_cores_is_reported():
    programs = mlu.current_machine().cores + 1
    with pytest.raises(mlu.KernelFault, match=f"launch at most {programs - 1} programs") as caught:
        grid_barrier[(programs,)](*(np.zeros(n, np.int32) for n in (1, programs, programs)))
    assert caught.value.code == "E0306"


def test_programs_that_wait_take_the_same_cycles_on_both_engines(monkeypatch):
    runs = []
    for engine in ("native", "interpreter"):
        monkeypatch.setenv("MLUTRITON_ENGINE", engine)
        flags, out = np.zeros(12, np.int32), np.zeros(12, np.int64)
        runs.append(chain[(12,)](flags, out, 5))
    assert runs[0].cycles == runs[1].cycles
    np.testing.assert_array_equal(runs[0].trace.words, runs[1].trace.words)


@mlu.jit
def one_fails(lock, x):
    if tl.program_id(0) == 1:
        tl.store(x + 1000000, 1)
    while tl.atomic_cas(lock, 1, 1) == 0:
        pass


def test_a_fault_ends_the_programs_that_wait():
    with pytest.raises(mlu.KernelFault) as caught:
        one_fails[(3,)](np.zeros(1, np.int32), np.zeros(1, np.int32))
    assert caught.value.code == "E0301"
    assert "(1, 0, 0)" in str(caught.value)


@mlu.jit
def work_queue(counter, out, done, n):
    k, item = tl.program_id(0), tl.atomic_add(counter, 1)
    while item < n:
        tl.store(out + item, item * 3)
        tl.atomic_add(done + k, 1)
        item = tl.atomic_add(counter, 1)


def test_queues_of_work_are_shared_by_all_programs():
    counter, out, done = np.zeros(1, np.int32), np.zeros(40, np.int32), np.zeros(8, np.int32)
    work_queue[(8,)](counter, out, done, 40)
    np.testing.assert_array_equal(out, 3 * np.arange(40))
    assert done.min() >= 4


@mlu.jit
def counting(x, n):
    while tl.atomic_add(x, 1) < n:
        pass


def test_programs_that_count_do_not_wait():
    x = np.zeros(1, np.int32)
    counting[(3,)](x, 1000)
    assert x[0] == 1003


@mlu.jit
def counting_lock(lock):
    while tl.atomic_add(lock, 1) != 0:
        tl.atomic_add(lock, -1)


def test_a_lock_that_counts_and_is_never_given_back_is_reported():
    with pytest.raises(mlu.KernelFault) as caught:
        counting_lock[(4,)](np.zeros(1, np.int32))
    assert caught.value.code == "E0306"
