"""The command line: ``mlutriton``."""
