"""Layers of the network: RGB mean and bicubic base, which are fixed, and the branches of the tree.

Source: residual channel attention of RCAN (arXiv:1807.02758) section 3.3, as D2C-SR
(arXiv:2103.14373) section 3.2 uses it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import ModelConfig

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as EDSR (arXiv:1707.02921) and RCAN subtract it
_CUBIC = -0.5  # Keys' a, as in MATLAB and Pillow


class BicubicBase(nn.Module):
    """Enlarge by bicubic interpolation, edges clamped, as one 5x5 convolution and a shuffle."""

    def __init__(self, scale: int) -> None:
        """Compute the kernel of every output phase."""
        super().__init__()
        self.scale = scale
        taps = torch.stack([_cubic_taps((phase + 0.5) / scale - 0.5) for phase in range(scale)])
        kernel = torch.einsum("iy,jx->ijyx", taps, taps).reshape(scale**2, 1, 5, 5)
        self.register_buffer("kernel", kernel.repeat(3, 1, 1, 1), persistent=False)
        self.kernel: Tensor

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the enlargement, in the units of `lr`, overshoots not clipped."""
        if torch.is_autocast_enabled(lr.device.type):  # bfloat16 has only 8 significant bits
            with torch.autocast(lr.device.type, enabled=False):
                return self(lr)
        padded = F.pad(lr, (2, 2, 2, 2), mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel.to(lr.dtype), groups=3), self.scale)


def _cubic_taps(offset: float) -> Float[Tensor, "5"]:
    """Return Keys' cubic weights of five neighbors, at `offset` from the middle one."""
    return cubic((torch.arange(-2.0, 3.0, dtype=torch.float64) - offset).abs()).float()


def cubic(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return Keys' cubic kernel at distances in pixels, not negative."""
    near = (_CUBIC + 2) * distance**3 - (_CUBIC + 3) * distance**2 + 1
    far = _CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    zero = torch.zeros_like(distance)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, zero))


class FixedMean(nn.Module):
    """Add or subtract the RGB mean of natural images."""

    def __init__(self, sign: int) -> None:
        """Take +1 to add, -1 to subtract."""
        super().__init__()
        self.register_buffer("mean", sign * torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)
        self.mean: Tensor

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the shifted image."""
        return image + self.mean.to(image.dtype)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


class ChannelAttention(nn.Module):
    """Scale every channel by a gate computed from the channels' means."""

    def __init__(self, channels: int, hidden: int, *, pooling_px: int | None = None) -> None:
        """Build the two 1x1 convolutions of the gate, with `hidden` channels between them.

        `pooling_px` is the side of the window that means are taken over; None: the whole image.
        """
        super().__init__()
        self.pooling_px = pooling_px
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features times their gates, each in 0..1."""
        gate = F.relu(self.squeeze(self.mean(features)))
        return features * self.excite(gate).sigmoid()

    def mean(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c mh mw"]:
        """Return the channels' means: 1x1, or one per pixel where pooling is local.

        A window at the border averages the part of it inside the image (TLC, arXiv:2112.04491,
        repeats the nearest inner window instead). Rows first, then columns, gives the same mean
        at 1/25 of the operations.
        """
        if self.pooling_px is None:
            return F.adaptive_avg_pool2d(features, 1)
        window, reach = self.pooling_px, self.pooling_px // 2
        rows = F.avg_pool2d(features, (window, 1), 1, (reach, 0), count_include_pad=False)
        return F.avg_pool2d(rows, (1, window), 1, (0, reach), count_include_pad=False)


class ResidualBlock(nn.Module):
    """Two convolutions, channel attention unless left out, and the input added (RCAB)."""

    def __init__(self, config: ModelConfig) -> None:
        """Build both convolutions and the attention, if any."""
        super().__init__()
        self.conv1 = conv3x3(config.channels, config.channels)
        self.conv2 = conv3x3(config.channels, config.channels)
        self.attention = nn.Identity()
        if config.attention:
            self.attention = ChannelAttention(
                config.channels, config.squeeze_channels, pooling_px=config.pooling_px
            )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus its residual, gated by the attention."""
        return features + self.attention(self.conv2(F.relu(self.conv1(features))))


class ResidualGroup(nn.Module):
    """Blocks, one convolution, and the input added."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the blocks and the convolution behind them."""
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(config) for _ in range(config.blocks)))
        self.conv = conv3x3(config.channels, config.channels)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus the residual of the group."""
        return features + self.conv(self.blocks(features))


class Branch(nn.Module):
    """One node of the tree, or the trunk before it: residual groups and one convolution."""

    def __init__(self, config: ModelConfig, *, groups: int) -> None:
        """Build the groups and the convolution behind them."""
        super().__init__()
        self.groups = nn.Sequential(*(ResidualGroup(config) for _ in range(groups)))
        self.conv = conv3x3(config.channels, config.channels)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the node's features, the input of its children or its tail."""
        return self.conv(self.groups(features))
