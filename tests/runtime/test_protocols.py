"""What libraries and tools do to kernels beside launching them: compile, inspect, hook, override, share."""

import json
import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.compiler import ASTSource

import mlutriton as mlu
from mlutriton import launch
from mlutriton.isa.assembly import assemble, disassemble
from mlutriton.isa.encoding import decode, encode


def scale(out, x, n, factor, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offsets, tl.load(x + offsets, mask=offsets < n) * factor, mask=offsets < n)


@pytest.fixture(params=[mlu.jit, triton.jit], ids=["mlu", "triton"])
def kernel(request):
    return request.param(scale)


@pytest.fixture
def arrays():
    return np.zeros(100, np.float32), np.arange(100, dtype=np.float32)


@pytest.fixture
def fresh_cache(tmp_path):
    with triton.knobs.cache.scope(), triton.knobs.compilation.scope(), triton.knobs.runtime.scope():
        triton.knobs.cache.dir = str(tmp_path / "cache")
        triton.knobs.cache.dump_dir = str(tmp_path / "dump")
        triton.knobs.cache.override_dir = str(tmp_path / "override")
        yield tmp_path


# ---- compiling ----


def test_warmup_compiles_and_runs_nothing(kernel, arrays):
    out, x = arrays
    compiled = kernel.warmup(out, x, 100, 2.0, BLOCK=32, grid=(4,))
    assert not out.any()
    compiled[(4, 1, 1)](out, x, 100, 2.0, 32)
    np.testing.assert_array_equal(out, 2 * x)


def square(out, x, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.dot(tl.load(x + place), tl.load(x + place)))


def test_what_multiplies_matrices_is_compiled_while_a_kernel_is(monkeypatch, fresh_cache):
    begun = []
    monkeypatch.setattr(launch, "_begin_runtime", begun.append)
    signature = {"out": "*fp32", "x": "*fp16", "BLOCK": "constexpr"}
    triton.compile(ASTSource(triton.jit(square), signature, {"BLOCK": 32}))
    assert begun == ["mm_f16", "weight_f16"]


def test_a_source_is_compiled_without_a_launch(arrays):
    out, x = arrays
    signature = {"out": "*fp32", "x": "*fp32", "n": "i32", "factor": "fp32", "BLOCK": "constexpr"}
    compiled = triton.compile(ASTSource(triton.jit(scale), signature, {"BLOCK": 32}), options={"num_stages": 3})
    compiled[(4, 1, 1)](out, x, 100, 3.0, 32)
    np.testing.assert_array_equal(out, 3 * x)
    assert compiled.metadata.num_stages == 3


def test_every_stage_can_be_read(kernel, arrays):
    compiled = kernel.warmup(*arrays, 100, 2.0, BLOCK=32, grid=(4,))
    assert "tt.load" in compiled.asm["ttir"]
    assert "tile_load" in compiled.asm["ir"]
    assert "dma.load" in compiled.asm["s"]
    assert "define" in compiled.asm["llir"]
    assert encode(assemble(compiled.asm["s"])) == compiled.asm["mluprog"] == compiled.kernel
    with pytest.raises(KeyError):
        compiled.asm["ptx"]


def test_figures_that_ported_kernels_divide_by(kernel, arrays):
    compiled = kernel.warmup(*arrays, 100, 2.0, BLOCK=32, grid=(4,), num_warps=4)
    compiled._init_handles()
    properties = triton.runtime.driver.active.utils.get_device_properties(0)
    assert properties["max_shared_mem"] // compiled.metadata.shared == 1
    assert (compiled.n_regs, compiled.n_spills) == (1, 0)
    assert compiled.metadata.target.backend == "mlu"
    assert compiled.metadata.num_warps == 4


# ---- hooks ----


def test_hooks_around_a_launch(kernel, arrays, fresh_cache):
    called = []
    triton.knobs.runtime.launch_enter_hook = lambda metadata: called.append(metadata.get()["name"])
    triton.knobs.runtime.launch_exit_hook = lambda metadata: called.append("exit")
    kernel.add_pre_run_hook(lambda *args, **kwargs: called.append(f"pre {len(args)} {kwargs['BLOCK']}"))
    kernel[(4,)](*arrays, 100, 2.0, BLOCK=32)
    assert called == ["pre 4 32", "scale", "exit"]


def test_metadata_of_a_launch_sees_its_arguments(arrays, fresh_cache):
    seen = []
    triton.knobs.runtime.launch_enter_hook = lambda metadata: seen.append(metadata.get())
    describe = lambda grid, metadata, args: {"bytes": args["x"].nbytes, "programs": grid[0]}  # noqa: E731
    triton.jit(scale, launch_metadata=describe)[(4,)](*arrays, 100, 2.0, BLOCK=32)
    assert (seen[0]["bytes"], seen[0]["programs"]) == (400, 4)


def test_listeners_and_caches_of_compilations(kernel, arrays, fresh_cache):
    hits, compiled = [], []
    triton.knobs.compilation.listener = lambda *, cache_hit, **rest: hits.append(cache_hit)
    triton.knobs.runtime.jit_cache_hook = lambda **call: json.loads(call["compile"]["specialization_data"]) is None
    triton.knobs.runtime.jit_post_compile_hook = lambda **call: compiled.append(call["repr"])
    for _ in range(2):
        fresh = type(kernel)(kernel.fn)
        fresh[(4,)](*arrays, 100, 2.0, BLOCK=32)
    triton.knobs.compilation.always_compile = True
    type(kernel)(kernel.fn)[(4,)](*arrays, 100, 2.0, BLOCK=32)
    assert hits == [False, True, False]
    assert len(compiled) == 3
    assert "num_stages=2" in compiled[0]


