"""The trunk's graph: LR picture to leaf features, all that may look at the whole picture."""

from itertools import product
from pathlib import Path

import torch

from d2csr.core.config import ModelConfig
from d2csr.export.graph import GraphBuilder
from d2csr.models.base import RGB_MEAN
from d2csr.models.d2csr import D2CSR
from d2csr.models.divergence import path_name, tree


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
    """Return the channels' means, over the picture or over a window clipped at its frame."""
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
