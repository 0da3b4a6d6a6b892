"""The passes over the tile IR. Each is a module with ``run(function)``, which changes the function in place.

Those in :mod:`mlutriton.ir.passes.programs` make other programs of a grid's: what they take and return is their own.
"""
