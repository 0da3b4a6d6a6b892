"""Loops that take several iterations at a time: long bursts of transfers, and many rows to an instruction."""
