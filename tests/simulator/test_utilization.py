"""What units are said to be busy with."""

import numpy as np

import mlutriton as mlu
from mlutriton.isa.assembly import assemble
from mlutriton.isa.encoding import encode
from mlutriton.isa.native_interface import Counter

CHAIN = """
.program  chain
.isa      592
.cores    1
.param    x ptr f32
.buffer   a nram 0 40960

    param           r0, 0
    dma.load.f32    [a], g[r0], 10240, 1, 1, 0, 0, 0, 0
    sync            1
    v.fmul.f32      ~, [a], [a], 1, 10240
    v.fadd.f32      ~, ~, 1.0, 1, 10240
    v.fmul.f32      [a], ~, 0.5, 1, 10240
    v.fadd.f32      [a], [a], 1.0, 1, 10240
    sync            4
    dma.store.f32   g[r0], [a], 10240, 1, 1, 0, 0, 0, 0
    exit
"""


def test_a_chain_keeps_the_vector_unit_busy_once():
    x = np.ones(10240, np.float32)
    run = mlu.load(encode(assemble(CHAIN)))[(1,)](x)
    passes = 10240 * 4 // 128
    assert run.counters is not None
    assert run.counters[Counter.BUSY_CYCLES] == 2 * passes
    assert sum(run.counters[each] for each in (Counter.VECTOR_SIMPLE_BYTES, Counter.VECTOR_FMA_BYTES)) == 4 * x.nbytes
    assert run.vector_utilization == 2 * passes / (run.cycles * run.machine.cores)
