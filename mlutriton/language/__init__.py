"""The language of kernels: ``triton.language`` itself, under the name that kernels of this package import."""

import sys

import triton.language

from mlutriton.language import mlu

# Where kernels look for what a device adds; Triton's own devices stand there too.
sys.modules["triton.language.extra.mlu"] = mlu
sys.modules["triton.language.extra.mlu.libdevice"] = mlu.libdevice
triton.language.extra.mlu = mlu

# Triton recognizes its builtins and its module by identity, and not every name is in its __all__: so this is no copy.
sys.modules[__name__] = triton.language
