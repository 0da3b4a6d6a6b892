; output[r, c] = x[r, 0] + ... + x[r, c]. A program for each core takes rows of its own, several at a time. A row is cut in
; chunks of 64 elements, so that a scan takes 6 steps instead of 12; the sums of the chunks before are added then.
; Rows of up to 8,192 elements, a multiple of 64 of them.
.program  cumsum
.isa      592
.cores    1
.param    output ptr f32
.param    x ptr f32
.param    rows i32
.param    columns i32
.buffer   xs nram 0      131072         ; two halves
.buffer   sums nram 131072 131072       ; likewise
.buffer   totals nram 262144 4096       ; of the chunks of a block
.buffer   before nram 266240 4096

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    sreg            r4, 0
    sreg            r5, 3
    mul.i64         r6, r4, r2
    sdiv.i64        r6, r6, r5
    add.i64         r7, r4, 1
    mul.i64         r7, r7, r2
    sdiv.i64        r7, r7, r5
    ; r8: bytes of a row, r9: most rows of a block, r10: rows of the next one, r24: chunks of a row
    shl.i64         r8, r3, 2
    sdiv.i64        r9, 65536, r8
    mov.i64         r10, 1
    lshr.i64        r24, r3, 6
    mov.i64         r11, r6
    mov.i64         r13, 0
    mov.i64         r15, 0
again:
    sub.i64         r12, r7, r11
    smin.i64        r12, r12, r10
    mov.i64         r10, r9
    mul.i64         r17, r11, r8
    add.i64         r17, r17, r1
    mul.i64         r18, r12, r3
    dma.load.f32    [xs + r13], g[r17], r18, 1, 1, 0, 0, 0, 0
    mul.i64         r19, r15, r24       ; chunks of the block
    red.fadd.f32    [totals], [xs + r16], r19, 64, 1
    scan.fadd.f32   [sums + r16], [xs + r16], r19, 64, 1, 0
    scan.fadd.f32   [before], [totals], r15, r24, 1, 0
    v.fsub.f32      [before], [before], [totals], 1, r19
    v.fadd.f32      [sums + r16], [sums + r16], row[before], r19, 64
    sync            5
    mul.i64         r17, r14, r8
    add.i64         r17, r17, r0
    mul.i64         r18, r15, r3
    dma.store.f32   g[r17], [sums + r16], r18, 1, 1, 0, 0, 0, 0
    mov.i64         r14, r11
    mov.i64         r15, r12
    mov.i64         r16, r13
    add.i64         r11, r11, r12
    sub.i64         r13, 65536, r13
    sgt.i64         r17, r15, 0
    cbr             r17, again
    exit
