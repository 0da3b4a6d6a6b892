"""Pipelining: what of loops and of the programs of a task runs at the same time, and how much at once."""
