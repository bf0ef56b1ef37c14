"""Sums of weighted loss terms that refuse a term no gradient can reach (Eq. 7)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One addend of a loss."""

    name: str
    weight: float
    value: Float[Tensor, ""]


def total(terms: list[Term]) -> Float[Tensor, ""]:
    """Return the weighted sum of the terms; terms of weight 0 are left out.

    Raises:
        RuntimeError: a term of non-zero weight carries no gradient: it would train nothing, as the
            triplet term of the authors' code does (turned into a number before it is added).
        ValueError: no term has a weight.
    """
    counted = [term for term in terms if term.weight != 0]
    if not counted:
        raise ValueError("no loss term has a weight")
    for term in counted:
        if not term.value.requires_grad:
            raise RuntimeError(f"loss term {term.name} is detached: it would train nothing")
    return sum(
        (term.weight * term.value for term in counted[1:]), counted[0].weight * counted[0].value
    )
