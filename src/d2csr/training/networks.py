"""The networks that a recipe can name: built, initialized, saved, compiled and exported."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console

from d2csr.checkpoint.io import options_json
from d2csr.checkpoint.systems import load_network, system_options_json
from d2csr.core.bundle import Bundle, ModelMetadata
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, first_line
from d2csr.export.bundle_writer import export_bundle
from d2csr.export.system_bundle import write_system_bundle
from d2csr.losses.adversarial import VggFeatures
from d2csr.models.d2csr import D2CSR, GROWABLE, D2CSROutput, grow
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.networks.rrdb import Discriminator
from d2csr.models.systems import SystemModel, describe_network
from d2csr.training.recipe import Recipe, expand_path, find_initial_weights
from d2csr.training.stages import Adversary

Network = D2CSR | SystemNetwork

_DISCRIMINATOR_LEVELS = 5  # halvings, of 128 px in the paper
_SMALLEST_PX = 4  # side of the discriminator's last features, as in the paper


def build_network(model: ModelConfig | SystemModel) -> Network:
    """Return a network with random weights."""
    return model.build() if isinstance(model, SystemModel) else D2CSR(model)


def weights_options(network: Network) -> str:
    """Return the JSON object that goes into the metadata of a network's files."""
    if isinstance(network, D2CSR):
        return options_json(network.config)
    return system_options_json(network)


def predict(network: Network, lr01: torch.Tensor) -> D2CSROutput:
    """Return the output for LR images; SR alone is the only prediction of a compared system."""
    if isinstance(network, D2CSR):
        return network(lr01)
    sr = network(lr01)
    return D2CSROutput(sr, sr.unsqueeze(1), torch.ones_like(sr[:, :1]))


def export_network(
    network: Network,
    folder: Path,
    *,
    metadata: ModelMetadata,
    verify_on: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> Bundle:
    """Write the bundle of a network, verified on LR images, and return it."""
    if isinstance(network, D2CSR):
        return export_bundle(network, folder, metadata=metadata, verify_on=verify_on)
    return write_system_bundle(network, folder, metadata=metadata, verify_on=verify_on)


def initial_network(recipe: Recipe) -> Network:
    """Return the network at step 0: random by the seed, or the weights that the recipe names.

    Raises:
        CheckpointError: these weights are of another network.
    """
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.model)
    if recipe.initial_weights is not None:
        path = find_initial_weights(recipe.initial_weights)
        _take_weights(network, load_network(path), recipe=recipe, path=path)
    return network.train()


def _take_weights(network: Network, given: Network, *, recipe: Recipe, path: Path) -> None:
    """Copy or grow the given weights into a network.

    Raises:
        CheckpointError: they are of another network.
    """
    remedy = "Name the same model in the recipe."
    if isinstance(network, SystemNetwork) or isinstance(given, SystemNetwork):
        own, other = _describe(network), _describe(given)
        if own == other:
            network.load_state_dict(given.state_dict())
            return
        raise CheckpointError(path, f"is another network: {other}, not {own}", remedy=remedy)
    # the window holds no weights, and a finished model has the one it is used with
    config = replace(given.config, pooling_px=network.config.pooling_px)
    if config == network.config:
        network.load_state_dict(given.state_dict())
    elif recipe.grow_initial_weights and _can_grow(config, network.config):
        grow(network, given)
    else:
        problem = f"is another network: {_describe_differences(config, network.config)}"
        if recipe.grow_initial_weights:
            remedy = f"Only the scale may differ, and {', '.join(GROWABLE)} may be larger."
        raise CheckpointError(path, problem, remedy=remedy)


def _describe(network: Network) -> str:
    """Return a network's name, scale and sizes."""
    if isinstance(network, D2CSR):
        return f"d2csr at x{network.scale}"
    model = describe_network(network)
    sizes = ", ".join(f"{name} {value}" for name, value in model.sizes.items())
    return f"{model.system} at x{model.scale} ({sizes})"


def _can_grow(smaller: ModelConfig, larger: ModelConfig) -> bool:
    """Return whether a network is another one with added channels, groups or blocks."""
    sizes = {name: getattr(larger, name) for name in GROWABLE}
    is_larger = all(size >= getattr(smaller, name) for name, size in sizes.items())
    return is_larger and replace(smaller, scale=larger.scale, **sizes) == larger


def _describe_differences(found: ModelConfig, expected: ModelConfig) -> str:
    one, other = found.to_dict(), expected.to_dict()
    return ", ".join(f"{k} {one[k]} for {other[k]}" for k in one if one[k] != other[k])


def make_adversary(recipe: Recipe, device: torch.device) -> Adversary:
    """Return the judge of an adversarial stage: its weights random by the seed.

    Raises:
        CheckpointError: the recipe names VGG19 weights that aren't there.
    """
    settings = recipe.loss.adversarial
    side = recipe.data.patch_px * recipe.model.scale
    levels = min(_DISCRIMINATOR_LEVELS, (side // _SMALLEST_PX).bit_length() - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        discriminator = Discriminator(
            features=settings.discriminator_features, levels=levels, input_px=side
        )
    features = None
    if settings.vgg_file is not None and settings.perceptual:
        features = VggFeatures.from_file(expand_path(settings.vgg_file)).to(device)
    return Adversary(discriminator.to(device).train(), features)


def compile_network(network: Network, *, device: torch.device, console: Console) -> None:
    """Compile a network's parts at their first step, or print why this machine can't."""
    if problem := _find_compiler_problem(device):
        console.print(
            f"compile: true has no effect here ({problem}); training continues uncompiled. It "
            "needs a C++ compiler; on Debian install g++.",
            soft_wrap=True,
            markup=False,
        )
        return
    if isinstance(network, D2CSR):
        network.divergence.compile()
        network.convergence.compile()
    else:  # what a stage calls of it differs
        for name in ("native", "native_outputs"):
            setattr(network, name, torch.compile(getattr(network, name)))


def _find_compiler_problem(device: torch.device) -> str | None:
    """Return the error of compiling the smallest program, or None; seconds once, then cached."""
    double = torch.compile(lambda value: value * 2)
    try:
        double(torch.ones(8, device=device))
    except RuntimeError as error:  # of any step: tracing, code, compiler, loading
        return first_line(error)
    return None
