"""Stages: which network learns, and from which loss terms."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.losses.reconstruction import LossTerm, predictions_loss, sr_loss
from d2csr.losses.triplet import Tree, triplet_term
from d2csr.models.d2csr import D2CSR, fuse
from d2csr.training.recipe import LossConfig, StageKind


@dataclass(frozen=True)
class LossInputs:
    """What the loss of one step is computed from."""

    lr: Float[Tensor, "b 3 h w"]
    hr: Float[Tensor, "b 3 sh sw"]
    loss: LossConfig
    alpha: float


def divergence_terms(network: D2CSR, lesson: LossInputs) -> list[LossTerm]:
    """Return Eq. 7: every prediction near HR, and all of them apart."""
    return branch_terms(network, network.divergence(lesson.lr), lesson=lesson, weight=1.0)


def convergence_terms(network: D2CSR, lesson: LossInputs) -> list[LossTerm]:
    """Return Eq. 9, the predictions taken as given."""
    with torch.no_grad():
        predictions = network.divergence(lesson.lr)
    return fusion_terms(network, predictions, lesson=lesson)


def joint_terms(network: D2CSR, lesson: LossInputs) -> list[LossTerm]:
    """Return Eq. 9 through both networks, with Eq. 7 weighed beside it."""
    predictions = network.divergence(lesson.lr)
    branches = branch_terms(network, predictions, lesson=lesson, weight=lesson.loss.branch_weight)
    return fusion_terms(network, predictions, lesson=lesson) + branches


def together_terms(network: D2CSR, lesson: LossInputs) -> list[LossTerm]:
    """Return Eq. 7 for one network and Eq. 9 for the other, as the authors' code steps them."""
    predictions = network.divergence(lesson.lr)
    return branch_terms(network, predictions, lesson=lesson, weight=1.0) + fusion_terms(
        network, predictions.detach(), lesson=lesson
    )


def branch_terms(
    network: D2CSR, predictions: Float[Tensor, "b p 3 sh sw"], *, lesson: LossInputs, weight: float
) -> list[LossTerm]:
    """Return the predictions' distance to HR and, where alpha is on, the triplet term."""
    near = predictions_loss(predictions, lesson.hr, name=lesson.loss.reconstruction)
    terms = [LossTerm("predictions", weight, near)]
    if lesson.alpha and network.config.leaves > 1:
        tree = Tree(network.config.depth, network.config.children)
        settings = lesson.loss.triplet.settings()
        apart = triplet_term(predictions, lesson.hr, tree=tree, settings=settings)
        terms.append(LossTerm("triplet", lesson.alpha, apart))
    return terms


def fusion_terms(
    network: D2CSR, predictions: Float[Tensor, "b p 3 sh sw"], *, lesson: LossInputs
) -> list[LossTerm]:
    """Return the fused image's distance to HR."""
    sr = fuse(predictions, network.convergence(predictions))
    return [LossTerm("sr", 1.0, sr_loss(sr, lesson.hr, name=lesson.loss.reconstruction))]


@dataclass(frozen=True)
class StageSpec:
    """What a kind of stage trains, and how."""

    trained: Callable[[D2CSR], list[nn.Module]]
    terms: Callable[[D2CSR, LossInputs], list[LossTerm]]


STAGE_SPECS: dict[StageKind, StageSpec] = {
    "divergence": StageSpec(lambda network: [network.divergence], divergence_terms),
    "convergence": StageSpec(lambda network: [network.convergence], convergence_terms),
    "joint": StageSpec(lambda network: [network], joint_terms),
    "together": StageSpec(lambda network: [network], together_terms),
}


def trained_parameters(network: D2CSR, kind: StageKind) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that a stage trains, named; all others stop asking for gradients."""
    trained = {id(p) for module in STAGE_SPECS[kind].trained(network) for p in module.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]
