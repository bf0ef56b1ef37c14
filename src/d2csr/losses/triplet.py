"""The triplet loss, which makes predictions err in different places (Eq. 2 to 6), and its weight.

All ordered pairs are computed at once: with e_i the standardized error map of prediction i, the
distances d(e_i, e_j) = mean((e_i - e_j)^2) are computed for i < j and used for both orders. The
weight is alpha of Eq. 7, a function of the step.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.core.errors import D2csrError

Luma = Literal["y", "mean"]
Statistics = Literal["image", "batch"]

# Y of Rec. ITU-R BT.601 up to gain and offset, which the standardization of Eq. 2 removes
_LUMA = {"y": (0.299, 0.587, 0.114), "mean": (1 / 3, 1 / 3, 1 / 3)}


@dataclass(frozen=True)
class TripletConfig:
    """Settings of the triplet loss; docs/method.md lists those of the paper and the authors' code.

    Attributes:
        margins: one for all pairs, or one per level of the common parent, root first.
        theta: attenuation of Eq. 6, in 0..1.
        luma: Y of YCbCr, or the mean of the channels (the authors' code).
        statistics: over which mean, deviation and distance are taken: each image, or the whole
            batch (the authors' code).
        absolute: take absolute errors (Eq. 3); without it, the checkerboard of Fig. 8 appears.
    """

    margins: tuple[float, ...] = (5e-5, 2e-5)
    theta: float = 0.8
    luma: Luma = "y"
    statistics: Statistics = "image"
    absolute: bool = True

    def __post_init__(self) -> None:
        """Check that the attenuation is in range and no margin is negative."""
        if not 0 < self.theta <= 1 or not self.margins or min(self.margins) < 0:
            problem = f"theta {self.theta} must be in (0, 1], and margins {self.margins} at least 0"
            raise D2csrError("triplet", problem, remedy="Correct the settings of the loss.")


@dataclass(frozen=True)
class Tree:
    """The shape of the tree, whose leaves are numbered left to right."""

    depth: int
    children: int

    @property
    def leaves(self) -> int:
        """Return the number of leaves (P)."""
        return self.children**self.depth

    def common_level(self, first: int, second: int) -> int:
        """Return l of Eq. 6 for two leaves: 1 if only the root is common, depth for siblings."""
        level = self.depth
        while first // self.children != second // self.children:
            first, second, level = first // self.children, second // self.children, level - 1
        return level


def standardize(
    image: Float[Tensor, "b p 3 h w"], *, luma: Luma, statistics: Statistics
) -> Float[Tensor, "b p h w"]:
    """Return luma with mean 0 and deviation 1 (Eq. 2), per image or over the batch.

    The deviation divides by N. That of a flat image is 0: the divisor is at least the smallest
    float, so that the image stays flat and the gradient finite.
    """
    weights = image.new_tensor(_LUMA[luma]).view(3, 1, 1)
    y = (image * weights).sum(dim=2)  # no matrix product: autocast would round it to bf16
    over = (2, 3) if statistics == "image" else (0, 2, 3)
    centred = y - y.mean(over, keepdim=True)
    tiny = torch.finfo(y.dtype).tiny
    return centred / centred.square().mean(over, keepdim=True).clamp(min=tiny).sqrt()


def error_maps(
    predictions: Float[Tensor, "b p 3 h w"],
    hr: Float[Tensor, "b 3 h w"],
    *,
    settings: TripletConfig,
) -> Float[Tensor, "b p h w"]:
    """Return the error map of each prediction, without regard to color and exposure (Eq. 3)."""
    ours, theirs = (
        standardize(images, luma=settings.luma, statistics=settings.statistics)
        for images in (predictions, hr.unsqueeze(1))
    )
    difference = ours - theirs
    return difference.abs() if settings.absolute else difference


def triplet_term(
    predictions: Float[Tensor, "b p 3 h w"],
    hr: Float[Tensor, "b 3 h w"],
    *,
    tree: Tree,
    settings: TripletConfig,
) -> Float[Tensor, ""]:
    """Return T_D of Eq. 5, the mean hinge over all ordered pairs of predictions, unitless, >= 0.

    The positive is the zero map, so d(a, p) of Eq. 4 is the mean square of the anchor's errors.
    With a single leaf there are no pairs, and the loss is 0.
    """
    if tree.leaves < 2:
        return predictions.sum() * 0.0
    errors = error_maps(predictions, hr, settings=settings)
    own = errors.square().mean((2, 3))  # b p
    first, second = zip(*combinations(range(tree.leaves), 2), strict=True)
    apart = torch.stack(
        [
            (errors[:, i] - errors[:, j]).square().mean((1, 2))
            for i, j in zip(first, second, strict=True)
        ],
        dim=1,
    )  # b pairs
    if settings.statistics == "batch":
        own, apart = own.mean(0, keepdim=True), apart.mean(0, keepdim=True)
    levels = [tree.common_level(i, j) for i, j in zip(first, second, strict=True)]
    margin = own.new_tensor([_margin(settings, level) for level in levels])
    beta = own.new_tensor([settings.theta ** (level - 1) for level in levels])
    hinges = [
        (own[:, list(anchor)] - apart + margin).clamp(min=0).mean(0) for anchor in (first, second)
    ]
    ordered_pairs = tree.leaves * (tree.leaves - 1)
    return (beta * (hinges[0] + hinges[1])).sum() / ordered_pairs


def _margin(settings: TripletConfig, level: int) -> float:
    """Return the margin of pairs with the common parent at `level`, 1 being the root."""
    return settings.margins[min(level, len(settings.margins)) - 1]


@dataclass(frozen=True)
class AlphaSchedule:
    """The weight of the triplet loss over the steps of a run.

    Attributes:
        alpha: the weight while it is on, >= 0.
        start: first step at which it is on.
        active: steps for which it is on in every period; None: always.
        period: steps from one start to the next; None: a single period.
        halve_every: steps after which alpha halves; None: never.
    """

    alpha: float = 0.0
    start: int = 0
    active: int | None = None
    period: int | None = None
    halve_every: int | None = None

    def __post_init__(self) -> None:
        """Check that no value is negative, no length below 1, and no period without effect."""
        lengths = [self.active, self.period, self.halve_every]
        if self.alpha < 0 or self.start < 0 or any(n is not None and n < 1 for n in lengths):
            problem = f"{self} has a negative weight or start, or a length below 1"
            raise D2csrError("alpha schedule", problem, remedy="Correct the recipe.")
        if self.period is not None and self.active is None:
            problem = f"period {self.period} without active changes nothing"
            raise D2csrError(
                "alpha schedule", problem, remedy="Give `active` too, or leave out `period`."
            )

    def at(self, step: int) -> float:
        """Return alpha at a step counted from 0."""
        if step < self.start:
            return 0.0
        elapsed = step - self.start
        if self.period is not None:
            elapsed %= self.period
        if self.active is not None and elapsed >= self.active:
            return 0.0
        halvings = 0 if self.halve_every is None else step // self.halve_every
        return self.alpha * 0.5**halvings
