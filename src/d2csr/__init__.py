"""Divergence-to-convergence super-resolution of real photographs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2csr.core.errors import D2csrError
    from d2csr.engine.model import Model, Prediction, load
    from d2csr.evaluation.evaluate import evaluate
    from d2csr.training.train import train
    from d2csr.upscale.run import upscale_files

__version__ = "0.1.0"
__all__ = [
    "D2csrError",
    "Model",
    "Prediction",
    "__version__",
    "evaluate",
    "load",
    "train",
    "upscale_files",
]

# Imported when first used, so that `import d2csr` loads neither OpenVINO nor torch.
_MODULES = {
    "D2csrError": "d2csr.core.errors",
    "Model": "d2csr.engine.model",
    "Prediction": "d2csr.engine.model",
    "evaluate": "d2csr.evaluation.evaluate",
    "load": "d2csr.engine.model",
    "train": "d2csr.training.train",
    "upscale_files": "d2csr.upscale.run",
}


def __getattr__(name: str) -> Any:
    """Return a public name from its module (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
