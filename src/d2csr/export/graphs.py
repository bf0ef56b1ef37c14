"""The trunk's graph: LR image to leaf features, all that may look at the whole image.

The graphs behind the trunk: tails, convergence network and weighted sum, all short-sighted.
"""

import math
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.core.bundle import ReceptiveField
from d2csr.core.config import ModelConfig
from d2csr.export.onnx_builder import GraphBuilder
from d2csr.models.d2csr import D2CSR, path_name, tree
from d2csr.models.layers import RGB_MEAN, BicubicBase
from d2csr.models.tail import CENTRE


def write_trunk(network: D2CSR, path: Path) -> None:
    """Write lr (1, 3, h, w) -> features (1, leaves * channels, h, w), leaf by leaf."""
    config = network.config
    builder = GraphBuilder("trunk", {"lr": 3}, weights=network.state_dict())
    nodes: dict[tuple[int, ...], str] = {(): _head(builder, config)}
    for place in tree(config):
        nodes[place] = _branch(
            builder, nodes[place[:-1]], name=f"branches.{path_name(place)}", config=config
        )
    leaves = product(range(config.children), repeat=config.depth)
    features = [
        _deep_residual(builder, nodes, place=place, name=f"residuals.{leaf}", config=config)
        for leaf, place in enumerate(leaves)
    ]
    joined = builder.add("Concat", features, attributes={"axis": 1})
    builder.write(path, {joined: "features"})


def _residuals(config: ModelConfig) -> int:
    return config.depth if config.deep_residual else 1


def _head(builder: GraphBuilder, config: ModelConfig) -> str:
    if config.mean == "convolution":
        image = builder.layer("lr", "divergence.sub_mean")
    else:
        mean = builder.constant(torch.tensor(RGB_MEAN).view(1, 3, 1, 1))
        image = builder.add("Sub", ["lr", mean])
    return builder.layer(image, "divergence.head")


def _branch(builder: GraphBuilder, features: str, *, name: str, config: ModelConfig) -> str:
    for group in range(config.groups):
        of_group = f"divergence.{name}.groups.{group}"
        inner = features
        for block in range(config.blocks):
            inner = _block(
                builder, inner, name=f"{of_group}.blocks.{block}", pooling_px=config.pooling_px
            )
        features = builder.add("Add", [features, builder.layer(inner, f"{of_group}.conv")])
    return builder.layer(features, f"divergence.{name}.conv")


def _block(builder: GraphBuilder, features: str, *, name: str, pooling_px: int | None) -> str:
    inner = builder.add("Relu", [builder.layer(features, f"{name}.conv1")])
    inner = builder.layer(inner, f"{name}.conv2")
    mean = _mean(builder, inner, pooling_px=pooling_px)
    hidden = builder.add("Relu", [builder.layer(mean, f"{name}.attention.squeeze")])
    gate = builder.add("Sigmoid", [builder.layer(hidden, f"{name}.attention.excite")])
    return builder.add("Add", [features, builder.add("Mul", [inner, gate])])


def _mean(builder: GraphBuilder, features: str, *, pooling_px: int | None) -> str:
    """Return the channels' means, over the image or over a window clipped at its frame."""
    if pooling_px is None:
        return builder.add("GlobalAveragePool", [features])
    reach = pooling_px // 2
    for kernel, pads in (
        ([pooling_px, 1], [reach, 0, reach, 0]),
        ([1, pooling_px], [0, reach, 0, reach]),
    ):
        shape = {"kernel_shape": kernel, "pads": pads, "count_include_pad": 0}
        features = builder.add("AveragePool", [features], attributes=shape)
    return features


def _deep_residual(
    builder: GraphBuilder,
    nodes: dict[tuple[int, ...], str],
    *,
    place: tuple[int, ...],
    name: str,
    config: ModelConfig,
) -> str:
    """Return a leaf's features with its ancestors added, nearest first, head last."""
    ancestors = [place[:length] for length in reversed(range(len(place)))]
    features = nodes[place]
    for index, ancestor in enumerate(ancestors[-_residuals(config) :]):
        inner = builder.layer(features, f"divergence.{name}.{index}")
        features = builder.add("Add", [inner, nodes[ancestor]])
    return features


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


def write_border_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions by the expanded tails, each stage zero-padded."""
    builder, config = _tail_builder(network), network.config
    base = _base(builder, config)
    enlarged = None if base is None else builder.shuffle(base, config.scale)
    images = []
    for leaf, features in enumerate(builder.parts("features", config.leaves)):
        image = _expanded(builder, features, leaf=leaf, network=network)
        images.append(image if enlarged is None else builder.add("Add", [image, enlarged]))
    joined = builder.add("Concat", images, attributes={"axis": 1})
    builder.write(path, {joined: "predictions"})


def write_fusion(network: D2CSR, path: Path) -> None:
    """Write predictions -> weights, sr."""
    inputs = {"predictions": 3 * network.config.leaves}
    builder = GraphBuilder("fusion", inputs, weights=network.state_dict())
    weights, sr = _fused(builder, "predictions", config=network.config)
    builder.write(path, {weights: "weights", sr: "sr"})


def reach(config: ModelConfig) -> ReceptiveField:
    """Return how far the graphs of a configuration look."""
    bordered = config.tail_border == "each"
    return ReceptiveField(
        trunk_lr_px=None if config.pooling_px is None else config.trunk_reach_px,
        tail_lr_px=_TAIL_LR_PX,
        fusion_sr_px=_FUSION_SR_PX,
        halo_lr_rows=_TAIL_LR_PX + math.ceil(_FUSION_SR_PX / config.scale),
        border_strip_lr_px=_STRIP_LR_PX if bordered else 0,
        border_kept_lr_px=_KEPT_LR_PX if bordered else 0,
    )


def _tail_builder(network: D2CSR) -> GraphBuilder:
    inputs = {"features": network.config.leaves * network.config.channels, "lr": 3}
    return GraphBuilder("tail", inputs, weights=network.state_dict())


def _predictions(builder: GraphBuilder, network: D2CSR) -> str:
    """Return all predictions (1, 3 p, S h, S w); the base joins before the shuffle, once."""
    config, values = network.config, network.state_dict()
    base = _base(builder, config)
    images = []
    for leaf, features in enumerate(builder.parts("features", config.leaves)):
        name = f"divergence.tails.{leaf}"
        if config.tail_border == "features":
            weight, bias = values[f"{name}.conv.weight"], values[f"{name}.conv.bias"]
        else:
            weight, bias = (values[f"{name}.{part}"][CENTRE] for part in ("weight", "bias"))
        weight, bias = _with_mean(weight, bias, network=network)
        image = builder.convolution(features, weight, bias=bias)
        image = image if base is None else builder.add("Add", [image, base])
        images.append(builder.shuffle(image, config.scale))
    return builder.add("Concat", images, attributes={"axis": 1})


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
