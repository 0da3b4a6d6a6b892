; c = a @ b of int8 in int32, in steps as gemm_f16.s has them. Results are as large as the sums, and take no place of their
; own, so that steps can be deep: the last step of a tile is done a quarter of its rows at a time, and while one quarter is
; stored the next one is multiplied.
; The sums and twice a part of a have to fit NRAM; depths are multiples of 4.
.program  gemm_i8
.isa      592
.cores    4
.param    a ptr i8
.param    b ptr i8
.param    c ptr i32
.param    M i32
.param    N i32
.param    K i32
.param    rows i32
.param    columns i32
.param    depth i32
.buffer   memory nram 0 393216          ; sums, two halves of a
.buffer   weights wram 0 524288         ; two halves of b
.buffer   shared sram 0 1966080         ; likewise

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    param           r5, 5
    param           r6, 6
    param           r7, 7
    param           r8, 8
    sreg            r9, 6               ; the number of this core
    sreg            r10, 0              ; the tile that x is of
    sreg            r11, 3              ; tiles from one of the cluster to the next
    ; r12: tiles below each other, r13: all of them
    shl.i64         r12, r6, 2
    add.i64         r13, r12, r3
    sub.i64         r13, r13, 1
    sdiv.i64        r12, r13, r12
    add.i64         r13, r4, r7
    sub.i64         r13, r13, 1
    sdiv.i64        r13, r13, r7
    mul.i64         r13, r13, r12
    ; r14: rows that are stored at once
    add.i64         r14, r6, 3
    lshr.i64        r14, r14, 2
    ; r15: where x begins in the depth; r16: how deep it is at most, a quarter in the beginning
    mov.i64         r15, 0
    lshr.i64        r16, r8, 4
    shl.i64         r16, r16, 2
    ; r50, r51: a of z and of y in NRAM
    mul.i64         r50, r6, r7
    shl.i64         r50, r50, 2
    mul.i64         r51, r6, r8
    add.i64         r51, r51, r50
    ; r52, r53: b of z and y in WRAM; r54, r55: b of y and x in SRAM
    mov.i64         r52, 0
    add.i64         r53, r7, 63
    lshr.i64        r53, r53, 6
    shl.i64         r53, r53, 6
    mul.i64         r53, r53, r8
    mov.i64         r54, 0
    mul.i64         r55, r7, r8
    ; r20 to r27: depth, rows, columns of x, its places in a, b and c; whether it goes on with a tile, whether it ends it
    ; r30 to r37: of y; r40 to r47: of z
    mov.i64         r30, 0
    mov.i64         r31, 0
    mov.i64         r40, 0
    mov.i64         r41, 0
    mov.i64         r46, 0
    mov.i64         r47, 0
again:
    xor.i64         r70, r47, 1
    mul.i64         r70, r70, r41       ; rows, unless the tile ends
    mm.i8.i32       [memory], [memory + r50], [weights + r52], r70, r42, r40, r40, r46
    move.weight.i8  [weights + r53], [shared + r54], r30, r32, r32, 1
    lshr.i64        r70, r31, 1
    sub.i64         r71, r31, r70
    dma.load.i8     [memory + r51], g[r33], r30, r70, 1, r30, 0, r5, 0
    mul.i64         r72, r70, r30
    add.i64         r72, r72, r51
    mul.i64         r73, r70, r5
    add.i64         r73, r73, r33
    ; x: nothing behind the last tile
    slt.i64         r74, r10, r13
    sub.i64         r20, r5, r15
    smin.i64        r20, r20, r16
    mul.i64         r20, r20, r74
    shl.i64         r16, r16, 1
    smin.i64        r16, r16, r8
    sdiv.i64        r75, r10, r12       ; its tile: so many to the right,
    mul.i64         r76, r75, r12
    sub.i64         r76, r10, r76       ; so many down
    shl.i64         r76, r76, 2
    add.i64         r76, r76, r9
    mul.i64         r76, r76, r6
    sub.i64         r21, r3, r76
    smin.i64        r21, r21, r6
    smax.i64        r21, r21, 0
    mul.i64         r75, r75, r7
    sub.i64         r22, r4, r75
    smin.i64        r22, r22, r7
    mul.i64         r23, r76, r5
    add.i64         r23, r23, r15
    add.i64         r23, r23, r0
    lshr.i64        r77, r20, 2
    mul.i64         r24, r77, r9
    add.i64         r24, r24, r15
    mul.i64         r24, r24, r4
    add.i64         r24, r24, r75
    add.i64         r24, r24, r1
    mul.i64         r25, r76, r4
    add.i64         r25, r25, r75
    shl.i64         r25, r25, 2
    add.i64         r25, r25, r2
    sgt.i64         r26, r15, 0
    mul.i64         r78, r77, r9
    mul.i64         r78, r78, r22
    add.i64         r78, r78, r55
    dma.load.i8     [shared + r78], g[r24], r22, r77, 1, r22, 0, r4, 0
    dma.load.i8     [memory + r72], g[r73], r30, r71, 1, r30, 0, r5, 0
    ; on to the next x, if there is one
    add.i64         r15, r15, r20
    sge.i64         r27, r15, r5
    xor.i64         r74, r27, 1
    mul.i64         r15, r15, r74
    mul.i64         r74, r27, r11
    add.i64         r10, r10, r74
    cbr             r47, ending
meet:
    barrier.cluster
    mov.i64         r40, r30            ; y becomes z
    mov.i64         r41, r31
    mov.i64         r42, r32
    mov.i64         r45, r35
    mov.i64         r46, r36
    mov.i64         r47, r37
    mov.i64         r30, r20            ; x becomes y
    mov.i64         r31, r21
    mov.i64         r32, r22
    mov.i64         r33, r23
    mov.i64         r35, r25
    mov.i64         r36, r26
    mov.i64         r37, r27
    mov.i64         r70, r50            ; the halves change places
    mov.i64         r50, r51
    mov.i64         r51, r70
    mov.i64         r70, r52
    mov.i64         r52, r53
    mov.i64         r53, r70
    mov.i64         r70, r54
    mov.i64         r54, r55
    mov.i64         r55, r70
    add.i64         r70, r30, r40
    sgt.i64         r70, r70, 0
    cbr             r70, again
    exit
ending:
    mov.i64         r60, 0              ; the first row of a quarter
    mov.i64         r61, 0              ; its sums in NRAM
    mov.i64         r62, r50            ; its rows of a
    mov.i64         r63, r45            ; its place in c
quarter:
    sub.i64         r64, r41, r60
    smin.i64        r64, r64, r14
    mm.i8.i32       [memory + r61], [memory + r62], [weights + r52], r64, r42, r40, r40, r46
    sync            4
    dma.store.i32   g[r63], [memory + r61], r42, r64, 1, r42, 0, r4, 0
    add.i64         r60, r60, r64
    mul.i64         r70, r64, r42
    shl.i64         r70, r70, 2
    add.i64         r61, r61, r70
    mul.i64         r70, r64, r40
    add.i64         r62, r62, r70
    mul.i64         r70, r64, r4
    shl.i64         r70, r70, 2
    add.i64         r63, r63, r70
    slt.i64         r70, r60, r41
    cbr             r70, quarter
    br              meet
