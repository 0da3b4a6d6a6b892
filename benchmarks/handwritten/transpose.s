; output[b, c, r] = x[b, r, c]. Tiles of 128 columns and as many rows as there is room for, so that segments of the store are
; long; a program for each core takes every so many tiles. While one is turned, the next is loaded and the one before stored.
.program  transpose
.isa      592
.cores    1
.param    output ptr f32
.param    x ptr f32
.param    rows i32
.param    columns i32
.param    batch i32
.buffer   tiles nram 0      131072      ; two halves of 128 x 128
.buffer   turned nram 131072 131072     ; likewise

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    sreg            r5, 0
    sreg            r6, 3
    ; r7, r8: tiles along rows and columns; r9: all of them
    add.i64         r7, r2, 127
    lshr.i64        r7, r7, 7
    add.i64         r8, r3, 127
    lshr.i64        r8, r8, 7
    mul.i64         r9, r7, r8
    mul.i64         r9, r9, r4
    ; r10: the tile that is loaded; r11: its half
    mov.i64         r10, r5
    mov.i64         r11, 0
    mov.i64         r20, 0              ; rows of the tile that is turned, r21 its columns, r22 its half, r23 its place
    mov.i64         r21, 0
    mov.i64         r22, 0
    mov.i64         r30, 0              ; likewise of the tile that is stored
    mov.i64         r31, 0
    mov.i64         r32, 0
    mov.i64         r33, r0
again:
    dma.store.f32   g[r33], [turned + r32], r30, r31, 1, r30, 0, r2, 0
    ; r12: batch, r13: first row, r14: first column, r15, r16: rows and columns there
    mul.i64         r17, r7, r8
    sdiv.i64        r12, r10, r17
    mul.i64         r18, r12, r17
    sub.i64         r18, r10, r18
    sdiv.i64        r13, r18, r8
    mul.i64         r19, r13, r8
    sub.i64         r14, r18, r19
    shl.i64         r13, r13, 7
    shl.i64         r14, r14, 7
    sub.i64         r15, r2, r13
    smin.i64        r15, r15, 128
    sub.i64         r16, r3, r14
    smin.i64        r16, r16, 128
    slt.i64         r17, r10, r9
    mul.i64         r15, r15, r17       ; nothing behind the last tile
    mul.i64         r12, r12, r2
    mul.i64         r12, r12, r3
    mul.i64         r17, r13, r3
    add.i64         r17, r17, r14
    add.i64         r17, r17, r12
    shl.i64         r17, r17, 2
    add.i64         r17, r17, r1
    dma.load.f32    [tiles + r11], g[r17], r16, r15, 1, r16, 0, r3, 0
    v.transpose.f32 [turned + r22], [tiles + r22], 1, r20, r21, 1
    sync            5
    mov.i64         r30, r20
    mov.i64         r31, r21
    mov.i64         r32, r22
    mov.i64         r33, r23
    mov.i64         r20, r15
    mov.i64         r21, r16
    mov.i64         r22, r11
    mul.i64         r23, r14, r2
    add.i64         r23, r23, r13
    add.i64         r23, r23, r12
    shl.i64         r23, r23, 2
    add.i64         r23, r23, r0
    add.i64         r10, r10, r6
    sub.i64         r11, 65536, r11
    add.i64         r17, r30, r20
    sgt.i64         r17, r17, 0
    cbr             r17, again
    exit
