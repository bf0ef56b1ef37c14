"""Tails: leaf features to one image, by convolutions and shuffles or by a single 5x5 convolution.

Convolution, shuffle, convolution has no non-linearity, so at every scale a tail equals one 5x5
convolution to 3 s^2 channels and a shuffle. Zero padding between the stages is the only
difference, within one LR pixel of the border.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.config import TAIL_LR_PX, ModelConfig
from d2csr.models.layers import conv3x3

_PROBE_PX = 5  # smallest image with a pixel of each of the nine kernels
_POSITIONS = (0, 2, 4)  # first, inner and last row or column of the probe
CENTRE = 4  # of the nine kernels, row-major over _POSITIONS


class ExpandedTail(nn.Module):
    """Convolutions to more channels, each with its shuffle, then a convolution to RGB."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the stages of the configuration's scale."""
        super().__init__()
        self.scale = config.scale
        self.pad_features = config.tail_border == "features"
        self.factors = config.tail_factors
        width = config.channels
        self.up = nn.ModuleList(conv3x3(width, width * factor**2) for factor in self.factors)
        self.out = conv3x3(width, 3)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the image before its mean or base is added."""
        if not self.pad_features:
            return self.stages(features)
        cut = TAIL_LR_PX * self.scale
        return self.stages(F.pad(features, (TAIL_LR_PX,) * 4))[..., cut:-cut, cut:-cut]

    def stages(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the image with every stage zero-padded, as the authors' code does."""
        for conv, factor in zip(self.up, self.factors, strict=True):
            features = F.pixel_shuffle(conv(features), factor)
        return self.out(features)


class CollapsedTail(nn.Module):
    """One zero-padded 5x5 convolution and a shuffle."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the convolution for the configuration's scale."""
        super().__init__()
        self.scale = config.scale
        self.conv = nn.Conv2d(config.channels, 3 * config.scale**2, 5, padding=TAIL_LR_PX)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the image before its mean or base is added."""
        return F.pixel_shuffle(self.conv(features), self.scale)


class BorderAwareTail(nn.Module):
    """The collapsed tail with the authors' border: a kernel per edge and corner, and the centre's.

    Below 3x3 LR pixels opposite edges meet: such images run the expanded tail, which is kept.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Build empty kernels and the expanded tail for tiny images."""
        super().__init__()
        self.scale = config.scale
        outputs = 3 * config.scale**2
        self.weight = nn.Parameter(torch.zeros(9, outputs, config.channels, 5, 5))
        self.bias = nn.Parameter(torch.zeros(9, outputs))
        self.expanded = ExpandedTail(config)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the image before its mean or base is added."""
        if min(features.shape[-2:]) < 3:
            return self.expanded(features)
        padded = F.pad(features, (TAIL_LR_PX,) * 4)
        rows = [self._row(padded, row) for row in range(3)]
        return F.pixel_shuffle(torch.cat(rows, dim=2), self.scale)

    def _row(self, padded: Float[Tensor, "b c ph pw"], row: int) -> Float[Tensor, "b o rh w"]:
        """Return the first, the inner or the last LR rows of the output."""
        strip = padded[:, :, _window(row)]
        parts = [
            F.conv2d(strip[..., _window(column)], self.weight[k], self.bias[k])
            for column, k in enumerate(range(3 * row, 3 * row + 3))
        ]
        return torch.cat(parts, dim=3)


def _window(part: int) -> slice:
    """Return the padded rows or columns below the first, the inner or the last output ones."""
    return (slice(0, 5), slice(1, -1), slice(-5, None))[part]


def make_tail(config: ModelConfig) -> ExpandedTail | CollapsedTail | BorderAwareTail:
    """Return the tail that the configuration names."""
    if config.tail == "expanded":
        return ExpandedTail(config)
    return CollapsedTail(config) if config.tail_border == "features" else BorderAwareTail(config)


@torch.no_grad()
def collapse_tail(tail: ExpandedTail, config: ModelConfig) -> CollapsedTail | BorderAwareTail:
    """Return the tail as one 5x5 convolution (nine with the authors' border), exact to rounding.

    The tail is affine, so its responses to unit impulses in a 5x5 LR image are the kernels. They
    are computed in float64, on the processor; `tail` is not changed.
    """
    exact = deepcopy(tail).cpu().double()
    if config.tail_border == "features":
        collapsed = CollapsedTail(config)
        kernel, bias = _impulse_kernel(exact, config)
        collapsed.conv.load_state_dict({"weight": kernel, "bias": bias})
        return collapsed
    kernels, biases = _jacobian_kernels(exact, config)
    bordered = BorderAwareTail(config)
    bordered.weight.copy_(kernels)
    bordered.bias.copy_(biases)
    bordered.expanded.load_state_dict(tail.state_dict())
    return bordered


def _impulse_kernel(
    tail: ExpandedTail, config: ModelConfig
) -> tuple[Float[Tensor, "o c 5 5"], Float[Tensor, " o"]]:
    """Return the kernel and bias of a tail that is one convolution, float64.

    An impulse in the middle reaches every output through a different tap: the mirrored kernel.
    """
    channels, middle = config.channels, _PROBE_PX // 2
    impulses = torch.zeros(channels + 1, channels, _PROBE_PX, _PROBE_PX).double()
    impulses[range(channels), range(channels), middle, middle] = 1.0  # the last image stays zero
    responses = F.pixel_unshuffle(tail(impulses), config.scale)
    kernel = (responses[:-1] - responses[-1]).flip(2, 3).transpose(0, 1)
    return kernel, responses[-1, :, middle, middle]


def _jacobian_kernels(
    tail: ExpandedTail, config: ModelConfig
) -> tuple[Float[Tensor, "9 o c 5 5"], Float[Tensor, "9 o"]]:
    """Return the nine kernels and biases of an affine tail, float64."""
    channels, size, scale = config.channels, _PROBE_PX, config.scale
    at_zero = F.pixel_unshuffle(tail(torch.zeros(1, channels, size, size).double()), scale)[0]
    impulses = torch.eye(channels * size * size).double().view(-1, channels, size, size)
    responses = torch.cat([F.pixel_unshuffle(tail(part), scale) for part in impulses.split(64)])
    responses = (responses - at_zero).view(channels, size, size, -1, size, size)
    outputs = responses.shape[3]
    kernels = torch.zeros(9, outputs, channels, 5, 5).double()
    biases = torch.zeros(9, outputs).double()
    for k in range(9):
        y, x = _POSITIONS[k // 3], _POSITIONS[k % 3]
        biases[k] = at_zero[:, y, x]
        for tap in range(25):
            from_y, from_x = y + tap // 5 - TAIL_LR_PX, x + tap % 5 - TAIL_LR_PX
            if 0 <= from_y < size and 0 <= from_x < size:
                kernels[k, :, :, tap // 5, tap % 5] = responses[:, from_y, from_x, :, y, x].T
    return kernels, biases
