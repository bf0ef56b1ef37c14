"""The graphs behind the trunk: tails, convergence network and weighted sum, all short-sighted."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.core.bundle import Reach
from d2csr.core.config import ModelConfig
from d2csr.export.graph import GraphBuilder
from d2csr.models.base import RGB_MEAN, BicubicBase
from d2csr.models.d2csr import D2CSR
from d2csr.models.tail import CENTRE

_TAIL_LR_PX = 2  # a 5x5 convolution
_FUSION_SR_PX = 3  # three 3x3 convolutions
_STRIP_LR_PX, _KEPT_LR_PX = 4, 1  # the authors' border disturbs less than one LR pixel


def write_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions, weights, sr, all tails being one convolution."""
    builder = _tail_builder(network)
    predictions = _predictions(builder, network)
    weights, sr = _fused(builder, predictions, config=network.config)
    builder.write(path, {predictions: "predictions", weights: "weights", sr: "sr"})


def write_inner_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions, right but for the outer LR pixel (`tail_border: each`)."""
    builder = _tail_builder(network)
    builder.write(path, {_predictions(builder, network): "predictions"})


def write_frame_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions by the expanded tails, each stage zero-padded."""
    builder, config = _tail_builder(network), network.config
    base = _base(builder, config)
    enlarged = None if base is None else builder.shuffle(base, config.scale)
    pictures = []
    for leaf, features in enumerate(builder.parts("features", config.leaves)):
        picture = _expanded(builder, features, leaf=leaf, network=network)
        pictures.append(picture if enlarged is None else builder.add("Add", [picture, enlarged]))
    joined = builder.add("Concat", pictures, attributes={"axis": 1})
    builder.write(path, {joined: "predictions"})


def write_fusion(network: D2CSR, path: Path) -> None:
    """Write predictions -> weights, sr."""
    inputs = {"predictions": 3 * network.config.leaves}
    builder = GraphBuilder("fusion", inputs, weights=network.state_dict())
    weights, sr = _fused(builder, "predictions", config=network.config)
    builder.write(path, {weights: "weights", sr: "sr"})


def reach(config: ModelConfig) -> Reach:
    """Return how far the graphs of a configuration look."""
    framed = config.tail_border == "each"
    return Reach(
        trunk_lr_px=None if config.pooling_px is None else config.trunk_reach_px,
        tail_lr_px=_TAIL_LR_PX,
        fusion_sr_px=_FUSION_SR_PX,
        halo_lr_rows=_TAIL_LR_PX + math.ceil(_FUSION_SR_PX / config.scale),
        frame_strip_lr_px=_STRIP_LR_PX if framed else 0,
        frame_kept_lr_px=_KEPT_LR_PX if framed else 0,
    )


def _tail_builder(network: D2CSR) -> GraphBuilder:
    inputs = {"features": network.config.leaves * network.config.channels, "lr": 3}
    return GraphBuilder("tail", inputs, weights=network.state_dict())


def _predictions(builder: GraphBuilder, network: D2CSR) -> str:
    """Return all predictions (1, 3 p, S h, S w); the base joins before the shuffle, once."""
    config, values = network.config, network.state_dict()
    base = _base(builder, config)
    pictures = []
    for leaf, features in enumerate(builder.parts("features", config.leaves)):
        name = f"divergence.tails.{leaf}"
        if config.tail_border == "features":
            weight, bias = values[f"{name}.conv.weight"], values[f"{name}.conv.bias"]
        else:
            weight, bias = (values[f"{name}.{part}"][CENTRE] for part in ("weight", "bias"))
        weight, bias = _with_mean(weight, bias, network=network)
        picture = builder.convolution(features, weight, bias=bias)
        picture = picture if base is None else builder.add("Add", [picture, base])
        pictures.append(builder.shuffle(picture, config.scale))
    return builder.add("Concat", pictures, attributes={"axis": 1})


def _expanded(builder: GraphBuilder, features: str, *, leaf: int, network: D2CSR) -> str:
    """Return one prediction, before its base, by the stages of an expanded tail."""
    name, values = f"divergence.tails.{leaf}.expanded", network.state_dict()
    for stage in range(sum(key.startswith(f"{name}.up.") for key in values) // 2):
        outputs, inputs = values[f"{name}.up.{stage}.weight"].shape[:2]
        features = builder.layer(features, f"{name}.up.{stage}")
        features = builder.shuffle(features, math.isqrt(outputs // inputs))
    weight, bias = values[f"{name}.out.weight"], values[f"{name}.out.bias"]
    weight, bias = _with_mean(weight, bias, network=network)
    return builder.convolution(features, weight, bias=bias)


def _base(builder: GraphBuilder, config: ModelConfig) -> str | None:
    """Return the bicubic enlargement before its shuffle, or None where the base is `none`."""
    if config.base == "none":
        return None
    around = [0, 0, _TAIL_LR_PX, _TAIL_LR_PX] * 2
    pads = builder.constant(torch.tensor(around, dtype=torch.int64))
    padded = builder.add("Pad", ["lr", pads], attributes={"mode": "edge"})
    kernel = builder.constant(BicubicBase(config.scale).kernel)
    return builder.add("Conv", [padded, kernel], attributes={"group": 3})


def _with_mean(
    weight: Float[Tensor, "o c kh kw"], bias: Float[Tensor, " o"], *, network: D2CSR
) -> tuple[Float[Tensor, "o c kh kw"], Float[Tensor, " o"]]:
    """Return a convolution to RGB (all phases of one colour together) with the mean folded in."""
    matrix, offset = torch.eye(3).double(), torch.zeros(3).double()
    if network.config.mean == "convolution":
        values = network.state_dict()
        matrix = values["divergence.add_mean.weight"][:, :, 0, 0].double()
        offset = values["divergence.add_mean.bias"].double()
    elif network.config.base == "none":  # a base carries the mean already
        offset = torch.tensor(RGB_MEAN).double()
    mixed = torch.einsum("oc,cr->or", matrix, weight.double().reshape(3, -1)).view_as(weight)
    shifted = matrix @ bias.double().view(3, -1) + offset[:, None]
    return mixed.float(), shifted.flatten().float()


def _fused(builder: GraphBuilder, predictions: str, *, config: ModelConfig) -> tuple[str, str]:
    """Return the weights (1, p, S h, S w) and the weighted sum of the predictions."""
    features = predictions
    for layer in range(2):
        features = builder.add("Relu", [builder.layer(features, f"convergence.convs.{layer}")])
    logits = builder.layer(features, "convergence.convs.2")
    if config.convergence_last_relu:
        logits = builder.add("Relu", [logits])
    weights = builder.add("Softmax", [logits], attributes={"axis": 1})
    parts = [builder.parts(image, config.leaves) for image in (predictions, weights)]
    shares = [builder.add("Mul", list(pair)) for pair in zip(*parts, strict=True)]
    return weights, builder.add("Sum", shares)
