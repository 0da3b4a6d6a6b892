"""A kernel to tune, in a file of its own."""

import pytest

KERNELS = """
import os

import numpy as np

import mlutriton as mlu
import mlutriton.language as tl
import triton


@mlu.jit
def scale(out, x, n, BLOCK: tl.constexpr, UNROLL: tl.constexpr):
    for part in range(UNROLL):
        offsets = (tl.program_id(0) * UNROLL + part) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def launch_scale(n, BLOCK, UNROLL, dtype="float32", PAD=1):
    arrays = {name: mlu.spec((n * PAD,), dtype) for name in ("out", "x")}
    return (triton.cdiv(n, BLOCK * UNROLL),), {**arrays, "n": n}


def reference_scale(x, **_):
    return {"out": 2 * x}


def reference_wrong(x, **_):
    return {"out": 3 * x}


def launch_deadly(n, BLOCK, UNROLL):
    if BLOCK == 128 and UNROLL == 2 and os.getpid() != int(os.environ["TEST_PROCESS"]):
        os._exit(9)
    return launch_scale(n, BLOCK, UNROLL)


def launch_raising(n, BLOCK, UNROLL):
    if BLOCK == 128:
        raise RuntimeError("no such block")
    return launch_scale(n, BLOCK, UNROLL)


CONFIGS = [triton.Config({"BLOCK": block}, num_stages=stages) for block in (64, 256) for stages in (1, 3)]


@triton.autotune(CONFIGS, key=["n"])
@triton.heuristics({"UNROLL": lambda arguments: 2 if arguments["BLOCK"] < 256 else 1})
@triton.jit
def tuned_scale(out, x, n, BLOCK: tl.constexpr, UNROLL: tl.constexpr):
    for part in range(UNROLL):
        offsets = (tl.program_id(0) * UNROLL + part) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out + offsets, 2 * tl.load(x + offsets, mask=offsets < n), mask=offsets < n)


def check(arguments):
    arguments["out"].zero_()
    arguments["out"][:] = 0
    if arguments["BLOCK"] == 64:
        raise RuntimeError("the hook was called")


HOOKED = [triton.Config({"BLOCK": block, "UNROLL": 1}, pre_hook=check) for block in (64, 256)]
hooked_scale = triton.autotune(HOOKED, key=["n"])(scale)
launch_hooked = launch_scale


def launch_tuned_scale(n):
    arrays = {name: mlu.spec((n,), "float32") for name in ("out", "x")}
    return lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"] * meta["UNROLL"]),), {**arrays, "n": n}


@mlu.jit
def bins(out, x, n, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    keys = tl.load(x + tl.arange(0, 32))
    tl.store(out + places, tl.histogram(keys, BLOCK), mask=places < n)


def launch_bins(n):
    return (1,), {"out": mlu.spec((n,), "int32"), "x": mlu.spec((32,), "int32"), "n": n}


SPACE = {"BLOCK": [128, 512], "UNROLL": [1, 2, 4], "where": lambda BLOCK, UNROLL: BLOCK * UNROLL <= 1024}


def few():
    return [{"BLOCK": 128, "UNROLL": 1}, triton.Config({"BLOCK": 256, "UNROLL": 2}, num_stages=1)]
"""


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Path of the file of kernels."""
    path = tmp_path_factory.mktemp("kernels") / "scaling.py"
    path.write_text(KERNELS)
    return path
