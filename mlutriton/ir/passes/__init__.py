"""The passes over the tile IR. Each is a module with ``run(function)``, which changes the function in place."""
