"""Stands in for Cambricon's torch extension, which FlagGems' kernels for the MLU import.

FlagGems imports it while it prepares the device, so this is where the device ``mlu`` is named after torch's CPU.
"""

from typing import Any

import torch
from flag_gems.runtime.backend import backend_utils

torch.mlu = torch.cpu

_vendor_information = backend_utils.VendorInfoBase


def _on_the_cpu(**facts: Any) -> Any:
    return _vendor_information(**facts | {"device_name": "cpu", "triton_extra_name": "mlu"})


backend_utils.VendorInfoBase = _on_the_cpu
