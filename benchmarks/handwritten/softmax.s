; output = the softmax of each row of x. A program for each core takes rows of its own. What bounds it is the vector unit:
; * the first blocks are small, so that it begins early;
; * the rows of a block are computed few at a time, and stored at once, so that little is stored when it is done;
; * these few go in two halves whose instructions alternate: none waits for the one right before it.
; It divides, as the kernel does: a product with the reciprocal would be another value.
; Rows of up to 49,000 elements.
.program  softmax
.isa      592
.cores    1
.param    output ptr f32
.param    x ptr f32
.param    rows i32
.param    columns i32
.buffer   xs nram 0      393088         ; two halves
.buffer   statistics nram 393088 128

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
    ; r8: bytes of a row, r9: most rows of a block, r10: rows of the next one
    shl.i64         r8, r3, 2
    sdiv.i64        r9, 196544, r8
    smin.i64        r10, r9, 4
    ; r11: the row that is loaded, r12: how many, r13: their half; r14, r15, r16: the same of what is computed
    mov.i64         r11, r6
    mov.i64         r13, 0
    mov.i64         r15, 0
again:
    sub.i64         r12, r7, r11
    smin.i64        r12, r12, r10
    shl.i64         r10, r10, 1
    smin.i64        r10, r10, r9
    mul.i64         r17, r11, r8
    add.i64         r17, r17, r1
    mul.i64         r18, r12, r3
    dma.load.f32    [xs + r13], g[r17], r18, 1, 1, 0, 0, 0, 0
    mov.i64         r25, 0              ; whether the next block is here
    sgt.i64         r17, r15, 0
    cbr             r17, compute
    sync            1
    br              turn
compute:
    ; r19: rows that are computed now; r20: of their first half, r21: of the second, r22: where it stands
    smin.i64        r19, r15, 8
    lshr.i64        r21, r19, 1
    sub.i64         r20, r19, r21
    mul.i64         r22, r20, r8
    add.i64         r22, r22, r16
    red.fmax.f32    [statistics], [xs + r16], r20, r3, 1
    red.fmax.f32    [statistics + 16], [xs + r22], r21, r3, 1
    v.fsub.f32      [xs + r16], [xs + r16], row[statistics], r20, r3
    v.fsub.f32      [xs + r22], [xs + r22], row[statistics + 16], r21, r3
    v.exp.f32       [xs + r16], [xs + r16], r20, r3
    v.exp.f32       [xs + r22], [xs + r22], r21, r3
    red.fadd.f32    [statistics + 32], [xs + r16], r20, r3, 1
    red.fadd.f32    [statistics + 48], [xs + r22], r21, r3, 1
    v.fdiv.f32      [xs + r16], [xs + r16], row[statistics + 32], r20, r3
    v.fdiv.f32      [xs + r22], [xs + r22], row[statistics + 48], r21, r3
    sub.i64         r15, r15, r19
    mul.i64         r17, r14, r8
    add.i64         r17, r17, r0
    mul.i64         r18, r19, r3
    add.i64         r14, r14, r19
    mul.i64         r19, r19, r8
    mov.i64         r23, r16
    add.i64         r16, r16, r19
    cbr             r25, arrived
    sync            1                   ; the next block is here; before there are stores, for which it would wait too
    mov.i64         r25, 1
arrived:
    sync            4
    dma.store.f32   g[r17], [xs + r23], r18, 1, 1, 0, 0, 0, 0
    sgt.i64         r24, r15, 0
    cbr             r24, compute
turn:
    mov.i64         r14, r11
    mov.i64         r15, r12
    mov.i64         r16, r13
    add.i64         r11, r11, r12
    sub.i64         r13, 196544, r13
    sgt.i64         r17, r15, 0
    cbr             r17, again
    exit
