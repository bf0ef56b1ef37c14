"""The ONNX graphs of a bundle: the trunk, the tails behind it, and the fusion of predictions.

Only the trunk may depend on the whole image. The graphs are written in the form that the engine
runs fastest, with two exact changes to the network: values are limited to a range that they never
leave before they are shuffled to pixels, and the weighted sum over the predictions is taken of
whole planes. `write_whole` joins the same parts into one graph, for other programs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.core.config import TAIL_LR_PX, ModelConfig, NodePath
from d2csr.export.onnx_builder import GraphBuilder
from d2csr.models.d2csr import D2CSR, path_name
from d2csr.models.layers import RGB_MEAN, BicubicBase
from d2csr.models.tail import CENTRE


def write_trunk(network: D2CSR, path: Path) -> None:
    """Write lr (1, 3, h, w) -> features (1, leaves * channels, h, w), leaf by leaf."""
    builder = GraphBuilder("trunk", {"lr": 3}, weights=network.state_dict())
    features = _leaf_features(builder, network.config)
    joined = builder.add("Concat", features, attributes={"axis": 1})
    builder.write(path, {joined: "features"})


def write_whole(network: D2CSR, path: Path) -> None:
    """Write lr (1, 3, h, w) -> sr (1, 3, S h, S w): trunk, tails and fusion as one graph.

    The shape of every value follows from that of `lr` by the rules of its operation, without
    computed shapes: programs learn the scale by shape inference.
    """
    config = network.config
    builder = GraphBuilder("network", {"lr": 3}, weights=network.state_dict())
    features = _leaf_features(builder, config)
    images, phases = _images(builder, network, features=features)
    builder.write(path, {_fused(builder, images, phases=phases, config=config): "sr"})


def _leaf_features(builder: GraphBuilder, config: ModelConfig) -> list[str]:
    """Return the features of each leaf."""
    nodes: dict[NodePath, str] = {(): _root(builder, config)}
    for node in config.branch_paths:
        name = f"branches.{path_name(node)}"
        nodes[node] = _branch(builder, nodes[node[:-1]], name=name, config=config)
    return [
        _deep_residual(builder, nodes, leaf=node, name=f"residuals.{index}", config=config)
        for index, node in enumerate(config.leaf_paths)
    ]


def _root(builder: GraphBuilder, config: ModelConfig) -> str:
    """Return the features that the tree begins with: those of the head, then of the trunk."""
    head = _head(builder, config)
    if not config.trunk_groups:
        return head
    return builder.add("Add", [head, _branch(builder, head, name="trunk", config=config)])


def _head(builder: GraphBuilder, config: ModelConfig) -> str:
    if config.mean == "convolution":
        image = builder.layer("lr", "divergence.sub_mean")
    else:
        mean = builder.constant(torch.tensor(RGB_MEAN).view(1, 3, 1, 1))
        image = builder.add("Sub", ["lr", mean])
    return builder.layer(image, "divergence.head")


def _branch(builder: GraphBuilder, features: str, *, name: str, config: ModelConfig) -> str:
    for group in range(config.trunk_groups if name == "trunk" else config.groups):
        prefix = f"divergence.{name}.groups.{group}"
        inner = features
        for block in range(config.blocks):
            inner = _block(builder, inner, name=f"{prefix}.blocks.{block}", config=config)
        features = builder.add("Add", [features, builder.layer(inner, f"{prefix}.conv")])
    return builder.layer(features, f"divergence.{name}.conv")


def _block(builder: GraphBuilder, features: str, *, name: str, config: ModelConfig) -> str:
    inner = builder.add("Relu", [builder.layer(features, f"{name}.conv1")])
    inner = builder.layer(inner, f"{name}.conv2")
    if not config.attention:
        return builder.add("Add", [features, inner])
    mean = _mean(builder, inner, pooling_px=config.pooling_px)
    hidden = builder.add("Relu", [builder.layer(mean, f"{name}.attention.squeeze")])
    gate = builder.add("Sigmoid", [builder.layer(hidden, f"{name}.attention.excite")])
    return builder.add("Add", [features, builder.add("Mul", [inner, gate])])


def _mean(builder: GraphBuilder, features: str, *, pooling_px: int | None) -> str:
    """Return the channels' means, over the image or over windows clipped at its border."""
    if pooling_px is None:
        return builder.add("GlobalAveragePool", [features])
    half = pooling_px // 2
    for kernel, pads in (
        ([pooling_px, 1], [half, 0, half, 0]),
        ([1, pooling_px], [0, half, 0, half]),
    ):
        shape = {"kernel_shape": kernel, "pads": pads, "count_include_pad": 0}
        features = builder.add("AveragePool", [features], attributes=shape)
    return features


