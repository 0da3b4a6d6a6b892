"""The tile IR: a small SSA form over tensors with structured control flow. It knows no hardware."""
