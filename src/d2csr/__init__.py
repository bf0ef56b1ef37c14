"""Divergence-to-convergence super-resolution of real photographs."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d2csr.engine.model import Model

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(name_or_folder: str | Path) -> "Model":
    """Return the model of that name, or of that bundle or run folder, ready to enlarge.

    Raises:
        ModelNameError: neither a shipped model nor a folder that holds one.
    """
    from d2csr.engine.model import load as load_model  # keeps `import d2csr` free of OpenVINO

    return load_model(name_or_folder)
