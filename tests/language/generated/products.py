"""Kernels drawn at random around products of matrices: tiles, steps, epilogues and attentions that nobody wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.language.generated.numbers import BFLOAT16, FLOAT16, FLOAT32, triton
from tests.language.generated.texts import Between, Machines, Text, TextCase, integers

INT8 = np.dtype(np.int8)
FACTORS = [FLOAT16, FLOAT16, BFLOAT16, FLOAT32, INT8]


@dataclass
class Product(Text):
    """Draws a kernel of tiles of ``c = a @ b``, whose matrices are of any size and order."""

    tile: tuple[int, int, int] = (16, 16, 16)  # rows, columns and depth
    sizes: tuple[int, int, int] = (16, 16, 16)
    batches: int = 1
    splits: int = 1  # programs that share the depth of a tile
    stored: dict[str, np.dtype] = field(default_factory=dict)  # element types in memory
    multiplied: np.dtype = FLOAT16
    turned: dict[str, bool] = field(
        default_factory=dict
    )  # whether the depth is the outer axis of a, the inner one of b
    outs: int = 1
    is_plain: bool = False  # a product as most are written, with nothing that keeps its steps apart
    order: str = "rows"  # in which programs take tiles
    is_persistent: bool = False  # programs take tile after tile

    def draw_all(self) -> None:
        self.line("tiles_m = tl.cdiv(M, BM)")
        self.line("tiles_n = tl.cdiv(N, BN)")
        if self.batches > 1:
            self.line(f"z = tl.program_id({2 if self.order == 'grid' else 1})")
            self.line("a += z * batch_a")
            self.line("b += z * batch_b")
            for k in range(2):
                self.line(f"c{k} += z * M * N")
        if not self.is_persistent:
            self.line("p = tl.program_id(0)")
            self.tile_of_product()
            return
        with self.under("for p in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0)):"):
            self.tile_of_product()

    def tile_of_product(self) -> None:
        self.place_tile()
        if self.is_plain or not self.chance(3):
            self.steps()
        else:
            self.attention()

    def place_tile(self) -> None:
        if self.splits > 1:
            self.line("split = p % SPLITS")
            self.line("p = p // SPLITS")
        match self.order:
            case "rows":
                self.line("pm, pn = p // tiles_n, p % tiles_n")
            case "columns":
                self.line("pm, pn = p % tiles_m, p // tiles_m")
            case "grid":
                self.line("pm, pn = p, tl.program_id(1)")
            case "swizzled":
                self.line("pm, pn = tl.swizzle2d(p // tiles_n, p % tiles_n, tiles_m, tiles_n, GROUP)")
            case _:
                self.line("first_m = (p // (GROUP * tiles_n)) * GROUP")
                self.line("group_m = tl.minimum(tiles_m - first_m, GROUP)")
                self.line("pm = first_m + (p % (GROUP * tiles_n)) % group_m")
                self.line("pn = (p % (GROUP * tiles_n)) // group_m")
        wraps = self.chance(4)
        self.line("m = pm * BM + tl.arange(0, BM)")
        self.line("n = pn * BN + tl.arange(0, BN)")
        self.line("am, bn = m % M, n % N" if wraps else "am, bn = m, n")
        self.masks_m, self.masks_n = (not wraps and "am[:, None] < M"), (not wraps and "bn[None, :] < N")

    def factor(self, name: str, depth: str, masked: str | None) -> str:
        """The text of a tile of a factor at some depth."""
        rows = "am[:, None]" if name == "a" else f"({depth})[:, None]"
        columns = f"({depth})[None, :]" if name == "a" else "bn[None, :]"
        if name == "a":
            place = f"{rows} + {columns} * pitch_a" if self.turned[name] else f"{rows} * pitch_a + {columns}"
            outer, inner = self.masks_m, f"({depth})[None, :] < {masked}"
        else:
            place = f"{rows} + {columns} * pitch_b" if self.turned[name] else f"{rows} * pitch_b + {columns}"
            outer, inner = self.masks_n, f"({depth})[:, None] < {masked}"
        masks = [f"({each})" for each in (outer, inner if masked else False) if each]
        rest = f", mask={' & '.join(masks)}, other=0" if masks else ""
        if masks and np.dtype(self.stored[name]).kind not in "iu":
            rest += ".0"
        return f"{name} + {place}", rest

    def cast(self, name: str, text: str) -> str:
        if self.stored[name] == self.multiplied:
            return text
        return f"{text}.to({triton(self.multiplied)})"

    def steps(self) -> None:
        whole = self.sizes[2] % (self.tile[2] * self.splits) == 0
        masked = None if whole and self.chance(2) else "K"
        carried = self.chance(2)
        zero = "tl.int32" if self.multiplied == INT8 else "tl.float32"
        self.line(f"acc = tl.zeros((BM, BN), {zero})")
        second = not self.is_plain and self.chance(5) and self.multiplied != INT8
        if second:
            self.line("more = tl.zeros((BM, BN), tl.float32)")
        row = not self.is_plain and self.chance(6)
        if row:
            self.line("row = tl.zeros((BM,), tl.float32)")
        stages = self.pick(["", "", ", num_stages=3", ", num_stages=4", ", num_stages=1"])
        step = "BK" if self.splits == 1 else "BK * SPLITS"
        begin = "0" if self.splits == 1 else "split * BK"
        loop = self.pick(["index", "depth"] if carried or self.is_plain else ["index", "depth", "while"])
        if carried:
            depth = f"{begin} + tl.arange(0, BK)"
            pointers = {name: self.factor(name, depth, None)[0] for name in "ab"}
            self.line(f"ap = {pointers['a']}")
            self.line(f"bp = {pointers['b']}")
        head = {
            "index": f"for i in tl.range(0, tl.cdiv(K, {step}){stages}):",
            "depth": f"for k in tl.range({begin}, K, {step}{stages}):",
            "while": "while k < K:",
        }[loop]
        if loop == "while":
            self.line(f"k = {begin} + 0 * M")
        with self.under(head):
            if loop == "index":
                self.line(f"k = {begin} + i * {step}")
            self.line("d = k + tl.arange(0, BK)")
            for name in "ab":
                address, rest = self.factor(name, "d", masked)
                self.line(f"{name}t = tl.load({f'{name}p' if carried else address}{rest})")
            self.line(f"at = {self.cast('a', 'at')}")
            self.line(f"bt = {self.cast('b', 'bt')}")
            self.changed()
            if row:
                self.line("row += tl.sum(at.to(tl.float32), 1)")
            options = ", input_precision='ieee'" if self.multiplied == FLOAT32 else ""
            out = ", out_dtype=tl.int32" if self.multiplied == INT8 else ""
            forms = ["acc"] if self.multiplied == INT8 else ["+=", "acc"] if self.is_plain else ["+=", "acc", "scaled"]
            match self.pick(forms):
                case "+=":
                    self.line(f"acc += tl.dot(at, bt{options})")
                case "acc":
                    self.line(f"acc = tl.dot(at, bt, acc{options}{out})")
                case _:
                    self.line("s = tl.load(scales + (k // BK) * N + bn, mask=bn < N, other=0.0)")
                    self.line(f"acc += tl.dot(at, bt{options}) * s[None, :]")
            if second:
                form = self.pick(["tl.dot(at, bt)", "tl.dot(at, (bt * 2).to(at.dtype))"])
                self.line(f"more += {form[:-1]}{options})")
            if carried:
                self.line(f"ap += {step}{' * pitch_a' if self.turned['a'] else ''}")
                self.line(f"bp += {step}{'' if self.turned['b'] else ' * pitch_b'}")
            if loop == "while":
                self.line(f"k += {step}")
        if second:
            self.line("acc += more * 0.5")
        if row:
            self.line("acc += row[:, None]")
        self.epilogue()

    def changed(self) -> None:
        """What is done to factors on the way."""
        if self.multiplied == INT8:
            return
        kind = triton(self.multiplied)
        changes = ["", "", "zero", "relu"]
        match self.pick(changes if self.is_plain else [*changes, "scale", "branch", "turn"]):
            case "scale":
                self.line("t = tl.load(scales + (k // BK) * N + bn, mask=bn < N, other=0.0)")
                self.line(f"bt = (bt.to(tl.float32) * t[None, :]).to({kind})")
            case "zero":
                self.line(f"bt = (bt.to(tl.float32) - 1.0).to({kind})")
            case "relu":
                self.line(f"at = tl.maximum(at, 0.0).to({kind})")
            case "branch":
                with self.under(f"if {self.pick(['k > 20', 'flag > 0', 'pm == 0'])}:"):
                    self.line(f"at = (at.to(tl.float32) * 2.0).to({kind})")
            case "turn":
                self.line("bt = tl.trans(tl.trans(bt))")

    def epilogue(self) -> None:
        if self.multiplied == INT8:
            self.line("acc = acc.to(tl.float32)")
        inside = "(m[:, None] < M) & (n[None, :] < N)"
        for _ in range(self.number(2)):
            match self.pick(["bias", "relu", "row", "add", "scale", "sum"]):
                case "bias":
                    self.line("acc += tl.load(scales + bn, mask=bn < N, other=0.0)[None, :]")
                case "relu":
                    self.line("acc = tl.maximum(acc, 0.0)")
                case "row":
                    self.line("acc -= tl.max(acc, 1)[:, None]")
                case "add":
                    self.line(f"acc += tl.load(r + m[:, None] * N + n[None, :], mask={inside}, other=0.0)")
                case "scale":
                    self.line("acc = acc * flag")
                case "sum":
                    self.line("acc = acc + tl.sum(acc, 0)[None, :]")
        if self.splits > 1:
            self.line(f"tl.atomic_add(c0 + m[:, None] * N + n[None, :], acc, mask={inside})")
            return
        self.line(
            f"tl.store(c0 + m[:, None] * N + n[None, :], tl.minimum(tl.maximum(acc, -128.0), 128.0), mask={inside})"
        )
        if self.chance(4):
            self.outs = 2
            self.line(f"tl.store(c1 + m[:, None] + n[None, :] * M, acc * 0.5, mask={inside})")

    def attention(self) -> None:
        """Rows of a against columns of b, whose products are weighed and multiplied by rows of v."""
        kind = triton(self.multiplied) if self.multiplied != INT8 else "tl.float16"
        if self.multiplied == INT8:
            self.multiplied = FLOAT16
        options = ", input_precision='ieee'" if self.multiplied == FLOAT32 else ""
        width, out = self.tile[2], self.pick(["BK", "16"])
        self.line("d = tl.arange(0, BK)")
        masked = "K" if self.sizes[2] % width else None
        address, rest = self.factor("a", "d", masked)
        self.line(f"q = {self.cast('a', f'tl.load({address}{rest})')}")
        self.line(f"acc = tl.zeros((BM, {out}), tl.float32)")
        self.line("total = tl.zeros((BM,), tl.float32)")
        self.line("most = tl.full((BM,), -100.0, tl.float32)")
        causal = self.chance(3)
        end = self.pick(["N", "N", "tl.minimum(N, (pm + 1) * BM)", "tl.load(lengths + pm)", "N - 1"])
        stages = self.pick(["", "", ", num_stages=3", ", num_stages=1"])
        self.line(f"end = {end}")
        with self.under(f"for j in tl.range(0, end, BN{stages}):"):
            self.line("n = j + tl.arange(0, BN)")
            if self.chance(3):
                self.line("bn = tl.load(table + j // BN) * BN + tl.arange(0, BN)")
                self.line("bn = bn % N")
            else:
                self.line("bn = n")
            self.masks_n = "bn[None, :] < N"
            address, rest = self.factor("b", "d", masked)
            self.line(f"kt = {self.cast('b', f'tl.load({address}{rest})')}")
            self.line(f"s = tl.dot(q, kt{options})")
            if causal:
                self.line("s = tl.where((n[None, :] < end) & (n[None, :] <= m[:, None]), s, -100.0)")
            else:
                self.line("s = tl.where(n[None, :] < end, s, -100.0)")
            self.line("new = tl.maximum(most, tl.max(s, 1))")
            form = self.pick(["weights", "plain"])
            if form == "weights":
                self.line("alpha = tl.where(new > most, 0.0, 1.0)")
                self.line("w = tl.where(s >= new[:, None], 2.0, 0.0)")
                self.line("total = total * alpha + tl.sum(w, 1)")
                self.line("acc = acc * alpha[:, None]")
            else:
                self.line("w = tl.minimum(tl.maximum(s, -2.0), 2.0)")
                self.line("total += tl.sum(w, 1)")
            self.line(f"o = tl.arange(0, {out})")
            self.line(f"vt = tl.load(v + bn[:, None] * {out} + o[None, :], mask=bn[:, None] < N, other=0.0)")
            self.line(f"acc = tl.dot(w.to({kind}), vt.to({kind}), acc{options})")
            self.line("most = new")
        self.line(f"o = tl.arange(0, {out})")
        self.line("acc = tl.minimum(tl.maximum(acc + total[:, None], -128.0), 128.0)")
        # Programs along columns would store the same.
        batch = "z * M * 128 + " if self.batches > 1 else ""  # rows may be longer than those of products
        place = f"c0 + {batch}m[:, None] * {out} + o[None, :]"
        self.line(f"tl.store({place}, acc, mask=(m[:, None] < M) & (pn == 0))")


def product(between: Between, machines: Machines) -> TextCase:
    """Kernels around products of matrices."""
    text = Product(between)
    text.tile = tuple(text.pick(text.pick([[16, 16, 32, 64], [64, 128, 128]])) for _ in range(3))
    text.is_plain = text.chance(2)
    text.multiplied = text.pick(FACTORS)
    text.stored = {name: text.pick([text.multiplied, text.multiplied, INT8]) for name in "ab"}
    text.turned = {name: text.chance(3) for name in "ab"}
    sizes = []
    for k, size in enumerate(text.tile):
        most = (12 if text.is_plain else 6) if k == 2 else 8 if text.is_plain and size == 16 else 4
        sizes.append(text.pick([size * text.between(1, most), text.between(1, size * most), size]))
    text.sizes = tuple(sizes)
    text.batches = text.pick([1, 1, 1, 3])
    text.splits = text.pick([1, 1, 1, 1, 2]) if text.batches == 1 else 1
    text.is_persistent = text.splits == 1 and text.chance(5)
    orders = ["rows", "columns", "groups", "groups", "swizzled"]
    text.order = text.pick(orders if text.splits > 1 or text.is_persistent else [*orders, "grid"])
    text.draw_all()
    m, n, k = text.sizes
    splits = text.splits if any("SPLITS" in line for line in text.lines) else 1
    rows, columns = -(-m // text.tile[0]), -(-n // text.tile[1])
    grid = (rows, columns) if text.order == "grid" else (rows * columns * splits,)
    if text.is_persistent:
        grid = (min(*grid, text.pick([1, 3, 8, 32])),)
    grid = grid if text.batches == 1 else (*grid, text.batches)
    atomic = any("atomic" in line for line in text.lines)
    kind = FLOAT32 if atomic else text.pick([FLOAT32, FLOAT16, BFLOAT16])
    batches, stored = text.batches, text.stored
    pitches = {
        "pitch_a": (m if text.turned["a"] else k) + text.pick([0, 0, 0, 3, 16]),
        "pitch_b": (k if text.turned["b"] else n) + text.pick([0, 0, 0, 5, 32]),
    }
    counts = {
        "batch_a": pitches["pitch_a"] * (k if text.turned["a"] else m),
        "batch_b": pitches["pitch_b"] * (n if text.turned["b"] else k),
    }
    scalars = {"M": m, "N": n, "K": k}
    constants = dict(zip(("BM", "BN", "BK"), text.tile, strict=True))
    constants |= {"SPLITS": text.splits, "GROUP": text.pick([1, 2, 2, 3, 4, 8])}
    constant_sizes = text.chance(4)
    flag = text.pick([0, 1, 2])

    def memory() -> dict[str, object]:
        random = np.random.default_rng(2)
        return {
            "c0": np.zeros(batches * m * (n + 128), kind),
            "c1": np.zeros(batches * m * n, np.float32),
            "a": integers(random, batches * counts["batch_a"], stored["a"], 4),
            "b": integers(random, batches * counts["batch_b"], stored["b"], 4),
            "v": integers(random, n * 128, np.float32, 4),
            "r": integers(random, m * n, np.float32),
            "scales": integers(random, n * (k // min(text.tile[2], k) + 2) + n, np.float32, 2),
            "lengths": random.integers(0, n + 1, -(-m // text.tile[0])).astype(np.int32),
            "table": random.integers(0, max(1, n // text.tile[1]), -(-n // text.tile[1])).astype(np.int32),
            "flag": flag,
            **pitches,
            **counts,
            **scalars,
            **constants,
        }

    names = list(memory())
    constant = {*constants, *(scalars if constant_sizes else [])}
    arguments = [f"{name}: tl.constexpr" if name in constant else name for name in names]
    lines = [f"def generated({', '.join(arguments)}):", *text.lines]
    options = {
        "num_warps": text.pick([1, 2, 4, 4] if text.is_plain else [1, 1, 2, 4]),
        "num_stages": text.pick([2, 2, 1, 3, 4, 5]),
    }
    return TextCase("\n".join(lines) + "\n", memory, grid, text.pick(machines), options)
