"""The simulator: runs programs of the virtual ISA and tells their time. It knows the ISA and nothing of the compiler."""
