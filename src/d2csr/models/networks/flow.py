"""Layers of a normalizing flow: invertible, with the logarithm of the factor by which volume grows.

Source: SRFlow (arXiv:2006.14200), section 3.3, and Glow (arXiv:1807.03039), with the layers of
SRFlow's authors.
Shapes: b images, c channels of a latent, f of the features, h x w pixels of a level, d channels
and sh x sw pixels of the level before it.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import conv3x3

Features = Float[Tensor, "b f h w"]
Latent = Float[Tensor, "b c h w"]
LogDeterminant = Float[Tensor, " b"]

_LOG_GAIN = 3  # factor of the learned logarithms behind zero-initialized convolutions
_MIN_SCALE = 1e-4
_INITIAL_DEVIATION = 0.05


class ActNorm(nn.Module):
    """Shift and scale per channel."""

    def __init__(self, channels: int) -> None:
        """Begin with the identity; `SRFlow.initialize` sets both from a batch."""
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, z: Latent) -> Latent:
        """Return the latent, shifted and then scaled."""
        return (z + self.bias) * self.logs.exp()

    def inverse(self, z: Latent) -> Latent:
        """Return the latent before `forward`."""
        return z * (-self.logs).exp() - self.bias

    @torch.no_grad()
    def fit(self, z: Latent) -> None:
        """Set both so that every channel of this batch comes out with mean 0 and deviation 1."""
        mean = z.mean((0, 2, 3), keepdim=True)
        deviation = (z - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
        self.bias.copy_(-mean)
        self.logs.copy_(-(deviation + 1e-6).log())


class ChannelMixing(nn.Module):
    """An invertible 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        """Begin with a random rotation."""
        super().__init__()
        rotation = torch.empty(channels, channels)
        self.weight = nn.Parameter(nn.init.orthogonal_(rotation))
        self.register_buffer("stored_inverse", None, persistent=False)
        self.stored_inverse: Tensor | None

    def forward(self, z: Latent) -> Latent:
        """Return the mixed channels."""
        return F.conv2d(z, self.weight[:, :, None, None])

    def inverse(self, z: Latent) -> Latent:
        """Return the latent before `forward`; the matrix is inverted in float64."""
        inverse = self._inverted() if self.stored_inverse is None else self.stored_inverse
        return F.conv2d(z, inverse[:, :, None, None])

    def _inverted(self) -> Float[Tensor, "c c"]:
        """Return the inverse of the weights, in their type."""
        return torch.linalg.inv(self.weight.double()).to(self.weight.dtype)

    def store_inverse(self) -> None:
        """Compute the inverse once, for weights that stay as they are."""
        self.stored_inverse = self._inverted().detach()


class ZeroConv(nn.Module):
    """A 3x3 convolution that begins with zeros, and a learned scale per channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Begin with zeros, so that the flow begins near the identity."""
        super().__init__()
        self.conv = conv3x3(inputs, outputs)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)
        self.logs = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return the even and the odd channels."""
        both = self.conv(features) * (self.logs * _LOG_GAIN).exp()
        return both[:, 0::2], both[:, 1::2]


class AffineNet(nn.Module):
    """Three convolutions from features to the shift and the scale of latent channels."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int) -> None:
        """Take the latent channels as `outputs`."""
        super().__init__()
        wide = nn.Conv2d(inputs, hidden, 3, padding=1, bias=False)
        self.convs = nn.ModuleList([wide, nn.Conv2d(hidden, hidden, 1, bias=False)])
        for weight in self.convs.parameters():
            nn.init.normal_(weight, std=_INITIAL_DEVIATION)
        self.norms = nn.ModuleList(ActNorm(hidden) for _ in self.convs)
        self.last = ZeroConv(hidden, 2 * outputs)

    def forward(self, features: Features) -> tuple[Latent, Latent]:
        """Return shift and scale, the latter positive and near 0.88 at first."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            features = F.relu(norm(conv(features)))
        shift, raw = self.last(features)
        return shift, (raw + 2).sigmoid() + _MIN_SCALE


class Coupling(nn.Module):
    """Shift and scale all channels by LR's features, then half of them by the other half too."""

    def __init__(self, channels: int, conditions: int, *, hidden: int) -> None:
        """Take the channels of the latent and of the features."""
        super().__init__()
        self.first = channels // 2
        self.by_features = AffineNet(conditions, channels, hidden=hidden)
        self.by_half = AffineNet(self.first + conditions, channels - self.first, hidden=hidden)

    def forward(self, z: Latent, features: Features) -> tuple[Latent, LogDeterminant]:
        """Return the latent, and the logarithm of the factor by which volume grows."""
        shift, scale = self.by_features(features)
        z = (z + shift) * scale
        first, second = z[:, : self.first], z[:, self.first :]
        half_shift, half_scale = self.by_half(torch.cat([first, features], dim=1))
        second = (second + half_shift) * half_scale
        return torch.cat([first, second], dim=1), _log_sum(scale) + _log_sum(half_scale)

    def inverse(self, z: Latent, features: Features) -> Latent:
        """Return the latent before `forward`."""
        first, second = z[:, : self.first], z[:, self.first :]
        shift, scale = self.by_half(torch.cat([first, features], dim=1))
        z = torch.cat([first, second / scale - shift], dim=1)
        shift, scale = self.by_features(features)
        return z / scale - shift


