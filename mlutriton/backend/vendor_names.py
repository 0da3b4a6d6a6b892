"""Names under which Cambricon's Triton has what is here: kernels and their hosts for the MLU import them.

The plug-in installs them while Triton itself is being imported, when what they stand for cannot be imported yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

VENDOR_NAMES = {
    "triton.backends.mlu": "mlutriton.backend",
    "triton.backends.mlu.compiler": "mlutriton.backend.compiler",
    "triton.backends.mlu.driver": "mlutriton.backend.driver",
    "triton.language.extra.mlu": "mlutriton.language.mlu",
    "triton.language.extra.mlu.libdevice": "mlutriton.language.mlu.libdevice",
}


class VendorNames(MetaPathFinder, Loader):
    """Finds a module of this package when it is imported under its vendor's name."""

    def __init__(self) -> None:
        self._own_specification: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Says that the module is here, if it is one of ``VENDOR_NAMES``."""
        return ModuleSpec(fullname, self) if fullname in VENDOR_NAMES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, no copy: kernels know builtins by identity."""
        # They need Triton whole.
        import mlutriton.language.mlu  # noqa: F401  # pyright: ignore[reportUnusedImport]
        from mlutriton.backend import compiler as compiler
        from mlutriton.backend import driver as driver

        module = sys.modules[VENDOR_NAMES[spec.name]]
        self._own_specification = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own specification back, which the import system has just replaced."""
        module.__spec__ = self._own_specification


def install_vendor_names() -> None:
    """Lets every later import find the names.

    First of all, because the finder of files would make second copies of the modules inside an aliased package.
    """
    if not any(isinstance(finder, VendorNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, VendorNames())
