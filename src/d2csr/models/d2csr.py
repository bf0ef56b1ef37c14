"""D2C-SR whole: predictions of the tree fused by weights per pixel (Eq. 8).

Divergence network: a tree whose leaves are rival predictions of the same image.

Source: D2C-SR, ECCV 2022 (arXiv:2103.14373), section 3.2; departures: docs/method.md.
Shapes: b batch, p predictions (leaves), c channels, h x w pixels of the LR image.

Convergence network: a weight per prediction and pixel, summing to one.

Source: D2C-SR section 3.3; layers as in the authors' code, docs/method.md.
"""

from dataclasses import replace
from itertools import pairwise, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig
from d2csr.models.layers import BicubicBase, Branch, FixedMean, conv3x3
from d2csr.models.tail import ExpandedTail, collapse_tail, make_tail


class DivergenceNet(nn.Module):
    """LR image in, one prediction per leaf out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the tree; branches are named by their path, `0-1` being child 1 of child 0."""
        super().__init__()
        self.config = config
        width = config.channels
        trained_mean = config.mean == "convolution"
        self.sub_mean = nn.Conv2d(3, 3, 1) if trained_mean else FixedMean(-1)
        self.add_mean = nn.Conv2d(3, 3, 1) if trained_mean else FixedMean(+1)
        self.base = BicubicBase(config.scale) if config.base == "bicubic" else None
        self.head = conv3x3(3, width)
        self.branches = nn.ModuleDict({path_name(path): _branch(config) for path in tree(config)})
        residuals = config.depth if config.deep_residual else 1
        self.residuals = nn.ModuleList(
            nn.ModuleList(conv3x3(width, width) for _ in range(residuals))
            for _ in range(config.leaves)
        )
        self.tails = nn.ModuleList(make_tail(config) for _ in range(config.leaves))

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b p 3 sh sw"]:
        """Return every prediction, children of one parent side by side, in the units of `lr`."""
        features = self.features(lr)
        rest = self.base_image(lr)
        predictions = [
            self.add_base(tail(leaf), rest) for tail, leaf in zip(self.tails, features, strict=True)
        ]
        return torch.stack(predictions, dim=1)

    def features(self, lr: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features (b c h w) of each leaf, after the deep residual sums."""
        nodes: dict[tuple[int, ...], Tensor] = {(): self.head(self.sub_mean(lr))}
        for path in tree(self.config):
            nodes[path] = self.branches[path_name(path)](nodes[path[:-1]])
        leaves = product(range(self.config.children), repeat=self.config.depth)
        return [self._deep_residual(nodes, path, leaf=leaf) for leaf, path in enumerate(leaves)]

    def base_image(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"] | None:
        """Return what every prediction is added to, or None where the base is `none`."""
        return None if self.base is None else self.base(lr)

    def add_base(
        self, raw: Float[Tensor, "b 3 sh sw"], rest: Float[Tensor, "b 3 sh sw"] | None
    ) -> Float[Tensor, "b 3 sh sw"]:
        """Return a tail's image with the base, or else the mean, added.

        The bicubic base carries the mean already; trained 1x1 maps apply with either base.
        """
        if raw.dtype == torch.bfloat16:  # of 8 significant bits, as few as an image has
            raw = raw.float()
        if rest is None:
            return self.add_mean(raw)
        return rest + (self.add_mean(raw) if self.config.mean == "convolution" else raw)

    def _deep_residual(
        self, nodes: dict[tuple[int, ...], Tensor], path: tuple[int, ...], *, leaf: int
    ) -> Tensor:
        """Return the leaf's features with its ancestors added, nearest first, head last."""
        ancestors = [path[:length] for length in reversed(range(len(path)))]
        if not self.config.deep_residual:
            ancestors = [()]  # the residual from the input to the end branches always stays
        features = nodes[path]
        for conv, ancestor in zip(self.residuals[leaf].children(), ancestors, strict=True):
            features = conv(features) + nodes[ancestor]
        return features


def tree(config: ModelConfig) -> list[tuple[int, ...]]:
    """Return the paths of all branches, parents before children."""
    levels = range(1, config.depth + 1)
    return [path for level in levels for path in product(range(config.children), repeat=level)]


def path_name(path: tuple[int, ...]) -> str:
    """Return a branch's name in the weights file."""
    return "-".join(map(str, path))


def _branch(config: ModelConfig) -> Branch:
    return Branch(
        config.channels, config.groups, blocks=config.blocks, pooling_px=config.pooling_px
    )


class ConvergenceNet(nn.Module):
    """All predictions in, one weight map per prediction out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build three 3x3 convolutions without bias, on the SR grid."""
        super().__init__()
        width = config.convergence_channels
        widths = (3 * config.leaves, width, width, config.leaves)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            for inputs, outputs in pairwise(widths)
        )
        self.last_relu = config.convergence_last_relu

    def forward(self, predictions: Float[Tensor, "b p 3 sh sw"]) -> Float[Tensor, "b p sh sw"]:
        """Return the weights, each in 0..1, summing to one over the predictions."""
        features = predictions.flatten(1, 2)
        for conv in self.convs[:-1]:
            features = F.relu(conv(features))
        logits = self.convs[-1](features)
        return (F.relu(logits) if self.last_relu else logits).softmax(dim=1)


class D2CSROutput(NamedTuple):
    """What the network says of one batch, RGB in the units of the input, nothing clipped.

    Attributes:
        sr: the fused image, (b, 3, S h, S w).
        predictions: one image per leaf, (b, p, 3, S h, S w).
        weights: their weights, (b, p, S h, S w), summing to one over p.
    """

    sr: Float[Tensor, "b 3 sh sw"]
    predictions: Float[Tensor, "b p 3 sh sw"]
    weights: Float[Tensor, "b p sh sw"]


class D2CSR(nn.Module):
    """LR image in; fused SR, predictions and weight maps out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build both networks with random weights (PyTorch's default initialisation)."""
        super().__init__()
        self.config = config
        self.divergence = DivergenceNet(config)
        self.convergence = ConvergenceNet(config)

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> D2CSROutput:
        """Return SR, predictions and weights for RGB images in 0..1."""
        predictions = self.divergence(lr)
        weights = self.convergence(predictions)
        return D2CSROutput(fuse(predictions, weights), predictions, weights)

    def collapse(self) -> "D2CSR":
        """Return a copy whose tails are single convolutions, the same images to rounding."""
        if self.config.tail == "collapsed":
            collapsed = D2CSR(self.config)
            collapsed.load_state_dict(self.state_dict())
            return collapsed.train(self.training)
        collapsed = D2CSR(replace(self.config, tail="collapsed"))
        kept = {name: value for name, value in self.state_dict().items() if ".tails." not in name}
        collapsed.load_state_dict(kept, strict=False)
        tails = [tail for tail in self.divergence.tails if isinstance(tail, ExpandedTail)]
        collapsed.divergence.tails = nn.ModuleList(
            collapse_tail(tail, self.config) for tail in tails
        )
        return collapsed.train(self.training)

    def parameter_count(self) -> int:
        """Return the number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())


def fuse(
    predictions: Float[Tensor, "b p 3 sh sw"], weights: Float[Tensor, "b p sh sw"]
) -> Float[Tensor, "b 3 sh sw"]:
    """Return the weighted sum of the predictions (Eq. 8).

    A plain product and sum: `einsum` turns it into a batched matrix product per pixel, which took
    a sixth of a training step.
    """
    return (predictions * weights.unsqueeze(2)).sum(dim=1)
