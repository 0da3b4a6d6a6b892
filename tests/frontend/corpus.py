"""Kernels that together print every form of TTIR, and the way to their text. Read by the tests beside it."""

import triton
import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlutriton.backend.compiler import MLUBackend, run_ttir_passes


@triton.jit
def add(x, y, o, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offs = pid * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    a = tl.load(x + offs, mask=mask, other=0.0, cache_modifier=".cg", eviction_policy="evict_last")
    b = tl.load(y + offs, mask=mask, volatile=True)
    tl.store(o + offs, a + b, mask=mask, cache_modifier=".wb")


@triton.jit
def softmax(o, x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + row * n + offs, mask=offs < n, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(o + row * n + offs, e / tl.sum(e, axis=0), mask=offs < n)


@triton.jit
def matmul(a, b, c, M, N, K, sam, sak, sbk, sbn, scm, scn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    pm = tl.program_id(0)
    pn = tl.program_id(1)
    rm = pm * BM + tl.arange(0, BM)
    rn = pn * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    ap = a + rm[:, None] * sam + rk[None, :] * sak
    bp = b + rk[:, None] * sbk + rn[None, :] * sbn
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in tl.range(0, tl.cdiv(K, BK), num_stages=3):
        x = tl.load(ap, mask=rk[None, :] < K - k * BK, other=0.0)
        y = tl.load(bp, mask=rk[:, None] < K - k * BK, other=0.0)
        acc = tl.dot(x, y, acc, input_precision="tf32")
        ap += BK * sak
        bp += BK * sbk
    acc = tl.where(acc >= 0, acc, 0.01 * acc)
    tl.store(c + rm[:, None] * scm + rn[None, :] * scn, acc.to(tl.float16), mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def _inner(
    acc,
    l_i,
    m_i,
    q,
    K,
    V,
    start_m,
    qk_scale,
    sk,
    sv,
    lo,
    hi,
    BM: tl.constexpr,
    BN: tl.constexpr,
    D: tl.constexpr,
    MASKED: tl.constexpr,
):
    offs_m = start_m * BM + tl.arange(0, BM)
    offs_n = tl.arange(0, BN)
    offs_d = tl.arange(0, D)
    for s in range(lo, hi, BN):
        s = tl.multiple_of(s, BN)
        k = tl.load(K + (s + offs_n)[None, :] * sk + offs_d[:, None])
        qk = tl.dot(q, k)
        if MASKED:
            qk = qk * qk_scale + tl.where(offs_m[:, None] >= (s + offs_n[None, :]), 0, -1.0e6)
            m_ij = tl.maximum(m_i, tl.max(qk, 1))
            qk -= m_ij[:, None]
        else:
            m_ij = tl.maximum(m_i, tl.max(qk, 1) * qk_scale)
            qk = qk * qk_scale - m_ij[:, None]
        p = tl.math.exp2(qk)
        alpha = tl.math.exp2(m_i - m_ij)
        l_i = l_i * alpha + tl.sum(p, 1)
        acc = acc * alpha[:, None]
        v = tl.load(V + (s + offs_n)[:, None] * sv + offs_d[None, :])
        acc = tl.dot(p.to(tl.float16), v, acc)
        m_i = m_ij
    return acc, l_i, m_i


@triton.jit
def flash(Q, K, V, Out, M, scale, sqz, sqm, N, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    start_m = tl.program_id(0)
    z = tl.program_id(1)
    base = z.to(tl.int64) * sqz
    offs_m = start_m * BM + tl.arange(0, BM)
    offs_d = tl.arange(0, D)
    q = tl.load(Q + base + offs_m[:, None] * sqm + offs_d[None, :])
    m_i = tl.zeros([BM], dtype=tl.float32) - float("inf")
    l_i = tl.zeros([BM], dtype=tl.float32) + 1.0
    acc = tl.zeros([BM, D], dtype=tl.float32)
    qs = scale * 1.44269504
    acc, l_i, m_i = _inner(
        acc, l_i, m_i, q, K + base, V + base, start_m, qs, sqm, sqm, 0, start_m * BM, BM, BN, D, False
    )
    acc, l_i, m_i = _inner(
        acc, l_i, m_i, q, K + base, V + base, start_m, qs, sqm, sqm, start_m * BM, (start_m + 1) * BM, BM, BN, D, True
    )
    m_i += tl.math.log2(l_i)
    acc = acc / l_i[:, None]
    tl.store(M + z * N + offs_m, m_i)
    tl.store(Out + base + offs_m[:, None] * sqm + offs_d[None, :], acc.to(tl.float16))


@triton.jit
def control(x, o, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    s = tl.program_id(2)
    if s >= n:
        return
    i = 0
    acc = tl.zeros((BLOCK,), tl.float32)
    while i < n:
        v = tl.load(x + i * BLOCK + offs)
        if i % 3 == 1:
            acc += v
        else:
            acc -= v
        i += s + 1
    if n > 5:
        tl.store(o + offs, acc)
    tl.store(o + s, i)


@triton.jit
def atomics(x, o, lock, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs, mask=offs < n)
    tl.atomic_add(o + offs, v, mask=offs < n, sem="relaxed")
    tl.atomic_max(o + offs, v)
    old = tl.atomic_add(lock, 1, scope="cta")
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.atomic_xchg(lock, old)
    tl.atomic_min(lock + offs, offs)
    tl.atomic_and(lock, 3)
    tl.atomic_or(lock, 3)
    tl.atomic_xor(lock, 3)
    tl.debug_barrier()


@triton.jit
def combine_mul(a, b):
    return a * b


@triton.jit
def scans(x, o, i, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    c = tl.cumsum(v, 0, reverse=True)
    p = tl.associative_scan(v, 0, combine_mul)
    m, a = tl.max(v, 0, return_indices=True)
    tl.store(o + offs, c + p)
    tl.store(i, a)
    tl.store(o, m)
    tl.store(i + 1, tl.argmin(v, 0, tie_break_left=False))
    k = v.to(tl.int32)
    h = tl.histogram(k, 64, mask=offs < n)
    tl.store(i + tl.arange(0, 64), h)
    s = tl.sort(v)
    tl.store(o + offs, s)
    g = tl.gather(v, k, 0)
    tl.store(o + offs, g)


@triton.jit
def descriptors(a, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    d = tl.make_tensor_descriptor(a, shape=[M, N], strides=[N, 1], block_shape=[BM, BN], padding_option="nan")
    e = tl.make_tensor_descriptor(o, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    t = d.load([tl.program_id(0) * BM, 0])
    e.store([tl.program_id(0) * BM, 0], t + 1)
    e.atomic_add([0, 0], t)
    r = tl.make_tensor_descriptor(a, shape=[M, N], strides=[N, 1], block_shape=[1, BN])
    g = r.gather(tl.arange(0, 32), 0)
    r.scatter(g, tl.arange(0, 32), 0)


@triton.jit
def host_descriptor(d, o, BM: tl.constexpr, BN: tl.constexpr):
    t = d.load([0, 0])
    tl.store(o + tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :], t)


@triton.jit(noinline=True)
def scaled(x, s):
    return x * s + 1.0, x


@triton.jit(noinline=True)
def store_one(x):
    tl.store(x, 1.0)


@triton.jit
def calls(x, o, s, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    a, b = scaled(s + 1.0, s)
    store_one(o)
    tl.store(o + offs, a + b + v)


@triton.jit
def shapes(x, o, y, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    m = tl.reshape(v, (BLOCK // 4, 4))
    t = tl.trans(m)
    t3 = tl.permute(tl.reshape(v, (2, 2, BLOCK // 4)), (2, 0, 1))
    r = tl.reshape(m, (4, BLOCK // 4))
    j = tl.join(v, v + 1)
    a, b = tl.split(j)
    c = tl.cat(a, b)
    il = tl.interleave(v, v)
    f = tl.flip(v, 0)
    tl.store(o + offs, tl.ravel(t + r) + f)
    tl.store(o + tl.arange(0, 2 * BLOCK), c + il)
    tl.store(y + tl.arange(0, BLOCK), tl.ravel(t3).to(tl.bfloat16))
    tl.device_print("v", v, offs, hex=True)
    tl.device_assert(v > 0, 'must be % positive "q"')
    tl.assume(tl.program_id(0) >= 0)
    tl.store(y, tl.num_programs(1).to(tl.float32).to(tl.bfloat16))


@triton.jit
def elementwise(x, o, i, u, n, f, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    k = tl.load(i + offs)
    w = tl.load(u + offs)
    z = (
        tl.sin(v)
        + tl.cos(v)
        + tl.exp(v)
        + tl.exp2(v)
        + tl.log(v)
        + tl.log2(v)
        + tl.sqrt(v)
        + tl.rsqrt(v)
        + tl.erf(v)
        + tl.floor(v)
        + tl.ceil(v)
        + tl.abs(v)
        + tl.fma(v, v, v)
    )
    z += (
        tl.sqrt_rn(v)
        + tl.div_rn(v, z)
        + tl.clamp(v, -1.0, 1.0)
        + tl.sigmoid(v)
        + tl.maximum(v, z, propagate_nan=tl.PropagateNan.ALL)
        + tl.minimum(v, z)
        + v % z
    )
    kk = k // 3 + k % 5 - (k << 2) + (k >> 1) ^ k & 7 | 9
    kk += tl.abs(k) + tl.maximum(k, 3) + tl.umulhi(k, k) + tl.minimum(k, kk) + -k + ~k
    ww = w // 3 + w % 5 + (w >> 2) + tl.maximum(w, 4) + tl.minimum(w, 5)
    b = (v > z) & (v < 2) | (v == z) ^ (v != z) & (k <= kk) & (w > ww)
    b2 = not (n > 3)
    cvt = (
        v.to(tl.float16).to(tl.bfloat16).to(tl.float64).to(tl.float32)
        + k.to(tl.float32)
        + w.to(tl.float32)
        + b.to(tl.float32)
    )
    f8 = v.to(tl.float8e5).to(tl.float32) + v.to(tl.float8e4nv, fp_downcast_rounding="rtne").to(tl.float16).to(
        tl.float32
    )
    ii = (
        v.to(tl.int32)
        + v.to(tl.uint8).to(tl.int32)
        + v.to(tl.int32, bitcast=True)
        + k.to(tl.int8).to(tl.int32)
        + k.to(tl.int64).to(tl.int32)
    )
    tl.store(o + offs, z + cvt + f8 + f + tl.where(b, v, z) + 0.1 + tl.full((BLOCK,), float("nan"), tl.float32))
    tl.store(i + offs, kk + ii + ww.to(tl.int32) + b2)
    p = x.to(tl.int64)
    q = p.to(tl.pointer_type(tl.float32))
    tl.store(q, 1.5)
    tl.store(o, tl.max(tl.rand(n, offs), 0))
    tl.store(o + offs, tl.rand(7, offs))
    tl.store(o + offs, tl.randn(3, offs))


@triton.jit
def device_functions(x, o, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    tl.store(o + offs, tl.extra.libdevice.tanh(v) + tl.extra.libdevice.pow(v, v))


@triton.jit
def dots(a, b, s, o):
    r = tl.arange(0, 64)
    x = tl.load(a + r[:, None] * 64 + r[None, :])
    y = tl.load(b + r[:, None] * 64 + r[None, :])
    sc = tl.load(s + r[:, None] * 2 + tl.arange(0, 2)[None, :])
    d = tl.dot_scaled(x, sc, "e4m3", y, sc, "e4m3")
    d += tl.dot(x, y, max_num_imprecise_acc=32)
    tl.store(o + r[:, None] * 64 + r[None, :], d)


@triton.jit
def map_fn(a):
    if a > 0:
        return a
    return a * 2


@triton.jit
def mapped(x, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    tl.store(x + offs, tl.map_elementwise(map_fn, v))


@triton.jit
def loops(x, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    for i in range(n):
        for j in tl.static_range(2):
            tl.store(x + offs + j, tl.load(x + offs + i))
    for i in range(10, 0, -2):
        tl.store(x + i, 0.0)
    for i in tl.range(n, loop_unroll_factor=2, disallow_acc_multi_buffer=True, flatten=True):
        tl.store(x + i, 1.0)
    a = 0.0
    b = 1.0
    for _ in tl.range(n * 2, warp_specialize=False, disable_licm=True):
        a, b = b, a + b
    tl.store(x, a)
    t = (a, b)
    tl.store(x, t[0])


@triton.jit
def assembly(x, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.inline_asm_elementwise(
        "mov.b32 $0, %laneid;", "=r,r", [tl.load(x + offs)], dtype=tl.float32, is_pure=True, pack=1
    )
    tl.store(x + offs, v)


@triton.jit
def more(x, i, p, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    a = v + 1
    b = tl.load(x)
    c = tl.cat(v, v)
    tl.store(x + tl.arange(0, 2 * BLOCK), c + b)
    tl.store(x + offs, v / tl.fdiv(v, a) + tl.div_rn(v, a), eviction_policy="evict_first")
    one = tl.load(x + tl.arange(0, 1))
    tl.store(x, tl.sum(one))
    tl.store(x, tl.reshape(one, ()))
    w = tl.atomic_cas(i + offs, offs, offs + 1, sem="acquire", scope="sys")
    q = tl.load(p).to(tl.pointer_type(tl.float32))
    tl.store(q, 1.0)
    tl.store(x + offs, tl.load(x + offs, mask=v > 0, other=2.0, cache_modifier=".ca"))
    tl.static_assert(BLOCK == 64)
    z = tl.zeros((), tl.float32)
    tl.store(x, z)
    tl.store(i + offs, (v == v).to(tl.int32) + (w == 3))
    tl.store(x + offs, v.to(tl.float8e5, fp_downcast_rounding="rtne").to(tl.float16).to(tl.float32))
    tl.store(x + offs, v.to(tl.float16, fp_downcast_rounding="rtz").to(tl.float32))
    tl.device_assert(b > 0, "b")
    tl.store(i, tl.reduce_or(offs, 0))


@triton.jit
def atomic_accesses(x, i, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    v = tl.load(x + offs)
    a = tl.atomic_load(x + offs, mask=offs < 3, sem="acquire")
    tl.atomic_store(x + offs, v + a, mask=offs < 3)
    tl.atomic_store(x, 1.0)
    tl.store(x, tl.atomic_load(x))
    tl.atomic_poll(i, 1, timeout_ns=100)
    tl.atomic_poll(i, 1)


@triton.jit
def polymorphic_return(x, n):
    if n > 3:
        return 1.0
    tl.store(x, 2.0)
    return 3.0


@triton.jit
def returns(x, n):
    tl.store(x, polymorphic_return(x, n))
    for i in range(n):
        tl.store(x + i, polymorphic_return(x, i))
    for i in range(tl.cast(n, tl.int64)):
        tl.store(x + i, 1.0)
    for i in range(tl.cast(n, tl.uint32)):
        tl.store(x + i, 1.0)
    k = tl.max(tl.load(x + tl.arange(0, 64)), 0)
    if k > 0 and n > 2:
        tl.store(x, 3.0)
    elif k > 1 or n < 3:
        tl.store(x, 4.0)
    else:
        if n == 7:
            return
        tl.store(x, 5.0)
    tl.store(x, tl.where(n > 0, 1.0, 2.0))


# Types of the arguments that are no constants, and the constants.
SIGNATURES = {
    add: ("*fp32 *fp32 *fp32 i32", {"BLOCK": 1024}),
    softmax: ("*fp32 *fp32 i32", {"BLOCK": 1024}),
    matmul: ("*fp16 *fp16 *fp16" + 9 * " i32", {"BM": 64, "BN": 64, "BK": 32}),
    flash: ("*fp16 *fp16 *fp16 *fp16 *fp32 fp32 i32 i32 i32", {"BM": 64, "BN": 32, "D": 64}),
    control: ("*fp32 *fp32 i32", {"BLOCK": 64}),
    atomics: ("*fp32 *fp32 *i32 i32", {"BLOCK": 64}),
    scans: ("*fp32 *fp32 *i32 i32", {"BLOCK": 64}),
    descriptors: ("*fp32 *fp32 i32 i32", {"BM": 32, "BN": 64}),
    host_descriptor: ("tensordesc<fp32[32,64]> *fp32", {"BM": 32, "BN": 64}),
    calls: ("*fp32 *fp32 fp32", {"BLOCK": 64}),
    shapes: ("*fp32 *fp32 *bf16", {"BLOCK": 64}),
    elementwise: ("*fp32 *fp32 *i32 *u32 i32 fp32", {"BLOCK": 64}),
    device_functions: ("*fp32 *fp32", {"BLOCK": 64}),
    dots: ("*fp8e4nv *fp8e4nv *u8 *fp32", {}),
    mapped: ("*fp32", {"BLOCK": 64}),
    loops: ("*fp32 i32", {"BLOCK": 64}),
    assembly: ("*fp32", {"BLOCK": 64}),
    more: ("*fp32 *i32 *i64", {"BLOCK": 64}),
    returns: ("*fp32 i32", {}),
}
if hasattr(tl, "atomic_load"):  # since 3.9
    SIGNATURES[atomic_accesses] = ("*fp32 *i32", {"BLOCK": 64})
KERNELS = {kernel.__name__: kernel for kernel in SIGNATURES}


def make_module(name, optimize=True):
    """The MLIR module of a kernel of ``KERNELS``; see ``module_of``."""
    kernel = KERNELS[name]
    return module_of(kernel, *SIGNATURES[kernel], optimize)


def module_of(kernel, types, constants, optimize=True):
    """The MLIR module of a kernel as Triton's front end makes it, or as it looks after the ``ttir`` stage."""
    given = iter(types.split())
    signature = {
        parameter.name: "constexpr" if parameter.name in constants else next(given) for parameter in kernel.params
    }
    pointers = [index for index, kind in enumerate(signature.values()) if kind.startswith("*")]
    source = ASTSource(kernel, signature, constants, {(index,): [["tt.divisibility", 16]] for index in pointers})
    backend = MLUBackend(GPUTarget("mlu", 592, 1))
    options = backend.parse_options({"debug": True, "sanitize_overflow": False})
    context = ir.context()
    ir.load_dialects(context)
    module = source.make_ir(
        backend.target, options, backend.get_codegen_implementation(options), backend.get_module_map(), context
    )
    module.context = context  # keeps it alive
    return run_ttir_passes(module, {}) if optimize else module
