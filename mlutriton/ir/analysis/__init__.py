"""Analyses of the tile IR: pure functions; nothing is cached on the IR."""