def test_a_hook_can_replace_stages(kernel, arrays, fresh_cache):
    seen = []

    def replace(backend=None, stages=None, options=None, language=None, arch=None):
        if stages is None:
            return "key", "hash"
        make = stages["ttir"]

        def make_and_tell(source, metadata):
            seen.append(arch)
            return make(source, metadata)

        stages["ttir"] = make_and_tell
        return None

    triton.knobs.runtime.add_stages_inspection_hook = replace
    try:
        kernel[(4,)](*arrays, 100, 2.0, BLOCK=32)
    finally:
        triton.knobs.runtime.add_stages_inspection_hook = None
    assert seen == [triton.runtime.driver.active.get_current_target().arch]


def test_a_hook_can_take_the_compilation_away(kernel, arrays, fresh_cache):
    kernel[(4,)](*arrays, 100, 2.0, BLOCK=32)
    triton.knobs.runtime.jit_cache_hook = lambda **call: True
    arrays[0][:] = 0
    assert kernel[(4,)](*arrays, 100, 2.0, BLOCK=64) is None
    assert not arrays[0].any()


def test_specializations_are_preloaded(kernel, arrays, fresh_cache):
    saved = []
    triton.knobs.runtime.jit_cache_hook = lambda **call: saved.append(call["compile"]["specialization_data"])
    kernel[(4,)](*arrays, 100, 2.0, BLOCK=32)
    triton.knobs.runtime.jit_cache_hook = None
    fresh = type(kernel)(kernel.fn)
    preloaded = fresh.preload(saved[0])
    assert preloaded.asm["mluprog"]


# ---- files ----


def test_dumped_stages_can_be_edited_and_put_back(kernel, arrays, fresh_cache):
    out, x = arrays
    triton.knobs.compilation.dump_ir = True
    kernel[(4,)](out, x, 100, 2.0, BLOCK=32)
    (ttir,) = (fresh_cache / "dump").rglob("scale.ttir")
    (program,) = (fresh_cache / "dump").rglob("scale.mluprog")
    triton.knobs.compilation.dump_ir = False
    triton.knobs.compilation.override = triton.knobs.compilation.always_compile = True
    target = fresh_cache / "override" / ttir.parent.name
    target.mkdir(parents=True)
    (target / "scale.ttir").write_text(ttir.read_text().replace("arith.mulf", "arith.addf"))
    type(kernel)(kernel.fn)[(4,)](out, x, 100, 2.0, BLOCK=32)
    np.testing.assert_array_equal(out, x + 2)
    edited = disassemble(decode(program.read_bytes())).replace("v.fmul", "v.fsub")
    (target / "scale.mluprog").write_bytes(encode(assemble(edited)))
    type(kernel)(kernel.fn)[(4,)](out, x, 100, 2.0, BLOCK=32)
    np.testing.assert_array_equal(out, x - 2)


def test_ttir_is_a_source_too(kernel, arrays, fresh_cache):
    out, x = arrays
    text = kernel.warmup(out, x, 100, 2.0, BLOCK=32, grid=(4,)).asm["ttir"]
    file = fresh_cache / "scale.ttir"
    file.write_text(text)
    compiled = triton.compile(str(file))
    assert "dma.load" in compiled.asm["s"]
    compiled[(4, 1, 1)](out, x, 100, 2.0)
    np.testing.assert_array_equal(out, 2 * x)


# ---- threads and processes ----


def launch_and_check(kernel, factor, failures):
    try:
        x = np.arange(100, dtype=np.float32)
        for block in (16, 32, 64):
            out = np.zeros(100, np.float32)
            kernel[(triton.cdiv(100, block),)](out, x, 100, factor, BLOCK=block)
            np.testing.assert_array_equal(out, factor * x)
            assert mlu.last_run().grid == (triton.cdiv(100, block), 1, 1)
    except BaseException as problem:
        failures.append(problem)


def test_threads_launch_at_once(kernel, fresh_cache):
    failures = []
    threads = [threading.Thread(target=launch_and_check, args=(kernel, float(n + 2), failures)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


plain = triton.jit(scale)


def launch_in_child(queue):
    failures = []
    launch_and_check(plain, 3.0, failures)
    queue.put([repr(failure) for failure in failures])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_launch(method):
    launch_and_check(plain, 2.0, failures := [])
    assert failures == []
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=launch_in_child, args=(queue,))
    child.start()
    child.join(60)
    try:
        assert child.exitcode == 0
        assert queue.get() == []
    finally:
        child.kill()


def test_a_child_that_was_forked_amid_launches_is_no_victim(tmp_path):
    (tmp_path / "main.py").write_text("""
import os, threading, time
import numpy as np, triton, triton.language as tl

@triton.jit
def fill(x, value, BLOCK: tl.constexpr):
    tl.store(x + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), value)

def launch(value, block):
    x = np.zeros(1 << 16, np.int32)
    fill[(x.size // block,)](x, value, BLOCK=block)
    assert (x == value).all()

launch(1, 64)
done = threading.Event()
def launches():
    while not done.is_set():
        launch(5, 64)
threads = [threading.Thread(target=launches) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for n in range(10):
    child = os.fork()
    if not child:
        launch(n + 7, 64)
        os._exit(0)
    children.append(child)
    time.sleep(0.01)
statuses = [os.waitpid(child, 0)[1] for child in children]
done.set()
for thread in threads:
    thread.join()
print(statuses)
""")
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == f"{[0] * 10}\n", ran.stderr
