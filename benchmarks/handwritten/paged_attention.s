; One new token of each sequence attends to keys and values in pages of 64 tokens, which `table` names; heads of 128, in
; groups of 8 that share their keys. A program for each core takes every so many of the pairs of a sequence and a head.
; What bounds it is the memory:
; * page numbers and lengths are in NRAM from the beginning, so that no address waits for a load;
; * eight pages are loaded while eight are computed, also across pairs, and their transfers hide each other's latency.
; For up to 16,384 entries of the table, and 4,096 sequences.
.program  paged_attention
.isa      592
.cores    1
.param    output ptr f16
.param    q ptr f16
.param    k ptr f16
.param    v ptr f16
.param    table ptr i32
.param    lengths ptr i32
.param    scale f32
.param    heads i32
.param    pages i32
.param    sequences i32
.buffer   numbers nram 0 65536
.buffer   tokens nram 65536 16384       ; of each sequence
.buffer   query nram 81920 4096         ; two halves of 8 x 128
.buffer   scores nram 86016 16384       ; 8 x up to 512; probabilities take their place
.buffer   result nram 102400 4096       ; 8 x 128 sums; halves take their place
.buffer   maximum nram 106496 64
.buffer   larger nram 106560 64
.buffer   shrink nram 106624 64
.buffer   total nram 106688 64
.buffer   sum nram 106752 64
.buffer   keys wram 0 262144            ; two halves, of 512 keys
.buffer   values wram 262144 262144     ; likewise, of eight pages

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    param           r5, 5
    param           r6, 6
    param           r7, 7
    param           r8, 8
    param           r9, 9
    mul.i64         r20, r8, r9
    dma.load.i32    [numbers], g[r4], r20, 1, 1, 0, 0, 0, 0
    dma.load.i32    [tokens], g[r5], r9, 1, 1, 0, 0, 0, 0
    fmul.f32        r6, r6, 1.4426950408889634
    mul.i64         r9, r9, r7          ; pairs of a sequence and a head
    sreg            r10, 0              ; the pair that is loaded,
    sreg            r11, 3
    mov.i64         r12, 0              ; from this token on
    mov.i64         r13, 0              ; the half of keys and values
    mov.i64         r14, 0              ; the half of the query
    ; r30: tokens that are computed, r31: half of the query, r32: whether they are the first, r33: the last of a pair,
    ; r34: bytes to its queries; r40 to r44: the same of what is loaded
    mov.i64         r30, 0
    mov.i64         r33, 0
    sync            1
again:
    slt.i64         r20, r10, r9
    mov.i64         r40, 0
    cbr             r20, load
    br              compute
load:
    sdiv.i64        r21, r10, r7        ; the sequence,
    mul.i64         r22, r21, r7
    sub.i64         r22, r10, r22       ; the head,
    shl.i64         r23, r21, 2
    lds.i32         r23, [tokens + r23] ; its tokens
    sub.i64         r40, r23, r12
    smin.i64        r40, r40, 512
    shl.i64         r44, r10, 11
    mov.i64         r41, r14
    eq.i64          r42, r12, 0
    add.i64         r24, r44, r1
    shl.i64         r25, r42, 10
    dma.load.f16    [query + r14], g[r24], r25, 1, 1, 0, 0, 0, 0
    mul.i64         r24, r21, r8
    lshr.i64        r25, r12, 6
    add.i64         r24, r24, r25
    shl.i64         r24, r24, 2         ; its number of the first page
    mov.i64         r25, 0              ; tokens before the page
    mov.i64         r26, r13            ; its values
page:
    lds.i32         r27, [numbers + r24]
    mul.i64         r27, r27, r7
    add.i64         r27, r27, r22
    shl.i64         r27, r27, 14
    sub.i64         r28, r40, r25
    smin.i64        r28, r28, 64
    add.i64         r29, r27, r2
    add.i64         r27, r27, r3
    ; the keys of a page are a panel of their own
    dma.weight.f16  [keys + r26], g[r29], 128, r28, 128, r28, 0, 1, 128, 0.0
    dma.weight.f16  [values + r26], g[r27], r28, 128, r28, 128, 0, 128, 1, 0.0
    add.i64         r24, r24, 4
    add.i64         r25, r25, 64
    add.i64         r26, r26, 16384
    slt.i64         r20, r25, r40
    cbr             r20, page
    ; on to the next tokens, or the next pair
    add.i64         r12, r12, r40
    sge.i64         r43, r12, r23
    xor.i64         r20, r43, 1
    mul.i64         r12, r12, r20
    mul.i64         r20, r43, r11
    add.i64         r10, r10, r20
    shl.i64         r20, r43, 11
    xor.i64         r14, r14, r20
compute:
    xor.i64         r13, r13, 131072    ; now the half that is computed, and then loaded
    sgt.i64         r20, r30, 0
    cbr             r20, attend
turn:
    sync            5
    mov.i64         r30, r40
    mov.i64         r31, r41
    mov.i64         r32, r42
    mov.i64         r33, r43
    mov.i64         r34, r44
    sgt.i64         r20, r30, 0
    cbr             r20, again
    exit
attend:
    shl.i64         r20, r32, 3         ; rows, if a pair begins
    v.mov.f32       [result], 0.0, r20, 128
    v.mov.f32       [maximum], -inf, 1, r20
    v.mov.f32       [total], 0.0, 1, r20
    mm.f16.f32      [scores], [query + r31], [keys + r13], 8, r30, 128, 128, 0
    red.fmax.f32    [larger], [scores], 8, r30, 1
    v.fmul.f32      ~, [larger], r6, 1, 8
    v.fmax.f32      [larger], ~, [maximum], 1, 8
    v.fmul.f32      ~, [scores], r6, 8, r30
    v.fsub.f32      [scores], ~, row[larger], 8, r30
    v.fsub.f32      [shrink], [maximum], [larger], 1, 8
    v.exp2.f32      [scores], [scores], 8, r30
    v.exp2.f32      [shrink], [shrink], 1, 8
    red.fadd.f32    [sum], [scores], 8, r30, 1
    v.fmul.f32      [result], [result], row[shrink], 8, 128
    v.fpcast.f32.f16 [scores], [scores], 8, r30
    v.fma.f32       [total], [total], [shrink], [sum], 1, 8
    v.mov.f32       [maximum], [larger], 1, 8
    ; the values of each page are a matrix of their own
    mov.i64         r21, 0
    mov.i64         r22, r13
    mov.i64         r23, 0
values_of_page:
    sub.i64         r24, r30, r21
    smin.i64        r24, r24, 64
    mm.f16.f32      [result], [scores + r23], [values + r22], 8, 128, r24, r30, 1
    add.i64         r21, r21, 64
    add.i64         r22, r22, 16384
    add.i64         r23, r23, 128
    slt.i64         r20, r21, r30
    cbr             r20, values_of_page
    cbr             r33, done
    br              turn
done:
    v.fdiv.f32      [result], [result], row[total], 8, 128
    v.fpcast.f32.f16 [result], [result], 8, 128
    add.i64         r20, r34, r0
    sync            4
    dma.store.f16   g[r20], [result], 1024, 1, 1, 0, 0, 0, 0
    br              turn
