"""Inline assembly: what PTX computes element by element, in all its forms, and what is refused."""

import ml_dtypes
import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl

F = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32) * 4
F[0, :7] = [0.0, -0.0, 300.0, -7.5, np.nan, np.inf, -np.nan]
X, Y = F
Z = Y[::-1].copy()
I, J = np.random.default_rng(2).integers(-(2**31), 2**31, (2, 64)).astype(np.int32)  # noqa: E741
U, V, S = I.view(np.uint32), J.view(np.uint32), np.arange(64, dtype=np.int32)
BYTES = np.random.default_rng(3).integers(-128, 128, 64).astype(np.int8)
HALVES, OTHERS = F.astype(np.float16)
LONG, OTHER_LONG = I.astype(np.int64) * J, J.astype(np.int64)


@mlu.jit
def kernel(out, x, y, TEXT: tl.constexpr, PACK: tl.constexpr):
    i = tl.arange(0, 64)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, tl.inline_asm_elementwise(TEXT, "=r,r,r", [a, b], out.dtype.element_ty, is_pure=True, pack=PACK))


def run(text, x, y, result, pack=1):
    out = np.empty(64, result)
    kernel[(1,)](out, x, y, text, pack)
    return out


def as_e2m1(x):
    return np.clip(np.nan_to_num(x, nan=6), -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15


def wide(x):
    return x.astype(np.int64)


def upper(x):
    return (x >> 32).astype(np.int32)


E4M3 = ml_dtypes.float8_e4m3fn
with np.errstate(all="ignore"):
    # Text, operands, result, how many elements a block has.
    # fmt: off
    FORMS = [
        ("mov.f32 $0, $1;", X, Y, X, 1),
        ("add.rn.ftz.f32 $0, $1, $2;", X, Y, X + Y, 1),
        ("sub.f32 $0, $1, 0f3F800000;", X, Y, X - np.float32(1), 1),
        ("min.f32 $0, $1, $2;", X, Y, np.fmin(X, Y), 1),
        ("max.NaN.f32 $0, $1, $2;", X, Y, np.maximum(X, Y), 1),
        ("add.sat.f32 $0, $1, 0.5;", X, Y, np.fmin(np.fmax(X + np.float32(0.5), 0), 1), 1),
        ("{ .reg .f32 t; neg.f32 t, $1; abs.f32 $0, t; }", X, Y, np.abs(X), 1),
        ("rcp.approx.ftz.f32 $0, $1;", X, Y, 1 / X, 1),
        ("div.full.f32 $0, $1, $2;", X, Y, X / Y, 1),
        ("mul.f32 $0, $1, $2; add.f32 $0, $0, 1.0;", X, Y, X * Y + np.float32(1), 1),
        ("sqrt.approx.f32 $0, $1;", Y * Y, Y, np.sqrt(Y * Y), 1),
        ("{ .reg .pred p;\n setp.lt.f32 p, $1, $2; // the lesser\n selp.f32 $0, $1, $2, p; }", X, Y,
         np.where(X < Y, X, Y), 1),
        ("setp.geu.f32 %p, $1, 0.0; mov.f32 $0, $2; @!%p neg.f32 $0, $2;", X, Y, np.where(X < 0, -Y, Y), 1),
        ("setp.ls.u32 p, $1, $2; selp.u32 $0, 1, 0, p;", U, V, (U <= V).astype(np.int32), 1),
        ("mul.lo.s32 $0, $1, $2;", I, J, I * J, 1),
        ("mul.hi.s32 $0, $1, $2;", I, J, upper(wide(I) * J), 1),
        ("mad.hi.u32 $0, $1, $2, 7;", I, J, ((U.astype(np.uint64) * V) >> 32).astype(np.uint32).view(np.int32) + 7, 1),
        ("mul.wide.s32 $0, $1, $2;", I, J, wide(I) * J, 1),
        ("mad.lo.s64 $0, $1, $2, -3;", LONG, OTHER_LONG, LONG * OTHER_LONG - 3, 1),
        ("rem.s32 $0, $1, $2; not.b32 $0, $0;", I, J, ~np.fmod(I, J), 1),
        ("neg.s32 $0, $1; shr.s32 $0, $0, $2;", I, S, np.where(S > 31, np.sign(-I) >> 1, -I >> np.minimum(S, 31)), 1),
        ("shl.b32 $0, $1, $2;", I, S, np.where(S > 31, 0, I << np.minimum(S, 31)), 1),
        ("lop3.b32 $0, $1, $2, 0xF0, 0xD8;", I, J, (J & 0xF0) | (I & ~0xF0), 1),
        ("prmt.b32 $0, $1, $2, 0x5410;", I, J, ((V & 0xFFFF) << 16 | U & 0xFFFF).view(np.int32), 1),
        ("shf.l.wrap.b32 $0, $1, $2, 8;", I, J, (V << 8 | U >> 24).view(np.int32), 1),
        ("popc.b64 $0, $1;", LONG, LONG, np.bitwise_count(LONG.view(np.uint64)).astype(np.int32), 1),
        ("{ .reg .b16 lo, hi; mov.b32 {lo, hi}, $1; mov.b32 $0, {hi, lo}; }", I, J, (U << 16 | U >> 16).view(np.int32),
         1),
        ("cvt.rni.s32.f32 $0, $1;", Y, X, np.rint(Y).astype(np.int32), 1),
        ("cvt.rni.s8.f32 $0, $1;", Y, X, np.rint(Y).astype(np.int32), 1),
        ("cvt.s16.s32 $0, $1;", I, J, I.astype(np.int16).astype(np.int32), 1),
        ("cvt.rn.f32.u32 $0, $1;", I, J, U.astype(np.float32), 1),
        ("cvt.rz.bf16.f32 $0, $1;", Y, Y, (Y.view(np.uint32) >> 16).astype(np.int16), 1),
        ("cvt.s32.s8 $0, $1;", BYTES, BYTES, BYTES.astype(np.int32), 1),
        ("cvt.rn.bf16x2.f32 $0, $1, $2;", Y, Z,
         Z.astype(ml_dtypes.bfloat16).view(np.uint16) | Y.astype(ml_dtypes.bfloat16).view(np.uint16).astype(np.int32) << 16, 1),  # noqa: E501
        ("{ .reg .b16 v; cvt.rn.satfinite.e4m3x2.f32 v, $2, $1; cvt.u32.u16 $0, v; }", Y, Z,
         Y.astype(E4M3).view(np.uint8) | Z.astype(E4M3).view(np.uint8).astype(np.int32) << 8, 1),
        ("{ .reg .b8 v; cvt.rn.satfinite.e2m1x2.f32 v, $2, $1; cvt.u32.u8 $0, v; }", X, Y,
         as_e2m1(X) | as_e2m1(Y).astype(np.int32) << 4, 1),
        ("{ .reg .b8 v; cvt.u8.u32 v, $1; cvt.rn.f16x2.e2m1x2 $0, v; }", I, J,
         np.stack([U & 15, U >> 4 & 15], 1).astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float16)
         .view(np.int32).ravel(), 1),
        # Several elements in a register, and several registers.
        ("and.b32 $0, $1, 0x1F1F1F1F; shl.b32 $0, $0, 3;", BYTES, BYTES, BYTES << 3, 4),
        ("fma.rn.f16x2 $0, $1, $2, $1;", HALVES, OTHERS, (HALVES.astype(np.float32) * OTHERS + HALVES).astype(np.float16), 2),  # noqa: E501
        ("fma.rn.relu.f16x2 $0, $1, $2, $1;", HALVES, OTHERS,
         np.maximum(HALVES.astype(np.float32) * OTHERS + HALVES, 0).astype(np.float16), 2),
        ("tanh.approx.f16x2 $0, $1;", OTHERS, HALVES, np.tanh(OTHERS.astype(np.float32)).astype(np.float16), 2),
        ("mov.b32 {a, b}, $1; mul.f16 a, a, a; mul.f16 b, b, b; mov.b32 $0, {a, b};", OTHERS, X, OTHERS * OTHERS, 2),
        ("mov.b32 $0, 1.5;", X, Y, np.full(64, 1.5, np.float32), 1),
        ("add.f32 $0, $2, $4; add.f32 $1, $3, $5;", X, Y, X + Y, 2),
        ("mov.b32 {q, _1, _2, _3}, $4; cvt.u32.u8 $0, q; mov.u32 $1, $0; mov.u32 $2, 0; mov.u32 $3, 0;", BYTES, BYTES,
         BYTES.view(np.uint8).astype(np.int32), 4),
        ("bar.sync 0; mov.u32 $0, 0xFFFFFFFF; fence.sc.sys;", I, J, np.full(64, -1, np.int32), 1),
    ]
    # fmt: on


