"""Launches with both engines."""

import numpy as np
import pytest


def on_both_engines(launch, *outputs):
    """Launch natively and in the interpreter, which have to agree to the bit and to the cycle."""
    before = [each.copy() for each in outputs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLUTRITON_ENGINE", "native")
        run = launch()
        native = [each.copy() for each in outputs]
        for output, each in zip(outputs, before, strict=True):
            output[...] = each
        patch.setenv("MLUTRITON_ENGINE", "interpreter")
        slow = launch()
    for output, each in zip(outputs, native, strict=True):
        np.testing.assert_array_equal(output, each)
    np.testing.assert_array_equal(run.trace.words, slow.trace.words)
    return run
