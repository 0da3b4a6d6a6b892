"""Selection: for each operation of the tile IR the instructions that do it, on buffers without an address yet."""
