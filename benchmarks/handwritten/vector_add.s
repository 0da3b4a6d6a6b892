; output = x + y. A program for each core walks through a share of its own, as even as lines of the L2 permit. What bounds
; it is the IO queue, which is empty once a block, when a sync has waited for it: so blocks are as large as NRAM permits.
.program  vector_add
.isa      592
.cores    1
.param    x ptr f32
.param    y ptr f32
.param    output ptr f32
.param    n i32
.buffer   xs nram 0      196608         ; two halves of 24,576 elements: one is computed, one is on its way
.buffer   ys nram 196608 196608

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    sreg            r4, 0
    sreg            r5, 3
    ; r6: elements of a share, r7: of a block
    add.i64         r6, r3, r5
    sub.i64         r6, r6, 1
    sdiv.i64        r6, r6, r5
    add.i64         r7, r6, 24575
    sdiv.i64        r7, r7, 24576
    add.i64         r8, r6, r7
    sub.i64         r8, r8, 1
    sdiv.i64        r8, r8, r7
    add.i64         r8, r8, 31
    and.i64         r8, r8, -32
    smin.i64        r8, r8, 24576
    mul.i64         r6, r8, r7
    mov.i64         r7, r8
    ; r9: bytes to where the share begins, r10: to where it ends; r11: bytes of a block
    mul.i64         r9, r4, r6
    add.i64         r10, r9, r6
    smin.i64        r9, r9, r3
    smin.i64        r10, r10, r3
    shl.i64         r9, r9, 2
    shl.i64         r10, r10, 2
    shl.i64         r11, r7, 2
    ; r21: bytes of the first block, which is of another size on every core: else all cores would wait at the same time
    add.i64         r21, r4, 1
    mul.i64         r21, r21, r11
    sdiv.i64        r21, r21, r5
    and.i64         r21, r21, -128
    smax.i64        r21, r21, 128
    ; r12: where the block begins that is loaded, r13: its half, r14: its elements
    mov.i64         r12, r9
    mov.i64         r13, 0
    mov.i64         r14, 0
    br              load
again:
    ; r15, r16, r17: the same of the block that is computed
    mov.i64         r15, r12
    mov.i64         r16, r13
    mov.i64         r17, r14
    add.i64         r12, r12, r21
    sub.i64         r13, 98304, r13
    mov.i64         r21, r11
load:
    sub.i64         r14, r10, r12
    smin.i64        r14, r14, r21
    smax.i64        r14, r14, 0
    lshr.i64        r14, r14, 2
    add.i64         r18, r0, r12
    add.i64         r19, r1, r12
    dma.load.f32    [xs + r13], g[r18], r14, 1, 1, 0, 0, 0, 0
    dma.load.f32    [ys + r13], g[r19], r14, 1, 1, 0, 0, 0, 0
    eq.i64          r20, r12, r9
    cbr             r20, first
    v.fadd.f32      [xs + r16], [xs + r16], [ys + r16], 1, r17
    sync            5
    add.i64         r18, r2, r15
    dma.store.f32   g[r18], [xs + r16], r17, 1, 1, 0, 0, 0, 0
    slt.i64         r20, r12, r10
    cbr             r20, again
    exit
first:
    sync            1
    br              again
