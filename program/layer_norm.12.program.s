.program  layer_norm
.isa      592
.cores    1
.param    x ptr f32
.param    output ptr f32
.param    weight ptr f32
.param    bias ptr f32
.param    mean ptr f32
.param    rstd ptr f32
.param    rows i32
.param    columns i32
.param    stride i32
.param    eps f32
.buffer   column0   nram       0   32768 "/tmp/wt/rows/examples/layer_norm.py":20:14
.buffer   mask1     nram   32768    8192 "/tmp/wt/rows/examples/layer_norm.py":21:12
.buffer   scale2    nram   40960   32768 "/tmp/wt/rows/examples/layer_norm.py":22:13
.buffer   shift3    nram   73728   32768 "/tmp/wt/rows/examples/layer_norm.py":23:13
.buffer   values4   nram  106496   65536 "/tmp/wt/rows/examples/layer_norm.py":25:18
.buffer   t16       nram  172032   65536 "/tmp/wt/rows/examples/layer_norm.py":31:50
.buffer   average6  nram  237568       8 "/tmp/wt/rows/examples/layer_norm.py":26:19
.buffer   inverse14 nram  237632       8 "/tmp/wt/rows/examples/layer_norm.py":28:19
.buffer   average5  nram  237696       4 "/tmp/wt/rows/examples/layer_norm.py":26:19
.buffer   centred8  nram  237760   32768 "/tmp/wt/rows/examples/layer_norm.py":27:19
.buffer   inverse9  nram  270528   32768 "/tmp/wt/rows/examples/layer_norm.py":28:38
.buffer   inverse10 nram  303296       4 "/tmp/wt/rows/examples/layer_norm.py":28:31
.buffer   inverse11 nram  303360       4 "/tmp/wt/rows/examples/layer_norm.py":28:31
.buffer   inverse12 nram  303424       4 "/tmp/wt/rows/examples/layer_norm.py":28:31
.buffer   inverse13 nram  303488       4 "/tmp/wt/rows/examples/layer_norm.py":28:23

.loc "/tmp/wt/rows/examples/layer_norm.py" 19 1
    param                r0, 0
    param                r1, 1
    param                r2, 2
    param                r3, 3
    param                r4, 4
    param                r5, 5
    param                r6, 6
    param                r7, 7
    param                r8, 8
    param                r9, 9
.loc "/tmp/wt/rows/examples/layer_norm.py" 20 14
    v.iota.i32           [column0], 0, 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 21 12
    v.slt.i32            [mask1], [column0], r7, 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 22 13
    sext.i32.i64         r10, r7
    smin.i64             r11, r10, 8192
    smax.i64             r13, r11, 0
    dma.load_pad.f32     [scale2], g[r2], 8192, 1, 1, 0, 0, 0, r13, 1, 1, 0, 0, 0.0
.loc "/tmp/wt/rows/examples/layer_norm.py" 23 13
    dma.load_pad.f32     [shift3], g[r3], 8192, 1, 1, 0, 0, 0, r13, 1, 1, 0, 0, 0.0
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 25
    sreg                 r16, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 49
    sreg                 r17, 3
.loc "/tmp/wt/rows/examples/layer_norm.py" 26 19
    sitofp.i32.f32       r18, r7
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    sreg                 r58, 8
    cbr                  r58, then_0
    mov.i64              r19, r16
    sge.i32              r59, r19, r6
    cbr                  r59, end_3
loop_2:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 30
    mul.i32              r20, r19, r8
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 26
    sext.i32.i64         r21, r20
    mul.i64              r22, r21, 4
    add.i64              r23, r0, r22
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 18
    dma.load_pad.f32     [values4], g[r23], 8192, 1, 1, 0, 0, 0, r13, 1, 1, 0, 0, 0.0
.loc "/tmp/wt/rows/examples/layer_norm.py" 26 19
    sync                 1
    red.fadd.f32         [average5], [values4], 1, 8192, 1
    v.fdiv.f32           [average6], [average5], r18, 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 27 34
    v.fsub.f32           ~, [values4], row[average6], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 27 19
    v.select.f32         [centred8], [mask1], ~, 0.0, 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 38
    v.fmul.f32           [inverse9], [centred8], [centred8], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 31
    red.fadd.f32         [inverse10], [inverse9], 1, 8192, 1
    v.fdiv.f32           [inverse11], [inverse10], r18, 1, 1
    v.fadd.f32           [inverse12], [inverse11], r9, 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 23
    v.sqrt.f32           [inverse13], [inverse12], 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 19
    v.fdiv.f32           [inverse14], 1.0, [inverse13], 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 29 18
    sext.i32.i64         r26, r19
    mul.i64              r27, r26, 4
    add.i64              r28, r4, r27
.loc "/tmp/wt/rows/examples/layer_norm.py" 29 9
    sync                 4
    dma.store.f32        g[r28], [average6], 1, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 30 18
    add.i64              r31, r5, r27