@pytest.mark.parametrize(("text", "x", "y", "want", "pack"), FORMS, ids=[form[0] for form in FORMS])
def test_instructions(text, x, y, want, pack):
    np.testing.assert_array_equal(run(text, x, y, want.dtype, pack), want)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ld.global.f32 $0, [$1];", r"tl.load\(p\)"),
        ("again: bra again;", "again"),
        ("mov.u32 $0, %tid.x;", "%tid.x, which nothing has written"),
        ("add.rp.f32 $0, $1, $2;", "add.rp.f32"),
        ("sin.approx.s32 $0, $1;", "sin.approx.s32"),
        ("cvt.rp.satfinite.ue8m0x2.f32 $0, 0.0, $1;", "ue8m0x2"),
        ("setp.lt.and.f32 p, $1, $2, q;", "q, which"),
        ("sub.f32 $0, $1;", "sub.f32"),
        ("lop3.b32 $0, $1, $2, $1, $2;", "lop3"),
        ("mov.b32 $0, 010;", "010, which"),
    ],
)
def test_the_rest_is_refused_by_its_name(text, why):
    with pytest.raises(mlu.CompileError, match=r"E0201(.|\n)*" + why):
        run(text, X, Y, np.float32)


@mlu.jit
def scalars(out, x):
    a, b = tl.inline_asm_elementwise(
        "add.s32 $0, $2, 1; sub.s32 $1, $2, 1;", "=r,=r,r", [tl.load(x)], (tl.int32, tl.int32), is_pure=True, pack=1
    )
    tl.store(out, a)
    tl.store(out + 1, b)
    tl.store(out + 2, tl.inline_asm_elementwise("mov.u32 $0, 7;", "=r", [], tl.int32, is_pure=False, pack=1))


def test_scalars_and_several_results():
    out = np.zeros(3, np.int32)
    scalars[(1,)](out, np.array([5], np.int32))
    assert out.tolist() == [6, 4, 7]
