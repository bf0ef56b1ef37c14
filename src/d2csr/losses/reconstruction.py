"""Reconstruction losses (Eq. 1 and 9), and the weighted sum of all loss terms (Eq. 7)."""

from collections.abc import Callable
from dataclasses import dataclass
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
