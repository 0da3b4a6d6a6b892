"""Kernels generated at random, as text of Triton's language: native code and interpreter must write what NumPy says.

``MLUTRITON_GENERATED=5000 pytest tests/language/test_generated_kernels.py`` draws so many new ones.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton.frontend.block_pointers import install_block_pointers
from tests.language.generated.blocks import block_kernel
from tests.language.generated.extremes import extreme_kernel
from tests.language.generated.fitted import FittedCase
from tests.language.generated.flows import flow
from tests.language.generated.forms import form_kernel
from tests.language.generated.kernels import Case, cases
from tests.language.generated.launches import EXAMPLES, check, examples, faulting, judged
from tests.language.generated.lookups import lookup_kernel
from tests.language.generated.masks import mask_kernel
from tests.language.generated.meetings import meeting_kernel
from tests.language.generated.nests import nest
from tests.language.generated.packed import packed_product
from tests.language.generated.places import place_kernel
from tests.language.generated.products import product
from tests.language.generated.records import record_kernel
from tests.language.generated.rows import row_kernel
from tests.language.generated.tensors import tensor_kernel
from tests.language.generated.texts import TextCase, drawn, seeded
from tests.language.generated.walks import walk

SMALL = cases(
    sizes=[(4, 8), (8, 8), (1, 16), (16, 32), (2, 512)],
    grids=[(3, 1), (2, 2), (1, 1), (37, 1), (5, 20)],
    machines=st.sampled_from(["mlu590-m9", "mlu-tiny"]),
)
# Tensors of 32-bit numbers fill the memory of a core.
LARGE = cases(sizes=[(128, 128), (64, 128), (32, 256)], grids=[(1, 1), (2, 1), (3, 2)], machines=st.just("mlu-tiny"))


@given(case=SMALL)
@examples(80)
def test_kernels_write_what_numpy_says(case: Case) -> None:
    check(case)


@given(case=LARGE)
@examples(25)
def test_kernels_whose_tensors_do_not_fit_write_what_numpy_says(case: Case) -> None:
    check(case)


BOTH = ["mlu590-m9", "mlu-tiny"]
ALL = [*BOTH, "mlu370-x4"]
kernels = seeded if EXAMPLES else drawn


@given(case=kernels(walk, BOTH))
@examples(20)
def test_loops_along_rows_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(nest, ALL))
@examples(8)
def test_loops_within_loops_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(place_kernel, BOTH))
@examples(20)
def test_places_of_many_forms_are_those_that_numpy_says(case: TextCase) -> None:
    judged(case)


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
@given(case=kernels(flow, ALL))
@examples(5)
def test_what_goes_on_by_what_is_loaded_writes_what_numpy_says(case: TextCase) -> None:
    install_block_pointers()
    judged(case)


@pytest.mark.filterwarnings("ignore:tl.make_block_ptr is deprecated")
@given(case=kernels(block_kernel, BOTH))
@examples(20)
def test_block_pointers_reach_what_numpy_says(case: TextCase) -> None:
    install_block_pointers()
    judged(case)


@given(case=kernels(product, BOTH))
@examples(20)
def test_products_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(packed_product, ALL))
@examples(12)
def test_products_with_packed_weights_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(row_kernel, BOTH, [1, 2, 7, 40]))
@examples(25)
def test_rows_of_any_type_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(row_kernel, BOTH, [200, 1000, 3000]))
@examples(5)
def test_rows_of_large_grids_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(record_kernel, BOTH))
@examples(30)
def test_records_of_fields_side_by_side_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(form_kernel, BOTH))
@examples(15)
def test_tiles_of_any_form_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(form_kernel, ["mlu-tiny"], True))
@examples(3)
def test_large_tiles_of_any_form_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(meeting_kernel, BOTH))
@examples(15)
def test_accesses_that_meet_happen_in_the_order_of_the_text(case: TextCase) -> None:
    judged(case)


@given(case=kernels(meeting_kernel, ["mlu370-x4", "mlu-tiny"], (4096, 8192, 16_384)))
@examples(4)
def test_accesses_of_large_tensors_that_meet_happen_in_the_order_of_the_text(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, BOTH))
@examples(20)
def test_tensors_of_many_dimensions_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, BOTH, (16, 64, 512), True))
@examples(15)
def test_tensors_of_any_size_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(tensor_kernel, ["mlu-tiny"], (8192, 16_384), True))
@examples(4)
def test_large_tensors_of_any_size_write_what_numpy_says(case: TextCase) -> None:
    judged(case)


CHOICES = st.integers(0, 1 << 20)


@given(case=kernels(mask_kernel, ALL))
@examples(6)
def test_what_masks_of_any_form_choose_is_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(lookup_kernel, ALL))
@examples(6)
def test_rows_that_are_looked_up_are_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=kernels(extreme_kernel, ALL))
@examples(8)
def test_short_rows_reduce_to_what_numpy_says(case: TextCase) -> None:
    judged(case)


@given(case=st.one_of([kernels(make, ALL) for make in (mask_kernel, lookup_kernel, extreme_kernel)]), choice=CHOICES)
@examples(6)
def test_only_what_is_chosen_has_to_be_there(case: FittedCase, choice: int) -> None:
    faulting(case, choice)