def _deep_residual(
    builder: GraphBuilder,
    nodes: dict[NodePath, str],
    *,
    leaf: NodePath,
    name: str,
    config: ModelConfig,
) -> str:
    """Return a leaf's features with its ancestors added, nearest first, head last."""
    ancestors = [leaf[:length] for length in reversed(range(len(leaf)))]
    features = nodes[leaf]
    for index, ancestor in enumerate(ancestors[-config.residuals :]):
        inner = builder.layer(features, f"divergence.{name}.{index}")
        features = builder.add("Add", [inner, nodes[ancestor]])
    return features


_LIMIT = 1e4  # no value comes near it: 0..255 are 0..1


def write_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions, weights, sr; each tail is a single convolution."""
    builder, config = _tail_builder(network), network.config
    predictions, phases = _predictions(builder, network)
    weights = _weights(builder, predictions, phases=phases, config=config)
    sr = _sr(builder, predictions, weights=weights, config=config)
    builder.write(path, {predictions: "predictions", weights: "weights", sr: "sr"})


def write_inner_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions, correct except in the outermost LR pixel."""
    builder = _tail_builder(network)
    predictions, _ = _predictions(builder, network)
    builder.write(path, {predictions: "predictions"})


def write_border_tail(network: D2CSR, path: Path) -> None:
    """Write features, lr -> predictions by the expanded tails (`tail_border: each`)."""
    builder, config = _tail_builder(network), network.config
    base = _base(builder, config)
    enlarged = None if base is None else _to_pixels(builder, base, factor=config.scale)
    images = []
    for leaf, features in enumerate(builder.parts("features", config.leaves)):
        image = _expanded(builder, features, leaf=leaf, network=network)
        images.append(image if enlarged is None else builder.add("Add", [image, enlarged]))
    joined = builder.add("Concat", images, attributes={"axis": 1})
    builder.write(path, {joined: "predictions"})


def write_fusion(network: D2CSR, path: Path) -> None:
    """Write predictions -> weights, sr."""
    config = network.config
    inputs = {"predictions": 3 * config.leaves}
    builder = GraphBuilder("fusion", inputs, weights=network.state_dict())
    weights = _weights(builder, "predictions", phases=(), config=config)
    sr = _sr(builder, "predictions", weights=weights, config=config)
    builder.write(path, {weights: "weights", sr: "sr"})


def _tail_builder(network: D2CSR) -> GraphBuilder:
    inputs = {"features": network.config.leaves * network.config.channels, "lr": 3}
    return GraphBuilder("tail", inputs, weights=network.state_dict())


def _predictions(builder: GraphBuilder, network: D2CSR) -> tuple[str, list[str]]:
    """Return all predictions, (1, 3 p, S h, S w), and each before its shuffle, (1, 3 S^2, h, w)."""
    images, phases = _images(builder, network)
    return builder.add("Concat", images, attributes={"axis": 1}), phases


