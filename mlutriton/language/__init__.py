"""The language of kernels: ``triton.language`` itself, under the name that kernels of this package import."""

import sys

import triton.language

from mlutriton.language import cambricon, mlu

# Where kernels look for what a device adds, and see it without an import of their own; Triton's devices are there too.
triton.language.extra.mlu = mlu
for name in ("empty", "masked_select"):
    setattr(triton.language, name, getattr(cambricon, name))

# Triton recognizes its builtins and its module by identity, and not every name is in its __all__: so this is no copy.
sys.modules[__name__] = triton.language
