"""Divergence network: a tree whose leaves are rival predictions of the same picture.

Source: D2C-SR, ECCV 2022 (arXiv:2103.14373), section 3.2; departures: docs/method.md.
Shapes: b batch, p predictions (leaves), c channels, h x w pixels of the LR picture.
"""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig
from d2csr.models.base import BicubicBase, FixedMean
from d2csr.models.blocks import Branch, conv3x3
from d2csr.models.tail import make_tail


class DivergenceNet(nn.Module):
    """LR picture in, one prediction per leaf out."""

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
        rest = self.rest(lr)
        predictions = [
            self.finish(tail(leaf), rest) for tail, leaf in zip(self.tails, features, strict=True)
        ]
        return torch.stack(predictions, dim=1)

    def features(self, lr: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the features (b c h w) of each leaf, after the deep residual sums."""
        nodes: dict[tuple[int, ...], Tensor] = {(): self.head(self.sub_mean(lr))}
        for path in tree(self.config):
            nodes[path] = self.branches[path_name(path)](nodes[path[:-1]])
        leaves = product(range(self.config.children), repeat=self.config.depth)
        return [self._deep_residual(nodes, path, leaf=leaf) for leaf, path in enumerate(leaves)]

    def rest(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"] | None:
        """Return what every prediction is added to, or None where the base is `none`."""
        return None if self.base is None else self.base(lr)

    def finish(
        self, raw: Float[Tensor, "b 3 sh sw"], rest: Float[Tensor, "b 3 sh sw"] | None
    ) -> Float[Tensor, "b 3 sh sw"]:
        """Return a tail's picture with the base, or else the mean, added.

        The bicubic base carries the mean already; trained 1x1 maps apply with either base.
        """
        if raw.dtype == torch.bfloat16:  # of 8 significant bits, as few as a picture has
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
