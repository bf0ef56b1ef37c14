"""The engine: bundles run on images, without torch.

This package imports OpenVINO before any of its modules does, and in a way of its own: the import
would run OpenVINO's model converter, which reports its use to a server.
"""

import importlib
import sys

_CONVERTER = "openvino.tools.ovc"


def _import_openvino() -> None:
    """Import OpenVINO without its model converter, unless a program has imported it already.

    The converter is blocked during this import only. Afterwards `import openvino.tools.ovc` works
    as usual; `openvino.convert_model`, its alias, exists if OpenVINO is imported before d2csr.
    """
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        return
    sys.modules[_CONVERTER] = None  # type: ignore[assignment] # makes importing it an ImportError
    try:
        importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]


_import_openvino()

from d2csr.engine.engine import Engine, open_engine  # noqa: E402 - after OpenVINO

__all__ = ["Engine", "open_engine"]
