"""The D2C-SR network: a tree of rival predictions, fused by a weight per prediction and pixel.

Source: D2C-SR, ECCV 2022 (arXiv:2103.14373): divergence network section 3.2, convergence network
section 3.3 with the layers of the authors' code, fusion Eq. 8; departures: docs/method.md.
Shapes: b batch, p predictions (leaves), c channels, h x w pixels of the LR image.
"""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig, NodePath
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
        self.trunk = Branch(config, groups=config.trunk_groups) if config.trunk_groups else None
        self.branches = nn.ModuleDict(
            {path_name(path): Branch(config, groups=config.groups) for path in config.branch_paths}
        )
        self.residuals = nn.ModuleList(
            nn.ModuleList(conv3x3(width, width) for _ in range(config.residuals))
            for _ in range(config.leaves)
        )
        self.tails = nn.ModuleList(make_tail(config) for _ in range(config.leaves))

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b p 3 sh sw"]:
        """Return every prediction, children of one parent side by side, in the units of `lr`."""
        features = self.features(lr)
        base = self.base_image(lr)
        predictions = [
            self.add_base(tail(leaf), base) for tail, leaf in zip(self.tails, features, strict=True)
        ]
        return torch.stack(predictions, dim=1)

    def features(self, lr: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features (b c h w) of each leaf, after the deep residual sums."""
        root = self.head(self.sub_mean(lr))
        if self.trunk is not None:
            root = root + self.trunk(root)
        nodes: dict[NodePath, Tensor] = {(): root}
        for path in self.config.branch_paths:
            nodes[path] = self.branches[path_name(path)](nodes[path[:-1]])
        leaves = enumerate(self.config.leaf_paths)
        return [self._deep_residual(nodes, path, leaf=leaf) for leaf, path in leaves]

    def base_image(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"] | None:
        """Return the image that every prediction is added to, or None where the base is `none`."""
        return None if self.base is None else self.base(lr)

    def add_base(
        self, raw: Float[Tensor, "b 3 sh sw"], base: Float[Tensor, "b 3 sh sw"] | None
    ) -> Float[Tensor, "b 3 sh sw"]:
        """Return the image of a tail plus the base or, without a base, plus the RGB mean.

        The bicubic base includes the mean; trained 1x1 maps are applied with either base.
        """
        if raw.dtype == torch.bfloat16:  # its 8 significant bits are no more than an image has
            raw = raw.float()
        if base is None:
            return self.add_mean(raw)
        return base + (self.add_mean(raw) if self.config.mean == "convolution" else raw)

    def _deep_residual(self, nodes: dict[NodePath, Tensor], path: NodePath, *, leaf: int) -> Tensor:
        """Return the leaf's features with its ancestors added, nearest first, head last."""
        ancestors = [path[:length] for length in reversed(range(len(path)))]
        if not self.config.deep_residual:
            ancestors = [()]  # the residual from the head to the leaves always stays
        features = nodes[path]
        for conv, ancestor in zip(self.residuals[leaf].children(), ancestors, strict=True):
            features = conv(features) + nodes[ancestor]
        return features


def path_name(path: NodePath) -> str:
    """Return a branch's name in the weights file."""
    return "-".join(map(str, path))


class ConvergenceNet(nn.Module):
    """All predictions in, one weight map per prediction out."""

    def __init__(self, config: ModelConfig) -> None:
        """Build three 3x3 convolutions without bias."""
        super().__init__()
        width = config.convergence_channels
        self.step_px = config.scale if config.convergence_grid == "lr" else 1
        leaves = config.leaves * self.step_px**2
        widths = (3 * leaves, width, width, leaves)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            for inputs, outputs in pairwise(widths)
        )
        self.last_relu = config.convergence_last_relu

    def forward(self, predictions: Float[Tensor, "b p 3 sh sw"]) -> Float[Tensor, "b p sh sw"]:
        """Return the weights, each in 0..1, summing to one over the predictions."""
        features = F.pixel_unshuffle(predictions.flatten(1, 2), self.step_px)
        for conv in self.convs[:-1]:
            features = F.relu(conv(features))
        logits = F.pixel_shuffle(self.convs[-1](features), self.step_px)
        return (F.relu(logits) if self.last_relu else logits).softmax(dim=1)


class MeanFusion(nn.Module):
    """The same weight for every prediction: the network without its convergence network."""

    def forward(self, predictions: Float[Tensor, "b p 3 sh sw"]) -> Float[Tensor, "b p sh sw"]:
        """Return `1 / p` everywhere."""
        weights = torch.ones_like(predictions[:, :, 0])
        return weights / predictions.shape[1]


class D2CSROutput(NamedTuple):
    """The outputs for one batch, RGB in the units of the input, nothing clipped.

    Attributes:
        sr: the fused image, (b, 3, S h, S w).
        predictions: one image per leaf, (b, p, 3, S h, S w).
        weights: of the predictions, (b, p, S h, S w), summing to one over p.
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
        self.convergence = ConvergenceNet(config) if config.has_convergence else MeanFusion()

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> D2CSROutput:
        """Return SR, predictions and weights for RGB images in 0..1."""
        predictions = self.divergence(lr)
        weights = self.convergence(predictions)
        return D2CSROutput(fuse(predictions, weights), predictions, weights)

    def collapse(self) -> "D2CSR":
        """Return a copy with each tail as a single convolution; images are equal to rounding."""
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


GROWABLE = ("channels", "convergence_channels", "trunk_groups", "groups", "blocks")
_OF_SCALE = ("divergence.tails.", "convergence.")  # parameters whose meaning the scale changes


def grow(network: D2CSR, smaller: D2CSR) -> None:
    """Load the weights of a smaller network so that the larger one computes the same images.

    Added channels begin at random, but nothing else sees them yet; added groups and blocks begin as
    the identity (Net2Net, arXiv:1511.05641; identities as in arXiv:1605.08695). Of a network of
    another scale, the tails and the convergence network are left as they are; so is a convergence
    network that the smaller network lacks.

    Args:
        network: whose weights are replaced; its sizes in `GROWABLE` are at least `smaller`'s.
        smaller: a network that differs in these sizes and the scale alone.
    """
    given = smaller.state_dict()
    if smaller.config.scale != network.config.scale:
        given = {name: value for name, value in given.items() if not name.startswith(_OF_SCALE)}
    with torch.no_grad():
        for name, own in network.state_dict().items():
            if name in given:
                _embed(own, given[name])
            elif _ends_residual(name) and not name.startswith(_OF_SCALE):
                own.zero_()


def _embed(own: Tensor, given: Tensor) -> None:
    """Copy a layer's values into the first channels of a wider one; these see no added input."""
    outputs = given.shape[0]
    if own.ndim > 1:
        own[:outputs, given.shape[1] :] = 0
        own[:outputs, : given.shape[1]] = given
    else:
        own[:outputs] = given


def _ends_residual(name: str) -> bool:
    """Return whether a parameter is of the last convolution of a block, a group or the trunk."""
    layer = name.rpartition(".")[0]
    is_group = ".groups." in layer and layer.endswith(".conv")
    return layer.endswith(".conv2") or is_group or layer == "divergence.trunk.conv"
