"""The simulator: runs programs of the virtual ISA and tells their time. It knows nothing of the compiler."""
