"""The stages of training: the network that each kind trains, and its loss terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from d2csr.losses.adversarial import VggFeatures, discriminator_losses, generator_terms
from d2csr.losses.likelihood import likelihood_loss
from d2csr.losses.reconstruction import LossTerm, predictions_loss, sr_loss, winner_takes_all_loss
from d2csr.losses.systems import LOSSES
from d2csr.losses.triplet import Tree, triplet_term
from d2csr.models.d2csr import D2CSR, fuse
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.networks.rrdb import Discriminator
from d2csr.models.networks.srflow import SRFlow
from d2csr.models.systems import SYSTEMS, describe_network
from d2csr.training.model_config import StageKind
from d2csr.training.recipe import LossConfig


@dataclass(frozen=True)
class Adversary:
    """The judge of an adversarial stage.

    Attributes:
        discriminator: trained beside the network, by the same optimizer.
        features: of the perceptual term, which aren't trained; None leaves it out.
    """

    discriminator: Discriminator
    features: VggFeatures | None


@dataclass(frozen=True)
class LossInputs:
    """The inputs of one step's loss.

    Attributes:
        lr: RGB in 0..1.
        hr: the same.
        loss: the recipe's section.
        alpha: weight of the triplet term at this step.
        progress: share of the stage's steps that are done, 0..1.
        noise_seed: of random numbers in the loss.
        adversary: of an adversarial stage.
    """

    lr: Float[Tensor, "b 3 h w"]
    hr: Float[Tensor, "b 3 sh sw"]
    loss: LossConfig
    alpha: float = 0.0
    progress: float = 0.0
    noise_seed: int = 0
    adversary: Adversary | None = None


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


def network_terms(network: SystemNetwork, inputs: LossInputs) -> list[LossTerm]:
    """Return the distance to HR that the recipe chooses: the paper's, or a plain one of the SR."""
    name = inputs.loss.system
    if isinstance(network, SRFlow):
        name, sr = "l1" if name == "own" else name, network.encoder_sr(inputs.lr)
        return [LossTerm("sr", 1.0, sr_loss(sr, inputs.hr, name=name))]
    if name != "own":
        return [LossTerm("sr", 1.0, sr_loss(network(inputs.lr), inputs.hr, name=name))]
    own = SYSTEMS[describe_network(network).system].loss
    loss = LOSSES.get(own, LOSSES["l1"])  # of ESRGAN's network before its adversarial stage
    outputs, target = network.training_outputs(inputs.lr), network.training_target(inputs.hr)
    return [LossTerm("sr", 1.0, loss(outputs, target, progress=inputs.progress))]


def adversarial_terms(network: SystemNetwork, inputs: LossInputs) -> list[LossTerm]:
    """Return the terms of ESRGAN's generator, and those of its discriminator.

    The generator's have no gradient in the discriminator, whose own have none in the generator: one
    backward pass and one optimizer train both.
    """
    adversary = inputs.adversary
    if adversary is None:
        raise ValueError("an adversarial stage needs its adversary")
    discriminator = adversary.discriminator
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    sr = network(inputs.lr)
    terms = generator_terms(
        sr,
        inputs.hr,
        logits=(
            functional_call(discriminator, frozen, (inputs.hr,)),
            functional_call(discriminator, frozen, (sr,)),
        ),
        features=adversary.features,
        config=inputs.loss.adversarial,
    )
    halves = discriminator_losses(discriminator(inputs.hr), discriminator(sr.detach()))
    names = ("discriminator_hr", "discriminator_sr")
    return terms + [LossTerm(name, 1.0, half) for name, half in zip(names, halves, strict=True)]


def likelihood_terms(network: SRFlow, inputs: LossInputs) -> list[LossTerm]:
    """Return the negative log-likelihood of HR in bits per pixel (SRFlow's Eq. 3)."""
    settings = inputs.loss.likelihood
    with torch.set_grad_enabled(inputs.progress >= settings.frozen_encoder):
        conditions = network.training_outputs(inputs.lr)
    bits = likelihood_loss(
        lambda hr: network.encode(hr, conditions),
        network.training_target(inputs.hr),
        noise_levels=settings.noise_levels,
        generator=torch.Generator().manual_seed(inputs.noise_seed),
    )
    return [LossTerm("bits_per_pixel", 1.0, bits)]


def initialize_flow(network: SRFlow, inputs: LossInputs) -> None:
    """Set the normalizations of a new flow from the first batch; a trained one stays as it is."""
    if not network.is_initialized:
        network.initialize(inputs.lr, inputs.hr)


@dataclass(frozen=True)
class StageSpec:
    """A kind of stage.

    Attributes:
        trained: the modules of the network that it trains.
        terms: its loss terms.
        prepare: called with the network and the first step's inputs, before that step.
    """

    trained: Callable[[Any], list[nn.Module]]
    terms: Callable[[Any, LossInputs], list[LossTerm]]
    prepare: Callable[[Any, LossInputs], None] = lambda network, inputs: None


STAGE_SPECS: dict[StageKind, StageSpec] = {
    "divergence": StageSpec(lambda network: [network.divergence], divergence_terms),
    "convergence": StageSpec(lambda network: [network.convergence], convergence_terms),
    "joint": StageSpec(lambda network: [network], joint_terms),
    "together": StageSpec(lambda network: [network], together_terms),
    "network": StageSpec(lambda network: [network], network_terms),
    "adversarial": StageSpec(lambda network: [network], adversarial_terms),
    "likelihood": StageSpec(
        lambda network: [network],
        likelihood_terms,
        initialize_flow,
    ),
}


def trained_parameters(
    network: D2CSR | SystemNetwork, kind: StageKind
) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that a stage trains, by name; gradients of all others are off.

    What a system's network fixes, as EDSR's mean, stays fixed: all its stages train the same.
    """
    trained = {id(p) for module in STAGE_SPECS[kind].trained(network) for p in module.parameters()}
    if isinstance(network, SystemNetwork):
        trained -= {id(p) for p in network.parameters() if not p.requires_grad}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]