def _log_sum(scale: Latent) -> LogDeterminant:
    """Return the sum of logarithms of each image's scales."""
    return scale.log().sum((1, 2, 3))


class FlowStep(nn.Module):
    """Normalization, mixing of channels, and a coupling unless it is one of the plain steps."""

    def __init__(self, channels: int, conditions: int, *, hidden: int | None) -> None:
        """Take the width inside the coupling; None leaves it out."""
        super().__init__()
        self.norm = ActNorm(channels)
        self.mixing = ChannelMixing(channels)
        self.coupling = None if hidden is None else Coupling(channels, conditions, hidden=hidden)

    def forward(self, z: Latent, features: Features) -> tuple[Latent, LogDeterminant]:
        """Return the latent, and the logarithm of the factor by which volume grows."""
        pixels = z.shape[2] * z.shape[3]
        z = self.mixing(self.norm(z))
        constant = self.norm.logs.sum() + torch.linalg.slogdet(self.mixing.weight)[1]
        log_determinant = (constant * pixels).expand(len(z))
        if self.coupling is None:
            return z, log_determinant
        z, more = self.coupling(z, features)
        return z, log_determinant + more

    def inverse(self, z: Latent, features: Features) -> Latent:
        """Return the latent before `forward`."""
        if self.coupling is not None:
            z = self.coupling.inverse(z, features)
        return self.norm.inverse(self.mixing.inverse(z))


class Split(nn.Module):
    """Half of the channels leave the flow, normalized by what the other half predicts of them."""

    def __init__(self, channels: int) -> None:
        """Take the channels before the split."""
        super().__init__()
        self.kept = channels - channels // 2
        self.predict = ZeroConv(self.kept, 2 * (channels // 2))

    def forward(self, z: Latent) -> tuple[Tensor, Tensor, LogDeterminant]:
        """Return the channels that stay, those that leave as a Gaussian latent, and its logs."""
        kept, left = z[:, : self.kept], z[:, self.kept :]
        mean, logs = self.predict(kept)
        return kept, (left - mean) / logs.exp(), -logs.sum((1, 2, 3))

    def inverse(self, kept: Float[Tensor, "b k h w"], latent: Float[Tensor, "b l h w"]) -> Latent:
        """Return the channels before `forward`."""
        mean, logs = self.predict(kept)
        return torch.cat([kept, mean + logs.exp() * latent], dim=1)


class FlowLevel(nn.Module):
    """One resolution of the flow: pixels folded into channels, steps, and a split if any."""

    def __init__(self, steps: list[FlowStep], *, squeeze: int, split: Split | None) -> None:
        """Take the side of the squares of pixels that become channels."""
        super().__init__()
        self.squeeze = squeeze
        self.steps = nn.ModuleList(steps)
        self.split = split

    def forward(
        self, z: Float[Tensor, "b d sh sw"], features: Features
    ) -> tuple[list[Tensor], LogDeterminant]:
        """Return the latent that leaves here, if any, what goes on, and the log-determinant."""
        z = F.pixel_unshuffle(z, self.squeeze)
        log_determinant = z.new_zeros(len(z))
        for step in self.steps:
            z, more = step(z, features)
            log_determinant = log_determinant + more
        if self.split is None:
            return [z], log_determinant
        z, left, more = self.split(z)
        return [left, z], log_determinant + more

    def inverse(self, latents: list[Tensor], features: Features) -> Float[Tensor, "b d sh sw"]:
        """Return the latent before `forward`, from those after it."""
        z = latents[-1] if self.split is None else self.split.inverse(latents[-1], latents[0])
        for step in reversed(self.steps):
            z = cast("FlowStep", step).inverse(z, features)
        return F.pixel_shuffle(z, self.squeeze)
