"""The Triton plug-in: Triton finds ``compiler`` and ``driver`` here through the entry point group ``triton.backends``.

Triton imports both while it is itself being imported, so at their top they import neither ``triton.language`` nor
``triton.runtime``, and nothing of this package that is slow to import.
"""

# Triton must be the first to import the modules of this package: it would find those half made that import it.
import triton as triton
