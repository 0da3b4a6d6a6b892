; output = the sum of each row of x. A program for each core sums rows of its own, several at a time: what bounds it is the
; IO queue, which is empty once a block, when a sync has waited for it. The sums stay on chip to the end.
; Rows of up to 49,152 elements; up to 4,096 rows a core.
.program  row_sum
.isa      592
.cores    1
.param    output ptr f32
.param    x ptr f32
.param    rows i32
.param    columns i32
.buffer   xs nram 0      376832         ; two halves
.buffer   sums nram 376832 16384

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    sreg            r4, 0
    sreg            r5, 3
    ; r6: the first row of the share, r7: the end of it; shares differ by one row
    mul.i64         r6, r4, r2
    sdiv.i64        r6, r6, r5
    add.i64         r7, r4, 1
    mul.i64         r7, r7, r2
    sdiv.i64        r7, r7, r5
    ; r8: bytes of a row, r9: rows of a block, r10: rows of the first one, other on every core: else all would wait at once
    shl.i64         r8, r3, 2
    sdiv.i64        r9, 188416, r8
    add.i64         r10, r4, 1
    mul.i64         r10, r10, r9
    sdiv.i64        r10, r10, r5
    smax.i64        r10, r10, 1
    ; r11: the row that is loaded, r12: how many, r13: their half; r14, r15, r16: the same of what is computed
    mov.i64         r11, r6
    mov.i64         r13, 0
    mov.i64         r15, 0
again:
    sub.i64         r12, r7, r11
    smin.i64        r12, r12, r10
    smax.i64        r12, r12, 0
    mov.i64         r10, r9
    mul.i64         r17, r11, r8
    add.i64         r17, r17, r1
    mul.i64         r18, r12, r3
    dma.load.f32    [xs + r13], g[r17], r18, 1, 1, 0, 0, 0, 0
    sub.i64         r17, r14, r6
    shl.i64         r17, r17, 2
    red.fadd.f32    [sums + r17], [xs + r16], r15, r3, 1
    sync            5
    mov.i64         r14, r11
    mov.i64         r15, r12
    mov.i64         r16, r13
    add.i64         r11, r11, r12
    sub.i64         r13, 188416, r13
    sgt.i64         r17, r15, 0
    cbr             r17, again
    shl.i64         r17, r6, 2
    add.i64         r17, r17, r0
    sub.i64         r18, r7, r6
    dma.store.f32   g[r17], [sums], r18, 1, 1, 0, 0, 0, 0
    exit
