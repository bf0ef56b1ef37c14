"""Named configurations: the paper's network and the smaller ones of its Fig. 4."""

from typing import Any

from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"channels": 64, "groups": 2, "blocks": 4},
    "paper-4.53m": {"channels": 64, "groups": 4, "blocks": 1},
    "paper-3.63m": {"channels": 60, "groups": 1, "blocks": 5},
    "paper-0.91m": {"channels": 24, "groups": 4, "blocks": 2},
    "paper-0.23m": {"channels": 16, "groups": 1, "blocks": 2},
    "paper-0.19m": {"channels": 16, "groups": 1, "blocks": 2, "convergence_channels": 32},
}


def preset(name: str, scale: int) -> ModelConfig:
    """Return the configuration of a named network at a scale.

    The paper gives the sizes of Fig. 4 (5.88M, 4.53M, 3.63M, 0.91M, 0.23M, 0.19M, at x4) but not
    their G and B; these come within 3% of them, but `paper`, whose 5.77M are the authors' code's.

    Raises:
        D2csrError: no such name; those that exist are listed.
    """
    if name not in PRESETS:
        remedy = f"Choose one of {', '.join(PRESETS)}."
        raise D2csrError("model.preset", f"no preset is named {name!r}", remedy=remedy)
    return ModelConfig(scale=scale, **PRESETS[name])
