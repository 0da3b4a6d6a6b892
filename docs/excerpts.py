"""What the pages show of a compilation, a run and the package, as text."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import mlutriton as mlu
from mlutriton.isa.trace_format import NO_COMPUTE, unpack
from mlutriton.pipeline import PASSES as PASSES
from mlutriton.simulator.report import Run

__all__ = ["PASSES", "excerpt", "machines", "records", "stage"]

# Where the compiler dumps, from the directory in which a page runs.
DUMPS = "stages"


def stage(kernel: str, name: str) -> str:
    """What the dump option wrote after a stage, without source locations."""
    [path] = Path(DUMPS).glob(f"{kernel}.[0-9][0-9].{name}*")
    text = path.read_text(encoding="utf-8")
    text = re.sub(r" loc\((?:[^()]|\([^()]*\))*\)", "", text)
    kept = (re.sub(r' "[^"]*":\d+:\d+$', "", line) for line in text.splitlines())
    return "\n".join(line for line in kept if line and not line.startswith(("#loc", ".loc")))


def excerpt(text: str, start: str, end: str) -> str:
    """The lines from the first that contains ``start`` to the next that contains ``end``."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if start in line)
    last = next(number for number, line in enumerate(lines) if number >= first and end in line)
    return "\n".join(lines[first : last + 1])


def records(run: Run, most: int) -> str:
    """The first records that the first task of a launch left, one a line."""
    rows = [f"{'kind':8}{'amount':>8}{'scalar':>8}{'compute':>9}{'head':>7}"]
    for record in islice(unpack(run.trace.words), most):
        head = "-" if record.compute_head == NO_COMPUTE else str(record.compute_head)
        rows.append(
            f"{record.kind.name:8}{record.amount:>8}{record.scalar_cycles:>8}{record.compute_cycles:>9}{head:>7}"
        )
    return "\n".join(rows)


def machines() -> str:
    """The presets, one a line."""
    rows = [
        f"{'machine':<11}{'cores':>6}{'MHz':>7}{'NRAM KiB':>10}{'DRAM GB/s':>11}{'int8 TOP/s':>12}{'fp16 TFLOP/s':>14}"
    ]
    for name in mlu.machines():
        machine = mlu.machine(name)
        per_mac = 2 * machine.cores * machine.clock_mhz / 1e6
        half = f"{per_mac * machine.mac_per_cycle_f16:,.0f}" if machine.mac_per_cycle_f16 else "-"
        rows.append(
            f"{name:<11}{machine.cores:>6}{machine.clock_mhz:>7,}{machine.nram_bytes // 1024:>10}"
            f"{machine.dram_gb_per_s:>11,.0f}{per_mac * machine.mac_per_cycle_i8:>12,.0f}{half:>14}"
        )
    return "\n".join(rows)
