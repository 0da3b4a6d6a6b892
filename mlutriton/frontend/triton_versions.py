"""What the releases of Triton that are supported do differently, as far as the package has to know.

Forms of text that only some releases print are not here: the one parser reads them all.
"""

from __future__ import annotations

import triton

RELEASE: tuple[int, ...] = tuple(int(part) for part in triton.__version__.split(".")[:2])
"""Major and minor number of the installed Triton."""

HAS_BLOCK_POINTERS = RELEASE < (3, 9)
"""``tl.make_block_ptr`` and ``tl.advance``: operations of TTIR up to 3.7, written in Python in 3.8."""

PLACES_OPERATIONS_ROUGHLY = RELEASE < (3, 8)
"""The code generator forgets where an expression is when it has visited the parts of it, and counts columns from 0."""
