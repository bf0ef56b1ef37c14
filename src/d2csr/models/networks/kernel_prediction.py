"""LP-KPN: predicts a 5x5 kernel per pixel and applies it, on three levels of a Laplacian pyramid.

Source: Toward Real-World Single Image Super-Resolution (arXiv:1904.00523), section 4, with the
layers of the authors' Caffe model at github.com/csjcai/RealSR.
Shapes: b images, h x w pixels of the enlarged luma, multiples of 4.
"""

from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import UsageError
from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import (
    Colors,
    Sizes,
    Stage,
    Strided,
    SystemNetwork,
    Takes,
    luma,
    pad_sides,
)
from d2csr.models.networks.blocks import ResidualBlock
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

Level = Float[Tensor, "b 1 lh lw"]

_LEVELS = 3  # full, half and quarter size
_FOLD = 4  # side of the squares that the trunk sees as one pixel
_UNFOLDS = (4, 2, 1)  # from the trunk's grid to the levels', full size first
_KERNEL = 5
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
_HEADS = ("C", "B", "A")  # the authors' names, full size first


def _smooth(image: Level, *, total: int) -> Level:
    """Return the image under the binomial 5x5 kernel with a sum of `total`, zeros outside."""
    taps = image.new_tensor(_BINOMIAL)
    kernel = torch.outer(taps, taps) * (total / 256)
    return F.conv2d(image, kernel[None, None], padding=2)


def reduce_level(image: Level) -> Float[Tensor, "b 1 rh rw"]:
    """Return the next level of the Gaussian pyramid: smoothed, every other row and column."""
    return _smooth(image, total=1)[..., ::2, ::2]


def expand_level(image: Level) -> Float[Tensor, "b 1 eh ew"]:
    """Return a level at twice its size: zeros between its pixels, smoothed."""
    zeros = torch.zeros_like(image)
    return _smooth(F.pixel_shuffle(torch.cat([image, zeros, zeros, zeros], dim=1), 2), total=4)


def laplacian_pyramid(image: Level) -> list[Tensor]:
    """Return the Laplacian pyramid, full size first: what each adds, and the coarsest level."""
    levels = []
    for _ in range(_LEVELS - 1):
        reduced = reduce_level(image)
        levels.append(image - expand_level(reduced))
        image = reduced
    return [*levels, image]


def collapse_pyramid(levels: list[Tensor]) -> Float[Tensor, "b 1 h w"]:
    """Return the image of a pyramid, full size first."""
    *finer, image = levels
    for level in reversed(finer):
        image = level + expand_level(image)
    return image


def apply_kernels(image: Level, kernels: Float[Tensor, "b 25 lh lw"]) -> Level:
    """Return each pixel's neighborhood, zeros outside, weighted by the pixel's own kernel."""
    taps = torch.eye(_KERNEL**2, dtype=image.dtype, device=image.device)  # row by row, as theirs
    neighbors = F.conv2d(image, taps.view(-1, 1, _KERNEL, _KERNEL), padding=_KERNEL // 2)
    return (neighbors * kernels).sum(dim=1, keepdim=True)


class KernelHead(nn.Module):
    """Three convolutions from the trunk's features to the kernels of a level."""

    def __init__(self, features: int, *, unfold: int) -> None:
        """Take the factor from the trunk's grid to the level's."""
        super().__init__()
        self.unfold = unfold
        self.first = conv3x3(features // unfold**2, features)
        self.middle = conv3x3(features, features)
        self.last = conv3x3(features, _KERNEL**2)

    def forward(self, trunk: Float[Tensor, "b f h w"]) -> Float[Tensor, "b 25 lh lw"]:
        """Return the kernels."""
        features = F.relu(self.first(F.pixel_shuffle(trunk, self.unfold)))
        return self.last(F.relu(self.middle(features)))


@final
class LPKPN(SystemNetwork):
    """A residual network on folded pixels, and three heads that predict the kernels."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": "2, 3 or 4: the weights are the same for every scale"}
    colors: Colors = "y"
    side_multiple: int = _FOLD

    def __init__(self, scale: int, *, features: int = 64, blocks: int = 16) -> None:
        """Take the width, a multiple of 16, and the number of residual blocks.

        Raises:
            UsageError: the width is no multiple of 16.
        """
        super().__init__(scale, {"features": features, "blocks": blocks})
        if features % _FOLD**2:
            problem = f"features={features} isn't a multiple of {_FOLD**2}"
            raise UsageError("LP-KPN", problem, remedy=f"Give a multiple of {_FOLD**2}.")
        self.first = conv3x3(_FOLD**2, features)
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.last = conv3x3(features, features)
        self.heads = nn.ModuleList(KernelHead(features, unfold=unfold) for unfold in _UNFOLDS)

    def kernels(self, x: Float[Tensor, "b 1 h w"]) -> list[Float[Tensor, "b 25 lh lw"]]:
        """Return the kernels of each level, full size first."""
        first = self.first(F.pixel_unshuffle(x, _FOLD))
        trunk = first + self.last(self.blocks(first))
        return [head(trunk) for head in self.heads]

    def pyramid(self, x: Float[Tensor, "b 1 h w"]) -> list[Tensor]:
        """Return the pyramid of the SR, full size first, given the enlarged luma."""
        return [
            apply_kernels(level, kernels)
            for level, kernels in zip(laplacian_pyramid(x), self.kernels(x), strict=True)
        ]

    def native(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return the SR's luma, given the enlarged one, both as MATLAB's Y in 0..1."""
        return collapse_pyramid(self.pyramid(x))

    def training_outputs(self, lr01: Float[Tensor, "b 3 lr_h lr_w"]) -> tuple[Tensor, ...]:
        """Return the pyramid of the SR's luma, full size first, sides padded to multiples of 4."""
        return tuple(self.pyramid(self.native_input(lr01)))

    def training_target(self, hr01: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the pyramid of HR's luma, padded as the outputs."""
        return tuple(laplacian_pyramid(pad_sides(luma(hr01), _FOLD)))

    def stages(self) -> list[Stage]:
        """Return the layers to the coarsest head, and the two enlargements behind it."""
        expand = Strided(_KERNEL, 2, _KERNEL // 2, transposed=True)
        return [Strided(_FOLD, _FOLD, 0), (2 + 2 * len(self.blocks) + 3, 1), expand, expand]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the width, and the blocks between the first and the last numbered layers."""
        layers = weights.count("conv{}.weight", start=1)
        weights.check_product(layers)
        return {"features": weights.shape("conv1.weight")[0], "blocks": (layers - 2) // 2}

    def public_layers(self) -> LayerNames:
        """Return the names of the Caffe model."""
        behind = 2 * len(self.blocks) + 2
        return {
            "first": "conv1",
            r"blocks\.(\d+)\.conv(\d)": lambda block, conv: f"conv{2 * block + conv + 1}",
            "last": f"conv{behind}",
            r"heads\.(\d)\.first": lambda head: f"conv{_HEADS[head]}{behind + 1}",
            r"heads\.(\d)\.middle": lambda head: f"conv{_HEADS[head]}{behind + 2}",
            r"heads\.(\d)\.last": lambda head: f"Kernel{_HEADS[head]}",
        }
