"""The networks of the peers: a plain one as in EDSR, and those of other programs.

The plain network has residual convolutions at LR size and one shuffle. The others are the systems
of `d2csr.models.systems` at the sizes that programs ship, with random weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.bundle import Bundle
from d2csr.engine.model import shipped_bundles
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.systems import build_system

PEER_MODEL = "city100-nikon-x3"  # the shipped model that the plain network is compared with
_WIDTH = 48


class PlainSizes(NamedTuple):
    """Sizes of a plain network."""

    scale: int
    width: int
    blocks: int


class Block(nn.Module):
    """Two convolutions, the input added: EDSR's block, no normalization (arXiv:1707.02921)."""

    def __init__(self, width: int) -> None:
        """Build the block with random weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features plus the residual of the block."""
        return features + self.conv2(torch.relu(self.conv1(features)))


class PlainNet(nn.Module):
    """A plain residual network."""

    def __init__(self, sizes: PlainSizes) -> None:
        """Build the network with random weights, always the same ones."""
        super().__init__()
        torch.manual_seed(0)
        self.sizes = sizes
        self.head = nn.Conv2d(3, sizes.width, 3, padding=1)
        self.body = nn.Sequential(*(Block(sizes.width) for _ in range(sizes.blocks)))
        self.tail = nn.Conv2d(sizes.width, 3 * sizes.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(sizes.scale)

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR in the units of `lr`."""
        return self.shuffle(self.tail(self.body(self.head(lr))))


class NativeNet(nn.Module):
    """A system as its own program runs it: LR to SR, without the padding around it."""

    def __init__(self, system: SystemNetwork) -> None:
        """Wrap a system."""
        super().__init__()
        self.system = system

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR."""
        return self.system.native(lr)


def make_network(values: Mapping[str, Any]) -> nn.Module:
    """Return a network with random weights, always the same ones.

    Args:
        values: `plain` with its sizes, or `system` with a name, and scale and sizes beside it.
    """
    if "plain" in values:
        return PlainNet(PlainSizes(*values["plain"])).eval()
    torch.manual_seed(0)
    sizes = dict(values)
    return NativeNet(build_system(sizes.pop("system"), size="paper", **sizes)).eval()


def parameter_count(network: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def peer_bundle() -> Bundle:
    """Return the shipped model that the plain network is compared with."""
    return next(each for each in shipped_bundles() if each.card.name == PEER_MODEL)


def peer_sizes() -> PlainSizes:
    """Return the sizes of the plain network whose parameter count is nearest to that model's."""
    card = peer_bundle().card
    without_blocks = parameter_count(PlainNet(PlainSizes(card.scale, _WIDTH, 0)))
    blocks = max(1, round((card.parameters - without_blocks) / parameter_count(Block(_WIDTH))))
    return PlainSizes(card.scale, _WIDTH, blocks)
