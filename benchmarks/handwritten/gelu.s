; output = the GELU of x + bias, v / (1 + exp(-2 u)) with u = sqrt(2 / pi) * (v + 0.044715 v^3). A program for each core takes
; rows of its own. What bounds it is the vector unit: two rows are computed in turns, so that no instruction waits for the
; one right before it, and stored at once, so that little is stored when it is done.
; Rows of up to 8,192 elements.
.program  gelu
.isa      592
.cores    1
.param    output ptr f32
.param    x ptr f32
.param    bias ptr f32
.param    rows i32
.param    columns i32
.buffer   xs nram 0      294912         ; two halves
.buffer   powers nram 294912 65536
.buffer   biases nram 360448 32768

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    sreg            r5, 0
    sreg            r6, 3
    ; r7: the first row of the share, r8: the end of it; shares differ by one row
    mul.i64         r7, r5, r3
    sdiv.i64        r7, r7, r6
    add.i64         r8, r5, 1
    mul.i64         r8, r8, r3
    sdiv.i64        r8, r8, r6
    ; r9: bytes of a row, r10: most rows of a block, r11: rows of the next one
    shl.i64         r9, r4, 2
    sdiv.i64        r10, 147456, r9
    mov.i64         r11, 1
    dma.load.f32    [biases], g[r2], r4, 1, 1, 0, 0, 0, 0
    ; r12: the row that is loaded, r13: how many, r14: their half; r15, r16, r17: the same of what is computed
    mov.i64         r12, r7
    mov.i64         r14, 0
    mov.i64         r16, 0
again:
    sub.i64         r13, r8, r12
    smin.i64        r13, r13, r11
    shl.i64         r11, r11, 1
    smin.i64        r11, r11, r10
    mul.i64         r18, r12, r9
    add.i64         r18, r18, r1
    mul.i64         r19, r13, r4
    dma.load.f32    [xs + r14], g[r18], r19, 1, 1, 0, 0, 0, 0
    mov.i64         r20, r17            ; where the rows stand that are computed next
    mov.i64         r21, r16            ; how many are left
    sgt.i64         r22, r21, 0
    cbr             r22, compute
    sync            1
    br              turn
compute:
    ; two rows, or one: r23: whether there is a second, r24: where it stands
    smin.i64        r23, r21, 2
    sub.i64         r23, r23, 1
    add.i64         r24, r20, r9
    v.fadd.f32      [xs + r20], [xs + r20], [biases], 1, r4
    v.fadd.f32      [xs + r24], [xs + r24], [biases], r23, r4
    v.fmul.f32      ~, [xs + r20], [xs + r20], 1, r4
    v.fma.f32       ~, ~, -0.07135481627, -1.5957691216, 1, r4
    v.fmul.f32      [powers], ~, [xs + r20], 1, r4
    v.fmul.f32      ~, [xs + r24], [xs + r24], r23, r4
    v.fma.f32       ~, ~, -0.07135481627, -1.5957691216, r23, r4
    v.fmul.f32      [powers + 32768], ~, [xs + r24], r23, r4
    v.exp.f32       [powers], [powers], 1, r4
    v.exp.f32       [powers + 32768], [powers + 32768], r23, r4
    v.fadd.f32      [powers], [powers], 1.0, 1, r4
    v.fadd.f32      [powers + 32768], [powers + 32768], 1.0, r23, r4
    v.fdiv.f32      [xs + r20], [xs + r20], [powers], 1, r4
    v.fdiv.f32      [xs + r24], [xs + r24], [powers + 32768], r23, r4
    add.i64         r23, r23, 1
    mul.i64         r18, r15, r9
    add.i64         r18, r18, r0
    mul.i64         r19, r23, r4
    sub.i64         r21, r21, r23
    sgt.i64         r22, r21, 0
    cbr             r22, more
    sync            1                   ; the next block is here
more:
    sync            4
    dma.store.f32   g[r18], [xs + r20], r19, 1, 1, 0, 0, 0, 0
    add.i64         r15, r15, r23
    mul.i64         r24, r23, r9
    add.i64         r20, r20, r24
    cbr             r22, compute
turn:
    mov.i64         r15, r12
    mov.i64         r16, r13
    mov.i64         r17, r14
    add.i64         r12, r12, r13
    sub.i64         r14, 147456, r14
    sgt.i64         r22, r16, 0
    cbr             r22, again
    exit
