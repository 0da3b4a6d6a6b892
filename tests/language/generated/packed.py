"""Kernels drawn at random that multiply with packed weights: several of them share a word, groups share a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, triton
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

WORDS = [(INT32, 4), (INT32, 4), (INT32, 8), (INT32, 2), (INT8, 4), (np.dtype(np.int16), 4)]


@dataclass
class Packed(Text):
    """Draws the kernel.

    Attributes:
        tile: rows, columns and depth.
        sizes: of the product.
        word: the element type of words.
        bits: of a weight.
        along: the axis of weights that share a word: of the depth, or of the columns.
        group: so many weights along the depth have one scale.
        multiplied: the element type of factors.
    """

    tile: tuple[int, int, int] = (16, 16, 16)
    sizes: tuple[int, int, int] = (16, 16, 16)
    word: np.dtype = INT32
    bits: int = 4
    along: str = "k"
    group: int = 16
    multiplied: np.dtype = FLOAT16

    @property
    def count(self) -> int:
        """Weights of a word."""
        return 8 * self.word.itemsize // self.bits

    @property
    def is_same(self) -> bool:
        """A step has one scale for each column."""
        return self.group % self.tile[2] == 0

    def draw_all(self) -> None:
        self.line("m = tl.program_id(0) * BM + tl.arange(0, BM)")
        self.line("n = tl.program_id(1) * BN + tl.arange(0, BN)")
        self.line("d = tl.arange(0, BK)")
        self.line("total = tl.zeros((BM, BN), tl.float32)")
        carried = self.chance(4)
        if carried:
            self.line("left_of = a + m[:, None] * K + d[None, :]")
        _, columns, depth = self.sizes
        whole = [not depth % self.tile[2], not columns % self.tile[1]]
        with self.under(self.pick(["for k in range(0, K, BK):", "for i in range(tl.cdiv(K, BK)):"])):
            if "for i" in self.lines[-1]:
                self.line("k = i * BK")
            self.line("at = k + d")
            inside = ["(at[:, None] < K)"] * (not whole[0]) + ["(n[None, :] < N)"] * (not whole[1])
            mask = f", mask={' & '.join(inside)}, other=0" if inside else ""
            parts = [lambda: self.left(carried, masks_depth=not whole[0]), lambda: self.right(mask, whole[1])]
            for part in parts if self.chance(2) else reversed(parts):
                part()
            self.line(self.pick(["total += tl.dot(left, right{})", "total = tl.dot(left, right, total{})"]).format(
                ", input_precision='ieee'" if self.multiplied == FLOAT32 else ""
            ))  # fmt: skip
            if carried:
                self.line("left_of += BK")
        self.line("tl.store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))")

    def left(self, carried: bool, *, masks_depth: bool) -> None:
        place = "left_of" if carried else "a + m[:, None] * K + at[None, :]"
        inside = "(m[:, None] < M)" + " & (at[None, :] < K)" * masks_depth
        self.line(f"left = tl.load({place}, mask={inside}, other=0.0)")

    def right(self, mask: str, is_wide: bool) -> None:
        count, most = self.count, (1 << self.bits) - 1
        if self.along == "k":
            rows, columns, field = f"(at // {count})[:, None]", "n[None, :]", "at[:, None]"
            pitch = "N"
        else:
            rows, columns, field = "at[:, None]", f"(n // {count})[None, :]", "n[None, :]"
            pitch = f"(N // {count})"
        field = self.pick([field, field.replace("at", "d")])
        self.line(f"words = tl.load(b + {rows} * {pitch} + {columns}{mask}).to(tl.int32)")
        self.line(f"weights = (words >> ({field} % {count} * {self.bits})) & {most}")
        if self.chance(4):
            unused = 32 - self.bits
            self.line(f"weights = (weights << {unused}) >> {unused}")
        of_group = f"k // {self.group}" if self.is_same else f"(at // {self.group})[:, None]"
        column = "n" if self.is_same else "n[None, :]"
        place = f"{of_group} * N + {column}"
        masked = ("" if is_wide else ", mask=n < N, other=0") if self.is_same else mask
        spread = "[None, :]" if self.is_same else ""
        match self.pick(["none", "constant", "plain", "packed"]):
            case "constant":
                self.line(f"weights -= {most // 2 + 1}")
            case "plain":
                self.line(f"weights -= tl.load(zeros + {place}{masked}){spread}")
            case "packed":
                packed = f"{of_group} * (N // {count}) + {column} // {count}"
                self.line(f"zero = tl.load(packed_zeros + {packed}{masked}).to(tl.int32)")
                self.line(f"zero = (zero >> ({column} % {count} * {self.bits})) & {most}")
                self.line(f"weights -= zero{spread}")
        kind = triton(self.multiplied)
        if self.chance(4):
            self.line(f"right = weights.to({kind})")
            return
        self.line(f"scale = tl.load(scales + {place}{masked}){spread}")
        # Powers of two: no order of these rounds.
        self.line("right = " + self.pick([
            f"(weights.to(tl.float32) * scale).to({kind})", f"weights.to({kind}) * scale.to({kind})",
            f"(weights * scale).to({kind})",
        ]))  # fmt: skip


def packed_product(between: Between, machines: Machines) -> TextCase:
    """A kernel and its launch."""
    text = Packed(between)
    text.word, text.bits = text.pick(WORDS)
    text.along = text.pick("kkn")
    text.multiplied = text.pick([FLOAT16, FLOAT16, BFLOAT16, FLOAT32])
    count = text.count
    rows, columns, depth = text.pick([16, 16, 32]), text.pick([16, 32, 64, 128]), text.pick([16, 32, 64, 128])
    text.tile = tile = rows, columns, depth
    text.sizes = (
        text.pick([1, 5, rows, 2 * rows + 1]),
        max(count, columns * text.between(1, 3) - count * text.pick([0, 0, 0, 1])),
        max(count, depth * text.between(1, 13) - count * text.pick([0, 0, 0, 1])),
    )
    m, n, k = text.sizes
    text.group = text.pick([depth, depth, 2 * depth, 4 * depth, depth // 2, 8, 48])
    text.draw_all()
    groups = -(-k // text.group) + tile[2]
    scale_dtype = text.pick([FLOAT16, FLOAT32, text.multiplied])
    word, multiplied = text.word, text.multiplied

    def memory() -> dict[str, object]:
        random = np.random.default_rng(3)

        def words(number: int) -> np.ndarray:
            return random.integers(0, 256, number * word.itemsize, np.uint8).view(word)

        return {
            "c": np.zeros(m * n, np.float32),
            "a": integers(random, m * k, multiplied, 2),
            "b": words(-(-k // count) * n if text.along == "k" else k * (n // count)),
            "scales": (2.0 ** random.integers(-1, 2, groups * n)).astype(scale_dtype),
            "zeros": random.integers(0, 1 << text.bits, groups * n).astype(np.int32),
            "packed_zeros": words(groups * (n // count)),
            "M": m,
            "N": n,
            "K": k,
            **dict(zip(("BM", "BN", "BK"), tile, strict=True)),
        }

    arguments = [f"{name}: tl.constexpr" if name in ("BM", "BN", "BK") else name for name in memory()]
    lines = [f"def generated({', '.join(arguments)}):", *text.lines]
    options = {"num_warps": text.pick([1, 4]), "num_stages": text.pick([1, 2, 3, 3, 4])}
    grid = -(-m // rows), -(-n // columns)
    return TextCase("\n".join(lines) + "\n", memory, grid, text.pick(machines), options)
