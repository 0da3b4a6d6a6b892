"""Other names of modules: those of Cambricon's Triton for what is here, and ours for the parts of Triton's language.

Kernels and their hosts for the MLU import the former, ``mlutriton.language.extra.libdevice`` is one of the latter. The
plug-in installs them while Triton itself is being imported, when what they stand for cannot be imported yet.
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


LANGUAGE = "mlutriton.language"


def _own_name(name: str) -> str | None:
    """The name under which a module is to be loaded, if this is another."""
    # Triton's language under our name has its __path__: each part would be loaded again, with builtins of its own.
    if name.startswith(f"{LANGUAGE}.") and sys.modules[LANGUAGE] is sys.modules.get("triton.language"):
        return VENDOR_NAMES.get(name.removeprefix("mlu"), name.removeprefix("mlu"))
    return VENDOR_NAMES.get(name)


class VendorNames(MetaPathFinder, Loader):
    """Finds a module when it is imported under another name than its own."""

    def __init__(self) -> None:
        self._own_specification: ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Says that the module is here, if it has another name of its own."""
        return ModuleSpec(fullname, self) if _own_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, no copy: kernels know builtins by identity."""
        # They need Triton whole; of its language, it has loaded the rest.
        from triton.language import semantic as semantic
        from triton.language.extra import libdevice as libdevice

        import mlutriton.language.mlu  # noqa: F401  # pyright: ignore[reportUnusedImport]
        from mlutriton.backend import compiler as compiler
        from mlutriton.backend import driver as driver

        module = sys.modules.get(_own_name(spec.name) or "")
        if module is None:
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)
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
