"""The engine: bundles run on images, without torch."""

import sys

# OpenVINO imports its model converter where it can, whose first act is a message to a server.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]

from d2csr.engine.engine import Engine, open_engine  # noqa: E402 - after the line above

__all__ = ["Engine", "open_engine"]
