"""Reconstruction losses (Eq. 1 and 9), and the weighted sum of all loss terms (Eq. 7).

The relaxed winner-takes-all loss is a reconstruction loss that isn't in the paper. HR is cut into
square patches; in each, the prediction nearest to HR gets most of the weight, so that predictions
can specialize on different content instead of all regressing to the mean. Source: multiple choice
learning (Guzman-Rivera et al., NeurIPS 2012), relaxed as in Rupprecht et al., ICCV 2017
(arXiv:1612.00197), so that a prediction that never wins is trained too.
Shapes: b images, p predictions, sh x sw SR pixels, ph x pw patches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from d2csr.core.errors import D2csrError

ReconstructionName = Literal["mse", "l1", "charbonnier"]
_CHARBONNIER_RANGE = 1e-3  # of LapSRN (arXiv:1704.03915), section 3.3
_MAX_EPSILON = 0.5  # from here on, the others together would weigh more than the winner

Difference = Float[Tensor, "*shape"]

DISTANCES: dict[str, Callable[[Difference], Difference]] = {
    "mse": lambda difference: difference.square(),
    "l1": lambda difference: difference.abs(),
    "charbonnier": lambda difference: (difference.square() + _CHARBONNIER_RANGE**2).sqrt(),
}
if tuple(DISTANCES) != get_args(ReconstructionName):
    raise TypeError("ReconstructionName and DISTANCES have different names")


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
    """Return the mean distance of the fused image to HR (Eq. 9)."""
    return DISTANCES[name](sr - hr).mean()


@dataclass(frozen=True)
class WtaConfig:
    """Settings of the winner-takes-all loss.

    Attributes:
        epsilon: weight that all predictions but the winner share, 0..0.5; with 0, a prediction
            learns only where it wins.
        patch_px: side of a patch in SR pixels, counted from the crop's upper left corner.
    """

    epsilon: float = 0.05
    patch_px: int = 16

    def __post_init__(self) -> None:
        """Check that the weight and the size are in range."""
        problem = None
        if not 0 <= self.epsilon <= _MAX_EPSILON:
            problem = f"epsilon {self.epsilon} is not in 0..{_MAX_EPSILON}"
        elif self.patch_px < 1:
            problem = f"patch_px {self.patch_px} is not at least 1"
        if problem is not None:
            raise D2csrError("wta", problem, remedy="Correct the settings of the loss.")


def patch_winners(distance: Float[Tensor, "b p sh sw"], *, patch_px: int) -> Int[Tensor, "b ph pw"]:
    """Return the index of the nearest prediction in each patch; the first of equally near ones.

    Patches that the right or lower edge cuts off are judged by the pixels they have.
    """
    means = F.avg_pool2d(distance.detach(), patch_px, ceil_mode=True)
    return means.argmin(dim=1)


def winner_takes_all_loss(
    predictions: Float[Tensor, "b p 3 sh sw"],
    hr: Float[Tensor, "b 3 sh sw"],
    *,
    name: ReconstructionName,
    settings: WtaConfig,
) -> Float[Tensor, ""]:
    """Return the weighted distance to HR, times the number of predictions.

    In each patch the winner weighs `1 - epsilon`, each other prediction `epsilon / (p - 1)`. Times
    p, equal weights give the sum over the predictions that `predictions_loss` (Eq. 1) returns, so
    learning rates and the norm at which gradients are clipped stay comparable.
    """
    distance = DISTANCES[name](predictions - hr.unsqueeze(1)).mean(dim=2)
    leaves, height, width = distance.shape[1:]
    if leaves == 1:
        return distance.mean()
    winners = patch_winners(distance, patch_px=settings.patch_px)
    is_winner = F.one_hot(winners, leaves).movedim(-1, 1).to(distance.dtype)
    other = settings.epsilon / (leaves - 1)
    weights = other + (1 - settings.epsilon - other) * is_winner
    weights = _to_pixels(weights, settings.patch_px)[:, :, :height, :width]
    return leaves * (weights * distance).sum(dim=1).mean()


def _to_pixels(patches: Float[Tensor, "b p ph pw"], patch_px: int) -> Float[Tensor, "b p h w"]:
    """Return the value of its patch at every pixel."""
    rows = torch.repeat_interleave(patches, patch_px, dim=2)
    return torch.repeat_interleave(rows, patch_px, dim=3)


@dataclass(frozen=True)
class LossTerm:
    """One addend of a loss."""

    name: str
    weight: float
    value: Float[Tensor, ""]


def weighted_sum(terms: list[LossTerm]) -> Float[Tensor, ""]:
    """Return the weighted sum of the terms; terms of weight 0 are left out.

    Raises:
        RuntimeError: a term of non-zero weight has no gradient, so it would train nothing, like
            the triplet term of the authors' code (converted to a number before it is added).
        ValueError: all weights are 0.
    """
    weighted = [(term.name, term.weight, term.value) for term in terms if term.weight != 0]
    if not weighted:
        raise ValueError("all loss terms have the weight 0")
    for name, _, value in weighted:
        if not value.requires_grad:
            raise RuntimeError(f"loss term {name} is detached: it would train nothing")
    first, *others = [weight * value for _, weight, value in weighted]
    return sum(others, first)
