; output = softmax(q @ k^T * scale) @ v for heads of 128, not causal; all arrays are dense. A program for each core takes
; blocks of 128 queries; of each it walks over the keys, 512 at a time. What bounds it is the queue that the vector and the
; tensor unit share, so that it spares passes over the scores:
; * they are scaled where the maximum is taken off, in one chain; the maxima are scaled instead;
; * 512 keys at a time leave NRAM full, and the result is rescaled seldom;
; * the queries are two halves whose instructions alternate: none waits for the one right before it.
; For lengths that 512 divides.
.program  flash_attention
.isa      592
.cores    1
.param    output ptr f16
.param    q ptr f16
.param    k ptr f16
.param    v ptr f16
.param    scale f32
.param    heads i32
.param    length i32
.param    batches i32
.buffer   scores nram 0 262144          ; of 128 queries; probabilities take their place
.buffer   result nram 262144 65536      ; 128 x 128 sums; halves take their place
.buffer   query nram 327680 32768
.buffer   maximum nram 360448 512
.buffer   larger nram 360960 512
.buffer   shrink nram 361472 512
.buffer   total nram 361984 512
.buffer   sum nram 362496 512
.buffer   keys wram 0 262144            ; two halves, of 512 keys
.buffer   values wram 262144 262144

    param           r0, 0
    param           r1, 1
    param           r2, 2
    param           r3, 3
    param           r4, 4
    param           r5, 5
    param           r6, 6
    param           r7, 7
    sreg            r8, 0               ; the block of queries
    sreg            r9, 3
    fmul.f32        r4, r4, 1.4426950408889634
    mul.i64         r5, r5, r7
    mul.i64         r5, r5, r6
    lshr.i64        r5, r5, 7           ; blocks of queries
    lshr.i64        r7, r6, 7           ; of a head
    shl.i64         r6, r6, 8           ; bytes of the keys of a head
    ; r10: the block of queries that is loaded, r11: bytes to its keys, r12: their half; r13: that of what is computed
    mov.i64         r10, r8
    mov.i64         r11, 0
    mov.i64         r12, 0
    mov.i64         r13, 0
    slt.i64         r20, r8, r5
    cbr             r20, first
    exit
first:
    shl.i64         r20, r8, 15
    add.i64         r20, r20, r1
    dma.load.f16    [query], g[r20], 16384, 1, 1, 0, 0, 0, 0
    mov.i64         r14, 0              ; bytes to the keys that are computed
    br              load
begin:
    v.mov.f32       [result], 0.0, 128, 128
    v.mov.f32       [maximum], -inf, 1, 128
    v.mov.f32       [total], 0.0, 1, 128
    mov.i64         r14, 0
load:
    ; the next 512 keys and values, unless there are none: a head's, after the last ones those of the next block
    slt.i64         r21, r10, r5
    shl.i64         r21, r21, 9
    sdiv.i64        r20, r10, r7
    mul.i64         r20, r20, r6
    add.i64         r20, r20, r11
    add.i64         r22, r20, r2
    add.i64         r23, r20, r3
    dma.weight.f16  [keys + r12], g[r22], 128, r21, 128, r21, 0, 1, 128, 0.0
    dma.weight.f16  [values + r12], g[r23], r21, 128, r21, 128, 0, 128, 1, 0.0
    add.i64         r11, r11, 131072
    sge.i64         r20, r11, r6
    xor.i64         r21, r20, 1
    mul.i64         r11, r11, r21
    mul.i64         r20, r20, r9
    add.i64         r10, r10, r20
    xor.i64         r12, r12, 131072
    xor.i64         r13, r13, 131072
    sgt.i64         r20, r15, 0
    cbr             r20, compute
    mov.i64         r15, 1              ; the first ones are on their way
    sync            1
    br              begin
compute:
    mm.f16.f32      [scores], [query], [keys + r13], 64, 512, 128, 128, 0
    mm.f16.f32      [scores + 131072], [query + 16384], [keys + r13], 64, 512, 128, 128, 0
    red.fmax.f32    [larger], [scores], 64, 512, 1
    red.fmax.f32    [larger + 256], [scores + 131072], 64, 512, 1
    v.fmul.f32      ~, [larger], r4, 1, 64
    v.fmax.f32      [larger], ~, [maximum], 1, 64
    v.fmul.f32      ~, [larger + 256], r4, 1, 64
    v.fmax.f32      [larger + 256], ~, [maximum + 256], 1, 64
    v.fmul.f32      ~, [scores], r4, 64, 512
    v.fsub.f32      [scores], ~, row[larger], 64, 512
    v.fmul.f32      ~, [scores + 131072], r4, 64, 512
    v.fsub.f32      [scores + 131072], ~, row[larger + 256], 64, 512
    v.exp2.f32      [scores], [scores], 64, 512
    v.exp2.f32      [scores + 131072], [scores + 131072], 64, 512
    red.fadd.f32    [sum], [scores], 64, 512, 1
    v.fsub.f32      [shrink], [maximum], [larger], 1, 128
    red.fadd.f32    [sum + 256], [scores + 131072], 64, 512, 1
    v.exp2.f32      [shrink], [shrink], 1, 128
    v.fpcast.f32.f16 [scores], [scores], 64, 512
    v.fma.f32       [total], [total], [shrink], [sum], 1, 128
    v.fpcast.f32.f16 [scores + 131072], [scores + 131072], 64, 512
    v.fmul.f32      [result], [result], row[shrink], 128, 128
    v.mov.f32       [maximum], [larger], 1, 128
    mm.f16.f32      [result], [scores], [values + r13], 64, 128, 512, 512, 1
    mm.f16.f32      [result + 32768], [scores + 131072], [values + r13], 64, 128, 512, 512, 1
    add.i64         r14, r14, 131072
    sge.i64         r20, r14, r6
    cbr             r20, done
    sync            5
    br              load
done:
    v.fdiv.f32      [result], [result], row[total], 128, 128
    v.fpcast.f32.f16 [result], [result], 128, 128
    shl.i64         r20, r8, 15
    add.i64         r20, r20, r0
    add.i64         r8, r8, r9
    slt.i64         r21, r8, r5
    sync            4
    shl.i64         r22, r8, 15
    add.i64         r22, r22, r1
    shl.i64         r23, r21, 14
    dma.load.f16    [query], g[r22], r23, 1, 1, 0, 0, 0, 0
    dma.store.f16   g[r20], [result], 16384, 1, 1, 0, 0, 0, 0
    sync            1
    cbr             r21, begin
    exit
