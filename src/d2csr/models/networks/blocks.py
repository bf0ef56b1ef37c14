"""Blocks that several compared networks share: residual blocks, upsamplers, mean shift."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import RGB_MEAN, conv3x3
from d2csr.models.networks.public_weights import PublicWeights

_FACTORS = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}  # steps of an enlargement

Activation = Callable[[Tensor], Tensor]


def upsampling_factors(scale: int) -> tuple[int, ...]:
    """Return the steps in which networks enlarge: x4 and x8 by twos."""
    return _FACTORS[scale]


class MeanShift(nn.Conv2d):
    """Add or subtract the RGB mean of natural images, as a 1x1 convolution that is stored."""

    def __init__(self, sign: int, *, value_range: int, trained: bool) -> None:
        """Take +1 to add, -1 to subtract; `trained` leaves the convolution to the optimizer."""
        super().__init__(3, 3, kernel_size=1)
        self.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1))
        self.bias = nn.Parameter(sign * value_range * torch.tensor(RGB_MEAN))
        self.requires_grad_(trained)


class ResidualBlock(nn.Module):
    """Two convolutions with an activation between, their result scaled and added to the input."""

    def __init__(self, features: int, *, activation: Activation = F.relu, gain: float = 1) -> None:
        """Take the factor of the residual, and the activation between the convolutions."""
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        self.activation = activation
        self.gain = gain

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus its residual."""
        residual = self.conv2(self.activation(self.conv1(features)))
        return features + (residual if self.gain == 1 else residual * self.gain)


class ShuffleUpsampler(nn.Module):
    """Enlarge features by convolutions, each followed by a pixel shuffle and no activation."""

    def __init__(self, inputs: int, outputs: int, *, scale: int) -> None:
        """Build a convolution for each step of the enlargement."""
        super().__init__()
        self.factors = upsampling_factors(scale)
        widths = (inputs, *[outputs] * (len(self.factors) - 1))
        self.convs = nn.ModuleList(
            conv3x3(width, outputs * factor**2)
            for width, factor in zip(widths, self.factors, strict=True)
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d sh sw"]:
        """Return the features of the SR grid."""
        for conv, factor in zip(self.convs, self.factors, strict=True):
            features = F.pixel_shuffle(conv(features), factor)
        return features

    def stages(self) -> list[tuple[int, int]]:
        """Return the reach of each step in pixels, and its enlargement."""
        return [(1, factor) for factor in self.factors]


def shuffle_scale(weights: PublicWeights, template: str, *, step: int, outputs: int) -> int:
    """Return the scale of an upsampler in public weights: the product of its shuffles.

    Args:
        weights: the public weights.
        template: the name of its convolutions, with `{}` for 0, `step`, 2 `step`, ...
        step: the layers from one convolution to the next.
        outputs: the channels after each shuffle.
    """
    scale = 1
    for index in range(weights.count(template, step=step)):
        name = template.format(step * index)
        scale *= weights.enlargement(weights.shape(name)[0], outputs, name=name)
    return scale
