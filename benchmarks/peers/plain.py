"""The peers' network: plain residual convolutions at LR size and one shuffle, as EDSR has them."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.bundle import Bundle
from d2csr.engine.model import shipped_bundles

PEER_MODEL = "city100-nikon-x3"  # the shipped model that the plain network stands beside
_WIDTH = 48


class PlainSizes(NamedTuple):
    """Sizes of a plain network."""

    scale: int
    width: int
    blocks: int


class Block(nn.Module):
    """Two convolutions, the input added: EDSR's block, no normalisation (arXiv:1707.02921)."""

    def __init__(self, width: int) -> None:
        """Build random ones."""
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features with what the block adds."""
        return features + self.conv2(torch.relu(self.conv1(features)))


class PlainNet(nn.Module):
    """LR in, SR out."""

    def __init__(self, sizes: PlainSizes) -> None:
        """Build it with random weights, the same ones each time."""
        super().__init__()
        torch.manual_seed(0)
        self.sizes = sizes
        self.head = nn.Conv2d(3, sizes.width, 3, padding=1)
        self.body = nn.Sequential(*(Block(sizes.width) for _ in range(sizes.blocks)))
        self.tail = nn.Conv2d(sizes.width, 3 * sizes.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(sizes.scale)

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR."""
        return self.shuffle(self.tail(self.body(self.head(lr))))


def parameter_count(network: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def peer_bundle() -> Bundle:
    """Return the shipped model that the plain network stands beside."""
    return next(each for each in shipped_bundles() if each.card.name == PEER_MODEL)


def peer_sizes() -> PlainSizes:
    """Return the sizes of the plain network that come nearest to that model's parameters."""
    card = peer_bundle().card
    least = parameter_count(PlainNet(PlainSizes(card.scale, _WIDTH, 0)))
    blocks = max(1, round((card.parameters - least) / parameter_count(Block(_WIDTH))))
    return PlainSizes(card.scale, _WIDTH, blocks)
