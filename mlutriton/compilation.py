"""What every stage of a compilation is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlutriton.codegen.generate import generate
from mlutriton.ir.core import Function
from mlutriton.ir.verifier import verify
from mlutriton.isa.machine import Machine
from mlutriton.isa.program import Program

Observer = Callable[[str, Function | Program], None]


@dataclass(frozen=True)
class CompileOptions:
    """What decides a compilation.

    Attributes:
        machine: decides tile sizes, instruction forms and legality.
        num_stages: depth of the software pipeline; 1 for none.
        fuse_multiply_add: an intermediate result that is used once need not be rounded.
        cores: of a cluster that run a program together, where that is possible.
        verifies_stages: the IR is checked after every stage, else where it is made and where code is made from it.
    """

    machine: Machine
    num_stages: int = 2
    fuse_multiply_add: bool = True
    cores: int = 1
    verifies_stages: bool = True

    def verify(self, function: Function, stage: str) -> None:
        """Check a function after a stage, if that is wanted.

        Raises:
            CompileError: E0203, the stage broke it.
        """
        if self.verifies_stages:
            verify(function, stage)


@dataclass(frozen=True)
class Compilation:
    """The compilation of a kernel, of which there may be several versions.

    Attributes:
        options: what decides it.
        metadata: facts for the program file.
        find_accesses: brings a function from as it is written to where its memory accesses are known, in place.
        observe: called with a stage's name and what it made.
    """

    options: CompileOptions
    metadata: Mapping[str, object]
    find_accesses: Callable[[Function], None]
    observe: Observer

    @property
    def machine(self) -> Machine:
        """For which the kernel is compiled."""
        return self.options.machine

    def with_options(self, **changes: Any) -> Compilation:
        """The same with other options."""
        return replace(self, options=replace(self.options, **changes))

    def program(self, function: Function, *, single_buffers: bool = True) -> Program:
        """The program of a function as it stands.

        Args:
            function: whose memory accesses are known.
            single_buffers: give up double buffering if the tiles do not fit with it.

        Raises:
            OnChipMemoryError: E0202, also without double buffering the tiles do not fit.
        """
        stages = max(1, self.options.num_stages)
        return generate(function, self.machine, stages, self.metadata, single_buffers=single_buffers)