.loc "/tmp/wt/rows/examples/layer_norm.py" 30 9
    dma.store.f32        g[r31], [inverse14], 1, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 18
    add.i64              r34, r1, r22
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 50
    v.fmul.f32           ~, [centred8], row[inverse14], 1, 8192
    v.fma.f32            [t16], ~, [scale2], [shift3], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 9
    sync                 4
    dma.store.f32        g[r34], [t16], r13, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    add.i32              r19, r19, r17
    slt.i32              r59, r19, r6
    cbr                  r59, loop_2
end_3:
    br                   endif_1
then_0:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 30
    mul.i32              r45, r16, r8
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 26
    sext.i32.i64         r46, r45
    mul.i64              r47, r46, 4
    add.i64              r48, r0, r47
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    slt.i32              r49, r16, r6
    cbr                  r49, then_4
    br                   endif_5
then_4:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 18
    dma.load_pad.f32     [values4], g[r48], 8192, 1, 1, 0, 0, 0, r13, 1, 1, 0, 0, 0.0
endif_5:
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    add.i32              r50, r16, r17
    sync                 7
    mov.i64              r19, r16
    mov.i64              r37, 0
    mov.i64              r38, 4
    mov.i64              r39, 0
    mov.i64              r40, 32768
    mov.i64              r41, 0
    mov.i64              r42, 0
    mov.i64              r43, 0
    mov.i64              r44, 0
    mov.i64              r51, r50
    sge.i32              r60, r19, r6
    cbr                  r60, end_7
loop_6:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 30
    mul.i32              r52, r51, r8
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 26
    sext.i32.i64         r53, r52
    mul.i64              r54, r53, 4
    add.i64              r55, r0, r54
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    slt.i32              r56, r51, r6
    cbr                  r56, then_8
    br                   endif_9
then_8:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 18
    dma.load_pad.f32     [values4 + r40], g[r55], 8192, 1, 1, 0, 0, 0, r13, 1, 1, 0, 0, 0.0
endif_9:
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    add.i32              r57, r51, r17
    cbr                  r41, then_10
    br                   endif_11
then_10:
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 9
    dma.store.f32        g[r44], [t16 + r40], r13, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 29 9
    dma.store.f32        g[r42], [average6 + r38], 1, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 30 9
    dma.store.f32        g[r43], [inverse14 + r38], 1, 1, 1, 0, 0, 0, 0
endif_11:
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 30
    mul.i32              r20, r19, r8
.loc "/tmp/wt/rows/examples/layer_norm.py" 25 26
    sext.i32.i64         r21, r20
    mul.i64              r22, r21, 4
    add.i64              r23, r0, r22
.loc "/tmp/wt/rows/examples/layer_norm.py" 26 19
    red.fadd.f32         [average5], [values4 + r39], 1, 8192, 1
    v.fdiv.f32           [average6 + r37], [average5], r18, 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 27 34
    v.fsub.f32           ~, [values4 + r39], row[average6 + r37], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 27 19
    v.select.f32         [centred8], [mask1], ~, 0.0, 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 38
    v.fmul.f32           [inverse9], [centred8], [centred8], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 31
    red.fadd.f32         [inverse10], [inverse9], 1, 8192, 1
    v.fdiv.f32           [inverse11], [inverse10], r18, 1, 1
    v.fadd.f32           [inverse12], [inverse11], r9, 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 23
    v.sqrt.f32           [inverse13], [inverse12], 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 28 19
    v.fdiv.f32           [inverse14 + r37], 1.0, [inverse13], 1, 1
.loc "/tmp/wt/rows/examples/layer_norm.py" 29 18
    sext.i32.i64         r26, r19
    mul.i64              r27, r26, 4
    add.i64              r28, r4, r27
.loc "/tmp/wt/rows/examples/layer_norm.py" 30 18
    add.i64              r31, r5, r27
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 18
    add.i64              r34, r1, r22
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 50
    v.fmul.f32           ~, [centred8], row[inverse14 + r37], 1, 8192
    v.fma.f32            [t16 + r39], ~, [scale2], [shift3], 1, 8192
.loc "/tmp/wt/rows/examples/layer_norm.py" 24 5
    sync                 7
    mov.i64              r61, r38
    mov.i64              r62, r37
    mov.i64              r63, r40
    mov.i64              r64, r39
    mov.i64              r37, r61
    mov.i64              r38, r62
    mov.i64              r39, r63
    mov.i64              r40, r64
    mov.i64              r41, 1
    mov.i64              r42, r28
    mov.i64              r43, r31
    mov.i64              r44, r34
    mov.i64              r51, r57
    add.i32              r19, r19, r17
    slt.i32              r60, r19, r6
    cbr                  r60, loop_6
end_7:
    cbr                  r41, then_12
    br                   endif_13
then_12:
.loc "/tmp/wt/rows/examples/layer_norm.py" 31 9
    dma.store.f32        g[r44], [t16 + r40], r13, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 29 9
    dma.store.f32        g[r42], [average6 + r38], 1, 1, 1, 0, 0, 0, 0
.loc "/tmp/wt/rows/examples/layer_norm.py" 30 9
    dma.store.f32        g[r43], [inverse14 + r38], 1, 1, 1, 0, 0, 0, 0
endif_1:
endif_13:
.loc "/tmp/wt/rows/examples/layer_norm.py" 19 1
    exit
