"""The virtual MLU instruction set: table, programs, text and binary forms, legality and the machine model.

This package knows neither the compiler nor the simulator; it is the contract between them.
"""
