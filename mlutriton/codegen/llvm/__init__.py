"""Programs of the virtual ISA as LLVM IR: values at native speed, and the trace from which the replay computes time."""
