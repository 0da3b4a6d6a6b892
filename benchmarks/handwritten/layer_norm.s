; output = x - mean, over the standard deviation, times weight, plus bias, row by row; mean and 1/deviation are stored too.
; A program for each core takes rows of its own. What bounds it is DRAM: while a block is computed, the next is loaded.
; Rows of up to 8,192 elements.
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
.param    eps f32
.buffer   xs nram 0      262144         ; two halves of 4 rows
.buffer   weights nram 262144 32768
.buffer   biases nram 294912 32768
.buffer   squares nram 327680 32768
.buffer   means nram 360448 16384       ; of all rows of the core
.buffer   inverses nram 376832 16384

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 6
    param           r5, 7
    param           r6, 8
    sreg            r7, 0
    sreg            r8, 3
    ; r9: the first row of the share, r10: the end of it; shares differ by one row
    mul.i64         r9, r7, r4
    sdiv.i64        r9, r9, r8
    add.i64         r10, r7, 1
    mul.i64         r10, r10, r4
    sdiv.i64        r10, r10, r8
    ; r11: bytes of a row, r12: 1 / columns, r13: most rows of a block, r14: rows of the next one
    shl.i64         r11, r5, 2
    sitofp.i32.f32  r12, r5
    fdiv.f32        r12, 1.0, r12
    sdiv.i64        r13, 131072, r11
    mov.i64         r14, 1
    dma.load.f32    [weights], g[r2], r5, 1, 1, 0, 0, 0, 0
    dma.load.f32    [biases], g[r3], r5, 1, 1, 0, 0, 0, 0
    ; r15: the row that is loaded, r16: how many, r17: their half; r18, r19, r20: the same of what is computed
    mov.i64         r15, r9
    mov.i64         r17, 0
    mov.i64         r19, 0
again:
    sub.i64         r16, r10, r15
    smin.i64        r16, r16, r14
    shl.i64         r14, r14, 1
    smin.i64        r14, r14, r13
    mul.i64         r21, r15, r11
    add.i64         r21, r21, r0
    mul.i64         r22, r16, r5
    dma.load.f32    [xs + r17], g[r21], r22, 1, 1, 0, 0, 0, 0
    sub.i64         r23, r18, r9        ; where the statistics of the block stand
    shl.i64         r23, r23, 2
    mov.i64         r24, r20
    mov.i64         r26, r19
    sgt.i64         r27, r26, 0
    cbr             r27, row
    sync            1
    br              turn
row:
    red.fadd.f32    [means + r23], [xs + r24], 1, r5, 1
    v.fmul.f32      [means + r23], [means + r23], r12, 1, 1
    v.fsub.f32      [xs + r24], [xs + r24], row[means + r23], 1, r5
    v.fmul.f32      [squares], [xs + r24], [xs + r24], 1, r5
    red.fadd.f32    [inverses + r23], [squares], 1, r5, 1
    v.fma.f32       [inverses + r23], [inverses + r23], r12, r6, 1, 1
    v.sqrt.f32      [inverses + r23], [inverses + r23], 1, 1
    v.fdiv.f32      [inverses + r23], 1.0, [inverses + r23], 1, 1
    v.fmul.f32      ~, [xs + r24], row[inverses + r23], 1, r5
    v.fma.f32       [xs + r24], ~, [weights], [biases], 1, r5
    add.i64         r23, r23, 4
    add.i64         r24, r24, r11
    sub.i64         r26, r26, 1
    sgt.i64         r27, r26, 0
    cbr             r27, row
    sync            5
    mul.i64         r21, r18, r11
    add.i64         r21, r21, r1
    mul.i64         r22, r19, r5
    dma.store.f32   g[r21], [xs + r20], r22, 1, 1, 0, 0, 0, 0
turn:
    mov.i64         r18, r15
    mov.i64         r19, r16
    mov.i64         r20, r17
    add.i64         r15, r15, r16
    sub.i64         r17, 131072, r17
    sgt.i64         r27, r19, 0
    cbr             r27, again
    param           r0, 4
    param           r1, 5
    shl.i64         r21, r9, 2
    add.i64         r0, r0, r21
    add.i64         r1, r1, r21
    sub.i64         r22, r10, r9
    dma.store.f32   g[r0], [means], r22, 1, 1, 0, 0, 0, 0
    dma.store.f32   g[r1], [inverses], r22, 1, 1, 0, 0, 0, 0
    exit
