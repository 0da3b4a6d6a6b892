"""Instructions that are not element-wise, as functions over pointers: one for each element type in use."""
