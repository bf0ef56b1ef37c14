"""The stages of training: the network that each kind trains, and its loss terms."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.losses.reconstruction import LossTerm, predictions_loss, sr_loss, winner_takes_all_loss
from d2csr.losses.triplet import Tree, triplet_term
from d2csr.models.d2csr import D2CSR, fuse
from d2csr.training.recipe import LossConfig, StageKind


@dataclass(frozen=True)
class LossInputs:
    """The inputs of one step's loss."""

    lr: Float[Tensor, "b 3 h w"]
    hr: Float[Tensor, "b 3 sh sw"]
    loss: LossConfig
    alpha: float


def divergence_terms(network: D2CSR, inputs: LossInputs) -> list[LossTerm]:
    """Return the terms of Eq. 7, or that of winner-takes-all, as the recipe chooses."""
    return branch_terms(network, network.divergence(inputs.lr), inputs=inputs, weight=1.0)


def convergence_terms(network: D2CSR, inputs: LossInputs) -> list[LossTerm]:
    """Return the term of Eq. 9, with no gradient through the predictions."""
    with torch.no_grad():
        predictions = network.divergence(inputs.lr)
    return fusion_terms(network, predictions, inputs=inputs)


def joint_terms(network: D2CSR, inputs: LossInputs) -> list[LossTerm]:
    """Return the terms of Eq. 9 through both networks, and those of Eq. 7 by `branch_weight`."""
    predictions = network.divergence(inputs.lr)
    branches = branch_terms(network, predictions, inputs=inputs, weight=inputs.loss.branch_weight)
    return fusion_terms(network, predictions, inputs=inputs) + branches


def together_terms(network: D2CSR, inputs: LossInputs) -> list[LossTerm]:
    """Return the terms of Eq. 7 for one network and of Eq. 9 for the other (the authors' code)."""
    predictions = network.divergence(inputs.lr)
    return branch_terms(network, predictions, inputs=inputs, weight=1.0) + fusion_terms(
        network, predictions.detach(), inputs=inputs
    )


def branch_terms(
    network: D2CSR, predictions: Float[Tensor, "b p 3 sh sw"], *, inputs: LossInputs, weight: float
) -> list[LossTerm]:
    """Return the predictions' distance to HR, and the triplet term unless its weight is 0."""
    name = inputs.loss.reconstruction
    if inputs.loss.divergence == "wta":
        value = winner_takes_all_loss(predictions, inputs.hr, name=name, settings=inputs.loss.wta)
        return [LossTerm("winner_takes_all", weight, value)]
    near = predictions_loss(predictions, inputs.hr, name=name)
    terms = [LossTerm("predictions", weight, near)]
    if inputs.alpha and network.config.leaves > 1:
        tree = Tree(network.config.depth, network.config.children)
        apart = triplet_term(predictions, inputs.hr, tree=tree, settings=inputs.loss.triplet)
        terms.append(LossTerm("triplet", inputs.alpha, apart))
    return terms


def fusion_terms(
    network: D2CSR, predictions: Float[Tensor, "b p 3 sh sw"], *, inputs: LossInputs
) -> list[LossTerm]:
    """Return the term of the fused image's distance to HR."""
    sr = fuse(predictions, network.convergence(predictions))
    return [LossTerm("sr", 1.0, sr_loss(sr, inputs.hr, name=inputs.loss.reconstruction))]


@dataclass(frozen=True)
class StageSpec:
    """A kind of stage: the modules it trains, and its loss terms."""

    trained: Callable[[D2CSR], list[nn.Module]]
    terms: Callable[[D2CSR, LossInputs], list[LossTerm]]


STAGE_SPECS: dict[StageKind, StageSpec] = {
    "divergence": StageSpec(lambda network: [network.divergence], divergence_terms),
    "convergence": StageSpec(lambda network: [network.convergence], convergence_terms),
    "joint": StageSpec(lambda network: [network], joint_terms),
    "together": StageSpec(lambda network: [network], together_terms),
}


def trained_parameters(network: D2CSR, kind: StageKind) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that a stage trains, by name; gradients of all others are off."""
    trained = {id(p) for module in STAGE_SPECS[kind].trained(network) for p in module.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]
