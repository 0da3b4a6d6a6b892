"""From Triton to the compiler: the jit decorator, launch arguments, and the reader of Triton's intermediate text."""
