"""Kernels and machines generated at random: what a kernel writes does not depend on what it runs on.

``MLUTRITON_GENERATED=5000 pytest tests/language/test_generated_machines.py`` draws so many new ones.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.diagnostics import MluError
from mlutriton.frontend.block_pointers import install_block_pointers
from mlutriton.isa.machine import Machine
from tests.kernels.smallest import EXAMPLES as WRITTEN
from tests.kernels.smallest import smallest
from tests.language.generated.blocks import block_kernel
from tests.language.generated.extremes import extreme_kernel
from tests.language.generated.flows import flow
from tests.language.generated.forms import form_kernel
from tests.language.generated.kernels import Case, cases
from tests.language.generated.launches import EXAMPLES, check, examples, judged, running_on
from tests.language.generated.lookups import lookup_kernel
from tests.language.generated.machines import machine_of, machines
from tests.language.generated.masks import mask_kernel
from tests.language.generated.meetings import meeting_kernel
from tests.language.generated.nests import nest
from tests.language.generated.places import place_kernel
from tests.language.generated.products import product
from tests.language.generated.records import record_kernel
from tests.language.generated.relaunches import launched_again
from tests.language.generated.rows import row_kernel
from tests.language.generated.tensors import tensor_kernel
from tests.language.generated.texts import Between, TextCase, drawn, seeded
from tests.language.generated.walks import walk

GENERATORS: list[tuple[Callable[..., TextCase], tuple[object, ...]]] = [
    (walk, ()),
    (nest, ()),
    (flow, ()),
    (place_kernel, ()),
    (block_kernel, ()),
    (product, ()),
    (row_kernel, ([1, 7, 40, 200],)),
    (form_kernel, ()),
    (record_kernel, ()),
    (mask_kernel, ()),
    (lookup_kernel, ()),
    (extreme_kernel, ()),
    (meeting_kernel, ()),
    (tensor_kernel, ()),
    (tensor_kernel, ((16, 64, 512), True)),
]
THREADS = (1, 2, 7)


def kernel_on_a_machine(between: Between) -> TextCase:
    """A case of one of the generators, on a machine of its own."""
    make, details = GENERATORS[between(0, len(GENERATORS) - 1)]
    return make(between, [machine_of(between)], *details)


@contextmanager
def refused_where_it_must_be(machine: str | Machine) -> Generator[None]:
    """Lets pass what says what a machine lacks: room for the tiles of a kernel, or a type of them."""
    try:
        yield
    except MluError as error:
        assert isinstance(machine, Machine)
        lacks_type = not machine.has_bf16 and error.code == "E0201" and "does not have bf16" in error.summary
        if error.code != "E0202" and not lacks_type:
            raise


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
@given(case=(seeded if EXAMPLES else drawn)(kernel_on_a_machine))
@examples(25)
def test_kernels_write_the_same_on_every_machine(case: TextCase) -> None:
    install_block_pointers()
    with refused_where_it_must_be(case.machine):
        judged(case, THREADS)


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
@given(case=(seeded if EXAMPLES else drawn)(kernel_on_a_machine), seed=st.integers(0, 1 << 30))
@examples(12)
def test_kernels_that_are_launched_again_find_other_arrays(case: TextCase, seed: int) -> None:
    install_block_pointers()
    with refused_where_it_must_be(case.machine):
        launched_again(case, seed)


@given(
    case=cases(
        sizes=[(4, 8), (1, 16), (16, 32), (2, 512), (64, 64)],
        grids=[(3, 1), (2, 2), (37, 1)],
        machines=machines,
    )
)
@examples(8)
def test_statements_do_the_same_on_every_machine(case: Case) -> None:
    with refused_where_it_must_be(case.machine):
        check(case, THREADS)


@given(name=st.sampled_from(sorted(WRITTEN)), machine=machines)
@examples(10)
def test_examples_are_right_on_every_machine(name: str, machine: Machine) -> None:
    cycles = set[int]()
    for threads in THREADS:
        with running_on("native", machine, threads), refused_where_it_must_be(machine):
            cycles.add(smallest(name).check().run.cycles)
    assert len(cycles) <= 1
