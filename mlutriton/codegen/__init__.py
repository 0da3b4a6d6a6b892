"""Code generation: from the tile IR to programs of the virtual ISA, and from programs to LLVM."""
