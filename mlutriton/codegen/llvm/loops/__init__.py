"""Element-wise instructions as loops: neighbours over the same elements become one, with values in registers."""
