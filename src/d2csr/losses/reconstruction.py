"""Reconstruction losses: how far pictures are from the HR one (Eq. 1 and 9)."""

from collections.abc import Callable
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

ReconstructionName = Literal["mse", "l1", "charbonnier"]
_CHARBONNIER_RANGE = 1e-3  # of LapSRN (arXiv:1704.03915), section 3.3

Difference = Float[Tensor, "*shape"]

DISTANCES: dict[str, Callable[[Difference], Difference]] = {
    "mse": lambda difference: difference.square(),
    "l1": lambda difference: difference.abs(),
    "charbonnier": lambda difference: (difference.square() + _CHARBONNIER_RANGE**2).sqrt(),
}
if tuple(DISTANCES) != get_args(ReconstructionName):
    raise TypeError("ReconstructionName and DISTANCES name different losses")


def predictions_loss(
    predictions: Float[Tensor, "b p 3 sh sw"],
    hr: Float[Tensor, "b 3 sh sw"],
    *,
    name: ReconstructionName,
) -> Float[Tensor, ""]:
    """Return the mean distance to HR, summed over the predictions (Eq. 1)."""
    distance = DISTANCES[name](predictions - hr.unsqueeze(1))
    return distance.mean(dim=(0, 2, 3, 4)).sum()


def sr_loss(
    sr: Float[Tensor, "b 3 sh sw"], hr: Float[Tensor, "b 3 sh sw"], *, name: ReconstructionName
) -> Float[Tensor, ""]:
    """Return the mean distance of the fused picture to HR (Eq. 9)."""
    return DISTANCES[name](sr - hr).mean()
