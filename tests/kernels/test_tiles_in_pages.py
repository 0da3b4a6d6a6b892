"""Loads whose tiles span several pages of a cache take a tile of each page."""

import numpy as np
import pytest

import mlutriton as mlu
import mlutriton.language as tl
from tests.kernels.engines import on_both_engines

PAGE, HEADS, WIDTH, PART = 16, 2, 32, 8


@mlu.jit
def scores(
    out, q, k, table, lengths, pages, page_stride, head_stride, part_stride,
    PAGE: tl.constexpr, WIDTH: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Products of queries with keys in pages of [head, WIDTH // PART, PAGE, PART], in a loop over blocks of tokens."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    row, d, n = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    query = tl.load(q + (sequence * ROWS + row[:, None]) * WIDTH + d[None, :])
    length = tl.load(lengths + sequence)
    for start in range(0, length, BLOCK):
        token = start + n
        page = tl.load(table + sequence * pages + token // PAGE).to(tl.int64)
        place = (
            page[None, :] * page_stride
            + head * head_stride
            + d[:, None] // PART * part_stride
            + token[None, :] % PAGE * PART
            + d[:, None] % PART
        )
        mask = token[None, :] < length if MASKED else None
        key = tl.load(k + place, mask=mask, other=0.0 if MASKED else None)
        result = tl.dot(query, key)
        rows = (sequence * tl.num_programs(1) + head) * ROWS + row[:, None]
        tl.store(out + rows * pages * PAGE + token[None, :], result, mask=token[None, :] < length)


@mlu.jit
def collected(
    out, k, table, tokens, stride, PAGE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, OTHER: tl.constexpr
):
    """Tokens in order from pages of [WIDTH, PAGE], one block a program."""
    token, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    page = tl.load(table + token // PAGE)
    place = page[:, None] * stride + d[None, :] * PAGE + token[:, None] % PAGE
    mask = token[:, None] < tokens
    tl.store(out + token[:, None] * WIDTH + d[None, :], tl.load(k + place, mask=mask, other=OTHER), mask=mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("num_warps", [1, 4])
def test_products_with_keys_in_pages(block, masked, num_warps):
    rng = np.random.default_rng(0)
    rows, longest = 32, 128
    lengths = np.array([100, 128, 7], np.int32)
    pages = longest // PAGE
    table = rng.permutation(3 * pages).astype(np.int32).reshape(3, pages)
    shape = (3 * pages, HEADS, WIDTH // PART, PAGE, PART)
    k = rng.integers(-3, 4, shape).astype(np.float16)
    q = rng.integers(-3, 4, (3, rows, WIDTH)).astype(np.float16)
    out = np.zeros((3, HEADS, rows, longest), np.float32)
    expected = np.zeros_like(out)
    for s, length in enumerate(lengths):
        keys = k[table[s]].transpose(1, 0, 3, 2, 4).reshape(HEADS, longest, WIDTH).astype(np.float32)
        expected[s, :, :, :length] = np.einsum("rd,htd->hrt", q[s].astype(np.float32), keys)[:, :, :length]

    def launch():
        strides = [each // 2 for each in k.strides[:3]]
        return scores[(3, HEADS)](
            out, q, k, table, lengths, pages, *strides, PAGE, WIDTH, PART, rows, block, masked, num_warps=num_warps
        )

    run = on_both_engines(launch, out)
    np.testing.assert_array_equal(out, expected)
    # Each element by itself, or pieces of 8, would take 28 cycles for each.
    assert run.cycles < 22_000


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 500, 512])
def test_tokens_in_order(tokens):
    """Behind the last page that is needed, the table names pages that there are not."""
    rng = np.random.default_rng(0)
    pages = -(-tokens // PAGE)
    table = np.full(512 // PAGE, 1 << 20, np.int32)
    table[:pages] = rng.permutation(pages)
    k = rng.standard_normal((pages, WIDTH, PAGE)).astype(np.float32)
    out = np.zeros((512, WIDTH), np.float32)
    expected = np.zeros_like(out)
    expected[:tokens] = k[table[:pages]].transpose(0, 2, 1).reshape(-1, WIDTH)[:tokens]
    run = on_both_engines(
        lambda: collected[(8,)](out, k, table, tokens, WIDTH * PAGE, PAGE, WIDTH, BLOCK=64, OTHER=-1.0), out
    )
    np.testing.assert_array_equal(out, expected)
    assert run.cycles < 11_000
