"""Benchmarks of the host's speed and of the cycles of compiled kernels: ``python -m benchmarks``, or ``make bench``."""

import os

# Both sides of every comparison get the same threads. BLAS reads its variable once, when NumPy is first imported.
HOST_THREADS = len(os.sched_getaffinity(0))
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MLUTRITON_THREADS"] = str(HOST_THREADS)
# What Triton does by default, said aloud, or it warns at every compilation for CUDA.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
