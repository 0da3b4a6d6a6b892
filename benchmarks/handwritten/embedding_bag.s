; output[b] = the sum of the rows of weight that identifiers[b] names. A program for each core sums bags of its own. All their
; identifiers are loaded at once, the rows of two bags are gathered while those of the two before are summed, and the sums are
; stored in the end. Up to 64 KB a bag, 64 KB of sums and 32 KB of identifiers a core.
.program  embedding_bag
.isa      592
.cores    1
.param    output ptr f32
.param    weight ptr f32
.param    identifiers ptr i32
.param    bags i32
.param    count i32
.param    width i32
.buffer   rows nram 0      262144       ; two halves
.buffer   sums nram 262144 98304
.buffer   names nram 360448 32768

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    param           r5, 5
    sreg            r6, 0
    sreg            r7, 3
    ; r8: the first bag of the share, r9: the end of it; shares differ by one bag
    mul.i64         r8, r6, r3
    sdiv.i64        r8, r8, r7
    add.i64         r9, r6, 1
    mul.i64         r9, r9, r3
    sdiv.i64        r9, r9, r7
    ; r10: bytes of the names of a bag, r11: of a sum
    shl.i64         r10, r4, 2
    shl.i64         r11, r5, 2
    mul.i64         r12, r8, r10
    add.i64         r12, r12, r2
    sub.i64         r13, r9, r8
    mul.i64         r14, r13, r4
    dma.load.i32    [names], g[r12], r14, 1, 1, 0, 0, 0, 0
    sync            1
    v.mul.i32       [names], [names], r5, 1, r14
    sync            4
    ; r15: the first of two bags whose rows are gathered, r16: their half, r17: where their names stand, r22: names of both;
    ; r18: rows of those that are summed, r19: their half, r20: where their sums go
    mov.i64         r15, r8
    mov.i64         r16, 0
    mov.i64         r17, 0
    mov.i64         r18, 0
    mov.i64         r19, 0
    mov.i64         r20, 0
    mul.i64         r25, r4, r11
again:
    ; two gathers: the second is prepared while the rows of the first arrive
    sub.i64         r22, r9, r15
    smin.i64        r22, r22, 2
    smax.i64        r22, r22, 0
    mul.i64         r22, r22, r4
    smin.i64        r23, r22, r4
    sub.i64         r24, r22, r23
    add.i64         r26, r16, r25
    add.i64         r27, r17, r10
    gather.f32.i32  [rows + r16], g[r1], [names + r17], 4, 1, 0.0, r23, r5, r5
    gather.f32.i32  [rows + r26], g[r1], [names + r27], 4, 1, 0.0, r24, r5, r5
    sdiv.i64        r23, r18, r4
    red.fadd.f32    [sums + r20], [rows + r19], r23, r4, r5
    mul.i64         r23, r23, r11
    add.i64         r20, r20, r23
    sync            5
    mov.i64         r18, r22
    mov.i64         r19, r16
    sub.i64         r16, 131072, r16
    add.i64         r17, r27, r10
    add.i64         r15, r15, 2
    sgt.i64         r23, r18, 0
    cbr             r23, again
    mul.i64         r12, r8, r11
    add.i64         r12, r12, r0
    mul.i64         r14, r13, r5
    dma.store.f32   g[r12], [sums], r14, 1, 1, 0, 0, 0, 0
    exit
