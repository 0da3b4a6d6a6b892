"""``mlutriton compile``, ``asm`` and ``disasm``: kernels and assembly to program files, and back to text."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import mlutriton as mlu
from mlutriton.files import write_whole
from mlutriton.isa.assembly import disassemble
from mlutriton.isa.encoding import encode
from mlutriton.isa.legality import check
from mlutriton.kernel_file import load_kernel
from mlutriton.waiting import working

PROGRAM_ENDING = ".mluprog"

Machine = Annotated[str | None, typer.Option(help="Machine: a preset's name or a TOML file; else MLUTRITON_MACHINE.")]


class Stage(Enum):
    """What a kernel is on its way to a program, in the order of the compiler."""

    TTIR = "ttir"
    IR = "ir"
    ASSEMBLY = "s"
    LLVM = "llir"


def compile(
    kernel: Annotated[str, typer.Argument(metavar="FILE.py::KERNEL", help="Kernel to compile.")],
    signature: Annotated[
        str, typer.Option("--signature", "-s", help="What each parameter will be passed, as for triton.tools.compile.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Program file to write; by default KERNEL.mluprog.")
    ] = None,
    stage: Annotated[Stage | None, typer.Option(help="Print this stage instead of writing a program file.")] = None,
    stages: Annotated[Path | None, typer.Option(help="Also write every stage as text into this directory.")] = None,
    num_stages: Annotated[int, typer.Option(min=0, help="Depth of the software pipeline.")] = 2,
    num_warps: Annotated[int, typer.Option(min=1, help="1: a program takes a core; 4: a cluster.")] = 1,
    machine: Machine = None,
) -> None:
    """Compile a kernel to a program file, which runs without Triton, or show what it becomes on the way.

    A signature is a list of types and constants, in order or by name: *fp32:16 is a pointer to a multiple of 16
    bytes, i32 an integer, anything else the value of a tl.constexpr.

    Example: mlutriton compile add.py::add -s "*fp32:16, *fp32:16, *fp32:16, i32, BLOCK=1024" -o add.mluprog
    """
    if machine:
        mlu.set_machine(machine)
    function = load_kernel(kernel)
    try:
        with working(f"compiling {kernel}"):
            compiled: Any = mlu.compile(function, signature, num_stages=num_stages, num_warps=num_warps)
            texts = {each: str(compiled.asm[each.value]) for each in Stage if stages or each is stage}
    except mlu.MluError:
        raise
    except Exception as error:  # what Triton says of a kernel that is none: its text shows the kernel's line
        typer.echo("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]), err=True)
        raise typer.Exit(1) from error
    name = compiled.metadata.name
    if stages:
        stages.mkdir(parents=True, exist_ok=True)
        for each, text in texts.items():
            write_whole(stages / f"{name}.{each.value}", text.encode())
    if stage:
        typer.echo(texts[stage].rstrip("\n"))
    if output or not stage:
        _write_program(output or Path(name + PROGRAM_ENDING), compiled.asm["mluprog"])


def asm(
    source: Annotated[Path, typer.Argument(metavar="FILE.s", help="Assembly text.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Program file; by default FILE.mluprog.")
    ] = None,
    machine: Machine = None,
) -> None:
    """Assemble a text to a program file, and check that it is legal on a machine.

    Example: mlutriton asm add.s -o add.mluprog
    """
    program = mlu.load(source).program
    check(program, mlu.set_machine(machine) if machine else mlu.current_machine())
    _write_program(output or source.with_suffix(PROGRAM_ENDING), encode(program))


def disasm(
    source: Annotated[Path, typer.Argument(metavar="FILE.mluprog", help="Program file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else standard output.")] = None,
) -> None:
    """Show a program file as assembly text, which asm takes back.

    Example: mlutriton disasm add.mluprog -o add.s
    """
    text = disassemble(mlu.load(source).program)
    if output:
        write_whole(output, text.encode())
    else:
        typer.echo(text.rstrip("\n"))


def _write_program(path: Path, content: bytes) -> None:
    write_whole(path, content)
    typer.echo(f"{path}: {len(content):,} bytes", err=True)
