"""What a launch does with the contexts of all of its cores at once."""

import ctypes

import numpy as np
import pytest

from mlutriton.isa.native_interface import (
    CONTEXT_WORDS,
    PREPARE_AGAIN,
    SUM_UP,
    SUMMARY_WORDS,
    Context,
    Fault,
    Summary,
)
from mlutriton.launch import runtime

COUNT, MEMBERS, LAUNCH, BUFFER_BYTES, WORK, WORK_BYTES = 6, 3, 17, 240, 1 << 20, 512
# What a run leaves behind: a hit, a fault, the fold and the counters.
CLEARED = [*range(Context.HIT_START, Context.DISJOINT), *range(Context.FOLD_SCALAR, CONTEXT_WORDS)]


def function(name, pointers):
    kinds = [ctypes.c_void_p if each else ctypes.c_int64 for each in pointers]
    return runtime(None).function(name, kinds, ctypes.c_int64)


def drawn_contexts():
    contexts = np.random.default_rng(0).integers(1, 1 << 40, (COUNT, CONTEXT_WORDS))
    contexts[:, Context.LAUNCH] = LAUNCH
    for begin, end in ((Context.TRACE, Context.TRACE_END), (Context.PRINTS, Context.PRINTS_END)):
        contexts[:, end] = contexts[:, begin] + BUFFER_BYTES
    return contexts


def addresses_of(contexts):
    return np.array([row.ctypes.data for row in contexts], np.int64)


def prepared_again(contexts):
    prepare, addresses = function(PREPARE_AGAIN, [True] + [False] * 6), addresses_of(contexts)
    return prepare(addresses.ctypes.data, COUNT, LAUNCH, BUFFER_BYTES, WORK, WORK_BYTES, MEMBERS)


def test_what_a_run_has_left_is_cleared_and_nothing_else():
    contexts = drawn_contexts()
    expected = contexts.copy()
    expected[:, CLEARED] = 0
    expected[:, Context.TRACE_NEXT] = expected[:, Context.TRACE]
    expected[:, Context.PRINTS_NEXT] = expected[:, Context.PRINTS]
    expected[:, Context.INSTRUCTION_WORK] = WORK + WORK_BYTES * (np.arange(COUNT) // MEMBERS)
    assert prepared_again(contexts) == 1
    np.testing.assert_array_equal(contexts, expected)


@pytest.mark.parametrize("core", range(COUNT))
@pytest.mark.parametrize("word", [Context.LAUNCH, Context.TRACE_END, Context.PRINTS_END])
def test_a_core_of_another_launch_or_with_a_larger_buffer_is_not_prepared_again(core, word):
    contexts = drawn_contexts()
    contexts[core, word] += 24
    before = contexts.copy()
    assert prepared_again(contexts) == 0
    np.testing.assert_array_equal(contexts, before)


@pytest.mark.parametrize("faulted", [None, 0, COUNT - 1])
def test_contexts_add_up(faulted):
    contexts = drawn_contexts()
    contexts[:, Context.FAULT] = Fault.NONE
    if faulted is not None:
        contexts[faulted, Context.FAULT] = Fault.STOPPED
    before, addresses, summary = contexts.copy(), addresses_of(contexts), np.full(SUMMARY_WORDS, 7, np.int64)
    function(SUM_UP, [True, False, True])(addresses.ctypes.data, COUNT, summary.ctypes.data)
    recorded = contexts[:, Context.TRACE_NEXT] - contexts[:, Context.TRACE]
    assert summary[Summary.RECORDED_BYTES] == recorded.sum()
    assert bool(summary[Summary.FAULTS]) == (faulted is not None)
    np.testing.assert_array_equal(summary[Summary.COUNTERS :], contexts[:, Context.COUNTERS :].sum(axis=0))
    np.testing.assert_array_equal(contexts, before)