def _images(
    builder: GraphBuilder, network: D2CSR, *, features: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Return each prediction, (1, 3, S h, S w), and the same before its shuffle, (1, 3 S^2, h, w).

    The base is added before the shuffle.

    Args:
        builder: of the graph.
        network: collapsed.
        features: of each leaf; without any, the parts of the graph's input `features`.
    """
    config, values = network.config, network.state_dict()
    base = _base(builder, config)
    limited = None if base is None else _limit(builder, base)
    images, phases = [], []
    for leaf, inner in enumerate(features or builder.parts("features", config.leaves)):
        name = f"divergence.tails.{leaf}"
        if config.tail_border == "features":
            weight, bias = values[f"{name}.conv.weight"], values[f"{name}.conv.bias"]
        else:
            weight, bias = (values[f"{name}.{part}"][CENTRE] for part in ("weight", "bias"))
        weight, bias = _with_mean(weight, bias, network=network)
        image = _limit(builder, builder.convolution(inner, weight, bias=bias))
        phases.append(image if limited is None else builder.add("Add", [image, limited]))
        images.append(builder.shuffle(phases[-1], config.scale))
    return images, phases


def _expanded(builder: GraphBuilder, features: str, *, leaf: int, network: D2CSR) -> str:
    """Return one prediction, before its base, by the stages of an expanded tail."""
    name, values = f"divergence.tails.{leaf}.expanded", network.state_dict()
    for stage, factor in enumerate(network.config.tail_factors):
        features = builder.layer(features, f"{name}.up.{stage}")
        features = _to_pixels(builder, features, factor=factor)
    weight, bias = values[f"{name}.out.weight"], values[f"{name}.out.bias"]
    weight, bias = _with_mean(weight, bias, network=network)
    return builder.convolution(features, weight, bias=bias)


def _base(builder: GraphBuilder, config: ModelConfig) -> str | None:
    """Return the bicubic enlargement before its shuffle, or None where the base is `none`."""
    if config.base == "none":
        return None
    pads = builder.constant(torch.tensor([0, 0, TAIL_LR_PX, TAIL_LR_PX] * 2))
    padded = builder.add("Pad", ["lr", pads], attributes={"mode": "edge"})
    kernel = builder.constant(BicubicBase(config.scale).kernel)
    return builder.add("Conv", [padded, kernel], attributes={"group": 3})


def _to_pixels(builder: GraphBuilder, image: str, *, factor: int) -> str:
    return builder.shuffle(_limit(builder, image), factor)


def _limit(builder: GraphBuilder, image: str) -> str:
    """Return the same values, limited to a range that none of them leaves.

    OpenVINO sums a convolution in bfloat16 in float32, but rounds the sum, unless an operation that
    it computes in float32 is fused to it. A limit is one.
    """
    limits = [builder.constant(torch.tensor(limit)) for limit in (-_LIMIT, _LIMIT)]
    return builder.add("Clip", [image, *limits])


def _with_mean(
    weight: Float[Tensor, "o c kh kw"], bias: Float[Tensor, " o"], *, network: D2CSR
) -> tuple[Float[Tensor, "o c kh kw"], Float[Tensor, " o"]]:
    """Return a convolution to RGB (phases grouped by color) with the mean folded into it."""
    matrix, offset = torch.eye(3).double(), torch.zeros(3).double()
    if network.config.mean == "convolution":
        values = network.state_dict()
        matrix = values["divergence.add_mean.weight"][:, :, 0, 0].double()
        offset = values["divergence.add_mean.bias"].double()
    elif network.config.base == "none":  # the bicubic base includes the mean
        offset = torch.tensor(RGB_MEAN).double()
    mixed = torch.einsum("oc,cr->or", matrix, weight.double().reshape(3, -1)).view_as(weight)
    shifted = matrix @ bias.double().view(3, -1) + offset[:, None]
    return mixed.float(), shifted.flatten().float()


def _weights(
    builder: GraphBuilder, predictions: str, *, phases: Sequence[str], config: ModelConfig
) -> str:
    """Return the weights (1, p, S h, S w) of the predictions.

    Before their shuffle, the predictions are the input of a convergence network on the LR grid.
    """
    if not config.has_convergence:
        return _equal_weights(builder, predictions, leaves=config.leaves)
    on_lr_grid = config.convergence_grid == "lr"
    features = builder.add("Concat", phases, attributes={"axis": 1}) if on_lr_grid else predictions
    for layer in range(2):
        features = builder.add("Relu", [builder.layer(features, f"convergence.convs.{layer}")])
    logits = builder.layer(features, "convergence.convs.2")
    if on_lr_grid:
        logits = _to_pixels(builder, logits, factor=config.scale)
    if config.convergence_last_relu:
        logits = builder.add("Relu", [logits])
    return builder.add("Softmax", [logits], attributes={"axis": 1})


def _equal_weights(builder: GraphBuilder, predictions: str, *, leaves: int) -> str:
    """Return weights (1, p, S h, S w) that are all `1 / p`."""
    equal = builder.constant(torch.full((1, leaves, 1, 1), 1 / leaves))
    size = builder.add("Shape", [predictions], attributes={"start": 2, "end": 4})
    maps = builder.constant(torch.tensor([1, leaves]))
    shape = builder.add("Concat", [maps, size], attributes={"axis": 0})
    return builder.add("Expand", [equal, shape])


def _fused(
    builder: GraphBuilder, images: Sequence[str], *, phases: Sequence[str], config: ModelConfig
) -> str:
    """Return the sum (1, 3, S h, S w) of the predictions times their weights, one by one."""
    if not config.has_convergence:
        share = builder.constant(torch.tensor(1 / config.leaves))
        return builder.add("Mul", [_sum(builder, images), share])
    on_lr_grid = config.convergence_grid == "lr"  # then the network sees only the phases
    seen = "" if on_lr_grid else builder.add("Concat", images, attributes={"axis": 1})
    weights = _weights(builder, seen, phases=phases, config=config)
    pairs = zip(images, builder.parts(weights, config.leaves), strict=True)
    return _sum(builder, [builder.add("Mul", list(pair)) for pair in pairs])


def _sum(builder: GraphBuilder, values: Sequence[str]) -> str:
    total, *others = values
    for each in others:
        total = builder.add("Add", [total, each])
    return total


def _sr(builder: GraphBuilder, predictions: str, *, weights: str, config: ModelConfig) -> str:
    """Return the sum (1, 3, S h, S w) of the predictions times their weights, or their mean.

    OpenVINO keeps the maps after a convolution pixel by pixel, so that a weight meets three values
    at a time and each prediction is copied out first. Reshaped, predictions are whole planes, which
    the output needs anyway. A strip of 28x406 LR px at x3, one thread: 34.3 -> 29.3 ms in fp32,
    26.8 -> 21.5 in bf16, 21.3 -> 14.9 in int8.
    """
    planes = _planes(builder, predictions, leaves=config.leaves, channels=3)
    reduce = "ReduceMean"
    if config.has_convergence:
        shares = _planes(builder, weights, leaves=config.leaves, channels=1)
        planes, reduce = builder.add("Mul", [planes, shares]), "ReduceSum"
    leaf_axis = builder.constant(torch.tensor([0]))
    total = builder.add(reduce, [planes, leaf_axis], attributes={"keepdims": 0})
    size = builder.add("Shape", [predictions], attributes={"start": 2, "end": 4})
    channels = builder.constant(torch.tensor([1, 3]))
    shape = builder.add("Concat", [channels, size], attributes={"axis": 0})
    return builder.add("Reshape", [total, shape])


def _planes(builder: GraphBuilder, image: str, *, leaves: int, channels: int) -> str:
    """Return an image (1, p c, S h, S w) as (p, c, S h S w)."""
    return builder.add("Reshape", [image, builder.constant(torch.tensor([leaves, channels, -1]))])
