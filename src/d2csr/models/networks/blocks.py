"""Blocks that several compared networks share: residual blocks, upsamplers, mean shift."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import RGB_MEAN, conv3x3, cubic
from d2csr.models.networks.base import Stage, Strided
from d2csr.models.networks.public_weights import PublicWeights

_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}  # steps of an enlargement

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

    def __init__(
        self,
        features: int,
        *,
        activation: Activation = F.relu,
        gain: float = 1,
        attention: nn.Module | None = None,
    ) -> None:
        """Take the activation between the convolutions, and attention and factor after them."""
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        self.activation = activation
        self.gain = gain
        self.attention = nn.Identity() if attention is None else attention

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus its residual."""
        residual = self.attention(self.conv2(self.activation(self.conv1(features))))
        return features + (residual if self.gain == 1 else residual * self.gain)


class ShuffleUpsampler(nn.Module):
    """Enlarge features by convolutions, each followed by a pixel shuffle."""

    def __init__(self, inputs: int, outputs: int, *, scale: int) -> None:
        """Build a convolution for each step of the enlargement."""
        super().__init__()
        self.factors = upsampling_factors(scale)
        widths = (inputs, *[outputs] * (len(self.factors) - 1))
        self.convs = nn.ModuleList(
            conv3x3(width, outputs * factor**2)
            for width, factor in zip(widths, self.factors, strict=True)
        )

    def forward(
        self, features: Float[Tensor, "b c h w"], activations: Sequence[Activation] = ()
    ) -> Float[Tensor, "b d sh sw"]:
        """Return the features of the SR grid; activations, if any, follow the shuffles."""
        for index, (conv, factor) in enumerate(zip(self.convs, self.factors, strict=True)):
            features = F.pixel_shuffle(conv(features), factor)
            features = activations[index](features) if activations else features
        return features

    def stages(self) -> list[Stage]:
        """Return the layers of its receptive field."""
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
    weights.shape(template.format(0))  # an error if there is none
    for index in range(weights.count(template, step=step)):
        name = template.format(step * index)
        scale *= weights.enlargement(weights.shape(name)[0], outputs, name=name)
    return scale


class ReduceByQuarter(nn.Module):
    """Reduce an image to 3/4 of its size by bicubic interpolation with antialiasing.

    The kernel is Keys' cubic widened by 4/3, as in MATLAB's `imresize`; edges are clamped. Four
    pixels become three: one convolution with a stride of 4, and a shuffle.
    """

    _TAPS, _BEFORE = 8, 2  # pixels that three outputs depend on, and those before the first four

    def __init__(self) -> None:
        """Compute the kernel of each of the nine output phases."""
        super().__init__()
        taps = torch.zeros(3, self._TAPS)
        for phase in range(3):
            center = (phase + 0.5) * 4 / 3 - 0.5 + self._BEFORE
            distance = (torch.arange(self._TAPS) - center).abs() * 3 / 4
            taps[phase] = cubic(distance)
        taps /= taps.sum(dim=1, keepdim=True)
        kernel = torch.einsum("iy,jx->ijyx", taps, taps).reshape(9, 1, self._TAPS, self._TAPS)
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor

    def forward(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 sh sw"]:
        """Return the reduced image; sides must be multiples of 4."""
        padded = F.pad(image, (self._BEFORE,) * 4, mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel.to(image.dtype), stride=4), 3)

    @classmethod
    def stages(cls) -> list[Stage]:
        """Return the layers of its receptive field."""
        return [Strided(cls._TAPS, 4, cls._BEFORE), (0, 3)]
