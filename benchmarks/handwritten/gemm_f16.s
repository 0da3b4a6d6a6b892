; c = a @ b in half precision. The four cores of a cluster compute a tile together: each has `rows` rows of it and all
; `columns`; what the tensor unit multiplies in a step is `depth` of the matrices' depth. Three steps are under way at
; a time, and one barrier a step keeps them apart:
; * z is multiplied, from NRAM and WRAM;
; * y is on its way there: a core loads its own rows of a, and takes from SRAM the columns of b that all need;
; * x, a quarter by each core, is on its way to SRAM.
; Steps follow each other across tiles, so that nothing runs dry between them: a tile that is done is converted to a
; place of its own, and a few of its rows are stored in each step of the next one. The first steps are small, so that
; the tensor unit begins early. A core's rows come in two transfers, around those of b: the set-up of one goes on while
; another one flows.
; Half the sums, twice a half of a, and the results have to fit NRAM; depths are multiples of 4, and of at least 2 steps.
.program  gemm_f16
.isa      592
.cores    4
.param    a ptr f16
.param    b ptr f16
.param    c ptr f16
.param    M i32
.param    N i32
.param    K i32
.param    rows i32
.param    columns i32
.param    depth i32
.buffer   memory nram 0 393216          ; sums, results, two halves of a
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
    ; r14: rows that are stored in a step, so that they are through one step before the next results come
    add.i64         r14, r5, r8
    sub.i64         r14, r14, 1
    sdiv.i64        r14, r14, r8
    sub.i64         r14, r14, 1
    add.i64         r15, r6, r14
    sub.i64         r15, r15, 1
    sdiv.i64        r14, r15, r14
    ; r15: where x begins in the depth; r16: how deep it is at most, a quarter in the beginning
    mov.i64         r15, 0
    lshr.i64        r16, r8, 4
    shl.i64         r16, r16, 2
    ; r17: results in NRAM; r50, r51: a of z and of y
    mul.i64         r18, r6, r7
    shl.i64         r17, r18, 2
    shl.i64         r18, r18, 1
    add.i64         r50, r17, r18
    mul.i64         r18, r6, r8
    shl.i64         r18, r18, 1
    add.i64         r51, r50, r18
    ; r52, r53: b of z and y in WRAM; r54, r55: b of y and x in SRAM
    mov.i64         r52, 0
    add.i64         r53, r7, 63
    lshr.i64        r53, r53, 6
    shl.i64         r53, r53, 7
    mul.i64         r53, r53, r8
    mov.i64         r54, 0
    mul.i64         r55, r7, r8
    shl.i64         r55, r55, 1
    mov.i64         r62, 0              ; rows that are to be stored, from r63 in NRAM to r60, each of r61 columns
    ; r20 to r27: depth, rows, columns of x, its places in a, b and c; whether it goes on with a tile, whether it ends it
    ; r30 to r37: of y; r40 to r47: of z
    mov.i64         r30, 0
    mov.i64         r31, 0
    mov.i64         r40, 0
    mov.i64         r41, 0
    mov.i64         r46, 0
    mov.i64         r47, 0
again:
    mm.f16.f32      [memory], [memory + r50], [weights + r52], r41, r42, r40, r40, r46
    mul.i64         r70, r41, r47
    v.fpcast.f32.f16 [memory + r17], [memory], r70, r42
    move.weight.f16 [weights + r53], [shared + r54], r30, r32, r32, 1
    lshr.i64        r70, r31, 1
    sub.i64         r71, r31, r70
    dma.load.f16    [memory + r51], g[r33], r30, r70, 1, r30, 0, r5, 0
    mul.i64         r72, r70, r30
    shl.i64         r72, r72, 1
    add.i64         r72, r72, r51
    mul.i64         r73, r70, r5
    shl.i64         r73, r73, 1
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
    shl.i64         r23, r23, 1
    add.i64         r23, r23, r0
    lshr.i64        r77, r20, 2
    mul.i64         r24, r77, r9
    add.i64         r24, r24, r15
    mul.i64         r24, r24, r4
    add.i64         r24, r24, r75
    shl.i64         r24, r24, 1
    add.i64         r24, r24, r1
    mul.i64         r25, r76, r4
    add.i64         r25, r25, r75
    shl.i64         r25, r25, 1
    add.i64         r25, r25, r2
    sgt.i64         r26, r15, 0
    mul.i64         r78, r77, r9
    mul.i64         r78, r78, r22
    shl.i64         r78, r78, 1
    add.i64         r78, r78, r55
    dma.load.f16    [shared + r78], g[r24], r22, r77, 1, r22, 0, r4, 0
    dma.load.f16    [memory + r72], g[r73], r30, r71, 1, r30, 0, r5, 0
    ; some rows of the tile before
    smin.i64        r79, r62, r14
    dma.store.f16   g[r60], [memory + r63], r61, r79, 1, r61, 0, r4, 0
    sub.i64         r62, r62, r79
    mul.i64         r74, r79, r61
    shl.i64         r74, r74, 1
    add.i64         r63, r63, r74
    mul.i64         r74, r79, r4
    shl.i64         r74, r74, 1
    add.i64         r60, r60, r74
    ; on to the next x, if there is one
    add.i64         r15, r15, r20
    sge.i64         r27, r15, r5
    xor.i64         r74, r27, 1
    mul.i64         r15, r15, r74
    mul.i64         r74, r27, r11
    add.i64         r10, r10, r74
    barrier.cluster
    cbr             r47, done
turn:
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
    ; the last tile, at once
    dma.store.f16   g[r60], [memory + r63], r61, r62, 1, r61, 0, r4, 0
    exit
done:
    mov.i64         r60, r45
    mov.i64         r61, r42
    mov.i64         r62, r41
    mov.i64         r63, r17
    br              turn
